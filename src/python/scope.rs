//! Which names of a source are its own.
//!
//! `open` is an alarm, unless the skill defines an `open` of its own. Python decides that by scope and time: a function's
//! name is local wherever the function binds it; at module level a name is the built-in until its binding has run. This
//! module keeps what is bound where, and answers when the whole source is read. In doubt a name is *not* the skill's own:
//! a binding inside an `if` may not happen, and one that is deleted again does not count.

use std::ops::Range;

use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};

/// A scope, by its number; the module is 0.
pub(super) type ScopeId = usize;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScopeKind {
    Module,
    Class,
    /// Functions, lambdas and comprehensions.
    Function,
}

/// What binds a name.
#[derive(Debug, Clone, Default)]
pub(super) enum Source<'a> {
    /// A definition, an assignment, a target, a parameter.
    #[default]
    Own,
    /// An import, or another name for one: the full name.
    Import(Vec<&'a str>),
    /// `NAME = other.attributes`, which may be an import under another name.
    Alias(&'a str, Vec<&'a str>),
}

#[derive(Debug)]
struct Scope<'a> {
    kind: ScopeKind,
    parent: ScopeId,
    bindings: HashMap<&'a str, Binding<'a>>,
    globals: HashSet<&'a str>,
}

#[derive(Debug, Default)]
struct Binding<'a> {
    source: Source<'a>,
    /// Where it certainly holds: from the end of what binds it to the end of the block that does.
    certain: Vec<Range<u32>>,
    is_deleted: bool,
}

/// In more blocks than this one name is not followed; a use there is an alarm.
const MOST_BLOCKS: usize = 64;

/// A block that ends here ends with its scope.
pub(super) const TO_THE_END: u32 = u32::MAX;

/// Where the lookup of a name ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// In a function that binds it.
    Local,
    /// At class or module level, or among the built-in names.
    Outside { in_function: bool },
}

#[derive(Debug)]
pub(super) struct Scopes<'a> {
    all: Vec<Scope<'a>>,
    current: ScopeId,
    /// Names that some scope binds to an import, or to what may be one.
    imported: HashSet<&'a str>,
    /// Where module-level code first calls something: from there on functions may run.
    first_call: u32,
}

impl<'a> Scopes<'a> {
    pub fn new() -> Self {
        Scopes {
            all: vec![Scope::new(ScopeKind::Module, 0)],
            current: 0,
            imported: HashSet::new(),
            first_call: u32::MAX,
        }
    }

    pub fn current(&self) -> ScopeId {
        self.current
    }

    pub fn is_in_class(&self) -> bool {
        self.all[self.current].kind == ScopeKind::Class
    }

    /// Whether names are bound for good by whoever binds them.
    pub fn is_in_function(&self) -> bool {
        self.all[self.current].kind == ScopeKind::Function
    }

    pub fn enter(&mut self, kind: ScopeKind) {
        self.all.push(Scope::new(kind, self.current));
        self.current = self.all.len() - 1;
    }

    pub fn leave(&mut self) {
        self.current = self.all[self.current].parent;
    }

    /// A name is bound, and the binding holds where `certain` says.
    pub fn bind(&mut self, name: &'a str, certain: Range<u32>, source: Source<'a>) {
        let is_redundant = |known: &Range<u32>| known.start <= certain.start && certain.end <= known.end;
        if !matches!(source, Source::Own) {
            self.imported.insert(name);
        }
        let (binding, is_global) = self.binding(name);
        if !matches!(source, Source::Own) {
            binding.source = source;
        }
        if !is_global && binding.certain.len() < MOST_BLOCKS && !binding.certain.iter().any(is_redundant) {
            binding.certain.push(certain);
        }
    }

    pub fn delete(&mut self, name: &'a str) {
        self.binding(name).0.is_deleted = true;
    }

    /// What the current scope binds `name` to, and whether that is the module's.
    fn binding(&mut self, name: &'a str) -> (&mut Binding<'a>, bool) {
        let is_global = self.all[self.current].globals.contains(name);
        let scope = if is_global { 0 } else { self.current };
        (self.all[scope].bindings.entry(name).or_default(), is_global)
    }

    pub fn declare_global(&mut self, name: &'a str) {
        self.all[self.current].globals.insert(name);
    }

    /// A call at `offset`, in whatever scope.
    pub fn call(&mut self, offset: u32) {
        let in_function = self.chain(self.current).any(|scope| self.all[scope].kind == ScopeKind::Function);
        if !in_function {
            self.first_call = self.first_call.min(offset);
        }
    }

    fn chain(&self, from: ScopeId) -> impl Iterator<Item = ScopeId> + '_ {
        let mut next = Some(from);
        std::iter::from_fn(move || {
            let scope = next?;
            next = (scope != 0).then(|| self.all[scope].parent);
            Some(scope)
        })
    }

    /// How a name used in a scope is looked up. Asked once for a name and scope: scopes may nest thousands deep.
    pub fn reach(&self, name: &str, scope: ScopeId) -> Reach {
        let mut in_function = false;
        for (_, scope) in self.visible(scope, name).filter(|(_, scope)| scope.kind == ScopeKind::Function) {
            in_function = true;
            if scope.bindings.contains_key(name) {
                return Reach::Local;
            }
        }
        Reach::Outside { in_function }
    }

    /// Whether a use of `name` at `offset` certainly is the skill's own name and not the built-in one.
    pub fn is_own(&self, name: &str, scope: ScopeId, reach: Reach, offset: u32) -> bool {
        let Reach::Outside { in_function } = reach else { return true };
        let runs_later = |range: &Range<u32>| in_function && range.end == TO_THE_END && range.start <= self.first_call;
        let holds = |id: ScopeId| {
            self.all[id].bindings.get(name).is_some_and(|binding| {
                let mut certain = binding.certain.iter();
                !binding.is_deleted && certain.any(|range| range.contains(&offset) || (id == 0 && runs_later(range)))
            })
        };
        let is_global = self.all[scope].globals.contains(name);
        holds(0) || (!is_global && self.all[scope].kind == ScopeKind::Class && holds(scope))
    }

    /// Whether anything in sight binds the name, certainly or not.
    pub fn is_bound(&self, name: &str, scope: ScopeId) -> bool {
        self.visible(scope, name).any(|(_, scope)| scope.bindings.contains_key(name))
    }

    /// The scopes in which Python looks for a name, innermost first.
    fn visible<'s>(&'s self, from: ScopeId, name: &'s str) -> impl Iterator<Item = (ScopeId, &'s Scope<'a>)> {
        let is_global = self.all[from].globals.contains(name);
        self.chain(from)
            .filter(move |id| !is_global || *id == 0)
            // A class's names are not seen from the functions inside it.
            .filter(move |id| *id == from || self.all[*id].kind != ScopeKind::Class)
            .map(|id| (id, &self.all[id]))
    }

    /// Whether `name` can be an import anywhere. Says it fast, for the many that are not.
    pub fn may_be_imported(&self, name: &str) -> bool {
        self.imported.contains(name)
    }

    /// The full name of what `name` stands for, if that is an import or another name for one.
    pub fn imported(&self, name: &str, scope: ScopeId) -> Option<Vec<&'a str>> {
        self.follow(name, scope, 0)
    }

    fn follow(&self, name: &str, scope: ScopeId, depth: usize) -> Option<Vec<&'a str>> {
        const LONGEST: usize = 16;
        let binding = self.visible(scope, name).find_map(|(_, scope)| scope.bindings.get(name))?;
        match &binding.source {
            Source::Own => None,
            Source::Import(path) => Some(path.clone()),
            Source::Alias(root, attributes) if depth < LONGEST => {
                let mut path = self.follow(root, scope, depth + 1)?;
                path.extend(attributes);
                Some(path)
            }
            Source::Alias(..) => None,
        }
    }
}

impl Scope<'_> {
    fn new(kind: ScopeKind, parent: ScopeId) -> Self {
        Scope { kind, parent, bindings: HashMap::new(), globals: HashSet::new() }
    }
}
