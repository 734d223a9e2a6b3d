//! What the process takes, how its children are confined, and what it told.

use skillcache::json::Value;

use crate::chart::Scale;
use crate::document::{at, count, items, number, text};
use crate::history::{History, Step, largest, summary};
use crate::markup::{NAME, SENTENCE, foreign};
use crate::page::{Part, blocks, facts, figure, nothing_yet, row, shown, table};
use crate::{clock, ink, units};

/// The most words of a list, and the most events, that are shown.
const MOST_WORDS: usize = 40;
const MOST_EVENTS: usize = 50;

pub fn memory(document: &Value) -> Part {
    let history = History::of(document);
    let resident = |step: &Step| step.most("rss_mb");
    let values = history.values(resident);
    let curve = if history.is_empty() || values.is_empty() {
        nothing_yet("There are no samples of memory over time.")
    } else {
        let note = summary(&values, units::mebibytes);
        let alarm = number(document, "stats.memory.limit_mb").zip(number(document, "stats.memory.threshold"));
        let alarm = alarm.map(|(limit, threshold)| limit * threshold);
        let scale = Scale::of(largest(&values));
        let label = |mebibytes: &f64| if *mebibytes == 0.0 { "0".to_owned() } else { short_size(*mebibytes) };
        let curve = history.curve(ink::FIRST, true, resident);
        let drawing = history.draw(&[curve], (&scale, &label), alarm, ("Resident memory over time", &note))?;
        figure("Resident memory", &note, &drawing, &[])
    };
    let parts = memory_parts(document);
    let limits = memory_limits(document);
    Ok(row(&[curve, limits, parts]))
}

/// A size for an axis: without digits that say nothing.
fn short_size(mebibytes: f64) -> String {
    let (number, unit) = if mebibytes < 1024.0 { (mebibytes, "MiB") } else { (mebibytes / 1024.0, "GiB") };
    let text = format!("{number:.1}");
    format!("{}\u{202f}{unit}", text.strip_suffix(".0").unwrap_or(&text))
}

fn memory_limits(document: &Value) -> String {
    let Some(memory) = at(document, "stats.memory").filter(|memory| at(memory, "rss_mb").is_some()) else {
        return String::new();
    };
    let source = text(memory, "limit_source").map(|source| format!(" ({})", foreign(source, NAME))).unwrap_or_default();
    let rows = [
        ("Resident", shown(memory, "rss_mb", units::mebibytes)),
        ("Address space", shown(memory, "vms_mb", units::mebibytes)),
        ("Limit", shown(memory, "limit_mb", units::mebibytes) + &source),
        ("Of the limit", shown(memory, "percent", |percent| units::share(percent / 100.0))),
        ("Alert from", shown(memory, "threshold", units::share)),
    ];
    format!("<div><header><h3>The process</h3><p>Without its children.</p></header>{}</div>", facts(&rows))
}

fn memory_parts(document: &Value) -> String {
    let size = |path: &str| number(document, &format!("stats.memory.{path}")).map(units::mebibytes);
    let parts = [
        ("Results", size("caches_mb.execution")),
        ("Parsed skills", size("caches_mb.prepared")),
        ("Skill records", size("caches_mb.metadata")),
        ("Embeddings", size("vectors_mb")),
        ("Connections, at most", size("pool_mb")),
        ("Largest run, beside it", size("children_peak_mb")),
    ];
    let rows: Vec<_> = parts.into_iter().filter_map(|(name, size)| Some((name, size?))).collect();
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "<div><header><h3>What of it is the library's</h3><p>As it counts itself.</p></header>{}</div>",
        facts(&rows)
    )
}

pub fn sandbox(document: &Value) -> String {
    let Some(sandbox) = at(document, "stats.sandbox") else { return nothing_yet("There are no statistics.") };
    let mode = text(sandbox, "mode").map_or_else(|| "–".to_owned(), |mode| foreign(mode, NAME));
    let Some(level) = text(sandbox, "level") else {
        return nothing_yet(&format!(
            "No child was started, so nothing is known of the level. The mode is <b>{mode}</b>."
        ));
    };
    let missing = words(sandbox, "missing");
    let violations = number(document, "stats.runs.violations");
    let rows = [
        ("Level", format!("<b>{}</b>", foreign(level, NAME))),
        ("Mode", mode),
        ("Layers", words(sandbox, "layers")),
        ("Missing", if missing.is_empty() { "nothing".to_owned() } else { missing }),
        ("Threads bounded by", text(sandbox, "threads").map_or_else(|| "–".to_owned(), |bound| foreign(bound, NAME))),
        ("Children started", shown(sandbox, "children", units::count)),
        ("Largest run", shown(sandbox, "peak_memory_mb", units::mebibytes)),
        ("Denied something", violations.map_or_else(|| "–".to_owned(), units::count)),
    ];
    facts(&rows)
}

fn words(value: &Value, path: &str) -> String {
    let words = items(value, path).iter().filter_map(Value::as_str).take(MOST_WORDS);
    words.map(|word| format!("<span class=\"tag\">{}</span>", foreign(word, NAME))).collect()
}

pub fn events(document: &Value) -> String {
    let rows: Vec<Vec<String>> = [("events", "Events"), ("logs", "Log lines")]
        .into_iter()
        .filter_map(|(member, name)| Some((name, at(document, &format!("stats.{member}"))?)))
        .map(|(name, told)| {
            let counted = |member| units::count(count(told, member));
            vec![name.to_owned(), counted("recorded"), counted("waiting"), counted("dropped")]
        })
        .collect();
    if rows.is_empty() {
        return nothing_yet("There are no statistics.");
    }
    let counts = table("What was told", &["Told", "#Recorded", "#Wait to be read", "#Dropped unread"], &rows);
    counts + &event_list(items(document, "events"))
}

fn event_list(events: &[Value]) -> String {
    let rows: Vec<Vec<String>> = events.iter().rev().take(MOST_EVENTS).filter_map(event).collect();
    if rows.is_empty() {
        return String::new();
    }
    let caption =
        format!("The newest {} of {} events", units::count(rows.len() as f64), units::count(events.len() as f64));
    format!("<h3>Newest events</h3>{}", blocks(&caption, &["Kind", "Severity", "Time (UTC)", "~Message"], &rows))
}

fn event(event: &Value) -> Option<Vec<String>> {
    let word = |name| foreign(text(event, name).unwrap_or("–"), NAME);
    event.as_object()?;
    let time = text(event, "time").and_then(clock::to_the_minute).unwrap_or_else(|| "–".to_owned());
    let message = foreign(text(event, "message").unwrap_or_default(), SENTENCE);
    Some(vec![format!("<code>{}</code>", word("kind")), word("severity"), time, message])
}
