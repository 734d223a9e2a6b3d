//! A skill and its record: ids, fields, schemas.
//!
//! The record is a table ([`FIELDS`]): one row says a field's name, what it takes, its default, and whether it is
//! *content*. Content makes versions: putting changed content is a new version, putting other fields changes the record
//! in place. The store makes its columns from the same rows.

use crate::error::{Code, Error, Result, nearest};
use crate::json::{ParseError, Value};

/// The longest skill id, in characters.
pub const MAX_ID: usize = 128;
/// The largest source, in bytes.
pub const MAX_CODE: usize = 4 << 20;

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
    /// Whether changing it makes a new version.
    pub is_content: bool,
}

const fn content(name: &'static str, kind: FieldKind, default: &'static str) -> Field {
    Field { name, kind, default, is_content: true }
}

const fn profile(name: &'static str, kind: FieldKind, default: &'static str) -> Field {
    Field { name, kind, default, is_content: false }
}

/// The largest `ttl_s`: ten years.
const TEN_YEARS_S: i64 = 315_360_000;

/// Every field a caller can set. Names and defaults are the reference system's; the last five are ours.
pub const FIELDS: [Field; 20] = [
    content("language", FieldKind::Text, r#""python""#),
    content("input_schema", FieldKind::Schema, "null"),
    content("output_schema", FieldKind::Schema, "null"),
    content("parameters", FieldKind::OptionalObject, "null"),
    content("required_skills", FieldKind::Strings, "[]"),
    content("dependencies", FieldKind::Strings, "[]"),
    profile("name", FieldKind::Text, r#""""#),
    profile("description", FieldKind::Text, r#""""#),
    profile("category", FieldKind::Text, r#""general""#),
    profile("complexity", FieldKind::Choice(&["basic", "intermediate", "advanced", "expert"]), r#""basic""#),
    profile("performance_metrics", FieldKind::Object, "{}"),
    profile("tags", FieldKind::Strings, "[]"),
    profile("examples", FieldKind::Array, "[]"),
    profile("learned_from", FieldKind::OptionalText, "null"),
    profile("created_by", FieldKind::Text, r#""voyager""#),
    profile("is_active", FieldKind::Switch, "true"),
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
            (FieldKind::Array, Value::Array(_)) => true,
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
            FieldKind::Object => "a JSON object".to_owned(),
            FieldKind::OptionalObject => "a JSON object or null".to_owned(),
            FieldKind::Schema => "a JSON Schema (an object, true or false) or null".to_owned(),
        }
    }
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
    pub(crate) usage: Usage,
    /// What its code defines, imports and reads; `null` for a draft.
    pub(crate) symbols: Value,
    pub(crate) created_at: Option<String>,
    pub(crate) updated_at: Option<String>,
}

/// What is known of a skill's code beyond its text: for search, and for whoever chooses among skills.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outline {
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
            usage: Usage::default(),
            symbols: Value::Null,
            created_at: None,
            updated_at: None,
        }
    }

    /// Sets a field from text: plain text for texts and choices, JSON text for everything else.
    ///
    /// Besides [`FIELDS`] there is `expected_version` (0: the skill must not be there yet): a put fails with
    /// [`Code::Conflict`] when it is not the newest version. `timeout_ms` and `max_memory_mb` set members of `limits`.
    pub fn set(&mut self, field: &str, text: &str) -> Result<()> {
        match field {
            "expected_version" => {
                let number = text.trim().parse();
                self.expected_version =
                    Some(number.map_err(|_| Error::invalid("`expected_version` takes a version number, 0 for none"))?);
            }
            "timeout_ms" | "max_memory_mb" => self.set_limit(field, text)?,
            _ => {
                let row = FIELDS.iter().position(|row| row.name == field).ok_or_else(|| unknown_field(field))?;
                let value = FIELDS[row].read(text)?;
                if field == "limits" {
                    check_limits(&value)?;
                }
                self.fields[row] = Some(value);
            }
        }
        Ok(())
    }

    fn set_limit(&mut self, name: &str, text: &str) -> Result<()> {
        let value = Value::parse(text).ok().filter(|value| value.as_i64().is_some() || *value == Value::Null);
        let value = value.ok_or_else(|| Error::invalid(format!("`{name}` takes a whole number or null")).path(name))?;
        let mut limits = self.field("limits").as_object().unwrap_or_default().to_vec();
        limits.retain(|(key, _)| key != name);
        if value != Value::Null {
            limits.push((name.to_owned(), value));
        }
        self.set("limits", &Value::Object(limits).to_text())
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

    /// A field's value, or its default. `name` falls back to the id. Unknown names are `null`.
    pub fn field(&self, name: &str) -> Value {
        let Some(row) = FIELDS.iter().position(|row| row.name == name) else { return Value::Null };
        let value = self.fields[row].clone().unwrap_or_else(|| FIELDS[row].default_value());
        match value.as_str() {
            Some("") if name == "name" => Value::from(self.id.as_str()),
            _ => value,
        }
    }

    pub(crate) fn text_field(&self, name: &str) -> String {
        self.field(name).as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn string_list(&self, name: &str) -> Vec<String> {
        let value = self.field(name);
        value.as_array().unwrap_or_default().iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
    }

    pub(crate) fn limit(&self, name: &str) -> Option<u64> {
        self.field("limits").get(name)?.as_i64()?.try_into().ok()
    }

    /// The whole record as a JSON value, with the code unless `with_code` is false.
    pub fn to_value(&self, with_code: bool) -> Value {
        let mut record = vec![("id", Value::from(self.id.as_str())), ("version", Value::from(self.version))];
        if with_code {
            record.push(("code", Value::from(self.code.as_str())));
        }
        record.extend(FIELDS.iter().map(|row| (row.name, self.field(row.name))));
        record.extend(["timeout_ms", "max_memory_mb"].map(|name| (name, Value::from(self.limit(name)))));
        record.push(("symbols", self.symbols.clone()));
        record.extend([
            ("usage_count", Value::from(self.usage.usage_count)),
            ("success_count", Value::from(self.usage.success_count)),
            ("last_used", Value::from(self.usage.last_used.as_deref())),
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
    let own = ["expected_version", "timeout_ms", "max_memory_mb"];
    let meant = nearest(name, FIELDS.iter().map(|row| row.name).chain(own));
    let hint = meant.map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
    Error::invalid(format!("a skill has no field `{name}` that can be set{hint}")).path(name).suggestion(meant)
}

fn check_limits(limits: &Value) -> Result<()> {
    for (name, value) in limits.as_object().unwrap_or_default() {
        let range = match name.as_str() {
            "timeout_ms" => 1..=86_400_000,
            "max_memory_mb" => 32..=1_048_576,
            _ => {
                return Err(Error::invalid(format!(
                    "`limits` has no member `{name}`; it takes timeout_ms, max_memory_mb"
                )));
            }
        };
        if !value.as_i64().is_some_and(|number| range.contains(&number)) {
            let (min, max) = range.into_inner();
            let message = format!("`{name}` takes a whole number from {min} to {max}, not {}", shown(value));
            return Err(Error::invalid(message).path(name.as_str()));
        }
    }
    Ok(())
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
        assert_eq!((skill.limit("timeout_ms"), skill.limit("max_memory_mb")), (Some(5), Some(64)));
        assert_eq!(skill.field("name"), Value::from("a"));
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
