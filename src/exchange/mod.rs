//! Skills in files: the formats between a folder or a file and drafts.
//!
//! Nothing here knows of a database or of running. Reading has two steps, so that a hundred thousand skills never are in
//! memory at the same time: a *scan* reads everything once and keeps of each skill only its id, what it requires and where it
//! stands; then the drafts are loaded one by one, required skills before those that require them. What cannot be read is
//! listed with the reason, and the rest is read. `docs/EXCHANGE.md` describes the formats.

mod bundle;
mod files;
mod markdown;
mod order;
mod record;
mod reference;
mod yaml;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use crate::error::{Error, Result, nearest};
use crate::json::Value;
use crate::skill::Skill;

pub use bundle::scan as scan_bundle;
pub use markdown::Document;
pub use reference::parse as parse_reference;

/// The largest file of a folder that is read, in bytes.
pub const MAX_FILE: u64 = 16 << 20;

/// How skills stand in files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One file: JSON Lines, each with a digest, with all versions if wanted. Nothing of a skill is lost.
    Bundle,
    /// A folder for each skill: `SKILL.md` and `scripts/*.py`, the convention of Agent Skills.
    Markdown,
    /// One JSON file for each skill, as the reference system writes them.
    Reference,
}

/// A draft that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Where it stood, below what was read: a file, `line 3`.
    pub source: String,
    /// The draft.
    pub skill: Skill,
    /// The version it had where it comes from; 0 if that has none.
    pub version: u32,
    /// Whether no later version of it follows.
    pub is_newest: bool,
}

/// What could not be read or written, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Where it stands.
    pub source: String,
    /// The skill's id, if that much is known.
    pub id: Option<String>,
    /// One sentence.
    pub reason: String,
}

/// What is worth knowing about a skill that was read or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Where it stands.
    pub source: String,
    /// One sentence.
    pub text: String,
}

/// What a scan keeps of a skill.
#[derive(Debug, Clone, PartialEq)]
pub struct Stub {
    source: String,
    id: String,
    /// The name for people, by which the reference system's skills require each other.
    name: String,
    version: u32,
    required: Vec<String>,
    is_newest: bool,
    place: Place,
}

/// Where a skill is loaded from.
#[derive(Debug, Clone, PartialEq)]
enum Place {
    /// A JSON file.
    File(PathBuf),
    /// A script in a folder with a `SKILL.md`.
    Script { folder: PathBuf, script: String },
    /// Bytes of a bundle.
    Line { offset: u64, length: usize },
}

/// What a scan found.
#[derive(Debug, Default)]
pub struct Scan {
    stubs: Vec<Stub>,
    /// What could not be read.
    pub rejected: Vec<Rejection>,
    /// What is worth knowing.
    pub notes: Vec<Note>,
}

impl Scan {
    fn reject(&mut self, source: &str, id: Option<&str>, reason: impl Into<String>) {
        let (source, id) = (source.to_owned(), id.map(str::to_owned));
        self.rejected.push(Rejection { source, id, reason: reason.into() });
    }

    fn note(&mut self, source: &str, text: impl Into<String>) {
        self.notes.push(Note { source: source.to_owned(), text: text.into() });
    }

    /// Keeps what is needed of a draft that was read.
    fn keep(&mut self, source: &str, skill: &Skill, version: u32, place: Place) {
        self.stubs.push(Stub {
            source: source.to_owned(),
            id: skill.id.clone(),
            name: skill.text_field("name"),
            version,
            required: skill.string_list("required_skills"),
            is_newest: true,
            place,
        });
    }
}

/// Reads a file or a folder: first what could not be read and what is worth knowing, then the drafts.
///
/// # Errors
///
/// [`Code::Invalid`](crate::Code::Invalid) when nothing at all can be read there, [`Code::Unsupported`](crate::Code::Unsupported)
/// for a bundle of a later format version.
pub fn read(path: &Path, format: Format) -> Result<Reading> {
    let mut scan = match format {
        Format::Bundle => bundle::scan_file(path)?,
        Format::Markdown => markdown::scan(path)?,
        Format::Reference => reference::scan(path)?,
    };
    let stubs = order::sort(std::mem::take(&mut scan.stubs), &mut scan.rejected);
    Ok(Reading { scan, path: path.to_owned(), format, stubs: stubs.into_iter(), bundle: None })
}

/// The drafts of a file or folder, loaded as they are asked for; required skills first, versions in ascending order.
#[derive(Debug)]
pub struct Reading {
    /// What the scan could not read, and what is worth knowing.
    pub scan: Scan,
    path: PathBuf,
    format: Format,
    stubs: std::vec::IntoIter<Stub>,
    bundle: Option<std::fs::File>,
}

impl Iterator for Reading {
    type Item = std::result::Result<Entry, Rejection>;

    fn next(&mut self) -> Option<Self::Item> {
        let stub = self.stubs.next()?;
        let loaded = self.load(&stub);
        let Stub { source, id, version, is_newest, .. } = stub;
        Some(match loaded {
            Ok(skill) if skill.id == id => Ok(Entry { source, skill, version, is_newest }),
            Ok(_) => Err(Rejection { source, id: Some(id), reason: "it was changed while it was read".to_owned() }),
            Err(reason) => Err(Rejection { source, id: Some(id), reason }),
        })
    }
}

impl Reading {
    fn load(&mut self, stub: &Stub) -> std::result::Result<Skill, String> {
        match &stub.place {
            Place::File(file) => reference::load(file, &stub.required),
            Place::Script { folder, script } => markdown::load(folder, script),
            Place::Line { offset, length } => {
                let file = match self.bundle.take() {
                    Some(file) => file,
                    None => files::open(&self.path, files::Links::Followed)?,
                };
                bundle::load(self.bundle.insert(file), *offset, *length)
            }
        }
    }

    /// The format that is read.
    pub fn format(&self) -> Format {
        self.format
    }
}

/// Why a skill was not written.
#[derive(Debug)]
pub enum Fault {
    /// The format cannot hold it; others can be written.
    Skill(String),
    /// Nothing can be written any more.
    Target(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::Target(error)
    }
}

/// Takes skills one by one. Nothing is seen under the target's name before all are written.
pub trait Writer {
    /// Writes a skill; says what the format could not keep of it.
    fn write(&mut self, skill: &Skill) -> std::result::Result<Vec<String>, Fault>;

    /// Makes what was written durable and gives it its name.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// A writer to a file or folder. One that is there already is refused unless `overwrite` is true; an empty folder is as good
/// as none. Overwriting a bundle replaces it; overwriting a folder replaces the files of the same names and leaves the others.
///
/// # Errors
///
/// [`Code::Invalid`](crate::Code::Invalid) when the target is there or cannot be made.
pub fn write(path: &Path, format: Format, overwrite: bool) -> Result<Box<dyn Writer>> {
    Ok(match format {
        Format::Bundle => Box::new(bundle::BundleWriter::new(path, overwrite)?),
        Format::Markdown => Box::new(markdown::MarkdownWriter::new(path, overwrite)?),
        Format::Reference => Box::new(reference::ReferenceWriter::new(path, overwrite)?),
    })
}

impl Format {
    /// Every format and its name in options.
    pub const ALL: [(&'static str, Format); 3] =
        [("bundle", Format::Bundle), ("markdown", Format::Markdown), ("reference", Format::Reference)];

    /// Its name in options.
    pub fn name(self) -> &'static str {
        match self {
            Format::Bundle => "bundle",
            Format::Markdown => "markdown",
            Format::Reference => "reference",
        }
    }

    /// The format of that name.
    pub fn named(name: &str) -> Result<Self> {
        let found = Format::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, format)| *format).ok_or_else(|| {
            let meant = nearest(name, Format::ALL.iter().map(|(known, _)| *known));
            Error::invalid(format!("there is no format `{name}`: formats are bundle, markdown and reference"))
                .path("format")
                .suggestion(meant)
        })
    }

    /// The format of what is there: a file is a bundle, a folder with a `SKILL.md` in it or below it is Markdown, another
    /// folder with `*.json` files is the reference system's.
    pub fn of(path: &Path) -> Result<Self> {
        let shown = path.display();
        let kind = std::fs::metadata(path).map_err(|error| files::unreadable(path, &error))?;
        if kind.is_file() {
            return Ok(Format::Bundle);
        }
        if !kind.is_dir() {
            return Err(Error::invalid(format!("{shown} is neither a file nor a folder")).path(shown.to_string()));
        }
        if markdown::is_there(path)? {
            return Ok(Format::Markdown);
        }
        if files::list(path)?.iter().any(|entry| reference::is_named_like_one(&entry.name)) {
            return Ok(Format::Reference);
        }
        let wanted = "no SKILL.md in it or in its folders, and no *.json file";
        Err(Error::invalid(format!("{shown} holds no skills: {wanted}")).path(shown.to_string()))
    }
}

impl Rejection {
    /// `{"source", "id", "reason"}`.
    pub fn to_value(&self) -> Value {
        Value::object([
            ("source", Value::from(self.source.as_str())),
            ("id", Value::from(self.id.as_deref())),
            ("reason", Value::from(self.reason.as_str())),
        ])
    }
}

impl Note {
    /// `{"source", "note"}`.
    pub fn to_value(&self) -> Value {
        Value::object([("source", Value::from(self.source.as_str())), ("note", Value::from(self.text.as_str()))])
    }
}
