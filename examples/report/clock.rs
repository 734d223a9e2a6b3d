//! Days and times of the axes, all UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY_S: f64 = 86_400.0;
/// What RFC 3339 can write: up to the year 9999.
const LAST_SECOND: f64 = 253_402_300_799.0;
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
/// What lies between two marks of an axis of times, in seconds.
const STEPS: [f64; 21] = [
    1.0,
    2.0,
    5.0,
    10.0,
    15.0,
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
    900.0,
    1_800.0,
    3_600.0,
    7_200.0,
    10_800.0,
    14_400.0,
    21_600.0,
    43_200.0,
    DAY_S,
    2.0 * DAY_S,
    7.0 * DAY_S,
];

/// Seconds since 1970 of an RFC 3339 text, or of a day such as `2026-11-26`.
pub fn seconds(text: &str) -> Option<f64> {
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let time = humantime::parse_rfc3339_weak(&whole).ok()?;
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs_f64())
}

/// The day of such a text, counted from 1970.
pub fn day(text: &str) -> Option<i64> {
    seconds(text.get(..10)?).map(|seconds| (seconds / DAY_S) as i64)
}

/// RFC 3339 to the second.
fn text(seconds: f64) -> String {
    let since = Duration::from_secs(seconds.clamp(0.0, LAST_SECOND) as u64);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + since).to_string()
}

fn day_and_month(day: i64) -> (String, &'static str, String) {
    let text = text(day as f64 * DAY_S);
    let month = text[5..7].parse::<usize>().ok().and_then(|month| MONTHS.get(month.wrapping_sub(1)).copied());
    (text[8..10].trim_start_matches('0').to_owned(), month.unwrap_or(""), text[..4].to_owned())
}

/// `26 November 2026`.
pub fn day_text(day: i64) -> String {
    let (day, month, year) = day_and_month(day);
    format!("{day} {month} {year}")
}

/// `26 Nov`.
pub fn short_day(day: i64) -> String {
    let (day, month, _) = day_and_month(day);
    format!("{day} {}", month.get(..3).unwrap_or(month))
}

/// `26 November 2026, 09:14 UTC`, of a moment.
pub fn moment(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
    format!("{}, {} UTC", day_text((seconds / DAY_S) as i64), &text(seconds)[11..16])
}

/// `2026-11-26 09:14`, of an RFC 3339 text; nothing of any other.
pub fn to_the_minute(rfc3339: &str) -> Option<String> {
    let text = text(seconds(rfc3339)?);
    Some(format!("{} {}", &text[..10], &text[11..16]))
}

/// `2026-11-26`, of a day counted from 1970.
#[cfg(test)]
pub fn iso_day(day: i64) -> String {
    text(day as f64 * DAY_S)[..10].to_owned()
}

/// Which days of an axis have a mark: at most `most`, evenly, counted from the last.
pub fn day_marks(first: i64, last: i64, most: i32) -> Vec<i64> {
    let step = ((last - first) / i64::from(most.max(1)) + 1).max(1);
    (0..).map(|index| last - index * step).take_while(|day| *day >= first).collect()
}

/// How the marks of an axis of times are written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Form {
    Seconds,
    Minutes,
    Days,
}

impl Form {
    /// `09:14:30`, `09:14` or `26 Nov`.
    pub fn text(self, seconds: f64) -> String {
        let text = text(seconds);
        match self {
            Form::Seconds => text[11..19].to_owned(),
            Form::Minutes => text[11..16].to_owned(),
            Form::Days => short_day((seconds / DAY_S) as i64),
        }
    }
}

/// At most `most` marks on round times of an axis, and how they are written.
pub fn time_marks(from: f64, to: f64, most: u32) -> (Vec<f64>, Form) {
    let most = f64::from(most.max(1));
    let longest = 7.0 * DAY_S;
    let step = STEPS.into_iter().find(|step| (to - from) / step <= most);
    let step = step.unwrap_or_else(|| ((to - from) / most / longest).ceil() * longest);
    let form = match step {
        short if short < 60.0 => Form::Seconds,
        middle if middle < DAY_S => Form::Minutes,
        _ => Form::Days,
    };
    let first = (from / step).ceil() * step;
    let marks = (0..=most as u32).map(|index| first + f64::from(index) * step).take_while(|mark| *mark <= to);
    (marks.collect(), form)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_days_and_back() {
        let day = day("2026-11-26").expect("a day");
        assert_eq!((day, day_text(day), short_day(day)), (20_783, "26 November 2026".to_owned(), "26 Nov".to_owned()));
        assert_eq!(super::day("2026-11-26T23:59:59.5Z"), Some(day));
        for bad in ["", "2026-13-01", "yesterday!", "2026-11-é6", "éééééééééé", "1969-12-31"] {
            assert_eq!(super::day(bad), None, "{bad}");
        }
        assert_eq!(to_the_minute("2026-11-26T09:14:59.123Z").as_deref(), Some("2026-11-26 09:14"));
        assert_eq!(to_the_minute("<b>"), None);
        assert_eq!(moment(UNIX_EPOCH), "1 January 1970, 00:00 UTC");
    }

    #[test]
    fn marks_are_round_and_few() {
        assert_eq!(day_marks(100, 102, 13), [102, 101, 100]);
        assert_eq!(day_marks(0, 89, 4), [89, 66, 43, 20]);
        let (marks, form) = time_marks(3_599.0, 7_300.0, 4);
        assert_eq!((marks, form), (vec![3_600.0, 5_400.0, 7_200.0], Form::Minutes));
        for (from, to) in [(0.0, 1.0), (5.5, 9.0), (0.0, 1e12), (1.7e9, 1.7e9 + 3_600.0)] {
            let (marks, form) = time_marks(from, to, 4);
            assert!(marks.len() <= 5 && !marks.is_empty(), "{from} {to}: {marks:?}");
            assert!(marks.iter().all(|mark| !form.text(*mark).is_empty()));
        }
    }
}
