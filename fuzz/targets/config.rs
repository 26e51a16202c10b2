#![no_main]
libfuzzer_sys::fuzz_target!(|data: &str| pgweir::config::fuzz::fuzz_config(data));
