//! Skills in and out of a library: mistakes are listed and the rest is there, what goes out comes back equal.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use skillcache::json::Value;
use skillcache::{Code, Config, Data, ExportOptions, Filter, ImportOptions, Library, Outcome, RunOptions, Skill};

const FORMATS: [&str; 3] = ["bundle", "markdown", "reference"];

fn open() -> Library {
    Library::open(":memory:", &Config::default()).unwrap_or_else(|error| panic!("{error}"))
}

fn put(library: &Library, id: &str, code: &str, fields: &[(&str, &str)]) -> u32 {
    let mut skill = Skill::new(id, code);
    for (name, value) in fields {
        skill.set(name, value).unwrap_or_else(|error| panic!("{error}"));
    }
    library.put(&skill).unwrap_or_else(|error| panic!("{id}: {error}"))
}

fn import(library: &Library, path: &Path, options: &str) -> Value {
    let options = ImportOptions::parse(options).unwrap_or_else(|error| panic!("{error}"));
    library.import(path.to_str().expect("UTF-8"), &options).unwrap_or_else(|error| panic!("{error}"))
}

fn export(library: &Library, path: &Path, options: &str) -> Value {
    let options = ExportOptions::parse(options).unwrap_or_else(|error| panic!("{error}"));
    library.export(path.to_str().expect("UTF-8"), &options).unwrap_or_else(|error| panic!("{error}"))
}

/// `id version` of what was imported, and the counts.
fn imported(report: &Value) -> Vec<String> {
    let rows = report.get("imported").and_then(Value::as_array).unwrap_or_default();
    let member = |row: &Value, name: &str| row.get(name).map(|value| value.to_text()).unwrap_or_default();
    rows.iter().map(|row| format!("{} {}", member(row, "id").trim_matches('"'), member(row, "version"))).collect()
}

/// `id: reason`, or `source: reason`, of what was not.
fn rejected(report: &Value) -> Vec<String> {
    let rows = report.get("rejected").and_then(Value::as_array).unwrap_or_default();
    let text = |row: &Value, name: &str| row.get(name).and_then(Value::as_str).map(str::to_owned);
    let line = |row: &Value| {
        let who = text(row, "id").or_else(|| text(row, "source")).unwrap_or_default();
        format!("{who}: {}", text(row, "reason").unwrap_or_default())
    };
    rows.iter().map(line).collect()
}

fn count(report: &Value, name: &str) -> i64 {
    report.get(name).and_then(Value::as_i64).unwrap_or_else(|| panic!("no {name} in {}", report.to_text()))
}

/// Everything about a skill but when and how often, and where it came from.
fn record(library: &Library, id: &str, version: u32) -> Value {
    let skill = library.get(id, version).unwrap_or_else(|error| panic!("{error}"));
    let counted = ["created_at", "updated_at", "usage_count", "success_count", "last_used", "outcomes", "origin"];
    let Value::Object(members) = skill.to_value(true) else { panic!("a record is an object") };
    Value::Object(members.into_iter().filter(|(name, _)| !counted.contains(&name.as_str())).collect())
}

fn examples() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/skills");
    let mut skills: Vec<_> = fs::read_dir(folder)
        .expect("the examples")
        .map(|entry| entry.expect("an example").path())
        .map(|path| (stem(&path), fs::read_to_string(&path).expect("Python")))
        .collect();
    skills.sort();
    skills
}

fn stem(path: &Path) -> String {
    path.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned()
}

/// The skills of the examples, with fields of every kind.
fn put_examples(library: &Library) -> Vec<String> {
    let skills = examples();
    assert!(skills.len() > 8);
    for (id, code) in &skills {
        let description = code.lines().next().unwrap_or_default().trim_matches('"').to_owned();
        put(
            library,
            id,
            code,
            &[("description", &description), ("tags", r#"["weather","ä"]"#), ("category", "climate")],
        );
    }
    let schema = r#"{"type":"object","properties":{"n":{"type":"integer"}}}"#;
    let fields = [
        ("required_skills", r#"["trend"]"#),
        ("parameters", r#"{"factor":1.5,"big":123456789012345678901234567890}"#),
        ("input_schema", schema),
        ("name", "A skill: 'quoted'"),
        ("description", "Two\nlines, and a # and a \"quote\"."),
        ("examples", r#"[{"inputs":{"n":1},"result":1.5}]"#),
    ];
    // Before what it requires, by id.
    put(library, "a_first", "parameters = {'factor': 2}\nresult = inputs.get('n', 1) * parameters['factor']", &fields);
    skills.into_iter().map(|(id, _)| id).chain(["a_first".to_owned()]).collect()
}

#[test]
fn what_goes_out_comes_back_equal_in_every_format() {
    let library = open();
    let ids = put_examples(&library);
    let own = [
        ("cache", "yes"),
        ("ttl_s", "60"),
        ("timeout_ms", "500"),
        ("instructions", "# Use\n\nOnce."),
        ("author", "me"),
    ];
    let found = [("state", "retired"), ("embedding", "[0.1,-3.5,1e-3]")];
    put(&library, "own", "result = 1", &[&own[..], &found].concat());
    let folder = tempfile::tempdir().expect("a folder");
    for format in FORMATS {
        let path = folder.path().join(format);
        let told = export(&library, &path, &format!(r#"{{"format":"{format}"}}"#));
        let total = i64::try_from(ids.len() + 1).expect("few");
        assert_eq!((count(&told, "exported"), count(&told, "versions")), (total, total));
        assert_eq!(rejected(&told), Vec::<String>::new());
        let other = open();
        let told = import(&other, &path, "");
        assert_eq!(rejected(&told), Vec::<String>::new());
        assert_eq!(told.get("format").and_then(Value::as_str), Some(format));
        assert_eq!(imported(&told).len(), ids.len() + 1);
        for id in ids.iter().map(String::as_str).chain((format != "reference").then_some("own")) {
            let [before, after] = [&library, &other].map(|library| record(library, id, 0));
            assert_eq!(after, before, "{format} {id}");
        }
        let origin = other.get("a_first", 0).expect("there").field("origin");
        assert!(origin.as_str().is_some_and(|origin| origin.starts_with(&format!("import:{format}:"))), "{origin:?}");
        let again = import(&other, &path, "");
        assert_eq!((imported(&again).len(), count(&again, "unchanged")), (0, total), "{}", again.to_text());
    }
    let bundle = folder.path().join("bundle");
    assert!(fs::read_to_string(&bundle).expect("text").contains(r#""embedding":[0.1,-3.5,0.001]"#));
    let text = fs::read_to_string(&bundle).expect("text");
    export(&library, &bundle, r#"{"overwrite":true}"#);
    assert_eq!(fs::read_to_string(&bundle).expect("text"), text, "the same skills are the same bundle");
}

#[test]
fn what_the_reference_has_no_place_for_is_noted() {
    let library = open();
    put(&library, "own", "result = 1", &[("cache", "yes"), ("ttl_s", "60")]);
    let folder = tempfile::tempdir().expect("a folder");
    let told = export(&library, &folder.path().join("out"), r#"{"format":"reference"}"#);
    let notes = told.get("notes").map(|notes| notes.to_text()).unwrap_or_default();
    assert_eq!(notes, r#"[{"source":"own version 1","note":"the format has no place for `cache`, `ttl_s`"}]"#);
}

#[test]
fn a_bundle_holds_all_versions_and_reading_it_twice_changes_nothing() {
    let library = open();
    for n in 1..=4 {
        put(&library, "s", &format!("result = {}", n % 3), &[]);
    }
    put(&library, "gone", "result = 1", &[]);
    library.remove("gone").expect("there");
    put(&library, "gone", "result = 2", &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("all.jsonl");
    let told = export(&library, &path, r#"{"versions":"all"}"#);
    assert_eq!((count(&told, "exported"), count(&told, "versions")), (2, 5));
    let other = open();
    let told = import(&other, &path, "");
    assert_eq!(imported(&told), ["gone 1", "s 1", "s 2", "s 3", "s 4"]);
    for version in 1..=4 {
        assert_eq!(record(&other, "s", version), record(&library, "s", version));
    }
    let told = import(&other, &path, "");
    assert_eq!((imported(&told).len(), count(&told, "unchanged")), (0, 5), "{}", told.to_text());
    put(&other, "s", "result = 'newer'", &[]);
    let told = import(&other, &path, "");
    assert_eq!(imported(&told), ["s 6"], "the bundle's newest is the newest again: {}", told.to_text());
    let error =
        library.export("x", &ExportOptions::parse(r#"{"versions":"all","format":"markdown"}"#).expect("options"));
    assert_eq!(error.expect_err("one version each").details().path.as_deref(), Some("versions"));
}

/// A folder of the reference system's with a mistake of each kind.
fn mixed_folder(root: &Path) -> PathBuf {
    let folder = root.join("skills");
    fs::create_dir(&folder).expect("a folder");
    for (name, text) in [
        ("a-needs.json", r#"{"id":"needs","name":"needs","code":"result = 1","required_skills":["base skill"]}"#),
        ("base.json", r#"{"id":"base","name":"base skill","code":"result = inputs.get('n', 0) + 1"}"#),
        ("cut.json", r#"{"id":"cut","code":"res"#),
        ("evil.json", r#"{"id":"evil","code":"import os\nresult = os.getcwd()"}"#),
        ("js.json", r#"{"id":"js","code":"let result = 1","language":"javascript"}"#),
        ("loop1.json", r#"{"id":"loop1","code":"result = 1","required_skills":["loop2"]}"#),
        ("loop2.json", r#"{"id":"loop2","code":"result = 1","required_skills":["loop1"]}"#),
        ("lost.json", r#"{"id":"lost","code":"result = 1","required_skills":["nowhere"]}"#),
        ("package.json", r#"{"id":"package","code":"result = 1","dependencies":["no_such_package"]}"#),
        ("schema.json", r#"{"id":"schema","code":"result = 1","input_schema":{"type":"integr"}}"#),
        ("syntax.json", r#"{"id":"syntax","code":"result = ("}"#),
    ] {
        fs::write(folder.join(name), text).expect("a file");
    }
    folder
}

#[test]
fn mistakes_are_listed_and_the_rest_is_imported() {
    let folder = tempfile::tempdir().expect("a folder");
    let skills = mixed_folder(folder.path());
    let library = open();
    let tried = import(&library, &skills, r#"{"dry_run":true}"#);
    assert!(library.list(&skillcache::Filter::default()).expect("open").is_empty(), "a dry run stores nothing");
    let told = import(&library, &skills, "");
    assert_eq!(rejected(&tried), rejected(&told), "and says the same");
    assert_eq!(imported(&tried), ["base null", "needs null"]);
    assert_eq!(imported(&told), ["base 1", "needs 1"]);
    let reasons = [
        ("cut.json", "it is not JSON"),
        ("loop1", "skills require each other: loop1 -> loop2 -> loop1"),
        ("loop2", "skills require each other: loop1 -> loop2 -> loop1"),
        ("evil", "line 1, column 8"),
        ("js", "skills in `javascript` are not run here"),
        ("lost", "required skills are not there: nowhere"),
        ("package", "packages are not there: no_such_package"),
        ("schema", "`input_schema` is not a JSON Schema"),
        ("syntax", "line 1"),
    ];
    let said = rejected(&told);
    assert_eq!(said.len(), reasons.len(), "{said:#?}");
    for (said, (who, reason)) in said.iter().zip(reasons) {
        assert!(said.starts_with(&format!("{who}: {reason}")), "{said}");
    }
    let run = library.run("base", Data::parse(r#"{"inputs":{"n":41}}"#).expect("data"), &RunOptions::default());
    let run = run.expect("imported");
    assert_eq!((run.outcome, run.value.as_deref()), (Outcome::Success, Some("42")));
    assert_eq!(library.get("needs", 0).expect("there").field("required_skills").to_text(), r#"["base"]"#);
}

#[test]
fn ids_that_are_there_are_treated_as_asked() {
    let (source, folder) = (open(), tempfile::tempdir().expect("a folder"));
    put(&source, "same", "result = 1", &[("description", "theirs")]);
    put(&source, "other", "result = 'theirs'", &[]);
    put(&source, "new", "result = 1", &[]);
    let path = folder.path().join("bundle");
    export(&source, &path, "");
    let filled = || {
        let library = open();
        put(&library, "same", "result = 1", &[("description", "ours")]);
        put(&library, "other", "result = 'ours'", &[]);
        library
    };
    let description = |library: &Library| library.get("same", 0).expect("there").field("description");
    let library = filled();
    let told = import(&library, &path, "");
    assert_eq!((imported(&told), count(&told, "unchanged")), (vec!["new 1".to_owned(), "other 2".to_owned()], 1));
    assert_eq!(description(&library), Value::from("theirs"));
    let library = filled();
    let told = import(&library, &path, r#"{"on_conflict":"skip"}"#);
    let counts = (count(&told, "unchanged"), count(&told, "skipped"));
    assert_eq!((imported(&told), counts), (vec!["new 1".to_owned()], (1, 1)));
    assert_eq!(description(&library), Value::from("ours"));
    let library = filled();
    let told = import(&library, &path, r#"{"on_conflict":"fail"}"#);
    assert_eq!(imported(&told), ["new 1"]);
    assert_eq!(rejected(&told), ["other: there is a skill `other` already, with other content"]);
    assert_eq!(library.get("other", 0).expect("there").version(), 1);
}

#[test]
fn a_damaged_bundle_gives_what_is_whole() {
    let (library, folder) = (open(), tempfile::tempdir().expect("a folder"));
    for id in ["a", "b", "c"] {
        put(&library, id, &format!("result = '{id}'"), &[]);
    }
    let path = folder.path().join("bundle");
    export(&library, &path, "");
    let text = fs::read_to_string(&path).expect("text");
    fs::write(&path, text.replace("result = 'b'", "result = 'B'")).expect("a file");
    let other = open();
    let told = import(&other, &path, "");
    assert_eq!(imported(&told), ["a 1", "c 1"]);
    let said = rejected(&told);
    assert!(said.len() == 2 && said[0] == "b: it is damaged: its digest does not match", "{said:?}");
    let lines: Vec<_> = text.lines().collect();
    fs::write(&path, lines[..3].join("\n")).expect("a file");
    let told = import(&other, &path, "");
    assert_eq!((imported(&told), count(&told, "unchanged")), (vec!["b 1".to_owned()], 1));
    assert!(rejected(&told)[0].starts_with("end: the bundle ends early: 2 skills"), "{:?}", rejected(&told));
    fs::write(&path, text.replace("\"version\":1,\"written", "\"version\":9,\"written")).expect("a file");
    let error = other.import(path.to_str().expect("UTF-8"), &ImportOptions::default()).expect_err("later");
    assert_eq!(error.code(), Code::Unsupported);
    assert!(error.message().contains("format version 9"), "{error}");
}

#[test]
fn what_is_exported_can_be_chosen() {
    let (library, folder) = (open(), tempfile::tempdir().expect("a folder"));
    // More than a page.
    for n in 0..300 {
        put(&library, &format!("s{n:03}"), "result = 1", &[("category", if n % 2 == 0 { "even" } else { "odd" })]);
    }
    let path = folder.path().join("bundle");
    let exported = |options: &str| count(&export(&library, &path, options), "exported");
    assert_eq!(exported(""), 300);
    let all = fs::read_to_string(&path).expect("text");
    assert_eq!(all.lines().count(), 302);
    assert_eq!(exported(r#"{"overwrite":true,"filter":{"category":"even"}}"#), 150);
    assert_eq!(exported(r#"{"overwrite":true,"filter":{"limit":270,"offset":20}}"#), 270);
    let told = export(&library, &path, r#"{"overwrite":true,"ids":["s007","nobody","a b","s007"]}"#);
    assert_eq!(count(&told, "exported"), 1);
    let said = rejected(&told);
    assert!(said[0].starts_with("nobody: there is no skill") && said[1].starts_with("a b: a skill id"), "{said:?}");
}

#[test]
fn wrong_calls_are_refused_and_change_nothing() {
    let (library, folder) = (open(), tempfile::tempdir().expect("a folder"));
    for (text, path) in [
        (r#"{"on_conflict":"maybe"}"#, "on_conflict"),
        (r#"{"format":"yaml"}"#, "format"),
        (r#"{"dryrun":true}"#, "dryrun"),
        (r#"{"dry_run":1}"#, "dry_run"),
    ] {
        let error = ImportOptions::parse(text).expect_err(text);
        assert_eq!((error.code(), error.details().path.as_deref()), (Code::Invalid, Some(path)), "{error}");
    }
    for (text, path) in [
        (r#"{"versions":2}"#, "versions"),
        (r#"{"ids":"a"}"#, "ids"),
        (r#"{"filter":{"colour":"red"}}"#, "colour"),
        (r#"{"overwrite":"yes"}"#, "overwrite"),
    ] {
        let error = ExportOptions::parse(text).expect_err(text);
        assert_eq!((error.code(), error.details().path.as_deref()), (Code::Invalid, Some(path)), "{error}");
    }
    assert_eq!(ImportOptions::parse("[").expect_err("no JSON").code(), Code::Invalid);
    let path = folder.path().join("x").display().to_string();
    for given in [path.as_str(), "", "/dev/null", folder.path().to_str().expect("UTF-8")] {
        let error = library.import(given, &ImportOptions::default()).expect_err(given);
        assert_eq!(error.code(), Code::Invalid, "{given}: {error}");
    }
    library.export(&path, &ExportOptions::default()).expect("free");
    let error = library.export(&path, &ExportOptions::default()).expect_err("there");
    assert!(error.message().contains("overwrite"), "{error}");
    library.close();
    assert_eq!(library.import(&path, &ImportOptions::default()).expect_err("closed").code(), Code::Closed);
    assert_eq!(library.export(&path, &ExportOptions::default()).expect_err("closed").code(), Code::Closed);
}

#[test]
fn what_stops_an_import_says_what_was_done() {
    let (source, folder) = (open(), tempfile::tempdir().expect("a folder"));
    for id in ["a", "b"] {
        put(&source, id, &format!("result = '{id}'"), &[]);
    }
    let path = folder.path().join("bundle");
    export(&source, &path, "");
    let database = folder.path().join("skills.db");
    let mut config = Config::default();
    config.set("pool.timeout_ms", "100").expect("an option");
    let library = Library::open(database.to_str().expect("UTF-8"), &config).expect("a new one");
    let holder = rusqlite::Connection::open(&database).expect("SQLite");
    holder.execute_batch("BEGIN IMMEDIATE").expect("free");
    let error = library.import(path.to_str().expect("UTF-8"), &ImportOptions::default()).expect_err("locked");
    assert_eq!(error.code(), Code::Busy, "{error}");
    let report = error.details().report.clone().expect("what was done");
    assert_eq!((imported(&report), rejected(&report)), (vec![], vec![]));
    assert!(error.to_json().contains(r#""report":{"format":"bundle","#), "{}", error.to_json());
    holder.execute_batch("ROLLBACK").expect("held");
    drop(library);
    let library = Library::open(database.to_str().expect("UTF-8"), &Config::default()).expect("with more patience");
    assert_eq!(imported(&import(&library, &path, "")), ["a 1", "b 1"], "it may be repeated");
}

#[test]
fn what_can_be_read_of_a_damaged_file_goes_out_and_the_rest_is_named() {
    const PAGE: usize = 4096;
    let folder = tempfile::tempdir().expect("a folder");
    let (file, bundle) = (folder.path().join("skills.db"), folder.path().join("skills.jsonl"));
    {
        let library = Library::open(&file.to_string_lossy(), &Config::default()).expect("it opens");
        for number in 0..300 {
            let parameters = format!(r#"{{"number": {number}, "filler": "{}"}}"#, "x".repeat(1500));
            put(
                &library,
                &format!("skill{number:03}"),
                "result = parameters['number']",
                &[("parameters", &parameters)],
            );
        }
    }
    let mut bytes = fs::read(&file).expect("it is there");
    let pages = bytes.len() / PAGE;
    for page in [pages / 3, pages / 2, pages / 2 + 1, pages * 2 / 3] {
        bytes[page * PAGE..(page + 1) * PAGE].fill(0xa5);
    }
    fs::write(&file, &bytes).expect("damaged");
    let mut config = Config::default();
    config.set("store.access", "read_only").expect("an option");
    let library = Library::open(&file.to_string_lossy(), &config).expect("what is left can be read");
    let report = export(&library, &bundle, "");
    let written = count(&report, "exported");
    assert!((150..300).contains(&written), "{written}");
    assert!(!rejected(&report).is_empty(), "{}", report.to_text());
    let fresh = open();
    let report = import(&fresh, &bundle, "");
    assert_eq!((imported(&report).len(), rejected(&report)), (usize::try_from(written).expect("small"), vec![]));
    for skill in fresh.list(&Filter::default()).expect("a list") {
        let number = skill.id().trim_start_matches("skill").parse::<i64>().expect("a number");
        let parameters = fresh.get(skill.id(), 0).expect("there").field("parameters");
        assert_eq!(parameters.get("number").and_then(Value::as_i64), Some(number), "what is there is whole");
    }
}

#[test]
fn the_file_of_an_open_library_is_neither_read_nor_replaced() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("skills.db");
    let library = Library::open(&file.to_string_lossy(), &Config::default()).expect("it opens");
    put(&library, "a", "result = 1", &[]);
    let linked = folder.path().join("linked");
    fs::create_dir(&linked).expect("a folder");
    fs::hard_link(&file, linked.join("a.json")).expect("another name for it");
    // Those of this file alone: other tests, and other processes, have theirs.
    let inode = fs::metadata(&file).expect("it is there").ino();
    let locks = || {
        let all = fs::read_to_string("/proc/locks").expect("Linux");
        all.lines().filter(|line| line.contains("POSIX") && line.contains(&format!(":{inode} "))).count()
    };
    let before = locks();
    assert!(before > 0, "SQLite says with a lock that the file is in use");
    let mut beside = file.clone().into_os_string();
    beside.push("-wal");
    for path in [file.clone(), PathBuf::from(beside)] {
        let error = library.import(path.to_str().expect("UTF-8"), &ImportOptions::default()).expect_err("no bundle");
        assert!(error.message().contains("this process has open"), "{error}");
        let options = ExportOptions::parse(r#"{"overwrite": true}"#).expect("options");
        let error = library.export(path.to_str().expect("UTF-8"), &options).expect_err("it would be lost");
        assert!(error.code() == Code::Invalid && error.message().contains("this process has open"), "{error}");
    }
    let report = import(&library, &linked, r#"{"format": "reference"}"#);
    assert!(rejected(&report)[0].contains("this process has open"), "{}", report.to_text());
    assert_eq!(locks(), before, "SQLite still has its locks");
    assert_eq!(put(&library, "a", "result = 2", &[]), 2);
    drop(library);
    let library = Library::open(&file.to_string_lossy(), &Config::default()).expect("it opens again");
    assert_eq!(library.get("a", 0).expect("there").version(), 2);
}

#[test]
fn what_was_set_aside_here_stays_so_whatever_a_file_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("bundle");
    let library = open();
    put(&library, "a", "result = 1", &[]);
    export(&library, &path, "");
    library.set_state("a", "quarantined").expect("there");
    assert_eq!(count(&import(&library, &path, ""), "unchanged"), 1);
    assert_eq!(library.get("a", 0).expect("there").field("state"), Value::from("quarantined"));
    put(&library, "a", "result = 2", &[("state", "quarantined")]);
    export(&library, &folder.path().join("all"), r#"{"versions": "all"}"#);
    let fresh = open();
    assert_eq!(imported(&import(&fresh, &folder.path().join("all"), "")), ["a 1", "a 2"]);
    assert_eq!(
        fresh.get("a", 0).expect("there").field("state"),
        Value::from("quarantined"),
        "all versions of a new one"
    );
    library.set_state("a", "retired").expect("there");
    export(&library, &folder.path().join("second"), "");
    let fresh = open();
    import(&fresh, &folder.path().join("second"), "");
    assert_eq!(
        fresh.get("a", 0).expect("there").field("state"),
        Value::from("retired"),
        "of a new one the file's counts"
    );
}
