//! Any bytes as a skill's source: validating and injecting end without a panic, and the script that injection gives is
//! itself a source that injection accepts.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use skillcache::{Config, Data, Library};

static LIBRARY: LazyLock<Library> = LazyLock::new(|| {
    let mut config = Config::default();
    // Nothing may be answered from an earlier input.
    config.set("cache.prepared.max_entries", "0").expect("an option");
    Library::open(":memory:", &config).expect("a library")
});
static DATA: LazyLock<Data> = LazyLock::new(|| {
    Data::parse(r#"{"inputs": {"a": [1, 2.5, "'\"\\\n{}"]}, "context": {"b": {"c": null}}}"#).expect("data")
});

fuzz_target!(|source: &str| {
    if let Ok(script) = LIBRARY.inject(source, &DATA) {
        LIBRARY.inject(&script, &DATA).unwrap_or_else(|error| panic!("{error}\n{source:?}\n{script:?}"));
    }
});
