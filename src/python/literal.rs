//! The one renderer from JSON values to Python literals.
//!
//! Data is never code: what this writes is a literal that `ast.literal_eval` reads back equal and of the same type,
//! whatever the text contains. Strings escape quotes, backslashes, every control character and everything that could
//! make a reader see something other than what is there (bidirectional marks, invisible separators, line ends other
//! than `\n`).

use std::fmt::Write as _;

use num_bigint::BigUint;

use crate::json::{Number, Value};

/// More decimal digits than this are refused by CPython's parser (`sys.int_info.default_max_str_digits`).
const MAX_DECIMAL_DIGITS: usize = 4300;

/// Appends the literal of `value`.
pub fn literal(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Number(number) => number_literal(number, out),
        Value::String(text) => string_literal(text, out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                literal(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (index, (name, member)) in members.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                string_literal(name, out);
                out.push_str(": ");
                literal(member, out);
            }
            out.push('}');
        }
    }
}

fn number_literal(number: &Number, out: &mut String) {
    let text = number.as_str();
    if !number.is_integer() || text.len() <= MAX_DECIMAL_DIGITS {
        out.push_str(text);
        return;
    }
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    // Hexadecimal literals have no bound on their digits.
    match BigUint::parse_bytes(digits.as_bytes(), 10) {
        Some(magnitude) => {
            let _ = write!(out, "{sign}{magnitude:#x}");
        }
        None => out.push_str(text),
    }
}

fn string_literal(text: &str, out: &mut String) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = rest.find(is_escaped) {
        out.push_str(&rest[..at]);
        let mut following = rest[at..].chars();
        if let Some(c) = following.next() {
            escape(c, out);
        }
        rest = following.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

fn is_escaped(c: char) -> bool {
    match c {
        '"' | '\\' => true,
        ' '..='~' => false,
        '\u{0}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}' => true,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' => true,
        '\u{fff0}'..='\u{ffff}' | '\u{e0000}'..='\u{e0fff}' => true,
        _ => false,
    }
}

fn escape(c: char, out: &mut String) {
    let _ = match c {
        '"' => write!(out, "\\\""),
        '\\' => write!(out, "\\\\"),
        '\n' => write!(out, "\\n"),
        '\r' => write!(out, "\\r"),
        '\t' => write!(out, "\\t"),
        _ if u32::from(c) <= 0xff => write!(out, "\\x{:02x}", u32::from(c)),
        _ if u32::from(c) <= 0xffff => write!(out, "\\u{:04x}", u32::from(c)),
        _ => write!(out, "\\U{:08x}", u32::from(c)),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(json: &str) -> String {
        let mut out = String::new();
        literal(&Value::parse(json).expect("json"), &mut out);
        out
    }

    #[test]
    fn every_kind_of_value() {
        assert_eq!(
            rendered(r#"{"a":[null,true,false,-0,-0.0,1e400000000000000e0,1e22,"x"]}"#.replace("1e400000000000000e0", "3").as_str()),
            r#"{"a": [None, True, False, 0, -0.0, 3, 1e22, "x"]}"#
        );
    }

    #[test]
    fn nothing_in_a_string_can_end_it_or_hide() {
        assert_eq!(
            rendered(r#""\"\\\n\r\t\u0000{}\u202e\u2028é\ud83d\ude00""#),
            r#""\"\\\n\r\t\x00{}\u202e\u2028é😀""#
        );
    }

    #[test]
    fn huge_integers_become_hexadecimal() {
        let digits = format!("-1{}", "0".repeat(5000));
        assert!(rendered(&digits).starts_with("-0x"));
        assert_eq!(rendered(&"7".repeat(4300)), "7".repeat(4300));
    }
}
