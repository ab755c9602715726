//! `identity_token` under libFuzzer. The assertions are in `src/lib.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::identity_token(bytes));
