//! What somebody could change, judged by the statistics alone.
//!
//! One table of rules. A rule speaks if its threshold is crossed *and* there is enough to judge by, its least sample: a young library has
//! nothing to be told. Numbers that are missing or null, negative or beyond 64 bits say nothing; no rule divides by nothing. The first five
//! rules are the reference's, with its thresholds and opening words; it has no least samples, and finds fault with an empty library.

use super::event::Severity;
use crate::json::Value;

/// One thing that somebody could change.
#[derive(Debug, Clone, PartialEq)]
pub struct Recommendation {
    /// Its rule's stable id.
    pub rule: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What was found, in numbers.
    pub message: String,
    /// What to do.
    pub remedy: String,
    /// The numbers that it was derived from.
    pub evidence: Vec<(&'static str, Value)>,
    /// How much there was to judge by; what is counted is the rule's.
    pub sample: u64,
}

impl Recommendation {
    /// `{"rule", "severity", "message", "remedy", "evidence", "sample"}`.
    pub fn to_value(&self) -> Value {
        Value::object([
            ("rule", Value::from(self.rule)),
            ("severity", Value::from(self.severity.name())),
            ("message", Value::from(self.message.as_str())),
            ("remedy", Value::from(self.remedy.as_str())),
            ("evidence", Value::object(self.evidence.clone())),
            ("sample", Value::from(self.sample)),
        ])
    }
}

/// What is to be said of a document of statistics, in the order of the table.
pub fn recommendations(stats: &Value) -> Vec<Recommendation> {
    let stats = Stats(stats);
    let judged = RULES.iter().filter_map(|rule| {
        let Judgement { sample, message, remedy, evidence } = (rule.judge)(&stats)?;
        let recommendation =
            Recommendation { rule: rule.id, severity: rule.severity, message, remedy, evidence, sample: whole(sample) };
        (recommendation.sample >= rule.least_sample).then_some(recommendation)
    });
    judged.collect()
}

/// One row of the table.
struct Rule {
    id: &'static str,
    severity: Severity,
    /// It says nothing before there is so much to judge by.
    least_sample: u64,
    /// What it finds, if its threshold is crossed.
    judge: fn(&Stats) -> Option<Judgement>,
}

struct Judgement {
    sample: f64,
    message: String,
    remedy: String,
    evidence: Vec<(&'static str, Value)>,
}

const fn rule(id: &'static str, severity: Severity, least_sample: u64, judge: fn(&Stats) -> Option<Judgement>) -> Rule {
    Rule { id, severity, least_sample, judge }
}

/// `docs/STATISTICS.md` describes each; a test holds it against the table.
const RULES: &[Rule] = &[
    // Look-ups.
    rule("low-hit-rate", Severity::Warning, 100, low_hit_rate),
    // Runs that were executed.
    rule("slow-executions", Severity::Warning, 20, slow_executions),
    // Runs that were not cancelled.
    rule("low-success-rate", Severity::Warning, 50, low_success_rate),
    // Evictions.
    rule("cache-full", Severity::Info, 20, cache_full),
    // Look-ups.
    rule("many-skills", Severity::Info, 100, many_skills),
    // Look-ups.
    rule("switch-policy", Severity::Info, 1000, switch_policy),
    // Requests.
    rule("pool-size", Severity::Warning, 100, pool_size),
    // MiB that the library holds.
    rule("memory", Severity::Warning, 16, memory),
    // Skills.
    rule("quarantine", Severity::Warning, 1, quarantine),
    // Runs.
    rule("nothing-cached", Severity::Info, 100, nothing_cached),
];

/// Look-ups below this share of answers are a low rate.
const LOW_HIT_RATE: f64 = 0.3;

/// What the database or an equal run has answered needed no child either.
fn low_hit_rate(stats: &Stats) -> Option<Judgement> {
    let (hits, lookups) = (stats.number("caches.execution.hits")?, stats.lookups("execution")?);
    let others = stats.count("caches.execution.coalesced") + stats.count("store.results.hits");
    let answered = (hits + others).min(lookups);
    let rate = share(answered, lookups)?;
    (rate < LOW_HIT_RATE).then(|| Judgement {
        sample: lookups,
        message: format!("Low cache hit rate: {} ({answered}/{lookups} look-ups of results)", percent(rate)),
        remedy: "call skills with data that comes back (no times or random numbers in it), or raise `cache.execution.max_entries` and \
                 `cache.execution.ttl_s` if many results leave before they are asked for again"
            .to_owned(),
        evidence: vec![
            ("hit_rate", Value::from(rate)),
            ("threshold", Value::from(LOW_HIT_RATE)),
            ("answered", number(answered)),
            ("lookups", number(lookups)),
            ("evictions", number(stats.count("caches.execution.evictions"))),
        ],
    })
}

/// Runs that take longer than this, in microseconds, on the average are slow.
const SLOW_MEAN_US: f64 = 5e6;

fn slow_executions(stats: &Stats) -> Option<Judgement> {
    let (mean, count) = (stats.number("latency_us.executed.mean")?, stats.number("latency_us.executed.count")?);
    (mean > SLOW_MEAN_US).then(|| Judgement {
        sample: count,
        message: format!("High average execution time: {:.1} s (of {count} runs)", mean / 1e6),
        remedy: "see the events `slow_run` for the skills that take longest, and make them faster, keep their results or give them a shorter \
                 `timeout_ms`"
            .to_owned(),
        evidence: vec![
            ("mean_us", number(mean)),
            ("threshold_us", number(SLOW_MEAN_US)),
            ("p95_us", number(stats.count("latency_us.executed.p95"))),
            ("runs", number(count)),
        ],
    })
}

/// A share of successes below this is low.
const LOW_SUCCESS_RATE: f64 = 0.8;

/// What its caller has cancelled says nothing of a skill.
fn low_success_rate(stats: &Stats) -> Option<Judgement> {
    let success = stats.number("runs.by_outcome.success")?;
    let runs = stats.number("runs.total")? - stats.count("runs.by_outcome.cancelled");
    let rate = share(success, runs)?;
    if rate >= LOW_SUCCESS_RATE {
        return None;
    }
    let worst = FAILURES.map(|name| (name, stats.count(&format!("runs.by_outcome.{name}"))));
    let worst = worst.into_iter().filter(|(_, count)| *count > 0.0).max_by(|a, b| a.1.total_cmp(&b.1));
    let mostly = worst.map_or_else(String::new, |(name, count)| format!(", {count} of the others ended as `{name}`"));
    let evidence = [
        ("success_rate", Value::from(rate)),
        ("threshold", Value::from(LOW_SUCCESS_RATE)),
        ("success", number(success)),
        ("runs", number(runs)),
    ];
    Some(Judgement {
        sample: runs,
        message: format!("Low skill execution success rate: {} ({success}/{runs} runs){mostly}", percent(rate)),
        remedy: "see the events `run_failed` and the `outcomes` of the skills for those that fail, and correct or retire them".to_owned(),
        evidence: evidence.into_iter().chain(worst.map(|(name, count)| (name, number(count)))).collect(),
    })
}

/// How a run can fail, by itself or by its caller's fault.
const FAILURES: [&str; 11] = [
    "error",
    "no_result",
    "invalid_input",
    "invalid_output",
    "rejected",
    "denied",
    "timeout",
    "memory_limit",
    "output_limit",
    "disk_limit",
    "crashed",
];

/// A cache of which so much is used is nearly full.
const NEARLY_FULL: f64 = 0.9;
/// The part of the bytes that results may take; the others are for the texts by which they are found.
const RESULTS_SHARE: f64 = 7.0 / 8.0;

/// A full cache is well as long as nothing has to leave it.
fn cache_full(stats: &Stats) -> Option<Judgement> {
    let of = |name: &str| stats.number(&format!("caches.execution.{name}"));
    let evictions = of("evictions")?;
    let bounds =
        [("entries", of("size"), of("max_size"), "max_entries"), ("bytes", of("bytes"), of("max_bytes"), "max_mb")];
    let used = bounds.into_iter().filter_map(|(bound, size, most, option)| {
        let (size, most) = (size?, most?);
        let room = if bound == "bytes" { most * RESULTS_SHARE } else { most };
        Some((bound, size, most, share(size, room)?, option))
    });
    let (bound, size, most, used, option) =
        used.rev().max_by(|a, b| a.3.total_cmp(&b.3)).filter(|bound| bound.3 >= NEARLY_FULL)?;
    let of_results = if bound == "bytes" { ", of which results may take seven eighths" } else { "" };
    Some(Judgement {
        sample: evictions,
        message: format!(
            "Execution cache nearly full: {size}/{most} {bound}{of_results}; {evictions} results had to leave"
        ),
        remedy: format!(
            "raise `cache.execution.{option}`, or lower `cache.execution.ttl_s` so that old results leave first"
        ),
        evidence: vec![
            (bound, number(size)),
            (if bound == "bytes" { "max_bytes" } else { "max_entries" }, number(most)),
            ("utilization", Value::from(used.min(1.0))),
            ("threshold", Value::from(NEARLY_FULL)),
            ("evictions", number(evictions)),
        ],
    })
}

/// So many skills more than the cache of records holds are many.
const MANY_SKILLS: f64 = 1000.0;

fn many_skills(stats: &Stats) -> Option<Judgement> {
    let (skills, room) = (stats.number("store.skills")?, stats.number("caches.metadata.max_size")?);
    let lookups = stats.lookups("metadata")?;
    (skills - room > MANY_SKILLS).then(|| Judgement {
        sample: lookups,
        message: format!(
            "High number of skills in memory: {skills} are stored, and the cache `metadata` keeps the records of {room}; the others are \
             read whenever they are used"
        ),
        remedy: "raise `cache.metadata.max_entries`, or remove or retire skills that nobody uses".to_owned(),
        evidence: vec![
            ("skills", number(skills)),
            ("max_entries", number(room)),
            ("threshold", number(MANY_SKILLS)),
            ("hits", number(stats.count("caches.metadata.hits"))),
            ("lookups", number(lookups)),
        ],
    })
}

/// What part of the look-ups the other policy must win for a change to be worth it.
const WORTH_SWITCHING: f64 = 0.05;

/// Only where it is the number of entries that makes entries leave: the ghosts know neither bytes nor times.
fn switch_policy(stats: &Stats) -> Option<Judgement> {
    let of = |name: &str| stats.number(&format!("caches.execution.{name}"));
    let (won, lost, lookups) = (of("ghost_hits")?, of("ghost_misses")?, stats.lookups("execution")?);
    let used = share(of("size")?, of("max_size")?)?;
    let now = stats.text("caches.execution.policy")?;
    let other = match now {
        "lru" => "2q",
        "2q" => "lru",
        _ => return None,
    };
    let gain = won - lost;
    let is_worth_it = share(gain, lookups)? >= WORTH_SWITCHING && used >= NEARLY_FULL && of("evictions")? > 0.0;
    is_worth_it.then(|| Judgement {
        sample: lookups,
        message: format!(
            "Another policy would answer more: `{other}` some {gain} of {lookups} look-ups of results beyond what `{now}` does"
        ),
        remedy: format!("open the library with `cache.execution.policy` = `{other}`"),
        evidence: vec![
            ("ghost_hits", number(won)),
            ("ghost_misses", number(lost)),
            ("lookups", number(lookups)),
            ("threshold", Value::from(WORTH_SWITCHING)),
        ],
    })
}

/// More exhaustions per recent request than this are too many.
const EXHAUSTION_RATE: f64 = 0.01;
/// A part of the requests that waits, and how long, in microseconds, one in twenty of those does: from there on it is too long.
const WAITING_SHARE: f64 = 0.01;
const LONG_WAIT_US: f64 = 100_000.0;
/// Fewer waits than this say nothing of how long they take.
const LEAST_WAITS: f64 = 20.0;

fn pool_size(stats: &Stats) -> Option<Judgement> {
    let of = |name: &str| stats.number(&format!("pool.{name}"));
    let requests = of("total_requests")?;
    let exhaustion = of("recent_exhaustion_rate").unwrap_or_default();
    let (waits, p95) = (of("wait_us.count").unwrap_or_default(), of("wait_us.p95").unwrap_or_default());
    let is_long = waits >= LEAST_WAITS && share(waits, requests)? >= WAITING_SHARE && p95 >= LONG_WAIT_US;
    let found = if exhaustion > EXHAUSTION_RATE {
        format!("{} of the requests of the last five minutes found no connection in time", percent(exhaustion))
    } else if is_long {
        format!("{waits} of {requests} requests had to wait, one in twenty of those {:.0} ms or longer", p95 / 1e3)
    } else {
        return None;
    };
    Some(Judgement {
        sample: requests,
        message: format!("The pool is too small: {found}"),
        remedy: "raise `pool.size` or `pool.max_overflow`, or call from fewer threads at the same time (a database in memory has one \
                 connection: use a file)"
            .to_owned(),
        evidence: vec![
            ("recent_exhaustion_rate", Value::from(exhaustion)),
            ("waits", number(waits)),
            ("wait_p95_us", number(p95)),
            ("requests", number(requests)),
            ("pool_size", number(stats.count("pool.pool_size"))),
        ],
    })
}

/// What the library holds, by the member of `memory`, and what makes it less.
const HOLDINGS: [(&str, &str, &str); 5] = [
    ("caches_mb.execution", "the cache `execution`", "lower `cache.execution.max_mb`"),
    ("caches_mb.prepared", "the cache `prepared`", "lower `cache.prepared.max_mb`"),
    ("caches_mb.metadata", "the cache `metadata`", "lower `cache.metadata.max_mb`"),
    ("vectors_mb", "the embeddings", "open the library with `store.vectors` = `int8`, or give fewer skills embeddings"),
    ("pool_mb", "the connections", "lower `pool.size` and `pool.max_overflow`"),
];

/// Where the library itself holds little there is nothing to change about it: then the host is what is large.
fn memory(stats: &Stats) -> Option<Judgement> {
    let of = |name: &str| stats.number(&format!("memory.{name}"));
    let (used, threshold, rss) = (of("percent")?, of("threshold")? * 100.0, of("rss_mb")?);
    let held = HOLDINGS.map(|holding| (holding, of(holding.0).unwrap_or_default()));
    let total: f64 = held.iter().map(|(_, size)| size).sum();
    let ((_, largest, remedy), size) = held.into_iter().rev().max_by(|a, b| a.1.total_cmp(&b.1))?;
    (used >= threshold).then(|| Judgement {
        sample: total,
        message: format!(
            "High memory usage detected: {used:.1}% ({rss:.1} MB), of which the library holds {total:.1} MB, {largest} most: {size:.1} MB"
        ),
        remedy: remedy.to_owned(),
        evidence: vec![
            ("percent", Value::from(used)),
            ("threshold", Value::from(threshold)),
            ("rss_mb", Value::from(rss)),
            ("held_mb", Value::from(total)),
            ("largest_mb", Value::from(size)),
        ],
    })
}

fn quarantine(stats: &Stats) -> Option<Judgement> {
    let quarantined = stats.number("store.states.quarantined")?;
    let skills = stats.count("store.skills");
    (quarantined > 0.0).then(|| Judgement {
        sample: quarantined,
        message: format!("Skills are quarantined, and neither run nor found: {quarantined} of {skills}"),
        remedy: "list them (the filter `state` = `quarantined`), and give them new content, the state `active` or the state `retired`".to_owned(),
        evidence: vec![("quarantined", number(quarantined)), ("skills", number(skills))],
    })
}

/// Runs of which a smaller part than this looks for a result do not make use of the cache.
const RARELY_ASKED: f64 = 0.1;

/// A cache that is off is meant to be.
fn nothing_cached(stats: &Stats) -> Option<Judgement> {
    let (runs, lookups) = (stats.number("runs.total")?, stats.lookups("execution")?);
    let is_on = stats.number("caches.execution.max_size")? > 0.0;
    (is_on && share(lookups, runs)? < RARELY_ASKED).then(|| Judgement {
        sample: runs,
        message: format!("Hardly anything is cached: {lookups} of {runs} runs looked for a result"),
        remedy: "see by `validate` why the skills are not taken for deterministic, and set their `cache` to `yes` where their results may be kept \
                 all the same"
            .to_owned(),
        evidence: vec![("lookups", number(lookups)), ("runs", number(runs)), ("threshold", Value::from(RARELY_ASKED))],
    })
}

/// A document of statistics, or anything else.
struct Stats<'s>(&'s Value);

impl Stats<'_> {
    fn member(&self, path: &str) -> Option<&Value> {
        path.split('.').try_fold(self.0, |value, name| value.get(name))
    }

    /// A number that can be one of statistics.
    fn number(&self, path: &str) -> Option<f64> {
        self.member(path)?.as_f64().filter(|number| (0.0..=u64::MAX as f64).contains(number))
    }

    /// The same where none is zero.
    fn count(&self, path: &str) -> f64 {
        self.number(path).unwrap_or_default()
    }

    fn text(&self, path: &str) -> Option<&str> {
        self.member(path)?.as_str()
    }

    fn lookups(&self, cache: &str) -> Option<f64> {
        let of = |name: &str| self.number(&format!("caches.{cache}.{name}"));
        Some(of("hits")? + of("misses")?)
    }
}

/// No part of nothing can be told.
fn share(part: f64, whole: f64) -> Option<f64> {
    Some(part / whole).filter(|share| whole > 0.0 && share.is_finite())
}

fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

/// The next smaller whole number.
fn whole(number: f64) -> u64 {
    // Saturates.
    number as u64
}

/// A number as the document has it: whole ones without a point.
fn number(number: f64) -> Value {
    let whole = whole(number);
    if whole as f64 == number { Value::from(whole) } else { Value::from(number) }
}

#[cfg(test)]
mod tests;
