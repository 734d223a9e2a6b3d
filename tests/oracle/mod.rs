//! Witnesses of injection: CPython, in a child that answers questions about sources (`oracle.py`), and the older parser.

mod child;

use child::PythonChild;
use skillcache::json::Value;
use skillcache::python::{Names, Template, literal};

const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/oracle/oracle.py");

/// A running oracle. One that dies (a source can overflow CPython's own stack) is started anew.
pub struct Oracle {
    program: String,
    child: PythonChild,
}

impl Oracle {
    pub fn new() -> Self {
        Oracle::start(PROGRAM)
    }

    pub fn start(program: &str) -> Self {
        Oracle { program: program.to_owned(), child: PythonChild::start("python3", program) }
    }

    /// Its answer; nothing if the question was its death.
    pub fn ask<const N: usize>(&mut self, what: &str, members: [(&str, Value); N]) -> Option<Value> {
        let question = Value::object([("ask", Value::from(what))].into_iter().chain(members));
        let answer = self.child.ask(&question);
        if answer.is_none() {
            *self = Oracle::start(&self.program);
        }
        answer
    }

    /// What differs between a source and the same with data in its slots, beyond the slots.
    pub fn difference(&mut self, source: &str, filled: &str, data: &Value) -> Option<String> {
        let question = [("source", Value::from(source)), ("filled", Value::from(filled)), ("data", data.clone())];
        self.ask("filled", question)?.as_str().map(str::to_owned)
    }
}

/// The data as an object of those names that have any.
pub fn named(data: &[Option<Value>; 3]) -> Value {
    let members = Names::ALL.iter().zip(data).filter_map(|(name, value)| Some((*name, value.clone()?)));
    Value::object(members)
}

/// What is wrong with a filled source: every byte outside the slots and one insertion must be the original's, the result
/// must parse, and CPython and the second parser must agree.
pub fn objection(oracle: &mut Oracle, source: &str, data: &[Option<Value>; 3]) -> Option<String> {
    let Ok(template) = Template::parse(source) else { return None };
    objection_to(oracle, &template, data)
}

/// The same for slots that were found in whatever way.
pub fn objection_to(oracle: &mut Oracle, template: &Template, data: &[Option<Value>; 3]) -> Option<String> {
    let source = template.source();
    let filled = template.inject(data.each_ref().map(Option::as_ref));
    if let Err(fault) = Template::parse(&filled) {
        return Some(format!("it no longer parses: {fault:?}"));
    }
    if !is_untouched(template, &filled, data) {
        return Some("bytes outside the slots have changed".to_owned());
    }
    // The older parser knows the soft keyword `type` at the start of a line alone; CPython knows it after `;` as well.
    let is_excused = filled.contains("; type ");
    if second_parser_takes(source) && !is_excused && !second_parser_takes(&filled) {
        return Some("the second parser refuses it".to_owned());
    }
    oracle.difference(source, &filled, &named(data))
}

/// Whether `filled` is the source with literals in its slots and at most one further insertion.
pub fn is_untouched(template: &Template, filled: &str, data: &[Option<Value>; 3]) -> bool {
    let source = template.source();
    let mut slots: Vec<_> = template
        .slots()
        .iter()
        .zip(data)
        .filter_map(|(slot, value)| Some((slot.as_ref()?.range(), value.as_ref()?)))
        .collect();
    slots.sort_by_key(|(range, _)| range.start);
    let (mut expected, mut copied) = (String::new(), 0);
    for (range, value) in slots {
        expected.push_str(&source[copied..range.start]);
        literal(value, &mut expected);
        let line_ends = source[range.clone()].replace("\r\n", "\n").matches(['\n', '\r']).count();
        if line_ends > 0 {
            expected.pop();
            expected.push_str(&"\n".repeat(line_ends));
            expected.push('}');
        }
        copied = range.end;
    }
    expected.push_str(&source[copied..]);
    let before = expected.bytes().zip(filled.bytes()).take_while(|(a, b)| a == b).count();
    let after = expected.bytes().rev().zip(filled.bytes().rev()).take_while(|(a, b)| a == b).count();
    filled == expected || (filled.len() > expected.len() && before + after >= expected.len())
}

/// Whether the older parser, which knows less of the newest Python, takes a source. It may panic; that is no objection.
pub fn second_parser_takes(source: &str) -> bool {
    let parse = || rustpython_parser::parse(source, rustpython_parser::Mode::Module, "<skill>").is_ok();
    std::panic::catch_unwind(parse).unwrap_or(false)
}
