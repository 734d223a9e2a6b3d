//! What the passes over a text have in common.

use std::ops::Range;

use super::MASK;

/// A text that is being masked. Nothing is copied before there is something to mask.
pub struct Masked<'t> {
    text: &'t str,
    out: String,
    copied: usize,
}

impl<'t> Masked<'t> {
    pub fn new(text: &'t str) -> Self {
        Masked { text, out: String::new(), copied: 0 }
    }

    /// Masks a range that begins after those before. `quote` is what a string is put into where there was none.
    pub fn replace(&mut self, range: Range<usize>, quote: &str) {
        if range.start < self.copied || range.end < range.start || self.text[range.clone()] == *MASK {
            return;
        }
        self.out.push_str(&self.text[self.copied..range.start]);
        self.out.extend([quote, MASK, quote]);
        self.copied = range.end;
    }

    pub fn finish(mut self) -> Option<String> {
        if self.out.is_empty() {
            return None;
        }
        self.out.push_str(&self.text[self.copied..]);
        Some(self.out)
    }
}

/// In which quotes a place of a line is, going forwards through the text.
pub struct Quotes<'t> {
    text: &'t [u8],
    at: usize,
    open: Option<u8>,
    is_escaped: bool,
}

impl<'t> Quotes<'t> {
    pub fn new(text: &'t str) -> Self {
        Quotes { text: text.as_bytes(), at: 0, open: None, is_escaped: false }
    }

    /// The quotes around a place.
    pub fn around(&mut self, place: usize) -> Option<u8> {
        while self.at < place {
            let byte = self.text[self.at];
            if self.is_escaped || byte == b'\\' {
                self.is_escaped = !self.is_escaped;
            } else if byte == b'\n' {
                self.open = None;
            } else if matches!(byte, b'"' | b'\'') {
                match self.open {
                    Some(open) if open == byte => self.open = None,
                    None if self.can_open() => self.open = Some(byte),
                    _ => {}
                }
            }
            self.at += 1;
        }
        self.open
    }

    /// Goes on behind what was masked, as if it had been masked before: there is no quote in [`MASK`].
    pub fn skip(&mut self, masked: &Range<usize>) {
        self.around(masked.start);
        self.at = self.at.max(masked.end);
    }

    /// An apostrophe is no quote, but that of `b'...'` is one.
    fn can_open(&self) -> bool {
        let before =
            |count: usize| self.at.checked_sub(count).map(|at| self.text[at]).filter(u8::is_ascii_alphanumeric);
        match before(1) {
            None => true,
            Some(prefix) => b"bBfFrRuU".contains(&prefix) && before(2).is_none(),
        }
    }
}

/// Where a word at `start` begins if an escape goes before: the `n` of `\n` belongs to that.
pub fn past_escape(text: &str, start: usize) -> usize {
    let backslashes = text.as_bytes()[..start].iter().rev().take_while(|&&byte| byte == b'\\').count();
    if backslashes.is_multiple_of(2) { start } else { start + length_of_escape(&text[start..]) }
}

/// How much of a text behind a backslash that takes.
pub fn length_of_escape(rest: &str) -> usize {
    let length = match rest.as_bytes().first() {
        Some(b'u') => 5,
        Some(b'x') => 3,
        Some(byte) if byte.is_ascii() => 1,
        _ => 0,
    };
    if rest.is_char_boundary(length) { length } else { 0 }
}

/// Whether a secret is yet to be put here, or was masked by somebody else: `{token}`, `${TOKEN}`, `%s`, `<your key>`, `****`.
pub fn is_placeholder(value: &str) -> bool {
    let between = |open: &str, close: &str| value.strip_prefix(open).and_then(|rest| rest.strip_suffix(close));
    let is_made_of = |text: &str, others: &[u8]| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphabetic() || others.contains(&byte))
    };
    let is_variable = |text: &str| is_made_of(text, b"_") && !text.bytes().any(|byte| byte.is_ascii_lowercase());
    let is_repeated = |mark: char| value.len() >= 3 && value.trim_end_matches(mark).is_empty();
    value == MASK
        || ['*', '•', 'x', 'X', '.'].into_iter().any(is_repeated)
        || between("{", "}").is_some_and(|name| is_made_of(name.trim_matches(['{', '}']), b"_.! "))
        || between("<", ">").is_some_and(|name| is_made_of(name, b"_- "))
        || between("${", "}").or_else(|| value.strip_prefix('$')).is_some_and(is_variable)
        || between("%(", ")s").is_some_and(|name| is_made_of(name, b"_"))
        || ["%s", "%r", "{}", "?"].contains(&value)
}

/// Whether a value can be no word of a sentence.
pub fn looks_random(value: &str) -> bool {
    const LONGEST_WORD: usize = 23;
    let is_decimal =
        || value.bytes().all(|byte| byte.is_ascii_digit() || b".-+e".contains(&byte)) && value.contains('.');
    value.len() > LONGEST_WORD || (value.len() >= 6 && value.bytes().any(|byte| byte.is_ascii_digit()) && !is_decimal())
}
