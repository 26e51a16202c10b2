#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| pgweir::protocol::fuzz::fuzz_frames(data));
