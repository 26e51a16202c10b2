#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| pgweir::session::flow::fuzz::fuzz_flow(data));
