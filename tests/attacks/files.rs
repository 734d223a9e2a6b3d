//! Attempts 14 to 28: the host's files, and the private folder.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use skillcache::{Data, Library, Outcome, RunOptions, RunResult, Skill};

use crate::host::Control::{Bare, BareRoot, Succeeds};
use crate::host::{self, Attempt, Host, answer, assert_all_is_well, attempt, confined, filtered, run, unconfined};
use crate::lifecycle;
use crate::situations::{self, Situation};

pub const ATTEMPTS: &[Attempt] = &[
    attempt(14, "read a key of the host's user", Succeeds, "result = tried(lambda: open(HOST).read()) == 'bait'"),
    attempt(14, "read /etc/passwd", Succeeds, "result = 'root' in (tried(lambda: open('/etc/passwd').read()) or '')"),
    attempt(14, "read /etc/shadow", BareRoot, "result = 'root' in (tried(lambda: open('/etc/shadow').read()) or '')"),
    attempt(14, "list the host's folder", Succeeds, "result = 'socket' in (tried(os.listdir, FOLDER) or [])"),
    attempt(
        15,
        "the host's environment",
        Bare,
        "result = bool(tried(lambda: open('/proc/%d/environ' % PID, 'rb').read(9)))",
    ),
    attempt(15, "the host's memory", Bare, "result = tried(lambda: open('/proc/%d/mem' % PID, 'rb').close())"),
    attempt(15, "the host's descriptors", Bare, "result = bool(tried(os.listdir, '/proc/%d/fd' % PID))"),
    attempt(
        15,
        "the host's arguments",
        Succeeds,
        "result = bool(tried(lambda: open('/proc/%d/cmdline' % PID, 'rb').read(9)))",
    ),
    attempt(16, "/proc/self/root", Succeeds, "result = bool(tried(os.listdir, '/proc/self/root/'))"),
    attempt(16, "/proc/self/cwd, and out of it", Succeeds, "result = bool(tried(os.listdir, '/proc/self/cwd/../'))"),
    attempt(16, "/proc/self/maps", Succeeds, "result = bool(tried(lambda: open('/proc/self/maps').read(4)))"),
    attempt(
        16,
        "a file by its descriptor's name",
        Succeeds,
        "fd = os.open('.', os.O_PATH)\nresult = bool(tried(os.listdir, '/proc/self/fd/%d/..' % fd))",
    ),
    attempt(17, "write to the host's file", Succeeds, "result = tried(lambda: open(HOST, 'r+').close())"),
    attempt(17, "cut the host's file", Succeeds, "result = tried(os.truncate, HOST, 0)"),
    attempt(17, "write beside it", Succeeds, "result = tried(lambda: open(FOLDER + '/new', 'w').close())"),
    attempt(17, "remove it", Succeeds, "result = tried(os.unlink, HOST)"),
    attempt(17, "a folder beside it", Succeeds, "result = tried(os.mkdir, FOLDER + '/new')"),
    attempt(17, "write to /var/tmp", Succeeds, "result = tried(lambda: open('/var/tmp/' + TOKEN, 'w').close())"),
    // A run's own /tmp is its private folder.
    attempt(
        17,
        "write to /tmp",
        Succeeds,
        "result = tried(lambda: open('/tmp/' + TOKEN, 'w').close()) and os.path.realpath('/tmp') != os.getcwd()",
    ),
    attempt(
        18,
        "a symlink out, read through",
        Succeeds,
        "os.symlink(HOST, 'l')\nresult = tried(lambda: open('l').read()) == 'bait'",
    ),
    attempt(
        18,
        "a symlink out, written through",
        Succeeds,
        "os.symlink(HOST, 'l')\nresult = tried(lambda: open('l', 'r+').close())",
    ),
    attempt(
        18,
        "a file made through a symlink",
        Succeeds,
        "os.symlink(FOLDER + '/new', 'l')\nresult = tried(lambda: open('l', 'w').close())",
    ),
    attempt(
        18,
        "a symlink to a folder",
        Succeeds,
        "os.symlink(FOLDER, 'l')\nresult = 'socket' in (tried(os.listdir, 'l') or [])",
    ),
    attempt(19, "a hard link in", Succeeds, "result = tried(os.link, HOST, 'h')"),
    attempt(
        20,
        "rename out of the folder",
        Succeeds,
        "open('a', 'w').close()\nresult = tried(os.rename, 'a', FOLDER + '/new')",
    ),
    attempt(20, "rename into the folder", Succeeds, "result = tried(os.rename, HOST, 'a')"),
    attempt(20, "climb out by ..", Succeeds, "result = tried(lambda: open('../' * 30 + HOST[1:]).read()) == 'bait'"),
    attempt(
        20,
        "write beside the folder",
        Succeeds,
        "try:\n  open('../' + TOKEN, 'w').close()\n  os.unlink('../' + TOKEN)\n  result = True\nexcept OSError:\n  result = False",
    ),
    attempt(
        22,
        "a device",
        BareRoot,
        "import stat\nresult = tried(os.mknod, 'n', stat.S_IFCHR | 0o600, os.makedev(1, 3))",
    ),
    filtered(22, "a FIFO", Succeeds, "result = tried(os.mkfifo, 'f')"),
    // In a namespace of its own what is made goes with the run.
    filtered(
        24,
        "System V shared memory",
        Succeeds,
        "id = raw(29, 0, 4096, 0o1600)\nresult = id >= 0\ncall(31, id, 0, 0)",
    ),
    filtered(
        24,
        "System V semaphores",
        Succeeds,
        "id = raw(64, 0, 1, 0o1600)\nresult = id >= 0\ncall(66, id, 0, 0, 0)",
    ),
    filtered(24, "System V messages", Succeeds, "id = raw(68, 0, 0o1600)\nresult = id >= 0\ncall(71, id, 0, 0)"),
    attempt(
        24,
        "a POSIX queue",
        Succeeds,
        "name = TOKEN.encode()\nresult = call(240, name, 0o102, 0o600, 0)\ncall(241, name)",
    ),
    attempt(24, "/dev/shm", Succeeds, "result = tried(lambda: open('/dev/shm/' + TOKEN, 'w').close())"),
    attempt(25, "the mode of a host's file", Succeeds, "result = tried(os.chmod, HOST, 0o644)"),
    attempt(25, "the owner of a host's file", Succeeds, "result = tried(os.chown, HOST, os.getuid(), os.getgid())"),
    attempt(25, "the times of a host's file", Succeeds, "result = tried(os.utime, HOST, (1, 1))"),
    attempt(25, "an attribute of a host's file", Succeeds, "result = tried(os.setxattr, HOST, 'user.x', b'x')"),
    attempt(25, "the interpreter's own files", BareRoot, "result = tried(lambda: open(os.__file__, 'r+').close())"),
    attempt(27, "a sparse file", Bare, "open('s', 'w').close()\nresult = tried(os.truncate, 's', 1 << 33)"),
    attempt(
        27,
        "a file that takes its blocks",
        Bare,
        "fd = os.open('s', os.O_RDWR | os.O_CREAT)\nresult = tried(os.posix_fallocate, fd, 0, 80 << 20)",
    ),
    attempt(
        27,
        "one byte far out",
        Bare,
        "fd = os.open('s', os.O_RDWR | os.O_CREAT)\nresult = tried(os.pwrite, fd, b'x', 1 << 33) == 1",
    ),
];

#[test]
fn attempt_21_planted_links_lead_the_host_nowhere() {
    let host = Host::new();
    let folder = host.folder().display();
    let code = format!(
        "import os\nos.makedirs('a/b')\nfor at in ('l', 'a/l', 'a/b/l'):\n  os.symlink('{folder}', at)\n  os.symlink('{folder}/id_ed25519', at + 'f')\n\
         os.symlink('..', 'up')\nos.symlink('/', 'root')\nos.symlink('loop', 'loop')\n\
         result = len(os.readlink('l'))"
    );
    for library in host::with_and_without_layers(&[]) {
        run(&library, &format!("{code}\nos.kill(os.getpid(), 9)"));
        host.assert_untouched("planted links");
        assert_eq!(answer(&library, &code), folder.to_string().len().to_string());
        host.assert_untouched("planted links");
        assert_all_is_well(&library, "planted links");
    }
    // A host that follows links when it cleans up is hit by this.
    let (victim, planted) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    fs::write(victim.path().join("x"), "x").expect("written");
    symlink(victim.path(), planted.path().join("l")).expect("planted");
    fs::remove_file(planted.path().join("l/x")).expect("removed through the link");
    assert!(!victim.path().join("x").exists());
}

#[test]
fn attempt_22_a_pipe_in_the_folder_does_not_hold_up_the_host() {
    let code = "import os\ntry:\n  os.mkfifo('f')\n  result = 'made'\nexcept OSError:\n  result = 'refused'";
    for library in host::with_and_without_layers(&[]) {
        let start = Instant::now();
        let made = answer(&library, code);
        let is_due = run(&library, "result = 1").level() == "process-only" || !Situation::now().has_filter();
        assert_eq!(made, if is_due { "\"made\"" } else { "\"refused\"" });
        assert_all_is_well(&library, "a FIFO");
        // Whoever opens a pipe that nobody else does waits for ever.
        assert!(start.elapsed() < Duration::from_secs(300));
    }
}

#[test]
fn attempt_23_another_runs_folder_is_out_of_reach() {
    // What a thief finds that looks for so many seconds, or until it finds something; nothing if the owner had not begun by then.
    let reads_of_another = |library: &Library, seconds: u32| {
        let secret = "import time\nopen('secret', 'w').write('its own')\nprint('ready', flush=True)\ntime.sleep(100)";
        library.put(&Skill::new("owner", secret)).expect("it is Python");
        let thief = format!(
            "import glob, os, time\nfound, end = 0, time.monotonic() + {seconds}\nwhile not found and time.monotonic() < end:\n  \
             for path in glob.glob('{}/skillcache-*/secret'):\n    try: found += open(path).read() == 'its own'\n    \
             except OSError: pass\n  time.sleep(0.05)\nresult = found > 0",
            std::env::temp_dir().display()
        );
        let owner = library.submit("owner", Data::default(), &RunOptions::default()).expect("queued");
        let found = answer(library, &thief);
        owner.cancel();
        let owner = owner.wait(None).expect("a result");
        assert_eq!(owner.outcome, Outcome::Cancelled);
        (owner.stdout.bytes == b"ready\n").then_some(found)
    };
    let mut found = [1, 5, 30].into_iter().filter_map(|seconds| reads_of_another(&confined(&[]), seconds));
    assert_eq!(found.next().as_deref(), Some("false"));
    if Situation::now().has_controls() {
        assert_eq!(reads_of_another(&unconfined(&[]), 60).as_deref(), Some("true"));
    }
}

#[test]
fn attempt_24_nothing_is_left_in_shared_memory() {
    // A key of this process's own, so that suites side by side do not meet.
    let key = 0x5c00_0000 + std::process::id();
    let call = "import ctypes\nlibc = ctypes.CDLL(None)";
    let leave = format!("{call}\nresult = libc.shmget({key}, 4096, 0o1600) >= 0");
    let find = format!("{call}\nid = libc.shmget({key}, 0, 0)\nresult = id >= 0\nlibc.shmctl(id, 0, None)");
    let library = confined(&[]);
    run(&library, &leave);
    assert_eq!(answer(&library, &find), "false");
    if Situation::now().has_controls() {
        let library = unconfined(&[]);
        assert_eq!([answer(&library, &leave), answer(&library, &find)], ["true", "true"]);
        assert_eq!(answer(&library, &find), "false", "the control cleans up");
    }
}

/// Fills the folder with files of 100 KB.
const FILL: &str =
    "import time\nfor i in range(100):\n  with open(str(i), 'wb') as f: f.write(bytes(range(256)) * 400)\n";

#[test]
fn attempt_26_many_files_do_not_fill_the_disk() {
    let library = confined(&[("sandbox.max_file_mb", "1")]);
    for code in [format!("{FILL}result = 1"), format!("{FILL}time.sleep(60)")] {
        let result = run(&library, &code);
        assert_eq!(result.outcome, Outcome::DiskLimit, "{result:?}");
        assert_all_is_well(&library, "a full folder");
    }
    let with_room = confined(&[("sandbox.max_file_mb", "64")]);
    assert_eq!(answer(&with_room, &format!("{FILL}result = 1")), "1");
}

#[test]
fn attempt_28_a_folder_of_many_files_is_bounded_and_removed() {
    let code = |most: u32| {
        format!(
            "import os\nmade = 0\ntry:\n  while made < {most}:\n    os.close(os.open(str(made), os.O_CREAT | os.O_WRONLY))\n    made += 1\n\
             except OSError as e:\n  pass\nresult = made"
        )
    };
    let library = confined(&[]);
    let result = run(&library, &code(5000));
    if is_mounted(&result) {
        let made: Option<u32> = result.value.as_deref().and_then(|text| text.parse().ok());
        assert!(made.is_some_and(|made| made < 4096), "{result:?}");
    } else {
        // A folder of the host's disk: there the host counts.
        assert_eq!(result.outcome, Outcome::DiskLimit, "{result:?}");
    }
    assert_all_is_well(&library, "many files");
    if Situation::now().has_controls() {
        let folder = tempfile::tempdir().expect("a folder");
        let made =
            host::bare(&format!("{}\nprint(result)", code(5000))).current_dir(&folder).output().expect("it starts");
        assert_eq!(made.stdout, b"5000\n");
    }
}

#[test]
fn attempt_28_closed_folders_are_removed() {
    let host = Host::new();
    let code = "import os\nprint(os.environ['HOME'], flush=True)\nos.makedirs('a/b')\nopen('a/b/c', 'w').close()\nos.mkdir('d', 0)\nos.mkdir('e', 0o300)\nopen('e/f', 'w').close()\n\
        for path in ('a/b/c', 'a/b', 'a', '.'):\n  try: os.chmod(path, 0)\n  except OSError: pass\nresult = 1";
    for library in host::with_and_without_layers(&[]) {
        let result = run(&library, code);
        // Where the host measures and is not root, it cannot look into them, which is too much.
        let can_be_measured = is_mounted(&result) || host::is_root();
        let expected = if can_be_measured { Outcome::Success } else { Outcome::DiskLimit };
        assert_eq!(result.outcome, expected, "{result:?}");
        assert!(!host::folder_it_named(&result).exists(), "it is still there");
        host.assert_untouched("closed folders");
        assert_all_is_well(&library, "closed folders");
    }
}

/// Whether a run's folder was a file system of its own.
fn is_mounted(result: &RunResult) -> bool {
    result.confinement.as_ref().is_some_and(|level| level.layers.iter().any(|layer| layer == "mount"))
}

/// Folders so deep that no path names the last one.
const DEEP: &str = "import os\nmade = 0\ntry:\n  while made < 10000:\n    os.mkdir('d')\n    os.chdir('d')\n    made += 1\nexcept OSError: pass\n";

#[test]
fn attempt_28_folders_in_folders_are_removed_however_deep() {
    const NAME: &str = "files::attempt_28_folders_in_folders_are_removed_however_deep";
    if !lifecycle::is_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let ended = lifecycle::alone(NAME, &folder).output().expect("it starts");
        let is_left = fs::read_dir(folder.path()).expect("it is there").count() > 0;
        // What this test finds it does not leave to the next.
        std::process::Command::new("rm").arg("-rf").arg(folder.path()).status().expect("there is an rm");
        situations::assert_success(&ended);
        assert!(!is_left, "a run's folder is left");
        return;
    }
    // A host that has few descriptors, as most have.
    let few = rustix::process::Rlimit { current: Some(256), maximum: Some(256) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, few).expect("it can be lowered");
    for library in host::with_and_without_layers(&[]) {
        let result = run(&library, &format!("{DEEP}result = made > 1000"));
        // On the host's disk, more levels than it looks into are too much.
        let expected = if is_mounted(&result) { Outcome::Success } else { Outcome::DiskLimit };
        assert_eq!(result.outcome, expected, "{result:?}");
    }
}

/// Ways to keep what is written out of the sight of a host that measures a folder by its paths.
const HIDING_PLACES: [(&str, &str); 3] = [
    ("below every path", "made = 0\nwhile made < 2500:\n  os.mkdir('d')\n  os.chdir('d')\n  made += 1"),
    ("in a folder that cannot be listed", "os.mkdir('d', 0o300)\nos.chdir('d')"),
    ("in files without a name", "unlink = True"),
];

#[test]
fn attempt_26_nothing_is_hidden_from_the_measure() {
    let mut hidden = Vec::new();
    for (place, go_there) in HIDING_PLACES {
        let code = format!(
            "import os, time\nunlink = False\nkept = []\n{go_there}\nfor i in range(20):\n  f = open(str(i), 'wb')\n  kept.append(f)\n  \
             if unlink: os.unlink(str(i))\n  f.write(b'x' * 1000000)\n  f.flush()\ntime.sleep(0.5)\nresult = 'wrote'"
        );
        let result = run(&confined(&[("sandbox.max_file_mb", "16")]), &code);
        if result.outcome != Outcome::DiskLimit {
            hidden.push(format!("{place}: {:?}", result.outcome));
        }
        let with_room = run(&confined(&[("sandbox.max_file_mb", "64")]), &code);
        // Where the host measures, what it cannot look at is too much.
        let is_measured = is_mounted(&with_room) || place == "in files without a name";
        let expected = if is_measured { Outcome::Success } else { Outcome::DiskLimit };
        assert_eq!(with_room.outcome, expected, "{place}");
    }
    assert_eq!(hidden, Vec::<String>::new());
}
