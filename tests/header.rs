//! The committed header and the generated documents agree with the code, and the library exports exactly the header.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn generated_header() -> String {
    let config = cbindgen::Config::from_file(root().join("cbindgen.toml")).expect("cbindgen.toml can be read");
    let mut header = Vec::new();
    let builder = cbindgen::Builder::new().with_config(config).with_src(root().join("src/capi/mod.rs"));
    builder.generate().expect("the door can be read").write(&mut header);
    String::from_utf8(header).expect("a header is text")
}

/// Holds a committed file against what the code says today; with `SKC_BLESS` set, writes it.
fn agrees(path: &str, today: &str) {
    let path = root().join(path);
    if env::var_os("SKC_BLESS").is_some() {
        fs::write(&path, today).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == today, "{} differs from the code: run `make header`", path.display());
}

#[test]
fn the_header_agrees_with_the_code() {
    agrees("include/skillcache.h", &generated_header());
}

#[test]
fn the_list_of_options_agrees_with_the_table() {
    agrees("docs/CONFIGURATION.md", &skillcache::config::documentation());
}

#[test]
fn the_list_of_rules_agrees_with_the_table() {
    agrees("docs/POLICY.md", &skillcache::python::rules::documentation());
}

/// The functions a header declares: the word before a parenthesis that begins with `skc_`, comments aside.
fn declared(header: &str) -> BTreeSet<String> {
    let mut code = String::new();
    let mut rest = header;
    while let Some((before, comment)) = rest.split_once("/*") {
        code.push_str(before);
        rest = comment.split_once("*/").map_or("", |(_, after)| after);
    }
    code.push_str(rest);
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    code.split('(')
        .map(|before| before.rsplit(|letter| !is_word(letter)).next().unwrap_or_default())
        .filter(|word| word.starts_with("skc_"))
        .map(str::to_owned)
        .collect()
}

/// The shared library that was built together with these tests: both lie in PROFILE/deps.
fn shared_library() -> PathBuf {
    env::current_exe().expect("a test has a path").with_file_name("libskillcache.so")
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("binutils print text")
}

#[test]
fn the_library_exports_exactly_the_header() {
    let symbols = output(Command::new("nm").args(["-D", "--defined-only", "--format=posix"]).arg(shared_library()));
    let exported: BTreeSet<String> =
        symbols.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
    assert_eq!(exported, declared(&generated_header()));
}

#[test]
fn the_soname_carries_the_abi_and_its_link_lies_beside_the_library() {
    let library = shared_library();
    let soname = format!("libskillcache.so.{}", skillcache::capi::SKC_ABI);
    let dynamic = output(Command::new("readelf").arg("-d").arg(&library));
    assert!(dynamic.contains(&format!("Library soname: [{soname}]")), "{dynamic}");
    assert!(dynamic.contains("NODELETE"), "{dynamic}");
    let profile = library.ancestors().nth(2).expect("the library lies in PROFILE/deps");
    assert_eq!(fs::read_link(profile.join(soname)).expect("the link is there"), Path::new("libskillcache.so"));
}
