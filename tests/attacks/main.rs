//! Attempts to get out, each with a positive control: confined it fails as its row says; where the layers that are in its way
//! are left out, the same code succeeds, so that the attempt is known to be one.
//!
//! An attempt is a row of a table, Python that sets `result` to whether it got what it wanted, or, where it shows in what the host sees,
//! a test whose name begins with its number. The numbers are those of docs/SECURITY.md.
//!
//! `situations` makes all of them again where the machine gives less.

#![cfg(target_arch = "x86_64")]

mod channels;
mod files;
mod host;
mod kernel;
mod lifecycle;
mod memory;
mod network;
mod processes;
mod situations;
mod state;

use std::collections::BTreeSet;

use skillcache::{Outcome, Skill};

use host::{Attempt, confined, every_attempt_fails, every_attempt_succeeds_unconfined, open, run};

const TABLES: [&[Attempt]; 7] = [
    processes::ATTEMPTS,
    files::ATTEMPTS,
    network::ATTEMPTS,
    kernel::ATTEMPTS,
    memory::ATTEMPTS,
    channels::ATTEMPTS,
    state::ATTEMPTS,
];

/// Attempts that nothing can make, and why.
const NOT_MADE: [(u32, &str); 1] =
    [(63, "to kill the zygote: a cold run starts an interpreter of its own, there is no zygote")];

fn attempts() -> Vec<&'static Attempt> {
    TABLES.into_iter().flatten().collect()
}

#[test]
fn every_attempt_fails_under_all_layers() {
    every_attempt_fails(&attempts(), &[]);
}

#[test]
fn every_attempt_fails_without_namespaces() {
    every_attempt_fails(&attempts(), &[("sandbox.without", "namespaces")]);
}

#[test]
fn unconfined_the_attempts_succeed() {
    every_attempt_succeeds_unconfined(&attempts());
}

#[test]
fn each_layer_left_out_is_refused_or_said_without_it() {
    for (without, missing) in [("seccomp", "processes"), ("namespaces, landlock", "files")] {
        let library = open(&[("sandbox.without", without)]);
        let error = library.put(&Skill::new("s", "result = 1")).expect_err(without);
        assert!(error.details().missing.iter().any(|name| name == missing), "{without}: {error}");
        let library = open(&[("sandbox.without", without), ("sandbox.mode", "best_effort")]);
        let result = run(&library, "result = 1");
        assert_eq!((result.outcome, result.level()), (Outcome::Success, "partial"), "{without}");
    }
}

/// Says what `best_effort` runs in and what `strict` refuses to run without; see `situations`.
#[test]
fn the_level_can_be_asked_for() {
    let result = run(&open(&[("sandbox.mode", "best_effort")]), "result = 1");
    let level = result.confinement.as_ref().expect("it ran").clone();
    let refusal = open(&[("sandbox.mode", "strict")]).put(&Skill::new("s", "result = 1")).err();
    let missing = refusal.as_ref().map(|error| error.details().missing.clone()).unwrap_or_default();
    println!("\nlayers: {}\nmissing: {}", level.layers.join(" "), missing.join(" "));
    assert_eq!(level.missing, missing);
    assert_eq!(level.name == "strict", refusal.is_none());
    if let Some(error) = refusal {
        assert_eq!(error.code(), skillcache::Code::Sandbox);
        assert!(missing.iter().all(|name| error.message().contains(&format!("{name} (needs"))), "{error}");
    } else {
        assert_eq!(run(&confined(&[]), "result = 1").level(), "strict");
    }
}

/// The numbers that the names of tests begin with.
fn numbers_of_tests() -> BTreeSet<u32> {
    let program = std::env::current_exe().expect("this test");
    let listed = std::process::Command::new(program).arg("--list").output().expect("it starts");
    let listed = String::from_utf8(listed.stdout).expect("UTF-8");
    listed.lines().filter_map(|line| line.split_once("attempt_")?.1.get(..2)?.parse().ok()).collect()
}

#[test]
fn every_number_is_covered() {
    let all: BTreeSet<u32> = (1..=64).collect();
    let mut covered = numbers_of_tests();
    covered.extend(attempts().iter().map(|attempt| attempt.number));
    let not_made = NOT_MADE.map(|(number, _)| number);
    assert!(not_made.iter().all(|number| !covered.contains(number)));
    covered.extend(not_made);
    assert_eq!(covered, all);
}

#[test]
fn every_number_is_documented() {
    let table = include_str!("../../docs/SECURITY.md").split("## The attempts").nth(1).expect("the section");
    let rows = table.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|')).skip(2);
    let mut numbers = Vec::new();
    for row in rows {
        let first = row.trim_matches('|').split('|').next().expect("a cell").trim();
        for part in first.split(", ") {
            let (from, to) = part.split_once(" to ").unwrap_or((part, part));
            let number = |text: &str| text.parse::<u32>().unwrap_or_else(|_| panic!("{row}"));
            numbers.extend(number(from)..=number(to));
        }
    }
    assert_eq!(numbers, (1..=64).collect::<Vec<_>>());
}
