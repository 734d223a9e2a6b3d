//! What the threads do, and what they know of it themselves.

use std::iter::Sum;
use std::time::Duration;

use skillcache::{Code, Data, Filter, Library, Outcome, Query, RunOptions, RunResult, Skill};

use crate::libraries::{PATIENCE, count, put, stats, until};
use dice::Dice;

#[allow(dead_code, reason = "bytes are for who damages files")]
#[path = "../../whole/dice.rs"]
mod dice;

/// From when on a run is slow.
pub const SLOW_MS: &str = "60";
const SLOW: Duration = Duration::from_millis(60);
/// Inputs that are asked for again and again, and others that are asked for once in a while: more than the cache holds.
const HOT: usize = 12;
const COLD: usize = 100_000;
/// Kept, and too old at once.
const AGEING: &str = r#"{"cache":"refresh","ttl_s":0.01}"#;

/// A way to end.
struct Way {
    id: &'static str,
    code: &'static str,
    /// `yes`: looked up, though it is never found.
    cache: &'static str,
    outcome: Outcome,
}

const WAYS: [Way; 12] = [
    // Too much for the cache, which refuses it.
    Way { id: "answers_at_length", code: "result = 'x' * 40_000", cache: "yes", outcome: Outcome::Success },
    Way { id: "raises", code: "raise ValueError(inputs['n'])", cache: "yes", outcome: Outcome::Error },
    Way { id: "says_nothing", code: "x = 1", cache: "yes", outcome: Outcome::NoResult },
    Way { id: "is_given_rubbish", code: "result = 1", cache: "yes", outcome: Outcome::InvalidInput },
    Way { id: "says_rubbish", code: "result = {1}", cache: "no", outcome: Outcome::InvalidOutput },
    Way { id: "is_put_away", code: "result = 1", cache: "yes", outcome: Outcome::Rejected },
    Way { id: "is_denied", code: "raise PermissionError(13, 'no')", cache: "no", outcome: Outcome::Denied },
    Way { id: "sleeps", code: "import time\ntime.sleep(3600)", cache: "no", outcome: Outcome::Timeout },
    Way { id: "hoards", code: "hoard = bytearray(1 << 30)", cache: "no", outcome: Outcome::MemoryLimit },
    Way { id: "says_much", code: "result = 'x' * 100_000", cache: "yes", outcome: Outcome::OutputLimit },
    Way { id: "fills", code: "raise OSError(28, 'full')", cache: "no", outcome: Outcome::DiskLimit },
    Way { id: "aborts", code: "import os\nos.abort()", cache: "no", outcome: Outcome::Crashed },
];

impl Way {
    /// What is put away is not even looked for.
    fn is_looked_up(&self) -> bool {
        self.cache == "yes" && self.outcome != Outcome::Rejected
    }

    fn is_childless(&self) -> bool {
        matches!(self.outcome, Outcome::InvalidInput | Outcome::Rejected)
    }

    fn options(&self) -> &'static str {
        if self.outcome == Outcome::Timeout { r#"{"timeout_ms":150}"# } else { "" }
    }
}

/// What was done and how it ended, as far as who did it can know.
#[derive(Debug, Default)]
pub struct Tally {
    pub outcomes: [i64; Outcome::ALL.len()],
    pub cached: i64,
    /// Of those that were executed.
    pub micros: i64,
    pub slow: i64,
    pub violations: i64,
    pub children: i64,
    pub peak_memory: u64,
    /// Results that must have been looked up once at least.
    pub lookups: i64,
    pub submitted: i64,
    pub refused: i64,
    pub puts: i64,
}

impl Tally {
    pub fn runs(&self) -> i64 {
        self.outcomes.iter().sum()
    }

    fn count(&mut self, result: &RunResult, is_looked_up: bool) {
        self.outcomes[result.outcome as usize] += 1;
        self.cached += i64::from(result.is_cached);
        self.slow += i64::from(result.duration >= SLOW);
        self.violations += i64::from(result.outcome == Outcome::Denied);
        self.lookups += i64::from(is_looked_up);
        if !result.is_cached {
            self.micros += i64::try_from(result.duration.as_micros()).expect("no run takes that long").max(1);
            self.children += i64::from(result.confinement.is_some());
            self.peak_memory = self.peak_memory.max(result.usage.peak_memory);
        }
    }
}

impl Sum for Tally {
    fn sum<I: Iterator<Item = Tally>>(tallies: I) -> Tally {
        tallies.fold(Tally::default(), |sum, tally| Tally {
            outcomes: std::array::from_fn(|index| sum.outcomes[index] + tally.outcomes[index]),
            cached: sum.cached + tally.cached,
            micros: sum.micros + tally.micros,
            slow: sum.slow + tally.slow,
            violations: sum.violations + tally.violations,
            children: sum.children + tally.children,
            peak_memory: sum.peak_memory.max(tally.peak_memory),
            lookups: sum.lookups + tally.lookups,
            submitted: sum.submitted + tally.submitted,
            refused: sum.refused + tally.refused,
            puts: sum.puts + tally.puts,
        })
    }
}

/// The skills that everybody runs.
pub fn prepare(library: &Library) {
    for Way { id, code, cache, outcome } in &WAYS {
        let schema = r#"{"type":"object","properties":{"n":{"type":"string"}}}"#;
        let schema = if *outcome == Outcome::InvalidInput { schema } else { "{}" };
        put(library, id, code, &[("cache", cache), ("input_schema", schema)]);
        if *outcome == Outcome::Rejected {
            library.set_state(id, "retired").expect("it is there");
        }
    }
    put(library, "doubles", "result = inputs['n'] * 2", &[("cache", "yes")]);
    put(library, "sleeps_long", "import time\ntime.sleep(3600)", &[("cache", "no")]);
    put(library, "changes", &changing(0), &[("cache", "yes")]);
}

fn changing(number: usize) -> String {
    format!("# {number}\nresult = inputs['n'] * 2")
}

/// One thread.
pub struct Worker<'l> {
    library: &'l Library,
    dice: Dice,
    pub tally: Tally,
}

impl<'l> Worker<'l> {
    pub fn new(library: &'l Library, number: usize) -> Self {
        Worker { library, dice: Dice::new(number as u64), tally: Tally::default() }
    }

    /// One thing of many.
    pub fn do_anything(&mut self) {
        match self.dice.below(200) {
            0..90 => self.hit(),
            90..150 => self.fail_at_once(),
            150..155 => self.double(COLD, ""),
            155..170 => self.fail(),
            170..175 => self.submit(),
            175..180 => self.cancel(),
            180..184 => self.answer("changes", HOT, "", true),
            184..187 => self.change(),
            187..190 => self.clear(),
            190..194 => self.look(),
            194..196 => self.double(HOT, r#"{"cache":"refresh"}"#),
            196..198 => self.double(HOT, r#"{"cache":"no"}"#),
            _ => self.double(HOT, AGEING),
        }
    }

    /// Whatever chance may leave out.
    pub fn do_each_once(&mut self) {
        WAYS.iter().for_each(|way| self.fail_as(way));
        self.double(HOT, AGEING);
        let expirations = || count(&stats(self.library), "caches.execution.expirations");
        until("it is too old", || {
            self.library.evict_expired().expect("it is open");
            expirations() > 0
        });
        self.cancel_after(|library| until("it runs", || count(&stats(library), "tasks.running") > 0));
        self.change();
    }

    /// Nothing that makes another begin again.
    pub fn only_run(&mut self) {
        match self.dice.below(40) {
            0..20 => self.hit(),
            20..35 => self.fail_at_once(),
            35 => self.double(COLD, ""),
            36 => self.answer("changes", HOT, "", true),
            37 => self.double(HOT, r#"{"cache":"no"}"#),
            _ => self.fail(),
        }
    }

    fn hit(&mut self) {
        (0..25).for_each(|_| self.double(HOT, ""));
    }

    fn double(&mut self, below: usize, options: &str) {
        let is_looked_up = !["refresh", "no"].iter().any(|mode| options.contains(mode));
        self.answer("doubles", below, options, is_looked_up);
    }

    /// Runs what doubles a number, by one door or the other.
    fn answer(&mut self, id: &str, below: usize, options: &str, is_looked_up: bool) {
        let (number, is_text) = (self.dice.below(below), self.dice.below(2) == 0);
        let (data, options) = (numbered(number), RunOptions::parse(options).expect("options"));
        let result = match is_text {
            true => self.library.run_text(id, &data, &options),
            false => self.library.run(id, Data::parse(&data).expect("data"), &options),
        };
        let result = result.expect("it is there");
        assert_eq!(result.value.as_deref(), Some((number * 2).to_string().as_str()), "{result:?}");
        self.tally.count(&result, is_looked_up);
    }

    /// Many runs that end before there is a child: nothing counts faster.
    fn fail_at_once(&mut self) {
        let way = WAYS.iter().filter(|way| way.is_childless()).nth(self.dice.below(2)).expect("there are two");
        (0..25).for_each(|_| self.fail_as(way));
    }

    fn fail(&mut self) {
        let way = &WAYS[self.dice.below(WAYS.len())];
        self.fail_as(way);
    }

    fn fail_as(&mut self, way: &Way) {
        let (data, options) = (numbered(self.dice.below(HOT)), RunOptions::parse(way.options()).expect("options"));
        let result = self.library.run(way.id, Data::parse(&data).expect("data"), &options).expect("it is there");
        assert_eq!(result.outcome, way.outcome, "{result:?}");
        self.tally.count(&result, way.is_looked_up());
    }

    fn submit(&mut self) {
        let data = Data::parse(&numbered(self.dice.below(HOT))).expect("data");
        match self.library.submit("doubles", data, &RunOptions::default()) {
            Ok(task) => {
                self.tally.submitted += 1;
                let result = task.wait(Some(PATIENCE)).expect("it ends");
                assert_eq!(result.outcome, Outcome::Success, "{result:?}");
                self.tally.count(&result, true);
            }
            Err(error) => self.refused(&error),
        }
    }

    fn cancel(&mut self) {
        // Some while they wait, some while they start, some while they run.
        let pause = Duration::from_millis(self.dice.below(8) as u64 * 10);
        self.cancel_after(|_| std::thread::sleep(pause));
    }

    fn cancel_after(&mut self, wait: impl FnOnce(&Library)) {
        match self.library.submit("sleeps_long", Data::default(), &RunOptions::default()) {
            Ok(task) => {
                self.tally.submitted += 1;
                wait(self.library);
                task.cancel();
                let result = task.wait(Some(PATIENCE)).expect("it ends");
                assert_eq!(result.outcome, Outcome::Cancelled, "{result:?}");
                let failure = result.failure.as_ref().expect("a reason");
                if !failure.message.contains("before it began") {
                    self.tally.count(&result, false);
                }
            }
            Err(error) => self.refused(&error),
        }
    }

    fn refused(&mut self, error: &skillcache::Error) {
        assert_eq!(error.code(), Code::Busy, "{error}");
        self.tally.refused += 1;
    }

    fn change(&mut self) {
        let number = self.dice.below(1000);
        self.library.put(&Skill::new("changes", changing(number))).expect("it is Python");
        self.tally.puts += 1;
    }

    fn clear(&mut self) {
        let which = ["execution", "prepared", "metadata", "all"][self.dice.below(4)];
        self.library.clear(which).expect("it is one of them");
        if self.dice.below(4) == 0 {
            self.library.evict_expired().expect("it is open");
        }
    }

    fn look(&mut self) {
        let library = self.library;
        library.search(&Query::words("doubles")).expect("it is open");
        assert!(library.list(&Filter::default()).expect("it is open").len() > WAYS.len());
        assert_eq!(library.get("doubles", 0).expect("it is there").id(), "doubles");
        library.validate("result = 1").expect("it is open");
        library.history().expect("it is open");
    }
}

fn numbered(number: usize) -> String {
    format!(r#"{{"inputs":{{"n":{number}}}}}"#)
}
