//! How deep a source nests, measured before anything recursive touches it.
//!
//! The parser, the walks over its tree and the dropping of that tree all recurse, so a megabyte of `-` would overflow
//! the host's stack. One pass over the tokens bounds the depth of the tree from above: inside each bracket, every token
//! that can deepen an expression (operators, keywords, dots, closed brackets of calls and subscripts) adds one, and a
//! comma or the end of a line starts again, except after `lambda`, whose parameters have commas. A source beyond
//! CPython's own bounds is refused in CPython's own words; the rest gets a stack that fits.

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
const SHALLOW: usize = 24;

/// Where a source nests too deep, and which bound it breaks.
#[derive(Debug)]
pub(super) struct Excess {
    pub message: &'static str,
    pub offset: usize,
}

/// An upper bound of the depth of the syntax tree.
pub(super) fn depth(source: &str) -> Result<usize, Excess> {
    let mut lexer = lexer::lex(source, Mode::Module);
    let mut levels = vec![Level::default()];
    let (mut indents, mut deepest) = (0usize, 0usize);
    // The lexer keeps its position to itself; the count of tokens is exact enough to stop at the bound.
    loop {
        match lexer.next_token() {
            TokenKind::EndOfFile => return Ok(deepest + MAX_INDENTS),
            TokenKind::Indent => indents += 1,
            TokenKind::Dedent => indents = indents.saturating_sub(1),
            kind => step(&mut levels, kind),
        }
        let depth = levels.iter().map(|level| level.chain + 1).sum::<usize>();
        deepest = deepest.max(depth);
        let message = if indents > MAX_INDENTS {
            "too many levels of indentation"
        } else if levels.len() > MAX_BRACKETS + 1 {
            "too many nested brackets"
        } else if depth > MAX_DEPTH {
            "expressions nested too deep"
        } else {
            continue;
        };
        return Err(Excess { message, offset: 0 });
    }
}

/// One open bracket, or the statement itself.
#[derive(Default)]
struct Level {
    /// Deepening tokens since the last separator.
    chain: usize,
    /// The part of `chain` that a comma does not end.
    lambdas: usize,
}

fn step(levels: &mut Vec<Level>, kind: TokenKind) {
    use TokenKind as T;
    let Some(level) = levels.last_mut() else { return };
    match kind {
        T::Lpar | T::Lsqb | T::Lbrace | T::FStringStart | T::TStringStart => levels.push(Level::default()),
        T::Rpar | T::Rsqb | T::Rbrace | T::FStringEnd | T::TStringEnd => {
            if levels.len() > 1 {
                levels.pop();
            }
            // A closed bracket may be a call or a subscript, and what follows hangs below it.
            if let Some(outer) = levels.last_mut() {
                outer.chain += 1;
            }
        }
        T::Newline | T::Semi => *level = Level::default(),
        T::Comma => level.chain = level.lambdas,
        T::Lambda => {
            level.chain += 1;
            level.lambdas += 1;
        }
        T::Plus | T::Minus | T::Star | T::Slash | T::Vbar | T::Amper | T::Dot | T::Percent | T::Tilde => {
            level.chain += 1
        }
        T::CircumFlex | T::LeftShift | T::RightShift | T::DoubleStar | T::DoubleSlash | T::At => level.chain += 1,
        T::ColonEqual | T::Await | T::Not | T::If | T::Else | T::Yield | T::From | T::And | T::Or => level.chain += 1,
        T::Less | T::Greater | T::EqEqual | T::NotEqual | T::LessEqual | T::GreaterEqual | T::In | T::Is => {
            level.chain += 1
        }
        _ => {}
    }
}

/// Runs `work` on a stack that holds recursion to `depth`.
pub(super) fn with_stack_for<T>(depth: usize, work: impl FnOnce() -> T) -> T {
    if depth <= MAX_INDENTS + SHALLOW {
        stacker::maybe_grow(512 << 10, 4 << 20, work)
    } else {
        stacker::grow(depth * STACK_PER_LEVEL, work)
    }
}
