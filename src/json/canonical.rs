//! From JSON text to canonical text in one pass, without a tree.
//!
//! What is kept of a run is found by the canonical text of its data, so every run needs that text and a run that is
//! answered from memory needs nothing else of its data. This reader takes exactly what [`Value::parse`] takes and
//! gives exactly what [`Value::to_text`] then gives, in a fraction of the time. It has no messages: where it gives
//! nothing, the exact reader is asked for the reason and its path.
//!
//! Most texts are canonical in most places, so what is copied is the stretch between two places that are not: white
//! space, an escape that need not be one, a number in another spelling.
//!
//! [`Value::parse`]: super::Value::parse
//! [`Value::to_text`]: super::Value::to_text

use std::fmt::Write as _;
use std::ops::Range;

use super::{MAX_DEPTH, write_character};

/// The canonical text of a run's data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CanonicalData {
    /// The canonical texts of the members, one after the other.
    pub text: String,
    /// Where the inputs stand in it; nothing if the data has none.
    pub inputs: Option<Range<usize>>,
    /// Where the context stands in it; nothing if the data has none.
    pub context: Option<Range<usize>>,
}

impl CanonicalData {
    /// The canonical text of the inputs.
    pub fn inputs(&self) -> Option<&str> {
        self.text.get(self.inputs.clone()?)
    }

    /// The canonical text of the context.
    pub fn context(&self) -> Option<&str> {
        self.text.get(self.context.clone()?)
    }
}

/// The canonical text of one JSON value; nothing if [`Value::parse`](super::Value::parse) refuses it.
pub fn canonical(text: &str) -> Option<String> {
    let mut reader = Reader::new(text);
    reader.next()?;
    reader.value(0)?;
    reader.copy_until(reader.at);
    reader.next().is_none().then_some(reader.out)
}

/// The canonical text of a run's data; nothing if [`Data::parse`](crate::Data::parse) refuses it.
pub fn canonical_data(text: &str) -> Option<CanonicalData> {
    if text.trim_start().is_empty() {
        return Some(CanonicalData::default());
    }
    let mut reader = Reader::new(text);
    let [inputs, context] = reader.envelope()?;
    if reader.next().is_some() {
        return None;
    }
    // What followed the last value is the envelope's.
    let end = [&inputs, &context].into_iter().flatten().map(|range| range.end).max();
    reader.out.truncate(end.unwrap_or(0));
    Some(CanonicalData { text: reader.out, inputs, context })
}

/// The name of a member, in canonical spelling: two names are the same exactly when they are spelled the same.
struct Name {
    /// Part of what tells it from others: different names seldom have the same.
    print: u64,
    /// Where it stands.
    start: usize,
    end: usize,
    /// In what was written; otherwise in the text, where it was canonical already.
    is_written: bool,
}

/// Reads a text from `at` on; what stands from `copied` to `at` is canonical and not yet written.
struct Reader<'t> {
    text: &'t str,
    at: usize,
    copied: usize,
    out: String,
    /// The names of all objects that are open, the innermost object's last.
    names: Vec<Name>,
}

impl<'t> Reader<'t> {
    fn new(text: &'t str) -> Self {
        let out = String::with_capacity(text.len());
        Reader { text, at: 0, copied: 0, out, names: Vec::new() }
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    /// Writes what is canonical up to there.
    fn copy_until(&mut self, end: usize) {
        self.out.push_str(&self.text[self.copied..end]);
        self.copied = end;
    }

    /// The first byte that is not white space, which is left out.
    #[inline]
    fn next(&mut self) -> Option<u8> {
        match self.byte(self.at)? {
            b' ' | b'\n' | b'\t' | b'\r' => self.skip_space(),
            byte => Some(byte),
        }
    }

    fn skip_space(&mut self) -> Option<u8> {
        self.copy_until(self.at);
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = self.byte(self.at) {
            self.at += 1;
        }
        self.copied = self.at;
        self.byte(self.at)
    }

    /// The data of a run: where its inputs and its context are written, one after the other. Between them and after
    /// them there may be remains of the envelope for a while.
    fn envelope(&mut self) -> Option<[Option<Range<usize>>; 2]> {
        let mut members = [None, None];
        let mut written = 0;
        if self.next()? != b'{' {
            return None;
        }
        self.at += 1;
        if self.next()? == b'}' {
            self.at += 1;
            return Some(members);
        }
        loop {
            let name = self.name()?;
            let member = match self.spelling(&name) {
                b"inputs" => &mut members[0],
                b"context" => &mut members[1],
                _ => return None,
            };
            if member.is_some() || self.byte(self.at) != Some(b'{') {
                return None;
            }
            self.out.truncate(written);
            self.copied = self.at;
            self.value(1)?;
            self.copy_until(self.at);
            *member = Some(written..self.out.len());
            written = self.out.len();
            if !self.goes_on(b'}')? {
                return Some(members);
            }
        }
    }

    /// A value that begins here, inside that many arrays and objects.
    fn value(&mut self, depth: usize) -> Option<()> {
        match self.byte(self.at)? {
            b'"' => self.string().map(|_| ()),
            b'-' | b'0'..=b'9' => self.number(),
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => None,
        }
    }

    fn word(&mut self, word: &str) -> Option<()> {
        let end = self.at + word.len();
        let is_there = self.text.as_bytes().get(self.at..end) == Some(word.as_bytes());
        self.at = end;
        is_there.then_some(())
    }

    /// After an item or a member: whether a comma follows, not the end.
    #[inline]
    fn goes_on(&mut self, end: u8) -> Option<bool> {
        let byte = self.next()?;
        self.at += 1;
        (byte == b',' || byte == end).then_some(byte == b',')
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        if depth == MAX_DEPTH {
            return None;
        }
        self.at += 1;
        if self.next()? == b']' {
            self.at += 1;
            return Some(());
        }
        loop {
            self.value(depth + 1)?;
            if !self.goes_on(b']')? {
                return Some(());
            }
            self.next()?;
        }
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        self.at += 1;
        if self.next()? == b'}' {
            self.at += 1;
            return Some(());
        }
        // As in the exact reader, an object without members is no level of its own.
        if depth == MAX_DEPTH {
            return None;
        }
        let earlier = self.names.len();
        loop {
            let name = self.name()?;
            self.names.push(name);
            self.value(depth + 1)?;
            if !self.goes_on(b'}')? {
                return self.close(earlier);
            }
        }
    }

    /// A member's name and the colon, up to the value.
    fn name(&mut self) -> Option<Name> {
        if self.next()? != b'"' {
            return None;
        }
        let name = self.string()?;
        if self.next()? != b':' {
            return None;
        }
        self.at += 1;
        self.next()?;
        Some(name)
    }

    /// Ends an object whose names begin there: no two of them may be the same.
    fn close(&mut self, earlier: usize) -> Option<()> {
        let mut names = std::mem::take(&mut self.names);
        let are_distinct = self.are_distinct(names.get_mut(earlier..)?);
        names.truncate(earlier);
        self.names = names;
        are_distinct.then_some(())
    }

    fn are_distinct(&self, names: &mut [Name]) -> bool {
        const COMPARED_IN_PAIRS: usize = 16;
        if names.len() < 2 {
            return true;
        }
        names.iter_mut().for_each(|name| name.print = fingerprint(self.spelling(name)));
        let is_same = |a: &Name, b: &Name| a.print == b.print && self.spelling(a) == self.spelling(b);
        if names.len() <= COMPARED_IN_PAIRS {
            return names
                .iter()
                .enumerate()
                .all(|(index, name)| !names[..index].iter().any(|other| is_same(name, other)));
        }
        // Sorting brings the same names together, and no choice of names makes it slow as a hash table can be made.
        names.sort_unstable_by(|a, b| a.print.cmp(&b.print).then_with(|| self.spelling(a).cmp(self.spelling(b))));
        !names.windows(2).any(|pair| is_same(&pair[0], &pair[1]))
    }

    fn spelling(&self, name: &Name) -> &[u8] {
        let text = if name.is_written { &self.out } else { self.text };
        text.as_bytes().get(name.start..name.end).unwrap_or_default()
    }

    /// A string that begins here, and how it is spelled between its quotes.
    fn string(&mut self) -> Option<Name> {
        let start = self.at + 1;
        let mut at = start;
        let mut written_from = None;
        loop {
            at = end_of_plain(self.text.as_bytes(), at);
            match self.byte(at)? {
                b'"' => break,
                b'\\' => {}
                _ => return None,
            }
            if let b'"' | b'\\' | b'n' | b'r' | b't' = self.byte(at + 1)? {
                at += 2;
                continue;
            }
            if written_from.is_none() {
                self.copy_until(start);
                written_from = Some(self.out.len());
            }
            self.copy_until(at);
            let (character, end) = unescape(self.text.as_bytes(), at + 1)?;
            write_character(character, &mut self.out);
            self.copied = end;
            at = end;
        }
        self.at = at + 1;
        let Some(written) = written_from else {
            return Some(Name { print: 0, start, end: at, is_written: false });
        };
        self.copy_until(at);
        Some(Name { print: 0, start: written, end: self.out.len(), is_written: true })
    }

    fn number(&mut self) -> Option<()> {
        let start = self.at;
        let whole = start + usize::from(self.byte(start) == Some(b'-'));
        let point = self.end_of_digits(whole);
        let leads_with_zero = self.byte(whole) == Some(b'0');
        if point == whole || (leads_with_zero && point > whole + 1) {
            return None;
        }
        self.at = point;
        match self.byte(point) {
            Some(b'.') => self.decimal(start, whole, point),
            Some(b'e' | b'E') => {
                self.exponent()?;
                self.float(start)
            }
            // `-0` is the one integer that has two spellings.
            _ if leads_with_zero && whole > start => {
                self.copy_until(start);
                self.copied = whole;
                Some(())
            }
            _ => Some(()),
        }
    }

    /// A number whose digits begin at `whole` and have a point.
    #[inline]
    fn decimal(&mut self, start: usize, whole: usize, point: usize) -> Option<()> {
        let end = self.end_of_digits(point + 1);
        self.at = end;
        if end == point + 1 {
            return None;
        }
        if let Some(b'e' | b'E') = self.byte(end) {
            self.exponent()?;
            return self.float(start);
        }
        // Most decimals have few digits and no zeros at their ends; the others are looked at more closely.
        let is_zero = |at: usize| self.byte(at) == Some(b'0');
        let ends_in_zero = is_zero(end - 1) && end > point + 2;
        if end - whole <= APART + 1 && !ends_in_zero && !(is_zero(whole) && is_zero(point + 1)) {
            return Some(());
        }
        let Some(length) = plain_decimal(self.text.get(whole..end)?, point - whole) else {
            return self.float(start);
        };
        if whole + length < end {
            self.copy_until(whole + length);
            self.copied = end;
        }
        Some(())
    }

    /// Any float, by way of its value.
    fn float(&mut self, start: usize) -> Option<()> {
        let float: f64 = self.text.get(start..self.at)?.parse().ok()?;
        if !float.is_finite() {
            return None;
        }
        self.copy_until(start);
        self.copied = self.at;
        // The spelling of `Number::float`.
        write!(self.out, "{float:?}").ok()
    }

    fn exponent(&mut self) -> Option<()> {
        let sign = self.at + 1;
        let digits = sign + usize::from(matches!(self.byte(sign), Some(b'+' | b'-')));
        self.at = self.end_of_digits(digits);
        (self.at > digits).then_some(())
    }

    fn end_of_digits(&self, mut at: usize) -> usize {
        while let Some(b'0'..=b'9') = self.byte(at) {
            at += 1;
        }
        at
    }
}

/// Decimals of so many significant digits lie farther apart than floats do: no two of them are read as the same `f64`.
const APART: usize = 15;

/// How much of a decimal without a sign is its canonical spelling, if that is the decimal itself without the zeros at
/// its end. From 1e-4 up to 1e16, `{:?}` prints a float without an exponent.
///
/// No shorter decimal is read as the same float as one of at most [`APART`] digits, so the shortest spelling that reads
/// back equal is this one.
fn plain_decimal(text: &str, point: usize) -> Option<usize> {
    const MOST: usize = 17;
    let fraction = text.as_bytes().get(point + 1..)?;
    let zeros_at_end = fraction.iter().rev().take_while(|digit| **digit == b'0').count();
    let places = (fraction.len() - zeros_at_end).max(1);
    let mut significant = point + places;
    if text.starts_with('0') {
        let zeros = fraction.iter().take_while(|digit| **digit == b'0').count();
        if zeros > 3 && zeros < fraction.len() {
            return None;
        }
        significant -= 1 + zeros.min(places);
    }
    let end = point + 1 + places;
    let is_canonical = significant <= APART || (significant <= MOST && is_shortest(text.get(..end)?, places)?);
    is_canonical.then_some(end)
}

/// Whether a decimal of at most 17 significant digits and so many places is the shortest that is read as its float, and
/// of those the nearest to it; `false` or nothing where that is not certain.
///
/// The float is `mantissa / unit`, exactly, and is read from what is at most half of `1 / unit` away. All is counted
/// in `1 / (unit * scale)`: there the decimal is `digits * unit`, and shorter ones are multiples of `10 * unit`.
fn is_shortest(text: &str, places: usize) -> Option<bool> {
    let bits = text.parse::<f64>().ok()?.to_bits();
    let unit = 1_u128 << 1075_u64.checked_sub(bits >> 52).filter(|power| *power < 68)?;
    let mantissa = (bits & ((1 << 52) - 1)) | 1 << 52;
    let scale = u128::from(10_u64.checked_pow(u32::try_from(places).ok()?)?);
    // Decimals of so many places lie farther apart than floats do here.
    if scale < unit {
        return Some(true);
    }
    let digits = text.bytes().filter(u8::is_ascii_digit).fold(0, |digits, byte| digits * 10 + u128::from(byte - b'0'));
    let float = u128::from(mantissa) * scale;
    let distance = |decimal: u128| 2 * (decimal * unit).abs_diff(float);
    let shorter = digits - digits % 10;
    Some(distance(digits) < unit && distance(shorter) > scale && distance(shorter + 10) > scale)
}

/// Where the characters end that stand for themselves in a string: at a quote, a backslash or a control character.
fn end_of_plain(bytes: &[u8], from: usize) -> usize {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let mut rest = bytes.get(from..).unwrap_or_default();
    while let Some((chunk, after)) = rest.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        // The lowest mark is true; one above it may come from a borrow.
        let is = |byte: u8| zero(word ^ (ONES * u64::from(byte)));
        let marks = control | is(b'"') | is(b'\\');
        if marks != 0 {
            return bytes.len() - rest.len() + (marks.trailing_zeros() / 8) as usize;
        }
        rest = after;
    }
    let plain = rest.iter().take_while(|byte| !matches!(byte, 0..0x20 | b'"' | b'\\')).count();
    bytes.len() - rest.len() + plain
}

/// The character of an escape, and where the escape ends; `at` is behind its backslash.
fn unescape(bytes: &[u8], at: usize) -> Option<(char, usize)> {
    match bytes.get(at)? {
        b'/' => Some(('/', at + 1)),
        b'b' => Some(('\u{8}', at + 1)),
        b'f' => Some(('\u{c}', at + 1)),
        b'u' => {
            let unit = hex(bytes, at + 1)?;
            let end = at + 5;
            if !(0xd800..0xdc00).contains(&unit) {
                return Some((char::from_u32(unit)?, end));
            }
            let low = bytes.get(end..)?.strip_prefix(b"\\u").and_then(|_| hex(bytes, end + 2))?;
            let low = low.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
            Some((char::from_u32(0x1_0000 + ((unit - 0xd800) << 10) + low)?, end + 6))
        }
        _ => None,
    }
}

fn hex(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
}

/// A part of a name's identity that is quick to compare.
fn fingerprint(name: &[u8]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |print: u64, word: u64| (print.rotate_left(25) ^ word).wrapping_mul(ODD);
    let (chunks, rest) = name.as_chunks::<8>();
    let print = chunks.iter().fold(name.len() as u64, |print, chunk| mix(print, u64::from_le_bytes(*chunk)));
    mix(print, rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests;
