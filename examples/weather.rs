//! Four years of Seattle weather, asked eight questions by eight skills; then one that fails and one that never ends.
//!
//! `weather FOLDER [DATABASE]`: the folder of the examples; without a database, one that is removed at the end.

use std::error::Error;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs, process};

use skillcache::json::Value;
use skillcache::{Config, Data, Library, Outcome, RunLimits, RunOptions, RunResult, Skill};

const SKILLS: [&str; 8] = [
    "degree_days",
    "rain_streaks",
    "anomaly_days",
    "trend",
    "monthly_table",
    "text_summary",
    "persistence",
    "frost_season",
];
const TEXT_COLUMNS: [&str; 2] = ["date", "weather"];
const TIMEOUT_MS: u64 = 300;

type Answer<T> = Result<T, Box<dyn Error>>;

struct Story {
    folder: PathBuf,
    library: Library,
    data: Data,
}

fn read_file(folder: &Path, name: &str) -> Answer<String> {
    let path = folder.join(name);
    fs::read_to_string(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()).into())
}

/// The columns of the records as run-time data. Prints what it read.
fn read_columns(folder: &Path) -> Answer<Data> {
    let file = read_file(folder, "data/seattle-weather.csv")?;
    let mut rows = file.lines().map(|row| row.split(',').collect::<Vec<_>>());
    let names = rows.next().ok_or("the records are empty")?;
    let rows: Vec<_> = rows.collect();
    let column = |(index, name): (usize, &&str)| -> Answer<(String, Value)> {
        let field = |row: &Vec<&str>| -> Answer<Value> {
            let field = *row.get(index).ok_or("a day has too few fields")?;
            // Numbers are JSON numbers already.
            Ok(if TEXT_COLUMNS.contains(name) { Value::from(field) } else { Value::parse(field)? })
        };
        Ok(((*name).to_owned(), Value::Array(rows.iter().map(field).collect::<Answer<_>>()?)))
    };
    let columns = names.iter().enumerate().map(column).collect::<Answer<Vec<_>>>()?;
    let (first, last) = (rows.first().ok_or("no days")?[0], rows[rows.len() - 1][0]);
    println!("Seattle, {} days from {first} to {last}, asked from Rust", rows.len());
    Ok(Data { inputs: Some(Value::Object(columns)), context: None })
}

fn human(time: Duration) -> String {
    match time.as_micros() {
        micros @ 0..1000 => format!("{micros} us"),
        micros => format!("{:.1} ms", micros as f64 / 1e3),
    }
}

fn headline(result: &RunResult) -> Answer<String> {
    let value = Value::parse(result.value.as_deref().unwrap_or_default())?;
    Ok(value.get("headline").and_then(Value::as_str).ok_or("no headline")?.to_owned())
}

impl Story {
    fn put(&self, name: &str) -> Answer<u32> {
        let code = read_file(&self.folder, &format!("skills/{name}.py"))?;
        let docstring = code.split("\"\"\"").nth(1).unwrap_or_default();
        let mut skill = Skill::new(name, code.as_str());
        skill.set("description", docstring.lines().next().unwrap_or_default())?;
        skill.set("category", "climate")?;
        skill.set("tags", r#"["weather"]"#)?;
        Ok(self.library.put(&skill)?)
    }

    fn run(&self, name: &str, options: &RunOptions, outcome: Outcome) -> Answer<RunResult> {
        let result = self.library.run(name, self.data.clone(), options)?;
        if result.outcome != outcome {
            let why = result.failure.map(|failure| failure.text()).unwrap_or_default();
            return Err(format!("{name} ended as {}: {why}", result.outcome.name()).into());
        }
        Ok(result)
    }

    fn run_all(&self) -> Answer<()> {
        let mut table = Vec::new();
        let is_live = std::io::stderr().is_terminal();
        for (index, name) in SKILLS.iter().enumerate() {
            let (step, total, version) = (index + 1, SKILLS.len(), self.put(name)?);
            let (begin, end) = if is_live { ("\r\x1b[K", "") } else { ("", "\n") };
            eprint!("{begin}[{step}/{total}] {name}: version {version}, running{end}");
            let first = self.run(name, &RunOptions::default(), Outcome::Success)?;
            let repeat = self.run(name, &RunOptions::default(), Outcome::Success)?;
            if !repeat.is_cached || repeat.value != first.value {
                return Err(format!("{name} was not answered from memory").into());
            }
            table.push((name, headline(&first)?, first, repeat));
        }
        if is_live {
            eprint!("\r\x1b[K");
        }
        let width = table.iter().map(|(_, headline, ..)| headline.len()).max().unwrap_or(0) + 2;
        println!("\n{:<14}{:<9}{:<width$}{:>10}{:>10}", "skill", "outcome", "answer", "first run", "repeat");
        for (name, headline, first, repeat) in table {
            let (once, again) = (human(first.duration), human(repeat.duration));
            println!("{name:<14}{:<9}{headline:<width$}{once:>10}{again:>10}", first.outcome.name());
        }
        Ok(())
    }

    fn fail(&self) -> Answer<()> {
        self.put("broken")?;
        let result = self.run("broken", &RunOptions::default(), Outcome::Error)?;
        let failure = result.failure.as_deref().ok_or("no failure")?;
        let line = failure.line.ok_or("no line")?;
        let skill = self.library.get("broken", 0)?;
        let source = skill.code().lines().nth(line as usize - 1).unwrap_or_default();
        println!("\nbroken fails at its line {line}, {}: {}\n{source}", failure.kind, failure.message);
        Ok(())
    }

    fn time_out(&self) -> Answer<()> {
        self.put("endless")?;
        let limits = RunLimits { timeout_ms: Some(TIMEOUT_MS), ..RunLimits::default() };
        let options = RunOptions { limits, ..RunOptions::default() };
        let result = self.run("endless", &options, Outcome::Timeout)?;
        let time = human(result.duration);
        println!("\nendless never ends; it was stopped after {time}, outcome {}", result.outcome.name());
        Ok(())
    }

    fn show_statistics(&self) -> Answer<()> {
        let stats = self.library.stats()?;
        let at = |path: &[&str]| path.iter().try_fold(&stats, |value, name| value.get(name));
        let number = |path: &[&str]| at(path).and_then(Value::as_f64).unwrap_or(f64::NAN);
        let text = |path: &[&str]| at(path).and_then(Value::as_str).unwrap_or("?").to_owned();
        let micros = |path: &[&str]| human(Duration::from_micros(number(path) as u64));
        let outcomes: Vec<String> = Outcome::ALL
            .iter()
            .map(|outcome| (number(&["runs", "by_outcome", outcome.name()]), outcome.name()))
            .filter(|(count, _)| *count > 0.0)
            .map(|(count, name)| format!("{count} {name}"))
            .collect();
        let results = |field| number(&["caches", "execution", field]);
        let (hits, misses, rate) = (results("hits"), results("misses"), results("hit_rate") * 100.0);
        let (executed, cached) = (micros(&["latency_us", "executed", "p50"]), micros(&["latency_us", "cached", "p50"]));
        println!("\nstatistics");
        println!("  runs      {}: {}", number(&["runs", "total"]), outcomes.join(", "));
        println!("  memory    {hits} hits, {misses} misses, hit rate {rate:.0}%");
        println!("  median    executed {executed}, from memory {cached}");
        println!("  confined  {}, {}", text(&["sandbox", "mode"]), text(&["sandbox", "level"]));
        Ok(())
    }
}

fn tell() -> Answer<()> {
    let folder = PathBuf::from(env::args().nth(1).ok_or("usage: weather FOLDER [DATABASE]")?);
    let data = read_columns(&folder)?;
    let temporary = tempfile::tempdir()?;
    let path = env::args().nth(2).map_or_else(|| temporary.path().join("skills.db"), PathBuf::from);
    let library = Library::open(path.to_str().ok_or("the path is not UTF-8")?, &Config::default())?;
    let story = Story { folder, library, data };
    story.run_all()?;
    story.fail()?;
    story.time_out()?;
    story.show_statistics()
}

fn main() {
    if let Err(error) = tell() {
        eprintln!("weather: {error}");
        process::exit(1);
    }
}
