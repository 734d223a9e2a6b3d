//! Strict JSON: what goes into a skill and what comes out, exactly.
//!
//! `serde_json` does the reading; this module keeps what its own `Value` would lose. Integers of any size stay the
//! digits they were, floats become the shortest text that reads back to the same `f64`, members stay in the order
//! Python will see, and duplicate keys, numbers beyond a float's range, lone surrogates and nesting beyond
//! [`MAX_DEPTH`] are refused with the path where they stand.
//!
//! The canonical text of a value has no white space, escapes only what JSON demands, and spells every number one
//! way, so that two texts are canonically equal exactly when Python would see the same thing.

mod canonical;

use std::cell::RefCell;
use std::fmt::{self, Write as _};
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

pub use canonical::{CanonicalData, canonical, canonical_data};

/// The deepest nesting of arrays and objects, the outermost counted as 1.
///
/// CPython's parser refuses literals nested 200 deep and its recursion limit is 1000; 100 stays well inside both, also
/// when a skill wraps its answer a few times.
pub const MAX_DEPTH: usize = 100;

/// A JSON value. Objects keep the order of their members; no two of them have the same name.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `null`, Python's `None`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number in canonical spelling.
    Number(Number),
    /// Text: Unicode scalars only, never a lone surrogate.
    String(String),
    /// An array, Python's `list`.
    Array(Vec<Value>),
    /// An object, Python's `dict`, in the order it was written.
    Object(Vec<(String, Value)>),
}

/// A number in canonical spelling: an integer of any size without leading zeros or `-0`, or a finite float in the
/// shortest spelling that reads back equal, always with a `.` or an exponent so that it stays a float.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number(String);

/// Why a text is not the JSON we take, and where.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}, at {path} (line {line}, column {column})")]
pub struct ParseError {
    /// What is wrong, without the place.
    pub message: String,
    /// Where in the value: `$.inputs.prices[3]`.
    pub path: String,
    /// Line of the text, from 1.
    pub line: u32,
    /// Column of that line, from 1, in bytes.
    pub column: u32,
}

impl Number {
    fn parse(text: &str) -> Result<Self, String> {
        if !text.contains(['.', 'e', 'E']) {
            return Ok(Number(if text == "-0" { "0".to_owned() } else { text.to_owned() }));
        }
        let float: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
        Self::float(float).ok_or_else(|| "a number beyond the range of a float (it would be infinite)".to_owned())
    }

    /// A float, unless it is infinite or not a number.
    pub fn float(float: f64) -> Option<Self> {
        // `{:?}` prints the shortest digits that read back equal (Ryu-like, in core::fmt), always with `.0` or `e`.
        float.is_finite().then(|| Number(format!("{float:?}")))
    }

    /// The canonical spelling.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether Python reads it as an `int`.
    pub fn is_integer(&self) -> bool {
        !self.0.contains(['.', 'e'])
    }
}

impl From<i64> for Value {
    fn from(integer: i64) -> Self {
        Value::Number(Number(integer.to_string()))
    }
}

impl From<u64> for Value {
    fn from(integer: u64) -> Self {
        Value::Number(Number(integer.to_string()))
    }
}

impl From<usize> for Value {
    fn from(integer: usize) -> Self {
        Value::Number(Number(integer.to_string()))
    }
}

impl From<u32> for Value {
    fn from(integer: u32) -> Self {
        Value::from(u64::from(integer))
    }
}

impl From<f64> for Value {
    /// A float; what is not finite has no JSON form and becomes `null`.
    fn from(float: f64) -> Self {
        Number::float(float).map_or(Value::Null, Value::Number)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Value::Bool(truth)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::String(text)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(option: Option<T>) -> Self {
        option.map_or(Value::Null, Into::into)
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        Value::Array(items.into_iter().map(Into::into).collect())
    }
}

impl Value {
    /// An object of these members, which must have different names.
    pub fn object<K: Into<String>>(members: impl IntoIterator<Item = (K, Value)>) -> Self {
        Value::Object(members.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }

    /// Reads one JSON text.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let path = RefCell::new(Vec::new());
        let mut reader = serde_json::Deserializer::from_str(text);
        // Our own bound names the path; serde_json's (128) stays behind it.
        let node = Node { input: text.as_bytes().as_ptr_range(), path: &path, depth: 0 };
        let value = node.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
        value.map_err(|error| {
            let message = error.to_string();
            let place = format!(" at line {} column {}", error.line(), error.column());
            let message = match message.strip_suffix(&place).unwrap_or(&message) {
                "unexpected end of hex escape" | "lone leading surrogate in hex escape" => {
                    "a lone surrogate: half of a \\u pair is no character"
                }
                other => other,
            };
            ParseError {
                message: message.to_owned(),
                path: path_text(&path.borrow()),
                line: u32::try_from(error.line()).unwrap_or(u32::MAX),
                column: u32::try_from(error.column()).unwrap_or(u32::MAX),
            }
        })
    }

    /// The member of that name, if this is an object that has it.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.as_object()?.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        if let Value::String(text) = self { Some(text) } else { None }
    }

    /// The members of an object.
    pub fn as_object(&self) -> Option<&[(String, Value)]> {
        if let Value::Object(members) = self { Some(members) } else { None }
    }

    /// The items of an array.
    pub fn as_array(&self) -> Option<&[Value]> {
        if let Value::Array(items) = self { Some(items) } else { None }
    }

    /// The truth of a boolean.
    pub fn as_bool(&self) -> Option<bool> {
        if let Value::Bool(truth) = self { Some(*truth) } else { None }
    }

    /// An integer that fits.
    pub fn as_i64(&self) -> Option<i64> {
        if let Value::Number(number) = self { number.0.parse().ok() } else { None }
    }

    /// A number as the nearest float.
    pub fn as_f64(&self) -> Option<f64> {
        if let Value::Number(number) = self { number.0.parse().ok() } else { None }
    }

    /// What kind of value this is, as an error message names it.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(number) if number.is_integer() => "an integer",
            Value::Number(_) => "a float",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        }
    }

    /// The canonical text, members in their own order.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    /// Appends the canonical text.
    pub fn write(&self, out: &mut String) {
        match self {
            Value::Null => out.push_str("null"),
            Value::Bool(true) => out.push_str("true"),
            Value::Bool(false) => out.push_str("false"),
            Value::Number(number) => out.push_str(&number.0),
            Value::String(text) => write_string(text, out),
            Value::Array(items) => write_list(out, '[', ']', items, Value::write),
            Value::Object(members) => write_list(out, '{', '}', members, |(name, value), out| {
                write_string(name, out);
                out.push(':');
                value.write(out);
            }),
        }
    }

    /// Sorts the members of every object by name, by Unicode scalar.
    pub fn sort_members(&mut self) {
        match self {
            Value::Array(items) => items.iter_mut().for_each(Value::sort_members),
            Value::Object(members) => {
                members.sort_by(|a, b| a.0.cmp(&b.0));
                members.iter_mut().for_each(|(_, member)| member.sort_members());
            }
            _ => {}
        }
    }

    /// The same value for the JSON Schema crate. Its maps lose the order, which no schema can see.
    pub(crate) fn to_serde(&self) -> serde_json::Value {
        match self {
            Value::Null => serde_json::Value::Null,
            Value::Bool(truth) => serde_json::Value::Bool(*truth),
            Value::Number(number) => {
                serde_json::Value::Number(serde_json::Number::from_string_unchecked(number.0.clone()))
            }
            Value::String(text) => serde_json::Value::String(text.clone()),
            Value::Array(items) => serde_json::Value::Array(items.iter().map(Value::to_serde).collect()),
            Value::Object(members) => serde_json::Value::Object(
                members.iter().map(|(name, value)| (name.clone(), value.to_serde())).collect(),
            ),
        }
    }
}

fn write_list<T>(
    out: &mut String,
    open: char,
    close: char,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(T, &mut String),
) {
    out.push(open);
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write(item, out);
    }
    out.push(close);
}

/// Appends a string in quotes, escaping only what JSON demands.
fn write_string(text: &str, out: &mut String) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c < ' ' || c == '"' || c == '\\') {
        out.push_str(&rest[..at]);
        write_character(char::from(rest.as_bytes()[at]), out);
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    out.push('"');
}

/// Appends one character of a string.
fn write_character(character: char, out: &mut String) {
    match character {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        control if control < ' ' => {
            let _ = write!(out, "\\u{:04x}", u32::from(control));
        }
        other => out.push(other),
    }
}

enum Segment {
    Member(String),
    Index(usize),
}

fn path_text(path: &[Segment]) -> String {
    let mut text = "$".to_owned();
    for segment in path {
        match segment {
            Segment::Member(name) if is_plain(name) => {
                text.push('.');
                text.push_str(name);
            }
            Segment::Member(name) => {
                text.push('[');
                write_string(name, &mut text);
                text.push(']');
            }
            Segment::Index(index) => {
                let _ = write!(text, "[{index}]");
            }
        }
    }
    text
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// Reads one value; `path` keeps pointing at the place of an error when reading stops there.
struct Node<'p> {
    input: Range<*const u8>,
    path: &'p RefCell<Vec<Segment>>,
    depth: usize,
}

impl Node<'_> {
    fn child<E: serde::de::Error>(&self) -> Result<Node<'_>, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(format_args!("nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(Node { input: self.input.clone(), path: self.path, depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_u64<E>(self, integer: u64) -> Result<Value, E> {
        Ok(Value::from(integer))
    }

    fn visit_i64<E>(self, integer: i64) -> Result<Value, E> {
        Ok(Value::from(integer))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        loop {
            self.path.borrow_mut().push(Segment::Index(array.len()));
            let Some(item) = items.next_element_seed(self.child()?)? else { break };
            self.path.borrow_mut().pop();
            array.push(item);
        }
        self.path.borrow_mut().pop();
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object: Vec<(String, Value)> = Vec::new();
        let mut names = NameSet::default();
        while let Some(key) = members.next_key_seed(Key { input: self.input.clone() })? {
            let Name::Member(name) = key else {
                let number = members.next_value::<String>()?;
                return Number::parse(&number).map(Value::Number).map_err(A::Error::custom);
            };
            self.path.borrow_mut().push(Segment::Member(name.clone()));
            if !names.insert(&name, &object) {
                return Err(A::Error::custom(format_args!("duplicate key \"{name}\"")));
            }
            let value = members.next_value_seed(self.child()?)?;
            self.path.borrow_mut().pop();
            object.push((name, value));
        }
        Ok(Value::Object(object))
    }
}

/// The names an object has had so far. Small objects are searched in place; a set is made only for large ones.
#[derive(Default)]
struct NameSet(std::collections::HashSet<String>);

impl NameSet {
    const SEARCHED_IN_PLACE: usize = 16;

    fn insert(&mut self, name: &str, earlier: &[(String, Value)]) -> bool {
        if earlier.len() < Self::SEARCHED_IN_PLACE {
            return earlier.iter().all(|(known, _)| known != name);
        }
        if self.0.is_empty() {
            self.0.extend(earlier.iter().map(|(known, _)| known.clone()));
        }
        self.0.insert(name.to_owned())
    }
}

enum Name {
    Member(String),
    /// Not a member: serde_json hands a number to visitors as a map with one key of its own.
    Number,
}

/// Reads a key. With `arbitrary_precision`, serde_json presents a number as a map whose one key is a private static
/// string. A user's object may hold a member of that very name, so the text alone proves nothing; but a user's key is
/// borrowed from the input or (with escapes) copied through `visit_str`, and the private one lies outside the input.
struct Key {
    input: Range<*const u8>,
}

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Name;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Name, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a member name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Name, E> {
        Ok(Name::Member(name.to_owned()))
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name, E> {
        let of_input = name.is_empty() || self.input.contains(&name.as_ptr());
        Ok(if of_input { Name::Member(name.to_owned()) } else { Name::Number })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canonical(text: &str) -> String {
        Value::parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}")).to_text()
    }

    #[test]
    fn spelling_is_normalised_and_kind_is_kept() {
        assert_eq!(
            canonical(" { \"b\" : 1e2 , \"\\u0061\" : [ -0 , -0.0, 1.50 ] } "),
            r#"{"b":100.0,"a":[0,-0.0,1.5]}"#
        );
        assert_ne!(canonical("1"), canonical("1.0"));
    }

    #[test]
    fn integers_of_any_size_stay_exact() {
        let digits = "9".repeat(10_000);
        assert_eq!(canonical(&digits), digits);
        assert_eq!(canonical("123456789012345678901234567890"), "123456789012345678901234567890");
    }

    #[test]
    fn the_private_number_key_of_serde_json_is_an_ordinary_name() {
        for text in [
            r#"{"$serde_json::private::Number":"1"}"#,
            r#"{"\u0024serde_json::private::Number":"1"}"#,
            r#"{"$serde_json::private::RawValue":"1"}"#,
        ] {
            assert!(matches!(Value::parse(text), Ok(Value::Object(members)) if members.len() == 1), "{text}");
        }
        assert_eq!(canonical(r#"{"":1}"#), r#"{"":1}"#);
    }

    #[test]
    fn what_python_cannot_see_the_same_way_is_refused_with_its_path() {
        for (text, path, message) in [
            (r#"{"inputs":{"a":1,"a":2}}"#, "$.inputs.a", "duplicate key \"a\""),
            (r#"{"a b":[1,1e999]}"#, "$[\"a b\"][1]", "beyond the range"),
            (r#"{"x":[0,NaN]}"#, "$.x[1]", "expected value"),
            (r#"{"x":-Infinity}"#, "$.x", "invalid number"),
            (r#"{"x":"\ud800"}"#, "$.x", "surrogate"),
            (r#"{"x":01}"#, "$.x", "invalid number"),
            ("[1] 2", "$", "trailing characters"),
            ("", "$", "EOF"),
        ] {
            let error = Value::parse(text).expect_err(text);
            assert!(error.message.contains(message), "{text}: {error:?}");
            assert_eq!(error.path, path, "{text}: {error:?}");
        }
        let many: String = (0..40).map(|i| format!("\"k{i}\":0,")).collect();
        assert_eq!(Value::parse(&format!("{{{many}\"k7\":0}}")).expect_err("duplicate").path, "$.k7");
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Value::parse(&nested(MAX_DEPTH)).is_ok());
        let error = Value::parse(&nested(MAX_DEPTH + 1)).expect_err("too deep");
        assert!(error.message.contains("nested deeper"), "{error:?}");
        assert!(Value::parse(&nested(1_000_000)).is_err());
    }

    #[test]
    fn sorting_goes_to_every_level() {
        let mut value = Value::parse(r#"{"b":{"z":1,"a":2},"a":[{"d":0,"c":0}]}"#).expect("valid");
        value.sort_members();
        assert_eq!(value.to_text(), r#"{"a":[{"c":0,"d":0}],"b":{"a":2,"z":1}}"#);
    }

    pub(crate) fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_filter_map("finite", |f| Number::float(f).map(Value::Number)),
            any::<String>().prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
                proptest::collection::btree_map(any::<String>(), inner, 0..8).prop_map(Value::object),
            ]
        })
    }

    proptest! {
        #[test]
        fn canonical_text_reads_back_equal(value in any_value()) {
            let text = value.to_text();
            prop_assert_eq!(Value::parse(&text).expect("own text"), value);
        }

        #[test]
        fn agrees_with_serde_json_about_what_is_json(text in "[\\[\\]{}\",:0-9eE+.truefalsn \\\\u-]{0,24}") {
            let theirs = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            match Value::parse(&text) {
                Ok(_) => prop_assert!(theirs, "{}", text),
                Err(error) => prop_assert!(
                    !theirs || error.message.contains("duplicate") || error.message.contains("beyond"), "{} {:?}", text, error
                ),
            }
        }
    }
}
