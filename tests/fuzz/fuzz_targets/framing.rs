//! `framing` under libFuzzer; what is asserted stands in `src/lib.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::framing(bytes));
