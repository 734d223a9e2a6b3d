//! Skills into files, page by page.

use std::collections::HashSet;
use std::path::Path;

use super::Library;
use super::import::{format, is_fatal, truth, unknown};
use crate::call::{bad_option, members};
use crate::error::{Code, Error, Result};
use crate::exchange::{self, Fault, Format, Note, Rejection, Writer};
use crate::json::Value;
use crate::skill::{Skill, check_id};
use crate::store::Filter;

/// How many skills are in memory at the same time.
const PAGE: u32 = 256;

/// Which versions of a skill are exported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Versions {
    /// The newest one.
    #[default]
    Newest,
    /// All that can be read, in ascending order. Bundles only.
    All,
}

/// How [`Library::export`] goes about it.
#[derive(Debug, Clone, PartialEq)]
pub struct ExportOptions {
    /// The format.
    pub format: Format,
    /// These skills; nothing for those that pass the filter.
    pub ids: Option<Vec<String>>,
    /// Which skills, if no ids are given.
    pub filter: Filter,
    /// Which versions.
    pub versions: Versions,
    /// Whether what is at the target may be replaced.
    pub overwrite: bool,
}

impl Default for ExportOptions {
    fn default() -> Self {
        let (ids, filter, versions) = (None, Filter::default(), Versions::default());
        ExportOptions { format: Format::Bundle, ids, filter, versions, overwrite: false }
    }
}

impl ExportOptions {
    /// Reads the JSON of the door: `{"format", "ids", "filter", "versions", "overwrite"}`, all optional. An empty text is no
    /// options.
    ///
    /// # Errors
    ///
    /// [`Code::Invalid`] with the option as its path.
    pub fn parse(text: &str) -> Result<Self> {
        let mut options = ExportOptions::default();
        for (name, value) in members(text, "the options of an export")? {
            match name.as_str() {
                _ if value == Value::Null => {}
                "format" => options.format = format(&value)?.unwrap_or(Format::Bundle),
                "ids" => {
                    let ids = value.as_array().map(|ids| ids.iter().map(|id| id.as_str().map(str::to_owned)));
                    let ids = ids.and_then(|ids| ids.collect::<Option<Vec<_>>>());
                    options.ids = Some(ids.ok_or_else(|| bad_option(&name, "an array of skill ids", &value))?);
                }
                "filter" => {
                    let members =
                        value.as_object().ok_or_else(|| bad_option(&name, "a filter, as list takes it", &value))?;
                    options.filter = Filter::read(members)?;
                }
                "versions" => {
                    options.versions = match value.as_str() {
                        Some("newest") => Versions::Newest,
                        Some("all") => Versions::All,
                        _ => return Err(bad_option(&name, "one of: newest, all", &value)),
                    };
                }
                "overwrite" => options.overwrite = truth(&name, &value)?,
                _ => {
                    let known = ["format", "ids", "filter", "versions", "overwrite"];
                    return Err(unknown("an export", &name, &known));
                }
            }
        }
        Ok(options)
    }
}

impl Library {
    /// Writes skills to a bundle file or a folder, as `docs/EXCHANGE.md` describes them. The target appears when all is written
    /// and on the disk; until then, and if anything fails, what was there before is there. One that is there already is refused
    /// unless `overwrite` is set (an empty folder is as good as none).
    ///
    /// Gives `{"format", "exported", "versions", "rejected", "notes"}`: how many skills and how many versions of them were
    /// written, an array of `{"source", "id", "reason"}` for those that could not be read or do not fit into the format, and an
    /// array of `{"source", "note"}` for what the format could not keep. Skills that are put or removed meanwhile may be in it
    /// or not. Of a damaged file (opened with `store.access = read_only`) what can still be read is written, and the rest is named.
    ///
    /// # Errors
    ///
    /// [`Code::Invalid`] for a target that is there or cannot be made, and for all versions in a format that holds one;
    /// [`Code::Database`] if the library cannot be read or the target cannot be written to.
    pub fn export(&self, path: &str, options: &ExportOptions) -> Result<Value> {
        self.check_open()?;
        if options.versions == Versions::All && options.format != Format::Bundle {
            let message =
                format!("`{}` holds one version of a skill; all are exported as a bundle", options.format.name());
            return Err(Error::invalid(message).path("versions"));
        }
        let mut export = Export {
            library: self,
            options,
            writer: exchange::write(Path::new(path), options.format, options.overwrite)?,
            seen: HashSet::new(),
            exported: 0,
            versions: 0,
            rejected: Vec::new(),
            notes: Vec::new(),
        };
        match &options.ids {
            Some(ids) => export.these(ids)?,
            None => export.all()?,
        }
        export.finish()
    }
}

/// An export that is going on.
struct Export<'l> {
    library: &'l Library,
    options: &'l ExportOptions,
    writer: Box<dyn Writer>,
    /// Ids that were written.
    seen: HashSet<String>,
    exported: u64,
    versions: u64,
    rejected: Vec<Rejection>,
    notes: Vec<Note>,
}

impl Export<'_> {
    fn these(&mut self, ids: &[String]) -> Result<()> {
        for id in ids {
            self.library.check_open()?;
            match check_id(id).and_then(|()| self.library.execution.store.get(id, 0)) {
                Ok(skill) => self.take(skill)?,
                Err(error) => self.reject_unless_fatal(id, id, error)?,
            }
        }
        Ok(())
    }

    fn all(&mut self) -> Result<()> {
        let mut filter = Filter { limit: 0, ..self.options.filter.clone() };
        let mut left = self.options.filter.limit;
        while left > 0 {
            self.library.check_open()?;
            filter.limit = left.min(PAGE);
            let skills = match self.library.execution.store.list(&filter) {
                Err(error) if error.code() == Code::Corrupt => return self.what_is_left(&error),
                listed => listed?,
            };
            let Some(last) = skills.last() else { break };
            // From the second page on, places are counted from where the page before ended.
            (filter.after, filter.offset) = (Some(last.id.clone()), 0);
            left -= u32::try_from(skills.len()).unwrap_or(left).min(left);
            for skill in skills {
                self.take(skill)?;
            }
        }
        Ok(())
    }

    /// Writes what can still be read of a damaged file, and names the rest. Those written before are not written again; offset and
    /// limit do not count.
    fn what_is_left(&mut self, error: &Error) -> Result<()> {
        self.notes.push(Note { source: "the library".to_owned(), text: error.message().to_owned() });
        let (skills, findings) = self.library.execution.store.salvage()?;
        for finding in findings {
            self.rejected.push(Rejection { source: finding.place, id: None, reason: finding.message });
        }
        for skill in skills.into_iter().filter(|skill| self.options.filter.passes(skill)) {
            self.take(skill)?;
        }
        Ok(())
    }

    /// Writes a skill, of which the newest version is given.
    fn take(&mut self, mut newest: Skill) -> Result<()> {
        if !self.seen.insert(newest.id.clone()) {
            return Ok(());
        }
        if self.options.versions == Versions::All {
            for version in 1..newest.version {
                match self.library.execution.store.get(&newest.id, version) {
                    Ok(skill) => drop(self.write(&skill)?),
                    // Removed before the skill was put again.
                    Err(error) if error.code() == Code::NotFound => {}
                    Err(error) => {
                        let source = format!("{} version {version}", newest.id);
                        self.reject_unless_fatal(&source, &newest.id, error)?;
                    }
                }
            }
        }
        // Records are read without it.
        match self.library.execution.store.embedding(&newest.id) {
            Ok(embedding) => newest.embedding = embedding,
            // It was removed meanwhile.
            Err(error) if error.code() == Code::NotFound => {}
            Err(error) if matches!(error.code(), Code::Corrupt | Code::Database) => {
                let text = format!("its embedding cannot be read: {}", error.message());
                self.notes.push(Note { source: newest.id.clone(), text });
            }
            Err(error) => return Err(error),
        }
        self.exported += u64::from(self.write(&newest)?);
        Ok(())
    }

    /// Says whether the format could hold it.
    fn write(&mut self, skill: &Skill) -> Result<bool> {
        let source = || format!("{} version {}", skill.id, skill.version);
        match self.writer.write(skill) {
            Ok(notes) => {
                self.versions += 1;
                self.notes.extend(notes.into_iter().map(|text| Note { source: source(), text }));
                Ok(true)
            }
            Err(Fault::Skill(reason)) => {
                self.rejected.push(Rejection { source: source(), id: Some(skill.id.clone()), reason });
                Ok(false)
            }
            Err(Fault::Target(error)) => Err(error),
        }
    }

    fn reject_unless_fatal(&mut self, source: &str, id: &str, error: Error) -> Result<()> {
        // What is damaged must not take the rest with it.
        if is_fatal(&error) && error.code() != Code::Corrupt {
            return Err(error);
        }
        let reason = error.message().to_owned();
        self.rejected.push(Rejection { source: source.to_owned(), id: Some(id.to_owned()), reason });
        Ok(())
    }

    fn finish(self) -> Result<Value> {
        let report = Value::object([
            ("format", Value::from(self.options.format.name())),
            ("exported", Value::from(self.exported)),
            ("versions", Value::from(self.versions)),
            ("rejected", Value::Array(self.rejected.iter().map(Rejection::to_value).collect())),
            ("notes", Value::Array(self.notes.iter().map(Note::to_value).collect())),
        ]);
        self.writer.finish()?;
        Ok(report)
    }
}
