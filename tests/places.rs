//! Databases on file systems that are really mounted, in a mount namespace of their own: needs root, and passes without trying
//! where that cannot be had.

use std::path::Path;
use std::process::Command;

use skillcache::{Config, Library};

/// Set for the process that opens a database inside the namespace: this program again, with one test to run.
const PLACE: &str = "SKC_PLACE";
const OPTIONS: &str = "SKC_PLACE_OPTIONS";

/// A FUSE file system with an empty folder and a name of our choice, served while a command runs.
const FUSE: &str = r#"
import ctypes, errno, os, stat, struct, subprocess, sys, threading
name, folder, command = sys.argv[1], sys.argv[2], sys.argv[3:]
fuse = os.open("/dev/fuse", os.O_RDWR)
libc = ctypes.CDLL(None, use_errno=True)
options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0".encode()
if libc.mount(b"nothing", folder.encode(), name.encode(), 0, options) != 0:
    sys.exit(77)
ATTRIBUTES = struct.pack("<QII6Q10I", 60, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, stat.S_IFDIR | 0o755, 2, 0, 0, 0, 4096, 0)
def serve():
    while True:
        request = os.read(fuse, 1 << 20)
        _, operation, unique = struct.unpack_from("<IIQ", request)
        error, body = -errno.ENOSYS, b""
        if operation == 26:
            error, body = 0, struct.pack("<IIIIHHIIHHI28x", 7, 31, 0, 0, 0, 0, 4096, 0, 0, 0, 0)
        elif operation in (3, 17):
            error, body = 0, ATTRIBUTES if operation == 3 else bytes(80)
        elif operation == 1:
            error = -errno.ENOENT
        elif operation == 2:
            continue
        os.write(fuse, struct.pack("<IiQ", 16 + len(body), error, unique) + body)
threading.Thread(target=serve, daemon=True).start()
code = subprocess.run(command).returncode
libc.umount2(folder.encode(), 2)
os._exit(code)
"#;

/// What opening says in a process of its own, started by `around`; nothing if namespaces cannot be had.
fn opening(around: &[&str], file: &Path, options: &str) -> Option<String> {
    let this = std::env::current_exe().expect("it has a path");
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .args(around)
        .arg(this)
        .args(["--exact", "opens_what_it_is_told", "--nocapture"])
        .env(PLACE, file)
        .env(OPTIONS, options)
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = text.lines().find_map(|line| Some(line.split_once("opening: ")?.1.to_owned()));
    if said.is_none() {
        eprintln!("not tried: {}", String::from_utf8_lossy(&output.stderr));
    }
    said
}

/// Opens the database that the environment names, as part of the other tests; by itself it does nothing.
#[test]
fn opens_what_it_is_told() {
    let Ok(file) = std::env::var(PLACE) else { return };
    let mut config = Config::default();
    for option in std::env::var(OPTIONS).unwrap_or_default().split_whitespace() {
        let (name, value) = option.split_once('=').expect("name=value");
        config.set(name, value).expect("an option");
    }
    let said = match Library::open(&file, &config) {
        Ok(library) => match library.list(&skillcache::Filter::default()) {
            Ok(skills) => format!("ok, {} skills", skills.len()),
            Err(error) => error.to_json(),
        },
        Err(error) => error.to_json(),
    };
    println!("opening: {said}");
}

#[test]
fn a_mounted_file_system_with_a_network_name_is_refused_and_others_are_tried() {
    let folder = tempfile::tempdir().expect("a folder");
    let mount = folder.path().to_str().expect("UTF-8");
    let file = folder.path().join("skills.db");
    let fuse = |name: &str, options: &str| opening(&["python3", "-c", FUSE, name, mount], &file, options);
    let Some(said) = fuse("fuse.sshfs", "") else { return };
    assert!(said.contains("E_UNSUPPORTED") && said.contains("SSHFS") && said.contains("store.network_files"), "{said}");
    assert!(!file.exists(), "nothing was created");
    // This one answers nothing but who it is, so SQLite fails; the point is that SQLite is asked.
    for (name, options) in [("fuse.sshfs", "store.network_files=allow"), ("fuse.local", "")] {
        let said = fuse(name, options).expect("it was possible before");
        assert!(said.contains("E_DATABASE"), "{name}: {said}");
    }
}

#[test]
fn a_local_file_system_passes() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("skills.db");
    let mount = format!("mount -t tmpfs none {} && exec \"$@\"", folder.path().display());
    if let Some(said) = opening(&["sh", "-c", &mount, "sh"], &file, "") {
        assert_eq!(said, "ok, 0 skills");
    }
}

#[test]
fn a_library_on_a_read_only_disk_can_be_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("skills.db");
    let Ok(library) = Library::open(file.to_str().expect("UTF-8"), &Config::default()) else { panic!("it opens") };
    library.backup(folder.path().join("copy.db").to_str().expect("UTF-8")).expect("it is written");
    let bound = format!("mount --bind {0} {0} && mount -o remount,ro,bind {0} && exec \"$@\"", folder.path().display());
    let around = ["sh", "-c", &bound, "sh"];
    let read_only = "store.access=read_only";
    // Another process has it open, so that all that SQLite needs is there.
    let Some(said) = opening(&around, &file, read_only) else { return };
    assert_eq!(said, "ok, 0 skills");
    let said = opening(&around, &file, "").expect("it was possible before");
    assert!(said.contains("E_DATABASE") && said.contains("read_only"), "not for writing: {said}");
    library.close();
    drop(library);
    for name in ["skills.db", "copy.db"] {
        let path = folder.path().join(name);
        assert!(!path.with_extension("db-shm").exists());
        assert_eq!(opening(&around, &path, read_only).as_deref(), Some("ok, 0 skills"), "{name}");
    }
    // What was written last is in a log that cannot be read there.
    std::fs::write(file.with_extension("db-wal"), "something").expect("written");
    let said = opening(&around, &file, read_only).expect("it was possible before");
    assert!(said.contains("E_DATABASE") && said.contains("copy it with all files beside it"), "{said}");
}
