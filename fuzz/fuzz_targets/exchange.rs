//! Any bytes as a bundle, as a `SKILL.md` and as a file of the reference system's: they are read or refused with a reason, and
//! what says of itself that it is a bundle is looked at line by line.

#![no_main]

use libfuzzer_sys::fuzz_target;
use skillcache::exchange::{Document, parse_reference, scan_bundle};

const HEAD: &[u8] = b"{\"format\":\"skillcache-bundle\",\"version\":1}\n";

fuzz_target!(|bytes: &[u8]| {
    let _ = scan_bundle(bytes);
    let scan = scan_bundle([HEAD, bytes].concat().as_slice());
    assert!(scan.is_ok(), "the head is right");
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = Document::parse(text);
    // A front matter of its own, so that YAML need not be found first.
    let _ = Document::parse(&format!("---\n{text}\n---\n"));
    if let Ok((skill, _)) = parse_reference(text, Some("fallback")) {
        assert!(!skill.code().trim().is_empty());
        assert!(skillcache::skill::check_id(skill.id()).is_ok());
    }
});
