//! The statistics document as OpenMetrics text, row by row of one table: no metric has a number of its own. What is not in the table can be
//! had from what is (shares, rates, quantiles), or is for people.

#[cfg(test)]
mod tests;

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::RunStats;
use crate::json::Value;
use crate::outcome::Outcome;
use Kind::{Counter, Gauge, Histogram, Info};
use Label::{Cached, Each, Nothing, OutcomeAndCached, Texts};
use Measure::{Bytes, Mebibytes, Micros, Millis, Percent, Plain, Seconds};

const PREFIX: &str = "skillcache";

/// One metric.
#[derive(Debug)]
struct Row {
    /// Where in the document: names of members, `*` for every member of an object.
    path: &'static str,
    /// With its unit, without the prefix and without what the format puts behind the names of samples: `_total` and such.
    name: &'static str,
    kind: Kind,
    measure: Measure,
    label: Label,
    help: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    /// A distribution with cumulative buckets.
    Histogram,
    /// Texts, as the labels of the number 1.
    Info,
}

/// What the document's number counts; metrics have base units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Measure {
    Plain,
    Bytes,
    Mebibytes,
    Seconds,
    Millis,
    Micros,
    Percent,
}

/// What tells the samples of a metric apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Label {
    /// There is one sample.
    Nothing,
    /// The name of the member that the path's `*` stands for.
    Each(&'static str),
    /// The members `cached` and `executed`, as whether memory answered.
    Cached,
    /// How runs ended, and whether memory answered: of the runs themselves, because the document does not cross the two.
    OutcomeAndCached,
    /// Members that are texts.
    Texts(&'static [&'static str]),
}

const fn row(
    path: &'static str,
    name: &'static str,
    kind: Kind,
    measure: Measure,
    label: Label,
    help: &'static str,
) -> Row {
    Row { path, name, kind, measure, label, help }
}

const CACHE: Label = Each("cache");

/// Every metric, in the order of the text.
#[rustfmt::skip]
static TABLE: &[Row] = &[
    row("", "build_info", Info, Plain, Texts(&["version"]), "The version of the library"),
    row("uptime_s", "uptime_seconds", Gauge, Seconds, Nothing, "Since the library was opened"),

    row("runs.by_outcome.*", "runs", Counter, Plain, OutcomeAndCached, "Calls to run, by outcome and by whether memory answered"),
    row("latency_us.*", "run_duration_seconds", Histogram, Micros, Cached, "How long calls to run took; of answers from memory a sample"),
    row("runs.refused", "runs_refused", Counter, Plain, Nothing, "Calls to run that could not be carried out"),
    row("runs.slow", "slow_runs", Counter, Plain, Nothing, "Runs that took monitor.slow_run_ms or longer"),
    row("runs.violations", "violations", Counter, Plain, Nothing, "Runs that the sandbox denied something"),

    row("sandbox", "sandbox_info", Info, Plain, Texts(&["mode", "level"]), "How runs are confined; the level is known from the first child on"),
    row("sandbox.children", "children_started", Counter, Plain, Nothing, "Children started, which runs are confined to"),
    row("sandbox.peak_memory_mb", "run_peak_memory_bytes", Gauge, Mebibytes, Nothing, "The largest resident size of any run"),

    row("caches.*.hits", "cache_hits", Counter, Plain, CACHE, "Look-ups that the cache answered"),
    row("caches.*.misses", "cache_misses", Counter, Plain, CACHE, "Look-ups that the cache did not answer"),
    row("caches.*.evictions", "cache_evictions", Counter, Plain, CACHE, "Entries that left a full cache"),
    row("caches.*.expirations", "cache_expirations", Counter, Plain, CACHE, "Entries whose time was up"),
    row("caches.*.refusals", "cache_refusals", Counter, Plain, CACHE, "Entries that were too large to be kept"),
    row("caches.*.coalesced", "cache_coalesced", Counter, Plain, CACHE, "Misses that were answered by a run that was going on already"),
    row("caches.*.ghost_hits", "cache_ghost_hits", Counter, Plain, CACHE, "Misses that the other policy would have answered, estimated"),
    row("caches.*.ghost_misses", "cache_ghost_misses", Counter, Plain, CACHE, "Hits that the other policy would have missed, estimated"),
    row("caches.*.size", "cache_entries", Gauge, Plain, CACHE, "Entries of the cache now"),
    row("caches.*.max_size", "cache_max_entries", Gauge, Plain, CACHE, "Entries of the cache at most"),
    row("caches.*.bytes", "cache_bytes", Gauge, Bytes, CACHE, "What the entries of the cache weigh: values, keys and overhead"),
    row("caches.*.max_bytes", "cache_max_bytes", Gauge, Bytes, CACHE, "What the entries of the cache may weigh"),

    row("pool.total_requests", "pool_requests", Counter, Plain, Nothing, "How often a connection was asked for"),
    row("pool.checkouts", "pool_checkouts", Counter, Plain, Nothing, "How often a connection was lent"),
    row("pool.exhaustion_events", "pool_exhaustions", Counter, Plain, Nothing, "How often no connection became free in time"),
    row("pool.open_failures", "pool_open_failures", Counter, Plain, Nothing, "How often no connection could be opened"),
    row("pool.opened", "pool_opened", Counter, Plain, Nothing, "Connections opened"),
    row("pool.closed", "pool_closed", Counter, Plain, Nothing, "Connections closed"),
    row("pool.discarded", "pool_discarded", Counter, Plain, Nothing, "Connections closed because they were no good any more"),
    row("pool.rolled_back", "pool_rolled_back", Counter, Plain, Nothing, "Connections that came back in a transaction"),
    row("pool.open_connections", "pool_connections", Gauge, Plain, Nothing, "Connections now"),
    row("pool.available_connections", "pool_idle_connections", Gauge, Plain, Nothing, "Connections that nobody uses"),
    row("pool.pool_size", "pool_size", Gauge, Plain, Nothing, "Connections that are kept"),
    row("pool.max_overflow", "pool_max_overflow", Gauge, Plain, Nothing, "Connections that may be opened beyond those that are kept"),
    row("pool.waiting", "pool_waiting", Gauge, Plain, Nothing, "Who waits for a connection"),
    row("pool.leaks", "pool_leaks", Gauge, Plain, Nothing, "Connections that have been in use for too long"),

    row("store.skills", "skills", Gauge, Plain, Nothing, "Skills that are stored and not removed"),
    row("store.states.*", "skills_by_state", Gauge, Plain, Each("state"), "Skills that are stored and not removed, by state"),
    row("store.versions", "store_versions", Gauge, Plain, Nothing, "Versions of skills, those of removed ones included"),
    row("store.file_bytes", "store_file_bytes", Gauge, Bytes, Nothing, "The size of the database"),
    row("store.log_bytes", "store_log_bytes", Gauge, Bytes, Nothing, "The size of the write-ahead log of the database"),
    row("store.usage_unwritten", "store_usage_unwritten", Gauge, Plain, Nothing, "Calls that are counted and not yet in the database"),
    row("store.usage_lag_ms", "store_usage_lag_seconds", Gauge, Millis, Nothing, "Since when the oldest call waits that is counted and not yet in the database"),
    row("store.writer.waiting", "store_writer_waiting", Gauge, Plain, Nothing, "Requests that wait for the writer"),
    row("store.writer.requests", "store_writer_requests", Counter, Plain, Nothing, "Requests that the writer took on"),
    row("store.writer.refused", "store_writer_refused", Counter, Plain, Nothing, "Requests that could not begin in time"),
    row("store.writer.commits", "store_writer_commits", Counter, Plain, Nothing, "Transactions of the writer"),
    row("store.writer.failed_commits", "store_writer_failed_commits", Counter, Plain, Nothing, "Transactions of the writer that failed"),
    row("store.results.entries", "results_entries", Gauge, Plain, Nothing, "Results in the database"),
    row("store.results.bytes", "results_bytes", Gauge, Bytes, Nothing, "What results take in the database"),
    row("store.results.hits", "results_hits", Counter, Plain, Nothing, "Answers found in the database"),
    row("store.results.misses", "results_misses", Counter, Plain, Nothing, "Answers not found in the database"),
    row("store.results.refused", "results_refused", Counter, Plain, Nothing, "Results that were too large, or too many at once, to be kept in the database"),
    row("store.results.damaged", "results_damaged", Counter, Plain, Nothing, "Results found in the database that were not what was written"),
    row("store.embeddings.stored", "embeddings_stored", Gauge, Plain, Nothing, "Skills that have an embedding"),
    row("store.embeddings.loaded_bytes", "embeddings_loaded_bytes", Gauge, Bytes, Nothing, "What embeddings take in memory"),

    row("tasks.submitted", "tasks_submitted", Counter, Plain, Nothing, "Tasks taken on"),
    row("tasks.finished", "tasks_finished", Counter, Plain, Nothing, "Tasks that came to an end"),
    row("tasks.cancelled", "tasks_cancelled", Counter, Plain, Nothing, "Tasks that were cancelled while they waited"),
    row("tasks.refused", "tasks_refused", Counter, Plain, Nothing, "Tasks that a full queue refused"),
    row("tasks.waiting", "tasks_waiting", Gauge, Plain, Nothing, "Tasks that wait for a worker"),
    row("tasks.running", "tasks_running", Gauge, Plain, Nothing, "Tasks that run"),
    row("latency_us.queue", "task_queue_duration_seconds", Histogram, Micros, Nothing, "How long tasks waited for a worker"),

    row("memory.rss_mb", "memory_resident_bytes", Gauge, Mebibytes, Nothing, "Resident memory of this process, without its children"),
    row("memory.vms_mb", "memory_virtual_bytes", Gauge, Mebibytes, Nothing, "Address space of this process, without its children"),
    row("memory.limit_mb", "memory_limit_bytes", Gauge, Mebibytes, Nothing, "Memory that this process may use: the container's limit, or the machine's memory"),
    row("memory.percent", "memory_utilization_ratio", Gauge, Percent, Nothing, "Resident memory as a share of what this process may use, 0 to 1"),

    row("events.recorded", "events_recorded", Counter, Plain, Nothing, "Events so far"),
    row("events.dropped", "events_dropped", Counter, Plain, Nothing, "Events that were pushed out unread"),
    row("logs.recorded", "log_lines_recorded", Counter, Plain, Nothing, "Log lines for the callback so far"),
    row("logs.dropped", "log_lines_dropped", Counter, Plain, Nothing, "Log lines that were pushed out before the callback got them"),
];

/// A metric and its samples.
#[derive(Debug)]
struct Family {
    row: &'static Row,
    samples: Vec<(Labels, Sample)>,
}

type Labels = Vec<(&'static str, String)>;

#[derive(Debug)]
enum Sample {
    Count(u64),
    Integer(i64),
    Float(f64),
    Distribution { sum: f64, count: u64, buckets: Vec<(f64, u64)> },
    Texts,
}

/// By outcome number: executed, answered from memory.
type Counts = [[u64; 2]; Outcome::ALL.len()];

/// The exposition of a statistics document and of the runs that it was made from. What the document has no number for is left out.
pub fn exposition(stats: &Value, runs: &RunStats) -> String {
    text_of(stats, &runs.counts)
}

fn text_of(stats: &Value, runs: &Counts) -> String {
    let families = TABLE.iter().map(|row| row.family(stats, runs)).filter(|family| !family.samples.is_empty());
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Families(families.collect())));
    let mut out = String::new();
    text::encode(&mut out, &registry).expect("writing to a String does not fail");
    out
}

/// Whatever in a document a path leads to; of those below a `*`, which member it stood for.
fn found<'a>(document: &'a Value, path: &str) -> Vec<(&'a str, &'a Value)> {
    let at = |value: &'a Value, path: &str| {
        path.split('.').filter(|name| !name.is_empty()).try_fold(value, |value, name| value.get(name))
    };
    let Some((before, after)) = path.split_once('*') else {
        return at(document, path).map(|value| ("", value)).into_iter().collect();
    };
    let members = at(document, before).and_then(Value::as_object).unwrap_or_default();
    members.iter().filter_map(|(name, value)| Some((name.as_str(), at(value, after)?))).collect()
}

impl Row {
    fn family(&'static self, stats: &Value, runs: &Counts) -> Family {
        let samples = if self.label == OutcomeAndCached {
            crossed(runs)
        } else {
            let found = found(stats, self.path).into_iter();
            found.filter_map(|(member, value)| Some((self.labels(member, value)?, self.sample(value)?))).collect()
        };
        Family { row: self, samples }
    }

    /// Nothing for a member that is none of this metric's.
    fn labels(&self, member: &str, value: &Value) -> Option<Labels> {
        match self.label {
            Nothing | OutcomeAndCached => Some(Vec::new()),
            Each(label) => Some(vec![(label, member.to_owned())]),
            Cached => match member {
                "executed" => Some(vec![("cached", "false".to_owned())]),
                "cached" => Some(vec![("cached", "true".to_owned())]),
                _ => None,
            },
            Texts(names) => {
                let text = |name: &'static str| Some((name, value.get(name)?.as_str()?.to_owned()));
                Some(names.iter().filter_map(|name| text(name)).collect())
            }
        }
    }

    fn sample(&self, value: &Value) -> Option<Sample> {
        match self.kind {
            Counter => count(value).map(Sample::Count),
            Gauge => self.measure.gauge(value),
            Histogram => self.distribution(value),
            Info => value.as_object().map(|_| Sample::Texts),
        }
    }

    /// The document says how many took at most so long; the encoder adds up by itself.
    fn distribution(&self, value: &Value) -> Option<Sample> {
        let member = |name: &str| value.get(name);
        let (sum, total) = (self.measure.base(member("sum")?.as_f64()?), count(member("count")?)?);
        let mut below = 0;
        let mut only = |up_to: u64| {
            let only = up_to.saturating_sub(below);
            below = below.max(up_to);
            only
        };
        let mut buckets = Vec::new();
        for bucket in member("buckets")?.as_array()? {
            let bound = self.measure.base(bucket.get("le")?.as_f64()?);
            buckets.push((bound, only(count(bucket.get("count")?)?)));
        }
        buckets.push((f64::INFINITY, only(total)));
        Some(Sample::Distribution { sum, count: total, buckets })
    }

    /// Without the unit and without `_info`, which the encoder puts behind it.
    fn stem(&self) -> &'static str {
        let suffix = if self.kind == Info { "info" } else { self.measure.unit().unwrap_or("") };
        self.name.strip_suffix(suffix).and_then(|name| name.strip_suffix('_')).unwrap_or(self.name)
    }

    fn encode(&self, samples: &[(Labels, Sample)], encoder: &mut DescriptorEncoder) -> fmt::Result {
        let unit = self.measure.unit().map(|unit| Unit::Other(unit.to_owned()));
        let help = escaped(self.help);
        let mut metric = encoder.encode_descriptor(self.stem(), &help, unit.as_ref(), self.kind.metric_type())?;
        for (labels, sample) in samples {
            match sample {
                Sample::Texts => metric.encode_info(labels)?,
                _ if labels.is_empty() => sample.encode(&mut metric)?,
                _ => sample.encode(&mut metric.encode_family(labels)?)?,
            }
        }
        Ok(())
    }
}

/// A sample for each outcome, executed and from memory, those that never happened included: rates need their zero.
fn crossed(runs: &Counts) -> Vec<(Labels, Sample)> {
    let sample = |outcome: Outcome, cached: &str, count: u64| {
        (vec![("outcome", outcome.name().to_owned()), ("cached", cached.to_owned())], Sample::Count(count))
    };
    let samples = Outcome::ALL.map(|outcome| {
        let [executed, cached] = runs[outcome as usize];
        [sample(outcome, "false", executed), sample(outcome, "true", cached)]
    });
    samples.into_iter().flatten().collect()
}

fn count(value: &Value) -> Option<u64> {
    u64::try_from(value.as_i64()?).ok()
}

/// Help texts as the format wants them; the encoder writes them as they are.
fn escaped(help: &str) -> String {
    help.replace('\\', "\\\\").replace('\n', "\\n").replace('"', "\\\"")
}

impl Kind {
    fn metric_type(self) -> MetricType {
        match self {
            Counter => MetricType::Counter,
            Gauge => MetricType::Gauge,
            Histogram => MetricType::Histogram,
            Info => MetricType::Info,
        }
    }
}

impl Measure {
    fn unit(self) -> Option<&'static str> {
        match self {
            Plain => None,
            Bytes | Mebibytes => Some("bytes"),
            Seconds | Millis | Micros => Some("seconds"),
            Percent => Some("ratio"),
        }
    }

    /// The number in the base unit. Divided, where it is smaller: a product with 0.001 would have a digit too many.
    fn base(self, number: f64) -> f64 {
        match self {
            Plain | Bytes | Seconds => number,
            Mebibytes => (number * f64::from(1 << 20)).round(),
            Millis => number / 1e3,
            Micros => number / 1e6,
            Percent => number / 1e2,
        }
    }

    fn gauge(self, value: &Value) -> Option<Sample> {
        if let (Plain | Bytes, Some(number)) = (self, value.as_i64()) {
            return Some(Sample::Integer(number));
        }
        let number = self.base(value.as_f64()?);
        // Whole bytes, far below the 2^53 up to which floats are exact.
        Some(if self == Mebibytes { Sample::Integer(number as i64) } else { Sample::Float(number) })
    }
}

impl Sample {
    fn encode(&self, encoder: &mut MetricEncoder) -> fmt::Result {
        match self {
            Sample::Count(number) => encoder.encode_counter::<NoLabelSet, _, u64>(number, None),
            Sample::Integer(number) => encoder.encode_gauge(number),
            Sample::Float(number) => encoder.encode_gauge(number),
            Sample::Distribution { sum, count, buckets } => {
                encoder.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None)
            }
            Sample::Texts => Ok(()),
        }
    }
}

#[derive(Debug)]
struct Families(Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        self.0.iter().try_for_each(|family| family.row.encode(&family.samples, &mut encoder))
    }
}
