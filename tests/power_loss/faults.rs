//! Something fails at any moment: the error is clear, nothing is lost, and the same library works again once the disk does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::ffi;
use skillcache::{Code, Data, Error, Filter, Library, Outcome, Query, RunOptions, Skill};
use tempfile::TempDir;

use super::disk::{Call, Disk, Fault, Image, Loss};
use super::truth::{Truth, settle};
use super::whole::dice::Dice;
use super::{DATABASE, begin, check_integrity, open, open_with, step};

/// After so many faults, what a power cut would leave is looked at too.
const FAULTS_PER_POWER_CUT: usize = 16;

/// How long a library waits that is opened while something fails, perhaps for good.
const IMPATIENCE: Duration = Duration::from_millis(2500);

/// How often each kind of call has failed.
pub type Met = BTreeMap<Call, u64>;

/// Every kind of fault; the moment is still to be chosen.
fn faults() -> impl Iterator<Item = Fault> {
    let of_each = Call::ALL.into_iter().map(|call| (call, call.failure()));
    let kinds = of_each.chain([(Call::Write, ffi::SQLITE_FULL)]);
    kinds.flat_map(|(call, code)| [false, true].map(|is_lasting| Fault { call, code, others: 0, is_lasting }))
}

/// A database on a disk, and what must be in it.
struct House {
    folder: TempDir,
    disk: Arc<Disk>,
    truths: Vec<Truth>,
}

impl House {
    fn new(image: &Image, truths: &[Truth]) -> Self {
        let folder = begin(image);
        let disk = Disk::below(folder.path());
        House { folder, disk, truths: truths.to_vec() }
    }

    fn open(&self) -> Result<Library, Error> {
        open(&self.folder.path().join(DATABASE))
    }

    /// Whether everything is there after a power cut.
    fn check_power_cut(&self, loss: Loss, dice: &mut Dice) -> Result<(), String> {
        let found = begin(&self.disk.after_power_loss(loss, dice));
        let path = found.path().join(DATABASE);
        settle(&mut self.truths.clone(), &open(&path).map_err(|error| error.to_string())?)?;
        check_integrity(&path);
        Ok(())
    }
}

/// An error that says what is wrong, and not that somebody else is at fault.
fn check_clear(error: &Error, fault: Fault) {
    let message = error.message();
    let says = |what: &str| message.contains(what);
    let is_clear = match fault.call {
        Call::Open => says("unable to open"),
        _ if fault.code == ffi::SQLITE_FULL => says("full"),
        _ => says("disk I/O error"),
    };
    assert!(error.code() == Code::Database && is_clear, "{fault:?}: {:?}: {message}", error.code());
}

/// Puts, removes, reads, finds and runs; gives the errors.
fn work(truths: &mut [Truth], library: &Library) -> Vec<Error> {
    let [first, second, third] = truths else { panic!("three skills") };
    let list = || library.list(&Filter::default()).map(drop);
    let search = || library.search(&Query::words("number")).map(drop);
    let done = [
        first.put(library),
        second.put(library),
        second.get(library),
        third.remove(library),
        list(),
        first.put(library),
        run(library),
        third.put(library),
        search(),
        first.get(library),
    ];
    done.into_iter().filter_map(Result::err).collect()
}

fn run(library: &Library) -> Result<(), Error> {
    let result = library.run("seven", Data::default(), &RunOptions::default())?;
    assert_eq!((result.outcome, result.value.as_deref()), (Outcome::Success, Some("7")));
    Ok(())
}

/// One library sees a fault at every moment of its work, one after the other.
pub fn in_use(stride: usize, met: &mut Met) {
    let mut house = House::new(&Image::new(), &[]);
    let library = house.open().expect("nothing is broken yet");
    library.put(&Skill::new("seven", "result = 7")).expect("it is put");
    run(&library).expect("from now on it is kept");
    for (index, kind) in faults().enumerate() {
        let mut dice = Dice::new(index as u64);
        house.truths = ["first", "second", "third"].map(|name| Truth::new(format!("{name}-{index}"))).to_vec();
        for (round, others) in (0..).step_by(stride).enumerate() {
            let fault = Fault { others, ..kind };
            let times = using(&mut house, &library, fault);
            if round.is_multiple_of(FAULTS_PER_POWER_CUT) {
                let loss = Loss::ALL[dice.below(Loss::ALL.len())];
                let checked = house.check_power_cut(loss, &mut dice);
                checked.unwrap_or_else(|lost| panic!("{fault:?}, loss of {loss:?}: {lost}"));
            }
            *met.entry(kind.call).or_default() += times;
            if times == 0 {
                break;
            }
        }
    }
}

/// Says how often the fault was met.
fn using(house: &mut House, library: &Library, fault: Fault) -> u64 {
    house.disk.fail(fault);
    let errors = work(&mut house.truths, library);
    errors.iter().for_each(|error| check_clear(error, fault));
    let met = house.disk.repair();
    settle(&mut house.truths, library).unwrap_or_else(|lost| panic!("{fault:?}, {errors:?}: {lost}"));
    let errors = work(&mut house.truths, library);
    assert_eq!(errors, [], "{fault:?}: it works again");
    step();
    met
}

/// Waits until so many runs are counted: whoever asks waits only a moment for what is counted to be written.
pub fn until_counted(library: &Library, count: u64) {
    let counted = || library.get("seven", 0).expect("it is read").usage().usage_count;
    let given_up = Instant::now() + Duration::from_secs(60);
    while counted() != count {
        assert!(Instant::now() < given_up, "{} of {count} are counted", counted());
    }
}

/// As long as nothing can be written, everything can be read and run from memory; that it was run is written later.
pub fn reads_go_on() {
    let mut house = House::new(&Image::new(), &[Truth::new("first")]);
    let library = house.open().expect("nothing is broken yet");
    library.put(&Skill::new("seven", "result = 7")).expect("it is put");
    house.truths[0].put(&library).expect("it is put");
    run(&library).expect("from now on it is kept");
    library.list(&Filter::default()).expect("the counters are written");
    let write_faults = [ffi::SQLITE_FULL, Call::Write.failure()].map(|code| (Call::Write, code));
    for (call, code) in write_faults.into_iter().chain([(Call::Sync, Call::Sync.failure())]) {
        house.disk.fail(Fault { call, code, others: 0, is_lasting: true });
        run(&library).expect("from memory");
        house.truths[0].get(&library).expect("a skill");
        library.list(&Filter::default()).expect("a list");
        library.search(&Query::words("number")).expect("what is found");
        library.stats().expect("numbers");
        house.disk.repair();
    }
    until_counted(&library, 4);
}

/// A database as a host leaves it that was killed: with a log.
fn unclean() -> (Image, Vec<Truth>) {
    let mut house = House::new(&Image::new(), &["first", "second", "third"].map(Truth::new));
    let library = house.open().expect("nothing is broken");
    for _ in 0..3 {
        assert_eq!(put_each(&mut house.truths, &library), []);
    }
    let image = house.disk.after_power_loss(Loss::None, &mut Dice::new(0));
    assert!(image[&format!("{DATABASE}-wal")].len() > 1 << 16, "there is a log");
    (image, house.truths)
}

fn put_each(truths: &mut [Truth], library: &Library) -> Vec<Error> {
    let put = truths.iter_mut().map(|truth| truth.put(library));
    put.filter_map(Result::err).collect()
}

/// Opening fails at every moment, of a database that is to be made and of one that is to be recovered.
pub fn in_opening(stride: usize, met: &mut Met) {
    for (image, truths) in [(Image::new(), Vec::new()), unclean()] {
        for kind in faults() {
            for others in (0..).step_by(stride) {
                let fault = Fault { others, ..kind };
                let times = opening(&mut House::new(&image, &truths), fault);
                *met.entry(kind.call).or_default() += times;
                if times == 0 {
                    break;
                }
            }
        }
    }
}

/// Says how often the fault was met.
fn opening(house: &mut House, fault: Fault) -> u64 {
    house.disk.fail(fault);
    let opened = open_with(&house.folder.path().join(DATABASE), IMPATIENCE);
    let listed = opened.as_ref().map(|library| library.list(&Filter::default()));
    let errors = [opened.as_ref().err(), listed.as_ref().ok().and_then(|listed| listed.as_ref().err())];
    errors.into_iter().flatten().for_each(|error| check_clear(error, fault));
    let met = house.disk.repair();
    let library = opened.or_else(|_| house.open()).unwrap_or_else(|error| panic!("{fault:?}: still {error}"));
    settle_soon(&mut house.truths, &library).unwrap_or_else(|lost| panic!("{fault:?}: {lost}"));
    drop(library);
    house.disk.wait_until_closed();
    check_integrity(&house.folder.path().join(DATABASE));
    let checked = house.check_power_cut(Loss::All, &mut Dice::new(0));
    checked.unwrap_or_else(|lost| panic!("{fault:?}, loss of everything: {lost}"));
    step();
    met
}

/// With a library that gives up early, a call may have to be made again on a machine that is busy.
fn settle_soon(truths: &mut [Truth], library: &Library) -> Result<(), String> {
    let works = |_: &i32| library.list(&Filter::default()).is_ok();
    (0..100).find(works).ok_or("it does not work again")?;
    settle(truths, library)
}

/// Closing fails at every moment: it cannot say so, and nothing is lost.
pub fn in_closing(stride: usize, met: &mut Met) {
    let (image, truths) = unclean();
    for kind in faults() {
        for others in (0..).step_by(stride) {
            let fault = Fault { others, ..kind };
            let times = closing(&mut House::new(&image, &truths), fault);
            *met.entry(kind.call).or_default() += times;
            if times == 0 {
                break;
            }
        }
    }
}

/// Says how often the fault was met.
fn closing(house: &mut House, fault: Fault) -> u64 {
    let library = house.open().expect("nothing is broken yet");
    library.list(&Filter::default()).expect("it is read");
    house.disk.fail(fault);
    drop(library);
    house.disk.wait_until_closed();
    let met = house.disk.repair();
    let checked = house.check_power_cut(Loss::All, &mut Dice::new(0));
    checked.unwrap_or_else(|lost| panic!("{fault:?}, loss of everything: {lost}"));
    let library = house.open().unwrap_or_else(|error| panic!("{fault:?}: {error}"));
    settle(&mut house.truths, &library).unwrap_or_else(|lost| panic!("{fault:?}: {lost}"));
    step();
    met
}
