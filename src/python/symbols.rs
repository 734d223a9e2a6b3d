//! What a skill defines, imports and reads: for search, and for describing it to whoever chooses among skills.

use std::collections::BTreeMap;

use ruff_python_ast::visitor::{Visitor, walk_expr, walk_stmt};
use ruff_python_ast::{AnyParameterRef, Expr, ExprContext, Stmt, StmtFunctionDef};
use ruff_source_file::LineIndex;
use ruff_text_size::{Ranged, TextRange};

use super::template::{Names, slot_candidate};
use super::text::line_at;
use crate::json::Value;

/// More than this of one kind is not listed.
const MOST: usize = 256;
/// Longer defaults and annotations are shown as `...`.
const LONGEST_PART: usize = 40;

/// What is to be found in a source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Symbols {
    /// The module's docstring, without the white space around it.
    pub docstring: Option<String>,
    /// Functions at module level, and methods as `Class.method`, in the order of the source.
    pub functions: Vec<Function>,
    /// Classes at module level.
    pub classes: Vec<String>,
    /// Full names of imported modules, sorted.
    pub imports: Vec<String>,
    /// Members the skill reads of `inputs`, `context` and `parameters`, in the order of [`Names::ALL`].
    pub reads: [Vec<Input>; 3],
}

/// A function or method.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its name; a method's has its class before it.
    pub name: String,
    /// `mean(values, weights=None) -> float`
    pub signature: String,
    /// The line of its `def`, from 1.
    pub line: u32,
    /// The first line of its docstring.
    pub summary: Option<String>,
}

/// A member of the data that the skill reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Its name.
    pub name: String,
    /// Whether the skill reads it as `inputs["name"]`, so that it must be there when data is passed.
    pub is_required: bool,
}

impl Symbols {
    pub(super) fn of(source: &str, body: &[Stmt], lines: &LineIndex) -> Self {
        let mut scan = Scan { source, lines, symbols: Symbols::default(), reads: Default::default() };
        scan.symbols.docstring = docstring(body).filter(|text| !text.is_empty());
        for statement in body {
            match statement {
                Stmt::FunctionDef(function) => scan.function("", function),
                Stmt::ClassDef(class) => {
                    scan.class(&class.name);
                    class
                        .body
                        .iter()
                        .filter_map(Stmt::as_function_def_stmt)
                        .for_each(|method| scan.function(&format!("{}.", class.name), method));
                }
                _ => {}
            }
        }
        scan.visit_body(body);
        scan.finish()
    }

    /// All words worth finding the skill by.
    pub fn words(&self) -> String {
        let functions = self.functions.iter().flat_map(|function| [Some(&function.name), function.summary.as_ref()]);
        let reads = self.reads.iter().flatten().map(|input| &input.name);
        let words = functions.flatten().chain(&self.classes).chain(&self.imports).chain(reads).chain(&self.docstring);
        words.map(String::as_str).collect::<Vec<_>>().join(" ")
    }

    /// `{"docstring", "functions": [{"name", "signature", "line", "summary"}], "classes", "imports", "reads": {"inputs":
    /// [{"name", "required"}], ...}}`.
    pub fn to_value(&self) -> Value {
        let function = |function: &Function| {
            Value::object([
                ("name", Value::from(function.name.as_str())),
                ("signature", Value::from(function.signature.as_str())),
                ("line", Value::from(function.line)),
                ("summary", Value::from(function.summary.as_deref())),
            ])
        };
        let input = |input: &Input| {
            Value::object([("name", Value::from(input.name.as_str())), ("required", Value::from(input.is_required))])
        };
        let reads = Names::ALL.iter().zip(&self.reads);
        Value::object([
            ("docstring", Value::from(self.docstring.as_deref())),
            ("functions", Value::Array(self.functions.iter().map(function).collect())),
            ("classes", Value::from(self.classes.clone())),
            ("imports", Value::from(self.imports.clone())),
            ("reads", Value::object(reads.map(|(name, list)| (*name, Value::Array(list.iter().map(input).collect()))))),
        ])
    }
}

fn docstring(body: &[Stmt]) -> Option<String> {
    let Stmt::Expr(first) = body.first()? else { return None };
    Some(first.value.as_string_literal_expr()?.value.to_str().trim().to_owned())
}

struct Scan<'s> {
    source: &'s str,
    lines: &'s LineIndex,
    symbols: Symbols,
    /// By name: where it was first read, and whether it may be missing.
    reads: [BTreeMap<String, (usize, bool)>; 3],
}

impl Scan<'_> {
    fn class(&mut self, name: &str) {
        if self.symbols.classes.len() < MOST {
            self.symbols.classes.push(name.to_owned());
        }
    }

    fn function(&mut self, owner: &str, function: &StmtFunctionDef) {
        if self.symbols.functions.len() >= MOST {
            return;
        }
        let summary = docstring(&function.body).and_then(|text| text.lines().next().map(str::to_owned));
        self.symbols.functions.push(Function {
            name: format!("{owner}{}", function.name),
            signature: format!("{owner}{}", self.signature(function)),
            line: line_at(self.lines, function.name.start()),
            summary: summary.filter(|text| !text.is_empty()),
        });
    }

    fn signature(&self, function: &StmtFunctionDef) -> String {
        let parameters = &function.parameters;
        let mut parts: Vec<String> = Vec::new();
        for parameter in parameters.iter() {
            let is_variadic = matches!(parameter, AnyParameterRef::Variadic(_));
            let name = parameter.name().as_str();
            let start = parameter.as_parameter().start();
            let is_args = is_variadic && parameters.vararg.as_ref().is_some_and(|args| args.start() == start);
            let is_first_keyword = parameters.kwonlyargs.first().is_some_and(|first| first.parameter.start() == start);
            if is_first_keyword && parameters.vararg.is_none() {
                parts.push("*".to_owned());
            }
            let stars = if is_args { "*" } else { ["", "**"][usize::from(is_variadic)] };
            let annotation = parameter.annotation().map(|part| format!(": {}", self.part(part.range())));
            let default = parameter.default().map(|part| {
                let equal = if annotation.is_some() { " = " } else { "=" };
                format!("{equal}{}", self.part(part.range()))
            });
            parts.push(format!("{stars}{name}{}{}", annotation.unwrap_or_default(), default.unwrap_or_default()));
            if parameters.posonlyargs.last().is_some_and(|last| last.parameter.start() == start) {
                parts.push("/".to_owned());
            }
        }
        let returns = function.returns.as_ref().map(|part| format!(" -> {}", self.part(part.range())));
        format!("{}({}){}", function.name, parts.join(", "), returns.unwrap_or_default())
    }

    /// A piece of the source, on one line; if it is long, `...`.
    fn part(&self, range: TextRange) -> String {
        let text = &self.source[range];
        if text.len() > LONGEST_PART || text.contains(['\n', '\r', '#']) { "...".to_owned() } else { text.to_owned() }
    }

    fn import(&mut self, name: &str) {
        if self.symbols.imports.len() < MOST && !self.symbols.imports.iter().any(|known| known == name) {
            self.symbols.imports.push(name.to_owned());
        }
    }

    /// A member is read; the first reading without a default makes it required.
    fn reads(&mut self, of: usize, key: &Expr, is_optional: bool) {
        let Some(literal) = key.as_string_literal_expr() else { return };
        let place = key.start().to_usize();
        let reads = &mut self.reads[of];
        let is_full = reads.len() >= MOST;
        match reads.get_mut(literal.value.to_str()) {
            Some((_, may_miss)) => *may_miss &= is_optional,
            None if is_full => {}
            None => {
                reads.insert(literal.value.to_str().to_owned(), (place, is_optional));
            }
        }
    }

    /// The slot's own dict names members. It is a default only for callers that pass no data at all.
    fn defaults(&mut self, of: usize, dict: &Expr) {
        let Some(dict) = dict.as_dict_expr() else { return };
        let names = dict.items.iter().filter_map(|item| item.key.as_ref()?.as_string_literal_expr());
        for name in names.take(MOST) {
            self.reads[of].entry(name.value.to_str().to_owned()).or_insert((name.start().to_usize(), true));
        }
    }

    fn finish(mut self) -> Symbols {
        self.symbols.imports.sort();
        for (list, reads) in self.symbols.reads.iter_mut().zip(std::mem::take(&mut self.reads)) {
            let mut found: Vec<_> = reads.into_iter().collect();
            found.sort_by_key(|(_, (place, _))| *place);
            list.extend(found.into_iter().map(|(name, (_, may_miss))| Input { name, is_required: !may_miss }));
        }
        self.symbols
    }
}

/// Which of the three names an expression is.
fn name_of(expression: &Expr) -> Option<usize> {
    Names::index(&expression.as_name_expr()?.id)
}

impl<'a> Visitor<'a> for Scan<'_> {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        match statement {
            Stmt::Import(import) => import.names.iter().for_each(|alias| self.import(&alias.name)),
            Stmt::ImportFrom(import) => import.module.iter().for_each(|module| self.import(module)),
            _ => {}
        }
        walk_stmt(self, statement);
        if let Some((of, dict)) = slot_candidate(statement) {
            self.defaults(of, dict);
        }
    }

    fn visit_expr(&mut self, expression: &'a Expr) {
        match expression {
            Expr::Subscript(member) if member.ctx == ExprContext::Load => {
                if let Some(of) = name_of(&member.value) {
                    self.reads(of, &member.slice, false);
                }
            }
            Expr::Call(call) => {
                if let Some(method) = call.func.as_attribute_expr().filter(|method| method.attr.as_str() == "get")
                    && let (Some(of), Some(key)) = (name_of(&method.value), call.arguments.args.first())
                {
                    self.reads(of, key, true);
                }
            }
            Expr::Compare(compare) => {
                if let [container] = &*compare.comparators
                    && let Some(of) = name_of(container)
                {
                    self.reads(of, &compare.left, true);
                }
            }
            _ => {}
        }
        walk_expr(self, expression);
    }
}

#[cfg(test)]
mod tests {
    use super::super::analyse;

    #[test]
    fn what_a_skill_defines_and_reads() {
        let source = "'''Mean of prices.\n\nMore.'''\nimport math, os.path as p\nfrom collections import deque\n\
            inputs = {'prices': [], 'window': 3}\n\
            def mean(a, /, values: list[float], *rest, key=None, long='0123456789012345678901234567890123456789', **more) -> float:\n  '''One.\n\n  Two.'''\n  return inputs['prices'][inputs['need']]\n\
            class A:\n  def f(self, *, x: int = 1): pass\n\
            result = context.get('unit', 'C') if 'unit' in context else parameters['k']\ninputs['new'] = 1\n";
        let symbols = analyse(source, None).expect("a skill").symbols;
        assert_eq!(
            symbols.to_value().to_text(),
            r#"{"docstring":"Mean of prices.\n\nMore.","functions":[{"name":"mean","signature":"mean(a, /, values: list[float], *rest, key=None, long=..., **more) -> float","line":7,"summary":"One."},{"name":"A.f","signature":"A.f(self, *, x: int = 1)","line":13,"summary":null}],"classes":["A"],"imports":["collections","math","os.path"],"reads":{"inputs":[{"name":"prices","required":true},{"name":"window","required":false},{"name":"need","required":true}],"context":[{"name":"unit","required":false}],"parameters":[{"name":"k","required":true}]}}"#
        );
        assert!(symbols.words().contains("mean One. A.f A"));
    }
}
