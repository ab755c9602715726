//! `parcel` under libFuzzer. The assertions are in `src/lib.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fuzz::parcel(bytes));
