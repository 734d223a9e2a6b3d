//! What confinement costs: a cold run under all layers, beside the same without them, the bare interpreter, bubblewrap and
//! the reference's way (a file, a plain interpreter).
//!
//! `cargo bench --bench confinement -- WORD` runs the rows whose name has the word. Without bubblewrap its row is left out.

mod pairing;

use std::hint::black_box;
use std::process::{Command, Stdio};

use pairing::{Row, heading};
use skillcache::{CacheMode, Config, Data, Library, Outcome, RunOptions, Skill};

const CODE: &str = "inputs = {'prices': []}\nresult = sum(inputs['prices']) / len(inputs['prices'])\n";
const ALONE: &str =
    "inputs = {'prices': [100.25, 101.25, 102.25]}\nprint(sum(inputs['prices']) / len(inputs['prices']))\n";

struct Runs {
    library: Library,
    data: Data,
}

impl Runs {
    fn new(options: &[(&str, &str)]) -> Self {
        let mut config = Config::default();
        options.iter().for_each(|(name, value)| config.set(name, value).expect("a known option"));
        let library = Library::open(":memory:", &config).expect("a library opens");
        library.put(&Skill::new("mean", CODE)).expect("the skill is good");
        Runs { library, data: Data::parse(r#"{"inputs": {"prices": [100.25, 101.25, 102.25]}}"#).expect("JSON") }
    }

    fn once(&self) {
        let options = RunOptions { cache: Some(CacheMode::No), ..RunOptions::default() };
        let result = self.library.run("mean", self.data.clone(), &options).expect("a run");
        assert_eq!(result.outcome, Outcome::Success);
    }
}

fn start(command: &mut Command) {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
    assert!(status.expect("it starts").success());
}

/// The executable behind `python3`, so that no peer pays for a shim.
fn interpreter() -> String {
    let answer = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().expect("python3");
    String::from_utf8(answer.stdout).expect("a path").trim().to_owned()
}

fn row(name: &'static str, peer: &'static str) -> Row {
    Row { name, peer, blocks: 20, calls: 5, peer_calls: 5 }
}

fn main() {
    heading();
    let python = interpreter();
    let confined = Runs::new(&[]);
    let bare = Runs::new(&[("sandbox.mode", "best_effort"), ("sandbox.without", "namespaces, landlock, seccomp")]);
    let pass = || start(Command::new(&python).args(["-I", "-S", "-E", "-c", "pass"]));
    row("confined cold run", "the same without layers").run(|| confined.once(), || bare.once());
    row("confined cold run", "python -I -S -E -c pass").run(|| confined.once(), pass);
    if Command::new("bwrap").arg("--version").output().is_ok() {
        let wrapped = ["--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--tmpfs", "/tmp"];
        let inside = [python.as_str(), "-I", "-S", "-E", "-c", ALONE];
        row("confined cold run", "bubblewrap around the same program")
            .run(|| confined.once(), || start(Command::new("bwrap").args(wrapped).args(inside)));
    }
    let file = tempfile::Builder::new().suffix(".py").tempfile().expect("a file");
    std::fs::write(file.path(), ALONE).expect("written");
    row("confined cold run", "the reference's way: `python FILE`")
        .run(|| confined.once(), || start(Command::new(&python).arg(file.path())));
    // The page tables of a large host must not be copied: this ratio should be that of the second row.
    let resident = black_box(vec![1u8; 4 << 30]);
    row("confined cold run, host of 4 GB", "python -I -S -E -c pass").run(|| confined.once(), pass);
    drop(black_box(resident));
}
