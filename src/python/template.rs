//! Where run-time data is bound in a skill.
//!
//! A skill's inputs are the names `inputs`, `context` and `parameters`. The *slot* of a name is the first module-level
//! `NAME = {...}` or `NAME: T = {...}` before any use of it; its dict is the default when the caller passes none.
//! Everything else that assigns the name is the skill's own. Where there is no slot, the binding stands after the
//! module docstring and the `from __future__` lines.
//!
//! "Use" follows Python's scopes: code at module level, class bodies, decorators and parameter defaults run where they
//! stand; the bodies of functions and lambdas run later and are no use of the name yet, and what a comprehension or a
//! parameter binds is another name.
//!
//! A slot is filled in one of two ways, with equal outcomes. [`Template::inject`] writes literals: a script that stands
//! alone. [`Template::prepare`] writes a marker, a string constant that the child replaces in the compiled code by the
//! data it received, so that prepared code does not depend on data. Both keep every byte outside the slots and every
//! line number: a dict of several lines is replaced by as many lines.

use std::collections::HashSet;
use std::ops::Range;

use ruff_python_ast::visitor::{Visitor, walk_expr, walk_stmt};
use ruff_python_ast::{Comprehension, Expr, ExprContext, Stmt};
use ruff_source_file::LineIndex;
use ruff_text_size::{Ranged, TextRange, TextSize};

use super::literal;
use super::text::line_at;
use crate::json::Value;

/// The names a skill's data arrives under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names;

impl Names {
    /// In the order in which bindings are written.
    pub const ALL: [&'static str; 3] = ["inputs", "context", "parameters"];

    pub(super) fn index(name: &str) -> Option<usize> {
        Names::ALL.iter().position(|known| *known == name)
    }
}

/// The data for one name: an object, or nothing passed.
pub type Binding<'d> = Option<&'d Value>;
/// The data for the three names.
pub type Bindings<'d> = [Binding<'d>; 3];

/// The dict that a name's data replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The line on which the dict starts, from 1.
    pub line: u32,
    range: Range<usize>,
    line_ends: usize,
}

/// A module-level assignment that hides the data passed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shadow {
    /// Which name.
    pub name: &'static str,
    /// Its line, from 1.
    pub line: u32,
    /// Where it starts, in bytes from the start of the source.
    pub offset: usize,
}

/// A source with its slots found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    source: String,
    slots: [Option<Slot>; 3],
    /// Slots and insertion in the order of the source.
    places: Vec<Place>,
    /// Whether the source mentions a name at all.
    mentions: [bool; 3],
    shadows: Vec<Shadow>,
}

/// Where a filled source differs from the original.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Slot(usize),
    Insertion(Insertion),
}

/// Where a binding without a slot is written so that no line moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Insertion {
    /// On the line of the last docstring or `__future__` statement, behind it.
    AfterStatement(usize),
    /// On the line of the first statement, a simple one, before it.
    BeforeStatement(usize),
    /// On a blank line.
    BlankLine(usize),
    /// On a comment's line, before the comment.
    BeforeComment(usize),
    /// The first line holds a compound statement: nothing can share its line, and the script gains one line.
    NewLine(usize),
    /// Behind the last line, which has no end.
    LastLine(usize),
}

impl Template {
    pub(super) fn of(source: &str, body: &[Stmt], lines: &LineIndex) -> Self {
        let mut scan = Scan::default();
        for statement in body {
            scan.module_statement(statement);
        }
        let slots = scan.slots.map(|slot| slot.map(|range| Slot::new(source, range, lines)));
        let shadows = scan
            .stores
            .iter()
            .filter(|(name, at)| slots[*name].as_ref().is_none_or(|slot| at.to_usize() > slot.range.end));
        let shadow = |(name, at): &(usize, TextSize)| Shadow {
            name: Names::ALL[*name],
            line: line_at(lines, *at),
            offset: at.to_usize(),
        };
        let shadows = shadows.map(shadow).collect();
        let mentions = Names::ALL.map(|name| source.contains(name));
        Template { shadows, mentions, ..Template::with_slots(source, slots, Some(Insertion::find(source, body))) }
    }

    fn with_slots(source: &str, slots: [Option<Slot>; 3], insertion: Option<Insertion>) -> Self {
        let found = |name: &usize| slots[*name].as_ref().map(|slot| (slot.range.start, Place::Slot(*name)));
        let mut places: Vec<_> = (0..slots.len()).filter_map(|name| found(&name)).collect();
        places.extend(insertion.map(|insertion| (insertion.offset(), Place::Insertion(insertion))));
        places.sort_by_key(|(at, _)| *at);
        Template {
            places: places.into_iter().map(|(_, place)| place).collect(),
            source: source.to_owned(),
            mentions: [false; 3],
            shadows: Vec::new(),
            slots,
        }
    }

    /// Of dicts that were found without a tree: nothing is inserted where a name has none.
    pub(super) fn of_ranges(source: &str, dicts: [Option<TextRange>; 3], lines: &LineIndex) -> Self {
        let slots = dicts.map(|dict| dict.map(|range| Slot::new(source, range, lines)));
        Template::with_slots(source, slots, None)
    }

    /// The slots, in the order of [`Names::ALL`].
    pub fn slots(&self) -> &[Option<Slot>; 3] {
        &self.slots
    }

    /// Module-level assignments that hide passed data.
    pub fn shadows(&self) -> &[Shadow] {
        &self.shadows
    }

    /// A script that stands alone: the source with the data written into it as literals.
    ///
    /// A name without slot and data is bound to `{}` if the source mentions it. Line numbers stay, except where the
    /// source begins with a compound statement on its first free line and a name has no slot: that adds one line.
    pub fn inject(&self, data: Bindings) -> String {
        // Literals are seldom longer than what they replace by more than this; a guess spares copying the whole again.
        const ROOM: usize = 1024;
        let mut out = String::with_capacity(self.source.len() + ROOM);
        let mut copied = 0;
        let inserts = self.unbound(&data);
        for place in &self.places {
            let (range, write): (_, &dyn Fn(&mut String)) = match place {
                Place::Slot(name) => match (&self.slots[*name], data[*name]) {
                    (Some(slot), Some(value)) => (slot.range.clone(), &|out| slot.write(value, out)),
                    _ => continue,
                },
                Place::Insertion(insertion) if inserts => {
                    let at = insertion.offset();
                    (at..at, &|out| insertion.write(&self.source, out, &|out| self.bind_all(&data, out)))
                }
                Place::Insertion(_) => continue,
            };
            out.push_str(&self.source[copied..range.start]);
            write(&mut out);
            copied = range.end;
        }
        out.push_str(&self.source[copied..]);
        out
    }

    /// Whether a name needs a binding that no slot gives it.
    fn unbound(&self, data: &Bindings) -> bool {
        (0..Names::ALL.len()).any(|name| self.is_inserted(name, data))
    }

    fn is_inserted(&self, name: usize, data: &Bindings) -> bool {
        self.slots[name].is_none() && (data[name].is_some() || self.mentions[name])
    }

    fn bind_all(&self, data: &Bindings, out: &mut String) {
        let mut separator = "";
        for name in (0..Names::ALL.len()).filter(|name| self.is_inserted(*name, data)) {
            out.push_str(separator);
            out.push_str(Names::ALL[name]);
            out.push_str(" = ");
            literal(data[name].unwrap_or(&Value::Object(Vec::new())), out);
            separator = "; ";
        }
    }

    /// The code of a run: a marker in every slot that is filled. Data without a slot needs no text: it is bound before
    /// the code runs.
    pub fn prepare(&self, filled: [bool; 3]) -> String {
        let mut out = String::with_capacity(self.source.len());
        let mut copied = 0;
        for place in &self.places {
            let Place::Slot(name) = *place else { continue };
            let Some(slot) = self.slots[name].as_ref().filter(|_| filled[name]) else { continue };
            out.push_str(&self.source[copied..slot.range.start]);
            let marker = self.marker(name);
            out += &match slot.line_ends {
                0 => format!("'{marker}'"),
                ends => format!("('{marker}'{})", "\n".repeat(ends)),
            };
            copied = slot.range.end;
        }
        out.push_str(&self.source[copied..]);
        out
    }

    /// The string constant that stands for a name's data in prepared code. It holds the hash of the source, so no
    /// source can contain its own.
    pub fn marker(&self, name: usize) -> String {
        let hash = blake3::hash(self.source.as_bytes()).to_hex();
        format!("skc-slot-{}-{}", Names::ALL[name], &hash[..32])
    }

    /// The source the template was made of.
    pub fn source(&self) -> &str {
        &self.source
    }
}

impl Slot {
    fn new(source: &str, range: TextRange, lines: &LineIndex) -> Self {
        let line_ends = lines.line_index(range.end()).get() - lines.line_index(range.start()).get();
        debug_assert!(source.is_char_boundary(range.start().to_usize()));
        Slot { line: line_at(lines, range.start()), range: range.start().to_usize()..range.end().to_usize(), line_ends }
    }

    /// Where its dict stands, in bytes from the start of the source.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// The literal of an object, on as many lines as the dict it replaces.
    fn write(&self, value: &Value, out: &mut String) {
        literal(value, out);
        if self.line_ends > 0 {
            out.pop();
            out.extend(std::iter::repeat_n('\n', self.line_ends));
            out.push('}');
        }
    }
}

impl Insertion {
    fn find(source: &str, body: &[Stmt]) -> Self {
        let leading = body.iter().enumerate().take_while(|(index, statement)| is_leading(*index, statement));
        if let Some((_, last)) = leading.last() {
            return Insertion::AfterStatement(last.end().to_usize());
        }
        let first = body.first();
        if let Some(statement) = first.filter(|statement| is_simple(statement)) {
            return Insertion::BeforeStatement(statement.start().to_usize());
        }
        let end = first.map_or(source.len(), |statement| statement.start().to_usize());
        let otherwise = || match first {
            Some(_) => Insertion::NewLine(end),
            None => Insertion::after_everything(source),
        };
        Insertion::on_free_line(source, end).unwrap_or_else(otherwise)
    }

    /// Where nothing but pinned comments and white space stands, and the last line may lack its end or be a continued one.
    fn after_everything(source: &str) -> Self {
        let line = source.rfind(['\n', '\r']).map_or(0, |end| end + 1);
        let is_fresh = source[line..].trim_start_matches('\u{feff}').is_empty();
        let is_continued = source[..line].trim_end_matches(['\n', '\r']).ends_with('\\');
        if is_fresh && !is_continued { Insertion::NewLine(source.len()) } else { Insertion::LastLine(source.len()) }
    }

    /// The first blank line or movable comment before `end`, where only such lines stand. A `#!` line and an encoding
    /// cookie keep their place.
    fn on_free_line(source: &str, end: usize) -> Option<Self> {
        let mut at = source.len() - source.trim_start_matches('\u{feff}').len();
        for (index, line) in source.get(at..end)?.split_inclusive(['\n', '\r']).enumerate() {
            let content = line.trim_start_matches([' ', '\t', '\x0c']);
            // A continued line and the next are one; nothing fits between them.
            if content.starts_with('\\') {
                return None;
            }
            let start = at;
            at += line.len();
            let pinned = index < 2 && (content.starts_with("#!") || super::cookie(content).is_some());
            if content.starts_with('#') && !pinned {
                return Some(Insertion::BeforeComment(start));
            }
            // The empty rest between `\r` and `\n` is no line of its own, nor is text without a line end.
            let is_lf_of_crlf = content == "\n" && start > 0 && source.as_bytes()[start - 1] == b'\r';
            if content.starts_with(['\n', '\r']) && !is_lf_of_crlf {
                return Some(Insertion::BlankLine(start));
            }
        }
        None
    }

    fn offset(self) -> usize {
        match self {
            Insertion::AfterStatement(at)
            | Insertion::BeforeStatement(at)
            | Insertion::BlankLine(at)
            | Insertion::BeforeComment(at)
            | Insertion::NewLine(at)
            | Insertion::LastLine(at) => at,
        }
    }

    fn write(self, source: &str, out: &mut String, bindings: &dyn Fn(&mut String)) {
        let (before, after) = match self {
            Insertion::AfterStatement(_) => ("; ", ""),
            Insertion::BeforeStatement(_) => ("", "; "),
            Insertion::BlankLine(_) => ("", ""),
            Insertion::BeforeComment(_) => ("", "  "),
            Insertion::NewLine(_) => ("", line_end(source)),
            Insertion::LastLine(_) => (line_end(source), ""),
        };
        out.push_str(before);
        bindings(out);
        out.push_str(after);
    }
}

fn line_end(source: &str) -> &'static str {
    if source.contains("\r\n") { "\r\n" } else { "\n" }
}

fn is_leading(index: usize, statement: &Stmt) -> bool {
    match statement {
        Stmt::Expr(expression) => index == 0 && expression.value.is_string_literal_expr(),
        Stmt::ImportFrom(import) => import.module.as_ref().is_some_and(|module| module.as_str() == "__future__"),
        _ => false,
    }
}

fn is_simple(statement: &Stmt) -> bool {
    !matches!(
        statement,
        Stmt::FunctionDef(_)
            | Stmt::ClassDef(_)
            | Stmt::For(_)
            | Stmt::While(_)
            | Stmt::If(_)
            | Stmt::With(_)
            | Stmt::Match(_)
            | Stmt::Try(_)
    )
}

/// One pass over the module in evaluation order.
#[derive(Default)]
struct Scan {
    slots: [Option<TextRange>; 3],
    used: [bool; 3],
    /// Assignments of a name at module level that are not its slot.
    stores: Vec<(usize, TextSize)>,
    class_depth: usize,
    /// Names that enclosing comprehensions bind.
    bound: Vec<HashSet<String>>,
}

impl Scan {
    fn module_statement(&mut self, statement: &Stmt) {
        let Some((name, dict)) = slot_candidate(statement) else { return self.visit_stmt(statement) };
        // The dict is evaluated before the name is bound, so a use inside it counts.
        self.visit_expr(dict);
        if let Stmt::AnnAssign(assignment) = statement {
            self.visit_expr(&assignment.annotation);
        }
        if self.used[name] || self.slots[name].is_some() {
            self.stores.push((name, statement.start()));
        } else {
            self.slots[name] = Some(dict.range());
        }
    }

    fn store(&mut self, name: &str, at: TextSize) {
        if let Some(index) = Names::index(name).filter(|_| self.class_depth == 0) {
            self.stores.push((index, at));
        }
    }

    fn comprehension(&mut self, generators: &[Comprehension], expression: &Expr) {
        let mut names = TargetNames::default();
        for generator in generators {
            names.visit_expr(&generator.target);
        }
        self.bound.push(names.0);
        walk_expr(self, expression);
        self.bound.pop();
    }
}

/// `NAME = {...}` and `NAME: T = {...}` with one of the three names.
pub(super) fn slot_candidate(statement: &Stmt) -> Option<(usize, &Expr)> {
    let (target, value) = match statement {
        Stmt::Assign(assignment) => match &*assignment.targets {
            [target] => (target, &*assignment.value),
            _ => return None,
        },
        Stmt::AnnAssign(assignment) => (&*assignment.target, assignment.value.as_deref()?),
        _ => return None,
    };
    let name = Names::index(target.as_name_expr()?.id.as_str())?;
    value.is_dict_expr().then_some((name, value))
}

impl<'a> Visitor<'a> for Scan {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        match statement {
            Stmt::FunctionDef(function) => {
                self.store(&function.name, function.start());
                function.decorator_list.iter().for_each(|decorator| self.visit_decorator(decorator));
                self.visit_parameters(&function.parameters);
                function.returns.iter().for_each(|annotation| self.visit_annotation(annotation));
            }
            Stmt::ClassDef(class) => {
                self.store(&class.name, class.start());
                self.class_depth += 1;
                walk_stmt(self, statement);
                self.class_depth -= 1;
            }
            Stmt::Import(import) => import.names.iter().for_each(|alias| {
                let bound = alias.asname.as_ref().unwrap_or(&alias.name);
                self.store(bound.split('.').next().unwrap_or_default(), alias.start());
            }),
            Stmt::ImportFrom(import) => import.names.iter().for_each(|alias| {
                self.store(alias.asname.as_ref().unwrap_or(&alias.name), alias.start());
            }),
            Stmt::AugAssign(assignment) => {
                if let Some(name) = assignment.target.as_name_expr().and_then(|name| Names::index(&name.id)) {
                    self.used[name] = true;
                }
                walk_stmt(self, statement);
            }
            _ => walk_stmt(self, statement),
        }
    }

    fn visit_expr(&mut self, expression: &'a Expr) {
        match expression {
            Expr::Name(name) => {
                let Some(index) = Names::index(&name.id) else { return };
                if matches!(name.ctx, ExprContext::Store) {
                    self.store(&name.id, name.start());
                } else if !self.bound.iter().any(|names| names.contains(name.id.as_str())) {
                    self.used[index] = true;
                }
            }
            Expr::Lambda(lambda) => lambda.parameters.iter().for_each(|parameters| self.visit_parameters(parameters)),
            Expr::ListComp(inner) => self.comprehension(&inner.generators, expression),
            Expr::SetComp(inner) => self.comprehension(&inner.generators, expression),
            Expr::DictComp(inner) => self.comprehension(&inner.generators, expression),
            Expr::Generator(inner) => self.comprehension(&inner.generators, expression),
            _ => walk_expr(self, expression),
        }
    }

    fn visit_comprehension(&mut self, comprehension: &'a Comprehension) {
        // The target binds a name of the comprehension, not of the module.
        self.visit_expr(&comprehension.iter);
        comprehension.ifs.iter().for_each(|condition| self.visit_expr(condition));
    }
}

/// The names a comprehension's targets bind.
#[derive(Default)]
struct TargetNames(HashSet<String>);

impl<'a> Visitor<'a> for TargetNames {
    fn visit_expr(&mut self, expression: &'a Expr) {
        if let Expr::Name(name) = expression {
            self.0.insert(name.id.to_string());
        }
        walk_expr(self, expression);
    }
}

#[cfg(test)]
mod tests {
    use super::super::analyse;
    use super::*;

    fn template(source: &str) -> Template {
        analyse(source, None).unwrap_or_else(|fault| panic!("{source}: {fault:?}")).template
    }

    fn slot_lines(source: &str) -> [Option<u32>; 3] {
        template(source).slots.map(|slot| slot.map(|slot| slot.line))
    }

    fn injected(source: &str, inputs: &str) -> String {
        let value = Value::parse(inputs).expect("json");
        template(source).inject([Some(&value), None, None])
    }

    #[test]
    fn a_source_without_statements_takes_a_binding() {
        for (source, expected) in [
            ("", "inputs = {}\n"),
            (" ", " \ninputs = {}"),
            ("\u{feff}", "\u{feff}inputs = {}\n"),
            ("\u{feff}\t", "\u{feff}\t\ninputs = {}"),
            ("#!/usr/bin/python", "#!/usr/bin/python\ninputs = {}"),
            ("#!/usr/bin/python\n", "#!/usr/bin/python\ninputs = {}\n"),
            ("#!/usr/bin/python\r\n ", "#!/usr/bin/python\r\n \r\ninputs = {}"),
            ("# a comment", "inputs = {}  # a comment"),
            ("\t\\\n ", "\t\\\n \ninputs = {}"),
        ] {
            assert_eq!(injected(source, "{}"), expected, "{source:?}");
            assert!(analyse(&injected(source, "{}"), None).is_ok(), "{source:?}");
        }
    }

    #[test]
    fn the_slot_is_the_first_dict_before_any_use() {
        for (source, line) in [
            ("inputs = {}", Some(1)),
            ("\n\ninputs: dict = {\n 'a': 1}", Some(3)),
            ("inputs = ({})", Some(1)),
            ("inputs = None\ninputs = {}", Some(2)),
            ("def f(inputs):\n  return inputs\ninputs = {}", Some(3)),
            ("def f():\n  return inputs\ninputs = {}", Some(3)),
            ("f = lambda: inputs\ninputs = {}", Some(2)),
            ("x = [inputs for inputs in y]\ninputs = {}", Some(2)),
            ("class A:\n  inputs = {}\ninputs = {}", Some(3)),
            ("if x:\n  inputs = {}\ninputs = {}", Some(3)),
            ("s = 'inputs = {}'\n", None),
            ("print(inputs)\ninputs = {}", None),
            ("def f(x=inputs): pass\ninputs = {}", None),
            ("inputs = {**inputs}", None),
            ("inputs |= {}\ninputs = {}", None),
            ("del inputs\ninputs = {}", None),
            ("class A:\n  x = inputs\ninputs = {}", None),
            ("inputs = dict(a=1)", None),
            ("inputs = {k: 1 for k in x}", None),
            ("inputs = {1, 2}", None),
            ("a = inputs = {}", None),
            ("inputs, x = {}, 1", None),
        ] {
            assert_eq!(slot_lines(source)[0], line, "{source}");
        }
        assert_eq!(slot_lines("context = {}\ninputs = {}\nparameters = {}"), [Some(2), Some(1), Some(3)]);
    }

    #[test]
    fn later_rebindings_are_found() {
        let lines =
            |source| template(source).shadows.iter().map(|shadow| (shadow.name, shadow.line)).collect::<Vec<_>>();
        assert_eq!(lines("inputs = {}\nx = 1\ninputs = {}"), [("inputs", 3)]);
        assert_eq!(lines("print(inputs)\ninputs = {}"), [("inputs", 2)]);
        assert_eq!(lines("inputs = {}\nif x:\n  context = 1\nimport a as inputs"), [("context", 3), ("inputs", 4)]);
        assert_eq!(lines("inputs = None\ninputs = {}\ndef f():\n  inputs = 1\nclass A:\n  inputs = 2"), []);
    }

    #[test]
    fn literals_replace_the_dict_and_nothing_else() {
        let source = "# c\ninputs = {  # keep?\n  'a': 1,\n}  # after\r\nresult = inputs\n";
        assert_eq!(injected(source, r#"{"a":2}"#), "# c\ninputs = {\"a\": 2\n\n}  # after\r\nresult = inputs\n");
        assert_eq!(injected("inputs = {}", "{}"), "inputs = {}");
    }

    #[test]
    fn bindings_without_a_slot_move_no_line() {
        for (source, expected) in [
            ("result = inputs", "inputs = {\"a\": 1}; result = inputs"),
            ("'doc'\nresult = inputs", "'doc'; inputs = {\"a\": 1}\nresult = inputs"),
            ("('doc')  # c\ndef f(): pass", "('doc'); inputs = {\"a\": 1}  # c\ndef f(): pass"),
            ("'doc'; x = 1", "'doc'; inputs = {\"a\": 1}; x = 1"),
            (
                "'doc'\nfrom __future__ import (\n  annotations)\ndef f(): pass",
                "'doc'\nfrom __future__ import (\n  annotations); inputs = {\"a\": 1}\ndef f(): pass",
            ),
            (
                "#!/x\n# coding: utf-8\n# c\ndef f(): pass",
                "#!/x\n# coding: utf-8\ninputs = {\"a\": 1}  # c\ndef f(): pass",
            ),
            ("#!/x\r\n\r\ndef f(): pass", "#!/x\r\ninputs = {\"a\": 1}\r\ndef f(): pass"),
            ("\u{feff}\ndef f(): pass", "\u{feff}inputs = {\"a\": 1}\ndef f(): pass"),
            ("def f(): pass", "inputs = {\"a\": 1}\ndef f(): pass"),
            ("", "inputs = {\"a\": 1}\n"),
            ("# only", "inputs = {\"a\": 1}  # only"),
        ] {
            assert_eq!(injected(source, r#"{"a":1}"#), expected, "{source:?}");
        }
    }

    #[test]
    fn prepared_code_keeps_lines_and_holds_no_data() {
        let template = template("inputs = {\n 'a': 1\n}\nresult = inputs\n");
        let marker = template.marker(0);
        assert_eq!(template.prepare([true, true, true]), format!("inputs = ('{marker}'\n\n)\nresult = inputs\n"));
        assert_eq!(template.prepare([false, true, true]), template.source);
    }
}
