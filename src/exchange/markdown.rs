//! `SKILL.md` folders, the convention of Agent Skills: a folder for each skill with instructions and scripts.
//!
//! Only Python scripts become skills; instructions alone are nothing that can be run here. What the convention has no place
//! for stands as a record of ours in its `metadata`, so that what was written reads back equal.

use std::path::{Path, PathBuf};

use super::files::{self, Member, Names, NewFolder};
use super::yaml::{self, Node};
use super::{Fault, Place, Scan, Writer, record};
use crate::error::Result;
use crate::json::Value;
use crate::skill::{Field, Skill};

/// The longest front matter, in bytes.
const MAX_FRONT_MATTER: usize = 64 << 10;
/// The longest record within front matter, in bytes; a longer one has a file of its own.
const MAX_INLINE_RECORD: usize = 16 << 10;
/// The file of a record that is too long for the front matter.
const RECORD_FILE: &str = "skillcache.json";
/// How far below a folder skills are looked for.
const MAX_LEVELS: usize = 6;
/// The convention's longest name and description, in characters.
const MAX_NAME: usize = 64;
const MAX_DESCRIPTION: usize = 1024;

/// A `SKILL.md`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Document {
    name: Option<String>,
    description: String,
    category: Option<String>,
    author: Option<String>,
    tags: Vec<String>,
    /// Our own record, or the name of its file.
    record: Option<String>,
    /// The Markdown, without white space around it.
    body: String,
    /// What of it is not kept.
    notes: Vec<String>,
}

/// What was written here of a skill, beside what the convention has a place for.
struct Record {
    members: Vec<(String, Value)>,
    script: String,
}

impl Document {
    /// Reads the text of a `SKILL.md`.
    ///
    /// # Errors
    ///
    /// One sentence that says why it cannot be read.
    pub fn parse(text: &str) -> std::result::Result<Self, String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let (front, body) = divided(text)?;
        let mut document = Document { body: body.trim().to_owned(), ..Document::default() };
        let Some(front) = front else {
            document.notes.push("it has no front matter; its folder gives the name".to_owned());
            return Ok(document);
        };
        let members = yaml::parse(front).or_else(|reason| {
            let lines = yaml::plain_lines(front);
            let lines = lines.ok_or_else(|| format!("its front matter is not YAML: {reason}"))?;
            document.notes.push(format!("its front matter is not YAML and was read line by line: {reason}"));
            Ok::<_, String>(lines)
        })?;
        document.take(members, true);
        Ok(document)
    }

    /// Takes the members of the front matter, or of its `metadata`.
    fn take(&mut self, members: Vec<(String, Node)>, is_top: bool) {
        for (name, node) in members {
            let text = node.text().filter(|text| !text.is_empty()).map(str::to_owned);
            match (name.as_str(), text) {
                ("name", Some(text)) if is_top => self.name = Some(text),
                ("description", Some(text)) if is_top => self.description = text,
                ("skillcache", Some(text)) if !is_top => self.record = Some(text),
                ("category", Some(text)) => self.category = Some(text),
                ("author", Some(text)) => self.author = Some(text),
                ("tags", _) if node.texts().is_some() => self.tags = node.texts().unwrap_or_default(),
                (_, None) if node.text().is_some() => {}
                _ => match node {
                    Node::Map(members) if is_top && name == "metadata" => self.take(members, false),
                    node => self.notes.push(format!("`{name}` is not kept: {}", node.shown())),
                },
            }
        }
    }

    /// The record and the script that it belongs to, if this was written here.
    fn record(&self, folder: &Path) -> std::result::Result<Option<Record>, String> {
        let text = match self.record.as_deref() {
            None => return Ok(None),
            Some(RECORD_FILE) => files::read_text(&folder.join(RECORD_FILE))
                .map_err(|reason| format!("its record {RECORD_FILE} cannot be read: {reason}"))?,
            Some(text) => text.to_owned(),
        };
        let record = Value::parse(&text).map_err(|error| format!("its record `skillcache` is not JSON: {error}"))?;
        let Value::Object(members) = record else {
            return Err(format!("its record `skillcache` is {}, not an object", record.kind()));
        };
        let script = members.iter().find(|(name, _)| name == "script").and_then(|(_, script)| script.as_str());
        let script = script.ok_or("its record `skillcache` names no script")?.to_owned();
        Ok(Some(Record { members, script }))
    }

    /// The draft for one of its scripts.
    fn draft(&self, id: &str, script: &str, code: String) -> std::result::Result<Skill, String> {
        record::allowed(id)?;
        if code.trim().is_empty() {
            return Err("the script is empty".to_owned());
        }
        let mut skill = Skill::new(id, code);
        let mut set = |name: &str, value: Value| record::set(&mut skill, name, &value);
        if let Some(name) = &self.name {
            set("name", Value::from(name.as_str()))?;
        }
        set("description", Value::from(self.description.as_str()))?;
        if let Some(category) = &self.category {
            set("category", Value::from(category.as_str()))?;
        }
        if let Some(author) = &self.author {
            set("author", Value::from(author.as_str()))?;
        }
        if !self.tags.is_empty() {
            set("tags", Value::from(self.tags.clone()))?;
        }
        if !self.body.is_empty() && self.body != usual_body(script) {
            set("instructions", Value::from(self.body.as_str()))?;
        }
        Ok(skill)
    }
}

/// Front matter, if there is any, and the rest.
fn divided(text: &str) -> std::result::Result<(Option<&str>, &str), String> {
    let is_mark = |line: &str| line.trim_end() == "---";
    let Some((first, rest)) = text.trim_start().split_once('\n').filter(|(first, _)| is_mark(first)) else {
        return Ok((None, text));
    };
    let mut length = 0;
    for line in rest.split_inclusive('\n') {
        if is_mark(line) {
            return Ok((Some(&rest[..length]), &rest[length + line.len()..]));
        }
        length += line.len();
        if length > MAX_FRONT_MATTER {
            return Err(format!("its front matter has more than {MAX_FRONT_MATTER} bytes"));
        }
    }
    Err(format!("its front matter is not closed by a second line `{}`", first.trim_end()))
}

/// What a skill without instructions says, so that whoever finds the folder knows what to do with it.
fn usual_body(script: &str) -> String {
    format!(
        "`{script}` is the skill. It takes the dicts `inputs`, `context` and `parameters`, which replace the ones it assigns at \
         its top, and its answer is what it assigns to `result`."
    )
}

/// Whether a folder is one of these.
pub fn is_there(root: &Path) -> Result<bool> {
    Ok(!find(root, 1, &mut Scan::default())?.is_empty())
}

/// Folders with a `SKILL.md`: the folder itself or folders in it.
fn find(root: &Path, enough: usize, scan: &mut Scan) -> Result<Vec<(PathBuf, PathBuf)>> {
    let mut found = Vec::new();
    let mut waiting = vec![(root.to_owned(), 0)];
    while let Some((folder, level)) = waiting.pop() {
        let members = match files::list(&folder) {
            Ok(members) => members,
            Err(error) if level == 0 => return Err(error),
            Err(error) => {
                scan.reject(&below(root, &folder), None, error.message());
                continue;
            }
        };
        if let Some(document) = members.iter().find(|member| is_document(member)) {
            found.push((folder, document.path.clone()));
            if found.len() == enough {
                break;
            }
            continue;
        }
        let is_hidden = |member: &Member| member.name.as_encoded_bytes().starts_with(b".");
        for member in members.iter().filter(|member| member.kind.is_symlink() && !is_hidden(member)) {
            scan.note(&below(root, &member.path), "it is a symbolic link, which is not followed");
        }
        if level < MAX_LEVELS {
            let folders = members.into_iter().filter(|member| member.kind.is_dir() && !is_hidden(member));
            // The first one is to be looked at first.
            waiting.extend(folders.rev().map(|member| (member.path, level + 1)));
        }
    }
    Ok(found)
}

fn is_document(member: &Member) -> bool {
    member.name.eq_ignore_ascii_case("SKILL.md") && !member.kind.is_dir()
}

fn below(root: &Path, path: &Path) -> String {
    let rest = path.strip_prefix(root).unwrap_or(path);
    if rest.as_os_str().is_empty() { ".".to_owned() } else { rest.to_string_lossy().into_owned() }
}

pub fn scan(root: &Path) -> Result<Scan> {
    let mut scan = Scan::default();
    for (folder, document) in find(root, usize::MAX, &mut scan)? {
        let source = below(root, &document);
        if let Err(reason) = scan_folder(root, &folder, &document, &mut scan) {
            scan.reject(&source, None, reason);
        }
    }
    Ok(scan)
}

fn scan_folder(root: &Path, folder: &Path, path: &Path, scan: &mut Scan) -> std::result::Result<(), String> {
    let document = Document::parse(&files::read_text(path)?)?;
    let source = below(root, path);
    let (mut scripts, others) = contents(folder)?;
    document.notes.iter().for_each(|note| scan.note(&source, note.as_str()));
    if !others.is_empty() {
        scan.note(&source, format!("not kept: {}", others.join(", ")));
    }
    if let Some(Record { script: own, .. }) = document.record(folder)? {
        let (own, more): (Vec<_>, Vec<_>) = scripts.into_iter().partition(|script| *script == own);
        if !more.is_empty() {
            scan.note(&source, format!("not part of the skill that was written here: {}", more.join(", ")));
        }
        scripts = own;
    }
    if scripts.is_empty() {
        return Err("only instructions, no Python script".to_owned());
    }
    let name = document.name.clone().unwrap_or_else(|| folder_name(folder));
    if document.record.is_none()
        && let Some(id) = record::repaired(&name).filter(|id| *id != name)
    {
        scan.note(&source, format!("`{name}` is no id; it is `{id}`"));
    }
    for script in scripts {
        let source = below(root, &folder.join(&script));
        match load(folder, &script) {
            Ok(skill) => scan.keep(&source, &skill, 0, Place::Script { folder: folder.to_owned(), script }),
            Err(reason) => scan.reject(&source, None, reason),
        }
    }
    Ok(())
}

fn folder_name(folder: &Path) -> String {
    let resolved = std::fs::canonicalize(folder).unwrap_or_else(|_| folder.to_owned());
    resolved.file_name().map_or_else(|| "skill".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Python scripts beside the document and in `scripts/`, and what else there is.
fn contents(folder: &Path) -> std::result::Result<(Vec<String>, Vec<String>), String> {
    let (mut scripts, mut others) = (Vec::new(), Vec::new());
    let mut take = |prefix: &str, member: &Member| {
        let name = format!("{prefix}{}", member.shown());
        let is_ours = is_document(member) || (prefix.is_empty() && member.name == RECORD_FILE);
        if is_ours || member.name.as_encoded_bytes().starts_with(b".") || member.name == "__pycache__" {
            return;
        }
        if member.kind.is_file() && member.has_extension("py") && member.name != "__init__.py" {
            scripts.push(name);
        } else if member.kind.is_symlink() {
            others.push(format!("{name} (a symbolic link)"));
        } else {
            others.push(if member.kind.is_dir() { format!("{name}/") } else { name });
        }
    };
    let read = |folder: &Path| files::list(folder).map_err(|error| error.message().to_owned());
    for member in read(folder)? {
        if member.kind.is_dir() && member.name == "scripts" {
            read(&member.path)?.iter().for_each(|script| take("scripts/", script));
        } else {
            take("", &member);
        }
    }
    Ok((scripts, others))
}

/// Loads the skill that a script of a folder is.
pub fn load(folder: &Path, script: &str) -> std::result::Result<Skill, String> {
    let members = files::list(folder).map_err(|error| error.message().to_owned())?;
    let document = members.iter().find(|member| is_document(member)).ok_or("its SKILL.md is gone")?;
    let document = Document::parse(&files::read_text(&document.path)?)?;
    let code = files::read_text(&folder.join(script))?;
    if let Some(Record { members, .. }) = document.record(folder)? {
        return of_record(&document, &members, script, code);
    }
    let name = document.name.clone().unwrap_or_else(|| folder_name(folder));
    let id = record::repaired(&name).ok_or_else(|| format!("nothing of the name `{name}` can be an id"))?;
    let is_only = contents(folder)?.0.len() == 1;
    let stem = Path::new(script).file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
    let id = if is_only { id } else { format!("{id}.{}", record::repaired(&stem).unwrap_or_default()) };
    document.draft(&id, script, code)
}

/// What the record says comes after what the document says.
fn of_record(
    document: &Document,
    members: &[(String, Value)],
    script: &str,
    code: String,
) -> std::result::Result<Skill, String> {
    let id = members.iter().find(|(name, _)| name == "id").and_then(|(_, id)| id.as_str());
    let named = Document { name: None, ..document.clone() };
    let mut skill = named.draft(id.ok_or("its record `skillcache` has no `id`")?, script, code)?;
    for (name, value) in record::given(members).filter(|(name, _)| record::is_field(name)) {
        record::set(&mut skill, name, value)?;
    }
    Ok(skill)
}

/// Writes a folder of skill folders.
#[derive(Debug)]
pub struct MarkdownWriter {
    folder: NewFolder,
    names: Names,
}

impl MarkdownWriter {
    pub fn new(path: &Path, overwrite: bool) -> Result<Self> {
        Ok(MarkdownWriter { folder: NewFolder::new(path, overwrite)?, names: Names::default() })
    }
}

impl Writer for MarkdownWriter {
    fn write(&mut self, skill: &Skill) -> std::result::Result<Vec<String>, Fault> {
        let name = self.names.free(&conventional_name(&skill.id));
        let file = format!("{}.py", Names::default().of(&skill.id));
        let Written { text, record } = written(skill, &name, &format!("scripts/{file}"));
        self.folder.write(&[&name, "SKILL.md"], &text)?;
        self.folder.write(&[&name, "scripts", &file], &skill.code)?;
        if let Some(record) = record {
            self.folder.write(&[&name, RECORD_FILE], &record)?;
        }
        Ok(Vec::new())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        self.folder.finish()
    }
}

/// A name as the convention wants it: 1 to 64 lower-case letters, digits and single hyphens. What makes it unique comes
/// behind it, so it is a little shorter.
fn conventional_name(id: &str) -> String {
    const ROOM: usize = MAX_NAME - 8;
    let mut name = String::new();
    for c in id.chars() {
        match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9') => name.push(c),
            _ if !name.is_empty() && !name.ends_with('-') => name.push('-'),
            _ => {}
        }
    }
    name.truncate(ROOM);
    let name = name.trim_end_matches('-');
    if name.is_empty() { "skill".to_owned() } else { name.to_owned() }
}

/// A `SKILL.md`, and the record if it stands in a file of its own.
struct Written {
    text: String,
    record: Option<String>,
}

fn written(skill: &Skill, name: &str, script: &str) -> Written {
    let description = skill.text_field("description");
    let shown: String = match description.trim() {
        "" => format!("The skill {}.", skill.id),
        whole => whole.chars().take(MAX_DESCRIPTION).collect(),
    };
    let instructions = skill.text_field("instructions");
    let usual = usual_body(script);
    let body = if instructions.trim().is_empty() { usual.as_str() } else { instructions.trim() };
    let is_kept_elsewhere = |field: &Field| match field.name {
        "description" => shown == description,
        "instructions" => instructions == body && instructions != usual,
        _ => false,
    };
    let mut record = vec![("id".to_owned(), Value::from(skill.id())), ("script".to_owned(), Value::from(script))];
    record.extend(record::members(skill, |field, value| match field.name {
        // Not the default, but what would be read from the document instead.
        "description" | "instructions" if is_kept_elsewhere(field) => false,
        "description" => true,
        "instructions" => *value != Value::Null,
        _ => *value != field.default_value(),
    }));
    let record = Value::Object(record).to_text();
    let is_inline = record.len() <= MAX_INLINE_RECORD;
    let mut text = "---\nname: ".to_owned();
    yaml::write_text(name, &mut text);
    text.push_str("\ndescription: ");
    yaml::write_text(&shown, &mut text);
    text.push_str("\nmetadata:\n  skillcache: ");
    yaml::write_text(if is_inline { &record } else { RECORD_FILE }, &mut text);
    text.push_str("\n---\n\n");
    text.push_str(body);
    text.push('\n');
    Written { text, record: (!is_inline).then_some(record) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Document {
        Document::parse(text).unwrap_or_else(|reason| panic!("{reason}: {text}"))
    }

    #[test]
    fn a_document_as_the_convention_wants_it() {
        let document = parsed(
            "---\nname: pdf-tools\ndescription: Reads PDFs.\nlicense: MIT\nallowed-tools: Read Bash\nmetadata:\n  author: me\n  \
             version: \"1.0\"\n  category: files\ntags: a, b\n---\n\n# PDF\n\nUse it.\n",
        );
        assert_eq!(document.name.as_deref(), Some("pdf-tools"));
        assert_eq!((document.description.as_str(), document.body.as_str()), ("Reads PDFs.", "# PDF\n\nUse it."));
        assert_eq!((document.category.as_deref(), document.tags.join("+").as_str()), (Some("files"), "a+b"));
        assert_eq!(document.notes.first().map(String::as_str), Some("`license` is not kept: MIT"));
        assert!(document.notes.contains(&"`version` is not kept: 1.0".to_owned()), "{:?}", document.notes);
    }

    #[test]
    fn documents_as_people_write_them() {
        assert_eq!(parsed("\u{feff}---\r\nname: x\r\n---\r\nBody\r\n").body, "Body");
        assert_eq!(parsed("---\ndescription: Use when: asked\n---\n").description, "Use when: asked");
        assert_eq!(parsed("# Only text\n---\nmore").body, "# Only text\n---\nmore");
        assert_eq!(parsed("---\n---\n"), Document::default());
        for (text, reason) in [
            ("---\nname: x\n", "not closed"),
            ("---\nname: [x\n---\n", "not YAML"),
            (&format!("---\n{}\n---\n", "a".repeat(MAX_FRONT_MATTER + 1)), "more than 65536 bytes"),
        ] {
            let said = Document::parse(text).expect_err(reason);
            assert!(said.contains(reason), "{said}");
        }
    }

    #[test]
    fn names_are_those_of_the_convention() {
        for (id, name) in
            [("RSI_14.v2:x", "rsi-14-v2-x"), ("..", "skill"), ("-a--b-", "a-b"), (&"x".repeat(128), &"x".repeat(56))]
        {
            assert_eq!(conventional_name(id), name);
        }
    }
}
