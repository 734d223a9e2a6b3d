//! Places in a source: lines and columns from offsets, and a line as it is shown to people.

use ruff_source_file::LineIndex;
use ruff_text_size::TextSize;

/// Line and column of an offset, both from 1; the column counts characters.
pub(super) fn place(source: &str, lines: &LineIndex, offset: TextSize) -> (u32, u32) {
    let place = lines.line_column(offset, source);
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    (count(place.line.get()), count(place.column.get()))
}

/// The line on which `offset` stands, from 1.
pub(super) fn line_at(lines: &LineIndex, offset: TextSize) -> u32 {
    u32::try_from(lines.line_index(offset).get()).unwrap_or(u32::MAX)
}

/// The line on which `offset` stands.
pub(super) fn line_of<'s>(source: &'s str, lines: &LineIndex, offset: TextSize) -> &'s str {
    &source[lines.line_range(lines.line_index(offset), source)]
}

/// A line by its number, from 1. Reads the source up to it: for sources that were not indexed.
pub fn line(source: &str, line: u32) -> &str {
    let mut rest = source.strip_prefix('\u{feff}').unwrap_or(source);
    for _ in 1..line {
        let Some(end) = rest.find(['\n', '\r']) else { return "" };
        rest = rest[end..].strip_prefix("\r\n").unwrap_or(&rest[end + 1..]);
    }
    rest.split(['\n', '\r']).next().unwrap_or_default()
}

/// A line as it is shown: without the white space around it and control characters, cut around the column if it is long.
pub fn shown(line: &str, column: u32) -> String {
    const SHOWN: usize = 120;
    let skipped = usize::try_from(column).unwrap_or(0).saturating_sub(SHOWN * 2 / 3);
    let cut: String = line.chars().skip(skipped).take(SHOWN).filter(|c| !c.is_control() && *c != '\u{feff}').collect();
    cut.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_shown_as_it_stands() {
        assert_eq!(shown(line("a\r\n  b = 1 \rc", 2), 1), "b = 1");
        assert_eq!(line("\u{feff}a", 1), "a");
        assert_eq!(line("a", 7), "");
        let long = format!("{}HERE{}", "x".repeat(10_000), "y".repeat(10_000));
        assert!(shown(&long, 10_001).contains("HERE"));
        assert!(shown(&long, 10_001).len() <= 120);
    }
}
