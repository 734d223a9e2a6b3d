//! Numbers of payment cards.

use std::sync::LazyLock;

use regex::Regex;

use super::text::{Masked, Quotes};

/// As cards are printed and written: in one, or in groups with one space or hyphen between them.
static LAYOUTS: LazyLock<Regex> = LazyLock::new(|| {
    let layouts = "[0-9]{15,19}|[0-9]{4}(?:[ -][0-9]{4}){3}|[0-9]{4}[ -][0-9]{6}[ -][0-9]{4,5}";
    Regex::new(layouts).expect("a constant, which every test compiles")
});

const MOST_DIGITS: usize = 19;

/// The text without them, unless it has none.
pub fn mask(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut masked = Masked::new(text);
    let mut quotes = Quotes::new(text);
    let mut at = 0;
    while let Some(found) = LAYOUTS.find_at(text, at) {
        // `%20` and the like are digits too.
        let start = found.start() + if bytes[..found.start()].ends_with(b"%") { 2 } else { 0 };
        let (before, card, after) = (&bytes[..start], &bytes[start..found.end()], &bytes[found.end()..]);
        at = found.start() + leading(&bytes[found.start()..], u8::is_ascii_digit);
        if is_card(card) && !is_part(before, after) && !is_in_a_row(before, card, after) {
            let is_number = is_of_json(before, after) && quotes.around(start).is_none();
            masked.replace(start..found.end(), if is_number { "\"" } else { "" });
            at = found.end();
        }
    }
    masked.finish()
}

/// Whether these digits, with one kind of separator or none, are a card's: its network, its length, its check digit.
pub fn is_card(text: &[u8]) -> bool {
    let mut digits = [0; MOST_DIGITS];
    let mut count = 0;
    let mut separator = None;
    for &byte in text {
        match byte {
            b'0'..=b'9' if count < MOST_DIGITS => {
                digits[count] = byte - b'0';
                count += 1;
            }
            b' ' | b'-' if separator.is_none_or(|known| known == byte) => separator = Some(byte),
            _ => return false,
        }
    }
    let digits = &digits[..count];
    let is_of_a_network = match (count, digits) {
        (14, [3, 0 | 6 | 8 | 9, ..]) => separator.is_some(),
        (15, [3, 4 | 7, ..]) => true,
        (16, [2, 2..=7, ..] | [3, 5, ..] | [4 | 6, ..] | [5, 1..=5, ..]) => true,
        (19, [4, ..] | [6, 0 | 2 | 4 | 5, ..]) => true,
        _ => false,
    };
    is_of_a_network && has_check_digit(digits)
}

/// By Luhn.
fn has_check_digit(digits: &[u8]) -> bool {
    let weighed = digits.iter().rev().zip([false, true].into_iter().cycle());
    let sum: u8 = weighed.map(|(&digit, is_doubled)| if is_doubled { digit * 2 - digit / 5 * 9 } else { digit }).sum();
    sum.is_multiple_of(10)
}

/// Whether what stands around makes the digits part of a word, of another number, or of an identifier such as a trace id.
fn is_part(before: &[u8], after: &[u8]) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let is_escape = match before {
        [.., b'\\', _] => true,
        [.., b'%', high, low] => high.is_ascii_hexdigit() && low.is_ascii_hexdigit(),
        _ => false,
    };
    let is_word = (before.last().is_some_and(is_word) && !is_escape) || after.first().is_some_and(is_word);
    let is_negative = before.strip_suffix(b"-").is_some_and(|rest| !rest.last().is_some_and(u8::is_ascii_alphanumeric));
    let is_fraction = matches!(before, [.., b'0'..=b'9', b'.']) || matches!(after, [b'.', b'0'..=b'9', ..]);
    let is_mixed = |part: &[u8]| part.iter().any(u8::is_ascii_digit) && part.iter().any(u8::is_ascii_alphabetic);
    let part_before =
        before.strip_suffix(b"-").map(|part| &part[part.len() - trailing(part, u8::is_ascii_alphanumeric)..]);
    let part_after = after.strip_prefix(b"-").map(|part| &part[..leading(part, u8::is_ascii_alphanumeric)]);
    is_word || is_negative || is_fraction || part_before.is_some_and(is_mixed) || part_after.is_some_and(is_mixed)
}

/// Whether these are numbers of four digits among others, as arrays are printed. One more may be the year that a card expires.
fn is_in_a_row(before: &[u8], card: &[u8], after: &[u8]) -> bool {
    let others_after = (0..2).take_while(|index| {
        after[index * 5..].strip_prefix(b" ").is_some_and(|rest| leading(rest, u8::is_ascii_digit) == 4)
    });
    let others_before = (0..2).take_while(|index| {
        before[..before.len() - index * 5]
            .strip_suffix(b" ")
            .is_some_and(|rest| trailing(rest, u8::is_ascii_digit) == 4)
    });
    card.contains(&b' ') && others_after.count() + others_before.count() >= 2
}

/// Whether a number here is a value of JSON, where a string has to take its place.
fn is_of_json(before: &[u8], after: &[u8]) -> bool {
    // However many there are, the beginning is the same.
    let start = &before[..before.len().min(64)];
    let is_in_an_array = || start.trim_ascii_start().first().is_some_and(|byte| b"[{".contains(byte));
    let is_value = match before.trim_ascii_end() {
        [name @ .., b':'] => name.trim_ascii_end().ends_with(b"\""),
        [.., b'[' | b','] => is_in_an_array(),
        _ => false,
    };
    is_value && after.trim_ascii_start().first().is_none_or(|byte| b",]}".contains(byte))
}

fn leading(text: &[u8], is_it: fn(&u8) -> bool) -> usize {
    text.iter().take_while(|byte| is_it(byte)).count()
}

fn trailing(text: &[u8], is_it: fn(&u8) -> bool) -> usize {
    text.iter().rev().take_while(|byte| is_it(byte)).count()
}
