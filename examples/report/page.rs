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
    table_of("", caption, headings, rows)
}

/// A table of which each row becomes a small block where the page is narrow. Columns whose heading starts with `~` then have a line of their own.
pub fn blocks(caption: &str, headings: &[&str], rows: &[Vec<String>]) -> String {
    table_of(" class=\"blocks\"", caption, headings, rows)
}

fn table_of(attribute: &str, caption: &str, headings: &[&str], rows: &[Vec<String>]) -> String {
    let columns: Vec<(&str, &str)> = headings
        .iter()
        .map(|heading| match heading.split_at(1) {
            ("#", name) => (" class=\"n\"", name),
            ("~", name) => (" class=\"wide\"", name),
            _ => ("", *heading),
        })
        .collect();
    let head: String = columns.iter().map(|(class, name)| format!("<th scope=\"col\"{class}>{name}</th>")).collect();
    let line = |row: &Vec<String>| -> String {
        let cells = row.iter().zip(&columns).enumerate().map(|(index, (cell, (class, name)))| match index {
            0 => format!("<th scope=\"row\">{cell}</th>"),
            _ => format!("<td{class} data-name=\"{name}\">{cell}</td>"),
        });
        format!("<tr>{}</tr>\n", cells.collect::<String>())
    };
    let body: String = rows.iter().map(line).collect();
    format!(
        "<div class=\"scroll\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\"><table{attribute}>\
         <caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>"
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{self, HOSTILE};
    use proptest::prelude::*;

    const SECTIONS: [&str; 10] =
        ["headline", "advice", "outcomes", "skills", "latency", "caches", "load", "memory", "sandbox", "events"];
    const TAGS: &str = "!DOCTYPE html head meta title style body header main footer section h1 h2 h3 p b i small code bdi time div ul li dl dt \
        dd table caption thead tbody tr th td span details summary figure figcaption svg desc rect polyline polygon line circle text";
    const ATTRIBUTES: &str = "lang charset http-equiv content name id class aria-labelledby aria-label aria-hidden role tabindex scope data-name \
        datetime style width height viewBox x y x1 y1 x2 y2 cx cy r points fill stroke stroke-width opacity dy text-anchor font-size";

    fn made() -> String {
        page(&fixture::document()).expect("made")
    }

    /// The names of all elements, and of all their attributes.
    fn names(html: &str) -> (Vec<String>, Vec<String>) {
        let (mut tags, mut attributes) = (Vec::new(), Vec::new());
        for tag in html.split('<').skip(1) {
            let (inside, _) = tag.split_once('>').expect("every tag ends");
            let inside = inside.trim_end_matches('/');
            tags.push(inside.trim_start_matches('/').split(' ').next().unwrap_or_default().to_owned());
            // Outside of quotes: every second piece.
            let outside: String = inside.split('"').step_by(2).collect::<Vec<_>>().join(" ");
            attributes.extend(outside.split(' ').skip(1).filter_map(|word| word.strip_suffix('=')).map(str::to_owned));
        }
        (tags, attributes)
    }

    #[test]
    fn all_sections_are_there_with_their_drawings() {
        let made = made();
        for section in SECTIONS {
            assert!(made.contains(&format!("<section id=\"{section}\"")), "{section}");
        }
        assert_eq!(made.matches("<figure>").count(), 8);
        assert_eq!(made.matches("<svg ").count(), 10, "two of them in two sizes");
        for word in ["Nothing yet", "NaN", ">inf<", " inf "] {
            assert!(!made.contains(word), "{word}");
        }
    }

    #[test]
    fn nothing_from_outside_becomes_markup() {
        let made = made();
        for text in HOSTILE.into_iter().filter(|text| text.contains(['<', '"', '\'', '\u{202e}'])) {
            assert!(!made.contains(text), "{text}");
        }
        let (tags, attributes) = names(&made);
        let known: Vec<&str> = TAGS.split_whitespace().collect();
        assert!(tags.iter().all(|tag| known.contains(&tag.as_str())), "{tags:?}");
        let known: Vec<&str> = ATTRIBUTES.split_whitespace().collect();
        let odd: Vec<_> = attributes.iter().filter(|name| !known.contains(&name.as_str())).collect();
        assert!(odd.is_empty(), "{odd:?}");
        assert!(!made.contains(&"n".repeat(200)), "a name of 10,000 characters is cut");
    }

    #[test]
    fn nothing_is_fetched() {
        let made = made();
        for word in ["://", "url(", "@import", "src=", "href=", "<script", "<link", "<img", "<iframe"] {
            let outside = made.replace("&lt;", "").replace("src=x", "");
            assert!(!outside.contains(word), "{word}");
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        for empty in ["{}", "null", r#"{"stats": {}, "history": {"samples": []}, "outcomes": [], "skills": []}"#] {
            let made = page(&Value::parse(empty).expect("JSON")).expect("made");
            assert!(made.matches("Nothing yet").count() >= 5, "{empty}: {made}");
            assert!(!made.contains("<svg"), "{empty}: {made}");
        }
    }

    /// Puts `odd` in the place of the value that is reached after `left` others.
    fn put_at(value: &mut Value, left: &mut usize, odd: &Value) {
        if *left == 0 {
            *value = odd.clone();
        }
        *left = left.wrapping_sub(1);
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| put_at(item, left, odd)),
            Value::Object(members) => members.iter_mut().for_each(|(_, member)| put_at(member, left, odd)),
            _ => {}
        }
    }

    fn odd_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            any::<f64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            Just(Value::Null),
            Just(Value::from(vec![1u32])),
            Just(Value::Object(Vec::new())),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn whatever_stands_in_the_document_there_is_a_page(
            odd in proptest::collection::vec((0..9usize, 0..400usize, odd_value()), 1..40)
        ) {
            let Value::Object(mut members) = fixture::document() else { unreachable!("it is an object") };
            for (member, place, value) in odd {
                put_at(&mut members[member].1, &mut { place }, &value);
            }
            let made = page(&Value::Object(members)).expect("made");
            prop_assert!(made.ends_with("</html>\n"));
            prop_assert_eq!(made.matches("<section ").count(), SECTIONS.len());
            let (tags, _) = names(&made);
            let known: Vec<&str> = TAGS.split_whitespace().collect();
            prop_assert!(tags.iter().all(|tag| known.contains(&tag.as_str())), "{:?}", tags);
        }
    }
}
