use super::*;

fn store() -> Store {
    open(":memory:").expect("a store in memory")
}

pub(crate) fn open(path: &str) -> Result<Store> {
    open_with(path, &[])
}

fn open_with(path: &str, options: &[(&str, &str)]) -> Result<Store> {
    let mut config = Config::default();
    for (name, value) in options {
        config.set(name, value).expect("an option");
    }
    open_as(path, &config)
}

pub(super) fn open_as(path: &str, config: &Config) -> Result<Store> {
    Store::open(path, config, &Arc::new(Monitor::new(&crate::monitor::tests::settings()).expect("a monitor")))
}

/// One of the pool's connections, held as a call would that does not return.
pub(crate) fn borrow(store: &Store) -> pool::PooledConnection<'_, connection::SqliteManager> {
    store.pool.get().expect("one is free")
}

fn count(store: &Store, id: &str, outcome: Outcome) {
    let version = store.revision(id, 0).expect("there").version;
    let verdict = match outcome {
        Outcome::Success => Verdict::Worked,
        outcome if outcome.blames_skill() => Verdict::Failed,
        _ => Verdict::Nothing,
    };
    store.count_use(&Arc::from(id), version, outcome, verdict);
    written(store);
}

/// Has what is counted written. Whoever reads waits for that too, but only for a moment, which may be too short on a busy machine.
fn written(store: &Store) {
    assert!(store.writer().expect("it is written").settle(HOUR));
}

/// Waits until something holds.
fn until(what: &str, holds: impl Fn() -> bool) {
    let given_up = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < given_up, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn draft(id: &str, code: &str, fields: &[(&str, &str)]) -> Skill {
    let mut skill = Skill::new(id, code);
    for (name, value) in fields {
        skill.set(name, value).unwrap_or_else(|error| panic!("{error}"));
    }
    skill
}

fn outline() -> Outline {
    Outline { symbols: Value::object([("imports", Value::from(vec!["math"]))]), words: "bollinger math".to_owned() }
}

fn put(store: &Store, id: &str, code: &str, fields: &[(&str, &str)]) -> u32 {
    store.put(&draft(id, code, fields), &outline()).unwrap_or_else(|error| panic!("{error}")).version
}

#[test]
fn changed_content_makes_versions_and_nothing_else_does() {
    let store = store();
    assert_eq!(put(&store, "a", "result = 1", &[("description", "one"), ("tags", r#"["x","y"]"#)]), 1);
    assert_eq!(put(&store, "a", "result = 1", &[("description", "uno")]), 1);
    let first = store.get("a", 0).expect("there");
    assert_eq!((first.text_field("description"), first.string_list("tags").len()), ("uno".to_owned(), 2));
    assert_eq!(put(&store, "a", "result = 2", &[]), 2);
    assert_eq!(put(&store, "a", "result = 2", &[("parameters", r#"{"k":1}"#)]), 3);
    assert_eq!(put(&store, "a", "result = 2", &[("parameters", r#"{"k":1.0}"#)]), 4);
    assert_eq!(put(&store, "a", "result = 1", &[]), 5, "equal content is compared with the newest");
    assert_eq!(store.get("a", 1).expect("old").code(), "result = 1");
    assert_eq!(store.get("a", 3).expect("old").field("parameters"), Value::parse(r#"{"k":1}"#).expect("json"));
    assert_eq!(store.get("a", 6).expect_err("future").code(), Code::NotFound);
}

#[test]
fn removing_hides_all_and_numbers_go_on() {
    let store = store();
    put(&store, "a", "result = 1", &[("description", "old")]);
    put(&store, "a", "result = 2", &[]);
    count(&store, "a", Outcome::Success);
    store.remove("a").expect("there");
    for version in [0, 1, 2] {
        assert_eq!(store.get("a", version).expect_err("removed").code(), Code::NotFound);
    }
    assert_eq!(store.remove("a").expect_err("removed").code(), Code::NotFound);
    assert_eq!(store.list(&Filter::default()).expect("list"), []);
    assert_eq!(put(&store, "a", "result = 2", &[]), 3);
    let back = store.get("a", 0).expect("back");
    assert_eq!((back.text_field("description"), back.usage().usage_count), (String::new(), 0));
    assert_eq!(store.get("a", 2).expect_err("stays hidden").code(), Code::NotFound);
}

#[test]
fn expectations_and_requirements_are_checked() {
    let store = store();
    let conflict = |version: &str| {
        store.put(&draft("a", "x", &[("expected_version", version)]), &outline()).map_err(|error| error.code())
    };
    assert_eq!(conflict("1"), Err(Code::Conflict));
    assert_eq!(conflict("0"), Ok(Put { version: 1, is_new: true }));
    assert_eq!(conflict("0"), Err(Code::Conflict));
    assert_eq!(conflict("1"), Ok(Put { version: 1, is_new: false }));
    let error =
        store.put(&draft("b", "x", &[("required_skills", r#"["a","c","d"]"#)]), &outline()).expect_err("missing");
    assert_eq!(
        (error.code(), error.details().missing.clone()),
        (Code::Validation, vec!["c".to_owned(), "d".to_owned()])
    );
    assert_eq!(store.get("b", 0).expect_err("nothing was stored").code(), Code::NotFound);
}

#[test]
fn usage_is_counted_and_touches_no_version() {
    let store = store();
    put(&store, "a", "x", &[]);
    let before = store.revision("a", 0).expect("there");
    for (outcome, verdict) in
        [(Outcome::Success, Verdict::Worked), (Outcome::Success, Verdict::Worked), (Outcome::Timeout, Verdict::Failed)]
    {
        store.count_use(&Arc::from("a"), 1, outcome, verdict);
    }
    // Whoever reads has it written.
    until("it is counted", || store.get("a", 0).expect("there").usage().usage_count == 3);
    let skill = store.get("a", 0).expect("there");
    assert_eq!((skill.usage().usage_count, skill.usage().success_count), (3, 2));
    assert_eq!(skill.usage().outcomes, [(Outcome::Success, 2), (Outcome::Timeout, 1)]);
    assert!(skill.usage().last_used.as_deref().is_some_and(|time| time.ends_with('Z')));
    assert_eq!(store.revision("a", 0).expect("there"), before);
}

#[test]
fn filters_and_words_find_skills() {
    let store = store();
    put(
        &store,
        "rsi",
        "x",
        &[("description", "relative strength index of prices"), ("tags", r#"["ta","price"]"#), ("category", "ta")],
    );
    put(
        &store,
        "rain",
        "x",
        &[("name", "Rain streaks"), ("description", "longest wet and dry spells"), ("tags", r#"["weather"]"#)],
    );
    put(&store, "off", "x", &[("is_active", "false"), ("description", "an index nobody uses")]);
    let ids =
        |filter: &Filter| store.list(filter).expect("list").iter().map(|skill| skill.id.clone()).collect::<Vec<_>>();
    let with = |name: &str, value: &str| {
        Filter::read(&[(name.to_owned(), Value::parse(value).expect("json"))]).expect("filter")
    };
    assert_eq!(ids(&Filter::default()), ["off", "rain", "rsi"]);
    assert_eq!(ids(&with("category", "\"ta\"")), ["rsi"]);
    assert_eq!(ids(&with("tags", "[\"ta\",\"price\"]")), ["rsi"]);
    assert_eq!(ids(&with("tags", "[\"ta\",\"weather\"]")), Vec::<String>::new());
    assert_eq!(ids(&with("name", "\"STREAK\"")), ["rain"]);
    assert_eq!(ids(&with("active", "false")), ["off"]);
    assert_eq!(ids(&with("limit", "1")), ["off"]);
    assert_eq!(Filter::read(&[("tag".to_owned(), Value::Null)]), Ok(Filter::default()));
    assert!(Filter::read(&[("tagz".to_owned(), Value::Bool(true))]).expect_err("unknown").message().contains("tags"));
    let found = |text: &str| {
        store.search(&Query::words(text)).expect("search").into_iter().map(|found| found.skill.id).collect::<Vec<_>>()
    };
    assert_eq!(found("index"), ["rsi"]);
    assert_eq!(found("wet spell \" OR * NEAR("), ["rain"]);
    assert_eq!(found("nothing like it"), Vec::<String>::new());
    assert_eq!(found(" "), ["rain", "rsi"]);
}

#[test]
fn files_that_are_not_ours_are_refused_untouched() {
    let folder = tempfile::tempdir().expect("folder");
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let open = |path: &str| open(path).map(|_| ()).map_err(|error| error.code());
    assert_eq!(open(&path("missing/skills.db")), Err(Code::Database));
    assert_eq!(open(&folder.path().to_string_lossy()), Err(Code::Database));
    assert_eq!(open(""), Err(Code::Invalid));
    std::fs::write(path("text"), "this is no database, however long one reads in it".repeat(100)).expect("write");
    let before = std::fs::read(path("text")).expect("read");
    assert_eq!(open(&path("text")), Err(Code::Corrupt));
    assert_eq!(std::fs::read(path("text")).expect("read"), before);
    Connection::open(path("newer")).and_then(|newer| newer.pragma_update(None, "user_version", 9999)).expect("newer");
    assert_eq!(open(&path("newer")), Err(Code::NewerDatabase));
    Connection::open(path("other")).and_then(|other| other.execute_batch("CREATE TABLE t (x)")).expect("other");
    assert_eq!(open(&path("other")), Err(Code::Database));
    assert_eq!(open(&path("ours")), Ok(()));
    assert_eq!(open(&path("ours")), Ok(()));
}

#[test]
fn what_was_put_is_there_after_reopening() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("skills.db").to_string_lossy().into_owned();
    {
        let store = open(&path).expect("open");
        put(&store, "a", "result = 'é'", &[("examples", r#"[{"x":1}]"#), ("ttl_s", "60")]);
        count(&store, "a", Outcome::Success);
    }
    let store = open(&path).expect("open again");
    let skill = store.get("a", 0).expect("there");
    assert_eq!((skill.code(), skill.field("ttl_s").as_i64(), skill.usage().usage_count), ("result = 'é'", Some(60), 1));
}

#[test]
fn a_database_of_the_first_schema_moves_forward() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("old.db");
    let old = Connection::open(&path).expect("a file");
    schema::create_at(&old, 1).expect("the first schema");
    old.execute_batch(
        "INSERT INTO skills (key, id, newest, name, tags, created_at, updated_at) VALUES (1, 'a', 1, 'alpha', '[\"t\"]', '', '');
         INSERT INTO versions (skill, version, code, content_hash, language, created_at) VALUES (1, 1, 'result = 1', x'00', 'python', '');
         INSERT INTO skills_text (rowid, id, name, description, tags) VALUES (1, 'a', 'alpha', '', 't');",
    )
    .expect("a skill");
    drop(old);
    let store = open(path.to_str().expect("UTF-8")).expect("it opens");
    assert_eq!(store.search(&Query::words("alpha")).expect("a search").len(), 1);
    assert_eq!(store.get("a", 0).expect("there").symbols, None);
    put(&store, "a", "result = 1", &[]);
    assert_eq!(store.search(&Query::words("bollinger")).expect("a search").len(), 1);
}

#[test]
fn a_database_of_the_second_schema_keeps_all_it_has() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("old.db");
    let old = Connection::open(&path).expect("a file");
    schema::create_at(&old, 2).expect("the second schema");
    old.execute_batch(
        "INSERT INTO skills (key, id, newest, removed_through, name, tags, is_active, usage_count, created_at, updated_at) VALUES
            (1, 'a', 2, 0, 'alpha', '[\"t\"]', 'true', 7, '', ''), (2, 'b', 1, 0, 'beta', '[]', 'false', 0, '', ''),
            (3, 'c', 1, 1, 'gone', '[]', 'true', 0, '', '');
         INSERT INTO versions (skill, version, code, content_hash, language, symbols, created_at) VALUES
            (1, 1, 'result = 1', x'00', 'python', '{}', ''), (1, 2, 'result = 2', x'00', 'python', '{}', ''),
            (2, 1, 'result = 3', x'00', 'python', '{}', ''), (3, 1, 'result = 4', x'00', 'python', '{}', '');
         INSERT INTO skills_text (rowid, id, name, description, tags, code) VALUES
            (1, 'a', 'alpha', '', 't', 'bollinger'), (2, 'b', 'beta', '', '', 'bollinger');",
    )
    .expect("skills");
    drop(old);
    let store = open(path.to_str().expect("UTF-8")).expect("it opens");
    assert!(folder.path().join(format!("old.db.before-v{}", schema::NEWEST)).is_file(), "a copy of what was");
    assert_eq!((state(&store, "a"), state(&store, "b")), ("active".to_owned(), "retired".to_owned()));
    assert_eq!(store.get("c", 0).expect_err("removed").code(), Code::NotFound);
    assert_eq!(store.get("a", 0).expect("there").usage().usage_count, 7);
    assert_eq!(store.get("a", 1).expect("there").code(), "result = 1");
    assert_eq!(ids(&store, r#"{"text": "bollinger"}"#), ["a"]);
    assert_eq!(ids(&store, r#"{"text": "bollinger", "active": false}"#), ["b"]);
    assert_eq!(store.rebuild_index().expect("made anew"), 2);
    assert_eq!(ids(&store, r#"{"text": "bollinger"}"#), ["a"], "the words of the code are kept");
    assert_eq!(put(&store, "c", "result = 4", &[]), 2);
}

fn state(store: &Store, id: &str) -> String {
    store.get(id, 0).expect("there").text_field("state")
}

#[test]
fn failures_in_a_row_set_a_skill_aside() {
    let store = open_with(":memory:", &[("store.quarantine_after", "3")]).expect("a store");
    put(&store, "a", "x", &[]);
    let fail = || count(&store, "a", Outcome::Error);
    fail();
    fail();
    count(&store, "a", Outcome::Success);
    fail();
    fail();
    assert_eq!(state(&store, "a"), "active", "a success is between them");
    for outcome in [Outcome::Denied, Outcome::InvalidInput, Outcome::Cancelled, Outcome::Rejected] {
        count(&store, "a", outcome);
    }
    store.count_use(&Arc::from("a"), 1, Outcome::Success, Verdict::Nothing);
    written(&store);
    assert_eq!(state(&store, "a"), "active", "none of these is the skill's fault, and an old answer is no news");
    let before = store.revision("a", 0).expect("there");
    count(&store, "a", Outcome::Crashed);
    assert_eq!(state(&store, "a"), "quarantined");
    assert_ne!(store.revision("a", 0).expect("there"), before, "records in memory are old now");
    let event = store.behind.monitor.events().next(Some(Duration::ZERO)).expect("an event");
    let event = Value::parse(&event).expect("JSON");
    assert_eq!(event.get("kind"), Some(&Value::from("skill_quarantined")));
    assert_eq!(
        event.get("fields"),
        Some(&Value::parse(r#"{"skill":"a","version":1,"failures":3}"#).expect("JSON")),
        "{event:?}"
    );
}

#[test]
fn what_was_set_aside_comes_back_with_new_content_or_by_hand() {
    let store = open_with(":memory:", &[("store.quarantine_after", "2")]).expect("a store");
    let fail_twice = || (count(&store, "a", Outcome::Timeout), count(&store, "a", Outcome::Timeout));
    put(&store, "a", "x", &[]);
    fail_twice();
    put(&store, "a", "x", &[("description", "the same code")]);
    assert_eq!(state(&store, "a"), "quarantined");
    put(&store, "a", "y", &[]);
    assert_eq!(state(&store, "a"), "active");
    for _ in 0..5 {
        store.count_use(&Arc::from("a"), 1, Outcome::Timeout, Verdict::Failed);
    }
    written(&store);
    assert_eq!(state(&store, "a"), "active", "an old version fails");
    fail_twice();
    assert_eq!(state(&store, "a"), "quarantined");
    store.set_state("a", "active").expect("there");
    count(&store, "a", Outcome::Timeout);
    assert_eq!(state(&store, "a"), "active", "counted from the beginning");
    put(&store, "a", "z", &[("state", "retired")]);
    assert_eq!(put(&store, "a", "z2", &[]), 4);
    assert_eq!(state(&store, "a"), "retired", "who puts a skill away gets it back by saying so");
    assert_eq!(store.set_state("b", "active").expect_err("none").code(), Code::NotFound);
    let error = store.set_state("a", "gone").expect_err("no state");
    assert!(error.message().contains("active, quarantined, retired"), "{error}");
}

#[test]
fn without_the_option_no_skill_is_set_aside() {
    let store = store();
    put(&store, "a", "x", &[]);
    (0..50).for_each(|_| count(&store, "a", Outcome::Crashed));
    assert_eq!(state(&store, "a"), "active");
    assert_eq!(store.get("a", 0).expect("there").usage().outcomes, [(Outcome::Crashed, 50)]);
}

#[test]
fn counts_that_cannot_be_written_wait_and_say_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("skills.db").to_string_lossy().into_owned();
    let store = open(&path).expect("open");
    put(&store, "a", "x", &[]);
    let other = Connection::open(&path).expect("the file");
    let trigger = "CREATE TRIGGER no BEFORE UPDATE OF usage_count ON skills BEGIN SELECT RAISE(ABORT, 'no'); END";
    other.execute_batch(trigger).expect("a trigger");
    count(&store, "a", Outcome::Success);
    count(&store, "a", Outcome::Error);
    let stat = |name: &str| store.stats().get(name).and_then(Value::as_i64).expect("a number");
    assert_eq!((stat("usage_count"), stat("usage_unwritten")), (0, 2));
    std::thread::sleep(Duration::from_millis(30));
    assert!((30..60_000).contains(&stat("usage_lag_ms")));
    other.execute_batch("DROP TRIGGER no; BEGIN IMMEDIATE").expect("the lock");
    assert_eq!(store.get("a", 0).expect("reading does not wait for a writer").usage().usage_count, 0);
    other.execute_batch("COMMIT").expect("free");
    until("they are written", || stat("usage_unwritten") == 0);
    let usage = store.get("a", 0).expect("there").usage().clone();
    assert_eq!((usage.usage_count, usage.success_count), (2, 1));
    assert_eq!(usage.outcomes, [(Outcome::Success, 1), (Outcome::Error, 1)]);
    assert_eq!(stat("usage_lag_ms"), 0);
}

#[test]
fn where_a_version_comes_from_stays_with_it() {
    let store = store();
    put(&store, "a", "x", &[("author", "ann"), ("model", "m1"), ("origin", "agent")]);
    put(&store, "a", "x", &[("origin", "import")]);
    put(&store, "a", "y", &[("author", "bob"), ("parent", "a@1")]);
    let of = |version: u32| {
        let skill = store.get("a", version).expect("there");
        ["origin", "author", "model", "parent"].map(|name| skill.text_field(name))
    };
    assert_eq!(of(1), ["import", "ann", "m1", ""], "the same content again, and what is said of it now");
    assert_eq!(of(2), ["", "bob", "", "a@1"]);
}

fn found(store: &Store, query: &str) -> Vec<(String, f64)> {
    let query = Value::parse(query).expect("JSON");
    let query = Query::read(query.as_object().expect("an object")).expect("a query");
    store.search(&query).expect("a search").into_iter().map(|found| (found.skill.id, found.score)).collect()
}

fn ids(store: &Store, query: &str) -> Vec<String> {
    found(store, query).into_iter().map(|(id, _)| id).collect()
}

#[test]
fn embeddings_find_what_is_near() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("skills.db").to_string_lossy().into_owned();
    for precision in ["f32", "int8"] {
        let store = open_with(&path, &[("store.vectors", precision)]).expect("open");
        assert_eq!(ids(&store, r#"{"embedding": [1, 2]}"#), Vec::<String>::new());
        for (id, vector) in [("east", "[2, 0]"), ("north", "[0, 3]"), ("north-east", "[1, 1]"), ("west", "[-1, 0]")] {
            put(&store, id, "x", &[("embedding", vector)]);
        }
        put(&store, "nowhere", "x", &[]);
        let near = found(&store, r#"{"embedding": [1, 0.1]}"#);
        assert_eq!(near.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["east", "north-east", "north", "west"]);
        assert!((near[0].1 - 1.0 / 1.01_f64.sqrt()).abs() < 1e-6, "{near:?}");
        assert_eq!(ids(&store, r#"{"embedding": [1, 0.1], "limit": 1, "offset": 1}"#), ["north-east"]);
        assert_eq!(ids(&store, r#"{"embedding": [1, 0.1], "min_score": 0.5}"#), ["east", "north-east"]);
        assert_eq!(ids(&store, r#"{"embedding": [1, 0.1], "name": "north"}"#), ["north-east", "north"]);
        // Another store, as another process would be.
        let other = open(&path).expect("open");
        put(&other, "east", "x", &[("embedding", "[0, -1]")]);
        put(&other, "west", "x", &[("embedding", "null")]);
        other.remove("north").expect("there");
        other.set_state("north-east", "retired").expect("there");
        assert_eq!(ids(&store, r#"{"embedding": [1, 0.1]}"#), ["east"]);
        assert_eq!(ids(&store, r#"{"embedding": [1, 0.1], "state": "retired"}"#), ["north-east"]);
        let error = store.search(&Query { embedding: vec![1.0; 3], ..Query::default() }).expect_err("another length");
        assert_eq!(error.code(), Code::Invalid);
        assert!(error.message().contains("2 numbers; this one has 3"), "{error}");
        let three = store.put(&draft("x", "x", &[("embedding", "[1, 2, 3]")]), &outline()).expect_err("another length");
        assert_eq!(
            (three.code(), store.get("x", 0).map(drop).map_err(|error| error.code())),
            (Code::Invalid, Err(Code::NotFound))
        );
        for id in ["east", "north-east"] {
            put(&store, id, "x", &[("embedding", "[]")]);
        }
        put(&store, "x", "x", &[("embedding", "[1, 2, 3]")]);
        assert_eq!(ids(&store, r#"{"embedding": [1, 2, 3]}"#), ["x"], "any length, once the others are gone");
        assert_eq!(store.embedding("x").expect("there"), Some(vec![1.0, 2.0, 3.0]));
        let stats = store.stats().get("embeddings").cloned().expect("a part");
        assert_eq!(
            (stats.get("stored").and_then(Value::as_i64), stats.get("loaded").and_then(Value::as_i64)),
            (Some(1), Some(1))
        );
        ["east", "north-east", "west", "nowhere", "x"].into_iter().for_each(|id| store.remove(id).expect("there"));
    }
}

#[test]
fn words_and_embeddings_are_mixed_as_the_page_says() {
    let store = store();
    for (id, text, vector) in [
        ("both", "moving average", "[1, 0]"),
        ("words", "moving average average", "[-1, 0.001]"),
        ("near", "something else", "[1, 0.01]"),
        ("bare", "average", "null"),
        ("none", "something else", "[-1, 0]"),
    ] {
        put(&store, id, "x", &[("description", text), ("embedding", vector)]);
    }
    let query = r#"{"text": "moving average", "embedding": [1, 0]"#;
    let mixed = found(&store, &format!("{query}}}"));
    assert_eq!(mixed[0].0, "both");
    assert!(mixed.iter().all(|(_, score)| (0.0..=1.0).contains(score)), "{mixed:?}");
    let score = |weight: &str, id: &str| {
        let all = found(&store, &format!(r#"{query}, "vector_weight": {weight}}}"#));
        all.into_iter().find(|(found, _)| found == id).map(|(_, score)| score)
    };
    let (words, near) = (score("0", "both").expect("found"), score("1", "both").expect("found"));
    assert!((near - 1.0).abs() < 1e-6 && (0.0..=1.0).contains(&words));
    let half = score("0.5", "both").expect("found");
    assert!((half - (words + near) / 2.0).abs() < 1e-9, "{half}");
    assert_eq!(score("1", "words"), Some(0.0), "a cosine below 0 counts as 0");
    assert_eq!(score("0", "near"), Some(0.0));
    let both = Query { text: "average".to_owned(), embedding: vec![1.0, 0.0], ..Query::default() };
    let parts = store.search(&both).expect("a search");
    let part = |id: &str| {
        parts.iter().find(|found| found.skill.id == id).map(|found| (found.text.is_some(), found.vector.is_some()))
    };
    assert_eq!(
        (part("bare"), part("near"), part("both")),
        (Some((true, false)), Some((false, true)), Some((true, true)))
    );
    assert_eq!(ids(&store, &format!(r#"{query}, "min_score": 0.6}}"#)), ["both"]);
}

#[test]
fn filters_that_few_pass_find_them_among_many() {
    let store = store();
    for number in 0..1500 {
        let category = if number % 500 == 7 { "rare" } else { "common" };
        let vector = format!("[1, {number}]");
        put(
            &store,
            &format!("s{number}"),
            "x",
            &[("description", "word"), ("category", category), ("embedding", &vector)],
        );
    }
    let rare = r#""category": "rare", "limit": 10"#;
    let mut by_words = ids(&store, &format!(r#"{{"text": "word", {rare}}}"#));
    by_words.sort();
    assert_eq!(by_words, ["s1007", "s507", "s7"]);
    assert_eq!(ids(&store, &format!(r#"{{"embedding": [0, 1], {rare}}}"#)), ["s1007", "s507", "s7"]);
    (0..1400).for_each(|number| store.set_state(&format!("s{number}"), "retired").expect("there"));
    assert_eq!(ids(&store, r#"{"text": "word", "limit": 1000}"#).len(), 100);
    assert_eq!(ids(&store, r#"{"text": "word", "limit": 7, "offset": 95}"#).len(), 5);
    assert_eq!(ids(&store, r#"{"embedding": [1, 0], "limit": 2}"#), ["s1400", "s1401"]);
}

#[test]
fn searches_look_at_what_is_active_and_filters_at_what_was_used() {
    let store = store();
    for id in ["good", "poor", "new", "away"] {
        put(&store, id, "x", &[("description", "word")]);
    }
    for (id, outcomes) in [("good", [Outcome::Success; 4]), ("poor", [Outcome::Error; 4])] {
        outcomes.into_iter().for_each(|outcome| count(&store, id, outcome));
    }
    store.set_state("away", "retired").expect("there");
    assert_eq!(ids(&store, r#"{"text": "word"}"#), ["good", "poor", "new"]);
    assert_eq!(ids(&store, r#"{"text": "word", "active": false}"#), ["away"]);
    assert_eq!(ids(&store, r#"{"text": "word", "state": "retired"}"#), ["away"]);
    assert_eq!(ids(&store, r#"{"text": "word", "min_success_rate": 0.5}"#), ["good"]);
    assert_eq!(ids(&store, r#"{"text": "word", "min_usage_count": 4}"#), ["good", "poor"]);
    assert_eq!(ids(&store, "{}"), ["good", "new", "poor"]);
    for (query, part) in [
        (r#"{"min_success_rate": 2}"#, "from 0 to 1"),
        (r#"{"state": "gone"}"#, "active, quarantined, retired"),
        (r#"{"embedding": [1, "x"]}"#, "embedding[1]"),
        (r#"{"embedding": [0, 0]}"#, "direction"),
        (r#"{"embedding": "near"}"#, "array of numbers"),
        (r#"{"vector_weigth": 1}"#, "did you mean `vector_weight`"),
        (r#"{"vector_weight": -1}"#, "from 0 to 1"),
    ] {
        let query = Value::parse(query).expect("JSON");
        let error = Query::read(query.as_object().expect("an object")).expect_err(part);
        assert!(error.message().contains(part), "{error}");
    }
}

#[test]
fn the_index_of_words_can_be_made_anew() {
    let store = store();
    put(&store, "kept", "x", &[("tags", r#"["alpha"]"#)]);
    put(&store, "gone", "x", &[]);
    store.remove("gone").expect("there");
    store
        .writer()
        .expect("it is written")
        .write(|connection| {
            let wipe = "INSERT INTO skills_text (skills_text) VALUES ('delete-all')";
            connection.execute(wipe, []).map(drop).map_err(translate)
        })
        .expect("wiped");
    assert_eq!(ids(&store, r#"{"text": "alpha bollinger"}"#), Vec::<String>::new());
    assert_eq!(store.rebuild_index().expect("made anew"), 1);
    assert_eq!(ids(&store, r#"{"text": "alpha"}"#), ["kept"]);
    assert_eq!(ids(&store, r#"{"text": "bollinger"}"#), ["kept"], "words of the code are stored");
}

fn key(number: u8) -> ResultKey {
    [number; 32]
}

fn answer(text: &str) -> StoredResult {
    StoredResult { parts: [text.into(), b"out".to_vec(), Vec::new(), b"{}".to_vec()], flags: 2 }
}

/// The epoch in which a run would begin now.
fn epoch_of(store: &Store) -> i64 {
    results::total(&store.pool.get().expect("a connection")).expect("it is counted").epoch
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn answers_outlive_the_store_that_found_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("skills.db").to_string_lossy().into_owned();
    {
        let store = open(&path).expect("open");
        store.keep_result(&Arc::from("a"), key(1), Some(answer("1").encode().expect("small")), HOUR, epoch_of(&store));
        assert_eq!(store.find_result(&key(1), epoch_of(&store)).expect("on its way").0, answer("1"));
        store.keep_result(
            &Arc::from("a"),
            key(1),
            Some(answer("one").encode().expect("small")),
            HOUR,
            epoch_of(&store),
        );
        store.keep_result(&Arc::from("b"), key(2), Some(answer("2").encode().expect("small")), HOUR, epoch_of(&store));
        store.keep_result(
            &Arc::from("b"),
            key(3),
            Some(answer("3").encode().expect("small")),
            Duration::ZERO,
            epoch_of(&store),
        );
    }
    let store = open(&path).expect("open again");
    let (found, left) = store.find_result(&key(1), epoch_of(&store)).expect("there");
    assert_eq!(found, answer("one"), "the later of two");
    assert!(left <= HOUR && left > HOUR / 2, "{left:?}");
    assert!(store.find_result(&key(3), epoch_of(&store)).is_none(), "no time to live");
    assert!(store.find_result(&key(4), epoch_of(&store)).is_none());
    put(&store, "b", "x", &[]);
    store.remove("b").expect("there");
    assert!(store.find_result(&key(2), epoch_of(&store)).is_none(), "its skill was removed");
    store.clear_results().expect("cleared");
    assert!(store.find_result(&key(1), epoch_of(&store)).is_none());
    let off = open_with(&path, &[("store.results.enabled", "false")]).expect("open");
    off.keep_result(&Arc::from("a"), key(1), Some(answer("1").encode().expect("small")), HOUR, epoch_of(&store));
    assert!(!off.keeps_results() && off.find_result(&key(1), epoch_of(&store)).is_none());
    assert!(!self::store().keeps_results(), "in memory there is nothing to outlive");
}

#[test]
fn what_is_damaged_old_or_from_the_future_is_no_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("skills.db").to_string_lossy().into_owned();
    let store = open(&path).expect("open");
    for number in 1..=5 {
        store.keep_result(
            &Arc::from("a"),
            key(number),
            Some(answer("1").encode().expect("small")),
            HOUR,
            epoch_of(&store),
        );
    }
    store.writer().expect("it is written").settle(HOUR);
    let other = Connection::open(&path).expect("the file");
    other
        .execute_batch(
            "UPDATE results SET kept = CAST(kept || x'00' AS BLOB) WHERE number = 1;
             UPDATE results SET key = x'0909090909090909090909090909090909090909090909090909090909090909' WHERE number = 2;
             UPDATE results SET stored_ms = stored_ms + 100000000, expires_ms = expires_ms + 100000000 WHERE number = 3;
             UPDATE results SET expires_ms = stored_ms WHERE number = 4;",
        )
        .expect("changed");
    let stands: Vec<_> = other
        .prepare("SELECT number, key FROM results ORDER BY number")
        .and_then(|mut rows| rows.query_map([], |row| row.get::<_, Vec<u8>>(1))?.collect())
        .expect("rows");
    let is_answer = |number: usize| {
        store.find_result(stands[number].as_slice().try_into().expect("a key"), epoch_of(&store)).is_some()
    };
    assert_eq!((0..5).map(is_answer).collect::<Vec<_>>(), [false, false, false, false, true]);
    let results = store.stats().get("results").cloned().expect("a part");
    assert_eq!(results.get("damaged").and_then(Value::as_i64), Some(2));
    assert_eq!(store.sweep_results().expect("swept"), 1);
}

#[test]
fn kept_answers_stay_within_their_bounds() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("skills.db").to_string_lossy().into_owned();
    let options = [("store.results.max_entries", "20"), ("store.results.max_mb", "1")];
    let store = open_with(&path, &options).expect("open");
    let stat = |name: &str| {
        let results = store.stats().get("results").cloned().expect("a part");
        results.get(name).and_then(Value::as_i64).expect(name)
    };
    let keep = |number: u8, size: usize| {
        store.keep_result(
            &Arc::from("a"),
            key(number),
            Some(answer(&"x".repeat(size)).encode().expect("small")),
            HOUR,
            epoch_of(&store),
        );
        store.writer().expect("it is written").settle(HOUR);
    };
    (0..50).for_each(|number| keep(number, 10));
    assert_eq!(stat("entries"), 20);
    assert!(
        store.find_result(&key(29), epoch_of(&store)).is_none()
            && store.find_result(&key(30), epoch_of(&store)).is_some(),
        "the oldest left"
    );
    (50..70).for_each(|number| keep(number, 100_000));
    assert!(stat("bytes") <= 1 << 20 && stat("entries") >= 9, "{} in {}", stat("bytes"), stat("entries"));
    keep(99, 200_000);
    assert_eq!(
        (store.find_result(&key(99), epoch_of(&store)), stat("refused")),
        (None, 1),
        "more than an eighth of all"
    );
    let (entries, bytes): (i64, i64) = Connection::open(&path)
        .and_then(|other| {
            other.query_row("SELECT count(*), sum(length(kept) + 256) FROM results", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
        })
        .expect("the truth");
    assert_eq!((entries, bytes), (stat("entries"), stat("bytes")));
}

#[test]
fn a_filter_means_the_same_in_sql_and_in_memory_and_pages_go_on_by_id() {
    let store = store();
    for number in 0..40 {
        let (category, tags) = (["a", "b"][number % 2], [r#"["x"]"#, r#"["x","y"]"#, "[]"][number % 3]);
        let fields = [("category", category), ("tags", tags), ("name", ["Alpha", "beta"][number / 20])];
        put(&store, &format!("s{number:02}"), "x", &fields);
        if number % 7 == 0 {
            store.set_state(&format!("s{number:02}"), "retired").expect("there");
        }
        (0..number % 4).for_each(|_| count(&store, &format!("s{number:02}"), Outcome::ALL[number % 2]));
    }
    let all = store.list(&Filter::default()).expect("a list");
    for text in [
        r#"{"category": "a", "tags": ["x", "y"]}"#,
        r#"{"active": false}"#,
        r#"{"state": "retired", "name": "ALPH"}"#,
        r#"{"min_success_rate": 0.5}"#,
        r#"{"min_usage_count": 2, "after": "s10"}"#,
        r#"{"name": "S1", "active": true}"#,
    ] {
        let filter = Value::parse(text).expect("JSON");
        let filter = Filter::read(filter.as_object().expect("an object")).expect("a filter");
        let expected: Vec<_> = all.iter().filter(|skill| filter.passes(skill)).cloned().collect();
        assert!(!expected.is_empty() && expected.len() < all.len(), "{text}");
        assert_eq!(store.list(&filter).expect("a list"), expected, "{text}");
    }
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = store.list(&Filter { after, limit: 7, ..Filter::default() }).expect("a page");
        let Some(last) = page.last() else { break };
        after = Some(last.id.clone());
        seen.extend(page);
    }
    assert_eq!(seen, all);
}

#[test]
fn embeddings_may_get_another_length_once_all_of_the_old_one_are_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("skills.db").to_string_lossy().into_owned();
    let (store, other) = (open(&path).expect("open"), open(&path).expect("open"));
    put(&store, "a", "x", &[("embedding", "[1, 0]")]);
    put(&store, "b", "x", &[("embedding", "[0, 1]")]);
    assert_eq!(ids(&other, r#"{"embedding": [1, 0]}"#), ["a", "b"]);
    for id in ["a", "b"] {
        put(&store, id, "x", &[("embedding", "[]")]);
    }
    put(&store, "b", "x", &[("embedding", "[0, 1, 0]")]);
    put(&store, "a", "x", &[("embedding", "[1, 0, 0]")]);
    assert_eq!(ids(&other, r#"{"embedding": [1, 0, 0]}"#), ["a", "b"]);
    other.remove("b").expect("there");
    put(&store, "a", "x", &[("embedding", "[1, 0, 0, 0]")]);
    assert_eq!(ids(&store, r#"{"embedding": [1, 0, 0, 0]}"#), ["a"], "the only one may change it in one step");
    assert_eq!(ids(&other, r#"{"embedding": [1, 0, 0, 0]}"#), ["a"]);
    store.remove("a").expect("there");
    assert_eq!(ids(&store, r#"{"embedding": [1]}"#), Vec::<String>::new(), "where there are none, any length fits");
}

#[test]
fn the_best_by_both_is_the_best_whatever_page_is_asked_for() {
    for precision in ["f32", "int8"] {
        let store = open_with(":memory:", &[("store.vectors", precision)]).expect("a store");
        for number in 0..300 {
            let vector = if number == 299 { "[0, 1]" } else { "[1, 0]" };
            put(&store, &format!("k{number:03}"), "x", &[("description", "common"), ("embedding", vector)]);
        }
        for limit in [1, 5, 300] {
            let query = format!(r#"{{"text": "common", "embedding": [0, 1], "limit": {limit}}}"#);
            let first = found(&store, &query).remove(0);
            assert_eq!(first.0, "k299", "{limit}");
            assert!((first.1 - 1.0).abs() < 1e-6, "{first:?}");
            let sure = format!(r#"{{"text": "common", "embedding": [0, 1], "limit": {limit}, "min_score": 0.9}}"#);
            assert_eq!(ids(&store, &sure), ["k299"]);
        }
    }
}

#[test]
fn words_of_any_script_are_found_and_too_many_are_refused() {
    let store = store();
    put(&store, "a", "x", &[("description", "el niño come una naïve crème brûlée")]);
    put(&store, "b", "x", &[("description", "天気 予報 を調べる")]);
    put(&store, "c", "x", &[("description", "прогноз погоды")]);
    for (text, id) in [
        ("NIÑO", "a"),
        ("nin\u{303}o", "a"),
        ("creme", "a"),
        ("bru\u{302}l", "a"),
        ("天気", "b"),
        ("予", "b"),
        ("ПРОГНОЗ", "c"),
        ("погод—", "c"),
        ("zzz—прогноз…", "c"),
        ("naïve，天", "a"),
    ] {
        let query = Query::words(text);
        let found: Vec<_> = store.search(&query).expect("a search").into_iter().map(|found| found.skill.id).collect();
        assert!(found.iter().any(|found| found == id), "{text}: {found:?}");
    }
    assert!(store.search(&Query::words(&"a—b…c".replace(['a', 'b', 'c'], "wörter").repeat(3))).is_ok());
    let joined: String = (0..65).map(|number| format!("w{number}—")).collect();
    assert!(store.search(&Query::words(&joined)).is_err(), "words are counted whatever is between them");
    assert_eq!(ids(&store, r#"{"text": "— … \u0301 ()"}"#).len(), 3, "no words at all");
    let many: Vec<String> = (0..65).map(|number| format!("w{number}")).collect();
    let error = store.search(&Query::words(&many.join(" "))).expect_err("too many");
    assert!(error.code() == Code::Invalid && error.message().contains("64 different words"), "{error}");
    assert!(store.search(&Query::words(&"niño ".repeat(10_000))).is_ok(), "the same one again is no other");
}

#[test]
fn an_answer_that_is_not_kept_takes_the_older_one_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("skills.db").to_string_lossy().into_owned();
    let store = open_with(&path, &[("store.results.max_mb", "1")]).expect("open");
    let keep = |text: &str| {
        store.keep_result(&Arc::from("a"), key(1), Some(answer(text).encode().expect("small")), HOUR, epoch_of(&store));
        store.writer().expect("it is written").settle(HOUR);
    };
    keep("old");
    keep(&"x".repeat(200_000));
    assert!(store.find_result(&key(1), epoch_of(&store)).is_none(), "the new one is too large, and the old one is old");
    keep("older");
    let other = Connection::open(&path).expect("the file");
    other
        .execute_batch("CREATE TRIGGER no BEFORE INSERT ON results BEGIN SELECT RAISE(ABORT, 'no'); END")
        .expect("a trigger");
    keep("newer");
    other.execute_batch("DROP TRIGGER no").expect("none");
    store.writer().expect("it is written").settle(HOUR);
    assert!(store.find_result(&key(1), epoch_of(&store)).is_none(), "the newer one could not be written");
}

#[test]
fn what_was_found_out_before_another_process_cleared_is_not_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("skills.db").to_string_lossy().into_owned();
    let (store, other) = (open(&path).expect("open"), open(&path).expect("open"));
    other.keep_result(&Arc::from("a"), key(1), Some(answer("before").encode().expect("small")), HOUR, epoch_of(&store));
    store.clear_results().expect("cleared");
    other.writer().expect("it is written").settle(HOUR);
    assert!(store.find_result(&key(1), epoch_of(&store)).is_none());
    other.keep_result(&Arc::from("a"), key(1), Some(answer("after").encode().expect("small")), HOUR, epoch_of(&store));
    other.writer().expect("it is written").settle(HOUR);
    assert_eq!(store.find_result(&key(1), epoch_of(&store)).expect("there").0, answer("after"));
}

#[test]
fn a_spoiled_row_stops_no_others_counts_and_old_failures_no_success() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("skills.db").to_string_lossy().into_owned();
    {
        let store = open(&path).expect("open");
        for id in ["a", "b"] {
            put(&store, id, "x", &[]);
        }
        (0..5).for_each(|_| count(&store, "b", Outcome::Error));
    }
    let store = open_with(&path, &[("store.quarantine_after", "3")]).expect("open");
    count(&store, "b", Outcome::InvalidInput);
    assert_eq!(state(&store, "b"), "active", "this call was no failure");
    Connection::open(&path)
        .and_then(|other| other.execute_batch("UPDATE skills SET failures = -1 WHERE id = 'a'"))
        .expect("spoiled");
    count(&store, "a", Outcome::Success);
    count(&store, "b", Outcome::Error);
    assert_eq!(state(&store, "b"), "quarantined", "its counts are written all the same");
}

#[test]
fn a_database_that_cannot_be_written_is_tried_now_and_then_and_told_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("skills.db").to_string_lossy().into_owned();
    let store = open(&path).expect("open");
    put(&store, "a", "x", &[]);
    let query_only = "PRAGMA query_only = ON";
    store.writer().expect("it is written").write(|own| own.execute_batch(query_only).map_err(translate)).expect("set");
    store.keep_result(
        &Arc::from("a"),
        key(1),
        Some(answer("1").encode().expect("small")),
        Duration::from_secs(60),
        epoch_of(&store),
    );
    store.count_use(&Arc::from("a"), 1, Outcome::Success, Verdict::Nothing);
    let begun = Instant::now();
    let writer = |name: &str| {
        let stats = store.writer().expect("it is written").stats();
        stats.get(name).and_then(Value::as_i64).expect(name)
    };
    until("it was never tried", || writer("failed_commits") > 0);
    std::thread::sleep(Duration::from_millis(500));
    // Counts and answers are tried anew a second later each.
    let (tries, seconds) = (writer("failed_commits"), begun.elapsed().as_secs() as i64);
    assert!(tries <= 2 + 2 * seconds, "{tries} times in {seconds} s");
    let events = store.behind.monitor.events().stats();
    assert_eq!(events.get("recorded").and_then(Value::as_i64), Some(1));
    assert_eq!(store.behind.usage.lag().calls, 1, "what was counted waits on");
}

#[test]
fn while_counts_are_written_nobody_can_say_where_they_are() {
    let store = open(":memory:").expect("open");
    put(&store, "a", "x", &[]);
    let (usage, connection) = (UsageLog::new(0), store.pool.get().expect("the only one"));
    let known = || (usage.lag().calls, usage.lag().settled);
    usage.count(&Arc::from("a"), 1, Outcome::Success, Verdict::Nothing);
    assert_eq!(known(), (1, Some(0)));
    usage.write(&connection).expect("written");
    assert_eq!(known(), (1, None), "in the database already, or not yet");
    usage.settle(true);
    assert_eq!(known(), (0, Some(1)));
}

#[test]
fn many_large_answers_are_written_in_parts_and_all_of_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("skills.db").to_string_lossy().into_owned();
    let store = open(&path).expect("open");
    for number in 0..20 {
        let large = answer(&"x".repeat(1 << 20)).encode().expect("small");
        store.keep_result(&Arc::from("a"), key(number), Some(large), HOUR, epoch_of(&store));
    }
    let results = |name: &str| {
        let stats = store.stats().get("results").cloned().expect("a part");
        stats.get(name).and_then(Value::as_i64).expect(name)
    };
    until("all of them", || results("entries") == 20 && results("waiting") == 0);
    assert_eq!(results("refused"), 0);
}

#[test]
fn closing_writes_all_that_waits_however_much() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("skills.db").to_string_lossy().into_owned();
    {
        let store = open(&path).expect("open");
        for number in 0..8 {
            let large = answer(&"x".repeat(3 << 20)).encode().expect("small");
            store.keep_result(&Arc::from("a"), key(number), Some(large), HOUR, 0);
        }
    }
    let store = open(&path).expect("open again");
    assert!((0..8).all(|number| store.find_result(&key(number), 0).is_some()));
}

#[test]
fn what_takes_the_transaction_along_takes_no_request_along() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("skills.db").to_string_lossy().into_owned();
    let store = open(&path).expect("open");
    put(&store, "a", "x", &[]);
    let other = Connection::open(&path).expect("the file");
    let trigger = "CREATE TRIGGER no BEFORE UPDATE OF usage_count ON skills BEGIN SELECT RAISE(ROLLBACK, 'no'); END";
    other.execute_batch(trigger).expect("a trigger");
    count(&store, "a", Outcome::Success);
    assert_eq!(put(&store, "b", "x", &[]), 1, "acknowledged, and there");
    assert_eq!(store.get("b", 0).expect("there").version(), 1);
    // The same with nothing but what waits: it is tried now and then, not again and again.
    store.keep_result(&Arc::from("a"), key(1), Some(answer("1").encode().expect("small")), HOUR, 0);
    store.clear_results().expect("cleared");
    let failed = || {
        let stats = store.writer().expect("it is written").stats();
        stats.get("failed_commits").and_then(Value::as_i64).expect("a number")
    };
    let (before, begun) = (failed(), Instant::now());
    std::thread::sleep(Duration::from_millis(300));
    let (tries, seconds) = (failed() - before, begun.elapsed().as_secs() as i64);
    assert!(tries <= 2 + 2 * seconds, "{tries} times in {seconds} s");
    other.execute_batch("DROP TRIGGER no").expect("none");
    until("the count waits on, and comes", || store.get("a", 0).expect("there").usage().usage_count == 1);
}

#[test]
fn spoiled_books_of_the_kept_answers_stop_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("skills.db").to_string_lossy().into_owned();
    let store = open(&path).expect("open");
    put(&store, "a", "x", &[]);
    Connection::open(&path).and_then(|other| other.execute_batch("DELETE FROM results_total")).expect("spoiled");
    let findings = store.check("full").expect("it is checked").findings;
    assert!(findings.iter().any(|finding| finding.kind == "results"), "{findings:?}");
    count(&store, "a", Outcome::Success);
    assert_eq!(store.get("a", 0).expect("there").usage().usage_count, 1);
    assert!(store.look("a", 0).is_ok() && open(&path).is_ok());
    let results = store.stats().get("results").cloned().expect("a part");
    assert_eq!(results.get("entries").and_then(Value::as_i64), Some(0), "nothing is counted");
    store.sweep_results().expect("swept");
    store.clear_results().expect("that makes them anew");
    assert_eq!(store.check("full").expect("it is checked").findings, []);
}

#[test]
fn pages_of_a_search_by_both_neither_repeat_nor_skip() {
    let store = store();
    for number in 0..30 {
        // Far away, all of them, and each a little farther than the one before.
        let vector = format!("[-1, 0.{number:02}1]");
        let text = if number < 3 { "word" } else { "other" };
        put(&store, &format!("s{number:02}"), "x", &[("description", text), ("embedding", &vector)]);
    }
    let page = |limit: u32, offset: u32| {
        ids(&store, &format!(r#"{{"text": "word", "embedding": [1, 0], "limit": {limit}, "offset": {offset}}}"#))
    };
    let all = page(30, 0);
    assert_eq!(all.len(), 30);
    let paged: Vec<_> = (0..6).flat_map(|number| page(5, 5 * number)).collect();
    assert_eq!(paged, all);
}

#[test]
fn answers_that_take_the_transaction_along_lose_no_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("skills.db").to_string_lossy().into_owned();
    let store = open(&path).expect("open");
    put(&store, "a", "x", &[]);
    let other = Connection::open(&path).expect("the file");
    let trigger = "CREATE TRIGGER no BEFORE INSERT ON results BEGIN SELECT RAISE(ROLLBACK, 'no'); END";
    other.execute_batch(trigger).expect("a trigger");
    count(&store, "a", Outcome::Success);
    store.keep_result(&Arc::from("a"), key(1), Some(answer("1").encode().expect("small")), HOUR, 0);
    store.writer().expect("it is written").settle(HOUR);
    assert_eq!(put(&store, "b", "x", &[]), 1);
    other.execute_batch("DROP TRIGGER no").expect("none");
    until("the count was lost", || store.get("a", 0).expect("there").usage().usage_count > 0);
    assert_eq!(store.get("a", 0).expect("there").usage().usage_count, 1);
}

#[test]
fn refused_answers_take_no_room_of_those_that_wait() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("skills.db").to_string_lossy().into_owned();
    let store = open_with(&path, &[("store.results.max_mb", "16")]).expect("open");
    let other = Connection::open(&path).expect("the file");
    // So that all of it waits.
    other.execute_batch("BEGIN IMMEDIATE").expect("the lock");
    let keep = |number: u8, size: usize| {
        let kept = answer(&"x".repeat(size)).encode().expect("small");
        store.keep_result(&Arc::from("a"), key(number), Some(kept), HOUR, 0);
    };
    for _ in 0..100 {
        keep(1, 1 << 20);
        keep(1, 3 << 20);
    }
    keep(2, 1 << 20);
    assert!(store.find_result(&key(2), 0).is_some(), "there is room for it");
    other.execute_batch("COMMIT").expect("free");
}

#[test]
fn numbers_can_be_had_of_a_pool_that_has_no_connection_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("skills.db");
    let store = open_with(
        path.to_str().expect("UTF-8"),
        &[("pool.size", "1"), ("pool.max_overflow", "0"), ("pool.timeout_ms", "50")],
    )
    .expect("open");
    put(&store, "a", "x", &[]);
    let borrowed = store.pool.get().expect("the only one");
    let stats = store.stats();
    assert_eq!((stats.get("status"), stats.get("skills")), (Some(&Value::from("ok")), Some(&Value::from(1i64))));
    assert_eq!(store.pool_stats().counts.exhaustions, 0, "who looks is none of them");
    drop(borrowed);
}

#[test]
fn a_database_that_does_not_answer_has_no_numbers_and_the_others_stay() {
    let store = open_with(":memory:", &[("pool.timeout_ms", "50")]).expect("open");
    put(&store, "a", "x", &[]);
    store.count_use(&Arc::from("a"), 1, Outcome::Success, Verdict::Nothing);
    let borrowed = store.pool.get().expect("the only one");
    let stats = store.stats();
    assert_eq!((stats.get("status"), stats.get("skills")), (Some(&Value::from("unavailable")), Some(&Value::Null)));
    assert_eq!(stats.get("usage_unwritten"), Some(&Value::from(1u64)));
    assert!(
        stats.get("message").and_then(Value::as_str).is_some_and(|message| message.contains("exhausted")),
        "{stats:?}"
    );
    let names = |stats: &Value| {
        stats.as_object().map(|members| members.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>())
    };
    drop(borrowed);
    assert_eq!(names(&stats), names(&store.stats()), "the same members");
}
