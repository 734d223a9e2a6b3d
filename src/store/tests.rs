use super::*;

fn store() -> Store {
    Store::open(":memory:", &Config::default()).expect("a store in memory")
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
    store.count_use("a", true).expect("counted");
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
    for success in [true, true, false] {
        store.count_use("a", success).expect("counted");
    }
    let skill = store.get("a", 0).expect("there");
    assert_eq!((skill.usage().usage_count, skill.usage().success_count), (3, 2));
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
        store.search(text, &with("active", "true")).expect("search").into_iter().map(|(s, _)| s.id).collect::<Vec<_>>()
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
    let open = |path: &str| Store::open(path, &Config::default()).map(|_| ()).map_err(|error| error.code());
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
        let store = Store::open(&path, &Config::default()).expect("open");
        put(&store, "a", "result = 'é'", &[("examples", r#"[{"x":1}]"#), ("ttl_s", "60")]);
        store.count_use("a", true).expect("counted");
        store.flush_usage().expect("written");
    }
    let store = Store::open(&path, &Config::default()).expect("open again");
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
    let store = Store::open(path.to_str().expect("UTF-8"), &Config::default()).expect("it opens");
    assert_eq!(store.search("alpha", &Filter::default()).expect("a search").len(), 1);
    assert_eq!(store.get("a", 0).expect("there").symbols, Value::Null);
    put(&store, "a", "result = 1", &[]);
    assert_eq!(store.search("bollinger", &Filter::default()).expect("a search").len(), 1);
}
