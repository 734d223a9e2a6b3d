//! The power is cut at any moment of a life: whatever the disk's cache makes of it, all that was acknowledged is there.
//!
//! The next life begins with what one of the power cuts left, so that recoveries are cut short too.

use std::sync::Arc;
use std::thread;

use skillcache::Library;

use super::disk::{Disk, Image, Lies, Loss, write_image};
use super::truth::{Truth, settle};
use super::whole::dice::Dice;
use super::{DATABASE, begin, check_integrity, open, step};

const THREADS: usize = 3;
const SKILLS: usize = 2;
/// How many changes each thread makes in a life, if there is power for them.
const CHANGES: usize = 16;
/// How many changes of the disk that takes, and closing the library: more than that only sometimes.
const MOST_DISK_CHANGES: usize = 1800;
/// After so many lives the story begins again with an empty disk.
const LIVES_PER_STORY: u64 = 12;

/// What is known, and where it is kept: one list for each thread.
#[derive(Clone)]
struct Story {
    truths: Vec<Vec<Truth>>,
    image: Image,
}

impl Story {
    fn new() -> Self {
        let truths = |thread| (0..SKILLS).map(|skill| Truth::new(format!("skill-{thread}-{skill}"))).collect();
        Story { truths: (0..THREADS).map(truths).collect(), image: Image::new() }
    }

    fn versions(&self) -> usize {
        self.truths.iter().flatten().map(Truth::versions).sum()
    }

    /// Lives on a disk until the power is cut, at the latest when the library is closed.
    fn live(&mut self, lies: Lies, disk_changes: u64, seed: u64) -> Arc<Disk> {
        let folder = tempfile::tempdir().expect("a folder");
        write_image(&self.image, folder.path());
        let disk = Disk::below(folder.path());
        disk.lie(lies);
        disk.cut_power_after(disk_changes);
        if let Ok(library) = open(&folder.path().join(DATABASE)) {
            thread::scope(|scope| {
                for (thread, truths) in self.truths.iter_mut().enumerate() {
                    let (library, seed) = (&library, seed * THREADS as u64 + thread as u64);
                    scope.spawn(move || change_until_an_error(truths, library, &mut Dice::new(seed)));
                }
            });
        }
        disk.wait_until_closed();
        disk.cut_power();
        disk
    }

    /// Whether everything is in an image. What was under way may be there or not.
    fn check(&mut self, image: Image) -> Result<(), String> {
        let folder = begin(&image);
        let path = folder.path().join(DATABASE);
        let library = open(&path).map_err(|error| format!("all is lost: {error}"))?;
        self.truths.iter_mut().try_for_each(|truths| settle(truths, &library))?;
        drop(library);
        check_integrity(&path);
        self.image = image;
        Ok(())
    }
}

fn change_until_an_error(truths: &mut [Truth], library: &Library, dice: &mut Dice) {
    for _ in 0..CHANGES {
        let truth = &mut truths[dice.below(SKILLS)];
        let done = match dice.below(8) {
            0 => truth.remove(library),
            1 => truth.get(library),
            _ => truth.put(library),
        };
        if done.is_err() {
            return;
        }
    }
}

pub fn cut(lives: u64) {
    let (mut story, mut most) = (Story::new(), 0);
    for life in 0..lives {
        if life % LIVES_PER_STORY == 0 {
            story = Story::new();
        }
        let mut dice = Dice::new(life);
        let disk = story.live(Lies::default(), dice.below(MOST_DISK_CHANGES) as u64, life);
        let next = Loss::ALL[dice.below(Loss::ALL.len())];
        let before = story.clone();
        for loss in Loss::ALL {
            let mut found = before.clone();
            let image = disk.after_power_loss(loss, &mut dice);
            found.check(image).unwrap_or_else(|fault| panic!("life {life}, loss of {loss:?}: {fault}"));
            if loss == next {
                story = found;
            }
        }
        most = most.max(story.versions());
        step();
    }
    assert!(most > 0 || lives == 0, "nothing was ever acknowledged");
}

/// The power is cut at each moment in which a database is made.
pub fn cut_while_opening(stride: usize) {
    for disk_changes in (0..).step_by(stride) {
        let mut story = Story { truths: Vec::new(), image: Image::new() };
        let disk = story.live(Lies::default(), disk_changes, 0);
        let mut dice = Dice::new(disk_changes);
        for loss in Loss::ALL {
            let image = disk.after_power_loss(loss, &mut dice);
            let checked = story.check(image);
            checked.unwrap_or_else(|fault| panic!("change {disk_changes}, loss of {loss:?}: {fault}"));
        }
        step();
        if !disk.is_dead() {
            break;
        }
    }
}

/// Disks that only say that they have synced lose what was acknowledged, and that is found.
pub fn controls() {
    let unlimited = u64::MAX;
    let mut dice = Dice::new(0);
    let lost = |story: &Story, disk: &Disk, dice: &mut Dice| {
        let image = disk.after_power_loss(Loss::All, dice);
        let fault = story.clone().check(image).expect_err("this disk has lied");
        assert!(fault.contains("is lost"), "{fault}");
    };
    // From the beginning.
    for lies in [Lies { files: true, folders: false }, Lies { files: false, folders: true }] {
        let mut story = Story::new();
        let disk = story.live(lies, unlimited, 1);
        lost(&story, &disk, &mut dice);
    }
    // And a database that was sound before.
    let mut story = Story::new();
    let disk = story.live(Lies::default(), unlimited, 2);
    story.check(disk.after_power_loss(Loss::All, &mut dice)).expect("this disk is honest");
    let disk = story.live(Lies { files: true, folders: false }, unlimited, 3);
    lost(&story, &disk, &mut dice);
    story.check(disk.after_power_loss(Loss::None, &mut dice)).expect("the process alone died");
}
