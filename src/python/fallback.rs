//! Slots in a source that does not parse, found by tokens alone.
//!
//! Some hosts keep skills for other dialects (Python 2, templates not yet filled) and still want data in them. Pasting by
//! regular expression, as the reference does, can turn data into code. Here a slot is a complete statement: at the start
//! of a line without indentation, outside every bracket, `NAME = {...}` or `NAME: T = {...}` whose brackets close as they
//! opened and which nothing but the end of the statement follows. What is replaced is that dict; what replaces it is a
//! literal. Scanning stops where the tokens stop making sense, since from there on a quote may be open. A mention of the
//! name before, outside a `def`, is a use, and then it is no slot.

use ruff_python_ast::token::{Token, TokenKind};
use ruff_python_parser::{Mode, ParseOptions, parse_unchecked};
use ruff_source_file::LineIndex;
use ruff_text_size::{Ranged, TextRange};

use super::template::{Names, Template};

pub(super) fn template(source: &str, lines: &LineIndex) -> Template {
    let parsed = parse_unchecked(source, ParseOptions::from(Mode::Module));
    let tokens: Vec<Token> = parsed
        .tokens()
        .iter()
        .take_while(|token| token.kind() != TokenKind::Unknown)
        .filter(|token| !matches!(token.kind(), TokenKind::Comment | TokenKind::NonLogicalNewline))
        .copied()
        .collect();
    let mut scan = Scan { source, tokens: &tokens, dicts: [None; 3], used: [false; 3] };
    scan.module();
    Template::of_ranges(source, scan.dicts, lines)
}

struct Scan<'s> {
    source: &'s str,
    tokens: &'s [Token],
    dicts: [Option<TextRange>; 3],
    used: [bool; 3],
}

impl Scan<'_> {
    fn kind(&self, at: usize) -> Option<TokenKind> {
        self.tokens.get(at).map(|token| token.kind())
    }

    /// One logical statement after the other.
    fn module(&mut self) {
        let (mut at, mut indents) = (0, 0usize);
        while let Some(kind) = self.kind(at) {
            match kind {
                TokenKind::Indent => indents += 1,
                TokenKind::Dedent => indents = indents.saturating_sub(1),
                TokenKind::Newline | TokenKind::Semi => {}
                TokenKind::Def | TokenKind::Async if indents == 0 => {
                    at = self.after_definition(at);
                    continue;
                }
                _ => {
                    at = self.statement(at, indents == 0);
                    continue;
                }
            }
            at += 1;
        }
    }

    /// Skips a `def` and its block: what it mentions is not used yet.
    fn after_definition(&self, mut at: usize) -> usize {
        let mut indents = 0usize;
        let mut is_headed = false;
        while let Some(kind) = self.kind(at) {
            at += 1;
            match kind {
                TokenKind::Indent => indents += 1,
                TokenKind::Dedent => indents = indents.saturating_sub(1),
                TokenKind::Newline if !is_headed => is_headed = true,
                _ => continue,
            }
            if is_headed && indents == 0 && self.kind(at) != Some(TokenKind::Indent) {
                break;
            }
        }
        at
    }

    /// Looks at one statement; says where the next begins.
    fn statement(&mut self, start: usize, is_top_level: bool) -> usize {
        let end = self.end_of_statement(start);
        let slot = is_top_level.then(|| self.slot(start, end)).flatten();
        if let Some((name, dict)) = slot
            && !self.mentions(start + 1..end, name)
            && !self.used[name]
            && self.dicts[name].is_none()
        {
            self.dicts[name] = Some(dict);
            return end;
        }
        for name in 0..Names::ALL.len() {
            self.used[name] |= self.mentions(start..end, name);
        }
        end
    }

    /// The first line end or semicolon outside every bracket, or the end of everything.
    fn end_of_statement(&self, start: usize) -> usize {
        let mut depth = 0usize;
        (start..self.tokens.len())
            .find(|at| {
                let kind = self.tokens[*at].kind();
                depth = if opens(kind) { depth + 1 } else { depth.saturating_sub(usize::from(closes(kind))) };
                depth == 0 && matches!(kind, TokenKind::Newline | TokenKind::Semi)
            })
            .unwrap_or(self.tokens.len())
    }

    /// The dict of `NAME = {...}` or `NAME: T = {...}` that is the whole statement.
    fn slot(&self, start: usize, end: usize) -> Option<(usize, TextRange)> {
        let name = self.name(start)?;
        let equal = match self.kind(start + 1)? {
            TokenKind::Equal => start + 1,
            TokenKind::Colon => (start + 2..end).find(|at| self.kind(*at) == Some(TokenKind::Equal))?,
            _ => return None,
        };
        let is_complete = matches!(self.kind(end), None | Some(TokenKind::Newline | TokenKind::Semi));
        let (open, close) = (equal + 1, end.checked_sub(1)?);
        let is_braced = open < close
            && self.kind(open) == Some(TokenKind::Lbrace)
            && self.kind(close) == Some(TokenKind::Rbrace)
            && is_complete
            && self.is_dict(open, close);
        is_braced.then(|| (name, TextRange::new(self.tokens[open].start(), self.tokens[close].end())))
    }

    /// Whether these braces are one pair, balanced inside, and hold members rather than items or a comprehension.
    fn is_dict(&self, open: usize, close: usize) -> bool {
        let mut expected = Vec::new();
        let mut has_members = close == open + 1;
        for at in open..=close {
            let kind = self.tokens[at].kind();
            match kind {
                TokenKind::Lbrace => expected.push(TokenKind::Rbrace),
                TokenKind::Lpar => expected.push(TokenKind::Rpar),
                TokenKind::Lsqb => expected.push(TokenKind::Rsqb),
                TokenKind::Rbrace | TokenKind::Rpar | TokenKind::Rsqb if expected.pop() != Some(kind) => return false,
                TokenKind::Colon | TokenKind::DoubleStar if expected.len() == 1 => has_members = true,
                TokenKind::For if expected.len() == 1 => return false,
                _ => {}
            }
            if expected.is_empty() && at < close {
                return false;
            }
        }
        expected.is_empty() && has_members
    }

    fn name(&self, at: usize) -> Option<usize> {
        let token = self.tokens.get(at).filter(|token| token.kind() == TokenKind::Name)?;
        Names::index(&self.source[token.range()])
    }

    fn mentions(&self, range: std::ops::Range<usize>, name: usize) -> bool {
        range.into_iter().any(|at| self.name(at) == Some(name))
    }
}

fn opens(kind: TokenKind) -> bool {
    matches!(kind, TokenKind::Lpar | TokenKind::Lsqb | TokenKind::Lbrace)
}

fn closes(kind: TokenKind) -> bool {
    matches!(kind, TokenKind::Rpar | TokenKind::Rsqb | TokenKind::Rbrace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Value;

    fn filled(source: &str) -> String {
        let value = Value::parse(r#"{"a":1}"#).expect("json");
        Template::parse_lexically(source).expect("tokens").inject([Some(&value), None, None])
    }

    #[test]
    fn complete_top_level_statements_are_filled() {
        for (source, expected) in [
            ("inputs = {}\nprint inputs['a']\n", "inputs = {\"a\": 1}\nprint inputs['a']\n"),
            ("inputs: dict = {'b': [1, {2: 3}]}  # c\nprint 1", "inputs: dict = {\"a\": 1}  # c\nprint 1"),
            ("x = 1; inputs = {\n 'b': 2\n}\nprint 1", "x = 1; inputs = {\"a\": 1\n\n}\nprint 1"),
            ("def f(inputs):\n  print inputs\ninputs = {}\n", "def f(inputs):\n  print inputs\ninputs = {\"a\": 1}\n"),
            ("def f(inputs): print inputs\ninputs = {}\n", "def f(inputs): print inputs\ninputs = {\"a\": 1}\n"),
            ("print 1\ninputs = {}", "print 1\ninputs = {\"a\": 1}"),
        ] {
            assert_eq!(filled(source), expected, "{source}");
        }
    }

    #[test]
    fn nothing_else_is() {
        for source in [
            "print inputs\ninputs = {}\n",
            "if x:\n  inputs = {}\nprint 1\n",
            "x = '''\ninputs = {}\n",
            "f(\ninputs = {}\n",
            "inputs = {} + print 1\n",
            "inputs = {1, 2}\nprint 1",
            "inputs = {k: 1 for k in x}\nprint 1",
            "inputs = {'a': [1, 2)}\nprint 1",
            "inputs = {'a': (1}\n",
            "inputs = {}.x\nprint 1",
            "inputs = x = {}\nprint 1",
            "inputs = {'a': inputs}\nprint 1",
            "# inputs = {}\nprint 1",
            "s = 'inputs = {}'\nprint 1",
            "s = f'{inputs}'\ninputs = {}\nprint 1",
            "x = $\ninputs = {}\n",
        ] {
            assert_eq!(filled(source), source);
        }
    }
}
