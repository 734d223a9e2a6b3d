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
#[cfg(test)]
mod fixture;
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
    let library = Library::open(name, &config).map_err(|error| about(path, &error))?;
    let members = match saved {
        Some(saved) => saved,
        None => counted(&library).map_err(|error| about(path, &error))?,
    };
    let counters = if statistics.is_some() { "saved" } else { "fresh" };
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or(name);
    kept(&library, name, counters, members).map_err(|error| about(path, &error).into())
}

/// An error with the file that it is about, unless it names it.
fn about(path: &Path, error: &skillcache::Error) -> String {
    let (message, shown) = (error.to_string(), path.display().to_string());
    if message.contains(&shown) { message } else { format!("{shown}: {message}") }
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
    let (stats, history) = (library.stats()?, library.history()?);
    let recommendations = library.recommendations()?;
    let members =
        [("stats", stats), ("history", history), ("recommendations", recommendations), ("health", library.health()?)];
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
    let own = [
        ("source", source),
        ("outcomes", library.outcomes(None)?),
        ("skills", Value::from(records)),
        ("skills_count", Value::from(count)),
    ];
    Ok(Value::Object(own.map(|(name, value)| (name.to_owned(), value)).into_iter().chain(members).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Answer<Request> {
        read_arguments(line.split_whitespace().map(Into::into))
    }

    #[test]
    fn arguments_are_read_in_any_order() {
        let request = arguments("--out a.html skills.db --stats s.json").expect("read");
        let paths = [request.library, request.statistics, Some(request.out)].map(|path| path.expect("given"));
        assert_eq!(paths, ["skills.db", "s.json", "a.html"].map(PathBuf::from));
        for wrong in ["a b", "--wrong", "a --out", "a --stats", "--stats s.json"] {
            let error = arguments(wrong).expect_err(wrong).to_string();
            assert!(error.contains("usage: report"), "{wrong}: {error}");
        }
    }

    #[test]
    fn statistics_are_bare_or_beside_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s.json");
        let read = |text: &str| {
            fs::write(&path, text).expect("written");
            let members = read_statistics(&path).map_err(|error| error.to_string())?;
            Ok::<_, String>(members.into_iter().map(|(name, _)| name).collect::<Vec<_>>())
        };
        assert_eq!(read(r#"{"runs": {}, "caches": {}}"#).expect("bare"), ["stats"]);
        // What comes from the file of the library is not taken from here.
        let beside = r#"{"stats": {}, "history": {}, "skills": [1], "source": {"name": "x"}}"#;
        assert_eq!(read(beside).expect("beside"), ["stats", "history"]);
        for (wrong, why) in
            [("", "is not JSON"), ("[1]", "is an array"), ("{}", "neither"), (r#"{"a": 1, "a": 2}"#, "duplicate")]
        {
            let error = read(wrong).expect_err(wrong);
            assert!(error.contains(why), "{wrong}: {error}");
        }
        assert!(read_statistics(folder.path()).is_err() && read_statistics(Path::new("/nowhere/s.json")).is_err());
    }

    #[test]
    fn a_page_is_written_whole_or_not_at_all() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("a.html");
        write_whole(&out, "first").expect("written");
        write_whole(&out, "second").expect("written again");
        assert_eq!(fs::read_to_string(&out).expect("read"), "second");
        assert!(write_whole(&folder.path().join("no/a.html"), "x").is_err());
        let request =
            |library: &Path, out: &Path| Request { library: Some(library.into()), statistics: None, out: out.into() };
        assert!(refuse_to_overwrite(&request(&out, &folder.path().join("./a.html"))).is_err());
        assert!(refuse_to_overwrite(&request(&out, folder.path())).is_err());
        refuse_to_overwrite(&request(Path::new("skills.db"), &out)).expect("an older page is overwritten");
        assert_eq!(fs::read_dir(folder.path()).expect("read").count(), 1, "nothing is left behind");
    }
}
