//! A host that keeps results: the next start answers with whole, right ones, wherever they come from.

use std::path::Path;
use std::thread;
use std::time::Duration;

use skillcache::json::Value;
use skillcache::{Config, Data, Library, Outcome, RunOptions, Skill};

use super::{Begun, acknowledge, kill_one, open};

const THREADS: u64 = 2;
/// Results are written about a second after the first of them, and whenever there are 4 MiB: hosts are killed around that.
const SHORTEST: Duration = Duration::from_millis(600);
const LONGEST: Duration = Duration::from_millis(1500);

/// Many pages of the database, no two of them alike, and so many that they are written more often than once a second.
const CODE: &str = "result = [inputs['n'] * 1000003 + i * i for i in range(inputs['n'] * 3700 % 20000)]";

/// As both the hosts and those who come after them open the library.
fn config() -> Config {
    Config::default()
}

fn expected(n: u64) -> String {
    let items: Vec<String> = (0..n * 3700 % 20000).map(|i| (n * 1_000_003 + i * i).to_string()).collect();
    format!("[{}]", items.join(","))
}

/// The answer for one input, if it is right.
fn answer(library: &Library, n: u64) -> Result<(), String> {
    let data = Data::parse(&format!(r#"{{"inputs": {{"n": {n}}}}}"#)).expect("data");
    let result = library.run("list", data, &RunOptions::default()).map_err(|error| error.to_string())?;
    let value = result.value.as_deref().map(|value| value.replace(' ', ""));
    match (result.outcome, value) {
        (Outcome::Success, Some(value)) if value == expected(n) => Ok(()),
        (outcome, value) => Err(format!("{n} gives {outcome:?}, {value:?}")),
    }
}

fn put(library: &Library, code: &str) {
    let mut skill = Skill::new("list", code);
    skill.set("cache", "yes").expect("a field");
    library.put(&skill).expect("it is put");
}

pub fn host(path: &Path) -> ! {
    let library = open(path, &config());
    put(&library, CODE);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let library = &library;
            scope.spawn(move || {
                for n in (thread + 1..).step_by(THREADS as usize) {
                    answer(library, n).expect("the host gets right answers");
                    acknowledge(&n.to_string());
                }
            });
        }
    });
    unreachable!("the threads run for ever")
}

pub fn kill(rounds: u64) {
    control();
    let mut found = 0;
    for round in 0..rounds {
        // A file of its own: what is found in it was kept by the host.
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("skills.db");
        let after = SHORTEST + (LONGEST - SHORTEST).mul_f64((round * 37 % 100) as f64 / 100.0);
        let lines = kill_one("fillers", &path, round, Begun::Line, after);
        let library = open(&path, &config());
        // Those that were under way when the host was killed come last, in whatever state.
        let last = lines.iter().map(|line| line.parse().expect("a number")).max().unwrap_or(0) + THREADS;
        for n in 1..=last {
            answer(&library, n).unwrap_or_else(|fault| panic!("round {round}: {fault}"));
        }
        let stats = library.stats().expect("statistics");
        let hits = stats.get("store").and_then(|store| store.get("results")).and_then(|results| results.get("hits"));
        found += hits.and_then(Value::as_i64).expect("a number");
    }
    assert!(found > 0, "no host had kept a result");
}

/// An answer that was kept of other code would be found.
fn control() {
    let library = open(Path::new(":memory:"), &config());
    put(&library, "result = [inputs['n']]");
    answer(&library, 1).expect_err("the answer is wrong");
}
