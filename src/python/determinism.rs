//! Whether a skill can be seen to give equal answers to equal inputs, for `cache = auto`.
//!
//! The verdict is conservative: only what is on the short lists counts as harmless, everything else is a reason not to
//! cache. It is lint, not proof. What it cannot see beforehand, the address in the default `repr` of an object, is looked
//! for in the answer: [`shows_address`]. A skill that says `cache = yes` or `no` is not asked.
//!
//! Sets deserve a word. CPython seeds the hash of text anew in every process, so the *order* of a set of strings
//! differs from run to run, while membership, size and sorted content do not. A set is therefore harmless where only
//! those are asked for, directly or through a name that is only ever bound to sets and only ever used in such ways.

use std::collections::{BTreeMap, HashSet};

use ruff_python_ast::visitor::{Visitor, walk_expr, walk_stmt};
use ruff_python_ast::{CmpOp, Expr, ExprCall, ExprContext, Operator, Stmt};
use ruff_source_file::LineIndex;
use ruff_text_size::{Ranged, TextRange, TextSize};

use super::text::line_at;

/// Modules whose use alone leaves a skill deterministic.
const MODULES: &[&str] = &[
    "__future__",
    "abc",
    "array",
    "base64",
    "binascii",
    "bisect",
    "cmath",
    "collections",
    "copy",
    "dataclasses",
    "decimal",
    "difflib",
    "enum",
    "fractions",
    "functools",
    "hashlib",
    "heapq",
    "itertools",
    "json",
    "math",
    "numbers",
    "operator",
    "re",
    "statistics",
    "string",
    "struct",
    "textwrap",
    "types",
    "typing",
    "unicodedata",
    "zlib",
];

/// Names that reach outside, hide what is reached, or show addresses and hashes.
const NAMES: &[&str] = &[
    "open",
    "input",
    "id",
    "hash",
    "eval",
    "exec",
    "compile",
    "globals",
    "locals",
    "vars",
    "dir",
    "breakpoint",
    "object",
    "help",
    "exit",
    "quit",
    "memoryview",
    "delattr",
    "__import__",
    "__builtins__",
    "__loader__",
    "__spec__",
    "__file__",
];

/// Attributes that do the same on objects of the modules above.
const ATTRIBUTES: &[&str] = &["samples", "popitem", "new_child"];

/// Modules that the ones above have imported for themselves, so that they can be reached as attributes, perhaps behind an
/// underscore: `statistics.random`, `re.enum.sys`, `collections._sys`.
const INNER_MODULES: &[&str] = &[
    "asyncio",
    "builtins",
    "codecs",
    "contextlib",
    "copyreg",
    "ctypes",
    "datetime",
    "gc",
    "importlib",
    "inspect",
    "io",
    "keyword",
    "linecache",
    "locale",
    "logging",
    "os",
    "pathlib",
    "pickle",
    "platform",
    "posix",
    "random",
    "secrets",
    "shutil",
    "signal",
    "socket",
    "subprocess",
    "sys",
    "tempfile",
    "thread",
    "threading",
    "time",
    "tokenize",
    "traceback",
    "uuid",
    "warnings",
    "weakref",
];

/// Special attributes that are harmless.
const DUNDERS: &[&str] = &[
    "__init__",
    "__name__",
    "__class__",
    "__doc__",
    "__len__",
    "__iter__",
    "__next__",
    "__add__",
    "__eq__",
    "__lt__",
    "__getitem__",
    "__setitem__",
    "__contains__",
    "__post_init__",
    "__call__",
    "__enter__",
    "__exit__",
    "__str__",
    "__repr__",
];

/// Calls that do not show the order of their one argument.
const ORDERLESS_CALLS: &[&str] = &["sorted", "len", "any", "all", "min", "max", "set", "frozenset", "bool"];

/// Methods of a set that do not show its order.
const ORDERLESS_METHODS: &[&str] = &[
    "add",
    "discard",
    "remove",
    "update",
    "clear",
    "issubset",
    "issuperset",
    "isdisjoint",
    "difference_update",
    "intersection_update",
    "symmetric_difference_update",
];

/// Methods whose answer is a set.
const SET_METHODS: &[&str] = &["intersection", "union", "difference", "symmetric_difference"];

/// The verdict, with its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Determinism {
    reasons: Vec<String>,
}

impl Determinism {
    pub(super) fn of(body: &[Stmt], lines: &LineIndex) -> Self {
        let mut scan = Scan::default();
        scan.visit_body(body);
        let mut reasons = scan.reasons.clone();
        reasons.extend(scan.set_reasons());
        let by_line: BTreeMap<(u32, String), ()> =
            reasons.into_iter().map(|(at, reason)| ((line_at(lines, at), reason), ())).collect();
        Determinism { reasons: by_line.into_keys().map(|(line, reason)| format!("line {line}: {reason}")).collect() }
    }

    /// Whether nothing was found.
    pub fn is_deterministic(&self) -> bool {
        self.reasons.is_empty()
    }

    /// What was found, each with its line.
    pub fn reasons(&self) -> &[String] {
        &self.reasons
    }
}

/// Whether a text shows the address of an object, as the default `repr` does: `<function f at 0x7f...>`. It is another one
/// in the next run.
pub fn shows_address(text: &[u8]) -> bool {
    const MARK: &[u8] = b" at 0x";
    text.windows(MARK.len() + 1).any(|window| window.starts_with(MARK) && window[MARK.len()].is_ascii_hexdigit())
}

#[derive(Default)]
struct Scan {
    reasons: Vec<(TextSize, String)>,
    /// Set-valued expressions in places that may show their order.
    loose_sets: Vec<TextRange>,
    /// Expressions in places that show no order.
    orderless: HashSet<TextRange>,
    /// Names bound to a set somewhere, and every other binding of a name.
    set_names: HashSet<String>,
    /// Loads of plain names in places that may show order.
    loose_loads: Vec<(String, TextRange)>,
}

impl Scan {
    fn flag(&mut self, at: TextSize, reason: String) {
        self.reasons.push((at, reason));
    }

    fn module(&mut self, name: &str, at: TextSize) {
        let top = name.split('.').next().unwrap_or_default();
        if !MODULES.contains(&top) {
            self.flag(at, format!("imports `{name}`"));
        }
    }

    fn attribute(&mut self, name: &str, at: TextSize) {
        if ATTRIBUTES.contains(&name) || (name.starts_with("__") && !DUNDERS.contains(&name)) {
            self.flag(at, format!("uses `.{name}`"));
        } else if INNER_MODULES.contains(&name.trim_start_matches('_')) {
            self.flag(at, format!("may reach the module `{name}`"));
        }
    }

    /// `getattr(x, "name")` and `attrgetter("a.b")` are attributes in other words.
    fn computed_lookup(&mut self, call: &ExprCall) {
        let name = match &*call.func {
            Expr::Name(name) => name.id.as_str(),
            Expr::Attribute(attribute) => attribute.attr.as_str(),
            _ => return,
        };
        let names = match name {
            "getattr" | "setattr" => call.arguments.args.get(1..2).unwrap_or_default(),
            "attrgetter" => &call.arguments.args,
            "methodcaller" => call.arguments.args.get(..1).unwrap_or_default(),
            _ => return,
        };
        let is_spread = call.arguments.args.iter().any(Expr::is_starred_expr);
        match names.iter().map(|name| Some(name.as_string_literal_expr()?.value.to_str())).collect::<Option<Vec<_>>>() {
            Some(texts) if !texts.is_empty() && !is_spread => {
                texts.iter().flat_map(|text| text.split('.')).for_each(|name| self.attribute(name, call.start()));
            }
            _ => self.flag(call.start(), "looks an attribute up by a computed name".to_owned()),
        }
    }

    fn set_reasons(&self) -> impl Iterator<Item = (TextSize, String)> + '_ {
        let displays = self.loose_sets.iter().map(|range| (range.start(), "the order of a set".to_owned()));
        let loads = self
            .loose_loads
            .iter()
            .filter(|(name, range)| self.set_names.contains(name) && !self.orderless.contains(range));
        displays.chain(loads.map(|(name, range)| (range.start(), format!("the order of the set `{name}`"))))
    }

    /// Marks what stands in a place that shows no order, before its children are visited.
    fn mark(&mut self, expression: &Expr) {
        match expression {
            Expr::Call(call) => {
                if is_orderless_call(call) {
                    self.orderless.extend(call.arguments.args.iter().map(Ranged::range));
                }
                if let Expr::Attribute(method) = &*call.func
                    && (ORDERLESS_METHODS.contains(&method.attr.as_str())
                        || SET_METHODS.contains(&method.attr.as_str()))
                {
                    self.orderless.insert(method.value.range());
                    self.orderless.extend(call.arguments.args.iter().map(Ranged::range));
                }
            }
            Expr::Compare(compare) => {
                let containers = compare.ops.iter().zip(&compare.comparators);
                let of_sets = |op: &CmpOp| !matches!(op, CmpOp::Is | CmpOp::IsNot);
                self.orderless.extend(containers.filter(|(op, _)| of_sets(op)).map(|(_, right)| right.range()));
                if !compare.ops.iter().any(|op| matches!(op, CmpOp::In | CmpOp::NotIn)) {
                    self.orderless.insert(compare.left.range());
                }
            }
            Expr::BinOp(operation) if is_set_operator(operation.op) && self.is_set(expression) => {
                self.orderless.insert(operation.left.range());
                self.orderless.insert(operation.right.range());
            }
            Expr::If(choice) => {
                self.orderless.insert(choice.test.range());
            }
            Expr::UnaryOp(operation) if operation.op == ruff_python_ast::UnaryOp::Not => {
                self.orderless.insert(operation.operand.range());
            }
            _ => {}
        }
    }

    fn is_set(&self, expression: &Expr) -> bool {
        // Sums of sets nest to the left; nobody writes them longer, and trying each part of a long one takes for ever.
        const LONGEST: usize = 64;
        self.is_set_within(expression, LONGEST)
    }

    fn is_set_within(&self, expression: &Expr, depth: usize) -> bool {
        if depth == 0 {
            return true;
        }
        match expression {
            Expr::Set(_) | Expr::SetComp(_) => true,
            Expr::Call(call) => match &*call.func {
                Expr::Name(name) => matches!(name.id.as_str(), "set" | "frozenset"),
                Expr::Attribute(method) => SET_METHODS.contains(&method.attr.as_str()),
                _ => false,
            },
            Expr::BinOp(operation) => {
                let is_view = |side: &Expr| match side {
                    Expr::Call(call) => {
                        call.func.as_attribute_expr().is_some_and(|m| matches!(m.attr.as_str(), "keys" | "items"))
                    }
                    _ => false,
                };
                is_set_operator(operation.op)
                    && [&operation.left, &operation.right]
                        .into_iter()
                        .any(|side| is_view(side) || self.is_set_within(side, depth - 1))
            }
            Expr::Name(name) => self.set_names.contains(name.id.as_str()),
            _ => false,
        }
    }

    /// `NAME = a set` is a place where the set itself shows no order: the uses of the name are judged instead.
    fn bind(&mut self, targets: &[Expr], value: &Expr) {
        if self.is_set(value) && targets.iter().all(Expr::is_name_expr) {
            self.orderless.insert(value.range());
            self.set_names
                .extend(targets.iter().filter_map(|target| target.as_name_expr().map(|name| name.id.to_string())));
        }
    }
}

fn is_set_operator(operator: Operator) -> bool {
    matches!(operator, Operator::BitAnd | Operator::BitOr | Operator::BitXor | Operator::Sub)
}

fn is_orderless_call(call: &ExprCall) -> bool {
    let name = call.func.as_name_expr().map(|name| name.id.as_str());
    name.is_some_and(|name| ORDERLESS_CALLS.contains(&name))
        && call.arguments.args.len() == 1
        && call.arguments.keywords.iter().all(|keyword| keyword.arg.as_ref().is_some_and(|arg| arg.as_str() != "key"))
}

impl<'a> Visitor<'a> for Scan {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        match statement {
            Stmt::Import(import) => {
                import.names.iter().for_each(|alias| self.module(&alias.name, alias.start()));
            }
            Stmt::ImportFrom(import) => match &import.module {
                Some(module) if import.level == 0 => {
                    self.module(module, import.start());
                    import.names.iter().for_each(|alias| self.attribute(&alias.name, alias.start()));
                }
                _ => self.flag(import.start(), "a relative import".to_owned()),
            },
            Stmt::Assign(assignment) => self.bind(&assignment.targets, &assignment.value),
            Stmt::AnnAssign(assignment) => {
                if let Some(value) = &assignment.value {
                    self.bind(std::slice::from_ref(&assignment.target), value);
                }
            }
            Stmt::AugAssign(assignment) => {
                self.orderless.insert(assignment.target.range());
                if is_set_operator(assignment.op) {
                    self.orderless.insert(assignment.value.range());
                }
            }
            Stmt::If(condition) => {
                self.orderless.insert(condition.test.range());
            }
            Stmt::While(condition) => {
                self.orderless.insert(condition.test.range());
            }
            _ => {}
        }
        walk_stmt(self, statement);
    }

    fn visit_expr(&mut self, expression: &'a Expr) {
        if self.is_set(expression) && !expression.is_name_expr() && !self.orderless.contains(&expression.range()) {
            self.loose_sets.push(expression.range());
        }
        self.mark(expression);
        match expression {
            Expr::Name(name) if matches!(name.ctx, ExprContext::Load) => {
                if NAMES.contains(&name.id.as_str()) {
                    self.flag(name.start(), format!("uses `{}`", name.id));
                }
                self.loose_loads.push((name.id.to_string(), name.range()));
            }
            Expr::Attribute(attribute) => {
                self.attribute(&attribute.attr, attribute.start());
            }
            Expr::Call(call) => self.computed_lookup(call),
            _ => {}
        }
        walk_expr(self, expression);
    }
}

#[cfg(test)]
mod tests {
    use super::super::analyse;

    fn reasons(source: &str) -> Vec<String> {
        analyse(source, None).unwrap_or_else(|fault| panic!("{source}: {fault:?}")).determinism.reasons
    }

    #[test]
    fn plain_computation_is_deterministic() {
        for source in [
            "import math, re\nfrom collections.abc import Mapping\nresult = math.sqrt(2)",
            "seen = set()\nfor x in inputs['a']:\n  if x not in seen:\n    seen.add(x)\nresult = len(seen)",
            "result = sorted(set(inputs['a']))",
            "a = set(inputs['a'])\nb = {1, 2}\nresult = sorted(a & b)",
            "result = 'a' in {'a', 'b'} and {1} == {2}",
            "result = max({1, 2})",
            "class A:\n  def __init__(self):\n    self.x = 1\nresult = A().x",
            "result = {**inputs}",
            "result = getattr(inputs, 'x', 1)",
            "from operator import attrgetter\nimport collections.abc\nresult = sorted([], key=attrgetter('a.b'))",
            "s = {1}\nif s:\n  result = 1",
        ] {
            assert_eq!(reasons(source), Vec::<String>::new(), "{source}");
        }
    }

    #[test]
    fn addresses_are_seen() {
        for text in ["<function f at 0x7f00aa>", "\"<__main__.A object at 0xc>\""] {
            assert!(super::shows_address(text.as_bytes()), "{text}");
        }
        for text in ["", " at 0x", "meet me at 0 x", "0x7f00", "at 0x12"] {
            assert!(!super::shows_address(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn everything_else_is_named_with_its_line() {
        for (source, reason) in [
            ("import time", "line 1: imports `time`"),
            ("\nimport os.path", "line 2: imports `os.path`"),
            ("from random import random", "line 1: imports `random`"),
            ("from . import x", "line 1: a relative import"),
            ("def f():\n  import uuid", "line 2: imports `uuid`"),
            ("x = open('a')", "line 1: uses `open`"),
            ("f = open", "line 1: uses `open`"),
            ("result = id(1)", "line 1: uses `id`"),
            ("result = hash('a')", "line 1: uses `hash`"),
            ("result = list(set(inputs['a']))", "line 1: the order of a set"),
            ("result = [x for x in {'a', 'b'}]", "line 1: the order of a set"),
            ("a = set('ab')\nresult = ''.join(a)", "line 2: the order of the set `a`"),
            ("a = {'x'}\nresult = a.pop()", "line 2: the order of the set `a`"),
            ("def f():\n  return {'a', 'b'}", "line 2: the order of a set"),
            ("result = list({}.keys() & {})", "line 1: the order of a set"),
            ("result = list(a.union(b))", "line 1: the order of a set"),
            ("result = sorted({1, 2}, key=str)", "line 1: the order of a set"),
            ("x = ().__class__.__subclasses__()", "line 1: uses `.__subclasses__`"),
            ("x = getattr(inputs, n)", "line 1: looks an attribute up by a computed name"),
            ("x = __builtins__", "line 1: uses `__builtins__`"),
            ("import statistics\nresult = statistics.random.random()", "line 2: may reach the module `random`"),
            ("from statistics import random as r", "line 1: may reach the module `random`"),
            ("import re\nresult = re.enum.sys.argv", "line 2: may reach the module `sys`"),
            ("import collections as c\nx = c._sys", "line 2: may reach the module `_sys`"),
            ("x = getattr(json, 'codecs')", "line 1: may reach the module `codecs`"),
            ("f = operator.attrgetter('random.random')", "line 1: may reach the module `random`"),
            ("f = attrgetter(*names)", "line 1: looks an attribute up by a computed name"),
            ("f = methodcaller('__hash__')", "line 1: uses `.__hash__`"),
            ("result = f'{id(1)}'", "line 1: uses `id`"),
        ] {
            assert!(reasons(source).iter().any(|found| found == reason), "{source}: {:?}", reasons(source));
        }
    }
}
