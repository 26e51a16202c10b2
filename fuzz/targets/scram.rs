#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| pgweir::auth::scram::fuzz::fuzz_scram(data));
