//! Any bytes as the JSON of a caller: what is accepted is written back and read again as the same value, the reader
//! without a tree takes the same texts and gives the same canonical ones; run-time data and options never panic.

#![no_main]

use libfuzzer_sys::fuzz_target;
use skillcache::json::{Value, canonical, canonical_data};
use skillcache::{Data, RunOptions};

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let value = Value::parse(text);
    assert_eq!(canonical(text), value.as_ref().ok().map(Value::to_text));
    if let Ok(value) = value {
        let written = value.to_text();
        assert_eq!(Value::parse(&written).as_ref(), Ok(&value), "{written}");
        assert_eq!(Value::parse(&written).map(|again| again.to_text()).as_ref(), Ok(&written));
    }
    let data = Data::parse(text).ok();
    let canonical = canonical_data(text);
    assert_eq!(data.is_some(), canonical.is_some());
    if let (Some(data), Some(canonical)) = (data, canonical) {
        assert_eq!(canonical.inputs(), data.inputs.as_ref().map(Value::to_text).as_deref());
        assert_eq!(canonical.context(), data.context.as_ref().map(Value::to_text).as_deref());
    }
    let _ = RunOptions::parse(text);
});
