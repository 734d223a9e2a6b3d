//! Data goes into a source and nothing else changes: for made-up sources and data, for the corpora, for attacks, with
//! CPython and a second parser as witnesses.

mod oracle;

use std::fs;
use std::path::PathBuf;

use oracle::{Oracle, objection, second_parser_takes};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use skillcache::json::Value;
use skillcache::python::{Template, literal};
use skillcache::{Config, Data, Library, Outcome, RunOptions, Skill};

fn json(text: &str) -> Value {
    Value::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

// Made-up sources and data.

fn value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        ".{0,12}",
        proptest::collection::vec(any::<char>(), 0..8).prop_map(String::from_iter),
        proptest::sample::select(NASTY).prop_map(str::to_owned),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "-?[1-9][0-9]{18,60}".prop_map(|digits| json(&digits)),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 40, 6, move |inner| {
        let member = (text.clone(), inner.clone());
        prop_oneof![
            proptest::collection::vec(inner, 0..5).prop_map(Value::Array),
            proptest::collection::vec(member, 0..5).prop_map(object),
        ]
    })
}

/// An object of members that may repeat a name; the first counts.
fn object(members: Vec<(String, Value)>) -> Value {
    let mut seen = std::collections::HashSet::new();
    Value::object(members.into_iter().filter(|(name, _)| seen.insert(name.clone())))
}

fn data() -> impl Strategy<Value = [Option<Value>; 3]> {
    let members = || proptest::option::of(proptest::collection::vec((".{0,6}", value()), 0..4).prop_map(object));
    (members(), members(), members()).prop_map(|(inputs, context, parameters)| [inputs, context, parameters])
}

/// Lines that sources are made of: slots in every form, look-alikes, and what surrounds them.
const LINES: &[&str] = &[
    "inputs = {}",
    "inputs = {'a': 1}",
    "inputs: dict = {}",
    "inputs = {\n    'a': [1,\n 2],  # c\n}",
    "inputs = ({})",
    "inputs = {}; x = 1",
    "x = 1; inputs = {}",
    "inputs = {}  # {",
    "inputs={**{}}",
    "inputs = {'a': {}, }\\\n",
    "context = {}",
    "context : 'T' = {'k': \"}\"}",
    "context = {\r\n}",
    "parameters = {'''a\n''': 1}",
    "parameters = {}",
    "inputs = dict()",
    "inputs = context = {}",
    "inputs |= {}",
    "inputs['a'] = {}",
    "del inputs",
    "print(inputs)",
    "if inputs:\n    inputs = {}",
    "def f(inputs={}):\n    inputs = {}\n    return inputs",
    "class A:\n    inputs = {}\n",
    "x = [inputs for inputs in y]",
    "f = lambda inputs: inputs",
    "s = 'inputs = {}'",
    "s = '''\ninputs = {}\n'''",
    "s = f'{inputs}'",
    "# inputs = {}",
    "'docstring'",
    "\"\"\"doc\nstring\"\"\"",
    "from __future__ import annotations",
    "#!/usr/bin/python",
    "# -*- coding: utf-8 -*-",
    "",
    "   ",
    "\t",
    "\x0c",
    "x = 1",
    "x = (1 +\n 2)",
    "x = 1 + \\\n 2",
    "pass;",
    "import os as inputs",
    "for inputs in y: pass",
    "with a as inputs:\n\tpass",
    "try:\n  inputs = {}\nexcept E:\n  pass",
    "@inputs\ndef g(): pass",
    "async def h():\n    await inputs",
    "match inputs:\n    case {}:\n        pass",
    "type inputs = int",
    "global inputs",
    "result = inputs",
    "result = {'a': inputs}",
    "ä = 'é'; inputs = {}",
    "inputs = {} if x else {}",
    "(inputs) = {}",
    "inputs = {'a': 1}['a']",
    "inputs = {k: 1 for k in x}",
    "inputs = {1, 2}",
    "x: int",
    "if x: inputs = {}",
    "print(f'{ {} }')",
];

fn source() -> impl Strategy<Value = String> {
    let lines = proptest::collection::vec(
        (proptest::sample::select(LINES), proptest::sample::select(&["\n", "\n", "\r\n", "\r", "\n\n"][..])),
        0..8,
    );
    (lines, proptest::sample::select(&["", "", "\u{feff}"][..]), any::<bool>()).prop_map(|(lines, start, is_ended)| {
        let mut source = start.to_owned();
        for (line, end) in lines {
            source.push_str(line);
            source.push_str(end);
        }
        if is_ended { source } else { source.trim_end_matches(['\n', '\r']).to_owned() }
    })
}

#[test]
fn whatever_the_source_and_the_data_only_slots_change() {
    let mut oracle = Oracle::new();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(3000),
        ..ProptestConfig::default()
    });
    let mut parsed = 0;
    let oracle = std::cell::RefCell::new(&mut oracle);
    let parsed_count = std::cell::RefCell::new(&mut parsed);
    let outcome = runner.run(&(source(), data()), |(source, data)| {
        **parsed_count.borrow_mut() += u32::from(Template::parse(&source).is_ok());
        prop_assert_eq!(objection(&mut oracle.borrow_mut(), &source, &data), None);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    assert!(parsed > 1000, "too few of the sources parse to prove anything: {parsed}");
}

#[test]
fn the_witnesses_object_when_something_is_wrong() {
    let mut oracle = Oracle::new();
    let data = json(r#"{"inputs":{"a":1}}"#);
    for (source, filled) in [
        ("inputs = {}\nx = 1", "inputs = {\"a\": 2}\nx = 1"),
        ("inputs = {}\nx = 1", "inputs = {\"a\": 1}\nx = 2"),
        ("inputs = {}\nx = 1", "inputs = {\"a\": 1}"),
        ("inputs = {}\nx = 1", "inputs = {\"a\": 1}\ny = 1\nx = 1"),
        ("inputs = {}\nx = 1", "inputs = {\"a\": 1.0}\nx = 1"),
        ("inputs = {}\nx = 1", "inputs = {\"a\": True}\nx = 1"),
        ("inputs = {}\nx = 1", "inputs = {\"a\": 1}\n\n\nx = 1"),
        ("inputs = {}\nx = 1", "inputs = {}\nx = 1"),
        ("inputs = {}\nx = 1", "inputs = {\"a\": 1\nx = 1"),
        ("x = 1", "x = 1"),
        ("x = 1", "context = {\"a\": 1}; x = 1"),
    ] {
        assert!(oracle.difference(source, filled, &data).is_some(), "{filled}");
    }
    assert_eq!(oracle.difference("inputs = {}\nx = 1", "inputs = {\"a\": 1}\nx = 1", &data), None);
    assert!(second_parser_takes("x = 1") && !second_parser_takes("x = "));
}

// Literals.

/// Text that has broken others: what ends strings, hides, reorders, or means something to a formatter.
const NASTY: &[&str] = &[
    "'",
    "\"",
    "'''",
    "\"\"\"",
    "\\",
    "\\\\",
    "\\'",
    "\\\"",
    "\\n",
    "\n",
    "\r",
    "\r\n",
    "\t",
    "\0",
    "\x0b\x0c",
    "\x1b[2J",
    "\x7f",
    "\u{85}",
    "\u{2028}",
    "\u{2029}",
    "\u{202e}",
    "\u{2066}",
    "\u{200b}",
    "\u{feff}",
    "\u{fffe}",
    "\u{ffff}",
    "\u{1f600}",
    "\u{10ffff}",
    "\u{e0041}",
    "{",
    "}",
    "{}",
    "{0}",
    "{0.__class__}",
    "%s",
    "%(x)s",
    "f'{1}'",
    "#",
    "# comment",
    "\\N{DASH}",
    "\\x41",
    "\\u0041",
    "\\101",
    "'; import os; os.system('id') #",
    "\"}; import os; x = {\"",
    "}\nimport os\n{",
    "\\\nimport os",
    "'''\nimport os\n'''",
    "inputs = {}",
    "result = 42",
    "__import__('os')",
    "\u{0}\u{0}",
    "é",
    "\u{301}",
    "ﬁ",
    "１２",
    "<!--",
    "]]>",
    "${x}",
    "`id`",
];

fn check_literals(oracle: &mut Oracle, values: &[Value]) {
    let pair = |value: &Value| {
        let mut text = String::new();
        literal(value, &mut text);
        assert!(!text.contains(['\n', '\r']), "a literal is one line: {text:?}");
        Value::Array(vec![Value::from(value.to_text()), Value::from(text)])
    };
    let answer = oracle.ask("literals", [("pairs", Value::Array(values.iter().map(pair).collect()))]);
    assert_eq!(answer, Some(Value::Null), "it reads back otherwise");
}

#[test]
fn every_value_reads_back_equal_and_of_the_same_type() {
    let mut oracle = Oracle::new();
    let mut runner = proptest::test_runner::TestRunner::default();
    let values: Vec<Value> = (0..2000).map(|_| value().new_tree(&mut runner).expect("a value").current()).collect();
    check_literals(&mut oracle, &values);
    let digits = "9876543210".repeat(1000);
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    let deep_objects = format!("{}1{}", r#"{"a":"#.repeat(100), "}".repeat(100));
    for text in [
        "0",
        "-0",
        "1",
        "-1",
        "0.0",
        "-0.0",
        "1e0",
        "1E5",
        "1.5e-7",
        "5e-324",
        "2.2250738585072014e-308",
        "1.7976931348623157e308",
        "0.1",
        "1e16",
        "123456789012345678901234567890",
        "9007199254740993",
        "1e22",
        "1e23",
        "0.30000000000000004",
        "[]",
        "{}",
        "\"\"",
        "{\"\":{}}",
        "[[],[[]]]",
        &digits,
        &format!("-{digits}"),
        &format!("1{}", "0".repeat(4300)),
        &format!("1{}", "0".repeat(4299)),
        &deep,
        &deep_objects,
    ] {
        check_literals(&mut oracle, &[json(text)]);
    }
}

#[test]
fn every_unicode_scalar_survives_in_values_and_names() {
    let mut oracle = Oracle::new();
    let scalars: Vec<char> = ('\0'..=char::MAX).collect();
    assert_eq!(scalars.len(), 0x110000 - 0x800);
    for block in scalars.chunks(0x10000) {
        let text = String::from_iter(block);
        check_literals(&mut oracle, &[Value::from(text.as_str()), Value::object([(text, Value::Null)])]);
        // One by one as well: an escape must not run into what follows.
        let singles: Vec<Value> = block.iter().step_by(7).map(|c| Value::from(format!("{c}0"))).collect();
        check_literals(&mut oracle, &singles);
    }
}

#[test]
fn megabytes_of_text_take_linear_time() {
    // Were it quadratic, this would take minutes: 8 MB of what must be escaped, and 8 MB of what need not.
    for text in ["\"\\\n".repeat(2_700_000), "a".repeat(8_000_000), "\u{202e}".repeat(2_700_000)] {
        let mut out = String::new();
        literal(&Value::from(text.as_str()), &mut out);
        assert!(out.len() >= text.len());
    }
    let value = Value::from("'\"\\\u{2028}é".repeat(120_000));
    check_literals(&mut Oracle::new(), &[value]);
}

#[test]
fn attacks_in_names_and_values_come_back_as_data() {
    let mut oracle = Oracle::new();
    let library = Library::open(":memory:", &Config::default()).expect("a library");
    for (number, code) in
        ["inputs = {}\nresult = inputs", "result = [inputs, context]", "'doc'\ndef f(): return inputs\nresult = f()"]
            .iter()
            .enumerate()
    {
        let id = format!("echo{number}");
        library.put(&Skill::new(id.as_str(), *code)).expect("a skill");
        let all = Value::object(NASTY.iter().map(|text| (format!("{text}."), Value::from(*text))));
        let data = [Some(all.clone()), Some(Value::object([("x", Value::from(NASTY.to_vec()))])), None];
        assert_eq!(objection(&mut oracle, code, &data), None, "{code}");
        let run = library.run(&id, Data { inputs: data[0].clone(), context: data[1].clone() }, &RunOptions::default());
        let result = run.expect("a run");
        assert_eq!(result.outcome, Outcome::Success, "{result:?}");
        let answer = json(result.value.as_deref().expect("an answer"));
        let echoed = if number == 1 { answer.as_array().expect("a list")[0].clone() } else { answer };
        assert_eq!(echoed, all);
    }
    for text in NASTY {
        let data = [Some(Value::object([(*text, Value::from(*text))])), None, None];
        for source in ["inputs = {}", "inputs: T = {\n}\nx = 1", "x = 1", "'doc'", "# c", "def f(): pass"] {
            assert_eq!(objection(&mut oracle, source, &data), None, "{text:?} in {source:?}");
        }
    }
}

// The corpora, by reference and by literal.

/// Skills that differ between the two ways if either is wrong: slots with comments and lines, none, after a docstring, errors
/// with lines, order of members, rebinding, data used at definition time.
const SKILLS: &[&str] = &[
    "inputs = {\n    'a': 1,  # c\n}\nresult = list(inputs)\nraise_at = 1 / len(inputs)",
    "'''doc'''\nfrom __future__ import annotations\nresult = [inputs, context, parameters, __doc__]",
    "def f(x=inputs):\n    return x\nresult = [f(), f() is inputs]",
    "inputs = {}\ncontext = {}\nresult = {'i': inputs, 'c': context}\ninputs = None",
    "inputs: dict = {'z': 0}\n\n\n\nraise KeyError(sorted(inputs)[0])",
    "class A:\n    inputs = {'own': 1}\n    def get(self): return inputs\nresult = [A.inputs, A().get()]",
    "inputs = {}\ninputs['new'] = 1\nresult = inputs",
    "print(sorted(map(str, inputs.items())))\nresult = None",
    "# c\n\n\ndef f():\n    return inputs['no such member']\nf()",
    "x = [inputs for inputs in [1]]\ninputs = {'d': 1}\nresult = [x, inputs]",
    "result = inputs\r\nif not inputs:\r\n    raise ValueError('empty')\r\n",
];

const DATA: &[&str] = &[
    "{}",
    r#"{"inputs":{}}"#,
    r#"{"inputs":{"z":[1,2.5,-0.0,1e300,null,true,"'\"\\\n\u0000\u202e"],"a":{"b":{"c":[]}}}}"#,
    r#"{"inputs":{"n":123456789012345678901234567890,"":"{0.__class__}"},"context":{"who":"}\nimport os"}}"#,
];

/// How a run by reference ended, in the oracle's words.
fn by_reference(library: &Library, id: &str, data: &Value) -> (String, Option<u32>, String) {
    let part = |name| data.get(name).cloned();
    let data = Data { inputs: part("inputs"), context: part("context") };
    let result = library.run(id, data, &RunOptions::default()).unwrap_or_else(|error| panic!("{id}: {error}"));
    let stdout = String::from_utf8_lossy(&result.stdout.bytes).into_owned();
    match (&result.value, &result.failure) {
        (Some(value), _) => (value.to_string(), None, stdout),
        (None, Some(failure)) => (failure.kind.clone(), failure.line, stdout),
        (None, None) => panic!("{result:?}"),
    }
}

fn by_literal(library: &Library, oracle: &mut Oracle, code: &str, data: &Value) -> (String, Option<u32>, String) {
    let part = |name| data.get(name).cloned();
    let data = Data { inputs: part("inputs"), context: part("context") };
    let script = library.inject(code, &data).unwrap_or_else(|error| panic!("{error}: {code}"));
    let ended = oracle.ask("run", [("script", Value::from(script.code))]).expect("an ending");
    let text = |name| ended.get(name).and_then(Value::as_str).map(str::to_owned);
    let stdout = text("stdout").expect("it is always there");
    match text("value") {
        Some(value) => (json(&value).to_text(), None, stdout),
        None => {
            let line = ended.get("line").and_then(Value::as_i64).and_then(|line| u32::try_from(line).ok());
            (text("type").expect("it is there"), line, stdout)
        }
    }
}

#[test]
fn both_ways_of_filling_a_slot_end_equally() {
    let library = Library::open(":memory:", &Config::default()).expect("a library");
    let mut oracle = Oracle::new();
    let mut cases: Vec<(String, String, Value)> = Vec::new();
    for (number, code) in SKILLS.iter().enumerate() {
        cases.extend(DATA.iter().map(|data| (format!("own{number}"), (*code).to_owned(), json(data))));
    }
    cases.extend(corpus());
    let mut last = String::new();
    for (id, code, data) in cases {
        if id != last {
            library.put(&Skill::new(id.as_str(), code.as_str())).unwrap_or_else(|error| panic!("{id}: {error}"));
            last.clone_from(&id);
        }
        let (reference, written) =
            (by_reference(&library, &id, &data), by_literal(&library, &mut oracle, &code, &data));
        assert_eq!(reference, written, "{id}: {code}\n{}", data.to_text());
    }
}

#[test]
fn what_the_fuzzer_has_kept_stays_clean() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/kept/source.jsonl");
    let kept = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut oracle = Oracle::new();
    let default = [Some(json(r#"{"a": [1, 2.5, "'\"\\\n{}"]}"#)), Some(json(r#"{"b": {"c": null}}"#)), None];
    let mut inputs = 0;
    for line in kept.lines() {
        let text = json(line);
        let text = text.as_str().expect("a text");
        let source = text.split_once('\u{1e}').map_or(text, |(source, _)| source);
        assert_eq!(objection(&mut oracle, source, &default), None, "{source:?}");
        inputs += 1;
    }
    assert!(inputs > 1000, "{inputs}");
}

/// The cases of the corpus, if it is here.
fn corpus() -> Vec<(String, String, Value)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let folder = std::env::var_os("SKILLCACHE_CORPORA").map_or_else(|| root.join("../shared/corpora"), PathBuf::from);
    let text = fs::read_to_string(folder.join("mbpp-cases.jsonl")).unwrap_or_else(|error| {
        println!("the corpus is not here ({error}): only the skills in this file are run");
        String::new()
    });
    let case = |line: &str| {
        let case = json(line);
        let code = case.get("code").and_then(Value::as_str).expect("code").to_owned();
        let id = blake3::hash(code.as_bytes()).to_hex()[..16].to_owned();
        (id, code, Value::object([("inputs", case.get("inputs").cloned().expect("inputs"))]))
    };
    text.lines().map(case).collect()
}
