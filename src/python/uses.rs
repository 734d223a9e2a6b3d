//! The policy's walk: what a source binds, imports and uses, noted once, judged later.

use foldhash::{HashSet, HashSetExt};

use ruff_python_ast::visitor::{self, Visitor, walk_expr, walk_stmt};
use ruff_python_ast::{
    Comprehension, ExceptHandler, Expr, ExprAttribute, ExprCall, ExprContext, ExprStringLiteral, ExprSubscript,
    Keyword, Parameters, Pattern, PatternKeyword, Stmt, StmtImport, StmtImportFrom,
};
use ruff_text_size::{Ranged, TextSize};

use super::assembled::{fold, is_decoded, walks_in_format};
use super::assigned;
use super::judgement::row_of;
use super::policy::{Note, Severity};
use super::rules::{self, INNER_MODULES, Kind, Row};
use super::scope::{ScopeId, ScopeKind, Scopes, Source, TO_THE_END};

/// `root.attributes`, loaded.
pub(super) struct Use<'a> {
    pub root: &'a str,
    pub attributes: Vec<&'a str>,
    pub scope: ScopeId,
    pub at: TextSize,
}

/// A module that an `import` names, and the name it is bound to.
pub(super) struct Import<'a> {
    pub path: Vec<&'a str>,
    pub bound: &'a str,
    pub at: TextSize,
    pub shown: String,
}

/// What the walk noted.
pub(super) struct Uses<'a> {
    source: &'a str,
    pub scopes: Scopes<'a>,
    /// What needs no judging.
    pub notes: Vec<Note>,
    pub uses: Vec<Use<'a>>,
    pub imports: Vec<Import<'a>>,
    /// Attributes that mean something by themselves, unless the skill defines them.
    pub attributes: Vec<(&'a str, TextSize)>,
    pub defined_attributes: HashSet<&'a str>,
    /// `.format` on something that is not written there.
    pub formats: Vec<(Option<&'a str>, TextSize)>,
    /// `getattr(root.attributes, computed)`.
    pub computed: Vec<Use<'a>>,
    /// Names that are bound to text.
    pub texts: HashSet<&'a str>,
    /// Where the innermost statement ends, and its block: in between its bindings hold.
    statement_end: u32,
    block_end: u32,
    /// Whether the next block is that of a scope, not one that may not run.
    is_outermost: bool,
    /// What is folded already, up to here, and where something starts that cannot be folded.
    folded: TextSize,
    not_folded: Option<TextSize>,
}

impl<'a> Uses<'a> {
    pub fn of(source: &'a str, body: &'a [Stmt]) -> Self {
        let mut uses = Uses {
            source,
            scopes: Scopes::new(),
            notes: Vec::new(),
            uses: Vec::new(),
            imports: Vec::new(),
            attributes: Vec::new(),
            defined_attributes: HashSet::new(),
            formats: Vec::new(),
            computed: Vec::new(),
            texts: HashSet::new(),
            statement_end: 0,
            block_end: TO_THE_END,
            is_outermost: true,
            folded: TextSize::default(),
            not_folded: None,
        };
        uses.visit_body(body);
        uses
    }

    pub fn note(&mut self, at: TextSize, rule: &'static str, severity: Severity, message: String) {
        self.notes.push(Note { at, rule, severity, message });
    }

    pub fn note_row(&mut self, at: TextSize, row: &Row, shown: &str) {
        self.note(at, row.rule, row.severity, format!("`{shown}`: {}", row.reason));
    }

    fn bind(&mut self, name: &'a str, source: Source<'a>) {
        self.scopes.bind(name, self.statement_end..self.block_end, source);
    }

    /// Targets of a `for` or `with`, which hold in its body.
    fn bind_for(&mut self, target: &'a Expr, body: &'a [Stmt]) {
        let end = body.last().map_or(0, |last| last.end().to_u32());
        let outer = (self.statement_end, self.block_end);
        (self.statement_end, self.block_end) = (target.end().to_u32(), end);
        self.visit_expr(target);
        (self.statement_end, self.block_end) = outer;
    }

    fn used(&mut self, root: &'a str, attributes: Vec<&'a str>, at: TextSize) {
        self.uses.push(Use { root, attributes, scope: self.scopes.current(), at });
    }

    fn import(&mut self, import: &'a StmtImport) {
        for alias in &import.names {
            let path: Vec<&str> = alias.name.split('.').collect();
            let (bound, target) = match &alias.asname {
                Some(name) => (name.as_str(), path.clone()),
                None => (path[0], path[..1].to_vec()),
            };
            self.bind(bound, Source::Import(target));
            let shown = format!("import {}", alias.name);
            self.imports.push(Import { path, bound, at: alias.start(), shown });
        }
    }

    fn import_from(&mut self, import: &'a StmtImportFrom) {
        let module = import.module.as_ref().map_or("", |module| module.as_str());
        if import.level > 0 {
            let shown = ".".repeat(import.level as usize);
            let message = format!("`from {shown}{module} import ...`: a skill belongs to no package");
            self.note(import.start(), "import-relative", Severity::Error, message);
            return;
        }
        for alias in &import.names {
            let name = alias.name.as_str();
            let mut path: Vec<&str> = module.split('.').collect();
            let shown = format!("from {module} import {name}");
            if name == "*" {
                // What of a risky module is used cannot be seen then.
                let severity = row_of(&path).map_or(Severity::Warning, |_| Severity::Error);
                self.note(alias.start(), "import-star", severity, format!("`{shown}` hides what is used"));
                self.imports.push(Import { path, bound: "", at: alias.start(), shown });
                continue;
            }
            path.push(name);
            let bound = alias.asname.as_ref().map_or(name, |name| name.as_str());
            self.bind(bound, Source::Import(path.clone()));
            self.imports.push(Import { path, bound, at: alias.start(), shown });
            self.attribute(name, alias.start());
        }
    }

    /// An attribute by its name, wherever it is written.
    fn attribute(&mut self, name: &'a str, at: TextSize) {
        let has_row = |kind| rules::find(kind, name).is_some();
        if has_row(Kind::Attribute) || has_row(Kind::PathMethod) {
            self.attributes.push((name, at));
        }
    }

    /// `a.b.c`: rooted in a name, it is one use; its attributes are judged by themselves as well.
    fn attribute_chain(&mut self, outermost: &'a ExprAttribute) {
        let mut attributes = Vec::new();
        let mut inner = outermost;
        loop {
            attributes.push(inner.attr.as_str());
            match &*inner.value {
                Expr::Attribute(next) => inner = next,
                Expr::Name(name) => {
                    attributes.reverse();
                    attributes.iter().for_each(|name| self.attribute(name, outermost.start()));
                    // Whether the root is an import is known at the end; inner names are judged then.
                    return self.used(&name.id, attributes, outermost.start());
                }
                other => {
                    attributes.reverse();
                    // A class may hand a hook it overrides on to its base.
                    let hooks = usize::from(is_call_of(other, "super") && is_hook(attributes[0]));
                    attributes[hooks..].iter().for_each(|name| self.attribute(name, outermost.start()));
                    self.used("", attributes, outermost.start());
                    return self.visit_expr(other);
                }
            }
        }
    }

    fn call(&mut self, call: &'a ExprCall) {
        self.scopes.call(call.start().to_u32());
        let (name, is_method) = match &*call.func {
            Expr::Name(name) => (name.id.as_str(), false),
            Expr::Attribute(attribute) => (attribute.attr.as_str(), true),
            _ => return,
        };
        match name {
            lookup if !is_method && is_lookup(lookup) => self.lookup(call),
            "vars" if !is_method => {
                if let Some((root, mut attributes)) = call.arguments.args.first().and_then(chain_of) {
                    attributes.push("__dict__");
                    self.used(root, attributes, call.start());
                }
            }
            "attrgetter" | "methodcaller" => self.getter(call, name == "methodcaller"),
            "format" | "format_map" if is_method => self.format(call),
            _ => {}
        }
    }

    /// `getattr(x, "name")`: an attribute in other words.
    fn lookup(&mut self, call: &'a ExprCall) {
        let arguments = &call.arguments.args;
        let is_spread = arguments.iter().take(2).any(Expr::is_starred_expr);
        let Some(name) = arguments.get(1).filter(|_| !is_spread) else {
            return self.computed(call, None);
        };
        let Expr::StringLiteral(literal) = name else { return self.computed(call, Some(name)) };
        let text = literal.value.to_str();
        match (self.verbatim(literal), arguments.first().and_then(chain_of)) {
            (Some(name), Some((root, mut attributes))) => {
                self.attribute(name, call.start());
                attributes.push(name);
                self.used(root, attributes, call.start());
            }
            _ => self.named(text, call.start()),
        }
    }

    /// A text as it stands in the source, if it has neither escapes nor parts.
    fn verbatim(&self, literal: &ExprStringLiteral) -> Option<&'a str> {
        let (text, start) = (literal.value.to_str(), literal.start().to_usize());
        let at = self.source[literal.range()].find(text)?;
        self.source.get(start + at..start + at + text.len())
    }

    /// An attribute named in text, of whatever object.
    fn named(&mut self, name: &str, at: TextSize) {
        let inner = || row_of(&[name.trim_start_matches('_')]).filter(|_| is_inner(name));
        if let Some(row) = rules::find(Kind::Attribute, name) {
            self.note_row(at, row, &format!(".{name}"));
        } else if let Some(row) = inner() {
            self.note(at, "module-attribute", row.severity, format!("`.{name}`: {}", row.reason));
        }
    }

    /// `attrgetter("a.b")` and `methodcaller("a")`.
    fn getter(&mut self, call: &'a ExprCall, is_method: bool) {
        let names = if is_method { call.arguments.args.get(..1).unwrap_or_default() } else { &call.arguments.args };
        for name in names {
            match name {
                Expr::StringLiteral(literal) => {
                    literal.value.to_str().split('.').for_each(|name| self.named(name, call.start()));
                }
                other => self.computed(call, Some(other)),
            }
        }
    }

    fn computed(&mut self, call: &'a ExprCall, name: Option<&Expr>) {
        if let Some(name) = name
            && is_decoded(name)
        {
            let message = "looks up an attribute whose name is put together so that it cannot be read".to_owned();
            return self.note(call.start(), "obfuscated-name", Severity::Error, message);
        }
        let (root, attributes) = call.arguments.args.first().and_then(chain_of).unwrap_or_default();
        self.computed.push(Use { root, attributes, scope: self.scopes.current(), at: call.start() });
    }

    /// `globals()["name"]`
    fn variable(&mut self, member: &'a ExprSubscript) {
        let is_namespace = ["globals", "locals", "vars"].iter().any(|name| is_call_of(&member.value, name));
        if is_namespace && is_decoded(&member.slice) {
            let message = "looks up a variable whose name is put together so that it cannot be read".to_owned();
            self.note(member.start(), "obfuscated-name", Severity::Error, message);
        }
    }

    fn format(&mut self, call: &'a ExprCall) {
        let Some(method) = call.func.as_attribute_expr() else { return };
        match &*method.value {
            Expr::StringLiteral(_) | Expr::FString(_) => {}
            Expr::Name(name) => self.formats.push((Some(&name.id), call.start())),
            text if fold(text).is_some() => {}
            _ => self.formats.push((None, call.start())),
        }
    }

    /// A text that is written here.
    fn written(&mut self, text: &str, at: TextSize, is_assembled: bool) {
        let builtin = || rules::find(Kind::Builtin, text).filter(|row| row.severity == Severity::Error);
        let attribute = || rules::find(Kind::Attribute, text);
        if text.starts_with("__") {
            if let Some(row) = attribute().or_else(builtin) {
                let rule = if is_assembled { "obfuscated-name" } else { "dunder-text" };
                self.note(at, rule, row.severity, format!("the text `{text}`: {}", row.reason));
            }
        } else if is_assembled && let Some(row) = builtin() {
            self.note(at, "obfuscated-name", row.severity, format!("the text `{text}`: {}", row.reason));
        }
        if walks_in_format(text) {
            let message = "a format field that walks into an object's insides".to_owned();
            self.note(at, "format-traversal", Severity::Error, message);
        }
    }

    fn fold(&mut self, expression: &Expr) {
        // The left sides of a long sum all start with it; trying each would take quadratic time.
        if expression.end() <= self.folded || self.not_folded == Some(expression.start()) {
            return;
        }
        match fold(expression) {
            Some(text) => {
                self.folded = expression.end();
                self.written(&text, expression.start(), true);
            }
            None => self.not_folded = Some(expression.start()),
        }
    }

    fn parameters(&mut self, parameters: &'a Parameters) {
        for parameter in parameters.iter() {
            self.scopes.bind(parameter.name().as_str(), 0..TO_THE_END, Source::Own);
        }
    }

    /// A comprehension is a function of its own, but its first iterable is evaluated outside.
    fn comprehension(&mut self, generators: &'a [Comprehension], elements: &[&'a Expr]) {
        generators.first().iter().for_each(|first| self.visit_expr(&first.iter));
        self.scopes.enter(ScopeKind::Function);
        for (index, generator) in generators.iter().enumerate() {
            self.visit_expr(&generator.target);
            if index > 0 {
                self.visit_expr(&generator.iter);
            }
            generator.ifs.iter().for_each(|condition| self.visit_expr(condition));
        }
        elements.iter().for_each(|element| self.visit_expr(element));
        self.scopes.leave();
    }

    fn assigned(&mut self, targets: &'a [Expr], value: &'a Expr) {
        let source = chain_of(value).map(|(root, attributes)| Source::Alias(root, attributes));
        for target in targets {
            match (target, &source) {
                (Expr::Name(name), Some(source)) => self.bind(&name.id, source.clone()),
                (Expr::Name(name), None) if matches!(value, Expr::StringLiteral(_)) => {
                    self.texts.insert(&name.id);
                    self.visit_expr(target);
                }
                _ => self.visit_expr(target),
            }
        }
    }

    /// A definition or assignment; in a class it is an attribute of its objects.
    fn define(&mut self, name: &'a str) {
        self.bind(name, Source::Own);
        if self.scopes.is_in_class() {
            self.defined_attributes.insert(name);
        }
    }
}

impl<'a> Visitor<'a> for Uses<'a> {
    fn visit_stmt(&mut self, statement: &'a Stmt) {
        let outer = std::mem::replace(&mut self.statement_end, statement.end().to_u32());
        match statement {
            Stmt::FunctionDef(function) => {
                function.decorator_list.iter().for_each(|decorator| self.visit_decorator(decorator));
                self.visit_parameters(&function.parameters);
                function.returns.iter().for_each(|annotation| self.visit_annotation(annotation));
                self.define(&function.name);
                self.scopes.enter(ScopeKind::Function);
                function.type_params.iter().for_each(|parameters| self.visit_type_params(parameters));
                self.parameters(&function.parameters);
                self.is_outermost = true;
                self.visit_body(&function.body);
                self.scopes.leave();
            }
            Stmt::ClassDef(class) => {
                class.decorator_list.iter().for_each(|decorator| self.visit_decorator(decorator));
                class.arguments.iter().for_each(|arguments| self.visit_arguments(arguments));
                self.define(&class.name);
                self.scopes.enter(ScopeKind::Class);
                self.is_outermost = true;
                class.type_params.iter().for_each(|parameters| self.visit_type_params(parameters));
                self.visit_body(&class.body);
                self.scopes.leave();
            }
            Stmt::Import(import) => self.import(import),
            Stmt::ImportFrom(import) => self.import_from(import),
            Stmt::Assign(assignment) => {
                self.visit_expr(&assignment.value);
                self.assigned(&assignment.targets, &assignment.value);
            }
            Stmt::AnnAssign(assignment) => {
                self.visit_annotation(&assignment.annotation);
                match &assignment.value {
                    Some(value) => {
                        self.visit_expr(value);
                        self.assigned(std::slice::from_ref(&assignment.target), value);
                    }
                    // `name: T` alone binds nothing, but says that objects have the attribute.
                    None => match &*assignment.target {
                        Expr::Name(name) => {
                            self.defined_attributes.insert(&name.id);
                        }
                        target => self.visit_expr(target),
                    },
                }
            }
            Stmt::Global(global) => global.names.iter().for_each(|name| self.scopes.declare_global(name)),
            Stmt::For(inner) => {
                self.visit_expr(&inner.iter);
                self.bind_for(&inner.target, &inner.body);
                self.visit_body(&inner.body);
                self.visit_body(&inner.orelse);
            }
            Stmt::With(inner) => {
                for item in &inner.items {
                    self.visit_expr(&item.context_expr);
                    item.optional_vars.iter().for_each(|target| self.bind_for(target, &inner.body));
                }
                self.visit_body(&inner.body);
            }
            Stmt::If(_) | Stmt::Try(_) => {
                walk_stmt(self, statement);
                if !self.scopes.is_in_function() {
                    assigned::by_branches(statement).into_iter().for_each(|name| self.bind(name, Source::Own));
                }
            }
            _ => walk_stmt(self, statement),
        }
        self.statement_end = outer;
    }

    fn visit_body(&mut self, body: &'a [Stmt]) {
        let end = if self.is_outermost { TO_THE_END } else { body.last().map_or(0, |last| last.end().to_u32()) };
        let outer = (std::mem::replace(&mut self.block_end, end), std::mem::take(&mut self.is_outermost));
        visitor::walk_body(self, body);
        (self.block_end, self.is_outermost) = outer;
    }

    fn visit_decorator(&mut self, decorator: &'a ruff_python_ast::Decorator) {
        self.scopes.call(decorator.start().to_u32());
        visitor::walk_decorator(self, decorator);
    }

    fn visit_expr(&mut self, expression: &'a Expr) {
        match expression {
            Expr::Name(name) => match name.ctx {
                ExprContext::Load => {
                    if matches!(name.id.as_str(), "getattr" | "setattr" | "delattr") {
                        let message = format!("`{}` is handed on, to look up attributes elsewhere", name.id);
                        self.note(name.start(), "computed-attribute", Severity::Warning, message);
                    }
                    self.used(&name.id, Vec::new(), name.start());
                }
                ExprContext::Store => self.define(&name.id),
                ExprContext::Del => self.scopes.delete(&name.id),
                ExprContext::Invalid => {}
            },
            Expr::Attribute(attribute) => {
                if !matches!(attribute.ctx, ExprContext::Load) {
                    self.defined_attributes.insert(&attribute.attr);
                }
                self.attribute_chain(attribute);
            }
            Expr::Call(call) => {
                self.call(call);
                self.fold(expression);
                if !call.func.as_name_expr().is_some_and(|name| is_lookup(&name.id)) {
                    self.visit_expr(&call.func);
                }
                self.visit_arguments(&call.arguments);
            }
            Expr::BinOp(_) => {
                self.fold(expression);
                walk_expr(self, expression);
            }
            Expr::Subscript(member) => {
                self.fold(expression);
                self.variable(member);
                walk_expr(self, expression);
            }
            Expr::StringLiteral(literal) => self.written(literal.value.to_str(), expression.start(), false),
            Expr::Lambda(lambda) => {
                lambda.parameters.iter().for_each(|parameters| self.visit_parameters(parameters));
                self.scopes.enter(ScopeKind::Function);
                lambda.parameters.iter().for_each(|parameters| self.parameters(parameters));
                self.visit_expr(&lambda.body);
                self.scopes.leave();
            }
            Expr::ListComp(inner) => self.comprehension(&inner.generators, &[&inner.elt]),
            Expr::SetComp(inner) => self.comprehension(&inner.generators, &[&inner.elt]),
            Expr::Generator(inner) => self.comprehension(&inner.generators, &[&inner.elt]),
            Expr::DictComp(inner) => {
                let elements: Vec<&Expr> = inner.key.as_deref().into_iter().chain([&*inner.value]).collect();
                self.comprehension(&inner.generators, &elements);
            }
            _ => walk_expr(self, expression),
        }
    }

    fn visit_keyword(&mut self, keyword: &'a Keyword) {
        // `SimpleNamespace(os=1)`: what it makes may have an attribute of that name.
        self.defined_attributes.extend(keyword.arg.iter().map(|name| name.as_str()));
        visitor::walk_keyword(self, keyword);
    }

    fn visit_except_handler(&mut self, handler: &'a ExceptHandler) {
        let ExceptHandler::ExceptHandler(inner) = handler;
        if let Some(name) = &inner.name {
            self.bind(name, Source::Own);
            self.scopes.delete(name);
        }
        visitor::walk_except_handler(self, handler);
    }

    fn visit_pattern(&mut self, pattern: &'a Pattern) {
        let name = match pattern {
            Pattern::MatchAs(inner) => inner.name.as_ref(),
            Pattern::MatchStar(inner) => inner.name.as_ref(),
            Pattern::MatchMapping(inner) => inner.rest.as_ref(),
            _ => None,
        };
        if let Some(name) = name {
            self.bind(name, Source::Own);
        }
        visitor::walk_pattern(self, pattern);
    }

    fn visit_pattern_keyword(&mut self, keyword: &'a PatternKeyword) {
        self.attribute(&keyword.attr, keyword.start());
        visitor::walk_pattern_keyword(self, keyword);
    }
}

/// `root.a.b` as its root and attributes.
fn chain_of(expression: &Expr) -> Option<(&str, Vec<&str>)> {
    let mut attributes = Vec::new();
    let mut inner = expression;
    loop {
        match inner {
            Expr::Attribute(attribute) => {
                attributes.push(attribute.attr.as_str());
                inner = &attribute.value;
            }
            Expr::Name(name) => {
                attributes.reverse();
                return Some((&name.id, attributes));
            }
            _ => return None,
        }
    }
}

fn is_call_of(expression: &Expr, name: &str) -> bool {
    let Expr::Call(call) = expression else { return false };
    call.func.as_name_expr().is_some_and(|callee| callee.id.as_str() == name)
}

/// The built-ins that take an attribute's name as text.
fn is_lookup(name: &str) -> bool {
    matches!(name, "getattr" | "setattr" | "delattr" | "hasattr")
}

/// What a class overrides and hands on to its base.
fn is_hook(name: &str) -> bool {
    matches!(
        name,
        "__getattribute__" | "__getattr__" | "__reduce__" | "__reduce_ex__" | "__setstate__" | "__getstate__"
    )
}

pub(super) fn is_inner(name: &str) -> bool {
    INNER_MODULES.contains(&name.trim_start_matches('_'))
}
