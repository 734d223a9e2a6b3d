//! Held against the exact reader.

use proptest::prelude::*;

use super::*;
use crate::Data;
use crate::json::tests::any_value;
use crate::json::{Number, Value};

fn by_tree(text: &str) -> Option<String> {
    Value::parse(text).ok().map(|value| value.to_text())
}

type Texts = Option<(Option<String>, Option<String>)>;

/// By the exact reader, and by this one.
fn data_both_ways(text: &str) -> (Texts, Texts) {
    let of_tree = |value: Option<Value>| value.map(|value| value.to_text());
    let expected = Data::parse(text).ok().map(|data| (of_tree(data.inputs), of_tree(data.context)));
    let data = canonical_data(text);
    let owned = |text: Option<&str>| text.map(str::to_owned);
    let got = data.as_ref().map(|data| (owned(data.inputs()), owned(data.context())));
    if let Some(data) = &data {
        assert_eq!(data.text.len(), data.inputs().map_or(0, str::len) + data.context().map_or(0, str::len), "{text}");
    }
    (expected, got)
}

#[test]
fn every_part_has_one_spelling() {
    for (text, expected) in [
        (" [ 1 ,\t2\r\n] ", "[1,2]"),
        (
            r#" { "b" : 1e2 , "\u0061" : [ -0 , -0.0, 1.50, true , false, null ] } "#,
            r#"{"b":100.0,"a":[0,-0.0,1.5,true,false,null]}"#,
        ),
        ("[ ]", "[]"),
        ("{ }", "{}"),
        (
            r#""\/\b\f\n\r\t\"\\ \u00e9\u00E9 \ud83d\ude00 \u000a\u001F\u0022\u005c""#,
            "\"/\\u0008\\u000c\\n\\r\\t\\\"\\\\ éé 😀 \\n\\u001f\\\"\\\\\"",
        ),
        ("\"\u{7f}\u{2028}\u{e000}\"", "\"\u{7f}\u{2028}\u{e000}\""),
        ("[-0, -0.0, 0.0, 0.000, -0.00, 0e5, -0E-5]", "[0,-0.0,0.0,0.0,-0.0,0.0,-0.0]"),
        ("[0.00012, 0.0001, 0.00010, 0.00009, 100.0, 1.50, 1.5e1]", "[0.00012,0.0001,0.0001,9e-5,100.0,1.5,15.0]"),
        (
            "[1e15, 1e16, 123456789012345.6, 0.1234567890123456789]",
            "[1000000000000000.0,1e16,123456789012345.6,0.12345678901234568]",
        ),
        ("[1e-400, 2.0000000000000000000, 9007199254740993.0]", "[0.0,2.0,9007199254740992.0]"),
    ] {
        assert_eq!(canonical(text).as_deref(), Some(expected), "{text}");
        assert_eq!(by_tree(text).as_deref(), Some(expected), "{text}");
    }
    let digits = "9".repeat(10_000);
    assert_eq!(canonical(&digits), Some(digits));
}

/// One a line.
const REFUSED: &str = r##"
[
{
]
[1,]
[,1]
[1 2]
{"a":1,}
{,}
{"a"}
{"a":}
{"a" 1}
{1:2}
[1] 2
01
-
-01
+1
1.
.5
1.e5
1e
1e+
1.5e
-.5
0x1
1e999
-1e999
NaN
-Infinity
nul
nullx
True
"
"a
"\
"\x"
"\u12"
"\u12g4"
"\u+123"
"\ud800"
"\udc00"
"\ud800\n"
"\ud800\ud800"
"\ud800\u0041"
"\ud83d\u"
"\ud83d
{"a":1,"a":2}
{"a":1,"\u0061":2}
{"x":[{"\ud83d\ude00":1,"b":2,"😀":3}]}
{"\n":1,"\u000a":2}
{"":1,"":2}"##;

#[test]
fn what_the_exact_reader_refuses_is_refused() {
    let others = ["\"\t\"", "\"\n\"", "\u{feff}1", "1\u{a0}", "\u{0}", "[1\u{0}]"];
    for text in REFUSED.lines().chain(others) {
        assert_eq!(canonical(text), None, "{text}");
        assert_eq!(by_tree(text), None, "{text}");
    }
}

#[test]
fn nesting_is_counted_as_by_the_exact_reader() {
    for depth in MAX_DEPTH - 2..MAX_DEPTH + 3 {
        for (open, core, close) in [
            ("[", "", "]"),
            ("[", "{}", "]"),
            ("[", "0", "]"),
            ("{\"a\":", "{}", "}"),
            ("{\"a\":", "[]", "}"),
            ("{\"a\":", "1.0", "}"),
        ] {
            let text = format!("{}{core}{}", open.repeat(depth), close.repeat(depth));
            assert_eq!(canonical(&text), by_tree(&text), "{depth} {open} {core}");
            let data = format!("{{\"context\":{{}},\"inputs\":{text}}}");
            let (expected, got) = data_both_ways(&data);
            assert_eq!(got, expected, "{data}");
        }
    }
    assert_eq!(canonical(&"[".repeat(1_000_000)), None);
    assert_eq!(canonical(&"{\"a\":".repeat(1_000_000)), None);
}

#[test]
fn names_are_told_apart_in_large_objects() {
    for count in [1, 2, 3, 15, 16, 17, 18, 100, 10_000] {
        let name = |i: usize| {
            if i.is_multiple_of(3) {
                format!("\\u006d\\t{i:06} of many alike")
            } else {
                format!("m\\t{i:06} of many alike")
            }
        };
        let members: Vec<String> = (0..count).map(|i| format!("\"{}\":{{\"a\":{i},\"b\":0}}", name(i))).collect();
        let text = format!("{{{}}}", members.join(","));
        assert_eq!(canonical(&text), by_tree(&text));
        assert!(canonical(&text).is_some(), "{count}");
        for again in [0, count / 2, count - 1] {
            let text = format!("{{{},\"m\\u0009{again:06} of many alike\":0}}", members.join(","));
            assert_eq!(canonical(&text), None, "{again} of {count}");
        }
    }
}

/// One a line.
const ENVELOPES: &str = r#"
{}
{ }
{} x
[]
1
null
{
{ "inputs"
{"inputs":{}
{"inputs":{}}}
{"inputs":{}}
{"context":{}}
{"inputs":{"a":1},"context":{"b":2.50}}
{"context":{"b":[1, 2]},"inputs":{}}
{ "inputs" : { "a" : 1 } , "context" : { } }
{"\u0069nputs":{"a":"\u0061"} }
{"inputs":{},"inputs":{}}
{"inputs":{},"\u0069nputs":{}}
{"inputs":{},}
{"inputs":[]}
{"inputs":null}
{"context":"x"}
{"other":{}}
{"inputs":{},"Inputs":{}}
{"inputs":{"a":1,"a":2}}
{"inputs":{"inputs":{}},"context":{"inputs":1}}
{"inputs" {}}
{"inputs":{} "context":{}}
{"inputs":{"a":1e999}}"#;

#[test]
fn the_envelope_of_data_is_read_as_by_the_exact_reader() {
    for text in ENVELOPES.lines().chain([" \n ", "\u{a0}\u{2003}", "\u{feff}", "\u{a0}{}"]) {
        let (expected, got) = data_both_ways(text);
        assert_eq!(got, expected, "{text}");
    }
    let data = canonical_data(r#"{ "context": {"b": 1.50}, "inputs": {} }"#).expect("valid");
    assert_eq!((data.inputs(), data.context()), (Some("{}"), Some(r#"{"b":1.5}"#)));
    assert_eq!((data.text.as_str(), data.context), (r#"{"b":1.5}{}"#, Some(0..9)));
}

#[test]
fn what_the_fuzzer_has_kept_is_read_as_by_the_exact_reader() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/kept/data.jsonl");
    let kept = std::fs::read_to_string(path).expect("it is kept");
    assert!(kept.lines().count() > 100);
    for line in kept.lines() {
        let text: String = serde_json::from_str(line).expect("a string a line");
        assert_eq!(canonical(&text), by_tree(&text), "{text:?}");
        let (expected, got) = data_both_ways(&text);
        assert_eq!(got, expected, "{text:?}");
    }
}

#[test]
fn floats_around_powers_of_two_and_ten_are_spelled_as_by_the_exact_reader() {
    let twos = (-20..60).map(|power| 2_f64.powi(power));
    let tens = (-6..18).map(|power| 10_f64.powi(power));
    for float in twos.chain(tens).flat_map(|float| (0..40).map(move |step| f64::from_bits(float.to_bits() + step - 20)))
    {
        let shortest = format!("{float:?}");
        assert_eq!(canonical(&shortest).as_ref(), Some(&shortest));
        for digits in 13..22 {
            let whole = format!("{float:.0}").len();
            for digits in [digits, digits.max(whole) - whole] {
                let text = format!("-{float:.digits$}");
                assert_eq!(canonical(&text), by_tree(&text), "{text}");
            }
        }
    }
}

/// Bytes that decide, again and again.
struct Choices<'c>(std::iter::Cycle<std::slice::Iter<'c, u8>>);

impl<'c> Choices<'c> {
    fn new(bytes: &'c [u8]) -> Self {
        Choices(bytes.iter().cycle())
    }

    fn below(&mut self, count: u8) -> u8 {
        self.0.next().map_or(0, |byte| byte % count)
    }

    fn space(&mut self, out: &mut String) {
        out.push_str(["", "", "", " ", "  ", "\n", "\t \r\n"][usize::from(self.below(7))]);
    }
}

/// Another text of the same value.
fn respell(value: &Value, choices: &mut Choices, out: &mut String) {
    choices.space(out);
    match value {
        Value::Number(number) => out.push_str(&respelled_number(number.as_str(), choices)),
        Value::String(text) => respell_string(text, choices, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                respell(item, choices, out);
            }
            choices.space(out);
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (index, (name, member)) in members.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                choices.space(out);
                respell_string(name, choices, out);
                choices.space(out);
                out.push(':');
                respell(member, choices, out);
            }
            choices.space(out);
            out.push('}');
        }
        other => out.push_str(&other.to_text()),
    }
    choices.space(out);
}

fn respelled_number(text: &str, choices: &mut Choices) -> String {
    if !text.contains(['.', 'e']) {
        return if text == "0" && choices.below(2) == 0 { "-0".to_owned() } else { text.to_owned() };
    }
    let float: f64 = text.parse().expect("a float");
    match choices.below(6) {
        0 | 1 => format!("{float:E}"),
        2 => format!("{float:.25e}"),
        3 => format!("{float:e}").replace("e", "E+").replace("+-", "-"),
        4 if !text.contains('e') => format!("{text}00"),
        _ => text.to_owned(),
    }
}

fn respell_string(text: &str, choices: &mut Choices, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        let mut units = [0; 2];
        match (choices.below(4), character) {
            (0, '/') => out.push_str("\\/"),
            (0, '\u{8}') => out.push_str("\\b"),
            (0, '\u{c}') => out.push_str("\\f"),
            (0, _) => {
                character.encode_utf16(&mut units).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")))
            }
            (1, _) => {
                character.encode_utf16(&mut units).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04X}")))
            }
            _ => write_character(character, out),
        }
    }
    out.push('"');
}

fn respelled(value: &Value, bytes: &[u8]) -> String {
    let mut text = String::new();
    respell(value, &mut Choices::new(bytes), &mut text);
    text
}

/// The text with one character put in, taken out or put in another's place.
fn edited(text: &str, place: usize, with: char, kind: u8) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    let place = place % (characters.len() + 1);
    match kind {
        0 => characters.insert(place, with),
        _ if place == characters.len() => {}
        1 => drop(characters.remove(place)),
        _ => characters[place] = with,
    }
    characters.into_iter().collect()
}

/// One of the characters JSON is made of, or another.
fn any_character() -> impl Strategy<Value = char> {
    "[\\[\\]{}\",:0-9eE+.truefalsn \\\\ubx/\n\u{1}\u{a0}-]".prop_map(|text| text.chars().next().unwrap_or(' '))
}

/// The number with another last digit before its exponent.
fn next_to(number: &str, choice: u64) -> String {
    let (digits, exponent) = number.split_at(number.find('e').unwrap_or(number.len()));
    format!("{}{}{exponent}", &digits[..digits.len() - 1], choice % 10)
}

fn any_data() -> impl Strategy<Value = Value> {
    let name = prop_oneof![4 => Just("inputs".to_owned()), 4 => Just("context".to_owned()), 1 => any::<String>()];
    let member = prop_oneof![
        6 => proptest::collection::btree_map("[a-c]{0,2}", any_value(), 0..4).prop_map(Value::object),
        1 => any_value(),
    ];
    proptest::collection::vec((name, member), 0..3).prop_map(Value::Object)
}

fn any_decimal() -> impl Strategy<Value = String> {
    let exponent = prop_oneof![2 => Just(String::new()), 1 => "[eE][+-]?[0-9]{1,3}"];
    let zeros = prop_oneof![4 => Just(0), 1 => 0..6usize];
    ("-?", "[0-9]{1,20}", any::<prop::sample::Index>(), exponent, zeros).prop_map(
        |(sign, digits, point, exponent, zeros)| {
            let (whole, fraction) = digits.split_at(point.index(digits.len() + 1));
            let whole = whole.trim_start_matches('0');
            let whole = if whole.is_empty() { "0" } else { whole };
            let fraction = format!("{fraction}{}", "0".repeat(zeros));
            let point = if fraction.is_empty() { "" } else { "." };
            format!("{sign}{whole}{point}{fraction}{exponent}")
        },
    )
}

proptest! {
    #[test]
    fn every_text_of_a_value_has_its_canonical_text(
        value in any_value(), bytes in prop::collection::vec(any::<u8>(), 1..64),
    ) {
        let text = respelled(&value, &bytes);
        prop_assert_eq!(canonical(&text), Some(value.to_text()), "{}", text);
    }

    #[test]
    fn takes_what_the_exact_reader_takes(text in "[\\[\\]{}\",:0-9eE+.truefalsn \\\\u-]{0,24}") {
        prop_assert_eq!(canonical(&text), by_tree(&text), "{}", text);
    }

    #[test]
    fn takes_what_the_exact_reader_takes_after_an_edit(
        value in any_value(), bytes in prop::collection::vec(any::<u8>(), 1..64),
        place in any::<usize>(), with in any_character(), kind in 0..3u8,
    ) {
        let text = edited(&respelled(&value, &bytes), place, with, kind);
        prop_assert_eq!(canonical(&text), by_tree(&text), "{}", text);
    }

    #[test]
    fn takes_the_data_that_the_exact_reader_takes(
        value in any_data(), bytes in prop::collection::vec(any::<u8>(), 1..64),
        place in any::<usize>(), with in any_character(), kind in 0..6u8,
    ) {
        let text = respelled(&value, &bytes);
        let text = if kind < 3 { edited(&text, place, with, kind) } else { text };
        let (expected, got) = data_both_ways(&text);
        prop_assert_eq!(got, expected, "{}", text);
    }

    #[test]
    fn floats_are_spelled_as_by_the_exact_reader(bits in any::<u64>(), scale in -6..18i32) {
        let far = f64::from_bits(bits);
        let near = (bits as f64 / u64::MAX as f64) * 10f64.powi(scale);
        for float in [far, near] {
            let Some(number) = Number::float(float) else { continue };
            prop_assert_eq!(canonical(number.as_str()), Some(number.as_str().to_owned()));
            let next = next_to(number.as_str(), bits);
            let rounded = [format!("{near:.3}"), format!("{near:.16}")];
            for text in rounded.into_iter().chain([format!("{float:e}"), format!("{float:.18e}"), next]) {
                prop_assert_eq!(canonical(&text), by_tree(&text), "{}", text);
            }
        }
    }

    #[test]
    fn decimals_are_spelled_as_by_the_exact_reader(text in any_decimal()) {
        prop_assert_eq!(canonical(&text), by_tree(&text), "{}", text);
    }
}
