//! The figures that one looks at first.

use skillcache::json::Value;

use crate::document::{at, count, number, ratio, text};
use crate::page::shown;
use crate::units;

struct Tile {
    name: &'static str,
    figure: String,
    note: String,
}

fn tile(name: &'static str, figure: Option<String>, note: String) -> Tile {
    Tile { name, figure: figure.unwrap_or_else(|| "–".to_owned()), note }
}

pub fn section(document: &Value) -> String {
    let Some(stats) = at(document, "stats") else {
        return crate::page::nothing_yet("There are no statistics.");
    };
    let [runs, success] = runs(stats);
    let tiles = [
        runs,
        success,
        hits(stats),
        times(stats, "executed", "Executed, median"),
        times(stats, "cached", "From memory, median"),
        memory(stats),
        skills(stats),
        tile("Open for", number(stats, "uptime_s").map(units::span), version(stats)),
    ];
    let tiles: String = tiles
        .iter()
        .map(|tile| format!("<div><dt>{}</dt><dd>{}<small>{}</small></dd></div>", tile.name, tile.figure, tile.note))
        .collect();
    format!("<dl class=\"tiles\">{tiles}</dl>")
}

/// Since the opening; or, if nothing ran since, since the skills were put.
fn runs(stats: &Value) -> [Tile; 2] {
    let total = count(stats, "runs.total");
    let (total, succeeded, note) = if total > 0.0 {
        let (cached, executed) = (count(stats, "runs.cached"), count(stats, "runs.executed"));
        let note = format!("{} from memory, {} executed", units::count(cached), units::count(executed));
        (total, count(stats, "runs.by_outcome.success"), note)
    } else {
        let used = count(stats, "store.usage_count");
        let note = if used > 0.0 { "since the skills were put, none since the opening" } else { "none yet" };
        (used, count(stats, "store.success_count"), note.to_owned())
    };
    let others = match total - succeeded {
        0.0 if total > 0.0 => "every run".to_owned(),
        others if others > 0.0 => format!("{} ended otherwise", units::count(others)),
        _ => String::new(),
    };
    [tile("Runs", Some(units::count(total)), note), tile("Success", ratio(succeeded, total).map(units::share), others)]
}

fn hits(stats: &Value) -> Tile {
    let (hits, misses) = (count(stats, "caches.execution.hits"), count(stats, "caches.execution.misses"));
    let note = match hits + misses {
        0.0 => "no result was looked for yet".to_owned(),
        lookups => format!("of {} look-ups of results", units::count(lookups)),
    };
    tile("Hit rate", ratio(hits, hits + misses).map(units::share), note)
}

fn times(stats: &Value, of: &str, name: &'static str) -> Tile {
    let percentile = |name: &str| shown(stats, &format!("latency_us.{of}.{name}"), units::micros);
    if count(stats, &format!("latency_us.{of}.count")) == 0.0 {
        return tile(name, None, "nothing was measured yet".to_owned());
    }
    tile(name, Some(percentile("p50")), format!("p95 {}, p99 {}", percentile("p95"), percentile("p99")))
}

fn memory(stats: &Value) -> Tile {
    let Some(resident) = number(stats, "memory.rss_mb") else {
        let off = text(stats, "memory.status") == Some("off");
        return tile("Memory", None, if off { "not watched" } else { "not known" }.to_owned());
    };
    let percent = number(stats, "memory.percent").map(|percent| units::share(percent / 100.0));
    let limit = number(stats, "memory.limit_mb").map(units::mebibytes);
    let note = match (percent, limit) {
        (Some(percent), Some(limit)) => format!("{percent} of {limit}"),
        (Some(percent), None) => format!("{percent} of the machine's"),
        _ => "resident".to_owned(),
    };
    tile("Memory", Some(units::mebibytes(resident)), note)
}

fn skills(stats: &Value) -> Tile {
    let states = ["active", "quarantined", "retired"];
    let states = states.map(|state| (state, count(stats, &format!("store.states.{state}"))));
    let notes: Vec<String> = states
        .iter()
        .filter(|(_, skills)| *skills > 0.0)
        .map(|(state, skills)| format!("{} {state}", units::count(*skills)))
        .collect();
    tile("Skills", number(stats, "store.skills").map(units::count), notes.join(", "))
}

fn version(stats: &Value) -> String {
    text(stats, "version").map(|version| format!("version {}", crate::markup::foreign(version, 40))).unwrap_or_default()
}
