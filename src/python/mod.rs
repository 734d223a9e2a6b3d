//! The Python room: what can be known about a skill without running it.
//!
//! [`analyse`] reads a source once. It gives the [`Template`] (where run-time data is bound), the [`Finding`]s of the
//! policy, the [`Determinism`] verdict (whether `cache = auto` may keep its results) and the [`Symbols`] (what it defines
//! and reads). Nothing here runs Python, and nothing a source contains can make it take more than linear time or
//! overflow the host's stack.

mod assembled;
mod assigned;
mod determinism;
mod fallback;
mod judgement;
mod literal;
mod nesting;
mod policy;
pub mod rules;
mod scope;
mod symbols;
mod template;
mod text;
mod uses;

pub use determinism::{Determinism, shows_address};
pub use literal::literal;
pub use policy::{Finding, Policy, Severity};
pub use symbols::{Function, Input, Symbols};
pub use template::{Binding, Bindings, Names, Shadow, Slot, Template};
pub(crate) use text::{line, shown};

use ruff_python_ast::Stmt;
use ruff_python_parser::{Mode, ParseError, ParseErrorType, ParseOptions, parse_unchecked};
use ruff_source_file::LineIndex;
use ruff_text_size::{Ranged, TextSize};

/// What is wrong with a source, in the words of whoever refused it.
#[derive(Debug, Clone, PartialEq)]
pub struct SyntaxFault {
    /// The reason.
    pub message: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1, in characters.
    pub column: u32,
}

/// Everything that is known about a source.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    /// Where data is bound.
    pub template: Template,
    /// What the policy says, in the order of the lines.
    pub findings: Vec<Finding>,
    /// Whether equal inputs give equal answers, and why not.
    pub determinism: Determinism,
    /// What it defines, imports and reads.
    pub symbols: Symbols,
}

impl Analysis {
    /// The first finding that refuses the source where the policy is enforced.
    pub fn refusal(&self) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.severity == Severity::Error)
    }
}

/// Reads a source.
///
/// The grammar is the newest the parser knows; whether the interpreter at hand accepts it is the interpreter's own
/// verdict, asked for when a skill is put. Without a policy there are no findings but those about the slots.
///
/// # Errors
///
/// The source is not Python, declares another encoding than UTF-8, holds a NUL, or nests deeper than CPython allows.
pub fn analyse(source: &str, policy: Option<&Policy>) -> Result<Analysis, SyntaxFault> {
    read(source, |body, lines| {
        let template = Template::of(source, body, lines);
        Analysis {
            findings: policy::findings(source, body, lines, &template, policy),
            template,
            determinism: Determinism::of(body, lines),
            symbols: Symbols::of(source, body, lines),
        }
    })
}

impl Template {
    /// Reads a source and finds its slots; the rest of an [`analysis`](analyse) is left out.
    ///
    /// # Errors
    ///
    /// As [`analyse`].
    pub fn parse(source: &str) -> Result<Template, SyntaxFault> {
        read(source, |body, lines| Template::of(source, body, lines))
    }

    /// Finds the slots of a source that does not parse, by its tokens alone: complete top-level statements
    /// `NAME = {...}` before the first place where the tokens end to make sense.
    ///
    /// # Errors
    ///
    /// As [`analyse`] for encoding, NUL and nesting: those no tokenizer can be trusted with.
    pub fn parse_lexically(source: &str) -> Result<Template, SyntaxFault> {
        let lines = LineIndex::from_source_text(source);
        let depth = readable(source, &lines)?;
        nesting::with_stack_for(depth, || Ok(fallback::template(source, &lines)))
    }
}

/// Hands the tree of a source to `work`, on a stack that holds it.
fn read<T>(source: &str, work: impl FnOnce(&[Stmt], &LineIndex) -> T) -> Result<T, SyntaxFault> {
    let lines = LineIndex::from_source_text(source);
    let depth = readable(source, &lines)?;
    nesting::with_stack_for(depth, || {
        let parsed = parse_unchecked(source, ParseOptions::from(Mode::Module));
        if let Some(error) = parsed.errors().iter().find(|error| !is_mistaken(error, source)) {
            return Err(SyntaxFault::at(source, &lines, error.range().start(), error.error.to_string()));
        }
        let Some(module) = parsed.try_into_module() else {
            return Err(SyntaxFault::at(source, &lines, TextSize::default(), "this is not a module".to_owned()));
        };
        Ok(work(module.suite(), &lines))
    })
}

/// Whether the parser objects to what CPython takes: a statement behind `;` that begins with a *variable* named `match`.
/// Where it is the keyword after all, the interpreter's own `compile()` says so.
fn is_mistaken(error: &ParseError, source: &str) -> bool {
    error.error == ParseErrorType::SimpleAndCompoundStatementOnSameLine && source[error.range()].starts_with("match")
}

/// Whether a source can be read as text at all, and how deep it nests.
fn readable(source: &str, lines: &LineIndex) -> Result<usize, SyntaxFault> {
    let fault = |message: String, offset: usize| {
        SyntaxFault::at(source, lines, TextSize::try_from(offset).unwrap_or_default(), message)
    };
    if let Some(offset) = source.find('\0') {
        return Err(fault("source code cannot contain NUL".to_owned(), offset));
    }
    if let Some((encoding, offset)) = foreign_encoding(source) {
        return Err(fault(format!("the source declares the encoding `{encoding}`; it must be UTF-8"), offset));
    }
    nesting::depth(source).map_err(|excess| fault(excess.message.to_owned(), excess.offset))
}

impl SyntaxFault {
    fn at(source: &str, lines: &LineIndex, offset: TextSize, message: String) -> Self {
        let (line, column) = text::place(source, lines, offset);
        SyntaxFault { message, line, column }
    }
}

/// The encoding a PEP 263 cookie declares, if it is not UTF-8, and where it stands.
///
/// The rule is PEP 263's own: a comment on one of the first two lines (on the second only if the first is blank or a
/// comment) that matches `^[ \t\f]*#.*?coding[:=][ \t]*([-_.a-zA-Z0-9]+)`.
fn foreign_encoding(source: &str) -> Option<(&str, usize)> {
    let text = source.strip_prefix('\u{feff}').unwrap_or(source);
    for line in text.split(['\n', '\r']).take(2) {
        let content = line.trim_start_matches([' ', '\t', '\x0c']);
        if !content.starts_with('#') {
            if content.is_empty() {
                continue;
            }
            return None;
        }
        if let Some(encoding) = cookie(content) {
            let name = encoding.to_ascii_lowercase().replace('_', "-");
            let is_utf8 = name == "utf8" || name == "utf-8" || name.starts_with("utf-8-");
            return (!is_utf8).then(|| (encoding, encoding.as_ptr() as usize - source.as_ptr() as usize));
        }
    }
    None
}

fn cookie(comment: &str) -> Option<&str> {
    comment.match_indices("coding").find_map(|(at, word)| {
        let value = comment[at + word.len()..].strip_prefix([':', '='])?.trim_start_matches([' ', '\t']);
        let end = value.find(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c))).unwrap_or(value.len());
        (end > 0).then(|| &value[..end])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn analyse(source: &str) -> Result<Analysis, SyntaxFault> {
        super::analyse(source, Some(&Policy::default()))
    }

    #[test]
    fn faults_name_line_and_column() {
        let fault = analyse("x = 1\ny = (\n").expect_err("open bracket");
        assert_eq!(fault.line, 3, "{fault:?}");
        let fault = analyse("a = 1\n  b = 2\n").expect_err("indent");
        assert_eq!((fault.line, fault.column), (2, 1), "{fault:?}");
        let fault = analyse("a = 'ä' b\n").expect_err("two expressions");
        assert_eq!((fault.line, fault.column), (1, 9), "{fault:?}");
        assert_eq!(analyse("a = 1\0").expect_err("NUL").column, 6);
    }

    #[test]
    fn only_utf8_cookies_are_taken() {
        for good in [
            "# coding: utf-8\n",
            "#!/x\n# -*- coding: UTF_8 -*-\n",
            "\n\n# coding: latin-1\n",
            "x = 1\n# coding: koi8-r\n",
        ] {
            assert!(analyse(good).is_ok(), "{good}");
        }
        assert!(analyse("x = 1; match = 2; match.a(); match").is_ok(), "a variable named `match`");
        for bad in [
            "# coding: latin-1\n",
            "\u{feff}# vim: set fileencoding=cp1252 :\n",
            "\n# coding=ascii\n",
            "# encoding: \t\n# coding: x\n",
        ] {
            assert!(analyse(bad).expect_err(bad).message.contains("UTF-8"), "{bad}");
        }
    }

    #[test]
    fn no_source_overflows_the_stack() {
        for bomb in [
            "(".repeat(1_000_000),
            format!("x = {}1", "-".repeat(1_000_000)),
            format!("x = {}1", "not ".repeat(1_000_000)),
            format!("x = 1{}", " + 1".repeat(1_000_000)),
            format!("x = {}1", "lambda a, b: ".repeat(300_000)),
            format!("x = a{}", ".a".repeat(1_000_000)),
            format!("x = a{}", "()".repeat(1_000_000)),
            format!("x = {}1", "1 if 1 else ".repeat(300_000)),
            format!("x = {}1{}", "f'{".repeat(10_000), "}'".repeat(10_000)),
            (0..2000).map(|depth| format!("{}if 1:\n", " ".repeat(depth))).collect(),
            format!("x = {}1", "2**".repeat(1_000_000)),
            format!("match x:\n case {}1:\n  pass", "(".repeat(1_000_000)),
            format!("x = {}1{}", "[".repeat(100_000), "]".repeat(100_000)),
        ] {
            let fault = analyse(&bomb).expect_err("a bomb");
            assert!(fault.message.contains("nest") || fault.message.contains("indent"), "{fault:?}");
        }
        let fine = format!("x = [{}]\ny = 1{}\n", "-1, ".repeat(200_000), " + 1".repeat(2000));
        assert!(analyse(&fine).is_ok());
    }
}
