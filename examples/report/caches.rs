//! The three caches: what they hold, how often they know, and how that went over time.

use skillcache::json::Value;

use crate::chart::Scale;
use crate::document::{at, count, ratio, text};
use crate::history::{History, Step, summary};
use crate::markup::{NAME, foreign};
use crate::page::{Part, facts, figure, nothing_yet, of_bound, row, table};
use crate::{ink, units};

const CACHES: [(&str, &str); 3] =
    [("execution", "Results"), ("prepared", "Parsed skills"), ("metadata", "Skill records")];

pub fn section(document: &Value) -> Part {
    let history = History::of(document);
    let curves = if history.is_empty() {
        nothing_yet("There are no samples of what the caches did over time.")
    } else {
        row(&[hit_rate(&history)?, fill(&history)?, second_level(document)])
    };
    Ok(curves + &numbers(document))
}

fn rate(step: &Step) -> Option<f64> {
    let (hits, misses) = (step.growth("hits")?, step.growth("misses")?);
    ratio(hits, hits + misses)
}

fn percent(share: &f64) -> String {
    format!("{:.0}\u{202f}%", share * 100.0)
}

fn hit_rate(history: &History) -> Part {
    let note = summary(&history.values(rate), units::share);
    let curve = history.curve(ink::FIRST, true, rate);
    let drawing =
        history.draw(&[curve], (&Scale::of_shares(), &percent), None, ("Hit rate of results over time", &note))?;
    Ok(figure("Hit rate of results", &note, &drawing, &[]))
}

fn fill(history: &History) -> Part {
    let entries = |step: &Step| step.ratio("entries", "max_entries");
    let bytes = |step: &Step| step.ratio("bytes", "max_bytes");
    let now = |value: &dyn Fn(&Step) -> Option<f64>| history.values(value).last().copied().map(units::share);
    let [of_entries, of_bytes] = [now(&entries), now(&bytes)].map(|now| now.unwrap_or_else(|| "–".to_owned()));
    let note = format!("{of_entries} of the entries and {of_bytes} of the bytes are in use.");
    let curves = [history.curve(ink::FIRST, true, entries), history.curve(ink::SECOND, false, bytes)];
    let drawing = history.draw(
        &curves,
        (&Scale::of_shares(), &percent),
        None,
        ("Use of the cache of results over time", &note),
    )?;
    let legend =
        [(ink::FIRST, format!("entries <b>{of_entries}</b>")), (ink::SECOND, format!("bytes <b>{of_bytes}</b>"))];
    Ok(figure("How full it is", &note, &drawing, &legend))
}

/// The results in the file, beside the curves of those in memory.
fn second_level(document: &Value) -> String {
    let Some(results) = at(document, "stats.store.results") else { return String::new() };
    let looked = count(results, "hits") + count(results, "misses");
    let rows = [
        ("Entries", of_bound(results, "entries", "max_entries", units::count)),
        ("Bytes", of_bound(results, "bytes", "max_bytes", units::bytes)),
        ("Found", format!("{} of {}", units::count(count(results, "hits")), units::count(looked))),
        ("Refused", units::count(count(results, "refused"))),
        ("Damaged", units::count(count(results, "damaged"))),
    ];
    format!("<div><header><h3>Results in the file</h3><p>They outlive the process.</p></header>{}</div>", facts(&rows))
}

fn numbers(document: &Value) -> String {
    let rows: Vec<Vec<String>> = CACHES
        .into_iter()
        .filter_map(|(member, name)| Some((name, at(document, &format!("stats.caches.{member}"))?)))
        .map(|(name, cache)| {
            let (hits, misses) = (count(cache, "hits"), count(cache, "misses"));
            let counted = |member| units::count(count(cache, member));
            vec![
                name.to_owned(),
                of_bound(cache, "size", "max_size", units::count),
                of_bound(cache, "bytes", "max_bytes", units::bytes),
                units::count(hits + misses),
                ratio(hits, hits + misses).map_or_else(|| "–".to_owned(), units::share),
                counted("evictions"),
                counted("expirations"),
                counted("coalesced"),
                text(cache, "policy").map_or_else(|| "–".to_owned(), |policy| foreign(policy, NAME)),
            ]
        })
        .collect();
    let headings =
        ["Cache", "#Entries", "#Bytes", "#Look-ups", "#Hit rate", "#Evicted", "#Expired", "#Coalesced", "Policy"];
    if rows.is_empty() { String::new() } else { table("The caches in numbers", &headings, &rows) }
}
