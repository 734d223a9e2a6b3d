//! Every Python file of this machine's own interpreter as a skill: taken or refused as CPython's `compile()` does, no panic,
//! and no byte changed outside the slots.
//!
//! `SKC_SOURCES=N` takes every Nth file; torture takes all.

mod oracle;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use oracle::{Oracle, objection};
use skillcache::json::Value;
use skillcache::python::{Policy, analyse};
use skillcache::{Config, Library};

/// The folders the interpreter imports from.
fn folders() -> Vec<PathBuf> {
    const QUESTION: &str = "import sysconfig; print(sysconfig.get_path('stdlib')); print(sysconfig.get_path('purelib')); \
        print(sysconfig.get_path('platlib'))";
    let answer = Command::new("python3").args(["-I", "-c", QUESTION]).output().expect("python3");
    let mut folders: Vec<PathBuf> =
        String::from_utf8(answer.stdout).expect("UTF-8").lines().map(PathBuf::from).collect();
    folders.dedup();
    // Site-packages lie below the standard library in many builds.
    let inner = folders.clone();
    folders.retain(|folder| !inner.iter().any(|other| folder != other && folder.starts_with(other)));
    folders.retain(|folder| folder.is_dir());
    folders
}

fn python_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() && !path.is_symlink() {
            python_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "py") {
            found.push(path);
        }
    }
}

/// How a file may be judged otherwise than by CPython.
#[derive(PartialEq)]
enum Difference {
    /// Another encoding than UTF-8, which a skill cannot have: refused, whatever CPython says.
    Encoding,
    /// CPython refuses the bytes for how they spell UTF-8 (a byte order mark and the cookie `utf8`). A skill is text and its
    /// cookie is only checked for naming UTF-8: taken or refused by what else is there.
    Spelling,
}

impl Difference {
    fn reason(&self) -> &'static str {
        match self {
            Difference::Encoding => "not in UTF-8, which a skill has to be",
            Difference::Spelling => "CPython refuses how its bytes spell UTF-8; a skill is text",
        }
    }
}

fn difference(text: Option<&str>, encoding: Option<&str>) -> Option<Difference> {
    match (text, encoding) {
        (None, _) => Some(Difference::Encoding),
        (Some(_), None) => Some(Difference::Spelling),
        (Some(_), Some("utf-8" | "utf-8-sig")) => None,
        (Some(_), Some(_)) => Some(Difference::Encoding),
    }
}

#[test]
fn every_source_of_the_interpreter_is_judged_as_it_judges() {
    let step = std::env::var("SKC_SOURCES").ok().and_then(|step| step.parse().ok()).unwrap_or(20);
    let mut files = Vec::new();
    folders().iter().for_each(|folder| python_files(folder, &mut files));
    assert!(files.len() > 500, "is this the standard library? {:?}", folders());
    let library = Library::open(":memory:", &Config::default()).expect("a library");
    let mut oracle = Oracle::new();
    let data = [Some(Value::object([("a", Value::from("'\"\\\n"))])), Some(Value::object([("b", Value::Null)])), None];
    let (mut taken, mut refused, mut explained) = (0, 0, Vec::new());
    for path in files.iter().step_by(step) {
        let name = path.display().to_string();
        let opinion = oracle.ask("compile", [("path", Value::from(name.as_str()))]);
        // CPython itself may die of a file of its own tests.
        let Some(opinion) = opinion else { continue };
        let part = |part| opinion.get(part).and_then(Value::as_str);
        let bytes = fs::read(path).expect("it is there");
        let text = std::str::from_utf8(&bytes).ok();
        let analysis = text.map(|text| analyse(text, Some(&Policy::default())));
        if let Some(difference) = difference(text, part("encoding")) {
            let is_taken = matches!(analysis, Some(Ok(_)));
            assert!(difference == Difference::Spelling || !is_taken, "{name} was taken");
            explained.push(format!("{name}: {}", difference.reason()));
            continue;
        }
        let text = text.expect("explained otherwise");
        match (analysis.expect("it is text"), part("refused")) {
            (Ok(_), None) => {
                taken += 1;
                assert_eq!(objection(&mut oracle, text, &data), None, "{name}");
            }
            (Err(_), Some(_)) => refused += 1,
            // What only `compile()` sees (a `return` outside a function) is asked of it when a skill is put.
            (Ok(_), Some(_)) => {
                refused += 1;
                let verdict = library.validate(text).expect("a verdict").to_text();
                assert!(verdict.contains(r#""rule":"syntax""#), "{name} is taken: {verdict}");
            }
            (Err(fault), None) => panic!("{name}: CPython takes what is refused here: {fault:?}"),
        }
    }
    println!("{taken} taken, {refused} refused, as by CPython; otherwise judged: {}", explained.len());
    explained.iter().for_each(|file| println!("  {file}"));
    assert!(taken > 0);
}
