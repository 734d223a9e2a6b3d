//! The layers between a run and the machine.
//!
//! [`Layers`] says which are used; [`Confinement`] lays one run's out in the host; [`enter`] goes through them in the
//! child, between `clone` and `execve`, with system calls alone. The order matters: mounts come before Landlock, which
//! forbids them; capabilities are needed for mounts and go before `no_new_privs`; the filter is last (see `filter`).
//!
//! With a mount namespace the run gets a file tree of its own: a small tmpfs that holds the interpreter's folders,
//! bound read-only at their own paths, four devices, and one more tmpfs of the allowed size, the private folder (`/private`, and
//! `/tmp`). There is no `/proc`, and the host's tree is not there to be named. Landlock then says the same once more; without a
//! mount namespace it is what keeps files away, and the filter denies what Landlock lets through (changes of mode and owner).
//!
//! A pid namespace is used only where the filter or Landlock's scopes are missing. In one the run is process 1, for which
//! the kernel drops every signal it does not handle: a skill that aborts would go on, and the signal that ended it could not
//! be named. The filter denies new processes and Landlock's scopes keep signals inside, which is all that it would give.

use std::ffi::{CStr, CString, c_char, c_int};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, Scope,
};
use rustix::io::fcntl_dupfd_cloexec;
use seccompiler::BpfProgram;

use super::filter::{self, Leave, Secret};
use super::launch::FIRST_SOURCE;

/// Which layers are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layers {
    /// A user namespace first: the host has no privilege of its own.
    pub user: bool,
    /// Network, IPC, UTS and mount namespaces.
    pub namespaces: bool,
    /// A pid namespace as well.
    pub pid: bool,
    /// Landlock's ABI; 0: not used.
    pub landlock: u8,
    pub seccomp: bool,
}

/// Landlock keeps signals and abstract sockets inside from this ABI on.
pub(super) const LANDLOCK_SCOPES: u8 = 6;

impl Layers {
    pub const NONE: Layers = Layers { user: false, namespaces: false, pid: false, landlock: 0, seccomp: false };

    pub fn confines_signals(self) -> bool {
        self.pid || self.landlock >= LANDLOCK_SCOPES
    }
}

/// What of the machine a run may read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Visible {
    /// Folders and files, by their real paths.
    pub paths: Vec<PathBuf>,
    /// Of these, what may be executed: the interpreter and its loader.
    pub programs: Vec<PathBuf>,
    /// Links such as `/lib64`: where they stand and what they say.
    pub links: Vec<(PathBuf, PathBuf)>,
}

const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"];
/// Where the private folder is in a tree of its own.
pub(super) const FOLDER: &CStr = c"/private";
const RELATIVE_FOLDER: &CStr = c"private";
/// What skills know as the place for files; it is the same one, unless the interpreter itself lies there.
const USUAL_FOLDER: &str = "/tmp";

/// One step in building the tree, relative to its root.
enum Step {
    Folder(CString),
    File(CString),
    Link { says: CString, at: CString },
    Bind { from: CString, at: CString },
}

/// The file tree of runs, the same for all.
pub(super) struct Tree(Vec<Step>);

impl std::fmt::Debug for Tree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tree of {} steps", self.0.len())
    }
}

impl Tree {
    pub fn of(visible: &Visible) -> Self {
        let mut tree = Tree(Vec::new());
        let mut made = std::collections::HashSet::new();
        for (at, says) in &visible.links {
            tree.parents(at, &mut made);
            tree.0.push(Step::Link { says: c_path(says), at: relative(at) });
        }
        let devices = DEVICES.iter().map(PathBuf::from).filter(|path| path.exists());
        let paths: Vec<PathBuf> = visible.paths.iter().cloned().chain(devices).collect();
        for path in &paths {
            // What lies in a folder that is bound already is there.
            if paths.iter().any(|other| other != path && path.starts_with(other)) {
                continue;
            }
            tree.parents(path, &mut made);
            tree.0.push(if path.is_dir() { Step::Folder(relative(path)) } else { Step::File(relative(path)) });
            tree.0.push(Step::Bind { from: c_path(path), at: relative(path) });
        }
        tree.0.push(Step::Folder(RELATIVE_FOLDER.to_owned()));
        if made.insert(PathBuf::from(USUAL_FOLDER)) {
            tree.0.push(Step::Link { says: FOLDER.to_owned(), at: relative(Path::new(USUAL_FOLDER)) });
        }
        tree
    }

    fn parents(&mut self, path: &Path, made: &mut std::collections::HashSet<PathBuf>) {
        let parents: Vec<&Path> = path.ancestors().skip(1).filter(|parent| parent.parent().is_some()).collect();
        for parent in parents.into_iter().rev() {
            if made.insert(parent.to_owned()) {
                self.0.push(Step::Folder(relative(parent)));
            }
        }
    }
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap_or_default()
}

fn relative(path: &Path) -> CString {
    c_path(path.strip_prefix("/").unwrap_or(path))
}

/// One run's layers, laid out.
pub(super) struct Confinement<'c> {
    layers: Layers,
    uid_map: CString,
    gid_map: CString,
    tree: &'c Tree,
    /// The host's folder, which the tree is mounted on.
    folder: &'c CStr,
    folder_options: CString,
    ruleset: Option<OwnedFd>,
    /// What Landlock allows in the private folder.
    folder_access: u64,
    filter: BpfProgram,
    pub secret: Secret,
}

impl<'c> Confinement<'c> {
    pub fn new(
        layers: Layers,
        visible: &Visible,
        tree: &'c Tree,
        folder: &'c CStr,
        folder_bytes: u64,
    ) -> std::io::Result<Self> {
        // SAFETY: these calls have no preconditions.
        let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
        let text = |text: String| CString::new(text).map_err(std::io::Error::other);
        let secret = Secret::draw()?;
        let leave = Leave { signals: layers.confines_signals(), metadata: layers.namespaces };
        let filter = if layers.seccomp {
            filter::program(secret, leave).map_err(std::io::Error::other)?
        } else {
            BpfProgram::new()
        };
        let (ruleset, folder_access) = if layers.landlock > 0 {
            ruleset(layers.landlock, visible).map_err(std::io::Error::other)?
        } else {
            (None, 0)
        };
        // Out of the way of the descriptors 0 to 3, which the child puts in their places before Landlock's turn.
        let ruleset = ruleset.map(|fd| fcntl_dupfd_cloexec(fd, FIRST_SOURCE)).transpose()?;
        Ok(Confinement {
            layers,
            uid_map: text(format!("{uid} {uid} 1"))?,
            gid_map: text(format!("{gid} {gid} 1"))?,
            tree,
            folder,
            folder_options: text(format!("size={folder_bytes},nr_inodes={MAX_INODES},mode=700"))?,
            ruleset,
            folder_access,
            filter,
            secret,
        })
    }

    /// Further flags of `clone`.
    pub fn clone_flags(&self) -> c_int {
        let user = if self.layers.user { libc::CLONE_NEWUSER } else { 0 };
        let pid = if self.layers.pid { libc::CLONE_NEWPID } else { 0 };
        let others = libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS | libc::CLONE_NEWNS;
        if self.layers.namespaces { user | pid | others } else { 0 }
    }

    pub fn is_process_one(&self) -> bool {
        self.layers.pid
    }
}

/// Files, folders and links in the private folder, all together.
const MAX_INODES: u64 = 4096;

fn abi(number: u8) -> ABI {
    match number {
        0 => ABI::Unsupported,
        1 => ABI::V1,
        2 => ABI::V2,
        3 => ABI::V3,
        4 => ABI::V4,
        5 => ABI::V5,
        _ => ABI::V6,
    }
}

/// Landlock's ABI on this kernel; 0 if there is none.
pub(super) fn landlock_abi() -> u8 {
    const VERSION: u32 = 1;
    // SAFETY: with this flag the call only answers a number.
    let abi = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0usize, VERSION) };
    u8::try_from(abi).unwrap_or(0)
}

fn ruleset(number: u8, visible: &Visible) -> Result<(Option<OwnedFd>, u64), landlock::RulesetError> {
    let abi = abi(number);
    let all = AccessFs::from_all(abi);
    let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(all)?;
    if number >= 4 {
        ruleset = ruleset.handle_access(AccessNet::from_all(abi))?;
    }
    if number >= LANDLOCK_SCOPES {
        ruleset = ruleset.scope(Scope::from_all(abi))?;
    }
    let mut created = ruleset.create()?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let rules = visible.paths.iter().map(|path| (path.as_path(), read));
    let programs = visible.programs.iter().map(|path| (path.as_path(), AccessFs::ReadFile | AccessFs::Execute));
    let devices = DEVICES.iter().map(|path| (Path::new(*path), AccessFs::ReadFile | AccessFs::WriteFile));
    for (path, access) in rules.chain(programs).chain(devices) {
        if let Ok(fd) = PathFd::new(path) {
            let access = if path.is_dir() { access } else { access & AccessFs::from_file(abi) };
            created = created.add_rule(PathBeneath::new(fd, access))?;
        }
    }
    let forbidden = AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::Execute;
    // What IoctlDev allows concerns devices, of which the folder has none.
    let folder = (all & !forbidden).bits();
    let fd: Option<OwnedFd> = created.into();
    Ok((fd, folder))
}

/// `struct landlock_path_beneath_attr`.
#[repr(C, packed)]
struct PathBeneathAttr {
    allowed_access: u64,
    parent_fd: i32,
}

/// `struct mount_attr`.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

const NO_FLAGS: libc::c_ulong = 0;
const MOUNT_ATTR_RDONLY: u64 = 1;
const MOUNT_ATTR_NOSUID: u64 = 2;
const LAST_CAPABILITY: c_int = 63;

macro_rules! tried {
    ($call:expr, $stage:literal) => {
        if $call < 0 {
            return Err($stage);
        }
    };
}

/// The part that comes before descriptors and limits: identity and file tree. Ends in the private folder.
///
/// # Safety
///
/// To be called in the child between `clone` and `execve`, with `of` alive: it makes system calls only, allocates nothing
/// and changes this process alone.
pub(super) unsafe fn enter_namespaces(of: &Confinement) -> Result<(), &'static str> {
    // SAFETY: the caller's promise; every pointer is into `of` or to a local.
    unsafe {
        if !of.layers.namespaces {
            tried!(libc::chdir(of.folder.as_ptr()), "chdir");
            return Ok(());
        }
        if of.layers.user {
            tried!(write_file(c"/proc/self/setgroups", c"deny"), "map its group");
            tried!(write_file(c"/proc/self/uid_map", &of.uid_map), "map its user");
            tried!(write_file(c"/proc/self/gid_map", &of.gid_map), "map its group");
        }
        let none = std::ptr::null::<c_char>();
        tried!(
            libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()),
            "make its mounts private"
        );
        let safe = libc::MS_NOSUID | libc::MS_NODEV;
        let small = c"size=256k,nr_inodes=512,mode=755".as_ptr().cast();
        tried!(
            libc::mount(c"tmpfs".as_ptr(), of.folder.as_ptr(), c"tmpfs".as_ptr(), safe, small),
            "mount a tree of its own"
        );
        tried!(libc::chdir(of.folder.as_ptr()), "chdir");
        libc::umask(0o022);
        for step in &of.tree.0 {
            match step {
                Step::Folder(at) => {
                    libc::mkdir(at.as_ptr(), 0o755);
                }
                Step::File(at) => {
                    let fd = libc::open(at.as_ptr(), libc::O_CREAT | libc::O_WRONLY | libc::O_CLOEXEC, 0o644);
                    tried!(fd, "build its tree");
                    libc::close(fd);
                }
                Step::Link { says, at } => {
                    libc::symlink(says.as_ptr(), at.as_ptr());
                }
                Step::Bind { from, at } => {
                    let flags = libc::MS_BIND | libc::MS_REC;
                    tried!(libc::mount(from.as_ptr(), at.as_ptr(), none, flags, none.cast()), "bind the interpreter");
                }
            }
        }
        let read_only =
            MountAttr { set: MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, clear: 0, propagation: 0, userns_fd: 0 };
        let size = size_of::<MountAttr>();
        tried!(
            libc::syscall(libc::SYS_mount_setattr, libc::AT_FDCWD, c".".as_ptr(), libc::AT_RECURSIVE, &read_only, size),
            "make its tree read-only"
        );
        let options = of.folder_options.as_ptr().cast();
        tried!(
            libc::mount(c"tmpfs".as_ptr(), RELATIVE_FOLDER.as_ptr(), c"tmpfs".as_ptr(), safe, options),
            "mount its private folder"
        );
        tried!(libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()), "change its root");
        tried!(libc::umount2(c".".as_ptr(), libc::MNT_DETACH), "leave the host's tree");
        tried!(libc::chdir(FOLDER.as_ptr()), "chdir");
        Ok(())
    }
}

/// The last part: privileges, Landlock, and everything but the descriptors 0 to 3 closed by `close`; then the filter.
///
/// # Safety
///
/// As [`enter_namespaces`].
pub(super) unsafe fn enter(of: &Confinement, close: impl FnOnce()) -> Result<(), &'static str> {
    // SAFETY: the caller's promise.
    unsafe {
        drop_privileges()?;
        if let Some(ruleset) = &of.ruleset {
            restrict(ruleset.as_raw_fd(), of.folder_access)?;
        }
        close();
        if !of.filter.is_empty() {
            let program = libc::sock_fprog {
                len: of.filter.len() as u16,
                filter: of.filter.as_ptr().cast_mut().cast::<libc::sock_filter>(),
            };
            let install = libc::SECCOMP_SET_MODE_FILTER;
            tried!(libc::syscall(libc::SYS_seccomp, install, NO_FLAGS, &program), "install its filter");
        }
        Ok(())
    }
}

/// # Safety
///
/// As [`enter_namespaces`].
unsafe fn drop_privileges() -> Result<(), &'static str> {
    // SAFETY: the caller's promise; the capability structures are the kernel's version 3, two words each.
    unsafe {
        for capability in 0..=LAST_CAPABILITY {
            // Fails for numbers this kernel does not have and for who has none to drop.
            libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0);
        }
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        let header: [u32; 2] = [0x2008_0522, 0];
        let nothing = [0u32; 6];
        tried!(libc::syscall(libc::SYS_capset, &header, &nothing), "drop its capabilities");
        tried!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "renounce privileges");
        Ok(())
    }
}

/// # Safety
///
/// As [`enter_namespaces`].
unsafe fn restrict(ruleset: RawFd, folder_access: u64) -> Result<(), &'static str> {
    const PATH_BENEATH: c_int = 1;
    // SAFETY: the caller's promise; the attribute is laid out as the kernel's.
    unsafe {
        let folder = libc::open(c".".as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
        tried!(folder, "open its folder");
        let rule = PathBeneathAttr { allowed_access: folder_access, parent_fd: folder };
        let add = libc::SYS_landlock_add_rule;
        tried!(libc::syscall(add, ruleset, PATH_BENEATH, &rule, NO_FLAGS), "allow its folder");
        tried!(libc::syscall(libc::SYS_landlock_restrict_self, ruleset, NO_FLAGS), "restrict itself");
        Ok(())
    }
}

/// # Safety
///
/// As [`enter_namespaces`].
unsafe fn write_file(path: &CStr, text: &CStr) -> c_int {
    // SAFETY: both are NUL-terminated.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if fd < 0 {
            return -1;
        }
        let written = libc::write(fd, text.as_ptr().cast(), text.count_bytes());
        libc::close(fd);
        if written < 0 { -1 } else { 0 }
    }
}
