//! Never the same thing twice: which runs are the same, what is kept and for how long, and who waits for whom.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use skillcache::json::Value;
use skillcache::{Code, Config, Data, Error, Library, Outcome, RunOptions, RunResult, Skill};

/// How a test gives its data to the library: what is known by one must be known by the other.
#[derive(Debug, Clone, Copy)]
enum Way {
    Text,
    Values,
}

const WAYS: [Way; 2] = [Way::Text, Way::Values];

/// Sleeps for as long as it is told, and is kept all the same.
const SLEEP: &str = "import time\nprint('begun')\ntime.sleep(inputs.get('s', 2))\nresult = inputs.get('v', 'awake')";

fn open(options: &[(&str, &str)]) -> Library {
    let mut config = Config::default();
    for (name, value) in options {
        config.set(name, value).unwrap_or_else(|error| panic!("{error}"));
    }
    Library::open(":memory:", &config).unwrap_or_else(|error| panic!("{error}"))
}

fn put(library: &Library, id: &str, code: &str, fields: &[(&str, &str)]) -> u32 {
    let mut skill = Skill::new(id, code);
    for (name, value) in fields {
        skill.set(name, value).unwrap_or_else(|error| panic!("{error}"));
    }
    library.put(&skill).unwrap_or_else(|error| panic!("{code}: {error}"))
}

fn open_sleeper(options: &[(&str, &str)]) -> Library {
    let library = open(options);
    put(&library, "s", SLEEP, &[("cache", "yes")]);
    library
}

fn options(text: &str) -> RunOptions {
    RunOptions::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

fn data(text: &str) -> Data {
    Data::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn try_run(library: &Library, way: Way, given: &str, asked: &str) -> Result<RunResult, Error> {
    match way {
        Way::Text => library.run_text("s", given, &options(asked)),
        Way::Values => library.run("s", data(given), &options(asked)),
    }
}

fn run(library: &Library, way: Way, given: &str, asked: &str) -> RunResult {
    try_run(library, way, given, asked).unwrap_or_else(|error| panic!("{given} {asked}: {error}"))
}

fn is_cached(library: &Library, way: Way, given: &str, asked: &str) -> bool {
    let result = run(library, way, given, asked);
    assert_eq!(result.outcome, Outcome::Success, "{result:?}");
    result.is_cached
}

/// A number of the statistics.
fn number(library: &Library, path: &[&str]) -> i64 {
    let stats = library.stats().unwrap_or_else(|error| panic!("{error}"));
    let value = path.iter().try_fold(&stats, |value, name| value.get(name));
    value.and_then(|value| value.as_i64()).unwrap_or_else(|| panic!("no number {path:?}"))
}

fn executed(library: &Library) -> i64 {
    number(library, &["runs", "executed"])
}

fn of_results<const N: usize>(library: &Library, names: [&str; N]) -> [i64; N] {
    names.map(|name| number(library, &["caches", "execution", name]))
}

fn until(what: &str, holds: impl Fn() -> bool) {
    let given_up = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < given_up, "{what} did not come");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Comes back when so many calls have looked for a result in vain, and had time to find each other.
fn until_misses(library: &Library, count: i64) {
    until(&format!("{count} misses"), || of_results(library, ["misses"])[0] >= count);
    thread::sleep(Duration::from_millis(200));
}

/// Holds runs up until it is opened. They look for a file in the folder of packages, which is all of the host that they can see.
struct Gate(tempfile::TempDir);

impl Gate {
    fn new() -> Self {
        Gate(tempfile::tempdir().expect("a folder"))
    }

    fn open(&self) {
        std::fs::write(self.0.path().join("open"), "").expect("written");
    }

    fn close(&self) {
        std::fs::remove_file(self.0.path().join("open")).expect("it was open");
    }

    /// Code that waits at the gate, as long as a condition holds, and then goes on.
    fn code(&self, condition: &str, then: &str) -> String {
        let file = self.0.path().join("open");
        let wait = format!("while {condition} and not os.path.exists('{}'): time.sleep(0.01)", file.display());
        format!("import os, resource, time\nprint('begun')\n{wait}\n{then}")
    }

    /// A library whose runs can see the gate.
    fn library(&self, options: &[(&str, &str)]) -> Library {
        let folder = self.0.path().to_str().expect("UTF-8");
        let own = [("policy.mode", "off"), ("python.site_packages", folder), ("sandbox.timeout_ms", "120000")];
        open(&[&own, options].concat())
    }

    /// The same, with a skill that waits unless its inputs say otherwise, and is kept all the same.
    fn library_with_skill(&self) -> Library {
        let library = self.library(&[]);
        put(&library, "s", &self.skill(), &[("cache", "yes")]);
        library
    }

    fn skill(&self) -> String {
        self.code("inputs.get('waits', True)", "result = inputs.get('v', 'awake')")
    }
}

#[test]
fn equal_data_are_one_run_however_they_are_spelled() {
    let library = open(&[]);
    put(&library, "s", "result = [inputs, context]", &[]);
    let spellings = [
        r#"{"inputs":{"a":1.5,"é":[1,"x\n",{}]},"context":{"c":true}}"#,
        " {\"inputs\" :\t{ \"a\":1.5 ,\r\n\"é\": [1, \"x\\n\", { }] },\"context\":{\"c\" : true}}\n",
        r#"{"inputs":{"a":1.50,"é":[1,"x\n",{}]},"context":{"c":true}}"#,
        r#"{"inputs":{"a":15e-1,"é":[1,"x\n",{}]},"context":{"c":true}}"#,
        r#"{"inputs":{"a":0.15E+1,"é":[1,"x\n",{}]},"context":{"c":true}}"#,
        r#"{"inputs":{"\u0061":1.5,"\u00e9":[1,"\u0078\u000a",{}]},"context":{"\u0063":true}}"#,
        r#"{"\u0069nputs":{"a":1.5,"é":[1,"x\n",{}]},"context":{"c":true}}"#,
        r#"{"context":{"c":true},"inputs":{"a":1.5,"é":[1,"x\n",{}]}}"#,
    ];
    for first in WAYS {
        library.clear("execution").expect("open");
        let kept = run(&library, first, spellings[0], "");
        assert!(!kept.is_cached);
        // Each twice: the second time, its text is known.
        for spelling in spellings.iter().chain(&spellings) {
            for way in WAYS {
                let result = run(&library, way, spelling, "");
                assert!(result.is_cached, "{first:?} {way:?} {spelling}");
                assert_eq!((&result.value, &result.stdout), (&kept.value, &kept.stdout));
            }
        }
        assert_eq!(of_results(&library, ["size"]), [1]);
    }
    assert_eq!(of_results(&library, ["hits", "misses", "coalesced"]), [2 * 2 * 2 * spellings.len() as i64, 2, 0]);
    assert_eq!(executed(&library), 2);
}

#[test]
fn surrogate_pairs_and_long_integers_are_read_alike() {
    let library = open(&[]);
    put(&library, "s", "result = inputs['v']", &[]);
    let digits = "9".repeat(400);
    for (one, other) in [
        (r#""😀""#, r#""\ud83d\ude00""#.to_owned()),
        (r#""a/b""#, r#""a\/b""#.to_owned()),
        (r#""\u0000""#, r#""\u0000""#.to_owned()),
        ("1e22", "10000000000000000000000.0".to_owned()),
        ("0.1", "0.1000000000000000055511151231257827".to_owned()),
        (digits.as_str(), format!(" {digits} ")),
    ] {
        let [one, other] = [one, other.as_str()].map(|value| format!("{{\"inputs\":{{\"v\":{value}}}}}"));
        assert!(!is_cached(&library, Way::Text, &one, ""), "{one}");
        assert!(is_cached(&library, Way::Text, &other, "") && is_cached(&library, Way::Values, &other, ""), "{other}");
    }
}

#[test]
fn whatever_the_skill_could_tell_apart_is_another_run() {
    let library = open(&[]);
    put(&library, "s", "result = repr([inputs, context])", &[]);
    let data = [
        "",
        r#"{"inputs":{"v":1}}"#,
        r#"{"inputs":{"v":1.0}}"#,
        r#"{"inputs":{"v":"1"}}"#,
        r#"{"inputs":{"v":true}}"#,
        r#"{"inputs":{"v":[1]}}"#,
        r#"{"inputs":{"v":null}}"#,
        r#"{"inputs":{"v":0.0}}"#,
        r#"{"inputs":{"v":-0.0}}"#,
        r#"{"inputs":{"v":9007199254740992}}"#,
        r#"{"inputs":{"v":9007199254740993}}"#,
        r#"{"inputs":{"v":""}}"#,
        r#"{"inputs":{"v":" "}}"#,
        r#"{"inputs":{"v":"é"}}"#,
        r#"{"inputs":{"v":"e\u0301"}}"#,
        r#"{"inputs":{"a":1,"b":2}}"#,
        r#"{"inputs":{"b":2,"a":1}}"#,
        r#"{"inputs":{"v":[1,2]}}"#,
        r#"{"inputs":{"v":[2,1]}}"#,
        r#"{"context":{"v":1}}"#,
        r#"{"inputs":{"v":1},"context":{"v":1}}"#,
    ];
    let mut values = Vec::new();
    for (index, given) in data.iter().enumerate() {
        let (way, other) = (WAYS[index % 2], WAYS[(index + 1) % 2]);
        let first = run(&library, way, given, "");
        assert!(!first.is_cached, "{given}");
        let second = run(&library, other, given, "");
        assert!(second.is_cached && second.value == first.value, "{given}");
        values.push(first.value.expect("an answer"));
    }
    values.sort_unstable();
    values.dedup();
    assert_eq!(values.len(), data.len(), "Python tells them apart, too");
}

#[test]
fn what_is_not_passed_is_an_empty_object_unless_the_source_has_its_own() {
    let library = open(&[]);
    put(&library, "s", "result = [inputs, context]", &[]);
    assert!(!is_cached(&library, Way::Text, "", ""));
    for same in ["{}", " ", r#"{"inputs":{}}"#, r#"{"context":{},"inputs":{}}"#] {
        assert!(WAYS.iter().all(|way| is_cached(&library, *way, same, "")), "{same}");
    }
    put(&library, "s", "inputs = {'a': 1}\nresult = [inputs, context]", &[]);
    let kept = run(&library, Way::Text, "", "");
    assert_eq!((kept.value.as_deref(), kept.is_cached), (Some(r#"[{"a":1},{}]"#), false));
    assert!(WAYS.iter().all(|way| is_cached(&library, *way, r#"{"context":{}}"#, "")));
    let empty = run(&library, Way::Values, r#"{"inputs":{}}"#, "");
    assert_eq!((empty.value.as_deref(), empty.is_cached), (Some("[{},{}]"), false));
}

#[test]
fn a_skill_may_declare_that_the_order_of_members_is_nothing() {
    let library = open(&[]);
    put(&library, "s", "result = list(inputs) + list(inputs['b'])", &[("key_order", "ignore")]);
    let [one, other] = [r#"{"inputs":{"b":{"y":1,"x":2},"a":0}}"#, r#"{"inputs":{"a":0,"b":{"x":2,"y":1}}}"#];
    let first = run(&library, Way::Text, one, "");
    assert_eq!((first.value.as_deref(), first.is_cached), (Some(r#"["a","b","x","y"]"#), false));
    assert!(WAYS.iter().all(|way| is_cached(&library, *way, other, "") && is_cached(&library, *way, one, "")));
    // The same source without that declaration sees the order, and is not answered by what was kept with it.
    put(&library, "s", "result = list(inputs) + list(inputs['b'])", &[("key_order", "keep")]);
    let kept_order = run(&library, Way::Text, one, "");
    assert_eq!((kept_order.value.as_deref(), kept_order.is_cached), (Some(r#"["b","a","y","x"]"#), false));
}

#[test]
fn wrong_data_are_refused_alike_cached_or_not() {
    let library = open(&[]);
    put(&library, "s", "result = 1", &[]);
    assert!(!is_cached(&library, Way::Text, r#"{"inputs":{"a":1}}"#, ""));
    for wrong in [
        r#"{"inputs":{"a":1}"#,
        r#"{"inputs":{"a":1,"a":1}}"#,
        r#"{"inputs":{"a":1},"inputs":{"a":1}}"#,
        r#"{"inputs":{"a":1},"more":1}"#,
        r#"{"inputs":{"a":01}}"#,
        r#"{"inputs":{"a":1e999}}"#,
        r#"{"inputs":{"a":"\ud800"}}"#,
        r#"{"inputs":null}"#,
        r#"[]"#,
    ] {
        let of_values = Data::parse(wrong).expect_err(wrong);
        for mode in ["", r#"{"cache":"no"}"#, r#"{"cache":"refresh"}"#] {
            let of_text = library.run_text("s", wrong, &options(mode)).expect_err(wrong);
            assert_eq!(of_text.code(), Code::Invalid);
            assert_eq!((of_text.message(), &of_text.details().path), (of_values.message(), &of_values.details().path));
        }
    }
    assert_eq!(of_results(&library, ["size"]), [1]);
}

#[test]
fn what_is_wrong_with_the_data_is_said_before_what_is_wrong_with_the_skill() {
    let library = open(&[]);
    for is_there in [false, true] {
        if is_there {
            put(&library, "s", "result = 1", &[("is_active", "false")]);
            assert_eq!(run(&library, Way::Text, "{}", "").outcome, Outcome::Rejected);
        } else {
            assert_eq!(library.run_text("s", "{}", &RunOptions::default()).expect_err("none").code(), Code::NotFound);
        }
        for wrong in ["not json", r#"{"inputs":[]}"#] {
            let error = library.run_text("s", wrong, &RunOptions::default()).expect_err("no data");
            assert_eq!(error.code(), Code::Invalid, "{error}");
        }
    }
}

#[test]
fn each_mode_reads_and_keeps_what_it_says() {
    for way in WAYS {
        let library = open(&[]);
        // Another answer whenever it runs.
        put(&library, "s", "import time\nresult = time.time_ns()", &[]);
        let ask = |mode: &str| {
            let result = run(&library, way, "", mode);
            (result.value.expect("an answer"), result.is_cached)
        };
        let numbers = || of_results(&library, ["hits", "misses", "size"]);
        for mode in ["", r#"{"cache":"auto"}"#, r#"{"cache":"no"}"#] {
            assert!(!ask(mode).1 && !ask(mode).1, "{mode}");
        }
        assert_eq!(numbers(), [0, 0, 0], "neither looked up nor kept");
        let first = ask(r#"{"cache":"yes"}"#);
        assert_eq!((first.1, numbers()), (false, [0, 1, 1]));
        assert_eq!(ask(r#"{"cache":"yes"}"#), (first.0.clone(), true));
        assert_eq!(ask(r#"{"cache":"required"}"#), (first.0.clone(), true));
        assert_eq!(numbers(), [2, 1, 1]);
        assert!(!ask(r#"{"cache":"no"}"#).1);
        assert_eq!(ask(r#"{"cache":"yes"}"#).0, first.0, "`no` has kept nothing");
        let fresh = ask(r#"{"cache":"refresh"}"#);
        assert!(!fresh.1 && fresh.0 != first.0);
        assert_eq!(numbers(), [3, 1, 1], "`refresh` does not look");
        assert_eq!(ask(r#"{"cache":"yes"}"#), (fresh.0, true));
    }
    let library = open(&[]);
    put(&library, "s", "result = 1", &[("cache", "no")]);
    assert!(!is_cached(&library, Way::Text, "", "") && !is_cached(&library, Way::Text, "", ""));
    for (mode, was_kept) in [("auto", false), ("auto", true), ("required", true)] {
        let asked = format!(r#"{{"cache":"{mode}"}}"#);
        assert_eq!(is_cached(&library, Way::Text, "", &asked), was_kept, "the call decides before the skill: {mode}");
    }
}

#[test]
fn only_a_success_is_kept() {
    let library = open(&[("sandbox.timeout_ms", "30000")]);
    for (code, outcome, asked) in [
        ("raise ValueError('no')", Outcome::Error, ""),
        ("x = 1", Outcome::NoResult, ""),
        ("result = {1}", Outcome::InvalidOutput, ""),
        ("while True: pass", Outcome::Timeout, r#","timeout_ms":100"#),
    ] {
        put(&library, "s", code, &[]);
        let asked = format!(r#"{{"cache":"required"{asked}}}"#);
        for way in WAYS {
            let result = run(&library, way, "", &asked);
            assert_eq!((result.outcome, result.is_cached), (outcome, false), "{code}");
        }
    }
    assert_eq!(of_results(&library, ["size", "hits", "misses"]), [0, 0, 8]);
}

#[test]
fn required_says_why_a_result_cannot_be_kept() {
    let nothing_is_kept = [
        (open(&[]), r#"{"cache":"required","ttl_s":0}"#),
        (open(&[("cache.execution.enabled", "false")]), r#"{"cache":"required"}"#),
        (open(&[("cache.execution.max_entries", "0")]), r#"{"cache":"required"}"#),
        (open(&[("cache.execution.ttl_s", "0")]), r#"{"cache":"required"}"#),
    ];
    for (library, asked) in nothing_is_kept {
        put(&library, "s", "result = 1", &[]);
        for way in WAYS {
            let error = try_run(&library, way, "", asked).expect_err("it is required");
            assert_eq!(error.code(), Code::CacheOverflow, "{error}");
            assert!(error.message().contains("cache = required"), "{error}");
            assert!(!is_cached(&library, way, "", &asked.replace("required", "yes")));
        }
        assert_eq!(executed(&library), 2, "what cannot be kept is not begun");
        assert_eq!(of_results(&library, ["size", "refusals"]), [0, 0]);
    }
    // A time to live of its own is enough.
    let library = open(&[("cache.execution.ttl_s", "0")]);
    put(&library, "s", "result = 1", &[]);
    assert!(!is_cached(&library, Way::Text, "", r#"{"cache":"required","ttl_s":60}"#));
    assert!(is_cached(&library, Way::Text, "", r#"{"cache":"required","ttl_s":60}"#));
}

#[test]
fn an_answer_above_an_eighth_of_the_memory_is_not_kept() {
    let library = open(&[("cache.execution.max_mb", "1")]);
    put(&library, "s", "result = 'x' * inputs['n']", &[]);
    let (large, small) = (r#"{"inputs":{"n":300000}}"#, r#"{"inputs":{"n":100000}}"#);
    for way in WAYS {
        let error = try_run(&library, way, large, r#"{"cache":"required"}"#).expect_err("too large");
        assert_eq!(error.code(), Code::CacheOverflow);
        assert!(error.message().contains("cache.execution.max_mb"), "{error}");
        assert!(error.message().contains("it takes 300") && error.message().contains("114688 at most"), "{error}");
    }
    assert_eq!(of_results(&library, ["size", "refusals"]), [0, 2]);
    for way in WAYS {
        let result = run(&library, way, large, r#"{"cache":"yes"}"#);
        assert_eq!((result.is_cached, result.value.map(|value| value.len())), (false, Some(300_002)));
    }
    assert_eq!(of_results(&library, ["size", "refusals", "evictions"]), [0, 4, 0]);
    assert!(!is_cached(&library, Way::Text, small, r#"{"cache":"required"}"#));
    assert!(is_cached(&library, Way::Values, small, r#"{"cache":"required"}"#));
    // What was kept before goes: it is older.
    put(&library, "s", "import time\nprint('x' * 50000)\nresult = 'x' * inputs['n']", &[("max_output_kb", "100")]);
    assert!(!is_cached(&library, Way::Text, small, r#"{"cache":"yes"}"#));
    assert!(!is_cached(&library, Way::Text, small, r#"{"cache":"yes"}"#), "what it printed counts");
    assert_eq!(of_results(&library, ["size", "refusals"]), [1, 6]);
}

#[test]
fn the_memory_of_results_has_a_bound() {
    let library = open(&[("cache.execution.max_mb", "1")]);
    put(&library, "s", "result = 'x' * 100000", &[]);
    for index in 0..12 {
        assert!(!is_cached(&library, Way::Text, &format!(r#"{{"inputs":{{"i":{index}}}}}"#), ""));
        let [bytes, max_bytes] = of_results(&library, ["bytes", "max_bytes"]);
        assert!(bytes <= max_bytes && max_bytes == 1 << 20, "{bytes}");
    }
    let [size, evictions] = of_results(&library, ["size", "evictions"]);
    assert_eq!((size, evictions), (9, 3), "nine of them fit into seven eighths");
    assert!(is_cached(&library, Way::Text, r#"{"inputs":{"i":11}}"#, ""));
    assert!(!is_cached(&library, Way::Text, r#"{"inputs":{"i":0}}"#, ""), "the oldest has left");
}

/// More than a short time to live: the kernel turns its coarse clock at ticks, which a virtual machine may have to wait for.
const A_WHILE: Duration = Duration::from_secs(1);

#[test]
fn a_result_lives_as_long_as_the_call_the_skill_or_the_library_says() {
    let library = open(&[]);
    put(&library, "s", "result = 1", &[]);
    let short = r#"{"ttl_s":0.05}"#;
    for way in WAYS {
        assert!(!is_cached(&library, way, "", short));
        thread::sleep(A_WHILE);
    }
    assert_eq!(of_results(&library, ["expirations", "size"]), [1, 1]);
    assert_eq!(library.evict_expired().expect("open"), 1);
    assert_eq!(of_results(&library, ["expirations", "size"]), [2, 0]);
    // Who kept it said how long, not who asks.
    assert!(!is_cached(&library, Way::Text, "", ""));
    thread::sleep(A_WHILE);
    assert!(is_cached(&library, Way::Text, "", short));
    put(&library, "s", "result = 2", &[("ttl_s", "1")]);
    assert!(!is_cached(&library, Way::Text, "", ""));
    thread::sleep(Duration::from_secs(1) + A_WHILE);
    assert!(!is_cached(&library, Way::Text, "", ""), "the skill's own second is over");
}

#[test]
fn what_a_hit_gave_is_the_callers() {
    let library = open(&[]);
    put(&library, "s", "print('said')\nresult = [1, {'a': 2}]", &[]);
    run(&library, Way::Text, "", "");
    let mut hit = run(&library, Way::Text, "", "");
    std::sync::Arc::make_mut(&mut hit.stdout).bytes.clear();
    hit.value = None;
    let later = run(&library, Way::Text, "", "");
    assert_eq!((later.value.as_deref(), later.stdout.bytes.as_slice()), (Some(r#"[1,{"a":2}]"#), &b"said\n"[..]));
    assert!(later.is_cached);
}

#[test]
fn of_many_who_ask_at_once_one_runs() {
    const THREADS: usize = 16;
    let gate = Gate::new();
    let library = gate.library_with_skill();
    let spellings = [r#"{"inputs":{"v":[1.50]}}"#, r#"{ "inputs" : {"v":[15e-1]} }"#];
    let results: Vec<RunResult> = thread::scope(|scope| {
        let ask = |index: usize| run(&library, WAYS[index % 2], spellings[index / 2 % 2], "");
        let threads: Vec<_> = (0..THREADS).map(|index| scope.spawn(move || ask(index))).collect();
        until_misses(&library, THREADS as i64);
        gate.open();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(results.iter().all(|result| result.value.as_deref() == Some("[1.5]")), "{results:?}");
    assert!(results.iter().all(|result| result.stdout.bytes == b"begun\n"));
    assert_eq!(results.iter().filter(|result| !result.is_cached).count(), 1);
    assert_eq!(executed(&library), 1);
    assert_eq!(of_results(&library, ["hits", "misses", "coalesced", "size"]), [0, 16, 15, 1]);
    assert_eq!(number(&library, &["runs", "cached"]), 15);
    until("the counts", || number(&library, &["store", "usage_count"]) == 16);
}

#[test]
fn equal_items_of_many_run_once() {
    let library = open_sleeper(&[]);
    let items = |count| (0..count).map(|_| data(r#"{"inputs":{"s":0.3}}"#)).collect();
    let asked = RunOptions { concurrency: Some(8), ..RunOptions::default() };
    let results = library.run_many("s", items(8), &asked, |_, _| true).expect("they run");
    assert!(results.iter().all(|result| result.value.as_deref() == Some("\"awake\"")));
    assert_eq!(executed(&library), 1);
    let tasks: Vec<_> = (0..4)
        .map(|_| library.submit("s", data(r#"{"inputs":{"s":0.4}}"#), &RunOptions::default()).expect("queued"))
        .collect();
    for task in tasks {
        assert_eq!(task.wait(None).expect("a result").outcome, Outcome::Success);
    }
    assert_eq!(executed(&library), 2);
}

#[test]
fn who_does_not_read_does_not_wait_and_is_not_waited_for() {
    let gate = Gate::new();
    let library = gate.library_with_skill();
    thread::scope(|scope| {
        for mode in ["no", "no", "refresh", "refresh", "yes"] {
            let (library, asked) = (&library, format!(r#"{{"cache":"{mode}"}}"#));
            scope.spawn(move || assert!(!is_cached(library, Way::Text, "", &asked), "{asked}"));
        }
        // The one that looks has found nothing.
        until_misses(&library, 1);
        gate.open();
    });
    assert_eq!(executed(&library), 5);
    assert_eq!(of_results(&library, ["coalesced", "size"]), [0, 1]);
}

#[test]
fn different_data_do_not_wait_for_each_other() {
    let gate = Gate::new();
    let library = gate.library_with_skill();
    thread::scope(|scope| {
        let held = scope.spawn(|| run(&library, Way::Text, "", ""));
        until_misses(&library, 1);
        assert!(!is_cached(&library, Way::Text, r#"{"inputs":{"waits":false}}"#, ""));
        assert!(!held.is_finished());
        gate.open();
        assert_eq!(held.join().expect("no panic").outcome, Outcome::Success);
    });
}

#[test]
fn an_answer_that_cannot_be_shared_sets_everybody_free() {
    let library = open(&[]);
    // Nothing in sight says that it is not deterministic; the address does.
    let code = "total = 0\nfor i in range(20_000_000):\n    total += i\nresult = str(lambda: total)";
    put(&library, "s", code, &[]);
    thread::scope(|scope| {
        for way in [Way::Text, Way::Values, Way::Text] {
            let library = &library;
            scope.spawn(move || assert!(!is_cached(library, way, "", r#"{"timeout_ms":600000,"max_cpu_s":600}"#)));
        }
    });
    assert_eq!(executed(&library), 3);
    assert_eq!(of_results(&library, ["coalesced", "size", "misses"]), [0, 0, 3]);
}

#[test]
fn who_waits_for_a_run_that_fails_runs() {
    let gate = Gate::new();
    let library = gate.library_with_skill();
    thread::scope(|scope| {
        let leader = scope.spawn(|| run(&library, Way::Text, "", r#"{"timeout_ms":600}"#));
        until_misses(&library, 1);
        let waiters = WAYS.map(|way| {
            let library = &library;
            scope.spawn(move || run(library, way, "", ""))
        });
        until_misses(&library, 3);
        assert_eq!(leader.join().expect("no panic").outcome, Outcome::Timeout);
        gate.open();
        let results: Vec<_> = waiters.into_iter().map(|waiter| waiter.join().expect("no panic")).collect();
        assert!(results.iter().all(|result| result.outcome == Outcome::Success), "{results:?}");
        assert_eq!(results.iter().filter(|result| result.is_cached).count(), 1);
    });
    assert_eq!(executed(&library), 2);
    assert_eq!(of_results(&library, ["coalesced", "size"]), [1, 1]);
}

#[test]
fn failures_are_not_shared() {
    let library = open(&[]);
    put(&library, "s", "import time\ntime.sleep(0.2)\nraise ValueError(1)", &[("cache", "yes")]);
    thread::scope(|scope| {
        for way in [Way::Text, Way::Values, Way::Text] {
            let library = &library;
            scope.spawn(move || assert_eq!(run(library, way, "", "").outcome, Outcome::Error));
        }
    });
    assert_eq!((executed(&library), of_results(&library, ["coalesced", "size"])), (3, [0, 0]));
    assert_eq!(number(&library, &["runs", "by_outcome", "error"]), 3);
}

#[test]
fn a_cancelled_leader_is_replaced_and_a_cancelled_waiter_ends_at_once() {
    let gate = Gate::new();
    let library = gate.library_with_skill();
    let submit = || library.submit("s", Data::default(), &RunOptions::default()).expect("queued");
    let leader = submit();
    until_misses(&library, 1);
    let waiter = submit();
    until_misses(&library, 2);
    waiter.cancel();
    let result = waiter.wait(Some(Duration::from_secs(60))).expect("it does not wait for the leader");
    assert_eq!((result.outcome, result.is_cached), (Outcome::Cancelled, false));
    assert_eq!(leader.wait(Some(Duration::ZERO)).expect_err("it goes on").code(), Code::Timeout);
    gate.open();
    assert_eq!(leader.wait(None).expect("a result").outcome, Outcome::Success);
    assert_eq!(executed(&library), 2, "a cancelled run counts as executed");

    gate.close();
    library.clear("execution").expect("open");
    let leader = submit();
    until_misses(&library, 3);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| run(&library, Way::Text, "", ""));
        until_misses(&library, 4);
        leader.cancel();
        assert_eq!(leader.wait(None).expect("a result").outcome, Outcome::Cancelled);
        gate.open();
        let result = waiter.join().expect("no panic");
        assert_eq!((result.outcome, result.is_cached), (Outcome::Success, false));
    });
    assert!(is_cached(&library, Way::Values, "", ""));
}

#[test]
fn who_waits_does_so_no_longer_than_the_run_could_have_taken() {
    let gate = Gate::new();
    let library = gate.library_with_skill();
    thread::scope(|scope| {
        let leader = scope.spawn(|| run(&library, Way::Text, "", ""));
        until_misses(&library, 1);
        for way in WAYS {
            let result = run(&library, way, "", r#"{"timeout_ms":200}"#);
            assert_eq!((result.outcome, result.is_cached), (Outcome::Timeout, false));
            let message = &result.failure.as_ref().expect("a reason").message;
            assert!(message.contains("200 ms") && message.contains("waited"), "{message}");
            assert!((200..60_000).contains(&result.duration.as_millis()), "{result:?}");
        }
        assert!(!leader.is_finished());
        gate.open();
        assert_eq!(leader.join().expect("no panic").outcome, Outcome::Success);
    });
    assert_eq!(of_results(&library, ["coalesced", "size"]), [0, 1]);
}

#[test]
fn a_new_version_is_what_those_who_wait_get() {
    let gate = Gate::new();
    let library = gate.library_with_skill();
    thread::scope(|scope| {
        let leader = scope.spawn(|| run(&library, Way::Text, "", ""));
        until_misses(&library, 1);
        let waiters = [Way::Text, Way::Values, Way::Text].map(|way| {
            let library = &library;
            scope.spawn(move || run(library, way, "", ""))
        });
        until_misses(&library, 4);
        assert_eq!(put(&library, "s", "import time\ntime.sleep(0.3)\nresult = 'new'", &[("cache", "yes")]), 2);
        for waiter in waiters {
            let result = waiter.join().expect("no panic");
            assert_eq!((result.value.as_deref(), result.version), (Some("\"new\""), 2));
        }
        gate.open();
        let old = leader.join().expect("no panic");
        assert_eq!((old.value.as_deref(), old.version), (Some("\"awake\""), 1));
    });
    assert_eq!(executed(&library), 2, "one of the old version, one of the new");
    assert!(is_cached(&library, Way::Text, "", ""));
    assert_eq!(of_results(&library, ["size"]), [1], "what was made of the old version is not kept");
    assert!(!is_cached(&library, Way::Text, "", r#"{"version":1}"#));
}

#[test]
fn an_equal_put_and_another_skills_disturb_nobody() {
    let gate = Gate::new();
    let library = gate.library_with_skill();
    thread::scope(|scope| {
        let runs = [Way::Text, Way::Values].map(|way| {
            let library = &library;
            scope.spawn(move || run(library, way, "", ""))
        });
        until_misses(&library, 2);
        assert_eq!(put(&library, "s", &gate.skill(), &[("description", "the same content"), ("cache", "yes")]), 1);
        put(&library, "other", "result = 1", &[]);
        gate.open();
        assert!(runs.into_iter().all(|run| run.join().expect("no panic").outcome == Outcome::Success));
    });
    assert_eq!((executed(&library), of_results(&library, ["coalesced", "size"])), (1, [1, 1]));
}

#[test]
fn a_removed_skill_is_not_there_for_those_who_wait() {
    let gate = Gate::new();
    let library = gate.library_with_skill();
    thread::scope(|scope| {
        let leader = scope.spawn(|| run(&library, Way::Text, "", ""));
        until_misses(&library, 1);
        let waiter = scope.spawn(|| try_run(&library, Way::Text, "", ""));
        until_misses(&library, 2);
        library.remove("s").expect("there");
        assert_eq!(waiter.join().expect("no panic").expect_err("gone").code(), Code::NotFound);
        gate.open();
        assert_eq!(leader.join().expect("no panic").outcome, Outcome::Success);
    });
    assert_eq!(of_results(&library, ["size"]), [0]);
}

#[test]
fn what_was_begun_before_the_cache_was_emptied_is_not_kept() {
    for (which, size) in [("execution", 0), ("all", 0), ("metadata", 1)] {
        let gate = Gate::new();
        let library = gate.library_with_skill();
        thread::scope(|scope| {
            let leader = scope.spawn(|| run(&library, Way::Text, "", ""));
            until_misses(&library, 1);
            library.clear(which).expect("open");
            gate.open();
            assert_eq!(leader.join().expect("no panic").outcome, Outcome::Success);
        });
        assert_eq!(of_results(&library, ["size"]), [size], "{which}");
        assert_eq!(is_cached(&library, Way::Values, "", ""), size == 1, "{which}");
    }
    let gate = Gate::new();
    let library = gate.library_with_skill();
    thread::scope(|scope| {
        let runs = [Way::Text, Way::Values, Way::Text].map(|way| {
            let library = &library;
            scope.spawn(move || run(library, way, "", ""))
        });
        until_misses(&library, 3);
        library.clear("execution").expect("open");
        gate.open();
        assert!(runs.into_iter().all(|run| run.join().expect("no panic").outcome == Outcome::Success));
    });
    // Those who waited began again, together, unless one of them did so while the cache was being emptied; and whoever was slow to
    // begin found what the other had made.
    let [coalesced, hits] = of_results(&library, ["coalesced", "hits"]);
    assert_eq!((executed(&library) + coalesced + hits, of_results(&library, ["size"])), (3, [1]));
    assert!(coalesced + hits <= 1, "the first was not shared");
}

#[test]
fn closing_ends_who_runs_and_who_waits() {
    let library = open_sleeper(&[("sandbox.timeout_ms", "120000")]);
    let given = r#"{"inputs":{"s":100}}"#;
    let began = Instant::now();
    let task = library.submit("s", data(given), &RunOptions::default()).expect("queued");
    until_misses(&library, 1);
    thread::scope(|scope| {
        let runs = [Way::Text, Way::Values, Way::Text].map(|way| {
            let library = &library;
            scope.spawn(move || try_run(library, way, given, ""))
        });
        until_misses(&library, 4);
        library.close();
        for run in runs {
            match run.join().expect("no panic") {
                Ok(result) => assert_eq!((result.outcome, result.is_cached), (Outcome::Cancelled, false)),
                Err(error) => assert_eq!(error.code(), Code::Closed),
            }
        }
    });
    assert_eq!(task.wait(None).expect_err("closed").code(), Code::Cancelled);
    assert!(began.elapsed() < Duration::from_secs(90), "nobody slept to the end");
    assert_eq!(library.check_caches(0.85).expect_err("closed").code(), Code::Closed);
}

#[test]
fn who_requires_that_a_result_is_kept_is_told_so_when_it_was_anothers() {
    let gate = Gate::new();
    let library = gate.library(&[("cache.execution.max_mb", "1")]);
    put(&library, "s", &gate.code("True", "result = 'x' * 300000"), &[("cache", "yes")]);
    thread::scope(|scope| {
        let leader = scope.spawn(|| run(&library, Way::Text, "", ""));
        until_misses(&library, 1);
        let waiter = scope.spawn(|| run(&library, Way::Text, "", r#"{"cache":"yes"}"#));
        let strict = scope.spawn(|| try_run(&library, Way::Text, "", r#"{"cache":"required"}"#));
        until_misses(&library, 3);
        gate.open();
        let error = strict.join().expect("no panic").expect_err("it was not kept");
        assert_eq!(error.code(), Code::CacheOverflow);
        assert!(error.message().contains("cache.execution.max_mb"), "{error}");
        assert_eq!(leader.join().expect("no panic").outcome, Outcome::Success);
        assert_eq!(waiter.join().expect("no panic").outcome, Outcome::Success);
    });
    assert_eq!(executed(&library), 1);
    assert_eq!(of_results(&library, ["size", "refusals"]), [0, 1]);
}

#[test]
fn cancelling_many_ends_those_who_wait() {
    let library = open_sleeper(&[("sandbox.timeout_ms", "600000")]);
    let items = ["0", "600", "600", "600"].map(|s| data(&format!("{{\"inputs\":{{\"s\":{s}}}}}"))).to_vec();
    let (asked, began) = (RunOptions { concurrency: Some(4), ..RunOptions::default() }, Instant::now());
    let results = library.run_many("s", items, &asked, |_, _| false).expect("they end");
    let outcomes: Vec<_> = results.iter().map(|result| result.outcome).collect();
    assert_eq!(outcomes, [Outcome::Success, Outcome::Cancelled, Outcome::Cancelled, Outcome::Cancelled]);
    assert!(began.elapsed() < Duration::from_secs(300));
}

/// What docs/STATISTICS.md says of look-ups.
#[test]
fn look_ups_are_counted_where_they_are_made() {
    let library = open(&[]);
    let counts = || {
        ["metadata", "execution", "prepared"]
            .map(|cache| ["hits", "misses"].map(|name| number(&library, &["caches", cache, name])))
    };
    put(&library, "s", "result = 1", &[]);
    assert_eq!(counts(), [[0, 0], [0, 0], [0, 1]], "a put looks at the source");
    run(&library, Way::Text, "", "");
    assert_eq!(counts(), [[0, 1], [0, 1], [2, 1]], "the first run of a record, and one that is executed");
    run(&library, Way::Text, "", "");
    assert_eq!(counts(), [[1, 1], [1, 1], [2, 1]], "a run that memory answers needs no more");
    run(&library, Way::Text, "", r#"{"cache":"no"}"#);
    run(&library, Way::Text, "", r#"{"cache":"refresh"}"#);
    run(&library, Way::Text, "", r#"{"ttl_s":0}"#);
    assert_eq!(counts(), [[4, 1], [1, 1], [5, 1]], "what is not read is not looked up");
    assert!(library.run_text("t", "", &RunOptions::default()).is_err());
    assert_eq!(counts()[0], [4, 2]);
}

#[test]
fn asking_how_full_the_caches_are_is_free_of_consequences() {
    // Parsed skills have half as many places unless told otherwise, and at least one.
    let library = open(&[("cache.execution.max_entries", "1"), ("cache.prepared.max_entries", "9")]);
    put(&library, "s", "result = 1", &[]);
    assert_eq!(library.check_caches(0.85).expect("open").to_text(), "[]");
    run(&library, Way::Text, "", "");
    while library.next_event(Some(Duration::ZERO)).is_ok() {}
    let said = library.check_caches(0.85).expect("open").to_text();
    assert_eq!(
        said,
        r#"[{"cache":"execution","bound":"entries","size":1,"max_size":1,"threshold":0.85,"message":"Cache utilization alert: 100.0% exceeds threshold of 85.0% (1/1)"}]"#
    );
    assert_eq!(library.check_caches(0.0).expect("open").as_array().map(<[_]>::len), Some(6), "every bound");
    for threshold in [-0.01, 1.000_001, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let error = library.check_caches(threshold).expect_err("no share");
        assert_eq!((error.code(), error.details().path.as_deref()), (Code::Invalid, Some("threshold")));
    }
    assert_eq!(library.next_event(Some(Duration::ZERO)).expect_err("no event").code(), Code::Timeout);
}

#[test]
fn every_cache_says_once_which_of_its_bounds_is_nearly_reached() {
    let told = |library: &Library| {
        let events = std::iter::from_fn(|| library.next_event(Some(Duration::ZERO)).ok());
        let text = |event: &Value, name: &str| event.get(name).and_then(Value::as_str).map(str::to_owned);
        let alert = |event: String| {
            let event = Value::parse(&event).expect("JSON");
            (text(&event, "kind")? == "cache_utilization").then_some(())?;
            let fields = event.get("fields")?;
            Some(format!("{} {}", text(fields, "cache")?, text(fields, "bound")?))
        };
        let mut alerts: Vec<String> = events.filter_map(alert).collect();
        alerts.sort();
        alerts
    };
    let few = ["execution", "prepared", "metadata"].map(|cache| format!("cache.{cache}.max_entries"));
    let few: Vec<(&str, &str)> = few.iter().map(|name| (name.as_str(), "2")).collect();
    let library = open(&few);
    for id in ["a", "b", "c"] {
        put(&library, id, &format!("result = '{id}'"), &[]);
        library.run_text(id, "", &options("")).expect("a run");
    }
    assert_eq!(told(&library), ["execution entries", "metadata entries", "prepared entries"]);
    let library = open(&[("cache.execution.max_mb", "1")]);
    put(&library, "s", "result = 'x' * 100000 + str(inputs)", &[]);
    for number in 0..12 {
        run(&library, Way::Text, &format!(r#"{{"inputs":{{"n":{number}}}}}"#), "");
    }
    assert_eq!(told(&library), ["execution bytes"]);
}

#[test]
fn a_thousand_who_ask_at_once_make_one_run() {
    let library = open_sleeper(&[("sandbox.timeout_ms", "300000")]);
    let all_are_there = Barrier::new(1000);
    thread::scope(|scope| {
        for _ in 0..1000 {
            scope.spawn(|| {
                all_are_there.wait();
                assert_eq!(run(&library, Way::Text, "", "").outcome, Outcome::Success);
            });
        }
    });
    assert_eq!(executed(&library), 1);
}

#[test]
fn who_is_answered_from_memory_does_not_wait_for_another_process_that_writes() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("skills.db");
    let mut config = Config::default();
    config.set("pool.timeout_ms", "200000").expect("an option");
    let library = Library::open(file.to_str().expect("UTF-8"), &config).expect("a library");
    put(&library, "s", "result = 1", &[]);
    run(&library, Way::Text, "", "");
    let other = rusqlite::Connection::open(&file).expect("a database");
    other.execute_batch("BEGIN IMMEDIATE").expect("nobody else writes");
    // Counts are due to be written.
    thread::sleep(Duration::from_millis(1100));
    let started = Instant::now();
    assert!(is_cached(&library, Way::Text, "", ""));
    assert!(started.elapsed() < Duration::from_secs(100), "{:?}", started.elapsed());
    other.execute_batch("ROLLBACK").expect("it is open");
    until("each count", || number(&library, &["store", "usage_count"]) == 2);
}

#[test]
fn what_was_begun_before_a_refresh_does_not_replace_it() {
    let gate = Gate::new();
    let library = gate.library(&[]);
    // Whoever has this processor time, which makes no other run of it, does not wait.
    let waits = "resource.getrlimit(resource.RLIMIT_CPU)[0] != 99";
    put(&library, "s", &gate.code(waits, "result = time.time_ns()"), &[("cache", "yes")]);
    thread::scope(|scope| {
        let first = scope.spawn(|| run(&library, Way::Text, "", ""));
        until_misses(&library, 1);
        let refreshed = run(&library, Way::Text, "", r#"{"cache":"refresh","max_cpu_s":99}"#);
        assert!(!first.is_finished(), "it was begun before and is still going on");
        gate.open();
        let first = first.join().expect("no panic");
        assert_ne!(first.value, refreshed.value);
        let later = run(&library, Way::Text, "", "");
        assert_eq!((later.is_cached, later.value), (true, refreshed.value));
    });
}

#[test]
fn limits_that_a_skill_can_see_make_another_run_and_time_does_not() {
    let library = open(&[]);
    put(&library, "s", "print('x' * 5000)\nresult = 1", &[]);
    let cut = run(&library, Way::Text, "", r#"{"max_output_kb":1}"#);
    assert!(cut.stdout.is_truncated);
    assert!(is_cached(&library, Way::Values, "", r#"{"max_output_kb":1,"timeout_ms":9000}"#));
    let whole = run(&library, Way::Text, "", "");
    assert_eq!((whole.is_cached, whole.stdout.is_truncated), (false, false));
    assert!(is_cached(&library, Way::Text, "", r#"{"timeout_ms":20000,"max_cpu_s":9}"#));
    put(&library, "s", "print('x' * 5000)\nresult = 1", &[("limits", r#"{"max_output_kb":2}"#)]);
    assert!(run(&library, Way::Text, "", "").stdout.is_truncated, "the skill's own are seen as well");
}
