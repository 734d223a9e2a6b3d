//! How long runs took, and how long they waited to begin.

use skillcache::json::Value;

use crate::chart::{self, Strip};
use crate::document::{at, count, items, number};
use crate::page::{Part, figure, nothing_yet, shown, table};
use crate::units;

const KINDS: [(&str, &str); 3] = [("cached", "From memory"), ("executed", "Executed"), ("queue", "In the queue")];

pub fn section(document: &Value) -> Part {
    let measured: Vec<_> = KINDS
        .into_iter()
        .filter_map(|(member, name)| Some((name, at(document, &format!("stats.latency_us.{member}"))?)))
        .filter(|(_, times)| count(times, "count") > 0.0)
        .collect();
    if measured.is_empty() {
        return Ok(nothing_yet("Nothing ran since the library was opened."));
    }
    let strips: Vec<Strip> = measured.iter().filter_map(|(name, times)| strip(name, times)).collect();
    let drawing = if strips.is_empty() {
        String::new()
    } else {
        let note = "How many took how long, on a logarithmic axis. Each strip is as high as its own tallest bar; the lines are the median \
            and the 95th and 99th percentiles.";
        figure("Distribution", note, &chart::strips(&strips, ("Distribution of times", &words(&strips)))?, &[])
    };
    Ok(drawing + &numbers(&measured))
}

/// The shares of the buckets, which count up; what took longer than the last of them stands beyond it.
fn shares(times: &Value) -> Vec<(f64, f64, f64)> {
    let total = count(times, "count");
    let mut shares = Vec::new();
    let (mut below, mut before) = (0.0, None);
    for bucket in items(times, "buckets") {
        let (Some(le), Some(count)) = (number(bucket, "le"), number(bucket, "count")) else { continue };
        let le = le.clamp(1.0, 1e15);
        let from = before.unwrap_or(le / 2.0);
        if le > from {
            shares.push((from, le, ((count - below) / total).clamp(0.0, 1.0)));
            (below, before) = (count.max(below), Some(le));
        }
    }
    let beyond =
        before.filter(|_| total - below > 0.0).map(|from| (from, from * 2.0, ((total - below) / total).min(1.0)));
    shares.extend(beyond);
    shares
}

fn strip(name: &'static str, times: &Value) -> Option<Strip> {
    let shares = shares(times);
    let is_drawn = shares.iter().any(|(_, _, share)| *share > 0.0);
    let [p50, p95, p99] = ["p50", "p95", "p99"].map(|name| number(times, name).unwrap_or(0.0).clamp(0.0, 1e15));
    let note = format!("p50 {}, p95 {}, p99 {}", units::micros(p50), units::micros(p95), units::micros(p99));
    // A percentile is known to two digits, and may lie just outside the buckets that were counted.
    let ends = (shares.first()?.0, shares.last()?.1);
    let lines = [p50, p95, p99].map(|micros| micros.clamp(ends.0, ends.1)).to_vec();
    is_drawn.then_some(Strip { name, note, shares, lines })
}

fn words(strips: &[Strip]) -> String {
    let parts: Vec<String> = strips.iter().map(|strip| format!("{}: {}", strip.name, strip.note)).collect();
    parts.join(". ")
}

fn numbers(measured: &[(&'static str, &Value)]) -> String {
    let columns = ["p50", "p95", "p99", "max", "mean"];
    let rows: Vec<Vec<String>> = measured
        .iter()
        .map(|(name, times)| {
            let times_of = columns.iter().map(|column| shown(times, column, units::micros));
            [(*name).to_owned(), shown(times, "count", units::count)].into_iter().chain(times_of).collect()
        })
        .collect();
    table("Times in numbers", &["Time", "#How often", "#p50", "#p95", "#p99", "#Longest", "#Mean"], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(count: u32, buckets: &str) -> Value {
        Value::parse(&format!("{{\"count\": {count}, \"p50\": 3, \"buckets\": {buckets}}}")).expect("JSON")
    }

    #[test]
    fn buckets_are_differences() {
        let counted = times(10, r#"[{"le": 1, "count": 2}, {"le": 2, "count": 2}, {"le": 5, "count": 9}]"#);
        assert_eq!(shares(&counted), [(0.5, 1.0, 0.2), (1.0, 2.0, 0.0), (2.0, 5.0, 0.7), (5.0, 10.0, 0.1)]);
    }

    #[test]
    fn what_makes_no_sense_is_left_out() {
        let odd = times(4, r#"[{"le": "x"}, 3, {"le": 5, "count": 3}, {"le": 2, "count": 4}, {"le": 10, "count": 1}]"#);
        assert_eq!(shares(&odd), [(2.5, 5.0, 0.75), (5.0, 10.0, 0.0), (10.0, 20.0, 0.25)]);
        assert!(strip("a", &times(4, "[]")).is_none());
    }
}
