//! SQLite's door to the disks: a VFS that hands everything to the one of the system, and asks a disk first for files that are
//! on one. All other files are opened as if it were not there.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem;
use std::path::Path;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::ffi;

use super::disk::{Call, Disk};

/// What SQLite takes for its file. The system's own follows in memory.
#[repr(C)]
struct OurFile {
    base: ffi::sqlite3_file,
    handle: *mut Handle,
}

struct Handle {
    disk: Arc<Disk>,
    number: usize,
    /// The first sync of a new journal is also one of its folder, as in the system's VFS.
    is_new_journal: AtomicBool,
}

const HEAD: usize = size_of::<OurFile>();

/// Version 2: without memory mapping of the database, which would go around the disk.
static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// Makes it the default. To be called before anything is opened.
pub fn install() {
    // SAFETY: NULL asks for the default VFS, which lives as long as the process.
    let system = unsafe { ffi::sqlite3_vfs_find(ptr::null()) };
    assert!(!system.is_null(), "SQLite has a VFS");
    // SAFETY: it is a valid VFS; what its functions need of it is handed on below, the others do not look at it.
    let mut ours = unsafe { *system };
    ours.pNext = ptr::null_mut();
    ours.zName = c"disks".as_ptr();
    ours.pAppData = system.cast();
    ours.szOsFile += HEAD as c_int;
    ours.xOpen = Some(open);
    ours.xDelete = Some(delete);
    // SAFETY: the struct is leaked, so it lives as long as the process, as SQLite asks.
    let status = unsafe { ffi::sqlite3_vfs_register(Box::leak(Box::new(ours)), 1) };
    assert_eq!(status, ffi::SQLITE_OK);
}

/// # Safety
///
/// The VFS is ours.
unsafe fn system<'a>(vfs: *mut ffi::sqlite3_vfs) -> &'a mut ffi::sqlite3_vfs {
    // SAFETY: `install` has put the system's there, which lives as long as the process; SQLite changes a VFS only
    // while it is registered.
    unsafe { &mut *(*vfs).pAppData.cast() }
}

/// # Safety
///
/// The name is NULL or a C string.
unsafe fn disk_of(name: *const c_char) -> Option<(Arc<Disk>, String)> {
    // SAFETY: as above.
    let name = (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) })?;
    Disk::of(Path::new(name.to_str().ok()?))
}

/// The parts of a file: what is known of it, the system's file, and its methods.
///
/// # Safety
///
/// The file was opened by `open` below on a disk, and is not closed.
unsafe fn parts<'a>(file: *mut ffi::sqlite3_file) -> (&'a Handle, *mut ffi::sqlite3_file, &'a ffi::sqlite3_io_methods) {
    // SAFETY: `open` has written an `OurFile` there, whose handle lives until `close`; behind it, in the room that `szOsFile`
    // asks for, lies the system's file, opened, with its table of methods.
    unsafe {
        let real = real_of(file);
        (&*(*file.cast::<OurFile>()).handle, real, &*(*real).pMethods)
    }
}

/// # Safety
///
/// The memory is as long as `szOsFile` says.
unsafe fn real_of(file: *mut ffi::sqlite3_file) -> *mut ffi::sqlite3_file {
    // SAFETY: that is longer than the head, which keeps the alignment of a pointer.
    unsafe { file.cast::<u8>().add(HEAD).cast() }
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    // SAFETY: SQLite passes our VFS and NULL or a C string.
    let (system, disk) = unsafe { (system(vfs), disk_of(name)) };
    let system_open = system.xOpen.expect("every VFS opens");
    let Some((disk, short_name)) = disk else {
        // SAFETY: handed on as it came; there is more room than the system's file needs.
        return unsafe { system_open(system, name, file, flags, out_flags) };
    };
    // SAFETY: SQLite's memory is as long as `szOsFile`; NULL says that there is nothing to close yet.
    let real = unsafe {
        (*file).pMethods = ptr::null();
        real_of(file)
    };
    // SAFETY: handed on as it came, but for the file, which has its room behind ours.
    let opened = disk.open(&short_name, || unsafe { system_open(system, name, real, flags, out_flags) });
    let number = match opened {
        Ok(number) => number,
        Err(code) => return code,
    };
    let journals = ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_SUPER_JOURNAL | ffi::SQLITE_OPEN_WAL;
    let is_new_journal = flags & ffi::SQLITE_OPEN_CREATE != 0 && flags & journals != 0;
    let handle = Box::new(Handle { disk, number, is_new_journal: AtomicBool::new(is_new_journal) });
    // SAFETY: the memory is long and aligned enough for the head; nothing that needs dropping was there.
    unsafe {
        let base = ffi::sqlite3_file { pMethods: &raw const METHODS };
        file.cast::<OurFile>().write(OurFile { base, handle: Box::into_raw(handle) });
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn delete(vfs: *mut ffi::sqlite3_vfs, name: *const c_char, sync_folder: c_int) -> c_int {
    // SAFETY: SQLite passes our VFS and a C string.
    let (system, disk) = unsafe { (system(vfs), disk_of(name)) };
    let system_delete = system.xDelete.expect("every VFS deletes");
    match disk {
        // SAFETY: handed on as it came.
        None => unsafe { system_delete(system, name, sync_folder) },
        // SAFETY: as above; the disk does what is to be synced.
        Some((disk, short)) => disk.delete(&short, sync_folder & 1 != 0, || unsafe { system_delete(system, name, 0) }),
    }
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: SQLite closes a file that is open, once, and nobody uses it any more.
    unsafe {
        let (_, real, methods) = parts(file);
        let code = methods.xClose.expect("a method")(real);
        drop(Box::from_raw(mem::replace(&mut (*file.cast::<OurFile>()).handle, ptr::null_mut())));
        (*file).pMethods = ptr::null();
        code
    }
}

unsafe extern "C" fn read(file: *mut ffi::sqlite3_file, data: *mut c_void, amount: c_int, at: i64) -> c_int {
    // SAFETY: SQLite passes an open file, and room for so many bytes.
    unsafe {
        let (handle, real, methods) = parts(file);
        handle.refusal_or(Call::Read, || methods.xRead.expect("a method")(real, data, amount, at))
    }
}

unsafe extern "C" fn write(file: *mut ffi::sqlite3_file, data: *const c_void, amount: c_int, at: i64) -> c_int {
    // SAFETY: SQLite passes an open file, and so many bytes.
    unsafe {
        let (handle, real, methods) = parts(file);
        let bytes = std::slice::from_raw_parts(data.cast::<u8>(), usize::try_from(amount).expect("a length"));
        handle.disk.write(handle.number, usize::try_from(at).expect("a place"), bytes, |bytes| {
            methods.xWrite.expect("a method")(real, bytes.as_ptr().cast(), bytes.len() as c_int, at)
        })
    }
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, length: i64) -> c_int {
    // SAFETY: SQLite passes an open file.
    unsafe {
        let (handle, real, methods) = parts(file);
        let real_truncate = || methods.xTruncate.expect("a method")(real, length);
        handle.disk.truncate(handle.number, usize::try_from(length).expect("a length"), real_truncate)
    }
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    // SAFETY: SQLite passes an open file.
    let (handle, ..) = unsafe { parts(file) };
    let code = handle.disk.sync(handle.number, handle.is_new_journal.load(Ordering::Relaxed));
    if code == ffi::SQLITE_OK {
        handle.is_new_journal.store(false, Ordering::Relaxed);
    }
    code
}

unsafe extern "C" fn file_size(file: *mut ffi::sqlite3_file, size: *mut i64) -> c_int {
    // SAFETY: SQLite passes an open file, and a place for the answer.
    unsafe {
        let (handle, real, methods) = parts(file);
        handle.refusal_or(Call::Size, || methods.xFileSize.expect("a method")(real, size))
    }
}

unsafe extern "C" fn lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: SQLite passes an open file.
    unsafe {
        let (handle, real, methods) = parts(file);
        handle.refusal_or(Call::Lock, || methods.xLock.expect("a method")(real, level))
    }
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    // SAFETY: SQLite passes an open file.
    unsafe {
        let (_, real, methods) = parts(file);
        methods.xUnlock.expect("a method")(real, level)
    }
}

unsafe extern "C" fn check_reserved_lock(file: *mut ffi::sqlite3_file, is_held: *mut c_int) -> c_int {
    // SAFETY: SQLite passes an open file, and a place for the answer.
    unsafe {
        let (_, real, methods) = parts(file);
        methods.xCheckReservedLock.expect("a method")(real, is_held)
    }
}

unsafe extern "C" fn file_control(file: *mut ffi::sqlite3_file, operation: c_int, argument: *mut c_void) -> c_int {
    // SAFETY: SQLite passes an open file, and what the operation needs.
    unsafe {
        let (_, real, methods) = parts(file);
        methods.xFileControl.expect("a method")(real, operation, argument)
    }
}

unsafe extern "C" fn sector_size(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: SQLite passes an open file.
    unsafe {
        let (_, real, methods) = parts(file);
        methods.xSectorSize.expect("a method")(real)
    }
}

unsafe extern "C" fn device_characteristics(file: *mut ffi::sqlite3_file) -> c_int {
    // SAFETY: SQLite passes an open file.
    unsafe {
        let (_, real, methods) = parts(file);
        methods.xDeviceCharacteristics.expect("a method")(real)
    }
}

unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    region: c_int,
    size: c_int,
    extend: c_int,
    place: *mut *mut c_void,
) -> c_int {
    // SAFETY: SQLite passes an open file and a place for the answer.
    unsafe {
        let (handle, real, methods) = parts(file);
        let real_map = || methods.xShmMap.expect("a method")(real, region, size, extend, place);
        handle.refusal_or(Call::MapShared, real_map)
    }
}

unsafe extern "C" fn shm_lock(file: *mut ffi::sqlite3_file, first: c_int, count: c_int, flags: c_int) -> c_int {
    // SAFETY: SQLite passes an open file.
    unsafe {
        let (handle, real, methods) = parts(file);
        let real_lock = || methods.xShmLock.expect("a method")(real, first, count, flags);
        // To let go of a lock never fails.
        if flags & ffi::SQLITE_SHM_UNLOCK != 0 { real_lock() } else { handle.refusal_or(Call::LockShared, real_lock) }
    }
}

unsafe extern "C" fn shm_barrier(file: *mut ffi::sqlite3_file) {
    // SAFETY: SQLite passes an open file.
    unsafe {
        let (_, real, methods) = parts(file);
        methods.xShmBarrier.expect("a method")(real);
    }
}

unsafe extern "C" fn shm_unmap(file: *mut ffi::sqlite3_file, is_deleted: c_int) -> c_int {
    // SAFETY: SQLite passes an open file.
    unsafe {
        let (_, real, methods) = parts(file);
        methods.xShmUnmap.expect("a method")(real, is_deleted)
    }
}

impl Handle {
    fn refusal_or(&self, call: Call, real: impl FnOnce() -> c_int) -> c_int {
        self.disk.refusal(call).unwrap_or_else(real)
    }
}
