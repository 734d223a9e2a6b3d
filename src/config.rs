//! THE option table: every option there is, with its name, type, range, default and prose.
//!
//! An option exists only as a row here. [`Config::set`] checks text against the row, `docs/CONFIGURATION.md` is
//! generated from the rows, and the reference system's own option names are accepted as aliases (with a factor where
//! it counted in another unit).

use std::fmt::Write as _;

use crate::error::{Code, Error, Result, hint, nearest};

/// What values an option takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// A whole number within these bounds, both included.
    Integer {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
        /// What is counted.
        unit: &'static str,
    },
    /// The same, or `auto`.
    Derived {
        /// The smallest.
        min: u64,
        /// The largest.
        max: u64,
        /// What is counted.
        unit: &'static str,
        /// What `auto` means.
        auto: &'static str,
    },
    /// A number within these bounds, both included.
    Ratio {
        /// The smallest.
        min: f64,
        /// The largest.
        max: f64,
    },
    /// `true` or `false` (also `1`, `0`, `on`, `off`, `yes`, `no`).
    Switch,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Any text.
    Text,
    /// Any of these words, separated by commas or white space.
    Words(&'static [&'static str]),
    /// Dotted names of modules, separated by commas or white space.
    Modules {
        /// Whether `*` stands for all.
        star: bool,
    },
}

/// A name under which the reference system knew an option, and how many of our units one of its units is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Alias {
    /// The reference's name.
    pub name: &'static str,
    /// Its value times this is ours.
    pub factor: u64,
}

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OptionRow {
    /// `room.option`.
    pub name: &'static str,
    /// Type and range.
    pub kind: Kind,
    /// The default, spelled as it would be set.
    pub default: &'static str,
    /// The reference's names.
    pub aliases: &'static [Alias],
    /// What it does.
    pub prose: &'static str,
}

macro_rules! options {
    ($($field:ident: $type:ty, $name:literal, $kind:expr, $default:literal,
       [$($alias:literal $(* $factor:literal)?),*], $prose:literal;)*) => {
        /// The whole table, in the order of the documentation.
        pub const OPTIONS: &[OptionRow] = &[$(OptionRow {
            name: $name,
            kind: $kind,
            default: $default,
            aliases: &[$(Alias { name: $alias, factor: 1 $(* $factor)? }),*],
            prose: $prose,
        }),*];

        /// The settings of a library. Starts with the defaults; [`set`](Config::set) changes one option.
        ///
        /// A plain value: clone it, keep it, open several libraries with it.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Config {
            $(pub(crate) $field: $type,)*
        }

        impl Default for Config {
            fn default() -> Self {
                const PROOF: &str = "every default lies in its own range: tests::defaults_are_in_range";
                let mut rows = OPTIONS.iter();
                Config { $($field: {
                    let row = rows.next().expect("one row a field: both come from one macro repetition");
                    <$type>::read(row, row.default, 1).expect(PROOF)
                },)* }
            }
        }

        impl Config {
            fn assign(&mut self, row: &OptionRow, value: &str, factor: u64) -> Result<()> {
                match row.name {
                    $($name => self.$field = <$type>::read(row, value, factor)?,)*
                    _ => return Err(unknown(row.name)),
                }
                Ok(())
            }
        }
    };
}

const HOURS: Kind = Kind::Integer { min: 0, max: 315_360_000, unit: "s" };
const ENTRIES: Kind = Kind::Integer { min: 0, max: 100_000_000, unit: "entries" };
const MEBIBYTES: Kind = Kind::Integer { min: 1, max: 1_048_576, unit: "MiB" };

options! {
    cache_execution_enabled: bool, "cache.execution.enabled", Kind::Switch, "true", ["enable_result_cache"],
        "Whether results are cached at all. Off, every run runs, whatever the skill or the call asks for.";
    cache_execution_max_entries: u64, "cache.execution.max_entries", ENTRIES, "1000", ["max_execution_cache_size"],
        "How many results are kept in memory; which one leaves for another is `cache.execution.policy`'s to say. 0 keeps none.";
    cache_execution_max_mb: u64, "cache.execution.max_mb", MEBIBYTES, "128", [],
        "How much memory the results may take, keys, overhead and the texts by which they are found included. A result that would take more \
         than an eighth of seven eighths of it (of a shard's part of that) is not kept, and is counted.";
    cache_execution_ttl_s: u64, "cache.execution.ttl_s", HOURS, "86400", ["execution_cache_ttl_hours" * 3600],
        "How long a result may be handed out, unless the skill or the call says otherwise. 0 keeps none. It \
         is settled when a result is kept: a shorter one holds for what is kept from then on. Time does not go on while the machine \
         is suspended.";
    cache_execution_policy: String, "cache.execution.policy", Kind::Choice(&["lru", "2q"]), "lru", [],
        "Which result leaves a full cache. `lru`: the least recently used one. `2q`: one of the newcomers, unless they are less than a tenth or \
         have been asked for three times; for workloads with many inputs that never come back. `ghost_hits` in the statistics says what \
         the other one would have won.";
    cache_execution_shards: u64, "cache.execution.shards", Kind::Integer { min: 0, max: 256, unit: "shards" }, "0", [],
        "Into how many parts the results are divided, so that threads are not in each other's way. Order and bounds are exact within each part \
         alone. 0: one up to 4095 entries, and 16 from there on.";
    cache_prepared_enabled: bool, "cache.prepared.enabled", Kind::Switch, "true", ["enable_compilation_cache"],
        "Whether parsed skills (slots, determinism, the interpreter's verdict) are kept in memory.";
    cache_prepared_max_entries: Option<u64>, "cache.prepared.max_entries",
        Kind::Derived { min: 0, max: 100_000_000, unit: "entries", auto: "half of `cache.execution.max_entries`, and at least 1" }, "auto", [],
        "How many parsed skills are kept in memory.";
    cache_prepared_max_mb: u64, "cache.prepared.max_mb", MEBIBYTES, "64", [],
        "How much memory the parsed skills may take. One that would take more than an eighth of it is not kept, and is counted.";
    cache_prepared_ttl_s: Option<u64>, "cache.prepared.ttl_s",
        Kind::Derived { min: 0, max: 630_720_000, unit: "s", auto: "twice `cache.execution.ttl_s`" }, "auto", [],
        "How long a parsed skill is kept.";
    cache_metadata_max_entries: u64, "cache.metadata.max_entries", ENTRIES, "500", ["max_metadata_cache_size"],
        "How many skill records are kept in memory. A record is never used unless it is known to be what the database holds.";
    cache_metadata_max_mb: u64, "cache.metadata.max_mb", MEBIBYTES, "64", [],
        "How much memory the skill records may take. One that would take more than an eighth of it is not kept, and is counted.";
    cache_metadata_ttl_s: u64, "cache.metadata.ttl_s", HOURS, "259200", ["metadata_cache_ttl_hours" * 3600],
        "How long a skill record is kept.";
    cache_alert_threshold: f64, "cache.alert_threshold", Kind::Ratio { min: 0.0, max: 1.0 }, "0.85", ["cache_utilization_threshold"],
        "The share of its entries, or of its bytes, at which a cache raises the event `cache_utilization`: when it is reached or exceeded, once \
         per crossing, and again only after less than 80/85 of it was in use.";
    cache_alert_interval_s: u64, "cache.alert_interval_s", Kind::Integer { min: 0, max: 31_536_000, unit: "s" }, "60", [],
        "The least time between two such events about the same bound of the same cache. A crossing within it is told when it is over, if the \
         cache is still as full.";
    pool_size: u64, "pool.size", Kind::Integer { min: 1, max: 1000, unit: "connections" }, "10", ["pool_size"],
        "How many database connections are kept. They are opened when first needed. `:memory:` has one, and no overflow.";
    pool_max_overflow: u64, "pool.max_overflow", Kind::Integer { min: 0, max: 1000, unit: "connections" }, "20", ["max_overflow"],
        "How many connections may be opened beyond `pool.size`. They are opened as soon as all others are in use, and closed when they come back and \
         nobody waits.";
    pool_timeout_ms: u64, "pool.timeout_ms", Kind::Integer { min: 1, max: 3_600_000, unit: "ms" }, "30000", ["pool_timeout" * 1000],
        "How long a call waits for a connection, and for another process's write, before it fails. Who asked first gets a connection first.";
    pool_recycle_s: u64, "pool.recycle_s", Kind::Integer { min: 1, max: 315_360_000, unit: "s" }, "3600", ["pool_recycle"],
        "The age from which on a connection is replaced, when it is next asked for or comes back. Does not apply to `:memory:`.";
    pool_leak_after_s: u64, "pool.leak_after_s", Kind::Integer { min: 1, max: 31_536_000, unit: "s" }, "60", [],
        "A connection that has been in use for longer is counted in `leaks`, and raises the event `pool_leak`.";
    pool_alert_interval_s: u64, "pool.alert_interval_s", Kind::Integer { min: 0, max: 31_536_000, unit: "s" }, "300", [],
        "The least time between two events of the pool of the same kind. The first is raised at once.";
    store_network_files: String, "store.network_files", Kind::Choice(&["refuse", "allow"]), "refuse", [],
        "What is done with a database on a file system that several machines share, or a guest and its host (NFS, SMB, 9P, virtiofs, SSHFS and \
         others; docs/STORE.md lists them). `refuse` does not open it: such a file is damaged sooner or later. `allow` is for a file \
         that only one machine ever opens.";
    store_access: String, "store.access", Kind::Choice(&["read_write", "read_only"]), "read_write", [],
        "`read_only` creates and changes nothing: no schema is brought forward, puts and removals are refused with `SKC_E_UNSUPPORTED`, and how \
         often skills are used is counted in memory alone. A damaged file is opened as far as it can be read, and said to be damaged. For reading \
         and exporting what is left of one, and for libraries on a read-only disk.";
    store_check_on_open: bool, "store.check_on_open", Kind::Switch, "true", [],
        "Whether every page of the file is checked in the background, once, a second after it was opened. `health` has the result, and damage raises \
         the event `store_damaged`.";
    store_quarantine_after: u64, "store.quarantine_after", Kind::Integer { min: 0, max: 1_000_000, unit: "failures" }, "0", [],
        "After how many failures in a row a skill is set aside (`state = quarantined`): it is not run and not found until it gets new content \
         or its state is set. Runs that were carried out count, and only what is the skill's fault: `error`, `no_result`, `invalid_output`, \
         `timeout`, `crashed` and the limits. 0: never.";
    store_results_enabled: bool, "store.results.enabled", Kind::Switch, "true", [],
        "Whether results are kept in the database too, so that they outlive the process. What is not kept in memory \
         (`cache`, `cache.execution.*`) is not kept there either. Not for `:memory:`, and not with \
         `python.site_packages`: no key knows which version a package has.";
    store_results_max_entries: u64, "store.results.max_entries", ENTRIES, "10000", [],
        "How many results the database keeps; the oldest leave first.";
    store_results_max_mb: u64, "store.results.max_mb", MEBIBYTES, "64", [],
        "How much of the database the results may take. One that would take more than an eighth of it is not kept there, and is counted.";
    store_vectors: String, "store.vectors", Kind::Choice(&["f32", "int8"]), "f32", [],
        "How embeddings are kept in memory once one was searched for. `f32`: as they are, 4 bytes a number. `int8`: 1 byte a number, several times \
         faster to search; the best candidates are ranked anew by what is stored, so that scores are exact, and a skill is missed only if \
         rounding puts it behind four times as many as were asked for.";
    sandbox_mode: String, "sandbox.mode", Kind::Choice(&["strict", "best_effort"]), "strict", [],
        "`strict` refuses to run anything unless every guarantee of docs/SECURITY.md holds on this machine, which is found out by trying, \
         and names what is missing. `best_effort` runs with what there is; every result says at which level it ran.";
    sandbox_without: String, "sandbox.without", Kind::Words(&["namespaces", "landlock", "seccomp"]), "", [],
        "Layers that are not to be used, for finding out what is in a skill's way, and for hosts where one does harm. `strict` may refuse then.";
    sandbox_start: String, "sandbox.start", Kind::Choice(&["cold"]), "cold", [],
        "How a run gets its interpreter. `cold` starts a fresh one for every run.";
    sandbox_timeout_ms: u64, "sandbox.timeout_ms", Kind::Integer { min: 1, max: 86_400_000, unit: "ms" }, "30000", ["execution_timeout" * 1000],
        "Wall-clock time of one run, from when its start is asked for.";
    sandbox_max_cpu_s: u64, "sandbox.max_cpu_s", Kind::Integer { min: 1, max: 86_400, unit: "s" }, "10", [],
        "Processor time of one run. Ends as `timeout`.";
    sandbox_max_memory_mb: u64, "sandbox.max_memory_mb", Kind::Integer { min: 32, max: 1_048_576, unit: "MiB" }, "128", ["max_memory"],
        "Address space of one run, interpreter included (it needs about 20 MiB), per process. NumPy 2.4 needs 98 MiB to be imported and 147 for \
         linear algebra, FFT and random numbers in one skill: give such skills 256.";
    sandbox_max_file_mb: u64, "sandbox.max_file_mb", Kind::Integer { min: 0, max: 1_048_576, unit: "MiB" }, "64", [],
        "Size of a run's private folder, and of the largest file in it. The folder is removed afterwards.";
    sandbox_max_open_files: u64, "sandbox.max_open_files", Kind::Integer { min: 16, max: 65_536, unit: "descriptors" }, "64", [],
        "How many descriptors a run may have open.";
    sandbox_max_threads: u64, "sandbox.max_threads", Kind::Integer { min: 1, max: 65_536, unit: "threads" }, "16", [],
        "How many threads a run may have, its first included, where a user namespace counts them (a host without privilege); elsewhere \
         memory bounds them.";
    sandbox_max_output_kb: u64, "sandbox.max_output_kb", Kind::Integer { min: 0, max: 1_048_576, unit: "KiB" }, "1024", [],
        "How much of stdout, and of stderr, is kept. The rest is dropped and flagged; the run goes on.";
    sandbox_max_answer_kb: u64, "sandbox.max_answer_kb", Kind::Integer { min: 1, max: 1_048_576, unit: "KiB" }, "8192", [],
        "The largest answer, as JSON text. A larger one ends as `output_limit`.";
    python_executable: String, "python.executable", Kind::Text, "python3", [],
        "The interpreter: a path, or a name looked up in PATH. It may be a shim; the real executable is asked for once.";
    python_site_packages: String, "python.site_packages", Kind::Text, "off", [],
        "`off`: skills see the standard library alone. `on`: also the interpreter's own site-packages. Anything else is \
         an absolute path that is added to `sys.path`. For a virtual environment, name its interpreter in `python.executable` and say `on`. What \
         packages need in memory: `sandbox.max_memory_mb`.";
    policy_mode: String, "policy.mode", Kind::Choice(&["enforce", "warn", "off"]), "enforce", [],
        "What a finding of severity `error` does. `enforce` refuses the skill (`SKC_E_SECURITY`, or the outcome `rejected` for a \
         version that is stored already), `warn` only says so, `off` does not look. `docs/POLICY.md` has the rules.";
    policy_allow_imports: String, "policy.allow_imports", Kind::Modules { star: false }, "", [],
        "Modules, each with everything below it, about which nothing is said. Of this list and the next the longer name decides.";
    policy_deny_imports: String, "policy.deny_imports", Kind::Modules { star: true }, "", [],
        "Modules, each with everything below it, whose import is an error. `*` denies every module that is not allowed.";
    inject_fallback: String, "inject.fallback", Kind::Choice(&["off", "lexical"]), "off", [],
        "What `inject` does with a source that does not parse. `off` refuses it. `lexical` looks for complete top-level statements \
         `NAME = {...}` by tokens, replaces their dicts, and refuses if a name with data has none; the answer says which way it was.";
    memory_enabled: bool, "memory.enabled", Kind::Switch, "true", ["enable_memory_monitoring"],
        "Whether this process's memory figures are read, for statistics, reports and alerts. Where they cannot be read the statistics say \
         `unavailable`, and all else works.";
    memory_report_interval_s: u64, "memory.report_interval_s", Kind::Integer { min: 0, max: 31_536_000, unit: "s" }, "1800", [],
        "How often the event `memory_report` comes by itself. 0: only when it is asked for, and before `memory_high`.";
    memory_check_interval_ms: u64, "memory.check_interval_ms", Kind::Integer { min: 10, max: 86_400_000, unit: "ms" }, "5000", [],
        "How often the figures are looked at. It takes about a tenth of a millisecond each time.";
    memory_alert_threshold: f64, "memory.alert_threshold", Kind::Ratio { min: 0.0, max: 1.0 }, "0.8", [],
        "The share of what this process may use (its container's limit, or else the machine's memory) from which on the event `memory_high` is \
         raised, once per crossing.";
    memory_alert_interval_s: u64, "memory.alert_interval_s", Kind::Integer { min: 0, max: 31_536_000, unit: "s" }, "60", [],
        "The least time between two such events. A crossing within it is told when it is over, if memory is still as high.";
    memory_shrink_caches: bool, "memory.shrink_caches", Kind::Switch, "false", [],
        "Whether memory above the threshold empties the older half of each cache and lets go of the embeddings in memory: at once, and again \
         every `memory.alert_interval_s` while it stays there. The event `memory_shrunk` says what that freed. What is freed goes to this process's allocator, which may keep it for what comes next.";
    monitor_enabled: bool, "monitor.enabled", Kind::Switch, "true", [],
        "Whether latencies are measured, and events, log lines and curves recorded. Counters always are.";
    monitor_event_capacity: u64, "monitor.event_capacity", Kind::Integer { min: 1, max: 1_000_000, unit: "events" }, "1024", [],
        "How many events wait to be read, and how many log lines for the callback; when full, the oldest is dropped and counted.";
    monitor_alert_interval_s: u64, "monitor.alert_interval_s", Kind::Integer { min: 0, max: 86_400, unit: "s" }, "60", [],
        "The least time between two events about the same skill and the same way to fail. The next one says how many were left out.";
    monitor_slow_run_ms: u64, "monitor.slow_run_ms", Kind::Integer { min: 0, max: 86_400_000, unit: "ms" }, "5000", [],
        "From when on a run counts as slow. 0: never.";
    monitor_history_interval_s: u64, "monitor.history_interval_s", Kind::Integer { min: 0, max: 86_400, unit: "s" }, "10", [],
        "How far apart the samples of the history are, of which the newest 360 are kept. 0: there are none.";
    monitor_log_level: String, "monitor.log_level", Kind::Choice(&["off", "error", "warn", "info", "debug", "trace"]), "info", [],
        "What the log callback hears: this, and what matters more. `debug` has every run that is executed, `trace` every run. What `tracing` \
         hears is for its subscriber to say.";
    monitor_health_timeout_ms: u64, "monitor.health_timeout_ms", Kind::Integer { min: 1, max: 600_000, unit: "ms" }, "5000",
        ["health_check_timeout_seconds" * 1000],
        "How long each component of the health report has to answer. They are asked side by side, so that this is about how long the report takes \
         at most; what has not answered by then is `unhealthy`, and is not asked again before it has.";
    task_workers: u64, "task.workers", Kind::Integer { min: 1, max: 1024, unit: "threads" }, "4", [],
        "How many submitted tasks run at the same time. Threads are started when first needed.";
    task_queue: u64, "task.queue", Kind::Integer { min: 1, max: 1_000_000, unit: "tasks" }, "1024", [],
        "How many submitted tasks may wait, of all skills together; one more is refused with `SKC_E_BUSY`. Skills that wait take turns.";
}

impl Config {
    /// Sets one option from text.
    ///
    /// Fails with [`Code::Invalid`]: an unknown option (with the nearest known one as suggestion), or a value out of
    /// its range (which the message states). The configuration is unchanged then.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        let found = OPTIONS.iter().find_map(|row| {
            let alias = || row.aliases.iter().find(|alias| alias.name == key).map(|alias| alias.factor);
            (row.name == key).then_some(1).or_else(alias).map(|factor| (row, factor))
        });
        let (row, factor) = found.ok_or_else(|| unknown(key))?;
        self.assign(row, value, factor)
    }
}

fn unknown(key: &str) -> Error {
    let names = OPTIONS.iter().flat_map(|row| std::iter::once(row.name).chain(row.aliases.iter().map(|a| a.name)));
    // What skills and calls call a limit is its name without the room.
    let limit = OPTIONS.iter().find(|row| crate::limits::short_name(row) == Some(key)).map(|row| row.name);
    let meant = limit.or_else(|| nearest(key, names));
    let hint = hint(meant, || "; docs/CONFIGURATION.md lists them".to_owned());
    Error::invalid(format!("unknown option `{key}`{hint}")).path(key).suggestion(meant)
}

trait Setting: Sized {
    /// Reads a value of this row from text, multiplied by an alias's factor.
    fn read(row: &OptionRow, text: &str, factor: u64) -> Result<Self>;
}

fn refuse(row: &OptionRow, text: &str) -> Error {
    Error::new(Code::Invalid, format!("option `{}` cannot be `{text}`: it takes {}", row.name, row.kind.range()))
        .path(row.name)
        .rule("range")
}

impl Setting for u64 {
    fn read(row: &OptionRow, text: &str, factor: u64) -> Result<Self> {
        let Kind::Integer { min, max, .. } = row.kind else { return Err(refuse(row, text)) };
        let whole = text.trim().parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
        // The reference's hours and seconds may be fractions; ours are whole after the factor.
        let fraction = || {
            let scaled = text.trim().parse::<f64>().ok()? * factor as f64;
            ((0.0..9e15).contains(&scaled) && scaled.fract() == 0.0).then_some(scaled as u64)
        };
        whole.or_else(fraction).filter(|number| (min..=max).contains(number)).ok_or_else(|| refuse(row, text))
    }
}

impl Setting for Option<u64> {
    fn read(row: &OptionRow, text: &str, factor: u64) -> Result<Self> {
        let Kind::Derived { min, max, unit, .. } = row.kind else { return Err(refuse(row, text)) };
        if text.trim() == "auto" {
            return Ok(None);
        }
        let number = u64::read(&OptionRow { kind: Kind::Integer { min, max, unit }, ..*row }, text, factor);
        number.map(Some).map_err(|_| refuse(row, text))
    }
}

impl Setting for f64 {
    fn read(row: &OptionRow, text: &str, _factor: u64) -> Result<Self> {
        let Kind::Ratio { min, max } = row.kind else { return Err(refuse(row, text)) };
        let number = text.trim().parse::<f64>().ok();
        number.filter(|number| (min..=max).contains(number)).ok_or_else(|| refuse(row, text))
    }
}

impl Setting for bool {
    fn read(row: &OptionRow, text: &str, _factor: u64) -> Result<Self> {
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "on" | "yes" => Ok(true),
            "false" | "0" | "off" | "no" => Ok(false),
            _ => Err(refuse(row, text)),
        }
    }
}

impl Setting for String {
    fn read(row: &OptionRow, text: &str, _factor: u64) -> Result<Self> {
        match row.kind {
            Kind::Choice(words) if !words.contains(&text) => Err(refuse(row, text)),
            Kind::Words(words) if module_names(text).any(|word| !words.contains(&word)) => Err(refuse(row, text)),
            Kind::Modules { star } if !are_modules(text, star) => Err(refuse(row, text)),
            _ if text.contains('\0') => Err(refuse(row, &text.replace('\0', "\\0"))),
            _ => Ok(text.to_owned()),
        }
    }
}

/// Whether a text is a list of dotted names.
fn are_modules(text: &str, star: bool) -> bool {
    let is_name = |part: &str| {
        part.chars().all(|c| c.is_alphanumeric() || c == '_') && part.starts_with(|c: char| !c.is_ascii_digit())
    };
    module_names(text).all(|name| (star && name == "*") || name.split('.').all(is_name))
}

/// The names in a list of modules.
pub(crate) fn module_names(list: &str) -> impl Iterator<Item = &str> {
    list.split([',', ' ', '\t', '\n', '\r']).filter(|name| !name.is_empty())
}

impl Kind {
    pub(crate) fn range(self) -> String {
        match self {
            Kind::Integer { min, max, unit } => format!("a whole number from {min} to {max} ({unit})"),
            Kind::Derived { min, max, unit, auto } => {
                format!("a whole number from {min} to {max} ({unit}), or `auto`: {auto}")
            }
            Kind::Ratio { min, max } => format!("a number from {min} to {max}"),
            Kind::Switch => "true or false".to_owned(),
            Kind::Choice(words) => format!("one of: {}", words.join(", ")),
            Kind::Words(words) => format!("any of: {}", words.join(", ")),
            Kind::Text => "text without NUL".to_owned(),
            Kind::Modules { star } => {
                let or_all = if star { "; `*` stands for all" } else { "" };
                format!("names of modules such as `json` or `os.path`, separated by commas{or_all}")
            }
        }
    }
}

/// The text of `docs/CONFIGURATION.md`.
pub fn documentation() -> String {
    let mut page = String::from(
        "# Configuration\n\nGenerated from the option table in `src/config.rs` by `make header`; do not edit.\n\n\
         Options are text, set by `skc_config_set`, the mapping given to `skillcache.open`, or `Config::set`. An unknown \
         name or a value out of range is refused with `SKC_E_INVALID`, and the message says what would be right.\n\
         An alias is the reference system's own name; where it counts in another unit, the factor is given.\n\n\
         Options that are also *limits* can be set by a skill (a member of its `limits`, or the field of that name) and by a call \
         (an option of that name) in the same ranges. A call's counts before the skill's, and the skill's before the library's. Each may \
         be larger than the next one's: the host sets all three, and what a skill's code does sets none.\n",
    );
    for row in OPTIONS {
        let _ = write!(
            page,
            "\n## `{}`\n\n{}\n\n* Takes {}.\n* Default: `{}`.\n",
            row.name,
            row.prose,
            row.kind.range(),
            row.default
        );
        if let Some(name) = crate::limits::short_name(row) {
            let _ = writeln!(page, "* Limit: `{name}` for a skill and for a call.");
        }
        for alias in row.aliases {
            let times = if alias.factor == 1 { String::new() } else { format!(" (times {})", alias.factor) };
            let _ = writeln!(page, "* Alias: `{}`{times}.", alias.name);
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_range() {
        let config = Config::default();
        assert_eq!(config.cache_execution_max_entries, 1000);
        assert_eq!(config.sandbox_mode, "strict");
        for row in OPTIONS {
            let mut again = Config::default();
            again.set(row.name, row.default).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(again, config, "{}", row.name);
        }
    }

    #[test]
    fn names_and_aliases_are_unique() {
        let mut names: Vec<_> =
            OPTIONS.iter().flat_map(|row| row.aliases.iter().map(|a| a.name).chain([row.name])).collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn aliases_count_in_their_own_unit() {
        let mut config = Config::default();
        config.set("execution_cache_ttl_hours", "2").expect("alias");
        config.set("execution_timeout", "1.5").expect("alias with a fraction");
        assert_eq!((config.cache_execution_ttl_s, config.sandbox_timeout_ms), (7200, 1500));
    }

    #[test]
    fn an_unknown_name_says_what_was_meant() {
        let error = Config::default().set("sandbox.timeout", "1").expect_err("unknown");
        assert_eq!(error.code(), Code::Invalid);
        assert_eq!(error.details().suggestion.as_deref(), Some("sandbox.timeout_ms"));
        let error = Config::default().set("max_cpu_s", "1").expect_err("that is what calls say");
        assert_eq!(error.details().suggestion.as_deref(), Some("sandbox.max_cpu_s"));
    }

    #[test]
    fn a_bad_value_states_the_range_and_changes_nothing() {
        let mut config = Config::default();
        for (key, value) in [
            ("sandbox.timeout_ms", "0"),
            ("sandbox.timeout_ms", "-1"),
            ("sandbox.timeout_ms", "soon"),
            ("pool.size", "1.5"),
            ("cache.alert_threshold", "1.01"),
            ("cache.alert_threshold", "NaN"),
            ("memory.enabled", "perhaps"),
            ("sandbox.mode", "Strict"),
            ("sandbox.start", "warm"),
            ("policy.mode", "strict"),
            ("policy.allow_imports", "*"),
            ("policy.deny_imports", "os;sys"),
            ("policy.deny_imports", "os..path"),
            ("python.executable", "a\0b"),
        ] {
            let error = config.set(key, value).expect_err(value);
            assert!(error.message().contains("it takes"), "{error}");
        }
        assert_eq!(config, Config::default());
    }
}
