//! Any bytes as a skill's source, and what follows a record separator (U+001E) as the data: nothing panics, only slots
//! change, what is filled still parses, and CPython and the older parser agree.

#![no_main]

#[path = "../../tests/oracle/mod.rs"]
#[allow(dead_code)]
mod oracle;

use std::cell::Cell;
use std::sync::{LazyLock, Mutex};

use libfuzzer_sys::fuzz_target;
use oracle::{Oracle, objection, objection_to};
use skillcache::json::Value;
use skillcache::python::{Policy, Template, analyse};

static ORACLE: LazyLock<Mutex<Oracle>> = LazyLock::new(|| {
    let fuzzer = std::panic::take_hook();
    // The older parser may panic; the witness catches that, so the fuzzer must not see it.
    std::panic::set_hook(Box::new(move |panic| {
        if !panic.location().is_some_and(|location| location.file().contains("rustpython")) {
            fuzzer(panic);
        }
    }));
    Mutex::new(Oracle::start(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/oracle/oracle.py")))
});
const DATA: &str = r#"{"inputs": {"a": [1, 2.5, "'\"\\\n{}"]}, "context": {"b": {"c": null}}}"#;

thread_local! {
    static POLICY: Cell<Option<Policy>> = Cell::new(Some(Policy::default()));
}

fuzz_target!(|text: &str| {
    let (source, data) = text.split_once('\u{1e}').unwrap_or((text, DATA));
    let data = Value::parse(data).or_else(|_| Value::parse(DATA)).expect("it is JSON");
    let object = |name| data.get(name).filter(|value| value.as_object().is_some()).cloned();
    let data = [object("inputs"), object("context"), object("parameters")];
    let mut oracle = ORACLE.lock().expect("nothing panics while it is held");
    let policy = POLICY.take().expect("it is put back");
    let analysis = analyse(source, Some(&policy));
    POLICY.set(Some(policy));
    assert_eq!(analysis.as_ref().map(|analysis| &analysis.template).ok(), Template::parse(source).as_ref().ok());
    if let Some(objection) = objection(&mut oracle, source, &data) {
        panic!("{objection}\n{source:?}");
    }
    let Ok(lexical) = Template::parse_lexically(source) else { return };
    let slots = lexical.slots();
    let data = std::array::from_fn(|name| data[name].clone().filter(|_| slots[name].is_some()));
    if analysis.is_ok()
        && let Some(objection) = objection_to(&mut oracle, &lexical, &data)
    {
        panic!("lexically: {objection}\n{source:?}");
    }
});
