//! What the library recommends, and whether its parts are well.

use skillcache::json::Value;

use crate::document::{at, items, members, number, text};
use crate::markup::{NAME, SENTENCE, foreign};
use crate::page::blocks;
use crate::units;

/// The most recommendations, and the most numbers of one, that are shown.
const MOST: usize = 50;

pub fn section(document: &Value) -> String {
    recommendations(document) + &health(document)
}

fn recommendations(document: &Value) -> String {
    if at(document, "recommendations").is_none() {
        return "<p class=\"empty\">No recommendations were saved with these statistics.</p>".to_owned();
    }
    let all = items(document, "recommendations");
    if all.is_empty() {
        return "<p class=\"empty\">Nothing to recommend.</p>".to_owned();
    }
    let cards: String = all.iter().take(MOST).map(card).collect();
    format!("<ul class=\"cards\">{cards}</ul>")
}

fn card(advice: &Value) -> String {
    let severity = if text(advice, "severity") == Some("warning") { "warning" } else { "info" };
    let words = |name| foreign(text(advice, name).unwrap_or_default(), SENTENCE);
    let numbers = members(advice, "evidence").iter().take(MOST).filter_map(|(name, value)| {
        let number = value.as_f64().filter(|number| number.is_finite())?;
        Some(format!("{} {}", foreign(&name.replace('_', " "), NAME), plain(number)))
    });
    let sample = number(advice, "sample").map(|sample| format!("sample {}", units::count(sample)));
    let evidence: Vec<String> = numbers.chain(sample).collect();
    format!(
        "<li class=\"{severity}\"><p><b>{}</b> <span class=\"tag\">{severity}</span></p><p>{}</p><p class=\"evidence\">{}</p></li>",
        words("message"),
        words("remedy"),
        evidence.join(" · ")
    )
}

/// A number that may be a share or a count: nobody says which.
fn plain(number: f64) -> String {
    if number.fract() == 0.0 { units::count(number) } else { format!("{number:.3}") }
}

fn health(document: &Value) -> String {
    let components = members(document, "health.components");
    if components.is_empty() {
        return "<p class=\"empty\">No health report was saved with these statistics.</p>".to_owned();
    }
    let rows: Vec<Vec<String>> = components.iter().take(MOST).map(|(name, part)| component(name, part)).collect();
    let all = text(document, "health.status").map(status).unwrap_or_default();
    format!(
        "<p class=\"all\">All in all: {all}</p>{}",
        blocks("Health of each part", &["Part", "State", "~What was found", "#Answered in"], &rows)
    )
}

fn component(name: &str, part: &Value) -> Vec<String> {
    let message = foreign(text(part, "message").unwrap_or_default(), SENTENCE);
    let remedy = text(part, "remedy").map(|remedy| format!("<small>{}</small>", foreign(remedy, SENTENCE)));
    let time = number(part, "response_time_us").map_or_else(|| "–".to_owned(), units::micros);
    vec![
        foreign(name, NAME),
        status(text(part, "status").unwrap_or_default()),
        message + &remedy.unwrap_or_default(),
        time,
    ]
}

/// A state as a word with a sign, so that it needs no colour.
fn status(status: &str) -> String {
    let (class, sign) = match status {
        "healthy" => ("good", "✓"),
        "degraded" => ("fair", "!"),
        "unhealthy" => ("bad", "✕"),
        _ => ("", "?"),
    };
    format!("<span class=\"state {class}\"><i aria-hidden=\"true\">{sign}</i>{}</span>", foreign(status, NAME))
}
