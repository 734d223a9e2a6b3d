//! What a source reaches that a skill should not: findings with a rule, a place and advice.
//!
//! One walk over the tree ([`uses`](super::uses)) notes what is bound and what is used; when it ends, uses are judged
//! ([`judgement`](super::judgement)) by the table in [`rules`](super::rules). Judging last is what lets a skill's own names be no
//! alarm, and an import be judged by what is done with it: `import os` is a warning where only `os.path` is used.
//!
//! This is lint. A program can always hide what it does; the sandbox is what confines it. What the walk promises is that
//! plain mistakes and plain malice are named early, and that harmless code is let through.

use ruff_python_ast::Stmt;
use ruff_source_file::LineIndex;
use ruff_text_size::TextSize;

use super::template::Template;
use super::{judgement, rules, text};
use crate::config::module_names;
use crate::json::Value;

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Often harmless; said, and nothing else.
    Warning,
    /// Refuses the skill where the policy is enforced.
    Error,
}

impl Severity {
    /// `warning` or `error`.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// One thing that is to be said about a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Its rule's stable id.
    pub rule: &'static str,
    /// How much it weighs.
    pub severity: Severity,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1, in characters.
    pub column: u32,
    /// What was found.
    pub message: String,
    /// The line it stands on, cut around the column if it is long.
    pub text: String,
}

impl Finding {
    /// What would be right.
    pub fn advice(&self) -> &'static str {
        rules::named(self.rule).advice
    }

    /// `{"rule", "severity", "line", "column", "message", "advice", "text"}`.
    pub fn to_value(&self) -> Value {
        Value::object([
            ("rule", Value::from(self.rule)),
            ("severity", Value::from(self.severity.name())),
            ("line", Value::from(self.line)),
            ("column", Value::from(self.column)),
            ("message", Value::from(self.message.as_str())),
            ("advice", Value::from(self.advice())),
            ("text", Value::from(self.text.as_str())),
        ])
    }
}

/// What a host changes about the rules for modules.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    allowed: Vec<String>,
    denied: Vec<String>,
}

impl Policy {
    /// From two lists of dotted names, as `policy.allow_imports` and `policy.deny_imports` take them: separated by commas or
    /// white space. A name speaks for everything below it; `*`, in the list of denied ones, for every module.
    pub fn new(allowed: &str, denied: &str) -> Self {
        let names = |list| module_names(list).map(str::to_owned).collect();
        Policy { allowed: names(allowed), denied: names(denied) }
    }

    /// What tells one set of rules from another; part of what a kept verdict is found by.
    pub fn identity(&self) -> String {
        format!("{};{};{}", rules::RULES_VERSION, self.allowed.join(","), self.denied.join(","))
    }

    /// Whether the host has the last word on a module, and allows it.
    pub fn allows(&self, module: &str) -> bool {
        self.says(&module.split('.').collect::<Vec<_>>()) == Some(true)
    }

    /// What the host says of a full name: whether it is allowed, or nothing.
    pub(super) fn says(&self, path: &[&str]) -> Option<bool> {
        let longest = |list: &[String]| list.iter().filter_map(|name| covers(name, path)).max();
        match (longest(&self.allowed), longest(&self.denied)) {
            (None, None) => None,
            (allowed, denied) => Some(allowed > denied),
        }
    }
}

/// How many parts of `path` the name `name` speaks for.
fn covers(name: &str, path: &[&str]) -> Option<usize> {
    if name == "*" {
        return Some(0);
    }
    let parts = name.split('.').count();
    name.split('.').eq(path.iter().copied().take(parts)).then_some(parts)
}

/// More findings than this are not listed: they would say nothing new.
const MOST_FINDINGS: usize = 200;

/// What the policy and the slots have to say about a source, in the order of its lines.
pub(super) fn findings(
    source: &str,
    body: &[Stmt],
    lines: &LineIndex,
    template: &Template,
    policy: Option<&Policy>,
) -> Vec<Finding> {
    let mut notes = policy.map_or_else(Vec::new, |policy| judgement::notes(source, body, policy));
    notes.extend(template.shadows().iter().map(|shadow| Note {
        at: TextSize::try_from(shadow.offset).unwrap_or_default(),
        rule: "input-shadowed",
        severity: Severity::Warning,
        message: format!("this assignment of `{}` hides the data passed to the skill", shadow.name),
    }));
    // The heaviest are kept if there are too many.
    notes.sort_by(|a, b| (b.severity, a.at, a.rule, &a.message).cmp(&(a.severity, b.at, b.rule, &b.message)));
    notes.dedup();
    notes.truncate(MOST_FINDINGS);
    notes.sort_by_key(|note| note.at);
    let finding = |note: Note| {
        let (line, column) = text::place(source, lines, note.at);
        let Note { rule, severity, message, at } = note;
        let text = text::shown(text::line_of(source, lines, at), column);
        Finding { rule, severity, line, column, message, text }
    };
    notes.into_iter().map(finding).collect()
}

/// A finding whose place is still an offset.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub at: TextSize,
    pub rule: &'static str,
    pub severity: Severity,
    pub message: String,
}
