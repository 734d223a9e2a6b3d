//! What must be in a database: the truth about one skill, from what was acknowledged of it.

use skillcache::{Code, Error, Library};

use super::whole::{check_newest, contents, draft};

/// One skill, changed by one thread at a time.
#[derive(Clone)]
pub struct Truth {
    id: String,
    /// The number that each version has.
    numbers: Vec<u64>,
    /// How many versions are hidden.
    hidden: usize,
    /// The number of the next put; a put that failed is not tried again with the same contents.
    next: u64,
    /// What was begun and not acknowledged.
    pending: Option<Change>,
}

#[derive(Clone, Copy)]
enum Change {
    Put(u64),
    Remove,
}

impl Truth {
    pub fn new(id: impl Into<String>) -> Self {
        Truth { id: id.into(), numbers: Vec::new(), hidden: 0, next: 1, pending: None }
    }

    pub fn versions(&self) -> usize {
        self.numbers.len()
    }

    pub fn put(&mut self, library: &Library) -> Result<(), Error> {
        let number = self.next;
        self.next += 1;
        self.pending = Some(Change::Put(number));
        let version = library.put(&draft(&self.id, "truth", number).0)?;
        self.apply(Change::Put(number));
        assert_eq!(version as usize, self.numbers.len(), "{}: versions count", self.id);
        Ok(())
    }

    /// Removes the skill if it is there.
    pub fn remove(&mut self, library: &Library) -> Result<(), Error> {
        if self.hidden == self.numbers.len() {
            return Ok(());
        }
        self.pending = Some(Change::Remove);
        library.remove(&self.id)?;
        self.apply(Change::Remove);
        Ok(())
    }

    /// Reads the newest version, which must be the right one. A call that cannot be carried out is an error, not a fault.
    pub fn get(&self, library: &Library) -> Result<(), Error> {
        match library.get(&self.id, 0) {
            Ok(skill) => {
                let seen = Some((skill.version() as usize, contents(&skill).expect("it is whole").0));
                assert_eq!(seen, self.newest(), "{}: nobody else changes it", self.id);
            }
            Err(error) if error.code() == Code::NotFound => assert_eq!(self.newest(), None, "{} is there", self.id),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Put(number) => self.numbers.push(number),
            Change::Remove => self.hidden = self.numbers.len(),
        }
        self.pending = None;
    }

    /// The newest version that is to be seen, and its number.
    fn newest(&self) -> Option<(usize, u64)> {
        let versions = self.numbers.len();
        self.numbers.last().filter(|_| versions > self.hidden).map(|&number| (versions, number))
    }

    /// Finds out whether the change that was not acknowledged happened, and that all others did; from then on it stays so.
    pub fn settle(&mut self, library: &Library) -> Result<(), String> {
        let seen = match library.get(&self.id, 0) {
            Ok(skill) => {
                check_newest(library, &skill)?;
                Some((skill.version() as usize, contents(&skill)?.0))
            }
            Err(error) if error.code() == Code::NotFound => None,
            Err(error) => return Err(format!("{}: {error}", self.id)),
        };
        let expected = self.newest();
        if let Some(change) = self.pending.take().filter(|_| seen != expected) {
            self.apply(change);
        }
        if seen != self.newest() {
            return Err(format!("{} is lost: {expected:?} was acknowledged, {seen:?} is there", self.id));
        }
        (self.hidden..self.numbers.len()).try_for_each(|index| self.check_version(library, index))
    }

    fn check_version(&self, library: &Library, index: usize) -> Result<(), String> {
        let place = || format!("{} version {}", self.id, index + 1);
        let skill = library.get(&self.id, index as u32 + 1).map_err(|error| format!("{}: {error}", place()))?;
        let (number, _) = contents(&skill)?;
        match number == self.numbers[index] {
            true => Ok(()),
            false => Err(format!("{} has the number {number}, not {}", place(), self.numbers[index])),
        }
    }
}

/// Settles all of them on a library.
pub fn settle(truths: &mut [Truth], library: &Library) -> Result<(), String> {
    truths.iter_mut().try_for_each(|truth| truth.settle(library))
}
