//! A disk as its promises are: what was written stays in a cache until it is synced, and a cache without power keeps what
//! it likes.
//!
//! Each file has what is on the plates for sure and the changes since. Each folder has the names that are there for sure
//! and the changes since: a file that was created and synced is lost all the same as long as its folder was not synced.
//! That is less than today's file systems give, and all that POSIX promises.

use std::collections::BTreeMap;
use std::ffi::c_int;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use rusqlite::ffi;

use super::whole::dice::Dice;

/// What a power cut leaves whole: a sector is written or not.
const SECTOR: usize = 512;

/// What SQLite asks of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    Open,
    Read,
    Write,
    Truncate,
    Sync,
    Delete,
    Size,
    Lock,
    MapShared,
    LockShared,
}

impl Call {
    pub const ALL: [Call; 10] = [
        Call::Open,
        Call::Read,
        Call::Write,
        Call::Truncate,
        Call::Sync,
        Call::Delete,
        Call::Size,
        Call::Lock,
        Call::MapShared,
        Call::LockShared,
    ];

    /// What SQLite's own disks say when this goes wrong.
    pub fn failure(self) -> c_int {
        match self {
            Call::Open => ffi::SQLITE_CANTOPEN,
            Call::Read => ffi::SQLITE_IOERR_READ,
            Call::Write => ffi::SQLITE_IOERR_WRITE,
            Call::Truncate => ffi::SQLITE_IOERR_TRUNCATE,
            Call::Sync => ffi::SQLITE_IOERR_FSYNC,
            Call::Delete => ffi::SQLITE_IOERR_DELETE,
            Call::Size => ffi::SQLITE_IOERR_FSTAT,
            Call::Lock => ffi::SQLITE_IOERR_RDLOCK,
            Call::MapShared => ffi::SQLITE_IOERR_SHMMAP,
            Call::LockShared => ffi::SQLITE_IOERR_SHMLOCK,
        }
    }
}

/// Calls of one kind that go wrong: the one after so many others, and perhaps all behind it.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub call: Call,
    pub others: u64,
    pub code: c_int,
    pub is_lasting: bool,
}

/// Which syncs a disk only says it has done.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lies {
    pub files: bool,
    pub folders: bool,
}

/// What a power cut leaves of the changes that were not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing.
    All,
    /// Of each file those up to some moment, the last of them torn.
    Tail,
    /// Any sectors of any of them; of some sectors, rubbish.
    Any,
    /// Everything: only the process died.
    None,
}

impl Loss {
    pub const ALL: [Loss; 4] = [Loss::All, Loss::Tail, Loss::Any, Loss::None];
}

/// What is in a folder: contents by name.
pub type Image = BTreeMap<String, Vec<u8>>;

enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Cut(usize),
}

#[derive(Default)]
struct File {
    synced: Vec<u8>,
    changes: Vec<Change>,
}

#[derive(Clone)]
enum NameChange {
    Created(String, usize),
    Deleted(String),
}

#[derive(Default)]
struct State {
    files: Vec<File>,
    names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
    name_changes: Vec<NameChange>,
    lies: Lies,
    fault: Option<Fault>,
    faults_met: u64,
    /// How many more changes there is power for.
    power: Option<u64>,
    /// Whether anything was refused for want of power.
    is_dead: bool,
}

/// The disk below one folder.
pub struct Disk {
    folder: PathBuf,
    state: Mutex<State>,
}

static DISKS: Mutex<Vec<Weak<Disk>>> = Mutex::new(Vec::new());

impl Disk {
    /// Puts a disk below a folder; what is there now is on the plates. It is taken away when nobody has it any more.
    pub fn below(folder: &Path) -> Arc<Disk> {
        let folder = folder.canonicalize().expect("a folder");
        let mut state = State::default();
        for (name, contents) in image_of(&folder) {
            state.names.insert(name, state.files.len());
            state.files.push(File { synced: contents, changes: Vec::new() });
        }
        state.synced_names = state.names.clone();
        let disk = Arc::new(Disk { folder, state: Mutex::new(state) });
        let mut disks = DISKS.lock().unwrap_or_else(PoisonError::into_inner);
        disks.retain(|disk| disk.strong_count() > 0);
        disks.push(Arc::downgrade(&disk));
        disk
    }

    /// The disk that a file is on, if it is on one of ours, and its name there.
    pub fn of(path: &Path) -> Option<(Arc<Disk>, String)> {
        let (folder, name) = (path.parent()?, path.file_name()?.to_str()?.to_owned());
        let disks = DISKS.lock().unwrap_or_else(PoisonError::into_inner);
        let disk = disks.iter().filter_map(Weak::upgrade).find(|disk| disk.folder == folder)?;
        Some((disk, name))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn lie(&self, lies: Lies) {
        self.state().lies = lies;
    }

    /// Cuts the power during so many-th a change from now on: half of a write may be done, a sync is not.
    pub fn cut_power_after(&self, changes: u64) {
        self.state().power = Some(changes);
    }

    pub fn cut_power(&self) {
        self.cut_power_after(0);
    }

    /// Whether the power was cut before everything was done.
    pub fn is_dead(&self) -> bool {
        self.state().is_dead
    }

    pub fn fail(&self, fault: Fault) {
        let mut state = self.state();
        state.fault = Some(fault);
        state.faults_met = 0;
    }

    /// Repairs what was broken; says how often it was met.
    pub fn repair(&self) -> u64 {
        let mut state = self.state();
        state.fault = None;
        state.faults_met
    }

    /// Waits until no file is open: the threads of a pool may close the last one after the library is gone.
    pub fn wait_until_closed(self: &Arc<Disk>) {
        while Arc::strong_count(self) > 1 {
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// What goes before each call that changes nothing: the code of its failure, if it fails.
    pub fn refusal(&self, call: Call) -> Option<c_int> {
        self.state().refusal(call)
    }

    /// Opens a file, and creates it if it is not there: gives its number.
    pub fn open(&self, name: &str, real: impl FnOnce() -> c_int) -> Result<usize, c_int> {
        let mut state = self.state();
        if let Some(code) = state.refusal(Call::Open) {
            return Err(code);
        }
        // Whoever creates changes the folder.
        let is_new = !state.names.contains_key(name);
        if is_new && !state.has_power() {
            return Err(Call::Open.failure());
        }
        let code = real();
        if code != ffi::SQLITE_OK {
            return Err(code);
        }
        if is_new {
            let number = state.files.len();
            state.files.push(File::default());
            state.names.insert(name.to_owned(), number);
            state.name_changes.push(NameChange::Created(name.to_owned(), number));
        }
        Ok(state.names[name])
    }

    /// A disk that fails or is full may have written the first half.
    pub fn write(&self, file: usize, at: usize, bytes: &[u8], real: impl FnOnce(&[u8]) -> c_int) -> c_int {
        let mut state = self.state();
        if !state.has_power() {
            return Call::Write.failure();
        }
        let refusal = state.refusal(Call::Write);
        let bytes = if refusal.is_some() { &bytes[..bytes.len() / 2] } else { bytes };
        let code = real(bytes);
        state.files[file].changes.push(Change::Write { at, bytes: bytes.to_vec() });
        refusal.unwrap_or(code)
    }

    pub fn truncate(&self, file: usize, length: usize, real: impl FnOnce() -> c_int) -> c_int {
        let mut state = self.state();
        if !state.has_power() {
            return Call::Truncate.failure();
        }
        if let Some(code) = state.refusal(Call::Truncate) {
            return code;
        }
        state.files[file].changes.push(Change::Cut(length));
        real()
    }

    /// Nothing goes to the machine's own disk: its power is not cut.
    pub fn sync(&self, file: usize, and_folder: bool) -> c_int {
        let mut state = self.state();
        if !state.has_power() {
            return Call::Sync.failure();
        }
        if let Some(code) = state.refusal(Call::Sync) {
            // As in Linux: what could not be written counts as written from then on.
            state.files[file].changes.clear();
            return code;
        }
        if !state.lies.files {
            let File { synced, changes } = &mut state.files[file];
            changes.drain(..).for_each(|change| change.apply(synced));
        }
        if and_folder {
            state.sync_folder();
        }
        ffi::SQLITE_OK
    }

    pub fn delete(&self, name: &str, and_folder: bool, real: impl FnOnce() -> c_int) -> c_int {
        let mut state = self.state();
        if !state.has_power() {
            return Call::Delete.failure();
        }
        if let Some(code) = state.refusal(Call::Delete) {
            return code;
        }
        let code = real();
        if code == ffi::SQLITE_OK && state.names.remove(name).is_some() {
            state.name_changes.push(NameChange::Deleted(name.to_owned()));
            if and_folder {
                state.sync_folder();
            }
        }
        code
    }

    /// What is found when the power is back.
    pub fn after_power_loss(&self, loss: Loss, dice: &mut Dice) -> Image {
        let state = self.state();
        let mut names = state.synced_names.clone();
        let kept = kept(&state.name_changes, loss, dice);
        kept.for_each(|change| change.clone().apply(&mut names));
        names.into_iter().map(|(name, file)| (name, state.files[file].after_power_loss(loss, dice))).collect()
    }
}

/// Those of a list of changes that a power cut spares.
fn kept<'a, T>(changes: &'a [T], loss: Loss, dice: &mut Dice) -> impl Iterator<Item = &'a T> {
    let until = match loss {
        Loss::All => 0,
        Loss::Tail => dice.below(changes.len() + 1),
        Loss::Any | Loss::None => changes.len(),
    };
    let is_kept: Vec<bool> = (0..until).map(|_| loss != Loss::Any || dice.below(2) == 0).collect();
    changes.iter().zip(is_kept).filter_map(|(change, is_kept)| is_kept.then_some(change))
}

impl State {
    /// Takes the power that a change needs.
    fn has_power(&mut self) -> bool {
        let left = self.power.map(|left| left.checked_sub(1));
        self.power = self.power.map(|left| left.saturating_sub(1));
        self.is_dead |= left == Some(None);
        left != Some(None)
    }

    fn refusal(&mut self, call: Call) -> Option<c_int> {
        if self.power == Some(0) {
            self.is_dead = true;
            return Some(call.failure());
        }
        let fault = self.fault.as_mut().filter(|fault| fault.call == call)?;
        if fault.others > 0 {
            fault.others -= 1;
            return None;
        }
        let code = fault.code;
        if !fault.is_lasting {
            self.fault = None;
        }
        self.faults_met += 1;
        Some(code)
    }

    fn sync_folder(&mut self) {
        if !self.lies.folders {
            self.name_changes.drain(..).for_each(|change| change.apply(&mut self.synced_names));
        }
    }
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<String, usize>) {
        match self {
            NameChange::Created(name, file) => names.insert(name, file),
            NameChange::Deleted(name) => names.remove(&name),
        };
    }
}

impl Change {
    fn apply(&self, contents: &mut Vec<u8>) {
        match self {
            Change::Write { at, bytes } => put(contents, *at, bytes),
            Change::Cut(length) => contents.resize(*length, 0),
        }
    }

    /// Its first few sectors.
    fn apply_torn(&self, contents: &mut Vec<u8>, dice: &mut Dice) {
        let Change::Write { at, bytes } = self else { return };
        let count = sectors(*at, bytes).count();
        let until = dice.below(count + 1);
        sectors(*at, bytes).take(until).for_each(|(at, bytes)| put(contents, at, bytes));
    }

    /// Any of its sectors. A sector is never changed beyond what was written to it (SQLite's "powersafe overwrite").
    fn apply_scattered(&self, contents: &mut Vec<u8>, dice: &mut Dice) {
        match self {
            Change::Write { at, bytes } => {
                for (at, bytes) in sectors(*at, bytes) {
                    match dice.below(16) {
                        0 => put(contents, at, &bytes.iter().map(|_| dice.byte()).collect::<Vec<_>>()),
                        1..8 => {}
                        _ => put(contents, at, bytes),
                    }
                }
            }
            Change::Cut(_) if dice.below(2) == 0 => {}
            cut @ Change::Cut(_) => cut.apply(contents),
        }
    }
}

impl File {
    fn after_power_loss(&self, loss: Loss, dice: &mut Dice) -> Vec<u8> {
        let mut contents = self.synced.clone();
        match loss {
            Loss::All => {}
            Loss::None => self.changes.iter().for_each(|change| change.apply(&mut contents)),
            Loss::Any => self.changes.iter().for_each(|change| change.apply_scattered(&mut contents, dice)),
            Loss::Tail => {
                let (whole, behind) = self.changes.split_at(dice.below(self.changes.len() + 1));
                whole.iter().for_each(|change| change.apply(&mut contents));
                behind.iter().take(1).for_each(|change| change.apply_torn(&mut contents, dice));
            }
        }
        contents
    }
}

/// A write, cut where the sectors of the disk begin.
fn sectors(at: usize, bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let first = (SECTOR - at % SECTOR).min(bytes.len());
    let (head, rest) = bytes.split_at(first);
    let starts = std::iter::once(at).chain((at + first..).step_by(SECTOR));
    starts.zip(std::iter::once(head).chain(rest.chunks(SECTOR)))
}

fn put(contents: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if contents.len() < end {
        contents.resize(end, 0);
    }
    contents[at..end].copy_from_slice(bytes);
}

/// A folder's files, but for those that are only shared memory.
pub fn image_of(folder: &Path) -> Image {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let names = entries.map(|entry| entry.file_name().into_string().expect("UTF-8"));
    let names = names.filter(|name| !name.ends_with("-shm"));
    names.map(|name| (name.clone(), fs::read(folder.join(name)).expect("a file"))).collect()
}

pub fn write_image(image: &Image, folder: &Path) {
    image.iter().for_each(|(name, contents)| fs::write(folder.join(name), contents).expect("it is written"));
}
