//! What is written reads back equal, whatever it is, and what is read may be anything.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::skill::{FIELDS, Field, FieldKind};

fn written(path: &Path, format: Format, skills: &[Skill]) -> Vec<String> {
    let mut writer = write(path, format, false).unwrap_or_else(|error| panic!("{error}"));
    let mut notes = Vec::new();
    for skill in skills {
        notes.extend(writer.write(skill).unwrap_or_else(|fault| panic!("{fault:?}")));
    }
    writer.finish().unwrap_or_else(|error| panic!("{error}"));
    notes
}

fn read_back(path: &Path) -> (Vec<Skill>, Scan) {
    let format = Format::of(path).unwrap_or_else(|error| panic!("{error}"));
    let mut reading = read(path, format).unwrap_or_else(|error| panic!("{error}"));
    let scan = std::mem::take(&mut reading.scan);
    let entries = reading.map(|entry| entry.unwrap_or_else(|rejection| panic!("{rejection:?}")).skill);
    (entries.collect(), scan)
}

fn rejected(scan: &Scan) -> Vec<String> {
    let line = |rejection: &Rejection| format!("{}: {}", rejection.source, rejection.reason);
    scan.rejected.iter().map(line).collect()
}

/// Files below a folder, by path and text.
fn put_files(root: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Texts with what YAML, Markdown, JSON and lines of text make something of.
fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[-:#'\"\\\\{}\\[\\]&*!|>%@` a-cé\n\r\t\u{85}\u{2028}\u{feff}]{0,40}",
        "[a-z ]{1000,1100}",
        Just(String::new()),
    ]
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any_text().prop_map(Value::from)
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            proptest::collection::btree_map(any_text(), inner, 0..4).prop_map(Value::object),
        ]
    })
}

fn any_object() -> impl Strategy<Value = Value> {
    proptest::collection::btree_map(any_text(), any_json(), 0..4).prop_map(Value::object)
}

/// A value that a field takes.
fn any_value(field: &'static Field) -> BoxedStrategy<Value> {
    match (field.name, field.kind) {
        ("language", _) => Just(Value::from("python")).boxed(),
        ("limits", _) => (1u64..1000).prop_map(|ms| Value::object([("timeout_ms", Value::from(ms))])).boxed(),
        ("required_skills", _) => Just(Value::Array(Vec::new())).boxed(),
        (_, FieldKind::Text | FieldKind::OptionalText) => any_text().prop_map(Value::from).boxed(),
        (_, FieldKind::Switch) => any::<bool>().prop_map(Value::from).boxed(),
        (_, FieldKind::Integer { min, max }) => (min..=max).prop_map(Value::from).boxed(),
        (_, FieldKind::Choice(words)) => proptest::sample::select(words).prop_map(Value::from).boxed(),
        (_, FieldKind::Strings) => proptest::collection::vec(any_text(), 0..3).prop_map(Value::from).boxed(),
        (_, FieldKind::Array) => proptest::collection::vec(any_json(), 0..3).prop_map(Value::Array).boxed(),
        _ => any_object().boxed(),
    }
}

/// A skill of which any field may be set to anything it takes.
fn any_skill() -> impl Strategy<Value = Skill> {
    let fields: Vec<_> = FIELDS.iter().map(|field| proptest::option::of(any_value(field))).collect();
    let embedding = proptest::option::of(proptest::collection::vec((-1f32..1.0).prop_map(|n| n + 2.0), 1..4));
    ("[A-Za-z0-9_.:-]{1,20}", any_text(), fields, embedding).prop_map(|(id, code, values, embedding)| {
        let mut skill = Skill::new(id, format!("result = 1\n{code}"));
        for (field, value) in FIELDS.iter().zip(values) {
            if let Some(value) = value {
                record::set(&mut skill, field.name, &value).unwrap_or_else(|reason| panic!("{}: {reason}", field.name));
            }
        }
        skill.embedding = embedding;
        skill
    })
}

fn whole(skill: &Skill) -> Value {
    let embedding = skill.embedding.iter().flatten().map(|&number| Value::from(f64::from(number))).collect();
    Value::Array(vec![skill.to_value(true), Value::Array(embedding)])
}

// These write files.
proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn bundles_and_folders_of_markdown_read_back_equal(skills in proptest::collection::vec(any_skill(), 1..4)) {
        let mut skills = skills;
        skills.sort_by(|a, b| a.id.cmp(&b.id));
        skills.dedup_by(|a, b| a.id == b.id);
        let folder = folder();
        for format in [Format::Bundle, Format::Markdown] {
            let path = folder.path().join(format.name());
            prop_assert_eq!(written(&path, format, &skills), Vec::<String>::new());
            let (mut read, scan) = read_back(&path);
            prop_assert_eq!(rejected(&scan), Vec::<String>::new());
            prop_assert_eq!(scan.notes, vec![]);
            read.sort_by(|a, b| a.id.cmp(&b.id));
            prop_assert_eq!(read.iter().map(whole).collect::<Vec<_>>(), skills.iter().map(whole).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_reference_keeps_what_its_model_has(skill in any_skill()) {
        let folder = folder();
        let path = folder.path().join("skills");
        let notes = written(&path, Format::Reference, std::slice::from_ref(&skill));
        let (read, scan) = read_back(&path);
        prop_assert_eq!(rejected(&scan), Vec::<String>::new());
        prop_assert_eq!(read.len(), 1);
        let [before, after] = [skill.to_value(true), read[0].to_value(true)];
        for (name, value) in before.as_object().unwrap_or_default() {
            let kept = after.get(name);
            let is_noted = notes.iter().any(|note| note.contains(&format!("`{name}`")));
            // An object is all that its model takes for a schema.
            let is_nothing = *value == Value::Bool(true) && kept == Some(&Value::Null);
            let is_known = ["origin", "state"].contains(&name.as_str()) || crate::limits::RunLimits::NAMES.contains(&name.as_str());
            prop_assert!(kept == Some(value) || is_noted || is_nothing || is_known, "{}: {:?} {:?}", name, value, kept);
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in any_text()) {
        let _ = Document::parse(&text);
        let _ = Document::parse(&format!("---\n{text}\n---\n"));
        let _ = parse_reference(&text, Some("x"));
        let _ = scan_bundle(format!("{{\"format\":\"skillcache-bundle\",\"version\":1}}\n{text}").as_bytes());
    }
}

#[test]
fn the_reference_s_own_files_are_read() {
    let folder = folder();
    let dumped = r#"{"id":"5b7d0f9e-0d4e-4a5f-9a43-1d1f4e9c0c11","created_at":"2025-08-07 10:00:00","updated_at":"2025-08-07 10:00:00",
        "version":"1.0","name":"moving_average","description":"Mean of the last n","category":"technical_analysis",
        "complexity":"BASIC","code":"result = sum(inputs['x'])","language":"Python","dependencies":[],"required_skills":[],
        "input_schema":{"type":"object"},"output_schema":{},"parameters":{"n":3},"examples":[{"x":[1]}],
        "performance_metrics":{"accuracy":"0.9"},"usage_count":12,"success_count":11,"last_used":null,"is_active":false,
        "tags":["ta"],"learned_from":null,"created_by":"human","success_rate":"0.9166","failure_count":1,
        "reliability_score":"0.9166","mood":"good"}"#;
    let other = r#"{"name":"b","description":null,"code":"result = 2","required_skills":["moving_average","elsewhere"],"tags":null}"#;
    put_files(folder.path(), &[("a.json", dumped), ("b.json", other), ("notes.txt", "x"), (".hidden.json", "{")]);
    let (skills, scan) = read_back(folder.path());
    assert_eq!(rejected(&scan), Vec::<String>::new());
    let notes: Vec<_> = scan.notes.iter().map(|note| format!("{}: {}", note.source, note.text)).collect();
    let id = "5b7d0f9e-0d4e-4a5f-9a43-1d1f4e9c0c11";
    let expected = [
        "a.json: `mood` is no field of a skill and is not kept".to_owned(),
        format!("b.json: it requires `moving_average` by name, which is the skill `{id}`"),
    ];
    assert_eq!(notes, expected);
    assert_eq!(skills.iter().map(Skill::id).collect::<Vec<_>>(), [id, "b"]);
    let first = &skills[0];
    assert_eq!(
        (first.text_field("complexity"), first.text_field("language")),
        ("basic".to_owned(), "python".to_owned())
    );
    assert_eq!(first.field("is_active"), Value::Bool(false));
    assert_eq!(first.field("performance_metrics").to_text(), r#"{"accuracy":"0.9"}"#);
    assert_eq!(skills[1].string_list("required_skills"), [id, "elsewhere"]);
}

#[test]
fn every_mistake_of_a_reference_folder_is_listed_and_the_rest_is_read() {
    let folder = folder();
    let root = folder.path();
    put_files(
        root,
        &[
            ("array.json", "[1]"),
            ("cut.json", r#"{"id":"x","code":"#),
            ("double.json", r#"{"id":"good","code":"result = 1"}"#),
            ("empty.json", r#"{"id":"x","code":"  "}"#),
            ("good.json", r#"{"code":"result = 1"}"#),
            ("ids.json", r#"{"id":"my skill/../x","code":"result = 1"}"#),
            ("nocode.json", r#"{"id":"x"}"#),
            ("tags.json", r#"{"id":"x","code":"result = 1","tags":"one"}"#),
            ("types.json", r#"{"id":"x","code":["result = 1"]}"#),
            ("words.json", r#"{"id":"x","code":"result = 1","complexity":"SkillComplexity.BASIC"}"#),
        ],
    );
    fs::write(root.join("latin.json"), b"{\"id\":\"\xe4\"}").expect("a file");
    fs::File::create(root.join("large.json")).and_then(|file| file.set_len(MAX_FILE + 1)).expect("a sparse file");
    std::os::unix::fs::symlink("/etc/hostname", root.join("link.json")).expect("a link");
    fs::create_dir(root.join("folder.json")).expect("a folder");
    let (skills, scan) = read_back(root);
    assert_eq!(skills.iter().map(Skill::id).collect::<Vec<_>>(), ["good"]);
    let reasons = [
        "array.json: it is an array, not an object",
        "cut.json: it is not JSON: EOF",
        "empty.json: its `code` is empty",
        "folder.json: it is not a regular file",
        "ids.json: a skill id has 1 to 128 characters",
        "large.json: it has 16777217 bytes; at most 16777216 are read",
        "latin.json: it is not UTF-8 (byte 7)",
        "link.json: it is a symbolic link, which is not followed",
        "nocode.json: it has no `code`",
        "tags.json: `tags` is not the JSON it should be",
        "types.json: `code` takes text, not an array",
        "words.json: `complexity` takes one of: basic",
        "good.json: the id `good` is that of double.json too",
    ];
    let said = rejected(&scan);
    assert_eq!(said.len(), reasons.len(), "{said:#?}");
    said.iter().zip(reasons).for_each(|(said, reason)| assert!(said.starts_with(reason), "{said}: {reason}"));
    assert!(said[4].ends_with("`my-skill-..-x` would do"), "{}", said[4]);
}

#[test]
fn folders_of_agent_skills_are_read() {
    let folder = folder();
    put_files(
        folder.path(),
        &[
            ("pdf/SKILL.md", "---\nname: pdf\ndescription: Reads PDFs.\nlicense: MIT\n---\n# PDF\n"),
            ("pdf/scripts/fill.py", "result = 'fill'"),
            ("pdf/scripts/read.py", "result = 'read'"),
            ("pdf/scripts/run.sh", "true"),
            ("pdf/scripts/__init__.py", ""),
            ("pdf/references/forms.md", "text"),
            ("writing/SKILL.md", "---\nname: writing\ndescription: Style.\n---\nBe brief.\n"),
            ("more/one/skill.md", "---\nname: My One\ndescription: 'One: only.'\n---\n"),
            ("more/one/tool.py", "result = 1"),
            ("more/broken/SKILL.md", "---\nname: [x\n---\n"),
            ("more/empty/SKILL.md", "---\nname: empty\n---\n"),
            ("more/empty/a.py", "\n"),
            (".git/x/SKILL.md", "---\nname: hidden\n---\n"),
        ],
    );
    std::os::unix::fs::symlink("/", folder.path().join("root")).expect("a link");
    let (skills, scan) = read_back(folder.path());
    let ids: Vec<_> = skills.iter().map(Skill::id).collect();
    assert_eq!(ids, ["My-One", "pdf.fill", "pdf.read"]);
    assert_eq!(
        (skills[0].text_field("name"), skills[0].text_field("description")),
        ("My One".into(), "One: only.".into())
    );
    assert_eq!(skills[1].text_field("description"), "Reads PDFs.");
    assert_eq!(skills[1].text_field("instructions"), "# PDF");
    let said = rejected(&scan);
    let reasons = [
        "more/broken/SKILL.md: its front matter is not YAML:",
        "more/empty/a.py: the script is empty",
        "writing/SKILL.md: only instructions, no Python script",
    ];
    assert_eq!(said.len(), reasons.len(), "{said:#?}");
    said.iter().zip(reasons).for_each(|(said, reason)| assert!(said.starts_with(reason), "{said}: {reason}"));
    let notes: Vec<_> = scan.notes.iter().map(|note| format!("{}: {}", note.source, note.text)).collect();
    let expected = [
        "root: it is a symbolic link, which is not followed",
        "more/one/skill.md: `My One` is no id; it is `My-One`",
        "pdf/SKILL.md: `license` is not kept: MIT",
        "pdf/SKILL.md: not kept: references/, scripts/__init__.py, scripts/run.sh",
    ];
    assert_eq!(notes, expected);
    let (one, _) = read_back(&folder.path().join("more/one"));
    assert_eq!(one.iter().map(Skill::id).collect::<Vec<_>>(), ["My-One"], "the folder itself may be one");
}

#[test]
fn the_format_is_found_or_said_to_be_none() {
    let folder = folder();
    let root = folder.path();
    put_files(root, &[("a/x.json", "{}"), ("b/s/SKILL.md", ""), ("c/readme.txt", ""), ("d", "")]);
    for (name, format) in
        [("a", Format::Reference), ("b", Format::Markdown), ("b/s", Format::Markdown), ("d", Format::Bundle)]
    {
        assert_eq!(Format::of(&root.join(name)), Ok(format), "{name}");
    }
    for (name, part) in [("c", "holds no skills"), ("e", "cannot be read"), ("../../dev/null", "")] {
        let error = Format::of(&root.join(name)).expect_err(name);
        assert!(error.message().contains(part), "{error}");
    }
    assert_eq!(Format::named("markdwon").expect_err("unknown").details().suggestion.as_deref(), Some("markdown"));
}

#[test]
fn names_that_disks_confuse_are_told_apart_and_none_leads_out_of_the_folder() {
    let ids = ["a", "A", "a-2", "..", ".", ".hidden", "x:y", "x_y", "-"];
    let skills: Vec<_> = ids.iter().map(|id| Skill::new(*id, format!("result = '{id}'"))).collect();
    for format in [Format::Reference, Format::Markdown] {
        let folder = folder();
        let path = folder.path().join("out");
        written(&path, format, &skills);
        let mut names: Vec<_> =
            files::list(&path).expect("there").iter().map(|member| member.shown().to_lowercase()).collect();
        assert_eq!(names.len(), ids.len(), "{names:?}");
        assert!(names.iter().all(|name| !name.starts_with('.')), "{names:?}");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), ids.len(), "{names:?}");
        assert_eq!(files::list(folder.path()).expect("there").len(), 1, "nothing beside it");
        let (mut read, scan) = read_back(&path);
        assert_eq!(rejected(&scan), Vec::<String>::new());
        read.sort_by_key(|skill| ids.iter().position(|id| *id == skill.id));
        assert_eq!(read.iter().map(Skill::id).collect::<Vec<_>>(), ids);
    }
}

#[test]
fn what_is_there_is_refused_or_replaced_and_never_half_written() {
    let folder = folder();
    let root = folder.path();
    put_files(root, &[("bundle", "old"), ("full/keep.txt", "kept"), ("file", "x")]);
    fs::create_dir(root.join("empty")).expect("a folder");
    let skill = [Skill::new("a", "result = 1")];
    for (name, format) in [("bundle", Format::Bundle), ("full", Format::Markdown), ("full", Format::Reference)] {
        let error = write(&root.join(name), format, false).err().unwrap_or_else(|| panic!("{name} is there"));
        assert!(error.message().contains("is there already"), "{error}");
    }
    for (name, format) in
        [("full", Format::Bundle), ("file", Format::Markdown), ("none/x", Format::Bundle), ("", Format::Bundle)]
    {
        assert!(write(&root.join(name), format, true).is_err(), "{name}");
    }
    let before = fs::read_dir(root).expect("there").count();
    let mut writer = write(&root.join("bundle"), Format::Bundle, true).expect("may be replaced");
    writer.write(&skill[0]).expect("written");
    drop(writer);
    assert_eq!(fs::read_to_string(root.join("bundle")).expect("there"), "old", "not finished, not seen");
    assert_eq!(fs::read_dir(root).expect("there").count(), before, "and nothing is left of it");
    written(&root.join("empty"), Format::Reference, &skill);
    for (name, format) in [("bundle", Format::Bundle), ("full", Format::Markdown)] {
        let mut writer = write(&root.join(name), format, true).expect("may be replaced");
        writer.write(&skill[0]).expect("written");
        writer.finish().expect("written");
        assert_eq!(read_back(&root.join(name)).0.len(), 1, "{name}");
    }
    assert_eq!(fs::read_to_string(root.join("full/keep.txt")).expect("there"), "kept");
    assert_eq!(fs::read_dir(root).expect("there").count(), before);
}

#[test]
fn a_link_in_a_folder_that_is_overwritten_leads_nowhere() {
    let folder = folder();
    let (out, elsewhere) = (folder.path().join("out"), folder.path().join("elsewhere"));
    put_files(folder.path(), &[("out/x.txt", ""), ("elsewhere/SKILL.md", "theirs")]);
    std::os::unix::fs::symlink(&elsewhere, out.join("a")).expect("a link");
    let mut writer = write(&out, Format::Markdown, true).expect("may be replaced");
    writer.write(&Skill::new("a", "result = 1")).expect("written");
    let error = writer.finish().expect_err("a link is no folder");
    assert!(error.message().contains("no folder"), "{error}");
    assert_eq!(fs::read_to_string(elsewhere.join("SKILL.md")).expect("there"), "theirs");
}

#[test]
fn a_record_that_is_long_has_a_file_of_its_own() {
    let folder = folder();
    let mut skill = Skill::new("long", "result = 1");
    let examples = Value::Array(vec![Value::from("x".repeat(1 << 20))]);
    record::set(&mut skill, "examples", &examples).expect("taken");
    let path = folder.path().join("out");
    written(&path, Format::Markdown, std::slice::from_ref(&skill));
    assert!(fs::metadata(path.join("long/SKILL.md")).expect("there").len() < 4096);
    assert_eq!(whole(&read_back(&path).0[0]), whole(&skill));
}
