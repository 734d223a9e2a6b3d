//! Names the shared library: its soname carries the ABI number, so that an incompatible later one can be installed
//! beside it, and it stays mapped once loaded, because threads and destructors of it may outlive a `dlclose`.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() {
    println!("cargo::rerun-if-changed=src/capi/mod.rs");
    let soname = format!("libskillcache.so.{}", abi());
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,{soname}");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    println!("cargo::rustc-env=SKC_SONAME={soname}");
    if let Err(error) = link_soname(&soname) {
        println!("cargo::warning=the link {soname} could not be made: {error}");
    }
}

/// The number after `pub const SKC_ABI: u32 =`: the header, the function and the soname share that one line.
fn abi() -> u32 {
    let source = fs::read_to_string("src/capi/mod.rs").expect("src/capi/mod.rs is part of the package");
    let line =
        source.lines().find_map(|line| line.strip_prefix("pub const SKC_ABI: u32 = ")).expect("SKC_ABI is there");
    line.trim_end_matches(';').parse().expect("SKC_ABI is a number")
}

/// Leaves the link beside the library, so that programs linked against it start from the build folder.
fn link_soname(soname: &str) -> io::Result<()> {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // target/PROFILE/build/PACKAGE-HASH/out
    let profile = out.ancestors().nth(3).map(Path::to_path_buf).unwrap_or(out);
    let link = profile.join(soname);
    match fs::remove_file(&link) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    std::os::unix::fs::symlink("libskillcache.so", link)
}
