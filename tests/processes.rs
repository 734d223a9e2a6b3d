//! Two processes at work on one file, each with several threads: nobody is refused, the log does not grow, and every reader
//! sees a prefix of what was written.
//!
//! This program is both processes: started with a folder and a number it is that one. Each thread writes skills of its own
//! and reads everybody's. What a put returned for is noted in a file that all share (the ledger), so that a reader knows
//! what it must see at least, whoever wrote it.
//!
//! `SKC_PROCESS_OPERATIONS` says how many operations both make together; `make torture` sets a million.

#[path = "whole/mod.rs"]
mod whole;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;
use std::{env, thread};

use rusqlite::Connection;
use skillcache::{Code, Config, Data, Error, Filter, Library, Outcome, Query, RunOptions, Skill};

use whole::dice::Dice;
use whole::{CODE, check_newest, contents, draft};

const PROCESSES: usize = 2;
const THREADS: usize = 4;
const WRITERS: usize = PROCESSES * THREADS;

/// The log is emptied at 16 MiB, if its readers are gone within a moment; else a second later.
const MOST_LOG_BYTES: u64 = 32 << 20;

/// What each writer writes. Version n of each of them has the number n.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Put first.
    First,
    /// Put after the first, with the same number: who sees this one sees that one.
    Second,
    /// Put, removed, put again.
    Fleeting,
    /// Seldom put, often run: its answer is its number.
    Run,
}

impl Kind {
    const ALL: [Kind; 4] = [Kind::First, Kind::Second, Kind::Fleeting, Kind::Run];

    fn id(self, writer: usize) -> String {
        let name = match self {
            Kind::First => "first",
            Kind::Second => "second",
            Kind::Fleeting => "fleeting",
            Kind::Run => "run",
        };
        format!("{name}-w{writer}")
    }

    fn place(self, writer: usize) -> usize {
        writer * Kind::ALL.len() + self as usize
    }
}

/// What was acknowledged of each skill: its number, and whether it was removed since.
struct Ledger(File);

impl Ledger {
    fn open(folder: &Path) -> Self {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(folder.join("ledger"));
        let file = file.expect("a ledger");
        file.set_len((WRITERS * Kind::ALL.len() * 8) as u64).expect("a ledger");
        Ledger(file)
    }

    fn note(&self, kind: Kind, writer: usize, number: u64, is_removed: bool) {
        let entry = number << 1 | u64::from(is_removed);
        self.0.write_all_at(&entry.to_le_bytes(), (kind.place(writer) * 8) as u64).expect("a ledger");
    }

    fn read(&self, kind: Kind, writer: usize) -> (u64, bool) {
        let mut entry = [0; 8];
        self.0.read_exact_at(&mut entry, (kind.place(writer) * 8) as u64).expect("a ledger");
        let entry = u64::from_le_bytes(entry);
        (entry >> 1, entry & 1 != 0)
    }
}

/// What one thread has seen; it holds everything that it sees against that and the ledger.
struct Reader<'a> {
    library: &'a Library,
    ledger: &'a Ledger,
    seen: [u64; WRITERS * Kind::ALL.len()],
}

type Checked<T = ()> = Result<T, String>;

fn refused(error: Error) -> String {
    format!("a call was refused: {:?}: {error}", error.code())
}

impl<'a> Reader<'a> {
    fn new(library: &'a Library, ledger: &'a Ledger) -> Self {
        Reader { library, ledger, seen: [0; WRITERS * Kind::ALL.len()] }
    }

    /// Checks what was read of a skill: nothing, or a number. The ledger was read before that.
    fn check(&mut self, kind: Kind, writer: usize, found: Option<u64>, (noted, is_removed): (u64, bool)) -> Checked {
        let seen = &mut self.seen[kind.place(writer)];
        let id = kind.id(writer);
        let Some(number) = found else {
            let may_be_absent = kind == Kind::Fleeting || noted == 0 && *seen == 0;
            return may_be_absent
                .then_some(())
                .ok_or_else(|| format!("{id}: {noted} was acknowledged, nothing is there"));
        };
        if number < noted || number == noted && is_removed {
            return Err(format!("{id}: {noted} was acknowledged (removed: {is_removed}), {number} is there"));
        }
        if number < *seen {
            return Err(format!("{id} went back from {seen} to {number}"));
        }
        *seen = number;
        Ok(())
    }

    /// The number of a skill that was read, which must be whole and at its place.
    fn number_of(skill: &Skill) -> Checked<u64> {
        let (number, _) = contents(skill)?;
        match number == u64::from(skill.version()) {
            true => Ok(number),
            false => Err(format!("{} has a gap: version {} is number {number}", skill.id(), skill.version())),
        }
    }

    fn get(&mut self, kind: Kind, writer: usize) -> Checked<u64> {
        let noted = self.ledger.read(kind, writer);
        let found = match self.library.get(&kind.id(writer), 0) {
            Ok(skill) => Some(Self::number_of(&skill)?),
            Err(error) if error.code() == Code::NotFound => None,
            Err(error) => return Err(refused(error)),
        };
        self.check(kind, writer, found, noted)?;
        Ok(found.unwrap_or(0))
    }

    /// Two reads, one after the other: what was written first is seen if the second is.
    fn get_pair(&mut self, writer: usize) -> Checked {
        let second = self.get(Kind::Second, writer)?;
        let first = self.get(Kind::First, writer)?;
        match first >= second {
            true => Ok(()),
            false => Err(format!("writer {writer}: the first is {first}, the second already {second}")),
        }
    }

    /// Every version up to one that was seen is there.
    fn get_old(&mut self, writer: usize, dice: &mut Dice) -> Checked {
        let seen = self.seen[Kind::First.place(writer)];
        if seen == 0 {
            return Ok(());
        }
        let version = dice.below(seen as usize) as u32 + 1;
        let skill = self.library.get(&Kind::First.id(writer), version).map_err(refused)?;
        Self::number_of(&skill).map(drop)
    }

    fn list(&mut self, writer: usize) -> Checked {
        let noted = self.noted(writer);
        let filter = Filter { name: Some(format!("-w{writer}")), ..Filter::default() };
        let found = self.library.list(&filter).map_err(refused)?;
        self.check_all(writer, &found, noted)
    }

    fn search(&mut self, writer: usize) -> Checked {
        let noted = self.noted(writer);
        let found = self.library.search(&Query::words(&format!("w{writer}"))).map_err(refused)?;
        let found: Vec<Skill> = found.into_iter().map(|found| found.skill).collect();
        self.check_all(writer, &found, noted)
    }

    fn noted(&self, writer: usize) -> [(u64, bool); Kind::ALL.len()] {
        Kind::ALL.map(|kind| self.ledger.read(kind, writer))
    }

    /// All of a writer's skills, seen at one moment.
    fn check_all(&mut self, writer: usize, found: &[Skill], noted: [(u64, bool); Kind::ALL.len()]) -> Checked {
        let mut numbers = [0; Kind::ALL.len()];
        for kind in Kind::ALL {
            let skill = found.iter().find(|skill| skill.id() == kind.id(writer));
            let number = skill.map(Self::number_of).transpose()?;
            self.check(kind, writer, number, noted[kind as usize])?;
            numbers[kind as usize] = number.unwrap_or(0);
        }
        let [first, second, ..] = numbers;
        match first == second || first == second + 1 {
            true => Ok(()),
            false => Err(format!("writer {writer}: at one moment the first is {first}, the second {second}")),
        }
    }

    /// Mostly answered from memory, never with what was there before the last acknowledged put.
    fn run(&mut self, writer: usize) -> Checked {
        let noted = self.ledger.read(Kind::Run, writer);
        let found = match self.library.run(&Kind::Run.id(writer), Data::default(), &RunOptions::default()) {
            Err(error) if error.code() == Code::NotFound => None,
            Err(error) => return Err(refused(error)),
            Ok(result) => match (result.outcome, result.value.as_deref().map(str::parse)) {
                (Outcome::Success, Some(Ok(number))) if number == u64::from(result.version) => Some(number),
                _ => return Err(format!("a run of writer {writer}'s: {result:?}")),
            },
        };
        self.check(Kind::Run, writer, found, noted)
    }
}

/// One thread: writes its own, reads everybody's.
struct Worker<'a> {
    writer: usize,
    reader: Reader<'a>,
    dice: Dice,
    /// How often it has put each kind.
    written: [u64; Kind::ALL.len()],
}

impl Worker<'_> {
    fn work(mut self, operations: usize) -> Checked {
        // The skills that are run are there from the beginning.
        self.put(Kind::Run)?;
        (1..operations).try_for_each(|_| self.step())
    }

    fn step(&mut self) -> Checked {
        let anybody = self.dice.below(WRITERS);
        match self.dice.below(1000) {
            0..80 => self.put_next(),
            80..83 => self.put(Kind::Run),
            83..100 => self.put_or_remove(),
            100..350 => self.reader.get_pair(anybody),
            350..400 => self.reader.get(Kind::Fleeting, anybody).map(drop),
            400..500 => self.reader.get_old(anybody, &mut self.dice),
            500..570 => self.reader.list(anybody),
            570..640 => self.reader.search(anybody),
            _ => self.reader.run(anybody),
        }
    }

    fn put(&mut self, kind: Kind) -> Checked {
        let number = self.written[kind as usize] + 1;
        let (skill, _) = draft(&kind.id(self.writer), "writer", number);
        let version = self.reader.library.put(&skill).map_err(refused)?;
        if u64::from(version) != number {
            return Err(format!("{}: put number {number} made version {version}", skill.id()));
        }
        self.written[kind as usize] = number;
        self.reader.ledger.note(kind, self.writer, number, false);
        Ok(())
    }

    fn put_next(&mut self) -> Checked {
        let [first, second, ..] = self.written;
        self.put(if first == second { Kind::First } else { Kind::Second })
    }

    fn put_or_remove(&mut self) -> Checked {
        let (number, is_removed) = self.reader.ledger.read(Kind::Fleeting, self.writer);
        if number == 0 || is_removed {
            return self.put(Kind::Fleeting);
        }
        self.reader.library.remove(&Kind::Fleeting.id(self.writer)).map_err(refused)?;
        self.reader.ledger.note(Kind::Fleeting, self.writer, number, true);
        Ok(())
    }
}

fn database(folder: &Path) -> PathBuf {
    folder.join("skills.db")
}

fn open(folder: &Path) -> Library {
    let mut config = Config::default();
    // Nobody waits for so long but on a machine that stands still.
    for option in ["pool.timeout_ms", "sandbox.timeout_ms"] {
        config.set(option, "300000").expect("a known option");
    }
    Library::open(database(folder).to_str().expect("UTF-8"), &config).expect("it can be opened")
}

/// One of the two.
fn process(folder: &Path, number: usize, operations: usize) {
    let (library, ledger) = (open(folder), Ledger::open(folder));
    library.validate(CODE).expect("an interpreter");
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (writer, reader) = (number * THREADS + thread, Reader::new(&library, &ledger));
            let worker = Worker { writer, reader, dice: Dice::new(writer as u64), written: [0; Kind::ALL.len()] };
            scope.spawn(move || worker.work(operations / WRITERS).unwrap_or_else(|fault| panic!("{fault}")));
        }
    });
}

/// Waits for both; says how large the log was at most.
fn largest_log(folder: &Path, mut children: Vec<Child>) -> u64 {
    let mut largest = 0;
    loop {
        let log = fs::metadata(folder.join("skills.db-wal")).map_or(0, |log| log.len());
        largest = largest.max(log);
        let ended: Vec<_> = children.iter_mut().map(|child| child.try_wait().expect("a child")).collect();
        let has_failed = ended.iter().flatten().any(|status| !status.success());
        if has_failed || ended.iter().all(Option::is_some) {
            // The other one would go on for long.
            children.iter_mut().for_each(|child| _ = child.kill().and_then(|()| child.wait().map(drop)));
            assert!(!has_failed, "one of the processes failed");
            return largest;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn work_together(operations: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let start = |number: usize| {
        Command::new(env::current_exe().expect("this program has a path"))
            .arg(folder.path())
            .args([number.to_string(), operations.to_string()])
            .spawn()
            .expect("a process")
    };
    let log = largest_log(folder.path(), (0..PROCESSES).map(start).collect());
    assert!(log > 0 && log <= MOST_LOG_BYTES, "the log had {log} bytes");
    let (library, ledger) = (open(folder.path()), Ledger::open(folder.path()));
    for writer in 0..WRITERS {
        for kind in Kind::ALL {
            check_end(&library, kind, writer, ledger.read(kind, writer)).unwrap_or_else(|fault| panic!("{fault}"));
        }
    }
    drop(library);
    let connection = Connection::open(database(folder.path())).expect("SQLite opens it");
    let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("it is read");
    assert_eq!(verdict, "ok");
}

/// In the end what is there is what was acknowledged, with all versions.
fn check_end(library: &Library, kind: Kind, writer: usize, (number, is_removed): (u64, bool)) -> Checked {
    let id = kind.id(writer);
    if number == 0 || is_removed {
        let found = library.get(&id, 0).err().map(|error| error.code());
        return if found == Some(Code::NotFound) { Ok(()) } else { Err(format!("{id} is there")) };
    }
    let newest = library.get(&id, 0).map_err(refused)?;
    check_newest(library, &newest)?;
    let newest = Reader::number_of(&newest)?;
    if newest != number {
        return Err(format!("{id}: {number} was acknowledged, {newest} is there"));
    }
    let versions = if kind == Kind::Fleeting { number..=number } else { 1..=number };
    for version in versions {
        Reader::number_of(&library.get(&id, version as u32).map_err(refused)?)?;
    }
    Ok(())
}

/// Readers find what they are there to find.
fn controls() {
    let folder = tempfile::tempdir().expect("a folder");
    let (library, ledger) = (open(folder.path()), Ledger::open(folder.path()));
    let put = |kind: Kind, number| library.put(&draft(&kind.id(0), "control", number).0).expect("it is put");
    let mut reader = Reader::new(&library, &ledger);
    let finds = |checked: Checked, what: &str| {
        let fault = checked.expect_err(what);
        assert!(fault.contains(what), "{fault}");
    };
    ledger.note(Kind::Run, 0, 1, false);
    finds(reader.run(0), "nothing is there");
    put(Kind::Run, 1);
    reader.run(0).expect("as acknowledged");
    ledger.note(Kind::Run, 0, 2, false);
    finds(reader.run(0), "2 was acknowledged");
    ledger.note(Kind::Run, 0, 0, false);
    put(Kind::Second, 1);
    finds(reader.get_pair(0), "already 1");
    finds(reader.list(0), "at one moment");
    finds(reader.search(0), "at one moment");
    put(Kind::First, 1);
    reader.get_pair(0).and_then(|()| reader.list(0)).and_then(|()| reader.search(0)).expect("all is well");
    reader.seen[Kind::First.place(0)] = 2;
    finds(reader.get_pair(0), "went back");
    let mut dice = Dice::new(0);
    finds((0..64).try_for_each(|_| reader.get_old(0, &mut dice)), "refused");
    put(Kind::First, 3);
    finds(reader.get_pair(0), "has a gap");
    put(Kind::Fleeting, 1);
    ledger.note(Kind::Fleeting, 0, 1, true);
    finds(reader.get(Kind::Fleeting, 0).map(drop), "(removed: true)");
}

fn main() {
    if let [folder, number, operations] = env::args().skip(1).collect::<Vec<_>>().as_slice() {
        let parse = |text: &str| text.parse().expect("a number");
        return process(Path::new(folder), parse(number), parse(operations));
    }
    controls();
    work_together(env::var("SKC_PROCESS_OPERATIONS").map_or(20_000, |count| count.parse().expect("a number")));
}
