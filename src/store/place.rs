//! Where a database file may live.
//!
//! A write-ahead log needs shared memory between all who have the file open, locks that are kept, and a disk that has what it
//! said it has. File systems that several machines or a guest and its host share give some of that and say they give all: the
//! database works, until it is damaged. So they are refused by name before SQLite sees the file, and allowed only by somebody who says
//! so (`store.network_files = allow`).
//!
//! The name comes from two places. `statfs` gives a number for each file system of the kernel. All those that a program serves through
//! FUSE have one number, and virtiofs has it too: there the table of mounts says which one it is. A FUSE file system with an unknown
//! name is allowed: most are local.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxFlags};

use crate::error::{Code, Error, Result};

/// What `statfs` calls all that goes through FUSE.
const FUSE: u64 = 0x6573_5546;

/// By the kernel's number, from `linux/magic.h` and the projects' own headers.
const NUMBERS: [(u64, &str); 21] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x0102_1997, "9P"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
    (0x7375_7245, "Coda"),
    (0x564c, "NCP"),
    (0x1983_0326, "BeeGFS"),
    (0xaad7_aaea, "PanFS"),
    (0xbeef_dead, "StorNext"),
    (0x6163_6673, "ACFS"),
    (0x786f_4256, "a VirtualBox shared folder"),
    (0xbacb_acbc, "a VMware shared folder"),
    (0x7c7c_6673, "a Parallels shared folder"),
];

/// By the name in the table of mounts; of FUSE, what follows `fuse.`.
const NAMES: [(&str, &str); 52] = [
    ("nfs", "NFS"),
    ("nfs4", "NFS"),
    ("smb", "SMB"),
    ("smbfs", "SMB"),
    ("smb2", "SMB2"),
    ("smb3", "SMB"),
    ("cifs", "CIFS"),
    ("9p", "9P"),
    ("virtiofs", "virtiofs"),
    ("afs", "AFS"),
    ("auristorfs", "AFS"),
    ("openafs", "AFS"),
    ("ceph", "Ceph"),
    ("ceph-fuse", "Ceph"),
    ("lustre", "Lustre"),
    ("gpfs", "GPFS"),
    ("gfs2", "GFS2"),
    ("ocfs2", "OCFS2"),
    ("coda", "Coda"),
    ("ncpfs", "NCP"),
    ("beegfs", "BeeGFS"),
    ("panfs", "PanFS"),
    ("pvfs2", "OrangeFS"),
    ("acfs", "ACFS"),
    ("vboxsf", "a VirtualBox shared folder"),
    ("vmhgfs", "a VMware shared folder"),
    ("vmhgfs-fuse", "a VMware shared folder"),
    ("prl_fs", "a Parallels shared folder"),
    ("grpcfuse", "a Docker Desktop shared folder"),
    ("osxfs", "a Docker Desktop shared folder"),
    ("fakeowner", "a Docker Desktop shared folder"),
    ("sshfs", "SSHFS"),
    ("glusterfs", "GlusterFS"),
    ("juicefs", "JuiceFS"),
    ("JuiceFS", "JuiceFS"),
    ("mfs", "MooseFS"),
    ("lizardfs", "LizardFS"),
    ("seaweedfs", "SeaweedFS"),
    ("davfs", "WebDAV"),
    ("davfs2", "WebDAV"),
    ("curlftpfs", "FTP"),
    ("smbnetfs", "SMB"),
    ("gvfsd-fuse", "GVfs"),
    ("s3fs", "S3"),
    ("goofys", "S3"),
    ("geesefs", "S3"),
    ("mountpoint-s3", "S3"),
    ("rclone", "rclone"),
    ("gcsfuse", "Google Cloud Storage"),
    ("blobfuse", "Azure Blob Storage"),
    ("blobfuse2", "Azure Blob Storage"),
    ("onedriver", "OneDrive"),
];

/// Checks where a database is to live, and says where that really is: an absolute path without symbolic links. SQLite is to get
/// this one: a relative path would mean another file once the host changes its folder, and one that begins with `file:` would be a URI.
///
/// Fails with [`Code::Invalid`] for an empty path, [`Code::Database`] if there is no such folder, and with [`Code::Unsupported`] for
/// a network file system that was not allowed: nothing is wrong with the database, and the same call works elsewhere.
pub(super) fn check(file: &Path, allows_network: bool) -> Result<PathBuf> {
    if file.as_os_str().is_empty() {
        return Err(Error::invalid("the database path is empty; `:memory:` opens one in memory").path("path"));
    }
    let refuse = |why: String| {
        let message = format!("the database cannot be opened: {why}");
        Error::new(Code::Database, message).path(file.display().to_string())
    };
    let real = resolve(file).map_err(refuse)?;
    if real.is_dir() {
        return Err(refuse(format!("{} is a folder", file.display())));
    }
    match network_name(&real).filter(|_| !allows_network) {
        Some(name) => Err(refusal(file, &real, name)),
        None => Ok(real),
    }
}

/// Follows links up to the file, which need not be there; its folder must.
fn resolve(file: &Path) -> std::result::Result<PathBuf, String> {
    // As many as the kernel follows.
    const LINKS: usize = 40;
    let mut path = std::path::absolute(file).map_err(|error| format!("{}: {error}", file.display()))?;
    for _ in 0..LINKS {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Ok(path);
        };
        let real = fs::canonicalize(folder).map_err(|_| format!("there is no folder {}", folder.display()))?;
        if !real.is_dir() {
            return Err(format!("there is no folder {}", folder.display()));
        }
        // A link to a file that is not there yet is followed as well: SQLite would create that file.
        match fs::read_link(real.join(name)) {
            Ok(target) => path = real.join(target),
            Err(_) => return Ok(real.join(name)),
        }
    }
    Err(format!("{}: too many symbolic links", file.display()))
}

fn refusal(file: &Path, real: &Path, name: &str) -> Error {
    let shown = if file == real {
        file.display().to_string()
    } else {
        format!("{} (which is {})", file.display(), real.display())
    };
    let message = format!(
        "the database cannot be kept at {shown}: that is on {name}, and a network or shared file system does not give SQLite's \
         write-ahead log the locks and the shared memory that it needs, so the database would be damaged sooner or later. Use a local \
         disk and bring copies there with a backup; if only one machine ever opens this file and you accept the risk, set \
         `store.network_files` to `allow`"
    );
    Error::new(Code::Unsupported, message).path(file.display().to_string()).rule("store.network_files")
}

/// The network file system that has the file or, for `-wal` and `-shm` stand beside it, its folder.
fn network_name(real: &Path) -> Option<&'static str> {
    let mounts =
        fs::read("/proc/thread-self/mountinfo").or_else(|_| fs::read("/proc/self/mountinfo")).unwrap_or_default();
    let folder = real.parent().unwrap_or(real);
    [folder, real].into_iter().find_map(|place| {
        let number = rustix::fs::statfs(place).ok().map(|stat| number_of(stat.f_type))?;
        let id = rustix::fs::statx(CWD, place, AtFlags::empty(), StatxFlags::MNT_ID)
            .ok()
            .filter(|stat| stat.stx_mask & StatxFlags::MNT_ID.bits() != 0)
            .map(|stat| stat.stx_mnt_id);
        let name = mount_of(&mounts, place, id).map(|mount| mount.kind);
        verdict(number, name.as_deref().unwrap_or_default())
    })
}

/// The kernel's number in 32 bits: the type that `statfs` has it in is signed on some machines, and then it is extended.
#[allow(clippy::unnecessary_cast, reason = "the type differs between machines")]
fn number_of(f_type: rustix::fs::FsWord) -> u64 {
    f_type as u64 & u64::from(u32::MAX)
}

/// What a file system is called if it is refused: by its number, and by the name of its type (`ext4`, `fuse.sshfs`).
fn verdict(f_type: u64, fstype_name: &str) -> Option<&'static str> {
    let by_number = NUMBERS.iter().find(|(number, _)| *number == f_type).map(|(_, name)| *name);
    let is_fuse = f_type == FUSE;
    by_number.or_else(|| {
        let bare = fstype_name.strip_prefix("fuse.").filter(|_| is_fuse).unwrap_or(fstype_name);
        NAMES.iter().find(|(name, _)| *name == bare).map(|(_, name)| *name)
    })
}

/// One line of the table of mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    id: u64,
    point: PathBuf,
    /// `ext4`, `fuse.sshfs`.
    kind: String,
}

/// Reads a line: `36 35 98:0 /root /point options [optional fields] - type source super-options`.
fn read_mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let point = PathBuf::from(OsString::from_vec(unescape(fields.nth(3)?)));
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some(Mount { id, point, kind: String::from_utf8_lossy(&unescape(kind)).into_owned() })
}

/// The mount that a path without links lies on: the one with its id if the kernel told it, otherwise the one with the longest mount
/// point, and of several at one point the last, which lies above the others.
fn mount_of(mountinfo: &[u8], path: &Path, id: Option<u64>) -> Option<Mount> {
    let mounts = || mountinfo.split(|byte| *byte == b'\n').filter_map(read_mount);
    mounts().find(|mount| Some(mount.id) == id).or_else(|| {
        let above = mounts().filter(|mount| path.starts_with(&mount.point));
        above.max_by_key(|mount| mount.point.components().count())
    })
}

/// Turns `\040` and the like back into bytes.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let octal = || {
            let digits = after.get(..3)?.iter();
            let value = digits
                .map(|digit| digit.checked_sub(b'0').filter(|digit| *digit < 8))
                .try_fold(0_u32, |value, digit| Some(value * 8 + u32::from(digit?)))?;
            u8::try_from(value).ok()
        };
        match octal().filter(|_| *first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const EXT4: u64 = 0xef53;

    #[test]
    fn network_file_systems_are_known_by_number_and_by_name() {
        for (f_type, name, expected) in [
            (0x6969, "nfs4", Some("NFS")),
            (0x6969, "", Some("NFS")),
            (0xff53_4d42, "cifs", Some("CIFS")),
            (0xfe53_4d42, "cifs", Some("SMB2")),
            (0x0102_1997, "9p", Some("9P")),
            (0x00c3_6400, "ceph", Some("Ceph")),
            (0x0bd0_0bd0, "lustre", Some("Lustre")),
            (0x0116_1970, "gfs2", Some("GFS2")),
            (0x7461_636f, "ocfs2", Some("OCFS2")),
            (0x7375_7245, "coda", Some("Coda")),
            (FUSE, "virtiofs", Some("virtiofs")),
            (FUSE, "fuse.sshfs", Some("SSHFS")),
            (FUSE, "fuse.glusterfs", Some("GlusterFS")),
            (FUSE, "fuse.s3fs", Some("S3")),
            (FUSE, "fuse.rclone", Some("rclone")),
            (FUSE, "fuse", None),
            (FUSE, "fuse.lxcfs", None),
            (FUSE, "fuseblk", None),
            (FUSE, "", None),
            (EXT4, "ext4", None),
            (EXT4, "fuse.sshfs", None),
            (0x0102_1994, "tmpfs", None),
            (0x794c_7630, "overlay", None),
            (0x9123_683e, "btrfs", None),
            (0x1234_5678, "beegfs", Some("BeeGFS")),
        ] {
            assert_eq!(verdict(f_type, name), expected, "{f_type:x} {name}");
        }
    }

    const MOUNTS: &[u8] = b"21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
        30 21 0:40 / /mnt rw - nfs4 server:/x rw,vers=4.2\n\
        31 21 0:41 / /mnt/with\\040space\\134 rw shared:5 master:2 - fuse.sshfs me@there:/ rw\n\
        32 21 0:42 / /mnt rw - tmpfs tmpfs rw\n\
        33 21 0:43 / /data rw - ext4 /dev/sdb rw\n\
        34 33 0:44 / /data rw - 9p share rw\n\
        not a line\n";

    #[test]
    fn the_last_of_the_longest_mounts_has_the_path() {
        let kind = |path: &str, id| mount_of(MOUNTS, Path::new(path), id).map(|mount| mount.kind).unwrap_or_default();
        assert_eq!(kind("/home/skills.db", None), "ext4");
        assert_eq!(kind("/mnt/skills.db", None), "tmpfs", "it lies above the other");
        assert_eq!(kind("/mnt/with space\\/skills.db", None), "fuse.sshfs");
        assert_eq!(kind("/mnt/with space\\else", None), "tmpfs", "names are compared whole");
        assert_eq!(kind("/data/deep/er/skills.db", None), "9p");
        assert_eq!(kind("/data/skills.db", Some(33)), "ext4", "the kernel knows better");
        assert_eq!(kind("/data/skills.db", Some(99)), "9p");
        assert_eq!(mount_of(b"", Path::new("/"), None), None);
    }

    #[test]
    fn escapes_are_octal_and_everything_else_stays() {
        assert_eq!(unescape(b"a\\011b\\012\\040\\134\\0"), b"a\tb\n \\\\0");
        assert_eq!(unescape(b"\\777\\08x\\"), b"\\777\\08x\\");
    }

    #[test]
    fn a_local_folder_passes_and_links_are_followed() {
        let folder = tempfile::tempdir().expect("a folder");
        let real = fs::canonicalize(folder.path()).expect("it is there");
        fs::create_dir(real.join("deep")).expect("a folder");
        symlink("deep", real.join("link")).expect("a link");
        symlink("deep/other.db", real.join("file.db")).expect("a link");
        symlink("round.db", real.join("round.db")).expect("a link");
        let check = |name: &str| check(&real.join(name), false).map_err(|error| error.message().to_owned());
        assert_eq!(check("skills.db"), Ok(real.join("skills.db")));
        assert_eq!(check("link/../link/skills.db"), Ok(real.join("deep/skills.db")));
        assert_eq!(check("file.db"), Ok(real.join("deep/other.db")), "SQLite would create the file that it means");
        assert!(check("round.db").expect_err("a circle").contains("too many"));
        assert!(check("deep").expect_err("a folder").contains("is a folder"));
        assert!(check("none/skills.db").expect_err("no folder").contains("there is no folder"));
    }

    #[test]
    fn a_refusal_says_what_where_and_what_to_do() {
        let error = refusal(Path::new("a.db"), Path::new("/mnt/a.db"), "NFS");
        assert_eq!(error.code(), Code::Unsupported);
        for part in ["a.db", "/mnt/a.db", "NFS", "local disk", "store.network_files"] {
            assert!(error.message().contains(part), "{part}: {error}");
        }
    }
}
