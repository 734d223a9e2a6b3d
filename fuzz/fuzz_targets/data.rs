//! Any bytes as the JSON of a caller: what is accepted is written back and read again as the same value; run-time data
//! and options never panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use skillcache::json::Value;
use skillcache::{Data, RunOptions};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(value) = Value::parse(text) {
        let written = value.to_text();
        assert_eq!(Value::parse(&written).as_ref(), Ok(&value), "{written}");
        assert_eq!(Value::parse(&written).map(|again| again.to_text()).as_ref(), Ok(&written));
    }
    let _ = Data::parse(text);
    let _ = RunOptions::parse(text);
});
