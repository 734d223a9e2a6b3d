//! A container's limit counts before the machine's memory: with control groups of this test's own, where it may make some.

use std::fs;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use skillcache::json::Value;

use crate::child;
use crate::libraries::{at, number, open, put, run, stats, text};
use crate::told::{expect, next};

const MIB: u64 = 1 << 20;
const LIMIT: u64 = 512 * MIB;
const NAME: &str = "skillcache-test-";
/// What a child is to find: the limit in bytes, and whose it is.
const EXPECTED: &str = "SKC_MONITORING_LIMIT";

/// Where the kernel shows control groups with the controller of memory.
#[derive(Debug)]
struct Hierarchy {
    is_second: bool,
    /// Where it is mounted.
    root: PathBuf,
    /// The group of this process.
    own: PathBuf,
}

impl Hierarchy {
    fn find() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
        // `4:memory:/path`, and `0::/path` for the second version.
        let group = |controller: &str| {
            let mut lines = groups.lines().map(|line| line.splitn(3, ':').collect::<Vec<_>>());
            let line =
                lines.find(|line| line.get(1).is_some_and(|names| names.split(',').any(|name| name == controller)));
            line.and_then(|line| line.get(2).map(|path| (*path).to_owned()))
        };
        let mounted = |kind: &str, option: &str| {
            // `36 35 98:0 /root /point options - type source super-options`
            let lines = mounts.lines().filter_map(|line| line.split_once(" - "));
            let mut of_kind = lines.filter_map(|(place, what)| {
                let what: Vec<_> = what.split(' ').collect();
                let is_it = what.first() == Some(&kind)
                    && what.get(2)?.split(',').any(|has| option.is_empty() || has == option);
                let place: Vec<_> = place.split(' ').collect();
                is_it.then(|| (place.get(3).map(|root| (*root).to_owned()), place.get(4).map(PathBuf::from)))
            });
            of_kind.next().and_then(|(root, point)| Some((root?, point?)))
        };
        let first = group("memory").and_then(|group| Some((group, mounted("cgroup", "memory")?, false)));
        let (group, (from, root), is_second) = first.or_else(|| Some((group("")?, mounted("cgroup2", "")?, true)))?;
        let own = root.join(Path::new(&group).strip_prefix(&from).ok()?);
        Some(Hierarchy { is_second, root, own })
    }

    fn limit_file(&self) -> &'static str {
        if self.is_second { "memory.max" } else { "memory.limit_in_bytes" }
    }

    fn no_limit(&self) -> &'static str {
        if self.is_second { "max" } else { "-1" }
    }

    /// The least limit that a group and those above it have.
    fn limit(&self, group: &Path) -> u64 {
        let limits = group.ancestors().take_while(|path| path.starts_with(&self.root));
        let limits =
            limits.filter_map(|path| fs::read_to_string(path.join(self.limit_file())).ok()?.trim().parse().ok());
        limits.min().unwrap_or(u64::MAX)
    }

    /// A group below another one, with the controller of memory.
    fn group(&self, above: &Path, name: &str) -> io::Result<Group> {
        let switch = above.join("cgroup.subtree_control");
        let is_off = || -> io::Result<bool> {
            let on = fs::read_to_string(&switch)?;
            Ok(!on.split_whitespace().any(|controller| controller == "memory"))
        };
        let path = above.join(name);
        fs::create_dir(&path)?;
        let mut group = Group { path, switched: None };
        if self.is_second && is_off()? {
            fs::write(&switch, "+memory")?;
            group.switched = Some(switch);
        }
        if group.path.join(self.limit_file()).exists() {
            Ok(group)
        } else {
            Err(io::Error::other(format!("{} has no {}", group.path.display(), self.limit_file())))
        }
    }

    fn set_limit(&self, group: &Group, limit: &str) {
        fs::write(group.path.join(self.limit_file()), limit).unwrap_or_else(|error| panic!("{limit}: {error}"));
    }
}

/// A control group, which goes with this. Nobody may be in it any more.
#[derive(Debug)]
struct Group {
    path: PathBuf,
    /// Where the controller was switched on for it.
    switched: Option<PathBuf>,
}

impl Drop for Group {
    fn drop(&mut self) {
        // Who is dead may take a moment to leave.
        let given_up = Instant::now() + Duration::from_secs(30);
        while fs::remove_dir(&self.path).is_err_and(|error| error.kind() != io::ErrorKind::NotFound) {
            if Instant::now() > given_up {
                let _ = writeln!(io::stderr(), "{} could not be removed", self.path.display());
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        if let Some(switch) = &self.switched {
            let _ = fs::write(switch, "-memory");
        }
    }
}

/// Removes what a test that was killed has left behind.
fn sweep(above: &Path) {
    for entry in fs::read_dir(above).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_dead = |pid: &str| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists();
        if name.strip_prefix(NAME).is_some_and(is_dead) {
            let _ = fs::remove_dir(entry.path().join("inner"));
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// A process of this test, dead when this is gone.
struct Contained(Option<Child>);

impl Drop for Contained {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Contained {
    /// Starts one in a group. It finds what it is to find.
    fn start(mut command: Command, group: &Group, limit: u64, source: &str) -> io::Result<Self> {
        command.env(EXPECTED, format!("{limit} {source}"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut contained = Contained(Some(command.spawn()?));
        let child = contained.0.as_mut().expect("it was just started");
        fs::write(group.path.join("cgroup.procs"), child.id().to_string())?;
        // Now it may look.
        child.stdin.take().expect("piped").write_all(b"go\n")?;
        Ok(contained)
    }

    #[track_caller]
    fn succeeds(mut self) {
        let child = self.0.take().expect("nobody has waited yet");
        child::succeeds(&child.wait_with_output().expect("it ends"));
    }
}

/// The part of a process in a group.
fn look_around() {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).expect("it is told to go on");
    let expected = std::env::var(EXPECTED).expect("it is told what to find");
    let (limit, source) = expected.split_once(' ').expect("two words");
    let limit: u64 = limit.parse().expect("a number");
    let options =
        [("memory.check_interval_ms", "10"), ("memory.report_interval_s", "0"), ("memory.alert_threshold", "0.25")];
    let library = open(&options);
    let memory = at(&stats(&library), "memory").clone();
    assert_eq!((text(&memory, "limit_source"), number(&memory, "limit_mb")), (source, limit as f64 / MIB as f64));
    let [rss, percent] = ["rss_mb", "percent"].map(|name| number(&memory, name));
    assert!((percent - rss * MIB as f64 * 100.0 / limit as f64).abs() < 1e-6, "{}", memory.to_text());
    put(&library, "s", "result = 1", &[]);
    assert_eq!(run(&library, "s", "", "").value.as_deref(), Some("1"));
    expect(&library, ["sandbox_level", "skill_put"]);
    if source == "host" {
        return;
    }
    // Of the machine's memory that is next to nothing.
    let held = vec![1_u8; (limit * 3 / 10) as usize];
    let [report, alert] = [next(&library), next(&library)];
    assert_eq!([report.kind.as_str(), alert.kind.as_str()], ["memory_report", "memory_high"]);
    for event in [&report, &alert] {
        event.says([("limit_source", source.into()), ("limit_mb", Value::from(limit as f64 / MIB as f64))]);
        assert!(number(&event.fields, "percent") >= 25.0, "{event:?}");
    }
    assert!(alert.message.starts_with("High memory usage detected: "), "{alert:?}");
    assert_eq!(held.last(), Some(&1));
}

const TEST: &str = "a_containers_limit_counts_before_the_machines_memory";

/// A limit of its own, one of the group above, and none: in each, a process that has to find it.
fn contain(hierarchy: &Hierarchy, above: &Path, machine: u64) -> io::Result<()> {
    sweep(above);
    let outer = hierarchy.group(above, &format!("{NAME}{}", std::process::id()))?;
    let command = || child::of(module_path!(), TEST, "contained");
    // Whoever started this test may have a limit as well.
    let surrounding = hierarchy.limit(above).min(machine);
    let source = |limit: u64| if limit < machine { "container" } else { "host" };
    let found = |limit: u64| (limit.min(surrounding), source(limit.min(surrounding)));
    hierarchy.set_limit(&outer, hierarchy.no_limit());
    let (limit, whose) = found(u64::MAX);
    // Whether processes may be put there is found out by the first.
    Contained::start(command(), &outer, limit, whose)?.succeeds();
    hierarchy.set_limit(&outer, &LIMIT.to_string());
    let (limit, whose) = found(LIMIT);
    Contained::start(command(), &outer, limit, whose)?.succeeds();
    let inner = hierarchy.group(&outer.path, "inner")?;
    for own in [2 * LIMIT, LIMIT / 2] {
        hierarchy.set_limit(&inner, &own.to_string());
        let (limit, whose) = found(own.min(LIMIT));
        Contained::start(command(), &inner, limit, whose)?.succeeds();
    }
    hierarchy.set_limit(&inner, hierarchy.no_limit());
    let (limit, whose) = found(LIMIT);
    Contained::start(command(), &inner, limit, whose)?.succeeds();
    Ok(())
}

fn machine_memory() -> u64 {
    let figures = fs::read_to_string("/proc/meminfo").expect("there is a /proc");
    let total = figures.lines().find_map(|line| line.strip_prefix("MemTotal:")).expect("it says how much there is");
    total.trim().trim_end_matches("kB").trim().parse::<u64>().expect("a number") * 1024
}

#[test]
fn a_containers_limit_counts_before_the_machines_memory() {
    if child::part().is_some() {
        look_around();
        return;
    }
    let (hierarchy, machine) = (Hierarchy::find(), machine_memory());
    // What this process finds, whatever it is in.
    let memory = at(&stats(&open(&[])), "memory").clone();
    let limit = hierarchy.as_ref().map_or(u64::MAX, |hierarchy| hierarchy.limit(&hierarchy.own)).min(machine);
    assert_eq!(number(&memory, "limit_mb"), limit as f64 / MIB as f64);
    assert_eq!(text(&memory, "limit_source"), if limit < machine { "container" } else { "host" });
    let Some(hierarchy) = hierarchy else {
        return cannot("there are no control groups");
    };
    // In a group that has processes, the second version makes none.
    if let Err(first) = contain(&hierarchy, &hierarchy.root, machine)
        && let Err(second) = contain(&hierarchy, &hierarchy.own, machine)
    {
        cannot(&format!("{}: {first}; {}: {second}", hierarchy.root.display(), hierarchy.own.display()));
    }
}

fn cannot(why: &str) {
    let _ = writeln!(io::stderr(), "limits of containers were not tried, only what this process is in: {why}");
}
