//! Secrets that are known by the name before them: finds the names, and the signs between name and value.

use std::ops::Range;

use super::name::{self, Name, STEMS};
use super::text::{Masked, Quotes, length_of_escape};
use super::value;

/// What stands between a name and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// `password: x`
    Colon,
    /// `password=x`
    Equals,
    /// `password == x`
    Comparison,
    /// `--password x`
    Space,
    /// `'--password', 'x'`
    Comma,
    /// `('password', 'x')`
    Pair,
    /// `<password>x</password>`
    Element,
}

/// A name of a secret, where a value may follow.
#[derive(Debug, Clone, Copy)]
pub struct Key<'t> {
    pub word: &'t str,
    pub name: Name,
    pub sign: Sign,
    /// The quotes behind the word, with the backslashes that escape them; empty if there are none.
    pub quote: &'t str,
    /// Whether there is space on both sides of the sign, as in source.
    pub is_spaced: bool,
    /// Where the value begins.
    pub value: usize,
}

/// The text without them, unless it has none.
pub fn mask(text: &str) -> Option<String> {
    let mut masked = Masked::new(text);
    let mut quotes = Quotes::new(text);
    let mut at = 0;
    while let Some(stem) = STEMS.find_at(text, at) {
        let word = word_around(text.as_bytes(), at, stem.range());
        at = word.end;
        let Some(key) = Key::read(text, word) else { continue };
        if let Some(secret) = value::of(text, &key, quotes.around(key.value)) {
            quotes.skip(&secret.range);
            at = at.max(secret.range.end);
            masked.replace(secret.range, secret.quote);
        }
    }
    masked.finish()
}

/// The whole word, without dots and hyphens at its ends, not beginning before `floor`, and not going on over `--`.
fn word_around(text: &[u8], floor: usize, stem: Range<usize>) -> Range<usize> {
    let is_part = |byte: &&u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
    let is_edge = |byte: &&u8| b"-.".contains(byte);
    let mut start = stem.start - text[floor..stem.start].iter().rev().take_while(is_part).count();
    start += text[start..stem.start].windows(2).rposition(|pair| pair == b"--").unwrap_or(0);
    start += text[start..stem.start].iter().take_while(is_edge).count();
    let mut end = stem.end + text[stem.end..].iter().take_while(is_part).count();
    end -= text[stem.end..end].iter().rev().take_while(is_edge).count();
    start..end
}

impl<'t> Key<'t> {
    /// Reads what stands behind a word. The cheap questions come first: most words are followed by nothing of interest.
    fn read(text: &'t str, word: Range<usize>) -> Option<Self> {
        let bytes = text.as_bytes();
        let before = &text[..word.start];
        let mut at = word.end;
        at += length_of_quote(&bytes[at..]);
        // Backslashes in pairs escape one another, and not the quote.
        let quote = &text[word.end..at];
        let quote = if quote.len().is_multiple_of(2) { quote } else { &quote[quote.len() - 1..] };
        at += usize::from(bytes.get(at) == Some(&b']'));
        let (sign, value) = if before.ends_with('<') && bytes.get(at) == Some(&b'>') {
            (Sign::Element, at + 1)
        } else {
            sign(bytes, at, !quote.is_empty(), before)?
        };
        let is_spaced = bytes[at..value].starts_with(b" ") && bytes[at..value].ends_with(b" ");
        let name = name_of(text, &word);
        let name = match sign {
            _ if name == Name::Plain => return None,
            Sign::Element => Name::Strong,
            // `TOKEN=x` in an environment, `?token=x` in a query, `--token x`.
            Sign::Equals if bytes[at] == b'=' && is_constant(&text[word.clone()]) && value == at + 1 => Name::Strong,
            Sign::Equals if before.ends_with(['?', '&']) => Name::Strong,
            Sign::Equals | Sign::Space | Sign::Comma if name == Name::Token && before.ends_with("--") => Name::Strong,
            _ => name,
        };
        Some(Key { word: &text[word], name, sign, quote, is_spaced, value })
    }
}

/// What a word says; or without the end of an escape (`\n`, `%3F`) at its beginning; or with the word before it, as in `API key`.
fn name_of(text: &str, word: &Range<usize>) -> Name {
    const LONGEST_WORD: usize = 16;
    let escape = match text.as_bytes()[..word.start].last() {
        Some(b'\\') => length_of_escape(&text[word.start..]),
        Some(b'%') => 2,
        _ => 0,
    };
    let before = text[..word.start].strip_suffix(' ').unwrap_or_default();
    let last = before.bytes().rev().take(LONGEST_WORD).take_while(u8::is_ascii_alphanumeric).count();
    let starts = [word.start, word.end.min(word.start + escape), word.start - if last == 0 { 0 } else { last + 1 }];
    starts.into_iter().map(|start| name::of(&text[start..word.end])).max().unwrap_or(Name::Plain)
}

fn is_constant(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

/// The length of a quote with the backslashes before it.
fn length_of_quote(text: &[u8]) -> usize {
    let backslashes = text.iter().take_while(|&&byte| byte == b'\\').count();
    if matches!(text.get(backslashes), Some(b'"' | b'\'')) { backslashes + 1 } else { 0 }
}

/// The sign at a place, and where the value begins. `before` is what stands before the name.
fn sign(text: &[u8], at: usize, is_quoted: bool, before: &str) -> Option<(Sign, usize)> {
    const SIGNS: [(&[u8], Sign); 12] = [
        (b"===", Sign::Comparison),
        (b"!==", Sign::Comparison),
        (b"==", Sign::Comparison),
        (b"!=", Sign::Comparison),
        (b"=>", Sign::Equals),
        (b":=", Sign::Equals),
        (b"%3D", Sign::Equals),
        (b"%3d", Sign::Equals),
        (b"%3A", Sign::Colon),
        (b"%3a", Sign::Colon),
        (b"=", Sign::Equals),
        (b":", Sign::Colon),
    ];
    let blank = at + blanks(&text[at..], is_quoted);
    let rest = &text[blank..];
    let after = |length: usize| blank + length + blanks(&rest[length..], is_quoted);
    let is_none = [b"://".as_slice(), b"::", b"=~"].iter().any(|none| rest.starts_with(none));
    match SIGNS.iter().find(|(sign, _)| rest.starts_with(sign)) {
        Some(_) if is_none => None,
        Some((sign, meaning)) => Some((*meaning, after(sign.len()))),
        None if is_quoted && rest.starts_with(b",") => match before {
            _ if before.ends_with("--") => Some((Sign::Comma, after(1))),
            _ if ["('", "(\""].iter().any(|open| before.ends_with(open)) => Some((Sign::Pair, after(1))),
            _ => None,
        },
        None if !is_quoted && blank > at && before.ends_with("--") => Some((Sign::Space, blank)),
        None => None,
    }
}

/// How much space there is, behind quotes also over lines, as JSON is laid out.
fn blanks(text: &[u8], over_lines: bool) -> usize {
    let is_blank = |byte: &&u8| matches!(byte, b' ' | b'\t') || (over_lines && matches!(byte, b'\n' | b'\r'));
    text.iter().take_while(is_blank).count()
}
