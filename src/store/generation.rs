//! A word that changes with every commit that anybody makes to the database, read in a few nanoseconds.
//!
//! What is kept in memory of a database is right until the next commit, which may be another process's. To find that out,
//! SQLite has `PRAGMA data_version`: a statement, 2.4 µs, far more than what it would protect costs. SQLite itself finds
//! out by looking at the header of the *wal-index*, a page that all who have the database open in WAL mode share
//! (`skills.db-shm`). This file looks at the same header, and at nothing else: no system call, no statement, no lock.
//!
//! # The header
//!
//! It is 48 bytes long and stands in the page twice. `walIndexWriteHdr` in SQLite, under the lock for writers, writes
//! the second copy, then the first. A reader (`walIndexTryHdr`) takes a header only if both copies are the same and their
//! checksum holds. So there is no moment at which a commit is seen by anybody while the first copy is not all written.
//! The header has a count of commits (`iChange`), the length of the log, the checksum of its last frame, which goes on
//! from that of the frame before, and two salts, new ones each time the log starts again. The layout belongs to the
//! version number that it begins with; we know one version and say "not known" at any other.
//!
//! # What equal generations prove
//!
//! *If `generation` returns what it returned before, then at some moment between its being called and its returning
//! nothing had been committed since.* That is all a cache can use, and the same as its asking SQLite in that moment.
//!
//! 1. A commit that was visible to anybody before the call is in the first copy before the call, whole: a later load of a
//!    word of the copy gives that word or a newer one. (Whoever learned of the commit from the one who made it, through
//!    whatever memory or system call, has its words before him; loads with `Acquire` do not wander before that.)
//! 2. Each commit adds one to `iChange`, which is read last. If it is the old one then, no commit was visible until then,
//!    whatever mixture of old and new the other words were.
//! 3. Except that recovery sets `iChange` to 0. Recovery happens if a writer was killed between the first byte of one copy
//!    and the last of the other: whoever comes next reads the log and makes a new header. Then checksum and salts decide: they
//!    are those of a log up to a frame, the same again only if the log is the same up to there, and so is the
//!    database. If they are the old ones, they were read before anything else was recovered or committed: in the call.
//! 4. When the log starts again (after a checkpoint, or in one that empties it) the salts and the length change and the count
//!    does not: a generation looks old that is not, and no harm is done. Any other checkpoint changes nothing here.
//!
//! A transaction that is rolled back shows no header, but may have made the log start again. And a writer killed while it
//! writes the header leaves a mixture behind. It is nobody's generation: the next to read the database recovers first.
//!
//! For those who keep things: **ask for the generation first, then begin to read the database.** What was read may be newer than the
//! generation it is kept under, then that never comes again; the other way round it may be older and stay.
//!
//! # What is left to chance
//!
//! The count is the upper half of the word; the lower half is 32 bits that stand for length, checksum and salts. The
//! chance that they are the same by accident counts only after a recovery (or 2^32 commits), for a thing kept since before
//! it: 1 in 2^32.
//!
//! # The empty log
//!
//! Recovery from a log of no bytes finds no salts: all words are 0. So it is when the first opens a database that the last
//! has closed, and that is a generation as good as any. But it can be so again, after other commits: somebody empties the log
//! (a `TRUNCATE` checkpoint), empties it again, and is killed within the few nanoseconds between the two copies of that.
//! What tells the two apart is the list of frames behind the header. It is made of zeros, gets an entry with the first
//! frame of a commit, and recovery from an empty log leaves it alone. With an entry there, the generation is not known until
//! the next commit. (A writer clears the list for the moment in which it begins a log.)
//!
//! # Where the page comes from
//!
//! From SQLite: a connection of our own, which the store keeps as long as it lives, is asked for its mapping (`xShmMap`).
//! SQLite keeps one mapping a process and file, and takes it down with the last connection that uses it. Ours does, from its
//! first read in WAL mode on. It never runs a statement again, so it holds no snapshot and stands in the way of no checkpoint;
//! what it does hold, the lock that says "in use", keeps others from changing the journal mode, and the log from being deleted
//! and made anew. Where there is no such page, the generation is not known, ever, and whoever asks has to ask SQLite.
//!
//! A database that is replaced by another file while it is open is lost to the generation: it goes on telling of the old file.
//! That is forbidden by SQLite too (a log of the old file beside the new one is damage).
//!
//! A child of `fork` could read the page, but is refused at the door, as with every other call.
//!
//! # What was not done
//!
//! * Opening `-shm` here. POSIX drops all locks that a process has on a file when it closes any descriptor of it: SQLite
//!   would go on without its locks.
//! * A file of our own with a count in it: a writer killed between its commit and its count leaves the old count beside new
//!   contents. Counting before the commit instead lets a reader keep old contents under the new count.
//! * Watching the file (`inotify`, times): a system call, and a commit need not touch the database file or change its time.
//!
//! A database in memory has one connection and one store. There the generation is a count of the store's own commits.

use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::{Connection, ffi};

/// What the contents of a database are known by: two equal generations mean that nothing was committed in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Generation(u64);

impl Generation {
    /// The same as a number, for who keeps it in an atomic.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// Where the generation of one database is read.
#[derive(Debug)]
pub(super) enum Source {
    /// Counts the commits of a database in memory.
    Count(AtomicU64),
    /// Looks at what SQLite shares with everybody.
    Shared(WalIndex),
    /// There is nothing to look at.
    Unknown,
}

impl Source {
    /// For a database that only this store can write.
    pub fn private() -> Self {
        Source::Count(AtomicU64::new(0))
    }

    /// For a file in WAL mode. Keeps the connection.
    pub fn shared(connection: Connection) -> Self {
        WalIndex::of(connection).map_or(Source::Unknown, Source::Shared)
    }

    /// The generation now, if it can be known.
    pub fn read(&self) -> Option<Generation> {
        match self {
            Source::Count(commits) => Some(Generation(commits.load(Ordering::Acquire))),
            Source::Shared(index) => index.read(),
            Source::Unknown => None,
        }
    }

    /// Says that the store has committed, or may have. To be called before the connection is free for others.
    pub fn note_commit(&self) {
        if let Source::Count(commits) = self {
            commits.fetch_add(1, Ordering::Release);
        }
    }
}

/// The beginning of the wal-index, in words of two fields of 32 bits. The first copy of the header has version and nothing, count
/// and flags, frames and pages, checksum, salts; the last word here is the beginning of the list of frames.
type Head = [AtomicU64; 18];

/// Where that list begins: behind two headers of 48 bytes and what checkpoints share, 40 bytes.
const LIST: usize = (2 * 48 + 40) / size_of::<AtomicU64>();

/// `WALINDEX_MAX_VERSION` of SQLite: the one layout there is.
const LAYOUT: u32 = 3_007_000;

/// `WALINDEX_PGSZ` of SQLite: the unit in which the wal-index is mapped.
const REGION_BYTES: c_int = 32_768;

/// The wal-index in SQLite's own mapping.
#[derive(Debug)]
pub(super) struct WalIndex {
    head: NonNull<Head>,
    /// Keeps the mapping in place. It is never used again, only closed.
    _pinned: Mutex<Connection>,
}

// SAFETY: the pointer is to shared memory that belongs to no thread and is only read, with atomic loads. It stays mapped
// until the connection beside it is closed, which takes the whole struct, hence no reader is left; the connection may be closed by
// any thread (`Connection` is `Send`).
unsafe impl Send for WalIndex {}
// SAFETY: as above; `&WalIndex` gives atomic loads and, by the mutex, no shared access to the connection.
unsafe impl Sync for WalIndex {}

impl WalIndex {
    /// `None` if SQLite has no wal-index mapped for this connection.
    fn of(connection: Connection) -> Option<Self> {
        // SQLite maps the page when the connection reads for the first time.
        connection.pragma_query_value(None, "schema_version", |row| row.get::<_, i64>(0)).ok()?;
        let mode: String = connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).ok()?;
        if !mode.eq_ignore_ascii_case("wal") {
            return None;
        }
        connection.flush_prepared_statement_cache();
        let head = map_head(&connection)?;
        Some(WalIndex { head, _pinned: Mutex::new(connection) })
    }

    fn read(&self) -> Option<Generation> {
        generation_of(self.head())
    }

    fn head(&self) -> &Head {
        // SAFETY: `head` points into a mapping that lives as long as the connection in `self`, is aligned to a page and
        // longer than a head. Others write it, this process's SQLite with plain stores: as in SQLite, whose readers race with its
        // writers by design, nothing relies on more than that a machine loads an aligned word of memory as it is at some
        // moment, and atomic loads keep the compiler from assuming more.
        unsafe { self.head.as_ref() }
    }
}

/// Reads a head that may be changing. The order of the loads is part of the proof above.
fn generation_of(head: &Head) -> Option<Generation> {
    let load = |index: usize| head[index].load(Ordering::Acquire);
    let (layout, _) = halves(load(0));
    let contents = [load(2), load(3), load(4)];
    if contents == [0; 3] && load(LIST) != 0 {
        return None;
    }
    let (count, flags) = halves(load(1));
    let [is_init, ..] = flags.to_ne_bytes();
    if layout != LAYOUT || is_init == 0 {
        return None;
    }
    Some(Generation(u64::from(count) << 32 | mix(contents)))
}

/// Two neighbouring fields of 32 bits, the one at the lower address first.
fn halves(word: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
    (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]))
}

/// 32 bits that change, but for one case in 2^32, if any of the words does.
fn mix(words: [u64; 3]) -> u64 {
    let mixed = words.into_iter().fold(0_u64, |mixed, word| {
        let product = (mixed ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        product ^ product >> 32
    });
    mixed & u64::from(u32::MAX)
}

/// Asks SQLite for the first page of the wal-index that it has mapped for a connection.
fn map_head(connection: &Connection) -> Option<NonNull<Head>> {
    let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
    // SAFETY: the handle is that of an open connection that nobody else uses, the name is NUL-terminated, and this operation
    // writes one pointer to the place it is given.
    let status = unsafe {
        let place = (&raw mut file).cast::<c_void>();
        ffi::sqlite3_file_control(connection.handle(), c"main".as_ptr(), ffi::SQLITE_FCNTL_FILE_POINTER, place)
    };
    if status != ffi::SQLITE_OK || file.is_null() {
        return None;
    }
    // SAFETY: SQLite's file object lives as long as the connection; its methods are NULL if it is not open, else a static table.
    let methods = unsafe { (*file).pMethods.as_ref() }?;
    // Shared memory came with the second version of the table.
    let map = methods.xShmMap.filter(|_| methods.iVersion >= 2)?;
    let mut page: *mut c_void = ptr::null_mut();
    // SAFETY: the file is open and of this table; 0 stands for the first region of the size that SQLite maps, and for not
    // making it if it is not there. The connection has read in WAL mode, so the call finds what is mapped already.
    let status = unsafe { map(file, 0, REGION_BYTES, 0, &raw mut page) };
    if status != ffi::SQLITE_OK { None } else { NonNull::new(page.cast()) }
}

#[cfg(test)]
mod tests;
