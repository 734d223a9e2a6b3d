//! Finding skills: by filter and by words.

use rusqlite::types::Value as Sql;

use super::sqlite::translate;
use super::{COLUMNS, Store, read_skill};
use crate::error::{Error, Result, nearest};
use crate::json::Value;
use crate::skill::Skill;

/// What to list.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// Exactly this category.
    pub category: Option<String>,
    /// Exactly this complexity.
    pub complexity: Option<String>,
    /// All of these tags.
    pub tags: Vec<String>,
    /// Part of the name or the id, whatever its case.
    pub name: Option<String>,
    /// Active skills only, or inactive ones only.
    pub active: Option<bool>,
    /// At most so many.
    pub limit: u32,
    /// After so many.
    pub offset: u32,
}

impl Default for Filter {
    fn default() -> Self {
        let (category, complexity, name, active) = (None, None, None, None);
        Filter { category, complexity, tags: Vec::new(), name, active, limit: u32::MAX, offset: 0 }
    }
}

impl Filter {
    /// Reads `{"category", "complexity", "tags", "name", "active", "limit", "offset"}`, all optional.
    pub fn read(members: &[(String, Value)]) -> Result<Self> {
        let mut filter = Filter::default();
        for (name, value) in members {
            filter.set(name, value)?;
        }
        Ok(filter)
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<()> {
        let text = || value.as_str().map(str::to_owned).ok_or_else(|| wrong(name, "text", value));
        let count = || {
            let number = value.as_i64().and_then(|number| u32::try_from(number).ok());
            number.ok_or_else(|| wrong(name, "a whole number from 0", value))
        };
        match name {
            _ if *value == Value::Null => {}
            "category" => self.category = Some(text()?),
            "complexity" => self.complexity = Some(text()?),
            "name" => self.name = Some(text()?),
            "active" => self.active = Some(value.as_bool().ok_or_else(|| wrong(name, "true or false", value))?),
            "limit" => self.limit = count()?,
            "offset" => self.offset = count()?,
            "tags" => {
                let tags: Option<Vec<String>> = value
                    .as_array()
                    .map(|tags| tags.iter().filter_map(|tag| tag.as_str().map(str::to_owned)).collect());
                let is_whole = |tags: &Vec<String>| value.as_array().is_some_and(|all| all.len() == tags.len());
                self.tags = tags.filter(is_whole).ok_or_else(|| wrong(name, "an array of strings", value))?;
            }
            _ => {
                let known = ["category", "complexity", "tags", "name", "active", "limit", "offset", "text"];
                let meant = nearest(name, known);
                let hint = meant.map_or_else(String::new, |meant| format!("; did you mean `{meant}`?"));
                return Err(Error::invalid(format!("a filter has no member `{name}`{hint}"))
                    .path(name)
                    .suggestion(meant));
            }
        }
        Ok(())
    }

    /// The SQL condition and its parameters.
    fn condition(&self) -> (String, Vec<Sql>) {
        let mut condition = String::from("s.newest > s.removed_through");
        let mut parameters = Vec::new();
        let mut add = |sql: &str, parameter: Sql| {
            condition.push_str(" AND ");
            condition.push_str(sql);
            parameters.push(parameter);
        };
        if let Some(category) = &self.category {
            add("s.category = ?", Sql::from(category.clone()));
        }
        if let Some(complexity) = &self.complexity {
            add("s.complexity = ?", Sql::from(complexity.clone()));
        }
        if let Some(active) = self.active {
            add("s.is_active = ?", Sql::from(active.to_string()));
        }
        if let Some(name) = &self.name {
            add("instr(lower(s.id || char(10) || s.name), lower(?)) > 0", Sql::from(name.clone()));
        }
        for tag in &self.tags {
            add("EXISTS (SELECT 1 FROM json_each(s.tags) WHERE value = ?)", Sql::from(tag.clone()));
        }
        (condition, parameters)
    }
}

fn wrong(name: &str, takes: &str, value: &Value) -> Error {
    Error::invalid(format!("`{name}` takes {takes}, not {}", value.kind())).path(name)
}

impl Store {
    /// The newest versions that pass the filter, by id.
    pub fn list(&self, filter: &Filter) -> Result<Vec<Skill>> {
        self.flush_usage()?;
        let (condition, mut parameters) = filter.condition();
        parameters.extend([Sql::from(i64::from(filter.limit)), Sql::from(i64::from(filter.offset))]);
        let sql = format!(
            "SELECT {COLUMNS} FROM skills s JOIN versions v ON v.skill = s.key AND v.version = s.newest
             WHERE {condition} ORDER BY s.id LIMIT ? OFFSET ?"
        );
        let connection = self.pool.get()?;
        let mut statement = connection.prepare_cached(&sql).map_err(translate)?;
        let rows = statement.query_map(rusqlite::params_from_iter(parameters), read_skill).map_err(translate)?;
        rows.collect::<rusqlite::Result<_>>().map_err(translate)
    }

    /// Skills whose id, name, description, tags or code (its functions, classes, imports, docstrings and the members it
    /// reads) have any of the words, best first, with their scores: BM25, larger is better, words in the id and name
    /// counting most. Without words, every skill that passes the filter scores 0.
    pub fn search(&self, text: &str, filter: &Filter) -> Result<Vec<(Skill, f64)>> {
        let words: Vec<String> = text
            .split(|c: char| !c.is_alphanumeric())
            .filter(|word| !word.is_empty())
            .map(|word| format!("\"{word}\"*"))
            .collect();
        if words.is_empty() {
            return Ok(self.list(filter)?.into_iter().map(|skill| (skill, 0.0)).collect());
        }
        self.flush_usage()?;
        let (condition, parameters) = filter.condition();
        let mut all = vec![Sql::from(words.join(" OR "))];
        all.extend(parameters);
        all.extend([Sql::from(i64::from(filter.limit)), Sql::from(i64::from(filter.offset))]);
        let sql = format!(
            "SELECT {COLUMNS}, -bm25(skills_text, 4.0, 4.0, 1.0, 2.0, 0.5) AS score
             FROM skills_text JOIN skills s ON s.key = skills_text.rowid
             JOIN versions v ON v.skill = s.key AND v.version = s.newest
             WHERE skills_text MATCH ? AND {condition} ORDER BY score DESC, s.id LIMIT ? OFFSET ?"
        );
        let connection = self.pool.get()?;
        let mut statement = connection.prepare_cached(&sql).map_err(translate)?;
        let rows = statement
            .query_map(rusqlite::params_from_iter(all), |row| Ok((read_skill(row)?, row.get("score")?)))
            .map_err(translate)?;
        rows.collect::<rusqlite::Result<_>>().map_err(translate)
    }
}
