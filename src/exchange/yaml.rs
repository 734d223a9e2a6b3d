//! The little of YAML that front matter needs: texts, lists and maps, bounded, without anchors.

use saphyr_parser::{Event, Parser, ScalarStyle};

/// The deepest nesting of lists and maps.
const MAX_NESTING: usize = 16;

/// A node. What a plain scalar means (a number, a date, a truth) is nobody's question here, so it stays the text it is.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// A text; nothing, `~` and `null` are empty.
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    /// The text of a scalar, without white space around it.
    pub fn text(&self) -> Option<&str> {
        if let Node::Text(text) = self { Some(text.trim()) } else { None }
    }

    /// A list of texts, or one text divided at its commas.
    pub fn texts(&self) -> Option<Vec<String>> {
        let trimmed = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
        match self {
            Node::Text(text) => Some(text.split(',').filter_map(trimmed).collect()),
            Node::List(items) => items.iter().map(|item| item.text().map(str::to_owned)).collect::<Option<Vec<_>>>(),
            Node::Map(_) => None,
        }
    }

    /// What a note quotes of it.
    pub fn shown(&self) -> String {
        const LONGEST: usize = 80;
        let text = match self {
            Node::Text(text) => text.trim().to_owned(),
            Node::List(items) => items.iter().map(Node::shown).collect::<Vec<_>>().join(", "),
            Node::Map(members) => members.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>().join(", "),
        };
        match text.char_indices().nth(LONGEST) {
            Some((end, _)) => format!("{} ...", &text[..end]),
            None => text,
        }
    }
}

/// A collection that is being read.
enum Open {
    List(Vec<Node>),
    Map(Vec<(String, Node)>, Option<String>),
}

/// Reads a map of one document.
pub fn parse(text: &str) -> Result<Vec<(String, Node)>, String> {
    let mut open: Vec<Open> = Vec::new();
    let mut root = None;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| format!("{} (line {})", error.info(), error.marker().line()))?;
        let refuse = |what: &str| Err(format!("{what} (line {})", span.start.line()));
        let node = match event {
            Event::Alias(_) => return refuse("aliases are not read"),
            Event::Scalar(_, _, 1.., _) | Event::SequenceStart(1.., _) | Event::MappingStart(1.., _) => {
                return refuse("anchors are not read");
            }
            Event::Scalar(text, style, ..) => {
                let is_nothing = style == ScalarStyle::Plain && matches!(&*text, "~" | "null" | "Null" | "NULL");
                Node::Text(if is_nothing { String::new() } else { text.into_owned() })
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() == MAX_NESTING => {
                return refuse("nested too deep");
            }
            Event::SequenceStart(..) => {
                open.push(Open::List(Vec::new()));
                continue;
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(Vec::new(), None));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(items)) => Node::List(items),
                Some(Open::Map(members, _)) => Node::Map(members),
                None => return refuse("an end without a beginning"),
            },
            Event::DocumentStart(_) if root.is_some() => return refuse("a second document"),
            _ => continue,
        };
        match open.last_mut() {
            None => root = Some(node),
            Some(Open::List(items)) => items.push(node),
            Some(Open::Map(members, key)) => match (key.take(), node) {
                (Some(key), node) => members.push((key, node)),
                (None, Node::Text(name)) if members.iter().any(|(known, _)| *known == name) => {
                    return refuse(&format!("`{name}` is there twice"));
                }
                (None, Node::Text(name)) => *key = Some(name),
                (None, _) => return refuse("a key that is no text"),
            },
        }
    }
    match root {
        Some(Node::Map(members)) => Ok(members),
        None | Some(Node::Text(_)) if text.trim().is_empty() => Ok(Vec::new()),
        _ => Err("it is no map of names to values".to_owned()),
    }
}

/// The lines `name: text` of what is not YAML because a text has a colon in it that should be quoted, which is what people
/// write. Nothing unless every line is one.
pub fn plain_lines(text: &str) -> Option<Vec<(String, Node)>> {
    let mut members: Vec<(String, Node)> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let (name, rest) = line.split_once(':')?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let rest = rest.trim();
        let is_block = rest.starts_with(['|', '>', '[', '{', '&', '*', '"', '\'']);
        if name.is_empty() || !name.chars().all(is_name) || is_block || members.iter().any(|(known, _)| known == name) {
            return None;
        }
        members.push((name.to_owned(), Node::Text(rest.to_owned())));
    }
    Some(members)
}

/// Appends a text as a scalar on one line that every reader of YAML gives back equal.
pub fn write_text(text: &str, out: &mut String) {
    use std::fmt::Write as _;
    let is_plain = |c: char| c == ' ' || c.is_ascii_graphic() || (!c.is_ascii() && c.is_alphanumeric());
    if text.chars().all(is_plain) {
        out.push('\'');
        out.push_str(&text.replace('\'', "''"));
        out.push('\'');
        return;
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            _ if is_plain(c) => out.push(c),
            _ if u32::from(c) <= 0xffff => drop(write!(out, "\\u{:04X}", u32::from(c))),
            _ => drop(write!(out, "\\U{:08X}", u32::from(c))),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(text: &str) -> Node {
        Node::Text(text.to_owned())
    }

    #[test]
    fn front_matter_as_people_write_it() {
        let read = parse(
            "name: pdf\ndescription: >\n  Reads\n  PDFs.\nversion: 1.10\nempty:\ntags: [a, b]\nallowed-tools:\n  - Read\nmetadata:\n  author: \"x: y\"\n",
        );
        let expected = [
            ("name", text("pdf")),
            ("description", text("Reads PDFs.\n")),
            ("version", text("1.10")),
            ("empty", text("")),
            ("tags", Node::List(vec![text("a"), text("b")])),
            ("allowed-tools", Node::List(vec![text("Read")])),
            ("metadata", Node::Map(vec![("author".to_owned(), text("x: y"))])),
        ];
        assert_eq!(read, Ok(expected.map(|(key, node)| (key.to_owned(), node)).to_vec()));
        assert_eq!(parse(" \n# nothing\n"), Err("it is no map of names to values".to_owned()));
        assert_eq!(parse(""), Ok(vec![]));
    }

    #[test]
    fn what_is_not_read_is_named_with_its_line() {
        for (source, reason) in [
            ("a: &x 1\nb: *x", "anchors are not read (line 1)"),
            ("b: *x", "line 1"),
            ("a: 1\na: 2", "`a` is there twice (line 2)"),
            ("[1]: 2", "a key that is no text (line 1)"),
            ("- 1", "no map"),
            ("a: b: c", "line 1"),
            ("a: 1\n---\nb: 2", "a second document (line 2)"),
            (&format!("a: {}1{}", "[".repeat(20), "]".repeat(20)), "nested too deep (line 1)"),
            (&"[".repeat(60_000), "line 1"),
        ] {
            let said = parse(source).expect_err(source);
            assert!(said.contains(reason), "{reason}: {said}");
        }
    }

    #[test]
    fn unquoted_colons_are_forgiven_line_by_line() {
        let read = plain_lines("name: x\ndescription: Use when: asked\n");
        let expected = [("name", text("x")), ("description", text("Use when: asked"))];
        assert_eq!(read, Some(expected.map(|(key, node)| (key.to_owned(), node)).to_vec()));
        for other in ["a: 1\n  b: 2", "a: |\n", "a", "a: 1\na: 2"] {
            assert_eq!(plain_lines(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_equal(given in any::<String>()) {
            let mut written = "a: ".to_owned();
            write_text(&given, &mut written);
            prop_assert!(!written.contains('\n'));
            prop_assert_eq!(parse(&written), Ok(vec![("a".to_owned(), Node::Text(given))]), "{}", written);
        }

        #[test]
        fn nothing_makes_it_panic(given in "[-:a*&!|>'\"\\[\\]{}?#,%@ \n\t]{0,60}") {
            let _ = parse(&given);
        }
    }
}
