//! A script that stands alone: a source with data written into it.

use crate::error::{Code, Error, Result};
use crate::python::{Binding, Names, SyntaxFault, Template};

use super::syntax_error;

/// A script that stands alone: a source with data written into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The source.
    pub code: String,
    /// How the places for the data were found.
    pub method: Method,
}

/// How the places for the data were found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// By parsing.
    Ast,
    /// By tokens alone: the source does not parse (`inject.fallback = lexical`).
    Lexical,
}

impl Method {
    /// `ast` or `lexical`.
    pub fn name(self) -> &'static str {
        match self {
            Method::Ast => "ast",
            Method::Lexical => "lexical",
        }
    }
}

/// Fills a source that does not parse; refuses it with the parser's reason if a name with data has no slot.
pub(super) fn lexical(code: &str, fault: &SyntaxFault, data: [Binding; 3]) -> Result<Script> {
    let template = Template::parse_lexically(code).map_err(|fault| syntax_error(&fault, code))?;
    let places = Names::ALL.iter().zip(template.slots()).zip(data);
    let missing: Vec<&str> =
        places.filter(|((_, slot), value)| slot.is_none() && value.is_some()).map(|((name, _), _)| *name).collect();
    if missing.is_empty() {
        return Ok(Script { code: template.inject(data), method: Method::Lexical });
    }
    let error = syntax_error(fault, code);
    let names = missing.join("`, `");
    let message = format!(
        "{}; and no complete top-level statement `NAME = {{...}}` was found for `{names}` that could be filled without parsing",
        error.message()
    );
    Err(Error::new(Code::Syntax, message).at(fault.line, fault.column).rule("syntax").missing(missing))
}
