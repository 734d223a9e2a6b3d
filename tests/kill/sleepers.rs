//! A host with runs under way.

use std::path::Path;
use std::time::Duration;

use skillcache::{CacheMode, Config, Data, RunOptions, Skill};

use super::{Begun, acknowledge, kill_one, open};

/// Puts version after version and says so once each is acknowledged; sleeping runs are under way all the time.
pub fn host(path: &Path) -> ! {
    let mut config = Config::default();
    config.set("sandbox.timeout_ms", "300000").expect("a known option");
    let library = open(path, &config);
    library.put(&Skill::new("sleeper", "import time\ntime.sleep(300)")).expect("the host puts");
    let options = RunOptions { cache: Some(CacheMode::No), ..RunOptions::default() };
    for _ in 0..2 {
        library.submit("sleeper", Data::default(), &options).expect("the host submits");
    }
    let mut version = library.get("counter", 0).map_or(0, |skill| skill.version());
    loop {
        let mut skill = Skill::new("counter", "result = parameters['n']");
        skill.set("parameters", &format!(r#"{{"n": {version}}}"#)).expect("parameters");
        version = library.put(&skill).expect("the host puts");
        acknowledge(&version.to_string());
    }
}

pub fn kill(rounds: u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("skills.db");
    let mut newest = 0;
    for round in 0..rounds {
        let lines = kill_one("sleepers", &path, round, Begun::LineAndRun, Duration::from_millis(round * 137 % 400));
        let acknowledged = lines.last().map_or(0, |line| line.parse().expect("a version"));
        let library = open(&path, &Config::default());
        let found = library.get("counter", 0).map_or(0, |skill| skill.version());
        assert!(found >= acknowledged, "round {round}: version {acknowledged} was acknowledged, {found} is there");
        assert!(found >= newest, "round {round}: {newest} was there before");
        (1..=found).for_each(|version| drop(library.get("counter", version).expect("every version is there")));
        newest = found;
    }
    assert!(newest > 0 || rounds == 0, "the hosts came to nothing");
}
