//! Lines for whoever listens, none for anybody else, and the ids by which they say which run they are about.

use std::collections::HashSet;
use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use skillcache::json::Value;
use skillcache::{Data, Library, Outcome, RunOptions, RunResult};

use crate::child;
use crate::libraries::{PATIENCE, at, config, count, open, open_at, put, run, stats, text, until};
use crate::told::{all, is_time, names};

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE_ID: &str = "0af7651916cd43dd8448eb211c80319c";

/// A line, with the members that every line has, and no others.
#[derive(Debug, Clone, PartialEq)]
struct Line {
    level: String,
    message: String,
    fields: Value,
}

impl Line {
    fn read(line: &str) -> Self {
        let line = Value::parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(names(&line), ["time", "level", "target", "message", "fields"]);
        is_time(text(&line, "time"));
        assert_eq!(text(&line, "target"), "skillcache");
        let [level, message] = ["level", "message"].map(|name| text(&line, name).to_owned());
        Line { level, message, fields: at(&line, "fields").clone() }
    }

    fn says(&self) -> (&str, &str) {
        (&self.level, &self.message)
    }
}

/// A library whose lines are heard.
fn open_heard(path: &str, level: &str, options: &[(&str, &str)]) -> (Library, Arc<Mutex<Vec<Line>>>) {
    let lines = Arc::<Mutex<Vec<Line>>>::default();
    let hear = {
        let lines = lines.clone();
        move |line: &str| lines.lock().unwrap_or_else(PoisonError::into_inner).push(Line::read(line))
    };
    let config = config(&[&[("monitor.log_level", level)], options].concat());
    let library = Library::open_with(path, &config, None, Some(Box::new(hear)));
    (library.unwrap_or_else(|error| panic!("{error}")), lines)
}

/// What was heard until the library was closed.
fn heard(library: Library, lines: &Mutex<Vec<Line>>) -> Vec<Line> {
    library.close();
    lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Something of every level but the worst.
fn live(library: &Library) {
    let chatter = "import sys\nprint('out')\nprint('err', file=sys.stderr)\n";
    put(library, "s", &format!("{chatter}result = 1"), &[("cache", "yes")]);
    (0..2).for_each(|_| drop(run(library, "s", "", "")));
    put(library, "fails", &format!("{chatter}raise ValueError('no')"), &[]);
    run(library, "fails", "", "");
}

/// A file of which a table is missing: opening it is of the worst level.
fn damaged(folder: &tempfile::TempDir) -> String {
    let path = folder.path().join("skills.db");
    let path = path.to_str().expect("UTF-8");
    open_at(path, &[]).close();
    let connection = rusqlite::Connection::open(path).expect("it is SQLite's");
    connection.execute_batch("DROP TABLE outcomes").expect("dropped");
    path.to_owned()
}

const READ_ONLY: (&str, &str) = ("store.access", "read_only");

#[test]
fn a_callback_hears_what_its_level_says_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = damaged(&folder);
    let everything = |level: &str| {
        let (library, lines) = open_heard(":memory:", level, &[]);
        live(&library);
        let recorded = count(&stats(&library), "logs.recorded");
        let mut all = heard(library, &lines);
        // One more, when it is closed.
        assert!((recorded..=recorded + 1).contains(&(all.len() as i64)), "{recorded} of {all:#?}");
        let (library, lines) = open_heard(&path, level, &[READ_ONLY]);
        all.extend(heard(library, &lines));
        all
    };
    let all = everything("trace");
    let level = all.iter().find(|line| line.message.starts_with("runs are confined")).expect("it is told");
    let damage = all.iter().find(|line| line.level == "error").expect("it is told");
    assert_eq!(text(&damage.fields, "kind"), "store_damaged");
    let expected = [
        ("info", "the library is open"),
        level.says(),
        ("info", "skill `s` has version 1"),
        ("debug", "skill `s` version 1 ended as success"),
        ("trace", "skill `s` version 1 answered from memory as success"),
        ("info", "skill `fails` has version 1"),
        ("warn", "skill `fails` version 1 ended as error: no"),
        ("debug", "skill `fails` version 1 ended as error"),
        ("info", "the library is closed"),
        damage.says(),
        ("info", "the library is open"),
        ("info", "the library is closed"),
    ];
    assert_eq!(all.iter().map(Line::says).collect::<Vec<_>>(), expected);
    for (rank, level) in LEVELS.into_iter().enumerate() {
        let is_heard = |(level, _): &(&str, &str)| LEVELS.iter().position(|name| name == level) <= Some(rank);
        let expected: Vec<_> = expected.into_iter().filter(is_heard).collect();
        let heard = everything(level);
        assert_eq!(heard.iter().map(Line::says).collect::<Vec<_>>(), expected, "{level}");
    }
}

#[test]
fn a_line_about_an_event_has_the_event_and_one_about_a_run_what_is_known_of_it() {
    let (library, lines) = open_heard(":memory:", "trace", &[]);
    live(&library);
    let events = all(&library);
    let lines = heard(library, &lines);
    let of_events: Vec<_> = lines.iter().filter(|line| line.fields.get("kind").is_some()).collect();
    assert_eq!(of_events.len(), events.len());
    for (line, event) in of_events.into_iter().zip(&events) {
        let level = if event.severity == "warning" { "warn" } else { &event.severity };
        assert_eq!(line.says(), (level, event.message.as_str()));
        assert_eq!(names(&line.fields), ["kind", "fields"]);
        assert_eq!((text(&line.fields, "kind"), at(&line.fields, "fields")), (event.kind.as_str(), &event.fields));
    }
    let of_runs: Vec<_> = lines.iter().filter(|line| line.fields.get("duration_us").is_some()).collect();
    for line in &of_runs {
        let members = ["skill", "version", "outcome", "trace", "trace_id", "cached", "duration_us"];
        assert_eq!(names(&line.fields), members);
    }
    let cached = of_runs.iter().map(|line| at(&line.fields, "cached").as_bool());
    assert_eq!(cached.collect::<Vec<_>>(), [Some(false), Some(true), Some(false)]);
}

/// Where what the library may have said begins and ends.
const MARKS: [&str; 2] = ["<from here on", "up to here>"];

fn mark(mark: &str) {
    io::stdout().write_all(mark.as_bytes()).and_then(|()| io::stdout().flush()).expect("somebody reads");
    io::stderr().write_all(mark.as_bytes()).expect("somebody reads");
}

#[test]
fn nothing_is_ever_printed() {
    if child::part().is_none() {
        let output = child::of(module_path!(), "nothing_is_ever_printed", "silent").output().expect("it starts");
        child::succeeds(&output);
        for stream in [output.stdout, output.stderr] {
            let said = String::from_utf8(stream).expect("UTF-8");
            let between = said.split_once(MARKS[0]).and_then(|(_, rest)| rest.split_once(MARKS[1]));
            assert_eq!(between.map(|(between, _)| between), Some(""), "{said}");
        }
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = damaged(&folder);
    mark(MARKS[0]);
    for level in LEVELS {
        let (library, lines) = open_heard(":memory:", level, &[]);
        live(&library);
        heard(library, &lines);
        let (library, lines) = open_heard(&path, level, &[READ_ONLY]);
        heard(library, &lines);
    }
    // With nobody who listens.
    let library = open(&[("monitor.log_level", "trace")]);
    live(&library);
    library.health().expect("it is open");
    drop(library);
    assert!(Library::open(&path, &config(&[])).is_err(), "it is damaged");
    mark(MARKS[1]);
}

/// A run that fails, with what was told of it: its id in its event and in its line.
fn ids(options: &str) -> [String; 4] {
    let (library, lines) = open_heard(":memory:", "trace", &[("monitor.alert_interval_s", "0")]);
    put(&library, "fails", "raise ValueError(1)", &[]);
    let result = run(&library, "fails", "", options);
    let event = all(&library).pop().expect("it is told");
    let lines = heard(library, &lines);
    let [warned, ended] = ["warn", "debug"].map(|level| {
        let line = lines.iter().rfind(|line| line.level == level).unwrap_or_else(|| panic!("{lines:#?}"));
        line.fields.get("fields").unwrap_or(&line.fields).clone()
    });
    let trace = Value::from(result.trace.as_deref());
    assert!([&event.fields, &warned, &ended].iter().all(|fields| at(fields, "trace") == &trace), "{lines:#?}");
    let in_json = result.to_value();
    assert_eq!(text(&in_json, "trace_id"), result.trace_id());
    [
        result.trace_id(),
        text(&event.fields, "trace_id").to_owned(),
        text(&warned, "trace_id").to_owned(),
        text(&ended, "trace_id").to_owned(),
    ]
}

#[track_caller]
fn is_id(id: &str) {
    let is_hexadecimal = id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    assert!(id.len() == 32 && is_hexadecimal && id.bytes().any(|byte| byte != b'0'), "{id}");
}

#[test]
fn result_event_and_line_have_the_same_id() {
    assert_eq!(ids(&format!(r#"{{"trace":"{TRACEPARENT}"}}"#)), [TRACE_ID; 4], "the caller's");
    for options in
        ["", r#"{"trace":"order-17"}"#, r#"{"trace":"00-00000000000000000000000000000000-b7ad6b7169203331-01"}"#]
    {
        let ids = ids(options);
        is_id(&ids[0]);
        assert!(ids.iter().all(|id| *id == ids[0]), "{options}: {ids:?}");
    }
}

/// Every way to run something.
fn run_in_many_ways(library: &Library) -> Vec<RunResult> {
    let options = RunOptions::default();
    let mut results: Vec<_> = (0..200).map(|_| run(library, "s", "", "")).collect();
    results.extend((0..200).map(|_| library.run_text("s", "", &options).expect("it is there")));
    results.extend((0..2).map(|_| run(library, "s", "", r#"{"cache":"no"}"#)));
    results.push(run(library, "fails", "", ""));
    let tasks: Vec<_> =
        (0..20).map(|_| library.submit("s", Data::default(), &options).expect("there is room")).collect();
    results.extend(tasks.iter().map(|task| task.wait(Some(PATIENCE)).expect("it ends")));
    results.extend(library.run_many("s", vec![Data::default(); 20], &options, |_, _| true).expect("it is there"));
    results
}

#[test]
fn no_two_runs_have_the_same_id() {
    let libraries = [open(&[]), open(&[])];
    libraries.iter().for_each(live);
    let ids: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> =
            libraries.iter().cycle().take(8).map(|library| scope.spawn(|| run_in_many_ways(library))).collect();
        let results = threads.into_iter().flat_map(|thread| thread.join().expect("no panic"));
        results.map(|result| result.trace_id()).collect()
    });
    ids.iter().for_each(|id| is_id(id));
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
}

#[test]
fn a_run_that_never_began_has_an_id_of_its_own_too() {
    let library = open(&[("task.workers", "1")]);
    put(&library, "sleeps", "import time\ntime.sleep(3600)", &[("cache", "no")]);
    let submit = |options: &str| {
        library.submit("sleeps", Data::default(), &RunOptions::parse(options).expect("options")).expect("there is room")
    };
    let running = submit("");
    until("it has a worker", || count(&stats(&library), "tasks.running") == 1);
    let waiting = [submit(""), submit(""), submit(&format!(r#"{{"trace":"{TRACEPARENT}"}}"#))];
    let mut ids = waiting.map(|task| {
        task.cancel();
        let result = task.wait(Some(PATIENCE)).expect("it ends");
        assert_eq!(result.outcome, Outcome::Cancelled);
        result.trace_id()
    });
    running.cancel();
    ids.iter().for_each(|id| is_id(id));
    assert_eq!(ids[2], TRACE_ID);
    ids.sort_unstable();
    assert!(ids[0] != ids[1] && ids[1] != ids[2], "{ids:?}");
}

#[test]
fn a_callback_that_does_not_come_back_is_in_nobodys_way() {
    let (sender, lines): (_, Receiver<Line>) = mpsc::channel();
    let (go, may_go) = mpsc::channel::<()>();
    let ends = Mutex::new((sender, may_go));
    let dawdle = move |line: &str| {
        let ends = ends.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = ends.0.send(Line::read(line));
        let _ = ends.1.recv();
    };
    let config = config(&[("monitor.log_level", "trace"), ("monitor.event_capacity", "4")]);
    let library = Library::open_with(":memory:", &config, None, Some(Box::new(dawdle))).expect("a library");
    thread::scope(|scope| {
        let (done, is_done) = mpsc::channel();
        let library = &library;
        scope.spawn(move || {
            put(library, "s", "result = 1", &[("cache", "yes")]);
            for _ in 0..3 {
                assert_eq!(run(library, "s", "", r#"{"cache":"refresh"}"#).outcome, Outcome::Success);
            }
            (0..500).for_each(|_| assert!(run(library, "s", "", "").is_cached));
            let _ = done.send(());
        });
        let first = lines.recv_timeout(PATIENCE).map(|line| line.message);
        let done = is_done.recv_timeout(PATIENCE);
        let counted = ["recorded", "dropped", "waiting"].map(|name| count(&stats(library), &format!("logs.{name}")));
        // Whatever was found, nobody is to wait for this.
        drop(go);
        assert_eq!(first.as_deref(), Ok("the library is open"));
        done.expect("the callback has not come back, and all was done");
        // Opening, level, put, three runs and the hits: one line is with the callback, and four have room.
        assert_eq!(counted, [506, 501, 4]);
    });
    // Closing has something to say, too.
    until("there is room again", || count(&stats(&library), "logs.waiting") == 0);
    library.close();
    let rest: Vec<_> = lines.iter().map(|line| line.message).collect();
    let cached = "skill `s` version 1 answered from memory as success";
    assert_eq!(rest.len(), 5, "{rest:?}");
    assert!(rest[..4].iter().all(|message| message == cached) && rest[4] == "the library is closed", "{rest:?}");
    assert_eq!(lines.recv_timeout(Duration::ZERO), Err(mpsc::RecvTimeoutError::Disconnected));
}
