//! The layers between a run and the machine.
//!
//! [`Layers`] says which are used; [`Confinement`] lays one run's out in the host; [`enter_namespaces`] (in the supervisor) and
//! [`enter`] (in the interpreter's process) go through them, with system calls alone. The order matters: mounts come before
//! Landlock, which forbids them; capabilities are needed for mounts and go before `no_new_privs`; the filter is the last layer (see
//! `filter`), which only the limits follow.
//!
//! With a mount namespace the run gets a file tree of its own: a small tmpfs that holds the interpreter's folders,
//! bound read-only at their own paths, four devices, and one more tmpfs of the allowed size, the private folder (`/private`, and
//! `/tmp`). There is no `/proc`, and the host's tree is not there to be named. Landlock then says the same once more; without a
//! mount namespace it is what keeps files away, and the filter denies what Landlock lets through (changes of mode and owner).
//!
//! A host without privilege needs a user namespace first, and each run builds all of this for itself. A privileged host has
//! the launching thread build the tree once, in namespaces of that thread ([`enter_shared`]); a run then takes a copy of the
//! mount namespace, which is cheap because it holds nothing else, and mounts its private folder. The network, IPC and UTS
//! namespaces, empty all three, are shared by such runs: they have no way to use them as long as the filter is there,
//! and without it each run gets its own. Half a millisecond of a run would otherwise go into making a network.

use std::ffi::{CStr, CString, c_char, c_int};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, Scope,
};
use seccompiler::BpfProgram;

use super::filter::{self, Leave, Secret};
use super::supervise::out_of_the_way;

/// Which layers are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layers {
    /// A user namespace first: the host has no privilege of its own.
    pub user: bool,
    /// Threads are counted: the kernel does so for a user in a namespace, of which this run is the only one there. Elsewhere it
    /// would count all that the host's user has; and it never counts those of the machine's own root.
    pub threads: bool,
    /// Network, IPC, UTS, mount and pid namespaces.
    pub namespaces: bool,
    /// Landlock's ABI; 0: not used.
    pub landlock: u8,
    pub seccomp: bool,
}

/// Landlock keeps signals and abstract sockets inside from this ABI on.
pub(super) const LANDLOCK_SCOPES: u8 = 6;

impl Layers {
    pub const NONE: Layers = Layers { user: false, threads: false, namespaces: false, landlock: 0, seccomp: false };

    pub fn confines_signals(self) -> bool {
        self.namespaces || self.landlock >= LANDLOCK_SCOPES
    }

    /// Whether the launching thread keeps a tree for all runs.
    pub fn shares_tree(self) -> bool {
        self.namespaces && !self.user
    }

    /// Whether a run can have started other processes that its end does not end.
    pub fn may_leave_processes(self) -> bool {
        !self.namespaces && !self.seccomp
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
/// Where the tree is built: it has to be somewhere, and no interpreter lies here.
const BUILDING_SITE: &CStr = c"/proc";
/// Where the private folder is in a tree of its own.
pub(super) const FOLDER: &CStr = c"/private";
const RELATIVE_FOLDER: &CStr = c"private";
/// What skills know as the place for files; it is the same one, unless the interpreter itself lies there.
const USUAL_FOLDER: &str = "/tmp";

/// One step in building the tree, relative to its root.
#[derive(Clone)]
enum Step {
    Folder(CString),
    File(CString),
    Link { says: CString, at: CString },
    Bind { from: CString, at: CString },
}

/// The file tree of runs, the same for all.
#[derive(Clone)]
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
    /// The host's folder, which is the private one where there is no tree of its own.
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
        let rules = (layers.landlock > 0).then(|| ruleset(layers.landlock, visible)).transpose()?;
        let folder_access = rules.as_ref().map_or(0, |(_, access)| *access);
        // Out of the way of the descriptors 0 to 4, which the child puts in their places before Landlock's turn.
        let ruleset = rules.map(|(rules, _)| out_of_the_way(rules)).transpose()?;
        Ok(Confinement {
            layers,
            uid_map: text(format!("{uid} {uid} 1"))?,
            gid_map: text(format!("{gid} {gid} 1"))?,
            tree,
            folder,
            // A tmpfs of size 0 is one without a bound.
            folder_options: text(format!("size={},nr_inodes={MAX_INODES},mode=700", folder_bytes.max(4096)))?,
            ruleset,
            folder_access,
            filter,
            secret,
        })
    }

    /// Further flags of `clone`.
    pub fn clone_flags(&self) -> c_int {
        let Layers { user, namespaces, seccomp, .. } = self.layers;
        let of_each = libc::CLONE_NEWPID | libc::CLONE_NEWNS;
        match (namespaces, user, seccomp) {
            (false, ..) => 0,
            (true, true, _) => of_each | SHARED | libc::CLONE_NEWUSER,
            (true, false, true) => of_each,
            (true, false, false) => of_each | SHARED,
        }
    }
}

/// Namespaces that runs may have in common.
const SHARED: c_int = libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;
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

/// The rules but for the private folder, and what is allowed there.
fn ruleset(number: u8, visible: &Visible) -> std::io::Result<(OwnedFd, u64)> {
    let abi = abi(number);
    let all = AccessFs::from_all(abi);
    let mut ruleset =
        Ruleset::default().set_compatibility(CompatLevel::BestEffort).handle_access(all).map_err(of_system)?;
    if number >= 4 {
        ruleset = ruleset.handle_access(AccessNet::from_all(abi)).map_err(of_system)?;
    }
    if number >= LANDLOCK_SCOPES {
        ruleset = ruleset.scope(Scope::from_all(abi)).map_err(of_system)?;
    }
    let mut created = ruleset.create().map_err(of_system)?;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let rules = visible.paths.iter().map(|path| (path.as_path(), read));
    let programs = visible.programs.iter().map(|path| (path.as_path(), AccessFs::ReadFile | AccessFs::Execute));
    let devices = DEVICES.iter().map(|path| (Path::new(*path), AccessFs::ReadFile | AccessFs::WriteFile));
    for (path, access) in rules.chain(programs).chain(devices) {
        let fd = match PathFd::new(path).map_err(of_system) {
            Ok(fd) => fd,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let access = if path.is_dir() { access } else { access & AccessFs::from_file(abi) };
        created = created.add_rule(PathBeneath::new(fd, access)).map_err(of_system)?;
    }
    let forbidden = AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::Execute;
    // What IoctlDev allows concerns devices, of which the folder has none.
    let folder = (all & !forbidden).bits();
    let fd: Option<OwnedFd> = created.into();
    // The crate can do without Landlock; a layer that is said to be there cannot.
    Ok((fd.ok_or(std::io::ErrorKind::Unsupported)?, folder))
}

/// The system's error behind one of the crate's.
fn of_system(error: impl std::error::Error + Send + Sync + 'static) -> std::io::Error {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(errno) = inner.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error) {
            return std::io::Error::from_raw_os_error(errno);
        }
        source = inner.source();
    }
    std::io::Error::other(error)
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

/// Puts the calling thread into namespaces of its own, and into the tree.
///
/// # Safety
///
/// The thread has nothing else to do with files, the network or the host's name from then on.
pub(super) unsafe fn enter_shared(tree: &Tree) -> Result<(), &'static str> {
    // SAFETY: the caller's promise; the calls change this thread alone, whose folder and root are no longer shared with the
    // process's other threads once it has a mount namespace.
    unsafe {
        tried!(libc::unshare(libc::CLONE_NEWNS | SHARED), "have namespaces");
        build(tree)
    }
}

/// The part that comes before descriptors and limits: identity and file tree. Ends in the private folder, and says its
/// descriptor if it is a file system of its own.
///
/// # Safety
///
/// To be called in the supervisor before its first message, with `of` alive: it makes system calls only, allocates nothing
/// and changes this process alone.
pub(super) unsafe fn enter_namespaces(of: &Confinement) -> Result<RawFd, &'static str> {
    // SAFETY: the caller's promise; every pointer is into `of` or to a local.
    unsafe {
        if !of.layers.namespaces {
            tried!(libc::chdir(of.folder.as_ptr()), "chdir");
            return Ok(-1);
        }
        if of.layers.user {
            tried!(write_file(c"/proc/self/setgroups", c"deny"), "map its group");
            tried!(write_file(c"/proc/self/uid_map", &of.uid_map), "map its user");
            tried!(write_file(c"/proc/self/gid_map", &of.gid_map), "map its group");
            build(of.tree)?;
        }
        let safe = libc::MS_NOSUID | libc::MS_NODEV;
        let options = of.folder_options.as_ptr().cast();
        tried!(
            libc::mount(c"tmpfs".as_ptr(), FOLDER.as_ptr(), c"tmpfs".as_ptr(), safe, options),
            "mount its private folder"
        );
        tried!(libc::chdir(FOLDER.as_ptr()), "chdir");
        let folder = libc::open(c".".as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
        tried!(folder, "open its private folder");
        Ok(folder)
    }
}

/// Names the machine; builds the tree, without a private folder, and makes it the root of this mount namespace.
///
/// # Safety
///
/// To be called in mount and UTS namespaces of the caller's own; otherwise as [`enter_namespaces`].
unsafe fn build(tree: &Tree) -> Result<(), &'static str> {
    // SAFETY: the caller's promise.
    unsafe {
        let none = std::ptr::null::<c_char>();
        tried!(
            libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()),
            "make its mounts private"
        );
        let name = c"skillcache";
        tried!(libc::sethostname(name.as_ptr(), name.count_bytes()), "have a name of its own");
        tried!(libc::setdomainname(c"".as_ptr(), 0), "have a name of its own");
        let safe = libc::MS_NOSUID | libc::MS_NODEV;
        let small = c"size=256k,nr_inodes=512,mode=755".as_ptr().cast();
        tried!(
            libc::mount(c"tmpfs".as_ptr(), BUILDING_SITE.as_ptr(), c"tmpfs".as_ptr(), safe, small),
            "mount a tree of its own"
        );
        tried!(libc::chdir(BUILDING_SITE.as_ptr()), "chdir");
        libc::umask(0o022);
        for step in &tree.0 {
            take(step)?;
        }
        let read_only =
            MountAttr { set: MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, clear: 0, propagation: 0, userns_fd: 0 };
        let size = size_of::<MountAttr>();
        tried!(
            libc::syscall(libc::SYS_mount_setattr, libc::AT_FDCWD, c".".as_ptr(), libc::AT_RECURSIVE, &read_only, size),
            "make its tree read-only"
        );
        tried!(libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()), "change its root");
        tried!(libc::umount2(c".".as_ptr(), libc::MNT_DETACH), "leave the host's tree");
        tried!(libc::chdir(c"/".as_ptr()), "chdir");
        Ok(())
    }
}

/// # Safety
///
/// As [`build`], in the tree's root.
unsafe fn take(step: &Step) -> Result<(), &'static str> {
    // SAFETY: the caller's promise.
    unsafe {
        match step {
            // What is there already will do.
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
                let (flags, none) = (libc::MS_BIND | libc::MS_REC, std::ptr::null::<c_char>());
                tried!(libc::mount(from.as_ptr(), at.as_ptr(), none, flags, none.cast()), "bind the interpreter");
            }
        }
        Ok(())
    }
}

/// The last part: privileges, Landlock, what `close` closes, and the filter.
///
/// # Safety
///
/// As [`enter_namespaces`], in the interpreter's process.
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
            // Fails for who has none to drop, and from the first number on that this kernel does not have.
            if libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) < 0 {
                break;
            }
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
