//! The suite once more where the machine gives less: it starts itself as another user, or under a small filter that takes a layer
//! of the kernel away. So what is exercised is the probing, not an option of the library's own.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::time::Duration;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use crate::host::is_root;

/// What the machine lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Situation {
    /// Nothing.
    Plain,
    /// `CLONE_NEWUSER` is refused, as some distributions and most containers do.
    NoUserNamespaces,
    /// A kernel without Landlock.
    NoLandlock,
    /// Landlock is there and cannot be entered.
    LandlockRefused,
    /// Neither user namespaces nor Landlock.
    NothingForFiles,
    /// No filters can be installed.
    NoSeccomp,
}

use Situation::{LandlockRefused, NoLandlock, NoSeccomp, NoUserNamespaces, NothingForFiles, Plain};

const VARIABLE: &str = "SKC_SITUATION";

impl Situation {
    /// What this process was started in.
    pub fn now() -> Self {
        let all = [NoUserNamespaces, NoLandlock, LandlockRefused, NothingForFiles, NoSeccomp];
        let name = std::env::var(VARIABLE).unwrap_or_default();
        all.into_iter().find(|situation| format!("{situation:?}") == name).unwrap_or(Plain)
    }

    /// Whether runs are under the filter of system calls.
    pub fn has_filter(self) -> bool {
        self != NoSeccomp
    }

    /// Whether controls can be made: they need all that the machine has.
    pub fn has_controls(self) -> bool {
        self == Plain
    }

    /// The filters that bring it about.
    fn filters(self) -> Vec<BpfProgram> {
        let always = Vec::new;
        let user = u64::from(libc::CLONE_NEWUSER as u32);
        let new_user = || vec![rule(0, SeccompCmpOp::MaskedEq(user), user)];
        let namespaces = || {
            vec![
                failing(libc::EPERM, [(libc::SYS_clone, new_user()), (libc::SYS_unshare, new_user())]),
                failing(libc::ENOSYS, [(libc::SYS_clone3, always())]),
            ]
        };
        let landlock =
            || [libc::SYS_landlock_create_ruleset, libc::SYS_landlock_add_rule, libc::SYS_landlock_restrict_self];
        let without_landlock = || failing(libc::ENOSYS, landlock().map(|number| (number, always())));
        let set_seccomp = vec![rule(0, SeccompCmpOp::Eq, libc::PR_SET_SECCOMP as u64)];
        match self {
            Plain => Vec::new(),
            NoUserNamespaces => namespaces(),
            NoLandlock => vec![without_landlock()],
            LandlockRefused => vec![failing(libc::EOPNOTSUPP, [(libc::SYS_landlock_restrict_self, always())])],
            NothingForFiles => [namespaces(), vec![without_landlock()]].concat(),
            NoSeccomp => {
                vec![failing(libc::EINVAL, [(libc::SYS_seccomp, always()), (libc::SYS_prctl, set_seccomp)])]
            }
        }
    }
}

fn rule(argument: u8, operation: SeccompCmpOp, value: u64) -> SeccompRule {
    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operation, value).expect("a condition");
    SeccompRule::new(vec![condition]).expect("a rule")
}

/// A filter under which some calls fail; no rules: whatever their arguments.
fn failing<const N: usize>(errno: i32, calls: [(libc::c_long, Vec<SeccompRule>); N]) -> BpfProgram {
    let architecture = TargetArch::try_from(std::env::consts::ARCH).expect("known");
    let denied = SeccompAction::Errno(errno as u32);
    let rules = BTreeMap::from(calls);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, architecture).expect("a filter");
    filter.try_into().expect("a program")
}

/// As whom this program is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    Same,
    /// Whoever this is, without privilege.
    Unprivileged,
}

/// Starts this program again in a situation and as a user, with arguments of the test harness.
pub fn again(situation: Situation, user: User, arguments: &[&str]) -> Output {
    again_with(situation, user, arguments, &[])
}

/// The same, with variables in its environment.
pub fn again_with(situation: Situation, user: User, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("passable");
    let mut program = std::env::current_exe().expect("this test");
    if user == User::Unprivileged && is_root() {
        // Where it is, that user may not come.
        let place = folder.path().join("attacks");
        fs::hard_link(&program, &place).or_else(|_| fs::copy(&program, &place).map(drop)).expect("copied");
        program = place;
    }
    let mut command = Command::new(program);
    command.args(arguments).env(VARIABLE, format!("{situation:?}")).current_dir("/");
    if user == User::Unprivileged && is_root() {
        const NOBODY: u32 = 65534;
        command.env_clear().envs([("PATH", "/usr/bin:/bin"), (VARIABLE, &format!("{situation:?}"))]);
        command.uid(NOBODY).gid(NOBODY);
    }
    command.env("RUST_BACKTRACE", "0").envs(variables.iter().copied());
    // A thread of its own: a filter is the thread's and its children's, and stays.
    let start = move || {
        let filters = if situation == Situation::now() { Vec::new() } else { situation.filters() };
        for filter in filters {
            seccompiler::apply_filter(&filter).expect("a filter can be installed");
        }
        loop {
            match command.output() {
                // A child that another thread was just making has the copy open, which it was made with, until it is its own program.
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                output => return output.expect("it starts"),
            }
        }
    };
    std::thread::spawn(start).join().expect("the thread ends")
}

/// Starts the whole suite again but for what starts it again, and for what leaves layers out by itself.
fn whole_suite(situation: Situation, user: User) {
    // Many of the tests wait for time to pass.
    let mut arguments = vec!["--test-threads", "4", "--skip", "situations::", "--skip", "without_"];
    if !situation.has_controls() {
        arguments.extend(["--skip", "unconfined"]);
    }
    assert_success(&again(situation, user, &arguments));
}

pub fn assert_success(test: &Output) {
    let (stdout, stderr) = (String::from_utf8_lossy(&test.stdout), String::from_utf8_lossy(&test.stderr));
    assert!(test.status.success(), "{stdout}\n{stderr}");
    assert!(!stdout.contains("running 0 tests"), "there is no such test: {stdout}");
}

#[test]
fn all_attempts_as_an_unprivileged_user() {
    if is_root() {
        whole_suite(Plain, User::Unprivileged);
    }
}

#[test]
fn all_attempts_as_an_unprivileged_user_without_user_namespaces() {
    whole_suite(NoUserNamespaces, User::Unprivileged);
}

#[test]
fn all_attempts_without_landlock() {
    whole_suite(NoLandlock, User::Same);
}

#[test]
fn all_attempts_without_seccomp() {
    whole_suite(NoSeccomp, User::Same);
}

/// What a situation leaves: layers that must be there, layers that must not, and what `strict` misses.
struct Leaves {
    present: &'static str,
    absent: &'static str,
    missing: &'static str,
}

const fn leaves(present: &'static str, absent: &'static str, missing: &'static str) -> Leaves {
    Leaves { present, absent, missing }
}

const LEVELS: [(Situation, User, Leaves); 9] = [
    (Plain, User::Same, leaves("mount landlock seccomp", "", "")),
    (Plain, User::Unprivileged, leaves("user mount landlock seccomp", "", "")),
    (NoUserNamespaces, User::Unprivileged, leaves("landlock seccomp", "user mount", "")),
    (NoLandlock, User::Same, leaves("mount pid seccomp", "landlock", "")),
    (NoLandlock, User::Unprivileged, leaves("user mount pid seccomp", "landlock", "")),
    (LandlockRefused, User::Same, leaves("mount pid seccomp", "landlock", "")),
    (NothingForFiles, User::Unprivileged, leaves("seccomp", "user mount landlock", "files")),
    (NoSeccomp, User::Same, leaves("mount pid landlock", "seccomp", "processes")),
    (NoSeccomp, User::Unprivileged, leaves("user mount pid landlock", "seccomp", "processes")),
];

#[test]
fn each_situation_has_the_level_it_leaves() {
    for (situation, user, Leaves { present, absent, missing }) in LEVELS {
        let said = again(situation, user, &["--exact", "the_level_can_be_asked_for", "--nocapture"]);
        assert_success(&said);
        let said = String::from_utf8_lossy(&said.stdout);
        let after = |name: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{said}"));
            line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
        };
        let (layers, lacks) = (after("layers:"), after("missing:"));
        let has = |layer: &str| layers.iter().any(|name| name == layer || name.starts_with(&format!("{layer}-")));
        let is_as_it_leaves = present.split_whitespace().all(has) && !absent.split_whitespace().any(has);
        assert!(is_as_it_leaves, "{situation:?}, {user:?}: {layers:?}");
        assert_eq!(lacks.join(" "), missing, "{situation:?}, {user:?}");
    }
}
