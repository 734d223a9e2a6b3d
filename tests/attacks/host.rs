//! The host of the attempts: what it has to lose, how it makes an attempt, and what must be as before afterwards.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::{getpid, set_child_subreaper};
use skillcache::json::Value;
use skillcache::{Config, Data, Library, Outcome, RunOptions, RunResult, Skill};

use crate::situations::Situation;

/// Python that sets `result` to whether it got what it wanted.
pub struct Attempt {
    /// Its number in the list of docs/SECURITY.md.
    pub number: u32,
    pub name: &'static str,
    pub code: &'static str,
    pub control: Control,
    /// Whether the filter alone is in its way: without it, it works.
    pub is_filtered: bool,
}

/// Where the attempt is known to be one.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Control {
    /// In a run with no layers.
    Succeeds,
    /// In the bare interpreter, outside the library: it takes a privilege, or something of the host's, that no level leaves a run.
    Bare,
    /// Likewise, if the host is root.
    BareRoot,
    /// Nowhere on this machine, for this reason.
    Never(&'static str),
}

/// An attempt that more than one layer is in the way of.
pub const fn attempt(number: u32, name: &'static str, control: Control, code: &'static str) -> Attempt {
    Attempt { number, name, code, control, is_filtered: false }
}

/// An attempt that nothing but the filter is in the way of.
pub const fn filtered(number: u32, name: &'static str, control: Control, code: &'static str) -> Attempt {
    Attempt { number, name, code, control, is_filtered: true }
}

/// What every attempt begins with. `tried(f)`: what `f` gave, or whether it went through. `raw`: a system call by its number;
/// less than 0 is an error.
const PREAMBLE: &str = r#"
import os, sys
HOST, FOLDER, TOKEN = inputs['file'], inputs['folder'], inputs['token']
PORT, PORT6, DATAGRAMS, PID = inputs['port'], inputs['port6'], inputs['datagrams'], inputs['pid']
GROUP, SESSION = inputs['group'], inputs['session']
def tried(f, *args):
    try:
        value = f(*args)
        return True if value is None else value
    except (OSError, MemoryError, ImportError, ValueError):
        return False
def raw(number, *args):
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    value = libc.syscall(ctypes.c_long(number), *[ctypes.c_void_p(a) if isinstance(a, int) else a for a in args])
    return value if value >= 0 else -ctypes.get_errno()
def call(number, *args):
    return raw(number, *args) >= 0
assert os.listdir('.') == [], 'the run before left something'
"#;

/// One skill that makes any attempt: to put a skill takes a child as well.
const MAKER: &str = "exec(inputs['code'], globals())";

/// The time of a run that is not to run out of it.
const PATIENCE_MS: &str = "120000";
/// The times that a run is given which prints something and then goes on until its time is over. Starting an interpreter counts, so
/// that a busy machine gets more where that was too little.
const TIMES_MS: [&str; 4] = ["400", "2000", "10000", "60000"];

/// What the layers of a library leave out or not, as its options.
pub type Options<'o> = &'o [(&'o str, &'o str)];

/// No layers at all.
const UNCONFINED: Options = &[("sandbox.mode", "best_effort"), ("sandbox.without", "namespaces, landlock, seccomp")];

/// A library as strict as this situation allows.
pub fn confined(options: Options) -> Library {
    let mode = if Situation::now().has_filter() { "strict" } else { "best_effort" };
    open(&[&[("sandbox.mode", mode)], options].concat())
}

/// A library whose runs have limits and nothing else.
pub fn unconfined(options: Options) -> Library {
    open(&[UNCONFINED, options].concat())
}

/// Every library whose runs are to end the same way: confined, and, where controls are due, not.
pub fn with_and_without_layers(options: Options) -> Vec<Library> {
    let mut libraries = vec![confined(options)];
    if Situation::now().has_controls() {
        libraries.push(unconfined(options));
    }
    libraries
}

pub fn open(options: Options) -> Library {
    set_child_subreaper(Some(getpid())).expect("Linux has subreapers");
    let mut config = Config::default();
    // Suites run beside each other: an interpreter may take seconds to start. What is to run out of time says so.
    let own = [
        ("policy.mode", "off"),
        ("sandbox.max_memory_mb", "256"),
        ("sandbox.timeout_ms", PATIENCE_MS),
        ("sandbox.max_cpu_s", "120"),
        ("python.executable", interpreter()),
    ];
    for (name, value) in own.iter().chain(options) {
        config.set(name, value).expect("a known option");
    }
    Library::open(":memory:", &config).expect("a library")
}

/// Runs code as a skill's whole text; nothing of it is kept.
pub fn run(library: &Library, code: &str) -> RunResult {
    put_maker(library);
    let inputs = Value::object([("code", Value::from(code))]);
    run_once_more(library, "maker", Data { inputs: Some(inputs), context: None })
}

/// Runs code that comes to something and then goes on until its time is over; `open` opens a library with the options it is given.
/// Gives the first result in which it had the time to come to that, and its library.
pub fn run_until_its_time_is_over(
    open: impl Fn(Options) -> Library,
    code: &str,
    has_come_to_it: impl Fn(&RunResult) -> bool,
) -> (Library, RunResult) {
    let with_time = |millis: &str| {
        let library = open(&[("sandbox.timeout_ms", millis)]);
        let result = run(&library, code);
        assert_eq!(result.outcome, Outcome::Timeout, "{code}: {result:?}");
        (library, result)
    };
    let mut tried = TIMES_MS.into_iter().map(with_time);
    tried.find(|(_, result)| has_come_to_it(result)).unwrap_or_else(|| panic!("{code} never came to it"))
}

/// Runs the skill that was put last as `attempt`.
pub fn run_again(library: &Library, data: Data) -> RunResult {
    run_once_more(library, "attempt", data)
}

fn run_once_more(library: &Library, skill: &str, data: Data) -> RunResult {
    library.run(skill, data, &RunOptions::parse(r#"{"cache":"no"}"#).expect("options")).expect("it can be run")
}

/// The answer of a run that succeeds.
pub fn answer(library: &Library, code: &str) -> String {
    let result = run(library, code);
    result.value.as_deref().unwrap_or_else(|| panic!("{code}\n{result:?}")).to_owned()
}

/// That a library's next run is as its first, and that nothing of the ones before lives.
pub fn assert_all_is_well(library: &Library, after: &str) {
    assert_eq!(survivors(), Vec::<String>::new(), "after {after}");
    if library.get("fresh", 0).is_err() {
        let look = "import os, sys\nresult = [os.listdir('.'), sorted(n for n in sys.modules['__main__'].__dict__ if n[0] != '_')]";
        library.put(&Skill::new("fresh", look)).expect("it is Python");
    }
    // With a time of its own: that of the library may be one that is to run out.
    let asked = format!(r#"{{"cache":"no","timeout_ms":{PATIENCE_MS},"max_cpu_s":120}}"#);
    let asked = RunOptions::parse(&asked).expect("options");
    let result = library.run("fresh", Data::default(), &asked).expect("it can be run");
    let fresh = r#"[[],["context","inputs","os","parameters","sys"]]"#;
    assert_eq!(result.value.as_deref(), Some(fresh), "after {after}: {result:?}");
}

/// The folder of a run that printed where it was. In a tree of its own it is `/private`, which a host does not have.
pub fn folder_it_named(result: &RunResult) -> PathBuf {
    let path = PathBuf::from(String::from_utf8_lossy(&result.stdout.bytes).trim());
    assert!(path.is_absolute(), "{result:?}");
    path
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The interpreter behind whatever is called `python3`, which may be a script that takes ten times as long to start.
fn interpreter() -> &'static str {
    static EXECUTABLE: OnceLock<String> = OnceLock::new();
    EXECUTABLE.get_or_init(|| {
        let ask = "import os, sys; print(os.path.realpath(sys.executable), end='')";
        let asked = Command::new("python3").args(["-I", "-S", "-c", ask]).output().expect("there is a python3");
        String::from_utf8(asked.stdout).expect("UTF-8")
    })
}

/// The interpreter, outside the library, with all that this process has.
pub fn bare(code: &str) -> Command {
    let mut command = Command::new(interpreter());
    command.args(["-I", "-S", "-c", code]).env(BARE, "1");
    command
}

/// In the environment of what tests start beside the library, which is no business of others that look for survivors.
const BARE: &str = "SKC_BARE";

/// What a host has to lose.
pub struct Host {
    folder: tempfile::TempDir,
    file: PathBuf,
    before: Vec<(PathBuf, String)>,
    /// In the name of everything that an attempt makes outside its folder.
    token: String,
    ports: [u16; 3],
    _listeners: (TcpListener, Option<TcpListener>, UdpSocket, [UnixListener; 2]),
}

/// What folders everybody can write to.
const SHARED: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

/// The process group and the session of this process. Each is 0 where its leader is outside the process namespace, as in
/// a container whose first process leads no session of its own; a wrapper that promises a process number cannot say so.
fn group_and_session() -> (u32, u32) {
    let stat = fs::read_to_string("/proc/self/stat").expect("proc");
    let (_, after_name) = stat.rsplit_once(") ").expect("the name is in parentheses");
    let mut fields = after_name.split(' ').skip(2).map(|field| field.parse().expect("a number"));
    (fields.next().expect("a group"), fields.next().expect("a session"))
}

impl Host {
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("attacked-").tempdir().expect("a folder");
        let token =
            folder.path().file_name().and_then(|name| name.to_str()).expect("UTF-8").replace("attacked-", "skc-");
        let file = folder.path().join("id_ed25519");
        let mut made = fs::OpenOptions::new().create_new(true).write(true).open(&file).expect("a file");
        made.set_permissions(fs::Permissions::from_mode(0o600)).expect("its mode");
        made.write_all(b"bait").expect("written");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let listener6 = TcpListener::bind("[::1]:0").ok();
        let datagrams = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let port = |listener: &TcpListener| listener.local_addr().expect("an address").port();
        let ports =
            [port(&listener), listener6.as_ref().map_or(0, port), datagrams.local_addr().expect("an address").port()];
        let abstract_name = SocketAddr::from_abstract_name(&token).expect("a name");
        let unix = [
            UnixListener::bind(folder.path().join("socket")).expect("a socket"),
            UnixListener::bind_addr(&abstract_name).expect("a socket"),
        ];
        let mut host =
            Host { folder, file, before: Vec::new(), token, ports, _listeners: (listener, listener6, datagrams, unix) };
        host.before = host.look();
        host
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What an attempt is told.
    pub fn inputs(&self, code: &str) -> Value {
        let text = |path: &Path| Value::from(path.to_str().expect("UTF-8"));
        let (group, session) = group_and_session();
        let [port, port6, datagrams] = self.ports;
        Value::object([
            ("code", Value::from(format!("{PREAMBLE}{code}"))),
            ("file", text(&self.file)),
            ("folder", text(self.folder())),
            ("token", Value::from(self.token.as_str())),
            ("port", Value::from(u32::from(port))),
            ("port6", Value::from(u32::from(port6))),
            ("datagrams", Value::from(u32::from(datagrams))),
            ("pid", Value::from(std::process::id())),
            ("group", Value::from(group)),
            ("session", Value::from(session)),
        ])
    }

    /// Whatever an attempt might change, in comparable form.
    fn look(&self) -> Vec<(PathBuf, String)> {
        let mut seen = Vec::new();
        let entries = fs::read_dir(self.folder()).expect("it is there").flatten().map(|entry| entry.path());
        for path in entries.chain([self.folder().to_owned()]) {
            let meta = fs::symlink_metadata(&path).expect("it is there");
            let attributes =
                (meta.nlink(), meta.mode(), meta.uid(), meta.gid(), meta.len(), meta.mtime(), meta.mtime_nsec());
            seen.push((path, format!("{attributes:?}")));
        }
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        seen.push((self.file.clone(), text));
        let named_so = |path: &PathBuf| path.to_string_lossy().contains(&self.token);
        let shared = SHARED.iter().flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
        seen.extend(shared.map(|entry| entry.path()).filter(named_so).map(|path| (path, "made".to_owned())));
        seen.sort();
        seen
    }

    pub fn assert_untouched(&self, by: &str) {
        assert_eq!(self.look(), self.before, "changed by {by}");
    }
}

/// Puts the skill that makes attempts, if it is not there.
fn put_maker(library: &Library) {
    if library.get("maker", 0).is_err() {
        library.put(&Skill::new("maker", MAKER)).expect("it is Python");
    }
}

/// Makes attempts one after the other; each must fail and leave nothing, whatever the situation has besides the filter.
pub fn every_attempt_fails(attempts: &[&Attempt], options: Options) {
    let (library, host) = (confined(options), Host::new());
    put_maker(&library);
    for Attempt { number, name, code, control, is_filtered } in attempts {
        let what = format!("{number}, {name}");
        let result = run_once_more(&library, "maker", Data { inputs: Some(host.inputs(code)), context: None });
        host.assert_untouched(&what);
        assert_eq!(survivors(), Vec::<String>::new(), "{what}");
        let works = *is_filtered && !Situation::now().has_filter() && *control == Control::Succeeds;
        match result.outcome {
            Outcome::Success => assert_eq!(result.value.as_deref(), Some(works.to_string().as_str()), "{what}"),
            Outcome::Denied => assert!(!works, "{what}"),
            // Calls of a foreign architecture are not answered.
            Outcome::Crashed if *number == 38 => {}
            _ => panic!("{what}: {result:?}"),
        }
    }
    assert_all_is_well(&library, "all attempts");
}

/// Makes attempts where nothing is in their way; each must succeed.
pub fn every_attempt_succeeds_unconfined(attempts: &[&Attempt]) {
    let library = unconfined(&[]);
    put_maker(&library);
    for Attempt { number, name, code, control, .. } in attempts {
        // A host of its own: what succeeds may change it.
        let host = Host::new();
        let inputs = host.inputs(code);
        let value = match control {
            Control::Never(_) => continue,
            Control::BareRoot if !is_root() => continue,
            Control::Bare | Control::BareRoot => bare_answer(&inputs),
            Control::Succeeds => {
                let result = run_once_more(&library, "maker", Data { inputs: Some(inputs), context: None });
                assert_eq!(result.level(), "process-only");
                result.value.as_deref().map_or_else(|| format!("{result:?}"), str::to_owned)
            }
        };
        assert_eq!(value, "true", "{number}, {name}");
        assert_eq!(survivors(), Vec::<String>::new(), "{number}, {name}");
        for folder in SHARED {
            let _ = fs::remove_file(Path::new(folder).join(&host.token));
        }
    }
}

/// What the bare interpreter says to an attempt.
fn bare_answer(inputs: &Value) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let code = "import json, sys\ninputs = json.loads(sys.argv[1])\nexec(inputs['code'], globals())\nprint(json.dumps(result), end='')";
    let said = bare(code).arg(inputs.to_text()).current_dir(&folder).output().expect("it starts");
    if said.status.success() {
        String::from_utf8_lossy(&said.stdout).into_owned()
    } else {
        String::from_utf8_lossy(&said.stderr).into_owned()
    }
}

/// Living processes that outlived their run: orphans, which have become this process's own children, and those that carry the
/// mark of a run whose folder is gone.
pub fn survivors() -> Vec<String> {
    let outlived = |(_, mark): &(u32, String)| !std::env::temp_dir().join(mark).exists();
    let look = || -> Vec<u32> {
        let marked = runs_below(std::process::id()).into_iter().filter(outlived).map(|(pid, _)| pid);
        marked.chain(orphans()).filter(|pid| is_alive(*pid)).collect()
    };
    // The kernel takes a moment to end what was killed; and a child that another test has just made is taken for one of these, until
    // it has become the program that it is to be. What does live lives for a minute.
    let (mut found, start) = (look(), Instant::now());
    while !found.is_empty() && start.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(20));
        let now = look();
        found.retain(|pid| now.contains(pid));
    }
    found
        .into_iter()
        .map(|pid| format!("{pid} {}", fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()))
        .collect()
}

/// Children of this process that are neither hosts nor supervisors.
fn orphans() -> impl Iterator<Item = u32> {
    children(std::process::id()).into_iter().filter(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        !name.starts_with("attacks") && !name.starts_with("skillcache") && variable_of(*pid, BARE).is_none()
    })
}

fn children(parent: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let texts = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    texts.flat_map(|pids| pids.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

/// The processes below a host that carry the mark of a run, which only those without layers do, and the mark, which is the
/// name of its folder. What loses its parent becomes a child of its host, which is a subreaper; what is below another host
/// is that one's.
pub fn runs_below(host: u32) -> Vec<(u32, String)> {
    let (mut found, mut parents) = (Vec::new(), vec![host]);
    while let Some(parent) = parents.pop() {
        let children = children(parent);
        parents.extend(children.iter().filter(|pid| !is_host(**pid)));
        found.extend(children.into_iter().filter_map(|pid| Some((pid, mark_of(pid)?))));
    }
    found
}

/// The interpreters below a host: the children of its supervisors.
pub fn interpreters_below(host: u32) -> Vec<u32> {
    children(host).into_iter().flat_map(children).collect()
}

/// Whether a process is this program.
fn is_host(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("attacks"))
}

fn mark_of(pid: u32) -> Option<String> {
    variable_of(pid, "SKILLCACHE_RUN")
}

/// A variable that a process was started with.
fn variable_of(pid: u32, name: &str) -> Option<String> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut entries = environment.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    entries.find_map(|entry| Some(entry.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
}

pub fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}
