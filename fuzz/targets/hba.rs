#![no_main]
libfuzzer_sys::fuzz_target!(|data: &str| pgweir::auth::fuzz::fuzz_hba(data));
