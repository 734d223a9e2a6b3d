//! A picture of a library: one HTML page that needs nothing else, from a library's file and the statistics that its host saved.
//!
//! `report [LIBRARY] [--stats FILE] [--out report.html]`. The library is opened for reading only. `FILE` holds what `Library::stats` gave, or an object with
//! `stats` and, if there are, `history`, `health`, `recommendations` and `events`; without it the page shows the statistics of the
//! library that was just opened, whose counters are fresh. Without a library one is made, used for some seconds, and thrown away.

mod advice;
mod caches;
mod chart;
mod clock;
mod document;
mod headline;
mod history;
mod ink;
mod latency;
mod load;
mod machine;
mod markup;
mod outcomes;
mod page;
mod sample;
mod skills;
mod units;

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use std::{env, fs, process};

use skillcache::json::Value;
use skillcache::store::Filter;
use skillcache::{Config, Library};

const USAGE: &str = "usage: report [LIBRARY] [--stats FILE] [--out report.html]";
/// The largest file of statistics that is read: a history has 360 samples at most.
const MOST_STATISTICS: u64 = 64 << 20;

type Answer<T> = Result<T, Box<dyn Error>>;

#[derive(Debug, PartialEq)]
struct Request {
    library: Option<PathBuf>,
    statistics: Option<PathBuf>,
    out: PathBuf,
}

fn read_arguments(arguments: impl Iterator<Item = std::ffi::OsString>) -> Answer<Request> {
    let mut request = Request { library: None, statistics: None, out: PathBuf::from("report.html") };
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let mut file = || arguments.next().map(PathBuf::from).ok_or(USAGE);
        match argument.to_str() {
            Some("--stats") => request.statistics = Some(file()?),
            Some("--out") => request.out = file()?,
            Some(option) if option.starts_with("--") => return Err(format!("there is no {option}; {USAGE}").into()),
            _ if request.library.is_none() => request.library = Some(PathBuf::from(argument)),
            _ => return Err(format!("one library at a time; {USAGE}").into()),
        }
    }
    if request.statistics.is_some() && request.library.is_none() {
        return Err(format!("statistics of which library? {USAGE}").into());
    }
    Ok(request)
}

fn main() {
    let made = read_arguments(env::args_os().skip(1)).and_then(|request| {
        make(&request)?;
        Ok(request.out)
    });
    match made {
        Ok(out) => println!("{}", out.display()),
        Err(error) => {
            // One line, whatever is in the message.
            eprintln!("report: {}", error.to_string().split_whitespace().collect::<Vec<_>>().join(" "));
            process::exit(2);
        }
    }
}

fn make(request: &Request) -> Answer<()> {
    refuse_to_overwrite(request)?;
    let document = match &request.library {
        Some(path) => read_library(path, request.statistics.as_deref())?,
        None => sample::document()?,
    };
    write_whole(&request.out, &page::page(&document)?)
}

/// The page must not take the place of what it is made of.
fn refuse_to_overwrite(request: &Request) -> Answer<()> {
    let Ok(out) = request.out.canonicalize() else { return Ok(()) };
    if out.is_dir() {
        return Err(format!("{} is a folder, and no page can be written over it", request.out.display()).into());
    }
    for source in [&request.library, &request.statistics].into_iter().flatten() {
        if source.canonicalize().is_ok_and(|source| source == out) {
            return Err(format!("{} is what the page is made of, and is not overwritten", source.display()).into());
        }
    }
    Ok(())
}

/// All of it, or nothing: it gets its name when it is whole.
fn write_whole(path: &Path, text: &str) -> Answer<()> {
    use std::os::unix::fs::PermissionsExt;
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    let cannot = |error: &dyn Error| format!("{} cannot be written: {error}", path.display());
    // As any other file of the user's; temporary ones are private otherwise.
    let permissions = fs::Permissions::from_mode(0o666);
    let begun = tempfile::Builder::new().prefix(".report-").permissions(permissions).tempfile_in(folder);
    let mut file = begun.map_err(|error| cannot(&error))?;
    file.write_all(text.as_bytes()).map_err(|error| cannot(&error))?;
    file.persist(path).map_err(|error| cannot(&error))?;
    Ok(())
}

/// What the page shows of a library in a file.
fn read_library(path: &Path, statistics: Option<&Path>) -> Answer<Value> {
    let shown = path.display();
    // Otherwise the first would be made, and the second has no file to be read.
    if !path.is_file() {
        let why = if path.is_dir() { "is a folder" } else { "is not there, or no file" };
        return Err(format!("{shown} {why}; a library is one file").into());
    }
    let saved = statistics.map(read_statistics).transpose()?;
    let name = path.to_str().ok_or_else(|| format!("the path {shown} is not UTF-8"))?;
    let mut config = Config::default();
    config.set("store.access", "read_only")?;
    let library = Library::open(name, &config).map_err(|error| format!("{shown}: {error}"))?;
    let members = match saved {
        Some(saved) => saved,
        None => counted(&library).map_err(|error| format!("{shown}: {error}"))?,
    };
    let counters = if statistics.is_some() { "saved" } else { "fresh" };
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or(name);
    kept(&library, name, counters, members).map_err(|error| format!("{shown}: {error}").into())
}

/// The saved members: those of the object that has `stats` among them, or `stats` alone.
fn read_statistics(path: &Path) -> Answer<Vec<(String, Value)>> {
    let shown = path.display();
    let about = fs::metadata(path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    if about.len() > MOST_STATISTICS {
        return Err(format!("{shown} has {} bytes; statistics have at most {MOST_STATISTICS}", about.len()).into());
    }
    let text = fs::read_to_string(path).map_err(|error| format!("{shown} cannot be read: {error}"))?;
    let value = Value::parse(&text).map_err(|error| format!("{shown} is not JSON: {error}"))?;
    let Value::Object(members) = value else {
        return Err(format!("{shown} is {} and not the object that statistics are", value.kind()).into());
    };
    if members.iter().any(|(name, _)| name == "stats") {
        let known = ["stats", "history", "health", "recommendations", "events"];
        return Ok(members.into_iter().filter(|(name, _)| known.contains(&name.as_str())).collect());
    }
    if !members.iter().any(|(name, _)| name == "runs" || name == "caches") {
        return Err(format!("{shown} has neither statistics nor a member `stats`").into());
    }
    Ok(vec![("stats".to_owned(), Value::Object(members))])
}

/// What a library that is open counts and says of itself.
fn counted(library: &Library) -> skillcache::Result<Vec<(String, Value)>> {
    // First, because asking changes it.
    let stats = library.stats()?;
    let members = [("stats", stats), ("health", library.health()?)];
    Ok(members.map(|(name, value)| (name.to_owned(), value)).into())
}

/// Those members, with what is kept in the file.
fn kept(library: &Library, name: &str, counters: &str, members: Vec<(String, Value)>) -> skillcache::Result<Value> {
    let mut skills = library.list(&Filter::default())?;
    let count = skills.len();
    skills.sort_by(|a, b| b.usage().usage_count.cmp(&a.usage().usage_count).then_with(|| a.id().cmp(b.id())));
    let records: Vec<Value> = skills.iter().take(skills::MOST).map(|skill| skill.to_value(false)).collect();
    let source = Value::object([
        ("name", Value::from(name)),
        ("made", Value::from(clock::moment(SystemTime::now()))),
        ("counters", Value::from(counters)),
    ]);
    let own = [("source", source), ("skills", Value::from(records)), ("skills_count", Value::from(count))];
    Ok(Value::Object(own.map(|(name, value)| (name.to_owned(), value)).into_iter().chain(members).collect()))
}
