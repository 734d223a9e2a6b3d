//! What confinement must not take away, and what it must not leave behind.

use std::collections::BTreeSet;
use std::fs;

use skillcache::{Config, Library, Outcome, RunOptions, RunResult, Skill};

fn open(options: &[(&str, &str)]) -> Library {
    let mut config = Config::default();
    // Time is not what is tested: on a busy machine an interpreter takes a second to start, and the whole library's imports many.
    let own = [
        ("policy.mode", "off"),
        ("sandbox.max_memory_mb", "512"),
        ("sandbox.timeout_ms", "300000"),
        ("sandbox.max_cpu_s", "300"),
    ];
    for (name, value) in own.iter().chain(options) {
        config.set(name, value).expect("a known option");
    }
    Library::open(":memory:", &config).expect("a library")
}

fn run(library: &Library, code: &str) -> RunResult {
    library.put(&Skill::new("s", code)).expect("it is Python");
    let options = RunOptions::parse(r#"{"cache":"no"}"#).expect("options");
    library.run("s", Default::default(), &options).expect("it can be run")
}

/// Modules of every Python since 3.9; what is optional in a build (`curses`, `tkinter`, `ssl` ...) is used only if it is there.
const MODULES: &str = "__future__ _thread abc argparse array ast asyncio atexit base64 bdb binascii bisect builtins bz2 \
    calendar cmath cmd code codecs codeop collections collections.abc colorsys compileall concurrent.futures configparser \
    contextlib contextvars copy copyreg csv ctypes dataclasses datetime dbm.dumb decimal difflib dis doctest email \
    email.message email.mime.text encodings.idna enum errno faulthandler fcntl filecmp fileinput fnmatch fractions ftplib \
    functools gc getopt getpass gettext glob graphlib gzip hashlib heapq hmac html html.parser http http.client http.cookies \
    imaplib importlib importlib.metadata importlib.resources inspect io ipaddress itertools json keyword linecache locale \
    logging logging.handlers lzma mailbox marshal math mimetypes mmap modulefinder multiprocessing netrc numbers operator \
    optparse os os.path pathlib pdb pickle pickletools pkgutil platform plistlib poplib posixpath pprint profile pstats pty \
    pwd py_compile pyclbr pydoc queue quopri random re reprlib resource rlcompleter runpy sched secrets select selectors \
    shelve shlex shutil signal site smtplib socket socketserver sqlite3 ssl stat statistics string stringprep struct \
    subprocess symtable sys sysconfig tabnanny tarfile tempfile termios textwrap threading time timeit token tokenize trace \
    traceback tracemalloc tty types typing unicodedata unittest unittest.mock urllib.parse urllib.request uuid venv warnings \
    wave weakref webbrowser wsgiref.util xml.dom.minidom xml.etree.ElementTree xml.sax xmlrpc.client zipapp zipfile zipimport \
    zlib zoneinfo";

/// Uses of what asks the kernel for something; each line is one.
const USES: &str = r#"
import tempfile; f = tempfile.TemporaryFile(); f.write(b'x'); f.seek(0); assert f.read() == b'x'
import tempfile, os; d = tempfile.TemporaryDirectory(); open(d.name + '/a', 'w').close(); d.cleanup()
import shutil; open('a', 'w').write('x'); shutil.copy2('a', 'b'); shutil.copytree('.', 'tree', ignore=lambda *a: ['tree']); shutil.rmtree('tree'); shutil.disk_usage('.')
import pathlib; p = pathlib.Path('p'); p.write_text('x'); p.chmod(0o600); p.rename('q'); pathlib.Path('q').unlink(); list(pathlib.Path('.').rglob('*'))
import os; open('a', 'w').close(); os.symlink('a', 'l'); assert os.readlink('l') == 'a'; os.link('a', 'h'); os.utime('a', (1, 1)); os.truncate('a', 0)
import os; r, w = os.pipe(); os.write(w, b'x'); assert os.read(r, 1) == b'x'; os.close(r); os.close(w)
import os; os.cpu_count(); os.times(); os.urandom(8); os.getpid(); os.uname(); os.sched_getaffinity(0)
import asyncio; assert asyncio.run(asyncio.sleep(0.001, 'x')) == 'x'
import asyncio; assert asyncio.run(asyncio.to_thread(lambda: 7)) == 7
import threading; t = threading.Thread(target=lambda: None); t.start(); t.join()
from concurrent.futures import ThreadPoolExecutor; assert list(ThreadPoolExecutor(4).map(abs, [-1, -2])) == [1, 2]
import queue, threading; q = queue.Queue(); threading.Timer(0.001, q.put, [1]).start(); assert q.get(timeout=100) == 1
import sqlite3; c = sqlite3.connect('db'); c.execute('create table t(a)'); c.execute('insert into t values (1)'); c.commit(); assert c.execute('select a from t').fetchall() == [(1,)]
import sqlite3; c = sqlite3.connect('wal.db'); c.execute('pragma journal_mode=wal'); c.execute('create table t(a)'); c.commit()
import ssl; ssl.create_default_context
import mmap; m = mmap.mmap(-1, 4096); m[0] = 1; m.close(); f = open('m', 'w+b'); f.write(b'x' * 4096); f.flush(); mmap.mmap(f.fileno(), 4096).close()
import select, os; r, w = os.pipe(); assert select.select([], [w], [], 1)[1]; p = select.epoll(); p.register(w, 4); assert p.poll(1); p.close(); q = select.poll(); q.register(w); q.poll(1)
import selectors, os; s = selectors.DefaultSelector(); r, w = os.pipe(); s.register(w, 2); assert s.select(1)
import socket; a, b = socket.socketpair(); a.send(b'x'); assert b.recv(1) == b'x'; a.close(); b.close()
import signal; got = []; signal.signal(signal.SIGALRM, lambda *a: got.append(1)); signal.setitimer(signal.ITIMER_REAL, 0.001); signal.sigtimedwait([signal.SIGUSR1], 0.05); assert got
import signal; got = []; signal.signal(signal.SIGUSR1, lambda *a: got.append(1)); signal.raise_signal(signal.SIGUSR1); assert got
import os, signal; got = []; signal.signal(signal.SIGTERM, lambda *a: got.append(1)); os.kill(os.getpid(), signal.SIGTERM); assert got
import time; time.sleep(0.001); time.time_ns(); time.perf_counter(); time.process_time(); time.thread_time(); time.get_clock_info('monotonic')
import zoneinfo, datetime; datetime.datetime.now(zoneinfo.ZoneInfo('UTC'))
import random, secrets, uuid; random.random(); secrets.token_hex(8); uuid.uuid4(); uuid.uuid1()
import gzip, bz2, lzma, zlib; [m.decompress(m.compress(b'x' * 999)) for m in (gzip, bz2, lzma, zlib)]
import hashlib, hmac; hashlib.sha256(b'x').hexdigest(); hashlib.scrypt(b'x', salt=b'y', n=2, r=8, p=1); hmac.digest(b'k', b'm', 'sha256'); hashlib.blake2b(b'x')
import zipfile, tarfile; z = zipfile.ZipFile('z.zip', 'w'); z.writestr('a', 'x'); z.close(); zipfile.ZipFile('z.zip').extractall('out'); t = tarfile.open('t.tar', 'w'); t.add('z.zip'); t.close(); tarfile.open('t.tar').extractall('out')
import shelve, dbm.dumb; s = shelve.Shelf(dbm.dumb.open('shelf')); s['a'] = [1]; s.close()
import logging, logging.handlers; h = logging.handlers.RotatingFileHandler('log', maxBytes=99, backupCount=1); logging.getLogger('x').addHandler(h); [logging.getLogger('x').warning('x' * 50) for _ in range(5)]; h.close()
import fcntl; f = open('k', 'w'); fcntl.flock(f, fcntl.LOCK_EX); fcntl.lockf(f, fcntl.LOCK_UN); fcntl.fcntl(f, fcntl.F_GETFD)
import resource; resource.getrlimit(resource.RLIMIT_AS); resource.getrusage(resource.RUSAGE_SELF); resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
import ctypes; assert ctypes.CDLL(None).abs(-1) == 1; CB = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int); assert CB(lambda x: x + 1)(1) == 2
import platform, locale, getpass, sysconfig; platform.python_version(); locale.setlocale(locale.LC_ALL, ''); platform.machine()
import tracemalloc, faulthandler, gc; tracemalloc.start(); faulthandler.enable(); gc.collect(); tracemalloc.stop()
import multiprocessing, subprocess, socketserver, http.server, urllib.request
import unicodedata, decimal, fractions, statistics; statistics.stdev([1, 2, 4]); unicodedata.name('x')
import xml.etree.ElementTree as E, json, csv, pickle, plistlib; E.fromstring('<a/>'); pickle.loads(pickle.dumps({1: 2})); plistlib.dumps({'a': 1})
import sys; print('x', file=sys.stderr); sys.stdout.flush(); sys.stdin.read()
f = open('/dev/null', 'w'); f.write('x'); f.close(); assert open('/dev/zero', 'rb').read(3) == bytes(3); open('/dev/urandom', 'rb').read(3)
"#;

#[test]
fn the_standard_library_works() {
    let missing_is_fine = ["ssl", "sqlite3", "ctypes", "lzma", "bz2", "dbm.dumb", "pty", "venv", "zoneinfo"];
    assert!(MODULES.split_whitespace().collect::<BTreeSet<_>>().len() >= 150);
    let code = format!(
        "import importlib\nfailed = {{}}\nfor name in '''{MODULES}'''.split():\n  try:\n    importlib.import_module(name)\n  \
         except ModuleNotFoundError as e:\n    failed[name] = 'absent'\n  except BaseException as e:\n    failed[name] = repr(e)\nresult = failed"
    );
    let mut refused = Vec::new();
    for without in ["", "namespaces", "landlock"] {
        let library = open(&[("sandbox.without", without)]);
        let result = run(&library, &code);
        assert_eq!(result.outcome, Outcome::Success, "{without}: {result:?}");
        let failed = skillcache::json::Value::parse(result.value.as_deref().expect("a value")).expect("JSON");
        for (name, why) in failed.as_object().expect("a dict") {
            let is_fine = missing_is_fine.contains(&name.as_str()) && why.as_str() == Some("absent");
            assert!(is_fine, "{name}, without {without:?}: {why:?}");
        }
        for line in USES.trim().lines() {
            // Without a file tree of its own, changes of mode and time are denied: see docs/SECURITY.md.
            let changes_metadata =
                ["chmod", "copy2", "utime", "extractall", "shelve"].iter().any(|call| line.contains(call));
            if without == "namespaces" && changes_metadata {
                continue;
            }
            let result = run(&library, &format!("{line}\nresult = 1"));
            if result.outcome != Outcome::Success {
                refused
                    .push(format!("{line}, without {without:?}: {:?}", result.failure.map(|failure| failure.text())));
            }
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

/// Descriptors, children and the folders below the temporary one.
fn traces() -> (usize, usize, usize) {
    let fds = fs::read_dir("/proc/self/fd").expect("proc").count();
    let children = fs::read_dir("/proc/self/task")
        .expect("proc")
        .flatten()
        .map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default().split_whitespace().count());
    let is_ours = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with("skillcache-");
    let folders = fs::read_dir(std::env::temp_dir()).expect("a folder").flatten().filter(is_ours).count();
    (fds, children.sum(), folders)
}

#[test]
fn runs_leave_nothing_behind() {
    let rounds: usize = std::env::var("SKC_LEAK_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(500);
    // A folder of this test's own: others run beside it.
    let folder = tempfile::tempdir().expect("a folder");
    if std::env::var_os("SKC_LEAK_CHILD").is_none() {
        let status = std::process::Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "runs_leave_nothing_behind", "--nocapture"])
            .env("SKC_LEAK_CHILD", "1")
            .env("TMPDIR", folder.path())
            .status();
        assert!(status.expect("it starts").success());
        assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 0);
        return;
    }
    let library = open(&[("sandbox.max_memory_mb", "128")]);
    let endings = [
        "open('x', 'w').write('x')\nresult = 1",
        "1 / 0",
        "import os\nos.kill(os.getpid(), 9)",
        "import os\nos.close(3)\nos._exit(3)",
        "x = bytearray(1 << 30)",
    ];
    // A skill each: a database in memory keeps every version.
    let name = |round: usize| format!("s{}", round % endings.len());
    let options = RunOptions::parse(r#"{"cache":"no"}"#).expect("options");
    let once = |round: usize| drop(library.run(&name(round), Default::default(), &options).expect("it can be run"));
    for (round, code) in endings.into_iter().enumerate() {
        library.put(&Skill::new(name(round), code)).expect("it is Python");
        once(round);
    }
    run(&open(&[("sandbox.timeout_ms", "300")]), "import time\ntime.sleep(9)");
    let mounts = || fs::read_to_string("/proc/self/mounts").expect("proc").lines().count();
    let (before, mounts_before) = (traces(), mounts());
    let mut resident_before = 0;
    for round in 0..rounds {
        once(round);
        // By then every path was gone through often enough for the allocator to have what it keeps.
        if round == rounds / 5 {
            resident_before = resident();
        }
    }
    assert_eq!((traces(), mounts()), (before, mounts_before));
    let grown = resident().saturating_sub(resident_before);
    assert!(grown < 2 << 20, "the host grew by {grown} bytes in {rounds} runs");
}

/// This process's own memory, in bytes.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

#[test]
fn all_the_threads_that_are_allowed_fit_into_the_memory_that_is() {
    let library = open(&[("sandbox.max_memory_mb", "128")]);
    let code = "import threading\nall_here = threading.Barrier(15)\nseen = []\n\
        def work():\n  all_here.wait(100)\n  seen.append([0] * 99999)\n\
        threads = [threading.Thread(target=work) for _ in range(15)]\n\
        for t in threads: t.start()\nfor t in threads: t.join()\nresult = len(seen)";
    let result = run(&library, code);
    assert_eq!(result.value.as_deref(), Some("15"), "{result:?}");
}

/// Interpreters besides the one in PATH: Debian's and pyenv's, and what `SKC_PYTHONS` names, separated by colons.
fn other_interpreters() -> Vec<String> {
    let named = std::env::var("SKC_PYTHONS").unwrap_or_default();
    let named = named.split(':').filter(|path| !path.is_empty()).map(str::to_owned);
    let root = format!("{}/.pyenv/versions", std::env::var("HOME").unwrap_or_default());
    let versions = fs::read_dir(root).into_iter().flatten().flatten();
    let installed = versions.map(|version| format!("{}/bin/python3", version.path().display()));
    named.chain(installed).chain(["/usr/bin/python3".to_owned()]).filter(|path| fs::metadata(path).is_ok()).collect()
}

#[test]
fn every_interpreter_there_is_can_be_confined() {
    let code = format!(
        "import importlib, threading\nfailed = []\nfor name in '''{MODULES}'''.split():\n  try:\n    importlib.import_module(name)\n  \
         except ImportError: pass\n  except BaseException as e:\n    failed.append(repr(e))\n\
         t = threading.Thread(target=int)\nt.start()\nt.join()\nresult = [failed, inputs]"
    );
    let inputs = r#"{"n":123456789012345678901234567890,"s":"ü"}"#;
    for python in other_interpreters() {
        let library = open(&[("python.executable", &python)]);
        match library.put(&Skill::new("s", &*code)) {
            // Too old, and that is said.
            Err(error) if error.code() == skillcache::Code::Unsupported => continue,
            put => assert_eq!(put.expect("it is Python"), 1),
        }
        let data = skillcache::Data::parse(&format!(r#"{{"inputs":{inputs}}}"#)).expect("data");
        let result = library.run("s", data, &RunOptions::default()).expect("it can be run");
        let expected = format!("[[],{inputs}]");
        assert_eq!((result.value.as_deref(), result.level()), (Some(&*expected), "strict"), "{python}: {result:?}");
    }
}

/// A copy of the interpreter without the parts that are written in C and may be left out of a build.
#[test]
fn an_interpreter_without_ctypes_and_json_in_c_works() {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = "import os, shutil, sys, sysconfig\nto = sys.argv[1]\nversion = 'python%d.%d' % sys.version_info[:2]\n\
        os.makedirs(to + '/bin')\nprogram = shutil.copy2(os.path.realpath(sys.executable), to + '/bin/' + version)\n\
        left_out = ['test', 'tests', 'site-packages', 'dist-packages', 'ensurepip', '__pycache__', '_ctypes*', '_json*', 'config-*']\n\
        shutil.copytree(sysconfig.get_path('stdlib'), to + '/lib/' + version, ignore=shutil.ignore_patterns(*left_out))\nprint(program)";
    let made = std::process::Command::new("python3").args(["-c", copy]).arg(folder.path()).output().expect("python3");
    let python = String::from_utf8(made.stdout).expect("a path").trim().to_owned();
    let has = |module: &str| {
        let asked = std::process::Command::new(&python).args(["-c", &format!("import {module}")]).output();
        asked.expect("the copy starts").status.success()
    };
    assert!(has("decimal"), "the copy is none");
    if has("_ctypes") || has("_json") {
        println!("what is to be left out is built in");
        return;
    }
    let library = open(&[("python.executable", &python)]);
    library.put(&Skill::new("s", "result = [inputs, {'x': (1, 2.5, None)}]")).expect("it is Python");
    let data = skillcache::Data::parse(r#"{"inputs":{"n":12345678901234567890123,"s":["x",true]}}"#).expect("data");
    let result = library.run("s", data, &RunOptions::default()).expect("it can be run");
    let expected = r#"[{"n":12345678901234567890123,"s":["x",true]},{"x":[1,2.5,null]}]"#;
    assert_eq!((result.value.as_deref(), result.level()), (Some(expected), "strict"), "{result:?}");
}

#[test]
fn a_folder_on_the_hosts_disk_outgrows_its_bound_by_little() {
    const MIB: u64 = 1 << 20;
    let library = open(&[("sandbox.without", "namespaces"), ("sandbox.max_file_mb", "8")]);
    // No faster than a disk: between two looks of a host that is not let look in time there is little.
    let code = "import time\nfor i in range(2000):\n  with open(str(i), 'wb') as f: f.write(bytes(1 << 20))\n  time.sleep(0.005)\nresult = 1";
    let result = run(&library, code);
    assert_eq!(result.outcome, Outcome::DiskLimit, "{result:?}");
    // What a disk takes between two looks, and generously more for a host that was not let look in time.
    let held = result.usage.folder_bytes;
    assert!((8 * MIB..1024 * MIB).contains(&held), "{held} bytes");
}

#[test]
fn a_host_short_of_descriptors_is_told_so_and_nothing_hangs() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    const NAME: &str = "a_host_short_of_descriptors_is_told_so_and_nothing_hangs";
    if std::env::var_os("SKC_SHORT_CHILD").is_none() {
        let status = std::process::Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", NAME, "--nocapture"])
            .env("SKC_SHORT_CHILD", "1")
            .status();
        assert!(status.expect("it starts").success());
        return;
    }
    for without in ["", "namespaces"] {
        let library = open(&[("sandbox.without", without)]);
        assert_eq!(run(&library, "result = 1").value.as_deref(), Some("1"));
        let options = RunOptions::parse(r#"{"cache":"no"}"#).expect("options");
        let (mut refused, mut ran) = (0, 0);
        let open_now = traces().0 as u64;
        for room in 0..24 {
            let few = Rlimit { current: Some(open_now + room), maximum: getrlimit(Resource::Nofile).maximum };
            setrlimit(Resource::Nofile, few).expect("it can be lowered");
            match library.run("s", Default::default(), &options) {
                Ok(result) => {
                    ran += 1;
                    assert_eq!(result.value.as_deref(), Some("1"), "{without:?}, room for {room}: {result:?}");
                }
                Err(error) => {
                    refused += 1;
                    assert_eq!(error.code(), skillcache::Code::Busy, "{without:?}, room for {room}: {error}");
                }
            }
        }
        setrlimit(Resource::Nofile, Rlimit { current: Some(1024), maximum: getrlimit(Resource::Nofile).maximum })
            .expect("it can be raised");
        assert!(refused > 3 && ran > 3, "{refused} refused, {ran} ran");
        assert_eq!(run(&library, "result = 1").value.as_deref(), Some("1"));
    }
}

#[test]
fn a_short_time_for_skills_is_none_for_the_library_itself() {
    let library = open(&[("sandbox.timeout_ms", "5"), ("sandbox.max_cpu_s", "1")]);
    library.put(&Skill::new("s", "result = 1")).expect("the check has its own time");
    library.put(&Skill::new("long", "import time\ntime.sleep(60)")).expect("it is Python");
    library.health().expect("so has the report");
    let options = RunOptions::parse(r#"{"timeout_ms":300000,"max_cpu_s":300}"#).expect("options");
    let result = library.run("s", Default::default(), &options).expect("it can be run");
    assert_eq!(result.value.as_deref(), Some("1"), "{result:?}");
    let options = RunOptions::parse(r#"{"cache":"no"}"#).expect("options");
    assert_eq!(library.run("long", Default::default(), &options).expect("a run").outcome, Outcome::Timeout);
}

#[test]
fn packages_are_found_behind_links() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("real")).expect("made");
    fs::write(folder.path().join("real/packaged.py"), "value = 7\n").expect("written");
    std::os::unix::fs::symlink("real", folder.path().join("link")).expect("linked");
    let path = folder.path().join("link");
    for without in ["", "namespaces"] {
        let library = open(&[("sandbox.without", without), ("python.site_packages", path.to_str().expect("UTF-8"))]);
        let result = run(&library, "import packaged\nresult = packaged.value");
        assert_eq!(result.value.as_deref(), Some("7"), "{without:?}: {result:?}");
    }
}

#[test]
fn a_folder_of_no_size_takes_nothing() {
    let library = open(&[("sandbox.max_file_mb", "0")]);
    let code = "import os\nmade = 0\ntry:\n  while made < 1000:\n    os.symlink('x' * 4000, str(made))\n    made += 1\n\
        except OSError: pass\nresult = made";
    let result = run(&library, code);
    let made: Option<u32> = result.value.as_deref().and_then(|text| text.parse().ok());
    assert!(made.is_some_and(|made| made < 4) && result.usage.folder_bytes <= 4096, "{result:?}");
}

/// What the host's own loader was told to load is not the interpreter's, and no run gets to see where it lies.
#[test]
fn the_folders_of_the_hosts_libraries_stay_hidden() {
    const NAME: &str = "the_folders_of_the_hosts_libraries_stay_hidden";
    if let Ok(folder) = std::env::var("SKC_LOADER_CHILD") {
        for without in ["", "namespaces"] {
            let library = open(&[("sandbox.without", without)]);
            let code = format!("try:\n  result = open('{folder}/secret').read()\nexcept OSError:\n  result = None");
            assert_eq!(run(&library, &code).value.as_deref(), Some("null"), "without {without:?}");
        }
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("secret"), "bait").expect("written");
    let maps = fs::read_to_string("/proc/self/maps").expect("proc");
    let library =
        maps.lines().find_map(|line| line.split_whitespace().last().filter(|path| path.contains("/libc.so.6")));
    fs::copy(library.expect("this program has a C library"), folder.path().join("libc.so.6")).expect("copied");
    // The control: an interpreter started with this variable does load its library from there.
    let asked = std::process::Command::new("python3")
        .args(["-c", "print(open('/proc/self/maps').read())"])
        .env("LD_LIBRARY_PATH", folder.path())
        .output()
        .expect("python3");
    assert!(String::from_utf8_lossy(&asked.stdout).contains(&folder.path().display().to_string()));
    let status = std::process::Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", NAME, "--nocapture"])
        .env("SKC_LOADER_CHILD", folder.path())
        .env("LD_LIBRARY_PATH", folder.path())
        .status();
    assert!(status.expect("it starts").success());
}

#[test]
fn a_stopped_supervisor_holds_up_nobody() {
    let unconfined = [("sandbox.mode", "best_effort"), ("sandbox.without", "namespaces, landlock, seccomp")];
    let library = open(&[&unconfined[..], &[("sandbox.timeout_ms", "400")]].concat());
    let code = "import os, signal, time\nos.kill(os.getppid(), signal.SIGSTOP)\ntime.sleep(60)";
    assert_eq!(run(&library, code).outcome, Outcome::Timeout);
}

#[test]
fn a_run_takes_little_of_what_its_user_shares() {
    for without in ["", "landlock"] {
        let library = open(&[("sandbox.without", without)]);
        // Signals that are queued, for itself or for the supervisor, are charged to the host's user.
        let code = "import ctypes, os, signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(34, 65))\n\
            libc = ctypes.CDLL(None, use_errno=True)\nqueued = 0\n\
            for pid in (os.getpid(), 1):\n  for i in range(2000):\n    if libc.sigqueue(pid, 40, ctypes.c_void_p(1)) == 0: queued += 1\n\
            result = [queued, os.uname().nodename]";
        let result = run(&library, code);
        let value = skillcache::json::Value::parse(result.value.as_deref().unwrap_or("null")).expect("JSON");
        let said = value.as_array().unwrap_or_else(|| panic!("{result:?}"));
        assert!(said[0].as_i64().is_some_and(|queued| queued <= 200), "without {without:?}: {result:?}");
        assert_eq!(said[1].as_str(), Some("skillcache"));
        let inotify = "import ctypes\nresult = ctypes.CDLL(None).inotify_init1(0)";
        assert_eq!(run(&library, inotify).value.as_deref(), Some("-1"));
    }
}

#[test]
fn a_full_folder_is_a_disk_limit() {
    let fill = "for i in range(400):\n  with open(str(i), 'wb') as f: f.write(bytes(range(256)) * 400)\nresult = 1";
    for without in ["", "namespaces"] {
        let library = open(&[("sandbox.without", without), ("sandbox.max_file_mb", "1")]);
        let slow = format!("import time\n{fill}\ntime.sleep(0.2)");
        for code in [fill, &slow] {
            let result = run(&library, code);
            assert_eq!(result.outcome, Outcome::DiskLimit, "without {without:?}: {result:?}");
        }
        assert_eq!(run(&library, "import os\nresult = os.listdir('.')").value.as_deref(), Some("[]"));
    }
}
