//! Runs in the background, through the Rust door: who comes next, what waits, what is cancelled.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use skillcache::{Code, Config, Data, Library, Outcome, RunOptions, Skill, Task};

/// Says when it ran, by a clock that all children share; the inputs say how long it takes.
const CLOCK: &str = "import time\nresult = time.monotonic_ns()\ntime.sleep(inputs.get('s', 0))";

fn open(workers: &str, queue: &str, skills: &[&str]) -> Library {
    let mut config = Config::default();
    for (name, value) in [("task.workers", workers), ("task.queue", queue), ("sandbox.timeout_ms", "120000")] {
        config.set(name, value).expect("a known option");
    }
    let library = Library::open(":memory:", &config).expect("a library");
    for id in skills {
        let mut skill = Skill::new(*id, CLOCK);
        skill.set("cache", "no").expect("a field");
        library.put(&skill).expect("it is Python");
    }
    library
}

fn submit(library: &Library, id: &str, data: &str) -> skillcache::Result<Task> {
    library.submit(id, Data::parse(data).expect("data"), &RunOptions::default())
}

/// Submits what takes a minute, until the queue takes it; twice, and one runs and one waits in a queue of one.
fn submit_long(library: &Library) -> Task {
    loop {
        match submit(library, "long", r#"{"inputs":{"s":60}}"#) {
            Ok(task) => return task,
            // The worker has not taken the one before yet.
            Err(error) => assert_eq!(error.code(), Code::Busy, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn is_readable(descriptor: BorrowedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::from_borrowed_fd(descriptor, PollFlags::IN)], Some(&now)).expect("it can be polled") == 1
}

fn outcome(task: &Task) -> Outcome {
    task.wait(Some(Duration::from_secs(120))).expect("a result").outcome
}

fn began(task: &Task) -> u64 {
    let result = task.wait(Some(Duration::from_secs(120))).expect("a result");
    result.value.as_deref().and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{result:?}"))
}

#[test]
fn a_skill_with_many_tasks_does_not_hold_up_anothers_single_one() {
    let library = open("1", "100", &["long", "many", "single", "pair"]);
    let running = submit_long(&library);
    let mut waiting: Vec<_> =
        (0..20).map(|n| (format!("many{n}"), submit(&library, "many", "").expect("room"))).collect();
    for name in ["single0", "pair0", "pair1"] {
        waiting.push((name.to_owned(), submit(&library, name.trim_end_matches(char::is_numeric), "").expect("room")));
    }
    running.cancel();
    let mut order: Vec<_> = waiting.iter().map(|(name, task)| (began(task), name.as_str())).collect();
    order.sort_unstable();
    let order: Vec<_> = order.into_iter().map(|(_, name)| name).collect();
    assert_eq!(order[..6], ["many0", "single0", "pair0", "many1", "pair1", "many2"]);
    let rest: Vec<_> = (2..20).map(|n| format!("many{n}")).collect();
    assert_eq!(order[5..], rest, "a skill's own tasks keep their order");
}

#[test]
fn a_waiting_task_is_cancelled_at_once_and_its_place_is_free() {
    let library = open("1", "1", &["long", "other"]);
    let (running, waiting) = (submit_long(&library), submit_long(&library));
    let refused = submit(&library, "other", "").expect_err("full");
    assert!(refused.code() == Code::Busy && refused.message().contains("task.queue"), "{refused}");
    assert!(!waiting.is_finished() && !is_readable(waiting.readable().expect("a descriptor")));
    waiting.cancel();
    assert!(waiting.is_finished() && is_readable(waiting.readable().expect("a descriptor")), "nobody was waited for");
    let result = waiting.wait(Some(Duration::ZERO)).expect("a result");
    assert_eq!((result.outcome, &*result.skill), (Outcome::Cancelled, "long"));
    waiting.cancel();
    let next = submit(&library, "other", "").expect("a free place");
    assert!(!running.is_finished() && !next.is_finished());
    running.cancel();
    assert_eq!(outcome(&running), Outcome::Cancelled);
    began(&next);
    next.cancel();
    assert_eq!(outcome(&next), Outcome::Success, "a finished task keeps its result");
}

#[test]
fn a_queue_that_is_cancelled_again_and_again_stays_usable() {
    let library = open("1", "1", &["long", "other"]);
    let running = submit_long(&library);
    for _ in 0..1000 {
        submit_long(&library).cancel();
    }
    assert!(!running.is_finished());
    let next = submit(&library, "other", "").expect("a free place");
    running.cancel();
    began(&next);
}

#[test]
fn closing_ends_what_runs_and_what_waits() {
    let library = open("1", "4", &["long", "other"]);
    let running = submit_long(&library);
    let waiting: Vec<_> = ["other", "long", "other"].map(|id| submit(&library, id, "").expect("room")).into();
    library.close();
    for task in waiting.iter().chain([&running]) {
        assert!(task.is_finished() && is_readable(task.readable().expect("a descriptor")));
        assert_eq!(task.wait(None).expect_err("no result").code(), Code::Cancelled);
        task.cancel();
    }
    drop(library);
    waiting[0].cancel();
    assert_eq!(waiting[0].wait(None).expect_err("no result").code(), Code::Cancelled);
}

#[test]
fn threads_submit_wait_and_cancel_at_the_same_time() {
    let library = open("4", "1000", &["a", "b", "c", "d"]);
    std::thread::scope(|scope| {
        for id in ["a", "b", "c", "d"] {
            let library = &library;
            scope.spawn(move || {
                let tasks: Vec<_> = (0..10).map(|_| submit(library, id, "").expect("room")).collect();
                // The newest first: most of those still wait.
                tasks.iter().rev().step_by(2).for_each(Task::cancel);
                for (number, task) in tasks.iter().enumerate() {
                    let may_be_cancelled = number % 2 == 1;
                    let ended = outcome(task);
                    assert!(ended == Outcome::Success || may_be_cancelled && ended == Outcome::Cancelled, "{ended:?}");
                }
            });
        }
    });
}

#[test]
fn tasks_that_wait_take_no_descriptors() {
    let library = open("1", "2000", &["long"]);
    let running = submit_long(&library);
    let descriptors = || std::fs::read_dir("/proc/self/fd").expect("proc").count();
    let before = descriptors();
    let tasks: Vec<Task> = (0..2000).map_while(|_| submit(&library, "long", r#"{"inputs":{"s":60}}"#).ok()).collect();
    // The other tests of this program run beside it.
    assert!(
        tasks.len() > 1900 && descriptors() < before + 500,
        "{} tasks, {before} then {}",
        tasks.len(),
        descriptors()
    );
    let last = tasks.last().expect("there are some");
    assert!(!is_readable(last.readable().expect("a descriptor")));
    // What was asked for late says the same as what was asked for early.
    tasks.iter().for_each(Task::cancel);
    assert!(
        is_readable(last.readable().expect("a descriptor")) && is_readable(tasks[0].readable().expect("a descriptor"))
    );
    running.cancel();
    assert_eq!(outcome(&running), Outcome::Cancelled);
}
