//! Names that statements bind on whatever way they are left.
//!
//! `if a: input = 1` may bind nothing; with an `else` that binds it too, `input` is bound afterwards. Only names that mean
//! something to the policy are followed.

use foldhash::HashSet;
use ruff_python_ast::{ExceptHandler, Expr, Stmt, StmtIf, StmtTry};

use super::rules::{self, Kind};

type Names<'a> = HashSet<&'a str>;

/// The names a branching statement binds whichever branch is taken.
pub(super) fn by_branches(statement: &Stmt) -> Names<'_> {
    match statement {
        Stmt::If(inner) => by_if(inner),
        Stmt::Try(inner) => by_try(inner),
        _ => Names::default(),
    }
}

fn by_if(branches: &StmtIf) -> Names<'_> {
    let has_else = branches.elif_else_clauses.last().is_some_and(|clause| clause.test.is_none());
    if !has_else {
        return Names::default();
    }
    let clauses = branches.elif_else_clauses.iter().map(|clause| &*clause.body);
    in_all(std::iter::once(&*branches.body).chain(clauses))
}

fn by_try(attempt: &StmtTry) -> Names<'_> {
    let handlers = attempt.handlers.iter().map(|ExceptHandler::ExceptHandler(handler)| vec![&*handler.body]);
    // Without an exception the body and the `else` have run to their ends.
    let ways = std::iter::once(vec![&*attempt.body, &*attempt.orelse]).chain(handlers);
    let ways = ways.filter(|way| !way.iter().any(|body| leaves(body)));
    let mut bound = ways.map(|way| way.into_iter().flat_map(by_block).collect::<Names>()).reduce(common);
    bound.get_or_insert_default().extend(by_block(&attempt.finalbody));
    bound.unwrap_or_default()
}

/// What every block binds that comes to its end.
fn in_all<'a>(blocks: impl Iterator<Item = &'a [Stmt]>) -> Names<'a> {
    blocks.filter(|block| !leaves(block)).map(by_block).reduce(common).unwrap_or_default()
}

fn common<'a>(mut some: Names<'a>, others: Names<'a>) -> Names<'a> {
    some.retain(|name| others.contains(name));
    some
}

/// Whether a block never comes to its end.
fn leaves(block: &[Stmt]) -> bool {
    matches!(block.last(), Some(Stmt::Raise(_) | Stmt::Return(_) | Stmt::Continue(_) | Stmt::Break(_)))
}

fn by_block(block: &[Stmt]) -> Names<'_> {
    let mut names = Names::default();
    let mut add = |name| {
        if rules::find(Kind::Builtin, name).is_some() {
            names.insert(name);
        }
    };
    for statement in block {
        match statement {
            Stmt::Assign(assignment) => assignment.targets.iter().for_each(|target| targets(target, &mut add)),
            Stmt::AnnAssign(assignment) if assignment.value.is_some() => targets(&assignment.target, &mut add),
            Stmt::FunctionDef(function) => add(function.name.as_str()),
            Stmt::ClassDef(class) => add(class.name.as_str()),
            Stmt::If(_) | Stmt::Try(_) => by_branches(statement).into_iter().for_each(&mut add),
            _ => {}
        }
    }
    names
}

fn targets<'a>(target: &'a Expr, add: &mut impl FnMut(&'a str)) {
    match target {
        Expr::Name(name) => add(&name.id),
        Expr::Tuple(tuple) => tuple.elts.iter().for_each(|item| targets(item, add)),
        Expr::List(list) => list.elts.iter().for_each(|item| targets(item, add)),
        Expr::Starred(starred) => targets(&starred.value, add),
        _ => {}
    }
}
