//! How deep a source nests, measured before anything recursive touches it.
//!
//! The parser, the walks over its tree and the dropping of that tree all recurse, so a megabyte of `-` would overflow the
//! host's stack. One pass over the tokens bounds the depth of the tree from above. Inside one pair of brackets an
//! expression is a tree of operators by precedence: a run of operators of one precedence is as deep as it is long, a
//! looser operator ends the runs of the tighter ones, and every level can hang below every other, so that the longest runs
//! of all precedences together bound the depth. What stands in inner brackets hangs below all of that. A separator (a comma,
//! a semicolon, the end of a line) starts again. A source beyond CPython's own bounds is refused in CPython's own words; the
//! rest gets a stack that fits.

use ruff_python_ast::token::TokenKind;
use ruff_python_parser::{Mode, lexer};

/// CPython's bound on open brackets (`MAXLEVEL` in Parser/lexer/state.h).
const MAX_BRACKETS: usize = 200;
/// CPython's bound on indentation (`MAXINDENT` in the same place).
const MAX_INDENTS: usize = 100;
/// CPython 3.11 gives up on expressions about 3000 deep (its recursion limit times three); later versions earlier.
const MAX_DEPTH: usize = 3000;
/// What the walks need at most for one level, in an unoptimised build, with a margin.
const STACK_PER_LEVEL: usize = 32 << 10;
/// Sources nested less deep run on the stack there is.
const SHALLOW: usize = 40;

/// Where a source nests too deep, and which bound it breaks.
#[derive(Debug)]
pub(super) struct Excess {
    pub message: &'static str,
    pub offset: usize,
}

/// An upper bound of the depth of the syntax tree.
pub(super) fn depth(source: &str) -> Result<usize, Excess> {
    bound(source).map_err(|message| Excess { message, offset: breaking_point(source) })
}

fn bound(source: &str) -> Result<usize, &'static str> {
    let mut lexer = lexer::lex(source, Mode::Module);
    let mut scan = Scan { innermost: Level::default(), around: Vec::new(), outer: 0, deepest: 0, was_operand: false };
    let mut indents = 0usize;
    loop {
        match lexer.next_token() {
            TokenKind::EndOfFile => return Ok(scan.deepest.max(scan.depth()) + MAX_INDENTS),
            TokenKind::Indent => indents += 1,
            TokenKind::Dedent => indents = indents.saturating_sub(1),
            kind => scan.step(kind),
        }
        if indents > MAX_INDENTS {
            return Err("too many levels of indentation");
        }
        if scan.around.len() > MAX_BRACKETS {
            return Err("too many nested brackets");
        }
        if scan.depth() > MAX_DEPTH {
            return Err("expressions nested too deep");
        }
    }
}

/// Where the shortest beginning of the source that breaks a bound ends. The lexer keeps its position to itself.
fn breaking_point(source: &str) -> usize {
    let breaks = |end: usize| bound(&source[..source.floor_char_boundary(end)]).is_err();
    let mut high = 64.min(source.len());
    while high < source.len() && !breaks(high) {
        high = (high * 2).min(source.len());
    }
    let mut low = high / 2;
    while low < high {
        let middle = low.midpoint(high);
        if breaks(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    source.floor_char_boundary(low.saturating_sub(1))
}

/// Operators that deepen a tree, from the loosest to the tightest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Precedence {
    /// `lambda`, `yield`, `:=`, `if` and `else`, the parts of a comprehension.
    Clause,
    Not,
    BitOr,
    BitXor,
    BitAnd,
    Shift,
    Sum,
    Product,
    Sign,
    Power,
    Await,
    /// Attributes, calls and subscripts.
    Postfix,
}

const PRECEDENCES: usize = Precedence::Postfix as usize + 1;
/// `or`, `and` and comparisons are flat, however long: each adds one level.
const FLAT_LEVELS: usize = 3;

/// One open bracket, or the statement itself.
#[derive(Debug, Default)]
struct Level {
    /// The runs that go on.
    runs: [usize; PRECEDENCES],
    /// The longest runs since the last separator.
    longest: [usize; PRECEDENCES],
    /// Their sum.
    total: usize,
    /// The depth of what stood in brackets since the last separator.
    inner: usize,
    /// The deepest part before the last separator.
    deepest: usize,
    /// What opened the bracket.
    opened_by: OpenedBy,
    /// `lambda`s whose parameters are not over: their commas separate nothing.
    open_lambdas: usize,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum OpenedBy {
    /// A pair of parentheses, a list, a set, a dict; or nothing, for the statement.
    #[default]
    Display,
    /// A call or subscript of what stands before.
    Postfix,
    /// An f-string, whose fields stand side by side.
    Text,
}

impl Level {
    fn depth(&self) -> usize {
        self.total + self.inner + FLAT_LEVELS
    }

    fn deepen(&mut self, by: Precedence) {
        let at = by as usize;
        self.runs[at] += 1;
        if self.runs[at] > self.longest[at] {
            self.longest[at] = self.runs[at];
            self.total += 1;
        }
    }

    /// An operator between two operands ends the runs of all tighter ones.
    fn end_tighter_than(&mut self, than: Precedence) {
        self.runs[than as usize + 1..].fill(0);
    }
}

struct Scan {
    innermost: Level,
    /// The levels around it, the statement first.
    around: Vec<Level>,
    /// The depth of all levels but the innermost.
    outer: usize,
    /// The deepest part that is over.
    deepest: usize,
    /// Whether the last token ended an operand, so that `-` is no sign.
    was_operand: bool,
}

impl Scan {
    fn depth(&self) -> usize {
        self.outer + self.innermost.depth()
    }

    fn step(&mut self, kind: TokenKind) {
        use TokenKind as T;
        let was_operand = std::mem::replace(&mut self.was_operand, ends_operand(kind));
        match kind {
            T::FStringStart | T::TStringStart => self.open(OpenedBy::Text),
            T::Lpar | T::Lsqb if was_operand => self.open(OpenedBy::Postfix),
            T::Lpar | T::Lsqb | T::Lbrace => self.open(OpenedBy::Display),
            T::Rpar | T::Rsqb | T::Rbrace | T::FStringEnd | T::TStringEnd => self.close(),
            T::Newline | T::Semi => self.separate(),
            T::Comma if self.innermost.open_lambdas == 0 => self.separate(),
            T::Or | T::And => self.binary(Precedence::Clause, false),
            T::Less | T::Greater | T::EqEqual | T::NotEqual | T::LessEqual | T::GreaterEqual | T::Is => {
                self.binary(Precedence::Not, false)
            }
            T::Lambda => {
                self.prefix(Precedence::Clause);
                self.innermost.open_lambdas += 1;
            }
            T::Colon => self.innermost.open_lambdas = self.innermost.open_lambdas.saturating_sub(1),
            T::ColonEqual | T::If | T::Else | T::Yield | T::From | T::For | T::In | T::Async => {
                self.binary(Precedence::Clause, true)
            }
            T::Not => self.prefix(Precedence::Not),
            T::Vbar => self.binary(Precedence::BitOr, true),
            T::CircumFlex => self.binary(Precedence::BitXor, true),
            T::Amper => self.binary(Precedence::BitAnd, true),
            T::LeftShift | T::RightShift => self.binary(Precedence::Shift, true),
            T::Plus | T::Minus if was_operand => self.binary(Precedence::Sum, true),
            T::Plus | T::Minus | T::Tilde => self.prefix(Precedence::Sign),
            T::Star | T::Slash | T::DoubleSlash | T::Percent | T::At => self.binary(Precedence::Product, true),
            // Its right side may begin with a sign, below which the next power hangs.
            T::DoubleStar => self.prefix(Precedence::Power),
            T::Await => self.prefix(Precedence::Await),
            T::Dot => self.prefix(Precedence::Postfix),
            _ => {}
        }
    }

    fn binary(&mut self, by: Precedence, is_deep: bool) {
        self.innermost.end_tighter_than(by);
        if is_deep {
            self.innermost.deepen(by);
        }
    }

    fn prefix(&mut self, by: Precedence) {
        self.innermost.deepen(by);
    }

    fn open(&mut self, opened_by: OpenedBy) {
        self.outer += self.innermost.depth();
        self.around.push(std::mem::replace(&mut self.innermost, Level { opened_by, ..Level::default() }));
    }

    /// What is in a bracket hangs below whatever stands beside it.
    fn close(&mut self) {
        self.separate();
        // A bracket that nothing opened is the parser's to refuse.
        let Some(around) = self.around.pop() else { return };
        let closed = std::mem::replace(&mut self.innermost, around);
        self.outer -= self.innermost.depth();
        self.innermost.inner = self.innermost.inner.max(closed.deepest);
        if closed.opened_by == OpenedBy::Postfix {
            self.prefix(Precedence::Postfix);
        }
    }

    /// What follows is not below what was.
    fn separate(&mut self) {
        self.deepest = self.deepest.max(self.depth());
        let deepest = self.innermost.deepest.max(self.innermost.depth());
        self.innermost = Level { deepest, opened_by: self.innermost.opened_by, ..Level::default() };
    }
}

fn ends_operand(kind: TokenKind) -> bool {
    use TokenKind as T;
    matches!(
        kind,
        T::Name
            | T::Int
            | T::Float
            | T::Complex
            | T::String
            | T::FStringEnd
            | T::TStringEnd
            | T::Rpar
            | T::Rsqb
            | T::Rbrace
            | T::True
            | T::False
            | T::None
            | T::Ellipsis
    )
}

/// Runs `work` on a stack that holds recursion to `depth`.
pub(super) fn with_stack_for<T>(depth: usize, work: impl FnOnce() -> T) -> T {
    if depth <= MAX_INDENTS + SHALLOW {
        stacker::maybe_grow(512 << 10, 4 << 20, work)
    } else {
        stacker::grow(depth * STACK_PER_LEVEL, work)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ruff_python_ast::visitor::{Visitor, walk_expr, walk_stmt};
    use ruff_python_ast::{Expr, Stmt};
    use ruff_python_parser::parse_module;

    use super::*;

    /// The depth of a tree, counted on the way through it.
    #[derive(Default)]
    struct Depth {
        now: usize,
        deepest: usize,
    }

    impl Depth {
        fn below(&mut self, walk: impl FnOnce(&mut Self)) {
            self.now += 1;
            self.deepest = self.deepest.max(self.now);
            walk(self);
            self.now -= 1;
        }
    }

    impl<'a> Visitor<'a> for Depth {
        fn visit_stmt(&mut self, statement: &'a Stmt) {
            self.below(|depth| walk_stmt(depth, statement));
        }

        fn visit_expr(&mut self, expression: &'a Expr) {
            self.below(|depth| walk_expr(depth, expression));
        }
    }

    fn real_depth(source: &str) -> Option<usize> {
        stacker::grow(1 << 30, || {
            let parsed = parse_module(source).ok()?;
            let mut depth = Depth::default();
            depth.visit_body(parsed.suite());
            Some(depth.deepest)
        })
    }

    fn pieces() -> impl Strategy<Value = String> {
        let piece = proptest::sample::select(
            &[
                "a",
                "1",
                " + a",
                " - a",
                " * a",
                " ** a",
                "-",
                "~",
                "not ",
                "lambda: ",
                "lambda a, b=1: ",
                "(",
                ")",
                "[",
                "]",
                "{",
                "}",
                ".a",
                "()",
                "[0]",
                "f(",
                ", ",
                " if a else ",
                " or a",
                " and a",
                " < a",
                " in a",
                " | a",
                " & a",
                " << a",
                " @ a",
                "await ",
                "x := ",
                "f'{",
                "}'",
                "a: ",
                "*",
                "**",
                "\n",
                "; ",
                "yield ",
                " for a in a",
                " - -a",
                " ** -a",
            ][..],
        );
        let run = (piece, 1..30usize).prop_map(|(piece, times)| piece.repeat(times));
        proptest::collection::vec(run, 1..12).prop_map(|runs| runs.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 5000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_tree_is_deeper_than_the_bound(left in pieces(), right in pieces()) {
            // Random pieces seldom fit; their brackets are closed, and both orders are tried.
            for text in [left.clone(), format!("a{left}"), format!("{left}a{right}"), closed(&format!("{left}a{right}")), closed(&format!("x = {left}a"))] {
                if let (Ok(bound), Some(real)) = (bound(&text), real_depth(&text)) {
                    prop_assert!(real <= bound, "{real} > {bound}: {text}");
                }
            }
        }
    }

    /// The text with the brackets closed that it leaves open.
    fn closed(text: &str) -> String {
        let mut open = Vec::new();
        for c in text.chars() {
            match c {
                '(' => open.push(')'),
                '[' => open.push(']'),
                '{' => open.push('}'),
                ')' | ']' | '}' if open.pop() != Some(c) => return text.to_owned(),
                _ => {}
            }
        }
        text.chars().chain(open.into_iter().rev()).collect()
    }

    #[test]
    fn what_follows_a_bracket_hangs_above_it() {
        let bomb = format!("x = {}a{}", "(".repeat(190), format!("{})", " + a".repeat(2900)).repeat(190));
        assert!(bound(&bomb).is_err());
        let fine = format!("x = {}a{}", "(".repeat(10), format!("{})", " + a".repeat(200)).repeat(10));
        assert!(real_depth(&fine).expect("it parses") <= bound(&fine).expect("within bounds"));
    }

    #[test]
    fn long_is_not_deep() {
        for long in [
            format!("x = [{}]", "-1, lambda a, b: a, f(x)[0].y, ".repeat(10_000)),
            format!("x = {}", "'a' f'{b}' ".repeat(5000)),
            format!("x = f'{}'", "{a}".repeat(5000)),
            format!("x = 1{}", " + 2 * x ** 3 * y".repeat(2900)),
            format!("x = a{}", " or b and not c < d".repeat(20_000)),
            format!("x = {{{}}}", "'k': {'a': [1]}, ".repeat(10_000)),
            "x = 1\n".repeat(10_000),
        ] {
            let bound = bound(&long).unwrap_or_else(|message| panic!("{message}: {}", &long[..60]));
            assert!(real_depth(&long).expect("it parses") <= bound, "{}", &long[..60]);
        }
    }

    #[test]
    fn the_place_is_where_the_bound_breaks() {
        let source = format!("x = 1\ny = {}1", "(".repeat(300));
        let excess = depth(&source).expect_err("too deep");
        assert_eq!((excess.offset, excess.message), (10 + 200, "too many nested brackets"));
    }
}
