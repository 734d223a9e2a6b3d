//! What behind the name of a secret is the secret: where it begins and ends, and whether it is one.

use std::ops::Range;

use super::MASK;
use super::name::{self, Name, is_one_of};
use super::pair::{Key, Sign};
use super::text::{is_placeholder, looks_random};

/// What is to be masked, and what the mask is put into if a string has to stand there.
pub struct Secret<'t> {
    pub range: Range<usize>,
    pub quote: &'t str,
}

/// What says something about a secret rather than being it: of sentences, and of Python.
const WORDS: &str = "must should can cannot may is are was not too has no the a an to and or for of in on if else \
    required optional missing invalid incorrect expected unexpected expired wrong empty failed denied \
    unauthorized authentication rejected revoked unknown unset option options flag flags argument arguments None \
    null nil undefined NaN await raise return pass continue break yield lambda del assert import from while with \
    try except";

/// Of what a colon says that it is the type.
const TYPES: &str = "str bytes bytearray int float bool dict list tuple set object Any Optional Union Literal \
    Annotated Callable Mapping Sequence Iterable String string SecretStr type";

/// Whose members are not spelt out in a text: `self.password`, `os.environ`.
const RECEIVERS: &str = "self cls os sys args kwargs config settings cfg conf options opts params env environ \
    request response session this app ctx context state inputs parameters";

/// Names of header lines and of phrases, which go to the end of the line.
const LINES: [&str; 4] = ["authorization", "cookie", "phrase", "mnemonic"];

/// The first words of an `Authorization`.
const SCHEMES: &str = "Bearer Basic Digest Token ApiKey Negotiate NTLM Hawk OAuth AWS4-HMAC-SHA256";

/// The secret behind a name. `inside` are the quotes around the place.
pub fn of<'t>(text: &'t str, key: &Key<'t>, inside: Option<u8>) -> Option<Secret<'t>> {
    let found = Found { text, bytes: text.as_bytes(), key, inside };
    let first = *found.bytes.get(key.value)?;
    if key.sign == Sign::Element {
        return found.of_element();
    }
    // The end of `input("Password: ")`.
    if is_end_of_string(found.bytes, key.value, inside) {
        return None;
    }
    match Opening::read(found.bytes, key.value) {
        Some(opening) => found.of_quotes(&opening),
        None if text[key.value..].starts_with(MASK) => found.of_word(),
        None if is_bracket(first) && !found.goes_to_end_of_line("") => found.of_group(),
        None => found.of_word(),
    }
}

struct Found<'t, 'k> {
    text: &'t str,
    bytes: &'t [u8],
    key: &'k Key<'t>,
    inside: Option<u8>,
}

impl<'t> Found<'t, '_> {
    fn secret(&self, range: Range<usize>) -> Option<Secret<'t>> {
        Some(Secret { range, quote: "" })
    }

    /// With quotes around it where the name has quotes, so that JSON stays JSON.
    fn string(&self, range: Range<usize>) -> Option<Secret<'t>> {
        Some(Secret { range, quote: self.key.quote })
    }

    fn has_quoted_name(&self) -> bool {
        !self.key.quote.is_empty()
    }

    /// `x</password>`.
    fn of_element(&self) -> Option<Secret<'t>> {
        let start = self.key.value;
        let end = start + self.bytes[start..].iter().position(|&byte| byte == b'<')?;
        let is_closed = self.text[end..].strip_prefix("</").is_some_and(|rest| rest.starts_with(self.key.word));
        let value = &self.text[start..end];
        if is_closed && !value.trim().is_empty() { self.secret(start..end) } else { None }
    }

    /// `"x"`, `b'x'`, `\"x\"`.
    fn of_quotes(&self, opening: &Opening) -> Option<Secret<'t>> {
        let range = opening.inner..opening.end(self.bytes, self.inside);
        let value = &self.text[range.clone()];
        let is_word = || value.len() <= 16 && !value.bytes().any(|byte| byte.is_ascii_digit());
        let is_none = match self.key.sign {
            _ if is_placeholder(value) => true,
            Sign::Comparison => self.key.name < Name::Strong,
            Sign::Comma => value.starts_with('-'),
            // Else these are the names of fields.
            Sign::Pair => {
                let is_pair = self.bytes.get(range.end + 1) == Some(&b')') && name::of(value) == Name::Plain;
                self.key.name < Name::Strong || !is_pair
            }
            _ if self.has_quoted_name() => false,
            // The end of a string within a string: `{\"ask\": \"Password: \"}`.
            _ if opening.level > 0 && value.starts_with([',', '}', ']', ')', ' ', '\\']) => true,
            _ => value.is_empty() || (self.key.name < Name::Strong && is_word()),
        };
        if is_none { None } else { self.secret(range) }
    }

    /// `{"user": "x"}`, `('user', 'x')`: whole, behind a name in quotes; else only if it begins with data rather than with names.
    fn of_group(&self) -> Option<Secret<'t>> {
        const LONGEST_PLACEHOLDER: usize = 64;
        let start = self.key.value;
        let near = &self.bytes[start..self.bytes.len().min(start + LONGEST_PLACEHOLDER)];
        let placeholder = near.iter().position(|&byte| byte == b'}').and_then(|end| self.text.get(start..=start + end));
        let may_be = match self.key.sign {
            Sign::Comparison | Sign::Space | Sign::Comma | Sign::Pair | Sign::Element => false,
            Sign::Colon | Sign::Equals if self.has_quoted_name() => {
                self.bytes[start] != b'(' || self.begins_with_data(start)
            }
            Sign::Colon | Sign::Equals => self.key.name > Name::Token && self.begins_with_data(start),
        };
        if !may_be || placeholder.is_some_and(is_placeholder) {
            return None;
        }
        let (end, _) = self.end_of_group(start, self.has_quoted_name());
        self.string(start..if self.has_quoted_name() { end } else { self.end_of_word(end) })
    }

    /// Without quotes.
    fn of_word(&self) -> Option<Secret<'t>> {
        let start = self.key.value;
        if matches!(self.key.sign, Sign::Comparison | Sign::Comma | Sign::Pair) {
            return None;
        }
        if self.key.sign == Sign::Colon && !self.has_quoted_name() && self.is_type(start) {
            let key = Key { sign: Sign::Equals, value: self.end_of_type(start)?, ..*self.key };
            return of(self.text, &key, self.inside);
        }
        // Before the end is looked for, which may be far: what is left as it is will be looked through again, and time stays linear.
        if let Some(code) = self.of_code(start) {
            return code;
        }
        let is_masked = self.text[start..].starts_with(MASK);
        let end = self.end_of_word(start);
        let word = &self.text[start..end];
        let with_bracket = self.text.get(start..=end).unwrap_or(word);
        if self.is_no_secret(word) || (is_placeholder(with_bracket) && !is_masked) {
            return None;
        }
        let is_number =
            word.starts_with(|c: char| c.is_ascii_digit() || c == '-') || is_one_of(word.as_bytes(), "true false");
        let may_be_word = self.key.name < Name::Strong && !(self.has_quoted_name() && is_number);
        if may_be_word && !self.goes_to_end_of_line(word) && !looks_random(word) {
            return None;
        }
        self.string(start..self.end_of_words(start..end))
    }

    /// Whether a word says something about a secret, or is there until the secret is.
    fn is_no_secret(&self, word: &str) -> bool {
        let is_mark = word.len() < 4 && !word.bytes().any(|byte| byte.is_ascii_alphanumeric() || !byte.is_ascii());
        let is_truth = !self.has_quoted_name() && is_one_of(word.as_bytes(), "true false yes");
        // `--password PASSWORD`
        let is_variable = self.key.sign == Sign::Space
            && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
            && name::of(word) > Name::Plain;
        let is_flag = self.key.sign == Sign::Space && word.starts_with(['-', '[', '(']);
        is_mark
            || is_truth
            || is_variable
            || is_flag
            || is_one_of(word.as_bytes(), WORDS)
            || (word != MASK && is_placeholder(word))
    }

    /// What is secret of an expression, if this is one: of `Secret('x')` what is in it, of `get(x)`, `tokens[i]`, `self.token` nothing.
    fn of_code(&self, start: usize) -> Option<Option<Secret<'t>>> {
        let chain = self.end_of_chain(start);
        let names = &self.text[start..chain];
        let (first, last) = (names.split('.').next()?, names.rsplit('.').next()?);
        let is_masked = self.text[chain..].starts_with(MASK);
        let has_digits = names.bytes().any(|byte| byte.is_ascii_digit());
        let may_be_code = !has_digits || (self.key.is_spaced && !names.bytes().any(|byte| byte.is_ascii_uppercase()));
        match self.bytes.get(chain) {
            _ if names.is_empty() => None,
            Some(b'(' | b'[') if may_be_code && !is_masked => {
                let is_type = last.starts_with(|c: char| c.is_ascii_uppercase())
                    || is_one_of(last.as_bytes(), "str bytes bytearray");
                let is_printed = self.bytes[chain] == b'(' && is_type && self.key.name > Name::Token;
                Some(if is_printed && self.begins_with_data(chain) {
                    let (end, is_closed) = self.end_of_group(chain, false);
                    self.secret(chain + 1..end - usize::from(is_closed))
                } else {
                    None
                })
            }
            _ if is_masked => None,
            _ if names.contains('.') => {
                let is_whole = self.step(chain).is_none()
                    && (name::of(last) > Name::Plain || (self.key.name < Name::Strong && !has_digits));
                (is_whole || is_one_of(first.as_bytes(), RECEIVERS)).then_some(None)
            }
            // `self.password = given`
            _ => (self.step(chain).is_none() && !has_digits && self.key.word.starts_with("self.")).then_some(None),
        }
    }

    /// Whether a type stands here: one that everybody knows, or one that is named for a secret, `PrivateKey`.
    fn is_type(&self, start: usize) -> bool {
        let end = self.end_of_chain(start);
        let last = self.text[start..end].rsplit('.').next().unwrap_or_default();
        let is_named_so = || {
            let word = self.key.word.to_ascii_lowercase();
            // Keys and tokens are no words, but passwords may be.
            let may_be_a_word = ["pass", "pwd", "secret"].iter().any(|stem| word.contains(stem));
            let is_capital = last.starts_with(|c: char| c.is_ascii_uppercase());
            let has_others = last.contains(|c: char| c.is_ascii_lowercase() || c == '_');
            let is_name = is_capital && has_others && !last.contains(|c: char| c.is_ascii_digit());
            is_name && !may_be_a_word && !self.goes_to_end_of_line(last) && name::of(last) > Name::Plain
        };
        let is_whole = self.bytes.get(end).is_none_or(|byte| b" ,)=|[]\n\r".contains(byte));
        is_whole && (TYPES.split_ascii_whitespace().any(|known| known == last) || is_named_so())
    }

    /// Where the default of that type begins, if there is one.
    fn end_of_type(&self, start: usize) -> Option<usize> {
        const LONGEST: usize = 80;
        let mut depth = 0;
        let is_of_type = |byte: &&u8| {
            depth += i32::from(**byte == b'[') - i32::from(**byte == b']');
            byte.is_ascii_alphanumeric() || b"_.[]| ".contains(byte) || (depth > 0 && **byte == b',')
        };
        let end = start + self.bytes[start..].iter().take(LONGEST).take_while(is_of_type).count();
        let spaces = self.bytes.get(end + 1..)?.iter().take_while(|&&byte| byte == b' ').count();
        (self.bytes[end] == b'=').then_some(end + 1 + spaces)
    }

    /// Whether what is in these brackets, or in those in them, begins with a string or a number, named or not.
    fn begins_with_data(&self, start: usize) -> bool {
        let skip =
            |at: usize, is_it: fn(&u8) -> bool| at + self.bytes[at..].iter().take_while(|byte| is_it(byte)).count();
        let first = skip(start, |byte| is_bracket(*byte) || b" \t".contains(byte));
        let name = skip(first, |byte| byte.is_ascii_alphanumeric() || *byte == b'_');
        let first = if self.bytes.get(name) == Some(&b'=') { name + 1 } else { first };
        Opening::read(self.bytes, first).is_some() || self.bytes.get(first).is_some_and(u8::is_ascii_digit)
    }

    /// The end of `a.b.c`.
    fn end_of_chain(&self, start: usize) -> usize {
        let mut end = start;
        loop {
            let name =
                self.bytes[end..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
            if name == 0 || self.bytes[end].is_ascii_digit() {
                return end.saturating_sub(1).max(start);
            }
            end += name;
            if self.bytes.get(end) != Some(&b'.') {
                return end;
            }
            end += 1;
        }
    }

    /// The end of a value without quotes.
    fn end_of_word(&self, start: usize) -> usize {
        let end = std::iter::successors(Some(start), |&at| self.step(at)).last().unwrap_or(start);
        start + self.text[start..end].trim_end_matches(['.', ',', ':', ';', '!', '?']).len()
    }

    /// The next place in a value without quotes, which ends at space, at what cannot be in one, and at a sign that something else begins
    /// behind.
    fn step(&self, at: usize) -> Option<usize> {
        let next = self.bytes.get(at + 1);
        let is_end = match *self.bytes.get(at)? {
            b'[' if self.text[at..].starts_with(MASK) => return Some(at + MASK.len()),
            b'"' | b'\'' | b'`' | b'<' => true,
            b'\\' => {
                let end = at + self.bytes[at..].iter().take_while(|&&byte| byte == b'\\').count();
                let is_end = self.bytes.get(end).is_none_or(|byte| b"nrt\"'".contains(byte));
                return Some(end).filter(|_| !is_end);
            }
            b',' | b';' | b'&' | b'|' => self.is_end_of_item(at + 1),
            b')' | b']' | b'}' | b'>' => !next.is_some_and(u8::is_ascii_alphanumeric),
            byte => byte.is_ascii_whitespace(),
        };
        Some(at + 1).filter(|_| !is_end)
    }

    /// Whether what begins behind a comma and the like is no part of the value: nothing, or `name=`.
    fn is_end_of_item(&self, at: usize) -> bool {
        let rest = &self.bytes[at..];
        let name = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(byte)).count();
        let is_none = rest.first().is_none_or(|byte| byte.is_ascii_whitespace() || b"\"'`<\\)]}".contains(byte));
        is_none || (name > 0 && rest.get(name).is_some_and(|byte| b"=:[\"'".contains(byte)))
    }

    /// Where the value ends of which this is the first word.
    fn end_of_words(&self, word: Range<usize>) -> usize {
        let first = &self.text[word.clone()];
        if self.goes_to_end_of_line(first) {
            return self.end_of_line(word.end);
        }
        let spaces = self.bytes[word.end..].iter().take_while(|&&byte| byte == b' ').count();
        let is_scheme = ends_with(self.key.word, "authorization") && is_one_of(first.as_bytes(), SCHEMES);
        if is_scheme { self.end_of_word(word.end + spaces) } else { word.end }
    }

    /// Whether all of the line is the value. A cookie may be a word in a sentence.
    fn goes_to_end_of_line(&self, word: &str) -> bool {
        let is_line = self.key.sign == Sign::Colon
            && !self.has_quoted_name()
            && LINES.iter().any(|line| ends_with(self.key.word, line));
        is_line && (!ends_with(self.key.word, "cookie") || word.contains('='))
    }

    /// The end of the line, also of one in a printed text (`\n`), or of the string.
    fn end_of_line(&self, start: usize) -> usize {
        let mut backslashes = 0;
        let mut end = self.bytes.len();
        for (at, &byte) in self.bytes.iter().enumerate().skip(start) {
            let is_escaped = backslashes > 0;
            let is_end = match byte {
                b'\n' | b'\r' => true,
                b'n' | b'r' if is_escaped => true,
                _ => is_quote(backslashes, 0) && is_end_of_string(self.bytes, at, self.inside),
            };
            if is_end {
                end = if matches!(byte, b'n' | b'r') { at - backslashes } else { at };
                break;
            }
            backslashes = if byte == b'\\' { backslashes + 1 } else { 0 };
        }
        start + self.text[start..end].trim_end().len()
    }

    /// The end of a group, and whether that is its last bracket. What was cut off goes on to the end of the line, of the string it is
    /// in, or of the text.
    fn end_of_group(&self, start: usize, over_lines: bool) -> (usize, bool) {
        let level = self.key.quote.len().saturating_sub(1);
        let (mut depth, mut backslashes, mut string) = (0usize, 0, None);
        for (at, &byte) in self.bytes.iter().enumerate().skip(start) {
            match byte {
                b'\\' => {
                    backslashes += 1;
                    continue;
                }
                b'\n' if !over_lines => return (at, false),
                b'"' | b'\'' if self.is_around(at, backslashes, level, string) => {
                    return (at - backslashes, false);
                }
                b'"' | b'\'' if is_quote(backslashes, level) => match string {
                    Some(open) if open == byte => string = None,
                    None => string = Some(byte),
                    _ => {}
                },
                b')' | b']' | b'}' if string.is_none() => {
                    depth -= 1;
                    if depth == 0 {
                        return (at + 1, true);
                    }
                }
                _ if is_bracket(byte) && string.is_none() => depth += 1,
                _ => {}
            }
            backslashes = 0;
        }
        (self.bytes.len(), false)
    }

    /// Whether a quote ends the string that all of this is in.
    fn is_around(&self, at: usize, backslashes: usize, level: usize, string: Option<u8>) -> bool {
        let quote = self.bytes.get(at);
        match level {
            0 => string.as_ref() != quote && is_quote(backslashes, 0) && is_end_of_string(self.bytes, at, self.inside),
            _ => self.key.quote.as_bytes().last() == quote && backslashes < level,
        }
    }
}

/// Whether a string in these quotes can end here: what quotes are around is known from the line alone, and a sentence has others too.
fn is_end_of_string(text: &[u8], at: usize, inside: Option<u8>) -> bool {
    inside.is_some() && text.get(at).copied() == inside && !text.get(at + 1).is_some_and(u8::is_ascii_alphanumeric)
}

fn ends_with(word: &str, end: &str) -> bool {
    word.len().checked_sub(end.len()).is_some_and(|start| word[start..].eq_ignore_ascii_case(end))
}

fn is_bracket(byte: u8) -> bool {
    matches!(byte, b'(' | b'[' | b'{')
}

/// Whether a quote with so many backslashes before it is one of strings that begin with `level` of them.
fn is_quote(backslashes: usize, level: usize) -> bool {
    if level == 0 { backslashes.is_multiple_of(2) } else { backslashes == level }
}

/// How a string begins.
struct Opening {
    /// Where what is in it begins.
    inner: usize,
    quote: u8,
    is_triple: bool,
    /// How many backslashes are before the quotes: a string in a string in a string has one, then three.
    level: usize,
}

impl Opening {
    fn read(text: &[u8], at: usize) -> Option<Self> {
        let rest = text.get(at..)?;
        let prefix = rest.iter().take(2).take_while(|byte| b"bBfFrRuU".contains(byte)).count();
        let level = rest[prefix..].iter().take_while(|&&byte| byte == b'\\').count();
        let rest = &rest[prefix + level..];
        let quote = *rest.first().filter(|byte| b"\"'`".contains(byte) && (level == 0 || level % 2 == 1))?;
        let is_triple = level == 0 && rest.starts_with(&[quote; 3]);
        Some(Opening { inner: at + prefix + level + if is_triple { 3 } else { 1 }, quote, is_triple, level })
    }

    /// Where what is in it ends. What was cut off goes on to the end of the line, or of the string it is in.
    fn end(&self, text: &[u8], inside: Option<u8>) -> usize {
        let mut backslashes = 0;
        for (at, &byte) in text.iter().enumerate().skip(self.inner) {
            let escapes = std::mem::take(&mut backslashes);
            let is_unescaped = if self.level == 0 { is_quote(escapes, 0) } else { escapes <= self.level };
            match byte {
                b'\\' => backslashes = escapes + 1,
                b'\n' if !self.is_triple => return at,
                _ if byte != self.quote && !is_end_of_string(text, at, inside) || !is_unescaped => {}
                _ if byte == self.quote && self.is_triple && !text[at..].starts_with(&[byte; 3]) => {}
                _ => return if self.level == 0 { at } else { at - escapes },
            }
        }
        text.len()
    }
}
