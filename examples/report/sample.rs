//! A library to look at, where none is given: the skills of the examples asked about windows of the weather again and again, some seconds long, and a few
//! skills that fail in ways of their own. It is thrown away once its page is made.

use std::time::{Duration, Instant};

use skillcache::json::Value;
use skillcache::{Config, Data, Library, Outcome, RunLimits, RunOptions, Skill, Task};

use crate::{Answer, counted, document, kept};

const RECORDS: &str = include_str!("../data/seattle-weather.csv");
const TEXT_COLUMNS: [&str; 2] = ["date", "weather"];
const SKILLS: [(&str, &str); 8] = [
    ("degree_days", include_str!("../skills/degree_days.py")),
    ("rain_streaks", include_str!("../skills/rain_streaks.py")),
    ("anomaly_days", include_str!("../skills/anomaly_days.py")),
    ("trend", include_str!("../skills/trend.py")),
    ("monthly_table", include_str!("../skills/monthly_table.py")),
    ("text_summary", include_str!("../skills/text_summary.py")),
    ("persistence", include_str!("../skills/persistence.py")),
    ("frost_season", include_str!("../skills/frost_season.py")),
];
/// Each ends in its own way.
const FAILING: [(&str, &str, Outcome); 6] = [
    ("broken", include_str!("../skills/broken.py"), Outcome::Error),
    ("endless", include_str!("../skills/endless.py"), Outcome::Timeout),
    ("greedy", "\"\"\"Asks for more memory than there is.\"\"\"\nresult = 'x' * (1 << 34)\n", Outcome::MemoryLimit),
    ("silent", "\"\"\"Forgets to answer.\"\"\"\nanswer = 42\n", Outcome::NoResult),
    ("verbose", "\"\"\"Answers more than is taken.\"\"\"\nresult = 'x' * (9 << 20)\n", Outcome::OutputLimit),
    ("picky", "\"\"\"Asks for a city that nobody names.\"\"\"\nresult = inputs['city']\n", Outcome::InvalidInput),
];
const PICKY_SCHEMA: &str = r#"{"type": "object", "required": ["city"]}"#;

/// How many runs are executed in each wave; one wave is a sample of the history, more or less.
const WAVES: [usize; 12] = [6, 12, 20, 30, 36, 24, 10, 4, 14, 28, 34, 16];
const WAVE: Duration = Duration::from_secs(1);
/// How often the newest answers are asked for again, for each that is executed.
const REPEATS: usize = 9;
/// A window is three years, as many as a trend needs, and the next begins a week later.
const WINDOW: usize = 1096;
const STEP: usize = 7;
const OPTIONS: [(&str, &str); 5] = [
    ("monitor.history_interval_s", "1"),
    ("monitor.slow_run_ms", "250"),
    ("cache.execution.max_entries", "256"),
    ("pool.size", "4"),
    ("task.workers", "2"),
];

/// The document of a sample library.
pub fn document() -> Answer<Value> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("sample.db");
    let mut config = Config::default();
    for (option, value) in OPTIONS {
        config.set(option, value)?;
    }
    let library = Library::open(path.to_str().ok_or("the temporary folder's path is not UTF-8")?, &config)?;
    put_all(&library)?;
    use_it(&library)?;
    let mut members = counted(&library)?;
    members.push(("events".to_owned(), Value::Array(events(&library)?)));
    Ok(kept(&library, "A sample library", "sample", members)?)
}

fn put_all(library: &Library) -> Answer<()> {
    let failing = FAILING.iter().map(|(id, code, _)| (*id, *code));
    for (id, code) in SKILLS.into_iter().chain(failing) {
        let mut skill = Skill::new(id, code);
        let docstring = code.split("\"\"\"").nth(1).unwrap_or_default();
        skill.set("description", docstring.lines().next().unwrap_or_default())?;
        skill.set(
            "tags",
            if SKILLS.iter().any(|(known, _)| *known == id) { r#"["weather"]"# } else { r#"["failing"]"# },
        )?;
        if id == "picky" {
            skill.set("input_schema", PICKY_SCHEMA)?;
        }
        library.put(&skill)?;
    }
    Ok(())
}

/// The records of one window, as run-time data.
fn windows() -> Answer<Vec<Data>> {
    let mut lines = RECORDS.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let names = lines.next().ok_or("the records are empty")?;
    let days: Vec<_> = lines.collect();
    let window = |days: &[Vec<&str>]| -> Answer<Data> {
        let column = |(index, name): (usize, &&str)| -> Answer<(String, Value)> {
            let field = |day: &Vec<&str>| -> Answer<Value> {
                let field = *day.get(index).ok_or("a day has too few fields")?;
                Ok(if TEXT_COLUMNS.contains(name) { Value::from(field) } else { Value::parse(field)? })
            };
            Ok(((*name).to_owned(), Value::Array(days.iter().map(field).collect::<Answer<_>>()?)))
        };
        let columns = names.iter().enumerate().map(column).collect::<Answer<Vec<_>>>()?;
        Ok(Data { inputs: Some(Value::Object(columns)), context: None })
    };
    days.windows(WINDOW).step_by(STEP).map(window).collect()
}

fn use_it(library: &Library) -> Answer<()> {
    let windows = windows()?;
    let mut asked = 0;
    for (wave, size) in WAVES.into_iter().enumerate() {
        let begun = Instant::now();
        let before = asked;
        let question = |number: usize| {
            let (skill, _) = SKILLS[number % SKILLS.len()];
            (skill, windows[number / SKILLS.len() % windows.len()].clone())
        };
        let ask = |number: usize| -> Answer<Task> {
            let (skill, data) = question(number);
            Ok(library.submit(skill, data, &RunOptions::default())?)
        };
        let tasks = (before..before + size).map(ask).collect::<Answer<Vec<_>>>()?;
        fail(library, wave, &windows)?;
        for task in tasks {
            expect(&task.wait(None)?, Outcome::Success)?;
        }
        asked += size;
        if wave % 4 == 3 {
            cancel(library)?;
        }
        for number in (0..size * REPEATS).map(|repeat| before + repeat % size) {
            let (skill, data) = question(number);
            expect(&library.run(skill, data, &RunOptions::default())?, Outcome::Success)?;
        }
        std::thread::sleep(WAVE.saturating_sub(begun.elapsed()));
    }
    Ok(())
}

/// One skill that fails each wave, the same in every sample.
fn fail(library: &Library, wave: usize, windows: &[Data]) -> Answer<()> {
    let (skill, _, outcome) = FAILING[wave % FAILING.len()];
    // The others have all the time that a busy machine takes.
    let timeout_ms = (outcome == Outcome::Timeout).then_some(300);
    let limits = RunLimits { timeout_ms, ..RunLimits::default() };
    let options = RunOptions { limits, ..RunOptions::default() };
    let data = windows.first().cloned().unwrap_or_default();
    expect(&library.run(skill, data.clone(), &options)?, outcome)?;
    Ok(())
}

/// Lets a run begin that would not end, and cancels it.
fn cancel(library: &Library) -> Answer<()> {
    let task = library.submit("endless", Data::default(), &RunOptions::default())?;
    let patience = Instant::now() + Duration::from_secs(10);
    let is_running = || -> Answer<bool> { Ok(document::count(&library.stats()?, "tasks.running") > 0.0) };
    while !is_running()? && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(5));
    }
    task.cancel();
    expect(&task.wait(None)?, Outcome::Cancelled)
}

fn expect(result: &skillcache::RunResult, outcome: Outcome) -> Answer<()> {
    if result.outcome == outcome {
        return Ok(());
    }
    let why = result.failure.as_ref().map(|failure| failure.text()).unwrap_or_default();
    Err(format!("a run of the sample ended as {}, not as {}: {why}", result.outcome.name(), outcome.name()).into())
}

/// The events that wait, oldest first.
fn events(library: &Library) -> Answer<Vec<Value>> {
    let mut events = Vec::new();
    while let Ok(event) = library.next_event(Some(Duration::ZERO)) {
        events.push(Value::parse(&event)?);
    }
    Ok(events)
}
