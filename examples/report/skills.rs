//! The skills of the file, those most used first.

use skillcache::json::Value;

use crate::document::{at, count, items, number, ratio, text};
use crate::markup::{NAME, foreign};
use crate::page::{blocks, nothing_yet};
use crate::{clock, units};

/// The most skills that are shown.
pub const MOST: usize = 200;
/// The most characters of a description, and the most tags, that are shown.
const DESCRIPTION: usize = 120;
const TAGS: usize = 6;
const TAG: usize = 24;

pub fn section(document: &Value) -> String {
    let mut skills: Vec<&Value> =
        items(document, "skills").iter().filter(|skill| text(skill, "id").is_some()).collect();
    if skills.is_empty() {
        return nothing_yet("There are no skills in this file.");
    }
    let id = |skill: &Value| text(skill, "id").unwrap_or_default().to_owned();
    skills.sort_by(|a, b| count(b, "usage_count").total_cmp(&count(a, "usage_count")).then_with(|| id(a).cmp(&id(b))));
    let rows: Vec<Vec<String>> = skills.iter().take(MOST).map(|skill| row(skill)).collect();
    let all = number(document, "skills_count").unwrap_or(0.0).max(skills.len() as f64);
    let more = all - rows.len() as f64;
    let note = if more > 0.0 {
        format!(
            "<p class=\"more\">The {} most used of {}; {} more are not shown.</p>",
            units::count(rows.len() as f64),
            units::count(all),
            units::count(more)
        )
    } else {
        String::new()
    };
    let headings = ["Skill", "#Version", "State", "#Uses", "#Success", "Last used (UTC)", "Cache"];
    blocks("Skills, the most used first", &headings, &rows) + &note
}

fn row(skill: &Value) -> Vec<String> {
    let uses = count(skill, "usage_count");
    let state = text(skill, "state").unwrap_or("–");
    let last = text(skill, "last_used").and_then(clock::to_the_minute);
    vec![
        name(skill),
        number(skill, "version").map_or_else(|| "–".to_owned(), units::count),
        if state == "active" { state.to_owned() } else { format!("<b>{}</b>", foreign(state, NAME)) },
        units::count(uses),
        ratio(count(skill, "success_count"), uses).map_or_else(|| "–".to_owned(), meter),
        last.map_or_else(
            || "never".to_owned(),
            |last| format!("<time datetime=\"{}Z\">{last}</time>", last.replace(' ', "T")),
        ),
        text(skill, "cache").map_or_else(|| "–".to_owned(), |cache| foreign(cache, NAME)),
    ]
}

fn name(skill: &Value) -> String {
    let id = text(skill, "id").unwrap_or_default();
    let name = text(skill, "name").filter(|name| !name.is_empty() && *name != id);
    let description = text(skill, "description").filter(|text| !text.is_empty());
    let about: Vec<String> = [name.map(|name| foreign(name, NAME)), description.map(|text| foreign(text, DESCRIPTION))]
        .into_iter()
        .flatten()
        .collect();
    let tags = at(skill, "tags").and_then(Value::as_array).unwrap_or_default();
    let tags: String = tags
        .iter()
        .filter_map(Value::as_str)
        .take(TAGS)
        .map(|tag| format!("<span class=\"tag\">{}</span>", foreign(tag, TAG)))
        .collect();
    let about = if about.is_empty() { String::new() } else { format!("<small>{}</small>", about.join(" · ")) };
    let tags = if tags.is_empty() { tags } else { format!("<small class=\"tags\">{tags}</small>") };
    format!("<code>{}</code>{about}{tags}", foreign(id, NAME))
}

/// A share with a small bar.
fn meter(share: f64) -> String {
    let width = (share * 100.0).clamp(0.0, 100.0);
    format!(
        "{}<span class=\"meter\" aria-hidden=\"true\"><i style=\"width:{width:.0}%\"></i></span>",
        units::share(share)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skills(count: usize) -> Value {
        let skill = |index: usize| {
            Value::object([("id", Value::from(format!("s{index}"))), ("usage_count", Value::from(index % 7))])
        };
        Value::object([("skills", Value::Array((0..count).map(skill).collect()))])
    }

    #[test]
    fn the_most_used_come_first_and_the_rest_is_counted() {
        let made = section(&skills(205));
        assert!(made.contains("The 200 most used of 205; 5 more are not shown."), "{made}");
        assert!(made.find("<bdi>s6</bdi>") < made.find("<bdi>s5</bdi>"), "{made}");
        assert_eq!(made.matches("<th scope=\"row\">").count(), MOST);
        assert!(!section(&skills(200)).contains("not shown"));
        assert!(section(&skills(0)).contains("Nothing yet"));
    }
}
