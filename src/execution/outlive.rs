//! Results that outlive the process: how they stand in the store.

use std::sync::Arc;
use std::time::Duration;

use crate::cache::key::{self, Digest};
use crate::json::Value;
use crate::limits::RunLimits;
use crate::result::Kept;
use crate::sandbox::{Capture, Level};
use crate::store::{ResultKey, StoredResult};

use super::Execution;

/// The bits that say which stream was cut.
const STDOUT_CUT: u8 = 1;
const STDERR_CUT: u8 = 2;

impl Execution {
    /// An answer that was kept by this process or one before it, and for how long it is good.
    pub(super) fn outlived(&self, key: &Digest, epoch: i64) -> Option<(Kept, Duration)> {
        if !self.results_outlive() {
            return None;
        }
        let (stored, left) = self.store.find_result(&self.stored_key(key), epoch)?;
        Some((read(stored)?, left))
    }

    /// The key of an answer in the database: that in memory, and what it takes for granted because one process has one configuration. The mode
    /// is part of it, so what ran with less than `strict` demands is no answer where `strict` is demanded.
    fn stored_key(&self, key: &Digest) -> ResultKey {
        let config = &self.config;
        let limits = RunLimits::of_library(config).visible();
        let parts = [&limits, &config.sandbox_mode, &config.sandbox_without, &config.sandbox_start];
        key::of_configuration(key, &parts.map(String::as_str))
    }

    /// An answer as the store keeps it, if it keeps any. Made before it is known whether it is to be kept: that is decided under a lock.
    pub(super) fn for_the_store(&self, kept: &Kept) -> Option<Vec<u8>> {
        self.results_outlive().then(|| stored(kept).encode()).flatten()
    }

    /// Packages may be upgraded between two processes, and no key knows of that.
    fn results_outlive(&self) -> bool {
        self.store.keeps_results() && self.config.python_site_packages == "off"
    }

    /// Has such an answer written behind, for as long as it would be kept in memory; without one an older one goes. `epoch` is that in which
    /// the run began.
    pub(super) fn let_outlive(
        &self,
        skill: &Arc<str>,
        key: &Digest,
        stored: Option<Vec<u8>>,
        ttl: Option<Duration>,
        epoch: i64,
    ) {
        if self.results_outlive() {
            let ttl = ttl.unwrap_or(Duration::from_secs(self.config.cache_execution_ttl_s));
            self.store.keep_result(skill, self.stored_key(key), stored, ttl, epoch);
        }
    }
}

fn stored(kept: &Kept) -> StoredResult {
    let level = kept.confinement.as_ref().map(|level| level.to_value().to_text()).unwrap_or_default();
    let cut = |stream: &Capture, bit: u8| if stream.is_truncated { bit } else { 0 };
    StoredResult {
        parts: [
            kept.value.as_bytes().to_vec(),
            kept.stdout.bytes.clone(),
            kept.stderr.bytes.clone(),
            level.into_bytes(),
        ],
        flags: cut(&kept.stdout, STDOUT_CUT) | cut(&kept.stderr, STDERR_CUT),
    }
}

/// Nothing if it is none of ours: then the skill runs.
fn read(stored: StoredResult) -> Option<Kept> {
    let [value, stdout, stderr, level] = stored.parts;
    let stream = |bytes: Vec<u8>, bit: u8| Arc::new(Capture { bytes, is_truncated: stored.flags & bit != 0 });
    let level = String::from_utf8(level).ok()?;
    let confinement = match level.as_str() {
        "" => None,
        text => Some(Arc::new(Level::read(&Value::parse(text).ok()?)?)),
    };
    Some(Kept {
        value: Arc::from(String::from_utf8(value).ok()?),
        stdout: stream(stdout, STDOUT_CUT),
        stderr: stream(stderr, STDERR_CUT),
        confinement,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_as_it_was() {
        let level =
            Level { name: "partial", layers: vec!["net".to_owned()], missing: vec!["files"], counts_threads: true };
        let kept = Kept {
            value: Arc::from(r#"{"a":"é"}"#),
            stdout: Arc::new(Capture { bytes: vec![0, 255], is_truncated: false }),
            stderr: Arc::new(Capture { bytes: b"cut".to_vec(), is_truncated: true }),
            confinement: Some(Arc::new(level)),
        };
        let back = read(stored(&kept)).expect("ours");
        assert_eq!((&*back.value, &back.stdout, &back.stderr), (&*kept.value, &kept.stdout, &kept.stderr));
        assert_eq!(back.confinement, kept.confinement);
        let none = Kept { confinement: None, ..kept };
        assert_eq!(read(stored(&none)).expect("ours").confinement, None);
    }

    #[test]
    fn what_is_none_of_ours_is_no_answer() {
        let with = |level: &str| StoredResult { parts: [b"1".to_vec(), vec![], vec![], level.into()], flags: 0 };
        for level in ["x", "{}", r#"{"level":"best","layers":[],"missing":[],"threads":"count"}"#] {
            assert!(read(with(level)).is_none(), "{level}");
        }
        assert!(read(StoredResult { parts: [vec![255], vec![], vec![], vec![]], flags: 0 }).is_none());
    }
}
