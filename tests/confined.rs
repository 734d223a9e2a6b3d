//! What confinement must not take away, and what it must not leave behind.

use std::collections::BTreeSet;
use std::fs;

use skillcache::{Config, Library, Outcome, RunOptions, RunResult, Skill};

fn open(options: &[(&str, &str)]) -> Library {
    let mut config = Config::default();
    for (name, value) in [("policy.mode", "off"), ("sandbox.max_memory_mb", "512")].iter().chain(options) {
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
import queue, threading; q = queue.Queue(); threading.Timer(0.001, q.put, [1]).start(); assert q.get(timeout=5) == 1
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
    let rounds: usize = std::env::var("SKC_LEAK_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(100);
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
    let library = open(&[("sandbox.timeout_ms", "300"), ("sandbox.max_memory_mb", "128")]);
    let endings = [
        "open('x', 'w').write('x')\nresult = 1",
        "1 / 0",
        "import os\nos.kill(os.getpid(), 9)",
        "import os\nos.close(3)\nos._exit(3)",
        "x = bytearray(1 << 30)",
    ];
    endings.iter().for_each(|code| drop(run(&library, code)));
    run(&library, "import time\ntime.sleep(9)");
    let mounts = || fs::read_to_string("/proc/self/mounts").expect("proc").lines().count();
    let (before, mounts_before) = (traces(), mounts());
    for round in 0..rounds {
        run(&library, endings[round % endings.len()]);
    }
    assert_eq!((traces(), mounts()), (before, mounts_before));
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
