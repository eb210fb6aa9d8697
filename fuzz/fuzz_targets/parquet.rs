#![no_main]

libfuzzer_sys::fuzz_target!(
    // The reader of Parquet files catches panics of the library; libFuzzer's hook would end the process before.
    init: drop(std::panic::take_hook()),
    |bytes: &[u8]| {
        let _refusal = transferscore_fuzz::parquet(bytes);
    }
);
