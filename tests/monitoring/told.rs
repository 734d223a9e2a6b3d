//! What a library has told: events and lines, read back.

use std::time::Duration;

use skillcache::json::Value;
use skillcache::{Code, Library};

use crate::libraries::{PATIENCE, at, count, text};

/// Something that was told, with the members that every event has, and no others.
#[derive(Debug, Clone)]
pub struct Event {
    pub number: i64,
    pub kind: String,
    pub severity: String,
    pub message: String,
    pub fields: Value,
}

impl Event {
    pub fn read(line: &str) -> Self {
        let event = Value::parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(names(&event), ["seq", "kind", "severity", "time", "message", "fields"], "{line}");
        is_time(text(&event, "time"));
        Event {
            number: count(&event, "seq"),
            kind: text(&event, "kind").to_owned(),
            severity: text(&event, "severity").to_owned(),
            message: text(&event, "message").to_owned(),
            fields: at(&event, "fields").clone(),
        }
    }

    /// Whether it has exactly these fields, in this order.
    #[track_caller]
    pub fn has_fields(&self, fields: &[&str]) {
        assert_eq!(names(&self.fields), fields, "{self:?}");
    }

    /// Whether these fields are so.
    #[track_caller]
    pub fn says<const N: usize>(&self, fields: [(&str, Value); N]) {
        for (name, value) in fields {
            assert_eq!(at(&self.fields, name), &value, "{name}: {self:?}");
        }
    }

    pub fn count(&self, field: &str) -> i64 {
        count(&self.fields, field)
    }
}

/// RFC 3339 in UTC, to the millisecond.
#[track_caller]
pub fn is_time(text: &str) {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    assert_eq!(shape, "9999-99-99T99:99:99.999Z", "{text}");
}

pub fn names(object: &Value) -> Vec<&str> {
    let members = object.as_object().unwrap_or_else(|| panic!("it is no object: {object:?}"));
    members.iter().map(|(name, _)| name.as_str()).collect()
}

/// The next event, which has to come.
#[track_caller]
pub fn next(library: &Library) -> Event {
    let line = library.next_event(Some(PATIENCE)).unwrap_or_else(|error| panic!("{error}"));
    Event::read(&line)
}

/// Every event that waits.
#[track_caller]
pub fn all(library: &Library) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        match library.next_event(Some(Duration::ZERO)) {
            Ok(line) => events.push(Event::read(&line)),
            Err(error) => {
                assert_eq!(error.code(), Code::Timeout, "{error}");
                return events;
            }
        }
    }
}

pub fn kinds(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.kind.as_str()).collect()
}

/// Whether exactly events of these kinds wait, in this order; takes them.
#[track_caller]
pub fn expect<const N: usize>(library: &Library, expected: [&str; N]) -> [Event; N] {
    let events = all(library);
    assert_eq!(kinds(&events), expected, "{events:#?}");
    events.try_into().unwrap_or_else(|events| panic!("{events:?}"))
}
