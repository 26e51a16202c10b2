#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| pgweir::session::startup::fuzz::fuzz_handshake(data));
