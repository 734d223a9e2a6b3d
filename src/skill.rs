//! A skill and its record: ids, fields, schemas.
//!
//! The record is a table ([`FIELDS`]): one row says a field's name, what it takes, its default, and its [`Place`].
//! *Content* makes versions: putting changed content is a new version. *Provenance* says where a version comes from and stays
//! with it. The rest, the *profile*, changes in place. The store makes its columns from the same rows.

use crate::error::{Code, Error, Result, hint, nearest};
use crate::json::{ParseError, Value};
use crate::limits::RunLimits;
use crate::outcome::Outcome;

/// The longest skill id, in characters.
pub const MAX_ID: usize = 128;
/// The largest source, in bytes.
pub const MAX_CODE: usize = 4 << 20;
/// The most numbers an embedding may have.
pub const MAX_DIMENSION: usize = 16_384;

/// What a field takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// Text.
    Text,
    /// Text, or nothing.
    OptionalText,
    /// `true` or `false`.
    Switch,
    /// A whole number within bounds, or nothing.
    Integer {
        /// The smallest.
        min: i64,
        /// The largest.
        max: i64,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A JSON array of strings.
    Strings,
    /// A JSON array.
    Array,
    /// A JSON array of numbers, or nothing.
    Numbers,
    /// A JSON object.
    Object,
    /// A JSON object, or nothing.
    OptionalObject,
    /// A JSON Schema (an object or a boolean), or nothing.
    Schema,
}

/// One field of the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its name, in `set`, in JSON and as database column.
    pub name: &'static str,
    /// What it takes.
    pub kind: FieldKind,
    /// Its default as JSON text.
    pub default: &'static str,
    /// What it belongs to.
    pub place: Place,
}

/// What a field belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The version: changing it makes a new one.
    Content,
    /// The version too, but changing it makes no new one.
    Provenance,
    /// The skill, whatever its version.
    Profile,
}

const fn content(name: &'static str, kind: FieldKind, default: &'static str) -> Field {
    Field { name, kind, default, place: Place::Content }
}

const fn provenance(name: &'static str) -> Field {
    Field { name, kind: FieldKind::OptionalText, default: "null", place: Place::Provenance }
}

const fn profile(name: &'static str, kind: FieldKind, default: &'static str) -> Field {
    Field { name, kind, default, place: Place::Profile }
}

/// What a skill may be: run and found, set aside after failures, put away. The first is the default.
pub const STATES: [&str; 3] = ["active", "quarantined", "retired"];

/// The largest `ttl_s`: ten years.
const TEN_YEARS_S: i64 = 315_360_000;

/// Every field a caller can set. Names and defaults are the reference system's; provenance and the last six are ours.
///
/// Besides these there are `is_active`, the reference's name for a `state` of `active` (`false` sets `retired`), and `embedding`.
pub const FIELDS: [Field; 25] = [
    content("language", FieldKind::Text, r#""python""#),
    content("input_schema", FieldKind::Schema, "null"),
    content("output_schema", FieldKind::Schema, "null"),
    content("parameters", FieldKind::OptionalObject, "null"),
    content("required_skills", FieldKind::Strings, "[]"),
    content("dependencies", FieldKind::Strings, "[]"),
    provenance("origin"),
    provenance("author"),
    provenance("model"),
    provenance("parent"),
    profile("name", FieldKind::Text, r#""""#),
    profile("description", FieldKind::Text, r#""""#),
    profile("category", FieldKind::Text, r#""general""#),
    profile("complexity", FieldKind::Choice(&["basic", "intermediate", "advanced", "expert"]), r#""basic""#),
    profile("performance_metrics", FieldKind::Object, "{}"),
    profile("tags", FieldKind::Strings, "[]"),
    profile("examples", FieldKind::Array, "[]"),
    profile("learned_from", FieldKind::OptionalText, "null"),
    profile("created_by", FieldKind::Text, r#""voyager""#),
    profile("instructions", FieldKind::OptionalText, "null"),
    profile("state", FieldKind::Choice(&STATES), r#""active""#),
    profile("cache", FieldKind::Choice(&["auto", "yes", "no"]), r#""auto""#),
    profile("key_order", FieldKind::Choice(&["keep", "ignore"]), r#""keep""#),
    profile("ttl_s", FieldKind::Integer { min: 0, max: TEN_YEARS_S }, "null"),
    profile("limits", FieldKind::OptionalObject, "null"),
];

impl Field {
    /// The row of that name.
    pub fn named(name: &str) -> Option<&'static Field> {
        FIELDS.iter().find(|field| field.name == name)
    }

    /// Whether values of this field are set and stored as plain text rather than as JSON text.
    pub fn is_text(&self) -> bool {
        matches!(self.kind, FieldKind::Text | FieldKind::OptionalText | FieldKind::Choice(_))
    }

    /// The default.
    pub fn default_value(&self) -> Value {
        Value::parse(self.default).expect("the table's own defaults are JSON: tests::defaults_are_allowed")
    }

    fn read(&self, text: &str) -> Result<Value> {
        if self.is_text() {
            return self.check(Value::from(text));
        }
        let value = Value::parse(text).map_err(|error| {
            let ParseError { message, path, line, column } = error;
            let place = format!("`{}` is not the JSON it should be: {message} at {path}", self.name);
            Error::invalid(format!("{place} (line {line}, column {column}); it takes {}", self.range()))
                .at(line, column)
                .path(path)
        })?;
        self.check(value)
    }

    fn check(&self, value: Value) -> Result<Value> {
        let strings = |items: &[Value]| items.iter().all(|item| item.as_str().is_some());
        let allowed = match (self.kind, &value) {
            (FieldKind::Text | FieldKind::OptionalText, Value::String(_)) => true,
            (FieldKind::OptionalText, Value::Null) => true,
            (FieldKind::Switch, Value::Bool(_)) => true,
            (FieldKind::Integer { min, max }, Value::Number(_)) => {
                value.as_i64().is_some_and(|number| (min..=max).contains(&number))
            }
            (FieldKind::Choice(words), Value::String(word)) => words.contains(&word.as_str()),
            (FieldKind::Strings, Value::Array(items)) => strings(items),
            (FieldKind::Array | FieldKind::Numbers, Value::Array(_)) | (FieldKind::Numbers, Value::Null) => true,
            (FieldKind::Object | FieldKind::OptionalObject, Value::Object(_)) => true,
            (FieldKind::Schema, Value::Object(_) | Value::Bool(_)) => true,
            (FieldKind::Integer { .. } | FieldKind::OptionalObject | FieldKind::Schema, Value::Null) => true,
            _ => false,
        };
        if allowed {
            return Ok(value);
        }
        Err(Error::invalid(format!("`{}` takes {}, not {}", self.name, self.range(), shown(&value))).path(self.name))
    }

    fn range(&self) -> String {
        match self.kind {
            FieldKind::Text => "text".to_owned(),
            FieldKind::OptionalText => "text or null".to_owned(),
            FieldKind::Switch => "true or false".to_owned(),
            FieldKind::Integer { min, max } => format!("a whole number from {min} to {max}, or null"),
            FieldKind::Choice(words) => format!("one of: {}", words.join(", ")),
            FieldKind::Strings => "a JSON array of strings".to_owned(),
            FieldKind::Array => "a JSON array".to_owned(),
            FieldKind::Numbers => "a JSON array of numbers, or null".to_owned(),
            FieldKind::Object => "a JSON object".to_owned(),
            FieldKind::OptionalObject => "a JSON object or null".to_owned(),
            FieldKind::Schema => "a JSON Schema (an object, true or false) or null".to_owned(),
        }
    }
}

const IS_ACTIVE: Field = profile("is_active", FieldKind::Switch, "true");
const EMBEDDING: Field = profile("embedding", FieldKind::Numbers, "null");

/// Reads an embedding; nothing stands for none.
pub(crate) fn read_embedding(value: &Value) -> Result<Vec<f32>> {
    let refuse = |message: String| Err(Error::invalid(message).path(EMBEDDING.name));
    let numbers = value.as_array().unwrap_or_default();
    if numbers.len() > MAX_DIMENSION {
        return refuse(format!("an embedding has at most {MAX_DIMENSION} numbers; this one has {}", numbers.len()));
    }
    let mut vector = Vec::with_capacity(numbers.len());
    for (index, number) in numbers.iter().enumerate() {
        let single = number.as_f64().map(|number| number as f32).filter(|number| number.is_finite());
        let Some(single) = single else {
            return refuse(format!("embedding[{index}] is {}, which is no number of 32 bits", shown(number)));
        };
        vector.push(single);
    }
    if vector.is_empty() || has_direction(&vector) {
        return Ok(vector);
    }
    refuse("an embedding has a direction; all numbers of this one are 0".to_owned())
}

/// Whether numbers can be compared with others by their cosine: 1 to [`MAX_DIMENSION`] finite ones, not all of them 0.
pub fn has_direction(vector: &[f32]) -> bool {
    (1..=MAX_DIMENSION).contains(&vector.len())
        && vector.iter().all(|number| number.is_finite())
        && vector.iter().any(|&number| number != 0.0)
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(_) | Value::Number(_) | Value::Bool(_) if value.to_text().len() <= 60 => {
            format!("{} {}", value.kind(), value.to_text())
        }
        other => other.kind().to_owned(),
    }
}

/// A skill: a draft to be put, or a version as it is stored.
///
/// A draft is not checked before it is put. Fields of a draft that were not set have their defaults if they are
/// content; the others keep what is stored when the skill is there already.
#[derive(Debug, Clone, PartialEq)]
pub struct Skill {
    pub(crate) id: String,
    pub(crate) code: String,
    pub(crate) version: u32,
    pub(crate) expected_version: Option<u32>,
    pub(crate) fields: [Option<Value>; FIELDS.len()],
    /// Of a draft: what it is found by beside words; empty: nothing from now on; `None`: what is stored stays. Not read with
    /// records: it is long, and nobody needs it to run a skill.
    pub(crate) embedding: Option<Vec<f32>>,
    pub(crate) usage: Usage,
    /// What its code defines, imports and reads, as JSON text; nothing for a draft.
    pub(crate) symbols: Option<String>,
    pub(crate) created_at: Option<String>,
    pub(crate) updated_at: Option<String>,
}

/// What is known of a skill's code beyond its text: for search, and for whoever chooses among skills.
#[derive(Debug, Clone, PartialEq)]
#[doc(hidden)]
pub struct Outline {
    /// What it defines, imports and reads.
    pub symbols: Value,
    /// The words it is found by.
    pub words: String,
}

/// How often a skill was called. A call answered from memory counts like one that ran.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Usage {
    /// Calls that ended in an outcome.
    pub usage_count: u64,
    /// Those that ended in success.
    pub success_count: u64,
    /// When the last one ended (RFC 3339, UTC).
    pub last_used: Option<String>,
    /// How the calls of this version ended; of a record that was asked for by id.
    pub outcomes: Vec<(Outcome, u64)>,
}

impl Skill {
    /// A draft.
    pub fn new(id: impl Into<String>, code: impl Into<String>) -> Self {
        Skill {
            id: id.into(),
            code: code.into(),
            version: 0,
            expected_version: None,
            fields: [const { None }; FIELDS.len()],
            embedding: None,
            usage: Usage::default(),
            symbols: None,
            created_at: None,
            updated_at: None,
        }
    }

    /// Sets a field from text: plain text for texts and choices, JSON text for everything else.
    ///
    /// Besides [`FIELDS`] there is `expected_version` (0: the skill must not be there yet): a put fails with
    /// [`Code::Conflict`] when it is not the newest version. The names of [`RunLimits`] set members of `limits`. `embedding`
    /// takes a JSON array of up to [`MAX_DIMENSION`] numbers, not all of them 0; `[]` and `null` take a stored one away. All
    /// embeddings of a library have the same length.
    pub fn set(&mut self, field: &str, text: &str) -> Result<()> {
        match field {
            "expected_version" => {
                let number = text.trim().parse();
                self.expected_version =
                    Some(number.map_err(|_| Error::invalid("`expected_version` takes a version number, 0 for none"))?);
            }
            "is_active" => {
                let is_active = IS_ACTIVE.read(text)? == Value::Bool(true);
                self.set("state", if is_active { "active" } else { "retired" })?;
            }
            "embedding" => self.embedding = Some(read_embedding(&EMBEDDING.read(text)?)?),
            _ if RunLimits::NAMES.contains(&field) => self.set_limit(field, text)?,
            _ => {
                let row = FIELDS.iter().position(|row| row.name == field).ok_or_else(|| unknown_field(field))?;
                let value = FIELDS[row].read(text)?;
                self.fields[row] = Some(match value.as_object().filter(|_| field == "limits") {
                    Some(members) => RunLimits::read(members, field)?.to_value(),
                    None => value,
                });
            }
        }
        Ok(())
    }

    fn set_limit(&mut self, name: &str, text: &str) -> Result<()> {
        let mut limits = self.limits();
        limits.set(name, &Value::parse(text).unwrap_or_else(|_| Value::from(text)), name)?;
        self.set("limits", &limits.to_value().to_text())
    }

    /// Takes back what a draft sets, so that what is stored stays.
    pub(crate) fn keep_stored(&mut self, field: &str) {
        if let Some(row) = FIELDS.iter().position(|row| row.name == field) {
            self.fields[row] = None;
        }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its source, exactly as it was put.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Its version; 0 for a draft.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Its usage counters, those of all versions together.
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// A field's value, or its default. `name` falls back to the id. Unknown names, and `embedding`, are `null`.
    pub fn field(&self, name: &str) -> Value {
        if name == IS_ACTIVE.name {
            return Value::from(self.is_active());
        }
        let Some(row) = FIELDS.iter().position(|row| row.name == name) else { return Value::Null };
        let value = self.fields[row].clone().unwrap_or_else(|| FIELDS[row].default_value());
        match value.as_str() {
            Some("") if name == "name" => Value::from(self.id.as_str()),
            _ => value,
        }
    }

    /// Whether its state is `active`.
    pub fn is_active(&self) -> bool {
        self.text_field("state") == STATES[0]
    }

    pub(crate) fn text_field(&self, name: &str) -> String {
        self.field(name).as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn string_list(&self, name: &str) -> Vec<String> {
        let value = self.field(name);
        value.as_array().unwrap_or_default().iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
    }

    /// What makes a version: the hash of the code and every content field, length-prefixed.
    pub(crate) fn content_hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        let content = FIELDS.iter().filter(|field| field.place == Place::Content);
        let content = content.map(|field| self.field(field.name).to_text());
        for part in std::iter::once(self.code.clone()).chain(content) {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        *hasher.finalize().as_bytes()
    }

    /// Its own limits.
    pub fn limits(&self) -> RunLimits {
        RunLimits::of_stored(&self.field("limits"))
    }

    /// The whole record as a JSON value, with the code unless `with_code` is false.
    pub fn to_value(&self, with_code: bool) -> Value {
        let mut record = vec![("id", Value::from(self.id.as_str())), ("version", Value::from(self.version))];
        if with_code {
            record.push(("code", Value::from(self.code.as_str())));
        }
        record.extend(FIELDS.iter().map(|row| (row.name, self.field(row.name))));
        let limits = self.limits();
        record.extend(RunLimits::NAMES.iter().map(|name| (*name, Value::from(limits.get(name)))));
        record.push((IS_ACTIVE.name, Value::from(self.is_active())));
        let symbols = self.symbols.as_deref().and_then(|text| Value::parse(text).ok());
        record.push(("symbols", symbols.unwrap_or(Value::Null)));
        record.extend([
            ("usage_count", Value::from(self.usage.usage_count)),
            ("success_count", Value::from(self.usage.success_count)),
            ("last_used", Value::from(self.usage.last_used.as_deref())),
            (
                "outcomes",
                Value::object(self.usage.outcomes.iter().map(|(outcome, count)| (outcome.name(), Value::from(*count)))),
            ),
            ("created_at", Value::from(self.created_at.as_deref())),
            ("updated_at", Value::from(self.updated_at.as_deref())),
        ]);
        Value::object(record)
    }

    /// Checks everything about a draft that needs neither database nor interpreter.
    pub(crate) fn check(&self) -> Result<()> {
        check_id(&self.id)?;
        if self.code.len() > MAX_CODE {
            let size = self.code.len();
            return Err(Error::validation(format!("the code has {size} bytes; at most {MAX_CODE} are allowed")));
        }
        let language = self.text_field("language");
        if language != "python" {
            let message = format!("skills in `{language}` are not run here; `language` must be `python`");
            return Err(Error::new(Code::Unsupported, message).path("language"));
        }
        for name in ["input_schema", "output_schema"] {
            Schema::compile(name, &self.field(name))?;
        }
        Ok(())
    }
}

fn unknown_field(name: &str) -> Error {
    let own = RunLimits::NAMES.iter().copied().chain(["expected_version", IS_ACTIVE.name, EMBEDDING.name]);
    let meant = nearest(name, FIELDS.iter().map(|row| row.name).chain(own));
    let hint = hint(meant, String::new);
    Error::invalid(format!("a skill has no field `{name}` that can be set{hint}")).path(name).suggestion(meant)
}

/// Refuses every id but 1 to 128 ASCII letters, digits, `_`, `-`, `.` and `:`.
pub fn check_id(id: &str) -> Result<()> {
    let rule = "a skill id has 1 to 128 characters out of letters (A-Z, a-z), digits, `_`, `-`, `.` and `:`";
    let length = id.chars().count();
    if length == 0 || length > MAX_ID {
        return Err(Error::invalid(format!("{rule}; this one has {length}")).path("id"));
    }
    let bad = id.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':')));
    bad.map_or(Ok(()), |c| Err(Error::invalid(format!("{rule}; {c:?} is none of them")).path("id")))
}

/// A compiled JSON Schema.
#[derive(Debug)]
pub(crate) struct Schema(jsonschema::Validator);

/// Where a value breaks its schema.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Violation {
    /// `$.prices[3]`-like, below the checked value.
    pub path: String,
    /// The keyword: `required`, `type` ...
    pub rule: String,
    /// A sentence.
    pub message: String,
}

impl Schema {
    /// Compiles `schema`; `None` for `null`. References to other documents are refused: nothing is fetched.
    pub(crate) fn compile(field: &str, schema: &Value) -> Result<Option<Self>> {
        if *schema == Value::Null {
            return Ok(None);
        }
        let compiled = jsonschema::options().offline().build(&schema.to_serde());
        let validator = compiled.map_err(|error| {
            let path = error.instance_path().to_string();
            let place = if path.is_empty() { String::new() } else { format!(" at {path}") };
            Error::validation(format!("`{field}` is not a JSON Schema{place}: {error}"))
                .path(format!("{field}{path}"))
                .rule(error.kind().keyword().to_owned())
        })?;
        Ok(Some(Schema(validator)))
    }

    /// Checks a value; says the first violation.
    pub(crate) fn check(&self, value: &Value) -> Result<(), Violation> {
        let instance = value.to_serde();
        self.0.validate(&instance).map_err(|error| Violation {
            path: json_path(error.instance_path().as_str()),
            rule: error.kind().keyword().to_owned(),
            message: brief(error.to_string()),
        })
    }
}

/// `/prices/3` as `$.prices[3]`.
fn json_path(pointer: &str) -> String {
    let segments = pointer.split('/').skip(1).map(|segment| segment.replace("~1", "/").replace("~0", "~"));
    segments.fold("$".to_owned(), |path, segment| {
        if segment.bytes().all(|byte| byte.is_ascii_digit()) {
            format!("{path}[{segment}]")
        } else {
            format!("{path}.{segment}")
        }
    })
}

/// A violation quotes the offending value, which may be megabytes.
fn brief(message: String) -> String {
    const LONGEST: usize = 400;
    if message.chars().count() <= LONGEST {
        return message;
    }
    // What is told of it is masked: half a secret would not be seen to be one.
    let message = crate::monitor::secret::mask_text(&message).into_owned();
    let (head, tail): (String, Vec<char>) = (message.chars().take(LONGEST / 2).collect(), message.chars().collect());
    let tail: String = tail[tail.len() - LONGEST / 2..].iter().collect();
    format!("{head} ... {tail}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_allowed() {
        for row in FIELDS {
            assert_eq!(row.check(row.default_value()).as_ref(), Ok(&row.default_value()), "{}", row.name);
        }
    }

    #[test]
    fn ids_are_never_paths() {
        for good in ["a", "rsi-14_v.2:x", &"x".repeat(128), "..", "0"] {
            assert_eq!(check_id(good), Ok(()), "{good}");
        }
        for bad in ["", "a b", "../x", "a/b", "ä", "a\0", "a\n", &"x".repeat(129)] {
            assert_eq!(check_id(bad).expect_err(bad).code(), Code::Invalid);
        }
    }

    #[test]
    fn fields_are_checked_and_named() {
        let mut skill = Skill::new("a", "result = 1");
        for (field, text, part) in [
            ("tags", "[1]", "array of strings"),
            ("tags", "[", "line 1"),
            ("cache", "maybe", "auto, yes, no"),
            ("is_active", "1", "true or false"),
            ("ttl_s", "-1", "from 0"),
            ("timeout_ms", "0", "from 1"),
            ("max_memory_mb", "\"x\"", "whole number"),
            ("max_cpu_s", "0", "`max_cpu_s` cannot be 0: it takes a whole number from 1 to 86400 (s)"),
            ("max_cpu_s", "soon", "whole number"),
            ("limits", r#"{"max_open_files":15}"#, "`limits.max_open_files` cannot be 15"),
            ("max_cpu", "1", "did you mean `max_cpu_s`"),
            ("input_schema", "3", "JSON Schema"),
            ("descripton", "x", "did you mean `description`"),
            ("limits", r#"{"cpu":1}"#, "no member `cpu`"),
            ("expected_version", "new", "version number"),
        ] {
            let error = skill.set(field, text).expect_err(field);
            assert!(error.message().contains(part), "{error}");
        }
        skill.set("timeout_ms", "5").expect("limit");
        skill.set("max_memory_mb", "64").expect("limit");
        skill.set("max_output_kb", "0").expect("limit");
        skill.set("max_cpu_s", "7").expect("limit");
        skill.set("max_cpu_s", "null").expect("limit");
        assert_eq!(skill.field("limits").to_text(), r#"{"timeout_ms":5,"max_memory_mb":64,"max_output_kb":0}"#);
        skill.set("limits", r#"{"max_threads":3,"timeout_ms":null}"#).expect("limits");
        let limits = RunLimits { max_threads: Some(3), ..RunLimits::default() };
        assert_eq!(skill.limits(), limits, "an object stands for all limits");
        skill.set("limits", "{}").expect("limits");
        assert_eq!(skill.field("limits"), Value::Null);
        assert_eq!(skill.field("name"), Value::from("a"));
    }

    #[test]
    fn embeddings_are_numbers_with_a_direction() {
        let mut skill = Skill::new("a", "result = 1");
        let long = format!("[{}1]", "1,".repeat(MAX_DIMENSION));
        for (text, part) in [
            (long.as_str(), "at most 16384 numbers; this one has 16385"),
            ("[1, 3.5e38]", "embedding[1] is a float 3.5e38, which is no number of 32 bits"),
            ("[true]", "embedding[0]"),
            ("[0, -0.0, 1e-50]", "all numbers of this one are 0"),
            ("{}", "array of numbers"),
        ] {
            let error = skill.set("embedding", text).expect_err(part);
            assert!(error.message().contains(part), "{error}");
        }
        for (text, vector) in [("[1, -3.4e38, 1e-50]", vec![1.0, -3.4e38, 0.0]), ("[]", vec![]), ("null", vec![])] {
            skill.set("embedding", text).expect("an embedding");
            assert_eq!(skill.embedding, Some(vector));
        }
    }

    #[test]
    fn schemas_name_path_and_rule() {
        let schema =
            Value::parse(r#"{"properties":{"p":{"type":"array","items":{"type":"integer"}}},"required":["p"]}"#);
        let schema = Schema::compile("input_schema", &schema.expect("json")).expect("valid").expect("some");
        let violation = schema.check(&Value::parse(r#"{"p":[1,"x"]}"#).expect("json")).expect_err("type");
        assert_eq!((violation.path.as_str(), violation.rule.as_str()), ("$.p[1]", "type"));
        let violation = schema.check(&Value::Object(vec![])).expect_err("required");
        assert_eq!((violation.path.as_str(), violation.rule.as_str()), ("$", "required"));
        let huge = Value::parse(&format!("{{\"p\":[{}]}}", "9".repeat(50))).expect("json");
        assert!(schema.check(&huge).is_ok(), "an integer of any size is an integer");
        let bad = Value::parse(r#"{"type":"integr"}"#).expect("json");
        assert_eq!(Schema::compile("input_schema", &bad).err().map(|error| error.code()), Some(Code::Validation));
        let remote = Value::parse(r#"{"$ref":"https://example.org/schema.json"}"#).expect("json");
        assert_eq!(Schema::compile("input_schema", &remote).err().map(|error| error.code()), Some(Code::Validation));
    }
}
