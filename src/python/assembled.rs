//! Text that is put together so that it cannot be read, and format strings that walk into objects.

use ruff_python_ast::visitor::{Visitor, walk_expr};
use ruff_python_ast::{Expr, ExprCall, Operator};

use super::rules::DECODERS;

/// Whether an expression decodes or assembles what it gives.
pub(super) fn is_decoded(expression: &Expr) -> bool {
    struct Search(bool);
    impl<'a> Visitor<'a> for Search {
        fn visit_expr(&mut self, expression: &'a Expr) {
            if let Expr::Call(call) = expression {
                let name = match &*call.func {
                    Expr::Name(name) => name.id.as_str(),
                    Expr::Attribute(attribute) => attribute.attr.as_str(),
                    _ => "",
                };
                self.0 |= DECODERS.contains(&name);
            }
            walk_expr(self, expression);
        }
    }
    let mut search = Search(false);
    search.visit_expr(expression);
    search.0
}

/// The text an expression of constants gives, if it is short: `'ev' + 'al'`, `'lave'[::-1]`, `''.join(['ev', 'al'])`,
/// `chr(101)`. Plain literals are not assembled.
pub(super) fn fold(expression: &Expr) -> Option<String> {
    match expression {
        Expr::BinOp(_) | Expr::Call(_) | Expr::Subscript(_) => piece(expression),
        _ => None,
    }
}

fn piece(expression: &Expr) -> Option<String> {
    const LONGEST: usize = 256;
    let text = match expression {
        Expr::StringLiteral(literal) => literal.value.to_str().to_owned(),
        Expr::BinOp(sum) if sum.op == Operator::Add => piece(&sum.left)? + &piece(&sum.right)?,
        Expr::Subscript(slice) => {
            let Expr::Slice(bounds) = &*slice.slice else { return None };
            let is_whole = bounds.lower.is_none() && bounds.upper.is_none();
            let is_backwards = matches!(bounds.step.as_deref(), Some(Expr::UnaryOp(step)) if one(&step.operand));
            (is_whole && is_backwards).then(|| piece(&slice.value))??.chars().rev().collect()
        }
        Expr::Call(call) => folded_call(call)?,
        _ => return None,
    };
    (text.len() <= LONGEST).then_some(text)
}

fn one(expression: &Expr) -> bool {
    number(expression) == Some(1)
}

fn number(expression: &Expr) -> Option<u8> {
    match expression {
        Expr::NumberLiteral(literal) => literal.value.as_int()?.as_u8(),
        _ => None,
    }
}

fn folded_call(call: &ExprCall) -> Option<String> {
    let arguments = &call.arguments.args;
    match &*call.func {
        Expr::Name(name) if name.id.as_str() == "chr" => Some(char::from(number(arguments.first()?)?).to_string()),
        Expr::Attribute(method) => {
            let text = piece(&method.value)?;
            match method.attr.as_str() {
                "join" => {
                    let items = match arguments.first()? {
                        Expr::List(list) => &list.elts,
                        Expr::Tuple(tuple) => &tuple.elts,
                        _ => return None,
                    };
                    Some(items.iter().map(piece).collect::<Option<Vec<_>>>()?.join(&text))
                }
                "lower" => Some(text.to_lowercase()),
                "upper" => Some(text.to_uppercase()),
                "strip" if arguments.is_empty() => Some(text.trim().to_owned()),
                "replace" => {
                    let from = piece(arguments.first()?)?;
                    let is_short = text.len() * 8 < 1024 && !from.is_empty();
                    is_short.then(|| Some(text.replace(&from, &piece(arguments.get(1)?)?)))?
                }
                _ => None,
            }
        }
        _ => None,
    }
}

/// Whether a format string has a field such as `{0.__class__}` or `{x[__globals__]}`.
pub(super) fn walks_in_format(text: &str) -> bool {
    text.split('{').skip(1).any(|field| {
        let field = field.split('}').next().unwrap_or_default();
        field.contains(".__") || field.contains("[__")
    })
}
