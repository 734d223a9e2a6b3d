//! The interpreter: found once, asked once.
//!
//! Its answer brings the bootstrap back compiled, so that no run compiles it again (two milliseconds of twelve). That works for
//! this interpreter alone: each run checks that it still is the one that was asked, and a library whose interpreter was
//! replaced under it says so rather than answer from the memory of another one.
//!
//! A `python3` in PATH may be a shell shim that costs 190 ms a start, so it is asked for the real executable, which is
//! what runs start. It is asked with `-I -E` and the host's own environment, because a shim may need that.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Code, Error, Result};
use crate::json::Value;

use super::BOOTSTRAP;
use super::channel::Stop;
use super::confine::{Layers, Visible};
use super::launch::{Exit, Launcher};
use super::run::{Run, cannot_start};

/// The CPython that runs skills.
#[derive(Debug, Clone, PartialEq)]
pub struct Interpreter {
    /// The real executable.
    pub executable: PathBuf,
    /// `3.11`.
    pub version: (u8, u8),
    /// What distinguishes one build from another: the whole version text and the platform.
    pub identity: String,
    /// Which file the executable is.
    pub(super) stamp: Option<Stamp>,
    /// `sys.version`, which every run compares with its own.
    pub(super) version_text: String,
    /// The bootstrap as `marshal` writes it.
    pub(super) bootstrap: Vec<u8>,
    /// What is added to `sys.path`.
    pub site_paths: Vec<String>,
    /// Folders whose names messages do not show, longest first, and what they show instead.
    pub(super) hidden: Vec<(String, &'static str)>,
    /// What runs may read.
    pub(super) visible: Visible,
}

/// What tells one file from another that takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    pub fn of(path: &Path) -> Option<Self> {
        let meta = std::fs::metadata(path).ok()?;
        let changed = (meta.ctime(), meta.ctime_nsec());
        Some(Stamp { device: meta.dev(), inode: meta.ino(), size: meta.size(), changed })
    }
}

/// The oldest Python whose grammar and modules the bootstrap relies on.
const OLDEST: (u8, u8) = (3, 8);
const PATIENCE: Duration = Duration::from_secs(20);

const QUESTION: &str = r#"
import json, marshal, os, sys, sysconfig
bootstrap = marshal.dumps(compile(sys.argv[1], "<skillcache>", "exec", dont_inherit=True)).hex()
for name in "_ssl _sqlite3 _ctypes _lzma _bz2 zlib readline _curses _uuid _gdbm _dbm pyexpat _hashlib _crypt".split():
    try: __import__(name)
    except Exception: pass
mapped = {line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if "/" in line}
mapped = {os.path.realpath(path) for path in mapped if ".so" in path}
paths = [os.path.realpath(p) for p in sys.path if os.path.basename(p) in ("site-packages", "dist-packages")]
library = os.path.dirname(os.__file__)
print(json.dumps({
    "executable": sys.executable, "version": list(sys.version_info[:2]), "implementation": sys.implementation.name,
    "version_text": sys.version, "bootstrap": bootstrap,
    "identity": "%s %s %s" % (sys.implementation.name, sys.version, sys.platform), "site": paths,
    "program": os.path.realpath(sys.executable),
    "loaders": sorted(p for p in mapped if os.path.basename(p).startswith(("ld-", "ld."))),
    "libraries": sorted({os.path.dirname(p) for p in mapped}),
    "modules": sorted({os.path.realpath(sysconfig.get_path(p)) for p in ("stdlib", "platstdlib")}),
    "library": library, "prefixes": sorted({sys.prefix, sys.base_prefix, sys.exec_prefix}),
}))
"#;

impl Interpreter {
    /// Finds and asks the interpreter that `python.executable` and `python.site_packages` name.
    pub fn find(executable: &str, site_packages: &str) -> Result<Self> {
        let shim = locate(executable)?;
        let mut flags = vec!["-I", "-E", "-B"];
        if site_packages != "on" {
            flags.push("-S");
        }
        let answer = ask(&shim, &flags)?;
        let foreign = || unsupported(format!("{} did not answer as a Python interpreter does", shim.display()));
        let text = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned).ok_or_else(foreign);
        let list = |name: &str| -> Vec<String> {
            let items = answer.get(name).and_then(Value::as_array).unwrap_or_default();
            items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
        };
        if text("implementation")? != "cpython" {
            return Err(unsupported(format!("{} is not CPython", shim.display())));
        }
        let numbers = answer.get("version").and_then(Value::as_array).unwrap_or_default();
        let number = |index: usize| numbers.get(index).and_then(Value::as_i64).and_then(|n| u8::try_from(n).ok());
        let version = (number(0).ok_or_else(foreign)?, number(1).ok_or_else(foreign)?);
        if version < OLDEST {
            let (major, minor) = version;
            return Err(unsupported(format!("{} is Python {major}.{minor}; 3.8 or newer is needed", shim.display())));
        }
        let mut hidden = vec![(text("library")?, "<python>")];
        hidden.extend(list("site").into_iter().map(|path| (path, "<site-packages>")));
        hidden.extend(list("prefixes").into_iter().map(|path| (path, "<prefix>")));
        hidden.retain(|(path, _)| path.len() > 1);
        hidden.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        let site_paths = match site_packages {
            "off" => Vec::new(),
            "on" => list("site"),
            path => vec![check_site_path(path)?],
        };
        // The file behind all links, which finds its modules by itself: a virtual environment adds only its packages.
        let executable = PathBuf::from(text("program")?);
        let programs: Vec<PathBuf> =
            [executable.clone()].into_iter().chain(list("loaders").into_iter().map(PathBuf::from)).collect();
        let parts = ["libraries", "modules"].into_iter().flat_map(list).chain(site_paths.iter().cloned());
        // Time zones, the locale that runs have (two spellings), and where the loader finds libraries.
        let shared = ["/usr/share/zoneinfo", "/usr/lib/locale/C.utf8", "/usr/lib/locale/C.UTF-8", "/etc/ld.so.cache"]
            .map(str::to_owned);
        let paths = parts.chain(shared).map(PathBuf::from).chain(programs.iter().cloned());
        let paths = paths.filter_map(|path| path.canonicalize().ok()).collect();
        Ok(Interpreter {
            stamp: Stamp::of(&executable),
            executable,
            version,
            version_text: text("version_text")?,
            bootstrap: unhex(&text("bootstrap")?).ok_or_else(foreign)?,
            identity: format!("{} site-packages={site_packages}", text("identity")?),
            site_paths,
            hidden,
            visible: Visible { paths, programs, links: root_links() },
        })
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks_exact(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

fn unsupported(message: String) -> Error {
    Error::new(Code::Unsupported, message).path("python.executable")
}

/// The links on the way to where programs look for their loader and libraries: where they stand and what they say.
fn root_links() -> Vec<(PathBuf, PathBuf)> {
    /// Links may run in circles.
    const MOST_LINKS: usize = 40;
    let mut found = Vec::new();
    for start in ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1", "/lib", "/lib64", "/bin"] {
        let mut path = PathBuf::from(start);
        for _ in 0..MOST_LINKS {
            let link = path.ancestors().filter(|part| part.is_symlink()).last().map(Path::to_owned);
            let Some((at, says)) = link.and_then(|at| Some((at.clone(), std::fs::read_link(at).ok()?))) else { break };
            let rest = path.strip_prefix(&at).unwrap_or(Path::new("")).to_owned();
            path = at.parent().unwrap_or(Path::new("/")).join(&says);
            if !rest.as_os_str().is_empty() {
                path.push(rest);
            }
            if !found.contains(&(at.clone(), says.clone())) {
                found.push((at, says));
            }
        }
    }
    found
}

fn check_site_path(path: &str) -> Result<String> {
    // The real one: links on the way to it are not part of what a run sees.
    let real = Path::new(path).canonicalize().ok().filter(|real| Path::new(path).is_absolute() && real.is_dir());
    if let Some(real) = real.and_then(|real| real.into_os_string().into_string().ok()) {
        return Ok(real);
    }
    let message =
        format!("python.site_packages takes off, on or the absolute path of a folder; `{path}` is none of them");
    Err(Error::invalid(message).path("python.site_packages"))
}

/// The file that a shell would start.
fn locate(executable: &str) -> Result<PathBuf> {
    let is_program = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if executable.contains('/') {
        let path = std::path::absolute(executable).unwrap_or_else(|_| PathBuf::from(executable));
        return if is_program(&path) {
            Ok(path)
        } else {
            Err(unsupported(format!("python.executable: there is no program {}", path.display())))
        };
    }
    let folders = std::env::var_os("PATH").unwrap_or_else(|| OsStr::new("/usr/bin:/bin").to_owned());
    let found = std::env::split_paths(&folders).map(|folder| folder.join(executable)).find(|path| is_program(path));
    found.ok_or_else(|| {
        unsupported(format!("no `{executable}` in PATH; install Python 3.8 or newer, or set python.executable"))
    })
}

fn ask(shim: &Path, flags: &[&str]) -> Result<Value> {
    let cannot = |why: String| unsupported(format!("{} cannot be asked which Python it is: {why}", shim.display()));
    let c_string = |bytes: Vec<u8>| CString::new(bytes).map_err(|_| cannot("a NUL in its name".to_owned()));
    let mut arguments = vec![c_string(shim.as_os_str().as_bytes().to_vec())?];
    for flag in flags.iter().copied().chain(["-c", QUESTION, BOOTSTRAP]) {
        arguments.push(c_string(flag.as_bytes().to_vec())?);
    }
    // A run's loader gets none of `LD_PRELOAD` and its kin; what they name is the host's, and not the interpreter's to show.
    let environment: Vec<CString> = std::env::vars_os()
        .filter(|(name, _)| !name.as_bytes().starts_with(b"LD_"))
        .filter_map(|(name, value)| CString::new([name.into_vec(), value.into_vec()].join(&b'=')).ok())
        .collect();
    let run = Run {
        executable: &arguments[0],
        arguments: &arguments,
        environment,
        has_packages: false,
        limits: Vec::new(),
        layers: Layers::NONE,
        sights: None,
        folder_bytes: 0,
        job: &[],
        timeout: PATIENCE,
        output_bytes: 1 << 20,
        answer_bytes: 0,
        cancel: None,
    };
    // A launcher of its own: that of runs may be in a tree where nothing but this interpreter is.
    let launcher = Launcher::start(None).map_err(|error| cannot_start(&error))?;
    let report = run.carry_out(&launcher)?;
    const SHOWN: usize = 200;
    let stderr = String::from_utf8_lossy(&report.stderr.bytes);
    let stderr: String = stderr.trim().lines().last().unwrap_or_default().chars().take(SHOWN).collect();
    match (&report.stop, report.exit) {
        (Stop::Ended, Exit::Status(0) | Exit::Unknown) => {}
        (Stop::Deadline, _) => return Err(cannot(format!("no answer within {} s", PATIENCE.as_secs()))),
        (_, Exit::Status(status)) => return Err(cannot(format!("it ended with status {status}: {stderr}"))),
        (_, exit) => return Err(cannot(format!("it ended by {exit:?}: {stderr}"))),
    }
    let text = String::from_utf8_lossy(&report.stdout.bytes).into_owned();
    Value::parse(text.trim()).map_err(|_| cannot(format!("it printed {:?}", text.chars().take(80).collect::<String>())))
}
