//! How much was asked for, and what had to wait: runs, connections, tasks.

use skillcache::json::Value;

use crate::chart::Scale;
use crate::document::{at, count};
use crate::history::{History, Step, largest, summary};
use crate::page::{Part, facts, figure, nothing_yet, of_bound, row, shown};
use crate::{ink, units};

pub fn section(document: &Value) -> Part {
    let history = History::of(document);
    let curves = if history.is_empty() {
        nothing_yet("There are no samples of the load over time.")
    } else {
        row(&[runs(&history)?, connections(&history)?, waiting(&history)?])
    };
    Ok(curves + &numbers(document))
}

/// Runs a second; or a minute, if they are few.
fn runs(history: &History) -> Part {
    let is_busy = largest(&history.values(|step| step.rate("runs"))) >= 1.0;
    let (per, factor) = if is_busy { ("s", 1.0) } else { ("min", 60.0) };
    let all = |step: &Step| step.rate("runs").map(|rate| rate * factor);
    let failed = |step: &Step| step.rate("failed").map(|rate| rate * factor);
    let in_unit = |rate: f64| format!("{}/{per}", rounded(rate));
    let (of_all, of_failed) = (history.values(all), history.values(failed));
    let note = summary(&of_all, in_unit);
    let scale = Scale::of(largest(&of_all));
    let curves = [history.curve(ink::FIRST, true, all), history.curve(ink::ALARM, false, failed)];
    let drawing = history.draw(&curves, (&scale, &|rate| rounded(*rate)), None, ("Runs over time", &note))?;
    let now = |values: &[f64]| values.last().copied().map_or_else(|| "–".to_owned(), in_unit);
    let legend = [
        (ink::FIRST, format!("runs <b>{}</b>", now(&of_all))),
        (ink::ALARM, format!("not succeeded <b>{}</b>", now(&of_failed))),
    ];
    Ok(figure(if is_busy { "Runs a second" } else { "Runs a minute" }, &note, &drawing, &legend))
}

/// With a fraction only if it is small.
fn rounded(rate: f64) -> String {
    match rate {
        whole if whole.fract() == 0.0 || whole >= 10.0 => units::count(whole),
        small => format!("{small:.1}"),
    }
}

fn connections(history: &History) -> Part {
    let [in_use, open] = ["pool_in_use", "pool_open"].map(|name| move |step: &Step| step.most(name));
    let size = largest(&history.values(|step| step.most("pool_size")));
    let scale = Scale::of_whole(size.max(largest(&history.values(open))));
    let most = units::count(largest(&history.values(in_use)));
    let note = format!("At most {most} in use at once; {} are kept.", units::count(size));
    let curves = [history.curve(ink::SECOND, false, open), history.curve(ink::FIRST, true, in_use)];
    let drawing = history.draw(
        &curves,
        (&scale, &|number| units::count(*number)),
        Some(size),
        ("Connections over time", &note),
    )?;
    let legend = [
        (ink::FIRST, "in use".to_owned()),
        (ink::SECOND, "open".to_owned()),
        (ink::ALARM, format!("kept at most <b>{}</b>", units::count(size))),
    ];
    Ok(figure("Connections", &note, &drawing, &legend))
}

fn waiting(history: &History) -> Part {
    let names = ["pool_waiting", "tasks_waiting"];
    let [calls, tasks] = names.map(|name| move |step: &Step| step.most(name));
    let exhausted = |step: &Step| step.growth("pool_exhaustions");
    let values = [history.values(calls), history.values(tasks), history.values(exhausted)];
    let scale = Scale::of_whole(values.iter().map(|values| largest(values)).fold(0.0, f64::max));
    let sum = units::count(values[2].iter().sum());
    let most = |values: &[f64]| units::count(largest(values));
    let note = format!("At most {} tasks and {} calls waited at once.", most(&values[1]), most(&values[0]));
    let curves = [
        history.curve(ink::FIRST, true, tasks),
        history.curve(ink::SECOND, false, calls),
        history.curve(ink::ALARM, false, exhausted),
    ];
    let words = ("Waiting over time", note.as_str());
    let drawing = history.draw(&curves, (&scale, &|number| units::count(*number)), None, words)?;
    let legend = [
        (ink::FIRST, "tasks".to_owned()),
        (ink::SECOND, "calls for a connection".to_owned()),
        (ink::ALARM, format!("in vain <b>{sum}</b>")),
    ];
    Ok(figure("Waiting", &note, &drawing, &legend))
}

fn numbers(document: &Value) -> String {
    let Some(pool) = at(document, "stats.pool") else { return String::new() };
    let counted = |member| units::count(count(pool, member));
    let mut rows = vec![
        ("Connections", of_bound(pool, "open_connections", "pool_size", units::count)),
        ("Asked for", counted("total_requests")),
        ("Exhaustions", counted("exhaustion_events")),
        ("Wait, p99", shown(pool, "wait_us.p99", units::micros)),
        ("Leaks", counted("leaks")),
    ];
    if let Some(tasks) = at(document, "stats.tasks") {
        rows.push(("Tasks", format!("{} submitted", units::count(count(tasks, "submitted")))));
        rows.push(("Tasks refused", units::count(count(tasks, "refused"))));
        rows.push(("Workers", of_bound(tasks, "workers", "max_workers", units::count)));
    }
    facts(&rows)
}
