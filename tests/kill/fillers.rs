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
const MUCH_TOO_LONG: Duration = Duration::from_secs(100);

/// Many pages of the database, no two of them alike, and so many that they are written more often than once a second.
const CODE: &str = "result = [inputs['n'] * 1000003 + i * i for i in range(inputs['n'] * 3700 % 20000)]";

/// As both the hosts and those who come after them open the library.
fn config() -> Config {
    let mut config = Config::default();
    config.set("sandbox.timeout_ms", "300000").expect("a known option");
    config
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
        let after = SHORTEST + (LONGEST - SHORTEST).mul_f64((round * 37 % 100) as f64 / 100.0);
        found += kill_and_find(round, after);
    }
    // On a busy machine results are written later: there the hosts are given more time, until one has come to it.
    let mut after = LONGEST;
    for round in rounds.. {
        if found > 0 || rounds == 0 {
            break;
        }
        after *= 2;
        assert!(after < MUCH_TOO_LONG, "no host had kept a result");
        found += kill_and_find(round, after);
    }
}

/// Kills a host, and says how many of the answers afterwards it had kept.
fn kill_and_find(round: u64, after: Duration) -> i64 {
    // A file of its own: what is found in it was kept by the host.
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("skills.db");
    let lines = kill_one("fillers", &path, round, Begun::Line, after);
    let library = open(&path, &config());
    // Those that were under way when the host was killed come last, in whatever state.
    let last = lines.iter().map(|line| line.parse().expect("a number")).max().unwrap_or(0) + THREADS;
    for n in 1..=last {
        answer(&library, n).unwrap_or_else(|fault| panic!("round {round}: {fault}"));
    }
    let stats = library.stats().expect("statistics");
    let hits = stats.get("store").and_then(|store| store.get("results")).and_then(|results| results.get("hits"));
    hits.and_then(Value::as_i64).expect("a number")
}

/// An answer that was kept of other code would be found.
fn control() {
    let library = open(Path::new(":memory:"), &config());
    put(&library, "result = [inputs['n']]");
    answer(&library, 1).expect_err("the answer is wrong");
}
