#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| pgweir::session::login::fuzz::fuzz_login(data));
