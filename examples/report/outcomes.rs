//! How runs ended, day by day, as the file remembers it.

use std::collections::BTreeMap;

use skillcache::json::Value;

use crate::chart::{self, Day};
use crate::document::{items, number, text};
use crate::ink::OUTCOMES;
use crate::markup::{NAME, foreign};
use crate::page::{Part, blocks, figure, nothing_yet, table};
use crate::{clock, units};

/// The most days that are drawn.
const MOST_DAYS: i64 = 90;
/// The most skills that are named for their failures.
const MOST_SKILLS: usize = 5;

type Counts = [f64; OUTCOMES.len()];

pub fn section(document: &Value) -> Part {
    let rows = items(document, "outcomes");
    let days = by_day(rows);
    let (Some(first), Some(last)) = (days.first(), days.last()) else {
        return Ok(nothing_yet("No skill of this file ran so far."));
    };
    let (oldest, last) = (first.day, last.day);
    let first = oldest.max(last - MOST_DAYS + 1);
    let drawn: Vec<Day> = days.iter().filter(|day| day.day >= first).cloned().collect();
    let mut totals: Counts = [0.0; OUTCOMES.len()];
    for day in &drawn {
        totals.iter_mut().zip(day.counts).for_each(|(total, count)| *total += count);
    }
    let note = note(&drawn, (first, last), oldest) + thickened(&drawn);
    let drawing = chart::days(&drawn, (first, last), ("Outcomes by day", &note))?;
    let legend: Vec<_> = OUTCOMES
        .into_iter()
        .zip(totals)
        .filter(|(_, total)| *total > 0.0)
        .map(|(ink, total)| (ink, format!("{} <b>{}</b>", words(ink.name), units::count(total))))
        .collect();
    let figure = figure("Runs by outcome and day", &note, &drawing, &legend);
    Ok(figure + &day_table(&drawn, &totals) + &failing(rows))
}

/// An outcome as words: `memory limit`.
fn words(outcome: &str) -> String {
    outcome.replace('_', " ")
}

fn place(row: &Value) -> Option<usize> {
    let outcome = text(row, "outcome")?;
    OUTCOMES.iter().position(|ink| ink.name == outcome)
}

fn count(row: &Value) -> f64 {
    number(row, "count").unwrap_or(0.0).clamp(0.0, 1e15)
}

/// The days on which something ran, oldest first.
fn by_day(rows: &[Value]) -> Vec<Day> {
    let mut days: BTreeMap<i64, Counts> = BTreeMap::new();
    for row in rows.iter().filter(|row| count(row) > 0.0) {
        if let (Some(day), Some(place)) = (text(row, "day").and_then(clock::day), place(row)) {
            days.entry(day).or_insert([0.0; OUTCOMES.len()])[place] += count(row);
        }
    }
    days.into_iter().map(|(day, counts)| Day { day, counts }).collect()
}

fn note(drawn: &[Day], (first, last): (i64, i64), oldest: i64) -> String {
    let runs: f64 = drawn.iter().flat_map(|day| day.counts).sum();
    let time = match first == last {
        true => format!("on {}", clock::day_text(last)),
        false => format!("from {} to {}", clock::day_text(first), clock::day_text(last)),
    };
    let before =
        if oldest < first { format!("; the first were on {}", clock::day_text(oldest)) } else { String::new() };
    format!("{} run{} {time}{before}.", units::count(runs), if runs == 1.0 { "" } else { "s" })
}

/// What is said if a part of a bar would be too thin to be seen.
fn thickened(drawn: &[Day]) -> &'static str {
    let tallest = drawn.iter().map(|day| day.counts.iter().sum::<f64>()).fold(0.0, f64::max);
    let is_thin = |count: &f64| *count > 0.0 && *count < tallest * chart::THIN;
    if drawn.iter().any(|day| day.counts.iter().any(is_thin)) {
        " What is very few is drawn thicker, to be seen."
    } else {
        ""
    }
}

/// The numbers of the drawing, newest first.
fn day_table(days: &[Day], totals: &Counts) -> String {
    let used: Vec<usize> = (0..OUTCOMES.len()).filter(|place| totals[*place] > 0.0).collect();
    let names: Vec<String> = used.iter().map(|place| format!("#{}", words(OUTCOMES[*place].name))).collect();
    let headings: Vec<&str> = std::iter::once("Day").chain(names.iter().map(String::as_str)).collect();
    let row = |day: &Day| {
        let cells = used.iter().map(|place| units::count(day.counts[*place]));
        std::iter::once(clock::day_text(day.day)).chain(cells).collect()
    };
    let rows: Vec<Vec<String>> = days.iter().rev().map(row).collect();
    format!("<details><summary>The numbers</summary>{}</details>", table("Runs by day and outcome", &headings, &rows))
}

/// The skills with the most runs that did not succeed.
fn failing(rows: &[Value]) -> String {
    let mut skills: BTreeMap<&str, Counts> = BTreeMap::new();
    for row in rows {
        if let (Some(skill), Some(place)) = (text(row, "skill"), place(row)) {
            skills.entry(skill).or_insert([0.0; OUTCOMES.len()])[place] += count(row);
        }
    }
    let failures = |counts: &Counts| counts[1..].iter().sum::<f64>();
    let mut skills: Vec<_> = skills.into_iter().filter(|(_, counts)| failures(counts) > 0.0).collect();
    skills.sort_by(|a, b| failures(&b.1).total_cmp(&failures(&a.1)).then(a.0.cmp(b.0)));
    if skills.is_empty() {
        return String::new();
    }
    let row = |(skill, counts): &(&str, Counts)| {
        let mut ends: Vec<_> = OUTCOMES.iter().zip(counts).skip(1).filter(|(_, count)| **count > 0.0).collect();
        ends.sort_by(|a, b| b.1.total_cmp(a.1));
        let ends: Vec<String> =
            ends.iter().map(|(ink, count)| format!("{} {}", units::count(**count), words(ink.name))).collect();
        let runs = counts.iter().sum::<f64>();
        let failed = failures(counts);
        vec![
            format!("<code>{}</code>", foreign(skill, NAME)),
            units::count(failed),
            units::share(failed / runs),
            ends.join(", "),
        ]
    };
    let rows: Vec<Vec<String>> = skills.iter().take(MOST_SKILLS).map(row).collect();
    let headings = ["Skill", "#Not succeeded", "#Of its runs", "~How they ended"];
    format!(
        "<h3>Where runs do not succeed</h3>{}",
        blocks("Skills with the most runs that did not succeed", &headings, &rows)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(rows: &str) -> Value {
        Value::parse(&format!("{{\"outcomes\": {rows}}}")).expect("JSON")
    }

    #[test]
    fn only_days_outcomes_and_counts_that_are_some_are_drawn() {
        for rows in ["[]", "null", "7", r#"[{"day": "x", "outcome": "success", "count": 3}, {"day": 1}, 2]"#] {
            assert!(section(&document(rows)).expect("made").contains("Nothing yet"), "{rows}");
        }
        let odd = r#"[{"day": "2026-11-26", "skill": "a", "outcome": "<b>", "count": 3},
            {"day": "2026-11-26", "skill": "a", "outcome": "timeout", "count": -3},
            {"day": "2026-11-26", "skill": "a", "outcome": "success", "count": 2}]"#;
        let made = section(&document(odd)).expect("made");
        assert!(made.contains("2 runs on 26 November 2026.</p>") && !made.contains("Where runs"), "{made}");
    }

    #[test]
    fn old_days_are_told_and_not_drawn() {
        let rows = r#"[{"day": "2020-01-01", "skill": "a", "outcome": "error", "count": 3},
            {"day": "2026-11-26", "skill": "b", "outcome": "error", "count": 1}]"#;
        let made = section(&document(rows)).expect("made");
        assert!(
            made.contains("1 run from 29 August 2026 to 26 November 2026; the first were on 1 January 2020."),
            "{made}"
        );
        assert!(made.find("<bdi>a</bdi>") < made.find("<bdi>b</bdi>"), "{made}");
    }
}
