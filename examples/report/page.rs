//! The page: what its document says, as one HTML text that needs nothing else.

use std::error::Error;

use skillcache::json::Value;

use crate::document::{count, items, number, text};
use crate::markup::{NAME, escape, foreign};
use crate::{advice, caches, headline, ink, latency, load, machine, outcomes, skills, units};

/// A part of the page; drawings may fail.
pub type Part = Result<String, Box<dyn Error>>;

/// Nothing is loaded and nothing runs; the style sheet is in the page.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// Makes the page of `{"source": {"name", "made", "counters"}, "stats", "history", "outcomes", "skills", "skills_count", "health",
/// "recommendations", "events"}`. `counters` says whose the statistics are: `saved`, `fresh` or `sample`.
pub fn page(document: &Value) -> Part {
    let sections = [
        ("headline", "At a glance", headline::section(document)),
        ("advice", "Advice and health", advice::section(document)),
        ("outcomes", "Outcomes over time", outcomes::section(document)?),
        ("skills", "Skills", skills::section(document)),
        ("latency", "Latency", latency::section(document)?),
        ("caches", "Caches", caches::section(document)?),
        ("load", "Load and pool", load::section(document)?),
        ("memory", "Memory", machine::memory(document)?),
        ("sandbox", "Sandbox", machine::sandbox(document)),
        ("events", "Events", machine::events(document)),
    ];
    let body: String = sections
        .iter()
        .map(|(id, heading, body)| {
            format!(
                "<section id=\"{id}\" aria-labelledby=\"{id}-h\"><h2 id=\"{id}-h\">{heading}</h2>{body}</section>\n"
            )
        })
        .collect();
    let name = text(document, "source.name").unwrap_or("a library");
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<meta name=\"referrer\" content=\"no-referrer\">\n\
         <title>{} · skillcache</title>\n<style>\n{}{}</style>\n</head>\n<body>\n{}<main>\n{body}</main>\n{}</body>\n</html>\n",
        escape(&name.chars().take(NAME).collect::<String>()),
        ink::style(),
        include_str!("style.css"),
        header(document, name),
        footer(document),
    ))
}

fn header(document: &Value, name: &str) -> String {
    let version = text(document, "stats.version").map(|version| format!("version {}", foreign(version, NAME)));
    let uptime = number(document, "stats.uptime_s").map(|seconds| format!("open for {}", units::span(seconds)));
    let skills = number(document, "stats.store.skills").unwrap_or(items(document, "skills").len() as f64);
    let skills = Some(format!("{} skill{}", units::count(skills), if skills == 1.0 { "" } else { "s" }));
    let facts: Vec<String> = [skills, uptime, version].into_iter().flatten().collect();
    let note = match text(document, "source.counters") {
        Some("fresh") => {
            "<p class=\"note\">No saved statistics were given: what is counted since the opening is the counting of this one opening. \
             Skills, their uses and their outcomes are those of the file.</p>"
        }
        Some("sample") => {
            "<p class=\"note\">A sample: a small library that was made for this page, and used for some seconds.</p>"
        }
        _ => "",
    };
    format!(
        "<header><p class=\"brand\">skillcache</p><h1>{}</h1><p class=\"facts\">{}</p>{note}</header>\n",
        foreign(name, NAME),
        facts.join(" · ")
    )
}

fn footer(document: &Value) -> String {
    let made = text(document, "source.made").map(|made| format!("Made {}. ", escape(made))).unwrap_or_default();
    format!(
        "<footer><p>{made}Days and times are UTC. This page is one file: it loads nothing and runs nothing.</p></footer>\n"
    )
}

/// What stands where there is nothing to show.
pub fn nothing_yet(why: &str) -> String {
    format!("<p class=\"empty\">Nothing yet. {why}</p>")
}

/// A drawing with what it shows above it and what its colours mean below.
pub fn figure(heading: &str, note: &str, drawing: &str, legend: &[(ink::Ink, String)]) -> String {
    let keys: String =
        legend.iter().map(|(ink, words)| format!("<li><i class=\"key ink-{}\"></i>{words}</li>", ink.name)).collect();
    let legend = if keys.is_empty() { String::new() } else { format!("<ul class=\"legend\">{keys}</ul>") };
    format!("<figure><figcaption><h3>{heading}</h3><p>{note}</p></figcaption>{drawing}{legend}</figure>")
}

/// Figures beside each other, where there is room.
pub fn row(parts: &[String]) -> String {
    format!("<div class=\"row\">{}</div>", parts.concat())
}

/// A table: a caption for those who do not see where it stands, headings, and rows whose first cell names them. Everything is HTML already.
/// Columns whose heading starts with `#` hold numbers.
pub fn table(caption: &str, headings: &[&str], rows: &[Vec<String>]) -> String {
    let class = |heading: &str| if heading.starts_with('#') { " class=\"n\"" } else { "" };
    let head: String = headings
        .iter()
        .map(|heading| format!("<th scope=\"col\"{}>{}</th>", class(heading), heading.trim_start_matches('#')))
        .collect();
    let cells = |row: &Vec<String>| -> String {
        let cells = row.iter().zip(headings).enumerate().map(|(index, (cell, heading))| match index {
            0 => format!("<th scope=\"row\">{cell}</th>"),
            _ => format!("<td{}>{cell}</td>", class(heading)),
        });
        cells.collect()
    };
    let body: String = rows.iter().map(|row| format!("<tr>{}</tr>\n", cells(row))).collect();
    format!(
        "<div class=\"scroll\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\"><table><caption>{caption}</caption>\
         <thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>"
    )
}

/// Names and what they are, below one another.
pub fn facts(rows: &[(&str, String)]) -> String {
    let rows: String = rows.iter().map(|(name, value)| format!("<div><dt>{name}</dt><dd>{value}</dd></div>")).collect();
    format!("<dl class=\"facts-list\">{rows}</dl>")
}

/// A number at a path as text, or a dash.
pub fn shown(value: &Value, path: &str, unit: impl Fn(f64) -> String) -> String {
    number(value, path).map_or_else(|| "–".to_owned(), unit)
}

/// `entries of bound`.
pub fn of_bound(value: &Value, size: &str, bound: &str, unit: impl Fn(f64) -> String) -> String {
    format!("{} of {}", unit(count(value, size)), unit(count(value, bound)))
}
