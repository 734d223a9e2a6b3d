//! The bundle: JSON Lines in one file. A head, a line for each version of each skill with a digest of its own, and an end with
//! the count and a digest of everything before it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use super::files::{self, Links, NewFile};
use super::{Fault, Place, Scan, Writer, record};
use crate::error::{Code, Error, Result};
use crate::json::Value;
use crate::skill::Skill;

/// What a head says it is.
const NAME: &str = "skillcache-bundle";
/// The version of the format that is written, and the last one that is read.
const VERSION: i64 = 1;
/// The longest line, in bytes.
const MAX_LINE: usize = 64 << 20;
/// The longest head, in bytes.
const MAX_HEAD: usize = 64 << 10;

/// What a line says for information: counted and dated anew where it is read.
const KNOWN: [&str; 5] = ["usage_count", "success_count", "last_used", "created_at", "updated_at"];

pub fn scan_file(path: &Path) -> Result<Scan> {
    let place = |error: Error| {
        let message = format!("{} {}", path.display(), error.message());
        Error::new(error.code(), message).path(path.display().to_string())
    };
    let file = files::open(path, Links::Followed).map_err(|reason| {
        let shown = path.display().to_string();
        Error::invalid(format!("{shown} cannot be read as a bundle: {reason}")).path(shown)
    })?;
    scan(BufReader::with_capacity(1 << 16, file)).map_err(place)
}

/// Reads a whole bundle, checks it, and keeps where its skills stand.
///
/// # Errors
///
/// [`Code::Invalid`] if it is no bundle or cannot be read, [`Code::Unsupported`] if its format is a later one.
pub fn scan(reader: impl BufRead) -> Result<Scan> {
    let mut lines = Lines { reader, offset: 0, digest: blake3::Hasher::new() };
    let (mut scan, mut line, mut number, mut count) = (Scan::default(), Vec::new(), 1u64, 0u64);
    lines.next(&mut line, MAX_HEAD).map_err(unread)?;
    check_head(&line)?;
    lines.digest.update(&line);
    let mut is_ended = false;
    loop {
        let offset = lines.offset;
        let is_whole = match lines.next(&mut line, MAX_LINE).map_err(unread)? {
            Next::Line => true,
            Next::TooLong => false,
            Next::None => break,
        };
        number += 1;
        let source = format!("line {number}");
        if is_ended {
            scan.reject(&source, None, "it stands after the end of the bundle");
            break;
        }
        if is_whole && let Some(end) = End::read(&line) {
            is_ended = true;
            end.check(count, &lines.digest, &source, &mut scan);
            continue;
        }
        lines.digest.update(&line);
        count += 1;
        if is_whole {
            keep_line(&line, offset, &source, &mut scan);
        } else {
            scan.reject(&source, None, format!("it has more than {MAX_LINE} bytes"));
        }
    }
    if !is_ended {
        let reason =
            format!("the bundle ends early: {count} skills are there, and no end that says how many there were");
        scan.reject("end", None, reason);
    }
    Ok(scan)
}

fn unread(error: io::Error) -> Error {
    Error::invalid(format!("cannot be read: {error}"))
}

fn check_head(line: &[u8]) -> Result<()> {
    let head = std::str::from_utf8(line).ok().and_then(|text| Value::parse(text).ok());
    let head = head.filter(|head| head.get("format").and_then(Value::as_str) == Some(NAME));
    let version = head.as_ref().and_then(|head| head.get("version")).and_then(Value::as_i64);
    match version {
        Some(1..=VERSION) => Ok(()),
        Some(later @ 2..) => {
            let message = format!("is a bundle of format version {later}; this library reads up to {VERSION}");
            Err(Error::new(Code::Unsupported, message))
        }
        _ => Err(Error::invalid(format!("is no bundle: its first line is not {{\"format\": \"{NAME}\", ...}}"))),
    }
}

/// The last line.
struct End {
    count: Option<i64>,
    digest: Option<String>,
}

impl End {
    fn read(line: &[u8]) -> Option<Self> {
        const LONGEST: usize = 1024;
        let text = std::str::from_utf8(line).ok().filter(|text| text.len() <= LONGEST)?;
        let value = Value::parse(text).ok()?;
        (value.get("end")?.as_str()? == NAME).then(|| End {
            count: value.get("count").and_then(Value::as_i64),
            digest: value.get("blake3").and_then(Value::as_str).map(str::to_owned),
        })
    }

    fn check(&self, count: u64, digest: &blake3::Hasher, source: &str, scan: &mut Scan) {
        let told = self.count.and_then(|told| u64::try_from(told).ok());
        if told != Some(count) {
            let told = told.map_or_else(|| "an unknown number".to_owned(), |told| told.to_string());
            scan.reject(source, None, format!("the bundle ends early: {count} of {told} skills are there"));
        } else if self.digest.as_deref() != Some(digest.finalize().to_hex().as_str()) {
            let reason =
                "the digest of the whole does not match: lines were changed, exchanged or put in another order";
            scan.reject(source, None, reason);
        }
    }
}

fn keep_line(line: &[u8], offset: u64, source: &str, scan: &mut Scan) {
    match parse(line) {
        Ok(Line { skill, version, notes }) => {
            notes.into_iter().for_each(|note| scan.note(source, note));
            scan.keep(source, &skill, version, Place::Line { offset, length: line.len() });
        }
        Err(Damage { id, reason }) => scan.reject(source, id.as_deref(), reason),
    }
}

/// A line that was read.
struct Line {
    skill: Skill,
    version: u32,
    notes: Vec<String>,
}

/// Why a line was not.
struct Damage {
    id: Option<String>,
    reason: String,
}

fn parse(line: &[u8]) -> std::result::Result<Line, Damage> {
    let nameless = |reason: String| Damage { id: None, reason };
    let text = std::str::from_utf8(line).map_err(|_| nameless("it is damaged: it is not UTF-8".to_owned()))?;
    let value = Value::parse(text).map_err(|error| nameless(format!("it is damaged: it is not JSON: {error}")))?;
    let Value::Object(mut members) = value else {
        return Err(nameless(format!("it is damaged: it is {}, not an object", value.kind())));
    };
    let id = members.iter().find(|(name, _)| name == "id").and_then(|(_, id)| id.as_str()).map(str::to_owned);
    let told = members.iter().position(|(name, _)| name == "blake3").map(|place| members.remove(place).1);
    let content = Value::Object(members);
    let is_intact = told.as_ref().and_then(Value::as_str) == Some(&digest(&content));
    let Value::Object(members) = content else { return Err(nameless(String::new())) };
    if !is_intact {
        return Err(Damage { id, reason: "it is damaged: its digest does not match".to_owned() });
    }
    read_record(&members).map_err(|reason| Damage { id, reason })
}

fn read_record(members: &[(String, Value)]) -> std::result::Result<Line, String> {
    let mut skill = record::draft(members, None)?;
    let (mut version, mut notes) = (0, Vec::new());
    for (name, value) in record::given(members) {
        match name.as_str() {
            "id" | "code" => {}
            "version" => {
                let number = value.as_i64().and_then(|number| u32::try_from(number).ok());
                version = number.ok_or_else(|| format!("`version` takes a version number, not {}", value.to_text()))?;
            }
            known if KNOWN.contains(&known) => {}
            other if record::is_field(other) => record::set(&mut skill, other, value)?,
            other => notes.push(format!("`{other}` is no field of a skill and is not kept")),
        }
    }
    Ok(Line { skill, version, notes })
}

fn digest(content: &Value) -> String {
    blake3::hash(content.to_text().as_bytes()).to_hex().to_string()
}

/// Loads a skill of which the scan said where it stands.
pub fn load(file: &mut File, offset: u64, length: usize) -> std::result::Result<Skill, String> {
    let mut line = vec![0; length];
    let read = file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(&mut line));
    read.map_err(|error| format!("it cannot be read again: {error}"))?;
    parse(&line).map(|line| line.skill).map_err(|damage| damage.reason)
}

/// Reads lines of a bounded length; longer ones only go into the digest.
struct Lines<R> {
    reader: R,
    offset: u64,
    /// Of everything before the line that was read last.
    digest: blake3::Hasher,
}

#[derive(PartialEq)]
enum Next {
    Line,
    TooLong,
    None,
}

impl<R: BufRead> Lines<R> {
    fn next(&mut self, line: &mut Vec<u8>, longest: usize) -> io::Result<Next> {
        line.clear();
        let mut next = Next::None;
        loop {
            let bytes = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                bytes => bytes?,
            };
            if bytes.is_empty() {
                return Ok(next);
            }
            let end = bytes.iter().position(|&byte| byte == b'\n');
            let taken = end.map_or(bytes.len(), |end| end + 1);
            if next != Next::TooLong && line.len() + taken > longest {
                next = Next::TooLong;
                self.digest.update(line);
                line.clear();
            }
            match next {
                Next::TooLong => drop(self.digest.update(&bytes[..taken])),
                _ => {
                    line.extend_from_slice(&bytes[..taken]);
                    next = Next::Line;
                }
            }
            self.reader.consume(taken);
            self.offset += taken as u64;
            if end.is_some() {
                return Ok(next);
            }
        }
    }
}

/// Writes a bundle.
#[derive(Debug)]
pub struct BundleWriter {
    file: NewFile,
    digest: blake3::Hasher,
    count: u64,
}

impl BundleWriter {
    pub fn new(path: &Path, overwrite: bool) -> Result<Self> {
        let mut writer = BundleWriter { file: NewFile::new(path, overwrite)?, digest: blake3::Hasher::new(), count: 0 };
        let head = Value::object([
            ("format", Value::from(NAME)),
            ("version", Value::from(VERSION)),
            ("written_by", Value::from(concat!("skillcache ", env!("CARGO_PKG_VERSION")))),
        ]);
        writer.line(head.to_text())?;
        Ok(writer)
    }

    fn line(&mut self, mut text: String) -> Result<()> {
        text.push('\n');
        self.digest.update(text.as_bytes());
        self.file.write(text.as_bytes())
    }
}

impl Writer for BundleWriter {
    fn write(&mut self, skill: &Skill) -> std::result::Result<Vec<String>, Fault> {
        let text = line_of(skill).to_text();
        if text.len() >= MAX_LINE {
            let size = text.len();
            return Err(Fault::Skill(format!("its record has {size} bytes; a line has less than {MAX_LINE}")));
        }
        self.line(text)?;
        self.count += 1;
        Ok(Vec::new())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        let end = Value::object([
            ("end", Value::from(NAME)),
            ("count", Value::from(self.count)),
            ("blake3", Value::from(self.digest.finalize().to_hex().as_str())),
        ]);
        self.line(end.to_text())?;
        self.file.finish()
    }
}

fn line_of(skill: &Skill) -> Value {
    let mut members = vec![
        ("id".to_owned(), Value::from(skill.id())),
        ("version".to_owned(), Value::from(skill.version())),
        ("code".to_owned(), Value::from(skill.code())),
    ];
    members.extend(record::members(skill, |_, _| true));
    let usage = skill.usage();
    let for_information = [
        Value::from(usage.usage_count),
        Value::from(usage.success_count),
        Value::from(usage.last_used.as_deref()),
        Value::from(skill.created_at.as_deref()),
        Value::from(skill.updated_at.as_deref()),
    ];
    members.extend(KNOWN.into_iter().map(str::to_owned).zip(for_information));
    let content = Value::Object(members);
    let digest = digest(&content);
    let Value::Object(mut members) = content else { return content };
    members.push(("blake3".to_owned(), Value::from(digest)));
    Value::Object(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(skills: &[Skill]) -> String {
        let mut text = format!("{{\"format\":\"{NAME}\",\"version\":1}}\n");
        skills.iter().for_each(|skill| text.push_str(&format!("{}\n", line_of(skill).to_text())));
        let digest = blake3::hash(text.as_bytes()).to_hex();
        text.push_str(&format!("{{\"end\":\"{NAME}\",\"count\":{},\"blake3\":\"{digest}\"}}\n", skills.len()));
        text
    }

    fn skills() -> Vec<Skill> {
        ["a", "b", "c"].map(|id| Skill::new(id, format!("result = '{id}'"))).to_vec()
    }

    fn scanned(text: &str) -> (Vec<String>, Vec<String>) {
        let scan = scan(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}"));
        let rejected = scan.rejected.iter().map(|rejection| {
            let id = rejection.id.as_deref().unwrap_or("-");
            format!("{} {id}: {}", rejection.source, rejection.reason)
        });
        (scan.stubs.iter().map(|stub| stub.id.clone()).collect(), rejected.collect())
    }

    #[test]
    fn a_whole_bundle_is_read_without_a_word() {
        assert_eq!(scanned(&bundle(&skills())), (["a", "b", "c"].map(str::to_owned).to_vec(), vec![]));
        assert_eq!(scanned(&bundle(&[])), (vec![], vec![]));
    }

    #[test]
    fn damage_is_found_and_the_rest_is_read() {
        let whole = bundle(&skills());
        let lines: Vec<&str> = whole.lines().collect();
        for (damaged, left, reasons) in [
            (
                whole.replace("'b'", "'B'"),
                "a c",
                &["line 3 b: it is damaged: its digest", "line 5 -: the digest of the"][..],
            ),
            (
                whole.replace("\"id\":\"b\"", "\"id\":\"b"),
                "a c",
                &["line 3 -: it is damaged: it is not JSON", "line 5 -"],
            ),
            (lines[..4].join("\n"), "a b c", &["end -: the bundle ends early: 3 skills are there"]),
            ([lines[0], lines[1], lines[4]].join("\n"), "a", &["line 3 -: the bundle ends early: 1 of 3"]),
            (
                [lines[0], lines[2], lines[1], lines[3], lines[4]].join("\n"),
                "b a c",
                &["line 5 -: the digest of the whole"],
            ),
            (format!("{whole}more\n"), "a b c", &["line 6 -: it stands after the end"]),
            (format!("{}\n{}", lines[0], &lines[1][..40]), "", &["line 2 -: it is damaged", "end -"]),
        ] {
            let (ids, rejected) = scanned(&damaged);
            assert_eq!(ids.join(" "), left, "{damaged}");
            assert_eq!(rejected.len(), reasons.len(), "{rejected:?}");
            rejected
                .iter()
                .zip(reasons)
                .for_each(|(said, reason)| assert!(said.starts_with(reason), "{said}: {reason}"));
        }
    }

    #[test]
    fn what_is_no_bundle_or_a_later_one_is_refused() {
        let refused = |text: &str| scan(text.as_bytes()).map(|_| ()).expect_err(text);
        for text in [
            "",
            "\n",
            "{}",
            "[1]",
            "{\"format\":\"skillcache-bundle\"}",
            "{\"format\":\"skillcache-bundle\",\"version\":0}",
        ] {
            assert_eq!(refused(text).code(), Code::Invalid, "{text}");
        }
        let later = refused("{\"format\":\"skillcache-bundle\",\"version\":2}\n");
        assert_eq!(later.code(), Code::Unsupported);
        assert!(later.message().contains("format version 2"), "{later}");
    }

    #[test]
    fn lines_beyond_the_bound_are_passed_over() {
        let text = format!("short\n{}\nlast", "x".repeat(100));
        // A small buffer: lines come in pieces.
        let reader = BufReader::with_capacity(7, text.as_bytes());
        let mut lines = Lines { reader, offset: 0, digest: blake3::Hasher::new() };
        let mut line = Vec::new();
        let mut said = Vec::new();
        loop {
            let next = lines.next(&mut line, 50).expect("memory");
            lines.digest.update(&line);
            match next {
                Next::Line => said.push(String::from_utf8_lossy(&line).into_owned()),
                Next::TooLong => said.push("too long".to_owned()),
                Next::None => break,
            }
        }
        assert_eq!(said, ["short\n", "too long", "last"]);
        assert_eq!((lines.offset, lines.digest.finalize()), (text.len() as u64, blake3::hash(text.as_bytes())));
    }

    #[test]
    fn values_that_are_nested_as_deep_as_they_may_be_are_kept() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(99), "]".repeat(99));
        let mut skill = Skill::new("deep", "result = 1");
        skill.set("parameters", &deep).expect("allowed");
        let text = format!("{}\n", line_of(&skill).to_text());
        let read = parse(text.as_bytes()).map(|line| line.skill).map_err(|damage| damage.reason).expect("intact");
        assert_eq!(read.field("parameters").to_text(), deep);
    }
}
