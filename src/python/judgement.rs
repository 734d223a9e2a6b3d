//! What is to be said of what a source uses, when all its bindings are known.

use foldhash::{HashMap, HashMapExt, HashSet};

use ruff_python_ast::Stmt;

use super::policy::{Note, Policy, Severity};
use super::rules::{self, Kind, LONGEST_NAME, Row};
use super::scope::{Reach, ScopeId, Scopes};
use super::uses::{Import, Use, Uses, is_inner};

/// What the policy says of a source.
pub(super) fn notes(source: &str, body: &[Stmt], policy: &Policy) -> Vec<Note> {
    let mut noted = Uses::of(source, body);
    let uses = std::mem::take(&mut noted.uses);
    let imports = std::mem::take(&mut noted.imports);
    let imported = imports.iter().map(|import| import.path.clone()).collect();
    let mut judgement = Judgement { policy, noted, imported, lookups: Lookups::default() };
    let done = judgement.judge_uses(&uses);
    judgement.judge_imports(&imports, &done);
    judgement.judge_attributes();
    judgement.judge_computed();
    judgement.judge_formats();
    judgement.noted.notes
}

/// Imports of more parts are not looked for among the beginnings of what is used: a chain may have thousands.
const LONGEST_IMPORT: usize = 16;

/// What is done with each imported name: the full names of what is used.
type Done<'a> = HashMap<&'a str, HashSet<Vec<&'a str>>>;

struct Judgement<'a> {
    policy: &'a Policy,
    noted: Uses<'a>,
    /// The full names that imports give.
    imported: HashSet<Vec<&'a str>>,
    lookups: Lookups<'a>,
}

impl<'a> Judgement<'a> {
    fn judge_uses(&mut self, uses: &[Use<'a>]) -> Done<'a> {
        let mut done = Done::new();
        for used in uses {
            // Most names are neither.
            if !self.noted.scopes.may_be_imported(used.root)
                && rules::find(Kind::Builtin, used.root).is_none()
                && !used.attributes.iter().any(|name| is_inner(name))
            {
                continue;
            }
            match self.lookups.path_of(&self.noted.scopes, used) {
                Some(path) => {
                    self.judge_use(used, &path);
                    done.entry(used.root).or_default().insert(path);
                }
                None => {
                    self.judge_builtin(used);
                    self.judge_inner(used);
                }
            }
        }
        done
    }

    fn judge_imports(&mut self, imports: &[Import<'a>], done: &Done<'a>) {
        let mut rows = HashMap::new();
        for import in imports {
            let row = *rows.entry((import.bound, &import.path)).or_insert_with(|| {
                let uses = done.get(import.bound).into_iter().flatten();
                row_of_import(import, self.policy, uses)
            });
            self.judge_import(import, row);
        }
    }

    /// `getattr(x, computed)`: harmless on most things, not on a module that has a row.
    fn judge_computed(&mut self) {
        for used in std::mem::take(&mut self.noted.computed) {
            let path = self.lookups.path_of(&self.noted.scopes, &used);
            let has_row = |path: &Vec<&str>| !self.allows(path) && row_of(path).is_some();
            let (severity, of) = if path.is_some_and(|path| has_row(&path)) {
                (Severity::Error, " of a module")
            } else {
                (Severity::Warning, "")
            };
            let message = format!("looks up an attribute{of} by a computed name");
            self.noted.note(used.at, "computed-attribute", severity, message);
        }
    }

    fn judge_formats(&mut self) {
        for (name, at) in std::mem::take(&mut self.noted.formats) {
            if !name.is_some_and(|name| self.noted.texts.contains(name)) {
                let message = "`.format` of a text that is not written here".to_owned();
                self.noted.note(at, "format-computed", Severity::Warning, message);
            }
        }
    }

    fn judge_builtin(&mut self, used: &Use<'a>) {
        /// Python 3 has none of these, so that any binding is the skill's own.
        const GONE: &[&str] = &["file", "raw_input", "reload", "execfile"];
        let Some(row) = rules::find(Kind::Builtin, used.root) else { return };
        let reach = self.lookups.reach(&self.noted.scopes, used);
        let is_own = self.noted.scopes.is_own(used.root, used.scope, reach, used.at.to_u32())
            || (GONE.contains(&used.root) && self.noted.scopes.is_bound(used.root, 0));
        if !is_own {
            self.noted.note_row(used.at, row, used.root);
        }
    }

    /// `x.os.system`, where nothing is known of `x`, unless the skill gives something an attribute of that name.
    fn judge_inner(&mut self, used: &Use<'a>) {
        let Some(at) = used.attributes.iter().rposition(|name| is_inner(name)) else { return };
        let name = used.attributes[at];
        let path = [&[""], &used.attributes[at..]].concat();
        let Some((inner, row)) = inner_module(&path).filter(|_| !self.noted.defined_attributes.contains(name)) else {
            return;
        };
        if !self.allows(&inner) {
            self.noted.note(used.at, "module-attribute", row.severity, format!("`.{name}`: {}", row.reason));
        }
    }

    fn judge_use(&mut self, used: &Use, path: &[&str]) {
        // What the import itself is already is said there.
        let longest = path.len().min(LONGEST_IMPORT);
        let import = (1..=longest).rev().map(|parts| &path[..parts]).find(|parts| self.imported.contains(*parts));
        let said = import.and_then(row_of);
        let shown = path.join(".");
        if let Some((inner, row)) = inner_module(path) {
            if import != Some(path) && !self.allows(&inner) {
                self.noted.note(used.at, "module-attribute", row.severity, format!("`{shown}`: {}", row.reason));
            }
            return;
        }
        match self.policy.says(path) {
            Some(true) => return,
            Some(false) if import.is_none_or(|import| self.policy.says(import) != Some(false)) => {
                let message = format!("`{shown}`: the host denies it");
                return self.noted.note(used.at, "import-denied", Severity::Error, message);
            }
            _ => {}
        }
        match row_of(path) {
            Some(row) if said.is_none_or(|said| said.severity < row.severity) && import != Some(path) => {
                self.noted.note_row(used.at, row, &shown);
            }
            _ if path.len() == 2 && path[1] == "__dict__" && import.is_some_and(|import| import.len() == 1) => {
                let message = format!("`{shown}`: reaches all of a module");
                self.noted.note(used.at, "namespace-access", Severity::Error, message);
            }
            _ => {}
        }
    }

    fn judge_import(&mut self, import: &Import, row: Option<&'static Row>) {
        match self.policy.says(&import.path) {
            Some(true) => {}
            Some(false) => {
                let message = format!("`{}`: the host denies it", import.shown);
                self.noted.note(import.at, "import-denied", Severity::Error, message);
            }
            None => match (inner_module(&import.path), row) {
                (Some((_, row)), _) => {
                    let message = format!("`{}`: {}", import.shown, row.reason);
                    self.noted.note(import.at, "module-attribute", row.severity, message);
                }
                (None, Some(row)) => self.noted.note_row(import.at, row, &import.shown),
                (None, None) => {}
            },
        }
    }

    fn allows(&self, path: &[&str]) -> bool {
        self.policy.says(path) == Some(true)
    }

    fn judge_attributes(&mut self) {
        let imports_paths = self.imported.iter().any(|path| path[0] == "pathlib");
        let reaches_paths = imports_paths && !self.allows(&["pathlib"]);
        for (name, at) in std::mem::take(&mut self.noted.attributes) {
            let is_own = !name.starts_with("__") && self.noted.defined_attributes.contains(name);
            if let Some(row) = rules::find(Kind::Attribute, name) {
                if !is_own {
                    self.noted.note_row(at, row, &format!(".{name}"));
                }
            } else if let Some(row) = rules::find(Kind::PathMethod, name).filter(|_| reaches_paths && !is_own) {
                self.noted.note_row(at, row, &format!(".{name}"));
            }
        }
    }
}

/// Lookups made once for each name in each scope.
#[derive(Default)]
struct Lookups<'a> {
    imported: HashMap<(ScopeId, &'a str), Option<Vec<&'a str>>>,
    reached: HashMap<(ScopeId, &'a str), Reach>,
}

impl<'a> Lookups<'a> {
    /// The full name of what is used, if its root is an import or another name for one.
    fn path_of(&mut self, scopes: &Scopes<'a>, used: &Use<'a>) -> Option<Vec<&'a str>> {
        let root = self.imported.entry((used.scope, used.root));
        let mut path = root.or_insert_with(|| scopes.imported(used.root, used.scope)).clone()?;
        path.extend(&used.attributes);
        Some(path)
    }

    fn reach(&mut self, scopes: &Scopes<'a>, used: &Use<'a>) -> Reach {
        *self.reached.entry((used.scope, used.root)).or_insert_with(|| scopes.reach(used.root, used.scope))
    }
}

/// What an import is to be judged by: its own row, or the harmless part of the module that alone is used.
fn row_of_import<'u, 'a: 'u>(
    import: &Import,
    policy: &Policy,
    uses: impl Iterator<Item = &'u Vec<&'a str>>,
) -> Option<&'static Row> {
    let own = row_of(&import.path)?;
    // Nothing is to be said of what the host allows.
    let mut harmless: Option<Option<&'static Row>> = None;
    for path in uses {
        let row = row_of(path).filter(|_| policy.says(path) != Some(true));
        match row {
            None if policy.says(path) == Some(true) => harmless = harmless.or(Some(None)),
            Some(row) if row.severity == Severity::Warning && inner_module(path).is_none() => {
                harmless = Some(Some(row))
            }
            _ => return Some(own),
        }
    }
    let is_judged_by_use = own.severity == Severity::Error && own.kind == Kind::Module;
    harmless.filter(|_| is_judged_by_use).unwrap_or(Some(own))
}

/// The row for the longest part of a full name that has one.
pub(super) fn row_of(path: &[&str]) -> Option<&'static Row> {
    let find = |name: &str| rules::find(Kind::Member, name).or_else(|| rules::find(Kind::Module, name));
    let path = &path[..path.len().min(LONGEST_NAME)];
    let whole = path.join(".");
    let mut end = whole.len();
    path.iter().rev().find_map(|part| {
        let name = &whole[..end];
        end = end.saturating_sub(part.len() + 1);
        let private = || name.strip_prefix('_').and_then(|name| find(name.trim_start_matches('_')));
        find(name).or_else(|| private().filter(|row| row.kind == Kind::Module))
    })
}

/// The part of a full name that starts at a module another module has imported for itself, and its row.
fn inner_module<'n>(path: &[&'n str]) -> Option<(Vec<&'n str>, &'static Row)> {
    // `json.codecs.open`: whatever has a row in its own module has it in every other.
    let is_member = |at: usize| row_of(&path[at..]).is_some_and(|row| row.kind == Kind::Member);
    let at = (1..path.len()).rev().find(|at| {
        let name = path[*at].trim_start_matches('_');
        // `asyncio.subprocess` has a row of its own.
        let has_own_row = || *at < LONGEST_NAME && rules::find(Kind::Member, &path[..=*at].join(".")).is_some();
        (is_inner(name) && !has_own_row()) || is_member(*at)
    })?;
    let mut inner = path[at..].to_vec();
    inner[0] = inner[0].trim_start_matches('_');
    row_of(&inner).map(|row| (inner, row))
}
