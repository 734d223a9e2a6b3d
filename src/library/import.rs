//! Skills out of files: each draft goes the way of every put, and what is refused is listed.

use std::collections::HashSet;
use std::path::Path;

use super::Library;
use crate::call::{bad_option, members};
use crate::error::{Code, Error, Result, hint, nearest};
use crate::exchange::{self, Entry, Format, Note, Reading, Rejection};
use crate::json::Value;
use crate::skill::Skill;

/// What to do with a skill whose id is in the library already, with other content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnConflict {
    /// Its content becomes the next version.
    #[default]
    NewVersion,
    /// The stored skill stays as it is, also where only its description or another field that makes no version differs.
    Skip,
    /// The same, and it is listed as rejected if the content differs.
    Fail,
}

/// How [`Library::import`] goes about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// The format; nothing for what is found there ([`Format::of`]).
    pub format: Option<Format>,
    /// What to do with ids that are there already.
    pub on_conflict: OnConflict,
    /// Whether to check everything and store nothing.
    pub dry_run: bool,
}

impl ImportOptions {
    /// Reads the JSON of the door: `{"format", "on_conflict", "dry_run"}`, all optional. An empty text is no options.
    ///
    /// # Errors
    ///
    /// [`Code::Invalid`] with the option as its path.
    pub fn parse(text: &str) -> Result<Self> {
        let mut options = ImportOptions::default();
        for (name, value) in members(text, "the options of an import")? {
            match name.as_str() {
                _ if value == Value::Null => {}
                "format" => options.format = format(&value)?,
                "on_conflict" => {
                    options.on_conflict = match value.as_str() {
                        Some("new_version") => OnConflict::NewVersion,
                        Some("skip") => OnConflict::Skip,
                        Some("fail") => OnConflict::Fail,
                        _ => return Err(bad_option(&name, "one of: new_version, skip, fail", &value)),
                    };
                }
                "dry_run" => options.dry_run = truth(&name, &value)?,
                _ => return Err(unknown("an import", &name, &["format", "on_conflict", "dry_run"])),
            }
        }
        Ok(options)
    }
}

/// A format; nothing for `auto`.
pub(super) fn format(value: &Value) -> Result<Option<Format>> {
    match value.as_str() {
        Some("auto") => Ok(None),
        Some(name) => Format::named(name).map(Some),
        None => Err(bad_option("format", "one of: auto, bundle, markdown, reference", value)),
    }
}

pub(super) fn truth(name: &str, value: &Value) -> Result<bool> {
    value.as_bool().ok_or_else(|| bad_option(name, "true or false", value))
}

pub(super) fn unknown(what: &str, name: &str, known: &[&str]) -> Error {
    let meant = nearest(name, known.iter().copied());
    let hint = hint(meant, || format!(": it has {}", known.join(", ")));
    Error::invalid(format!("{what} has no option `{name}`{hint}")).path(name).suggestion(meant)
}

impl Library {
    /// Stores the skills of a bundle file, a folder of `SKILL.md` folders or a folder of the reference system's JSON files, as
    /// `docs/EXCHANGE.md` describes them. Each goes the way of [`put`](Library::put), which refuses what it always refuses; what
    /// cannot be read or is refused is listed with the reason, and the rest is imported. Required skills are put before those
    /// that require them, versions in ascending order.
    ///
    /// Gives `{"format", "imported", "unchanged", "skipped", "rejected", "notes"}`: `imported` is an array of `{"id", "version",
    /// "source"}` (`version` is `null` in a dry run), `unchanged` counts drafts whose content is there already, `skipped` those
    /// that `on_conflict` left alone, `rejected` is an array of `{"source", "id", "reason"}` (`id` is `null` if it is not known)
    /// and `notes` one of `{"source", "note"}`. A source is a place below `path`.
    ///
    /// The skills that were imported stay if a later one fails: an import is not one transaction. It may be repeated; what is
    /// there is `unchanged` then.
    ///
    /// # Errors
    ///
    /// [`Code::Invalid`] if nothing can be read at `path`; [`Code::Unsupported`] for a bundle of a later format; and what stops
    /// everything, such as [`Code::Closed`], [`Code::Database`], [`Code::Busy`] or [`Code::Sandbox`]: then the details have what
    /// was done so far as `report`.
    pub fn import(&self, path: &str, options: &ImportOptions) -> Result<Value> {
        self.check_open()?;
        let path = Path::new(path);
        let format = options.format.map_or_else(|| Format::of(path), Ok)?;
        let mut reading = exchange::read(path, format)?;
        let mut import = Import::new(self, options, &mut reading);
        for entry in reading {
            let taken = match entry {
                Ok(entry) => import.take(entry),
                Err(rejection) => {
                    import.rejected.push(rejection);
                    Ok(())
                }
            };
            if let Err(error) = taken {
                return Err(error.report(import.report()));
            }
        }
        Ok(import.report())
    }
}

/// An import that is going on.
struct Import<'l> {
    library: &'l Library,
    options: &'l ImportOptions,
    format: Format,
    imported: Vec<Value>,
    unchanged: u64,
    skipped: u64,
    rejected: Vec<Rejection>,
    notes: Vec<Note>,
    /// Ids that this import has put: a later version of one of these is no conflict.
    begun: HashSet<String>,
    /// The contents of the versions that an id had before, for the id that was asked last.
    history: Option<(String, HashSet<[u8; 32]>)>,
    /// Of a dry run: how many numbers embeddings have.
    dimension: Option<usize>,
}

impl<'l> Import<'l> {
    fn new(library: &'l Library, options: &'l ImportOptions, reading: &mut Reading) -> Self {
        Import {
            library,
            options,
            format: reading.format(),
            imported: Vec::new(),
            unchanged: 0,
            skipped: 0,
            rejected: std::mem::take(&mut reading.scan.rejected),
            notes: std::mem::take(&mut reading.scan.notes),
            begun: HashSet::new(),
            history: None,
            dimension: None,
        }
    }

    /// Takes a draft; an error stops everything.
    fn take(&mut self, entry: Entry) -> Result<()> {
        self.library.check_open()?;
        let (source, id) = (entry.source.clone(), entry.skill.id.clone());
        match self.put(entry) {
            Err(error) if is_fatal(&error) => Err(error),
            Err(error) => {
                let reason = error.message().to_owned();
                self.rejected.push(Rejection { source, id: Some(id), reason });
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn put(&mut self, entry: Entry) -> Result<()> {
        let stored = self.newest(&entry.skill.id)?;
        let is_equal = stored.as_ref().is_some_and(|stored| stored.content_hash() == entry.skill.content_hash());
        let is_there = stored.is_some() && !self.begun.contains(&entry.skill.id);
        if is_there && self.is_left_alone(&entry, is_equal)? {
            return Ok(());
        }
        let Entry { source, mut skill, .. } = entry;
        if is_there {
            // What the file was told when it was written does not bring back what was set aside here. New content does.
            skill.keep_stored("state");
        }
        if !is_equal {
            self.note_origin(&mut skill, &source);
        }
        let version = self.store(&skill)?;
        self.begun.insert(skill.id.clone());
        if is_equal {
            self.unchanged += 1;
        } else {
            let members =
                [("id", Value::from(skill.id)), ("version", Value::from(version)), ("source", Value::from(source))];
            self.imported.push(Value::object(members));
        }
        Ok(())
    }

    /// What becomes of a draft whose id was there before this import: whether nothing is to be stored, which is counted.
    fn is_left_alone(&mut self, entry: &Entry, is_equal: bool) -> Result<bool> {
        match self.options.on_conflict {
            OnConflict::NewVersion => {
                let is_left = !entry.is_newest && self.is_in_history(&entry.skill)?;
                self.unchanged += u64::from(is_left);
                return Ok(is_left);
            }
            _ if is_equal => self.unchanged += 1,
            OnConflict::Skip => self.skipped += 1,
            OnConflict::Fail => {
                let message = format!("there is a skill `{}` already, with other content", entry.skill.id);
                return Err(Error::new(Code::Conflict, message));
            }
        }
        Ok(true)
    }

    /// Puts a draft, or only finds out whether that would go well.
    fn store(&mut self, skill: &Skill) -> Result<Option<u32>> {
        if !self.options.dry_run {
            return self.library.put(skill).map(Some);
        }
        self.library.execution.check(skill)?;
        let mut missing = Vec::new();
        for id in skill.string_list("required_skills") {
            if !self.begun.contains(&id) && self.newest(&id)?.is_none() {
                missing.push(id);
            }
        }
        if missing.is_empty() {
            self.check_length(skill)?;
            return Ok(None);
        }
        Err(Error::validation(format!("required skills are not there: {}", missing.join(", "))).missing(missing))
    }

    /// Whether an embedding is as long as those that are there, or were before it in a dry run.
    fn check_length(&mut self, skill: &Skill) -> Result<()> {
        let Some(length) = skill.embedding.as_ref().map(Vec::len).filter(|length| *length > 0) else { return Ok(()) };
        if self.dimension.is_none() {
            self.dimension = self.library.execution.store.dimension_but(&skill.id)?;
        }
        let known = *self.dimension.get_or_insert(length);
        if known == length {
            return Ok(());
        }
        let message = format!("the embeddings of this library have {known} numbers; this one has {length}");
        Err(Error::invalid(message).path("embedding"))
    }

    /// What is stored under an id.
    fn newest(&self, id: &str) -> Result<Option<Skill>> {
        match self.library.execution.store.get(id, 0) {
            Ok(stored) => Ok(Some(stored)),
            Err(error) if error.code() == Code::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether an earlier version has this content: reading a bundle with all versions again is to change nothing.
    fn is_in_history(&mut self, skill: &Skill) -> Result<bool> {
        if self.history.as_ref().is_none_or(|(id, _)| *id != skill.id) {
            let store = &self.library.execution.store;
            let newest = store.get(&skill.id, 0)?;
            let mut contents = HashSet::from([newest.content_hash()]);
            for version in 1..newest.version {
                match store.get(&skill.id, version) {
                    Ok(stored) => drop(contents.insert(stored.content_hash())),
                    Err(error) if error.code() == Code::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
            self.history = Some((skill.id.clone(), contents));
        }
        Ok(self.history.as_ref().is_some_and(|(_, contents)| contents.contains(&skill.content_hash())))
    }

    /// Says of a skill where it comes from, unless it says so itself.
    fn note_origin(&self, skill: &mut Skill, source: &str) {
        if skill.field("origin") == Value::Null {
            // It is text, which every text field takes.
            let _ = skill.set("origin", &format!("import:{}:{source}", self.format.name()));
        }
    }

    fn report(&self) -> Value {
        Value::object([
            ("format", Value::from(self.format.name())),
            ("imported", Value::Array(self.imported.clone())),
            ("unchanged", Value::from(self.unchanged)),
            ("skipped", Value::from(self.skipped)),
            ("rejected", Value::Array(self.rejected.iter().map(Rejection::to_value).collect())),
            ("notes", Value::Array(self.notes.iter().map(Note::to_value).collect())),
        ])
    }
}

/// Whether an error says nothing about the draft it came with: the next one would fail as well.
pub(super) fn is_fatal(error: &Error) -> bool {
    match error.code() {
        // What the machine lacks is missing for all; an interpreter that dies of one source is that source's.
        Code::Sandbox => !error.details().missing.is_empty(),
        Code::Database
        | Code::Corrupt
        | Code::NewerDatabase
        | Code::Busy
        | Code::Timeout
        | Code::PoolExhausted
        | Code::Cancelled
        | Code::Closed
        | Code::Forked
        | Code::Panic => true,
        _ => false,
    }
}
