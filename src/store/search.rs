//! Finding skills: by filter, by words, by embeddings, and by both at once.
//!
//! *Words* are SQLite's full-text index (FTS5) over id, name, description, tags and what the code defines, imports and reads; BM25, words in
//! the id and the name counting most, prefixes match. *Embeddings* are the caller's: numbers of any one length a library, compared
//! by cosine with every one there is, so that the best are the best. They are read into memory by the first search that
//! needs them; later ones read what has changed since, in this process or another, by the number that each change gets.
//!
//! Both indexes change in the transaction that changes their skill. The one of words keeps no texts: it can be made anew from the
//! view `skills_words`.
//!
//! The *hybrid* score is `w * cosine + (1 - w) * words`, where a cosine below 0 counts as 0 and the words' part is BM25 divided by the
//! best BM25 of this search; so it goes from 0 to 1. Every skill that has one of the words is scored both ways; of the others, whose score is
//! their cosine's part alone, the nearest are enough. So the best are the best, whatever page is asked for.

mod embeddings;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeMap, HashSet};
use std::sync::LazyLock;

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, params_from_iter};
use unicode_normalization::char::is_combining_mark;

use super::sqlite::translate;
use super::{COLUMNS, Store, read_skill};
use crate::error::{Error, Result, hint, nearest};
use crate::json::Value;
use crate::skill::{MAX_DIMENSION, STATES, Skill, has_direction, read_embedding};

pub(super) use embeddings::{Vectors, set_vector, stored_dimension, stored_vector};

/// The most different words of a search, and the most tags of a filter.
const MOST_WORDS: usize = 64;

/// What to list.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// Exactly this category.
    pub category: Option<String>,
    /// Exactly this complexity.
    pub complexity: Option<String>,
    /// All of these tags.
    pub tags: Vec<String>,
    /// Part of the name or the id, whatever the case of letters from A to Z.
    pub name: Option<String>,
    /// Active skills only, or all but those.
    pub active: Option<bool>,
    /// Exactly this state.
    pub state: Option<String>,
    /// At least this share of its calls ended in success, 0 to 1. A skill that was never called has 0.
    pub min_success_rate: Option<f64>,
    /// Called at least so often.
    pub min_usage_count: u32,
    /// Only those whose ids come after this one, byte by byte: for going on where a page of a list ended.
    pub after: Option<String>,
    /// At most so many.
    pub limit: u32,
    /// After so many.
    pub offset: u32,
}

impl Default for Filter {
    fn default() -> Self {
        Filter {
            category: None,
            complexity: None,
            tags: Vec::new(),
            name: None,
            active: None,
            state: None,
            min_success_rate: None,
            min_usage_count: 0,
            after: None,
            limit: u32::MAX,
            offset: 0,
        }
    }
}

impl Filter {
    /// The members of a filter, by name.
    pub const NAMES: [&'static str; 11] = [
        "category",
        "complexity",
        "tags",
        "name",
        "active",
        "state",
        "min_success_rate",
        "min_usage_count",
        "after",
        "limit",
        "offset",
    ];

    /// Reads an object of [`NAMES`](Filter::NAMES), all optional.
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
            "after" => self.after = Some(text()?),
            "active" => self.active = Some(value.as_bool().ok_or_else(|| wrong(name, "true or false", value))?),
            "state" => {
                let state = text()?;
                if !STATES.contains(&state.as_str()) {
                    return Err(wrong(name, &format!("one of: {}", STATES.join(", ")), value));
                }
                self.state = Some(state);
            }
            "min_success_rate" => {
                let rate = value.as_f64().filter(|rate| (0.0..=1.0).contains(rate));
                self.min_success_rate = Some(rate.ok_or_else(|| wrong(name, "a number from 0 to 1", value))?);
            }
            "min_usage_count" => self.min_usage_count = count()?,
            "limit" => self.limit = count()?,
            "offset" => self.offset = count()?,
            "tags" => {
                let tags: Option<Vec<String>> = value
                    .as_array()
                    .map(|tags| tags.iter().filter_map(|tag| tag.as_str().map(str::to_owned)).collect());
                let is_whole = |tags: &Vec<String>| value.as_array().is_some_and(|all| all.len() == tags.len());
                let is_some = |tags: &Vec<String>| is_whole(tags) && tags.len() <= MOST_WORDS;
                let takes = format!("an array of at most {MOST_WORDS} strings");
                self.tags = tags.filter(is_some).ok_or_else(|| wrong(name, &takes, value))?;
            }
            _ => {
                let meant = nearest(name, Filter::NAMES.into_iter().chain(Query::NAMES));
                let message = format!("a filter has no member `{name}`{}", hint(meant, String::new));
                return Err(Error::invalid(message).path(name).suggestion(meant));
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
            add(if active { "s.state = ?" } else { "s.state <> ?" }, Sql::from(STATES[0].to_owned()));
        }
        if let Some(state) = &self.state {
            add("s.state = ?", Sql::from(state.clone()));
        }
        if let Some(rate) = self.min_success_rate {
            add("s.success_count * 1.0 / max(s.usage_count, 1) >= ?", Sql::from(rate));
        }
        if self.min_usage_count > 0 {
            add("s.usage_count >= ?", Sql::from(i64::from(self.min_usage_count)));
        }
        if let Some(name) = &self.name {
            add("instr(lower(s.id || char(10) || s.name), lower(?)) > 0", Sql::from(name.clone()));
        }
        if let Some(after) = &self.after {
            add("s.id > ?", Sql::from(after.clone()));
        }
        for tag in &self.tags {
            add("EXISTS (SELECT 1 FROM json_each(s.tags) WHERE value = ?)", Sql::from(tag.clone()));
        }
        (condition, parameters)
    }

    /// Whether a record passes, whatever its place.
    pub(crate) fn passes(&self, skill: &Skill) -> bool {
        let is = |wanted: &Option<String>, field: &str| {
            wanted.as_ref().is_none_or(|wanted| skill.text_field(field) == *wanted)
        };
        let (name, tags) = (skill.text_field("name"), skill.string_list("tags"));
        let names = format!("{}\n{name}", skill.id).to_ascii_lowercase();
        let usage = &skill.usage;
        let rate = usage.success_count as f64 / usage.usage_count.max(1) as f64;
        is(&self.category, "category")
            && is(&self.complexity, "complexity")
            && is(&self.state, "state")
            && self.active.is_none_or(|active| skill.is_active() == active)
            && self.name.as_ref().is_none_or(|part| names.contains(&part.to_ascii_lowercase()))
            && self.tags.iter().all(|tag| tags.contains(tag))
            && self.min_success_rate.is_none_or(|least| rate >= least)
            && usage.usage_count >= self.min_usage_count.into()
            && self.after.as_ref().is_none_or(|after| skill.id > *after)
    }

    /// What a search looks at unless it says otherwise: what can be run.
    fn or_active(&self) -> Self {
        let active = self.active.or_else(|| self.state.is_none().then_some(true));
        Filter { active, ..self.clone() }
    }

    /// How many rows have to be known for one page.
    fn reach(&self) -> usize {
        usize::try_from(u64::from(self.offset) + u64::from(self.limit)).unwrap_or(usize::MAX)
    }

    /// The page of a list that begins at its beginning.
    fn page<T>(&self, all: Vec<T>) -> impl Iterator<Item = T> {
        let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        all.into_iter().skip(count(self.offset)).take(count(self.limit))
    }
}

fn wrong(name: &str, takes: &str, value: &Value) -> Error {
    Error::invalid(format!("`{name}` takes {takes}, not {}", value.kind())).path(name)
}

/// What to search for.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// Any of these words, or words that begin with them. None: words do not matter.
    pub text: String,
    /// Near to this embedding. Empty: embeddings do not matter.
    pub embedding: Vec<f32>,
    /// Not what scores less.
    pub min_score: Option<f64>,
    /// What the embedding counts against the words when there are both, 0 to 1.
    pub vector_weight: f64,
    /// Only what passes. Unless it says otherwise, that is what is active.
    pub filter: Filter,
}

impl Default for Query {
    fn default() -> Self {
        let (text, embedding, filter) = (String::new(), Vec::new(), Filter::default());
        Query { text, embedding, min_score: None, vector_weight: 0.5, filter }
    }
}

impl Query {
    /// The members of a query beside those of its filter.
    pub const NAMES: [&'static str; 4] = ["text", "embedding", "min_score", "vector_weight"];

    /// Words alone.
    pub fn words(text: &str) -> Self {
        Query { text: text.to_owned(), ..Query::default() }
    }

    /// Reads an object of [`NAMES`](Query::NAMES) and [`Filter::NAMES`], all optional.
    pub fn read(members: &[(String, Value)]) -> Result<Self> {
        let mut query = Query::default();
        for (name, value) in members {
            match name.as_str() {
                _ if *value == Value::Null => query.filter.set(name, value)?,
                "text" => {
                    query.text = value.as_str().ok_or_else(|| wrong(name, "text", value))?.to_owned();
                }
                "embedding" => {
                    value.as_array().ok_or_else(|| wrong(name, "an array of numbers", value))?;
                    query.embedding = read_embedding(value)?;
                }
                "min_score" => {
                    query.min_score = Some(value.as_f64().ok_or_else(|| wrong(name, "a number", value))?);
                }
                "vector_weight" => {
                    let weight = value.as_f64().filter(|weight| (0.0..=1.0).contains(weight));
                    query.vector_weight = weight.ok_or_else(|| wrong(name, "a number from 0 to 1", value))?;
                }
                _ => query.filter.set(name, value)?,
            }
        }
        Ok(query)
    }

    /// What the full-text index is asked for; nothing if there are no words. [`Code::Invalid`](crate::Code::Invalid) for too many: what each costs
    /// grows with their number.
    fn expression(&self) -> Result<Option<String>> {
        // As the index divides what it has: marks that combine with a letter belong to its word.
        let is_between = |c: char| !c.is_alphanumeric() && !is_combining_mark(c);
        let words = self.text.split(is_between).filter(|word| word.contains(char::is_alphanumeric));
        let mut different = BTreeMap::new();
        for word in words {
            different.entry(word.to_lowercase()).or_insert(word);
            if different.len() > MOST_WORDS {
                let message = format!(
                    "a search is for at most {MOST_WORDS} different words; for a long text, search by its embedding"
                );
                return Err(Error::invalid(message).path("text").rule("range"));
            }
        }
        let words: Vec<_> = different.values().map(|word| format!("\"{word}\"*")).collect();
        Ok((!words.is_empty()).then(|| words.join(" OR ")))
    }
}

/// A skill that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Match {
    /// Its newest version.
    pub skill: Skill,
    /// What it was ranked by: BM25, the cosine, or both mixed; 0 when nothing was asked for.
    pub score: f64,
    /// How well the words fit (BM25, larger is better), if they do.
    pub text: Option<f64>,
    /// How near the embedding is (cosine, -1 to 1), if it has one.
    pub vector: Option<f64>,
}

/// A match before its record is read.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ranked {
    key: i64,
    score: f64,
    text: Option<f64>,
    vector: Option<f64>,
}

impl Store {
    /// The newest versions that pass the filter, by id.
    pub fn list(&self, filter: &Filter) -> Result<Vec<Skill>> {
        self.catch_up();
        let (condition, mut parameters) = filter.condition();
        parameters.extend([Sql::from(i64::from(filter.limit)), Sql::from(i64::from(filter.offset))]);
        let sql = format!(
            "SELECT {} FROM skills s JOIN versions v ON v.skill = s.key AND v.version = s.newest
             WHERE {condition} ORDER BY s.id LIMIT ? OFFSET ?",
            *COLUMNS
        );
        let connection = self.pool.get()?;
        let mut statement = connection.prepare_cached(&sql).map_err(translate)?;
        let rows = statement.query_map(params_from_iter(parameters), read_skill).map_err(translate)?;
        rows.collect::<rusqlite::Result<_>>().map_err(translate)
    }

    /// The skills that fit best, best first; of equal ones the older first. Without words and embedding, every skill that passes the filter,
    /// by id, with score 0.
    ///
    /// [`Code::Invalid`](crate::Code::Invalid) for an embedding of another length than those that are stored.
    pub fn search(&self, query: &Query) -> Result<Vec<Match>> {
        let filter = query.filter.or_active();
        let expression = query.expression()?;
        if expression.is_none() && query.embedding.is_empty() {
            let blank = |skill| Match { skill, score: 0.0, text: None, vector: None };
            let found = if query.min_score.is_some_and(|least| least > 0.0) { Vec::new() } else { self.list(&filter)? };
            return Ok(found.into_iter().map(blank).collect());
        }
        if !query.embedding.is_empty() && !has_direction(&query.embedding) {
            let message = format!("an embedding has 1 to {MAX_DIMENSION} finite numbers, not all of them 0");
            return Err(Error::invalid(message).path("embedding"));
        }
        self.catch_up();
        // Before the database is read, so that what is kept is never newer than what it is kept under.
        let generation = self.generation();
        let connection = self.pool.get()?;
        // What is found, whether it passes, and what is read of it are of one moment.
        let moment = connection.unchecked_transaction().map_err(translate)?;
        let search = Search { connection: &moment, filter: &filter };
        let ranked = match (expression, query.embedding.as_slice()) {
            (Some(words), []) => search.by_words(&words, filter.reach())?,
            (None, vector) => search.by_vector(&self.vectors, generation, vector, filter.reach())?,
            (Some(words), vector) => search.by_both(&self.vectors, generation, &words, vector, query.vector_weight)?,
        };
        let least = query.min_score.unwrap_or(f64::NEG_INFINITY);
        let ranked: Vec<_> = ranked.into_iter().filter(|ranked| ranked.score >= least).collect();
        let mut found = Vec::new();
        for ranked in filter.page(ranked) {
            // A damaged file may have an entry without a skill.
            let Some(skill) = newest(&moment, ranked.key)? else { continue };
            found.push(Match { skill, score: ranked.score, text: ranked.text, vector: ranked.vector });
        }
        Ok(found)
    }
}

/// The newest version of a row.
fn newest(connection: &Connection, key: i64) -> Result<Option<Skill>> {
    static SQL: LazyLock<String> = LazyLock::new(|| {
        let columns = &*COLUMNS;
        format!(
            "SELECT {columns} FROM skills s JOIN versions v ON v.skill = s.key AND v.version = s.newest
             WHERE s.key = ? AND s.newest > s.removed_through"
        )
    });
    let mut statement = connection.prepare_cached(&SQL).map_err(translate)?;
    let mut rows = statement.query_map([key], read_skill).map_err(translate)?;
    rows.next().transpose().map_err(translate)
}

/// One search on its connection.
struct Search<'s> {
    connection: &'s Connection,
    filter: &'s Filter,
}

impl Search<'_> {
    /// The best `most` by words that pass the filter.
    fn by_words(&self, expression: &str, most: usize) -> Result<Vec<Ranked>> {
        let is_plain = *self.filter
            == Filter { limit: self.filter.limit, offset: self.filter.offset, ..Filter::default().or_active() };
        if !is_plain {
            return self.by_words_of_those(expression, most);
        }
        // Nearly all skills are active: it is cheaper to look at some too many than to look up each that has a word.
        let mut window = most.saturating_add(32);
        loop {
            let all = self.words(expression, "", Vec::new(), window)?;
            let count = all.len();
            let passes = Passes::new(self.connection, self.filter);
            let mut found: Vec<_> = all.into_iter().filter(|ranked| passes.accepts(ranked.key)).collect();
            passes.ended()?;
            if found.len() >= most || count < window {
                found.truncate(most);
                return Ok(found);
            }
            window = window.saturating_mul(4);
        }
    }

    fn by_words_of_those(&self, expression: &str, most: usize) -> Result<Vec<Ranked>> {
        let (condition, parameters) = self.filter.condition();
        self.words(
            expression,
            &format!("AND rowid IN (SELECT s.key FROM skills s WHERE {condition})"),
            parameters,
            most,
        )
    }

    fn words(&self, expression: &str, condition: &str, parameters: Vec<Sql>, most: usize) -> Result<Vec<Ranked>> {
        let sql = format!(
            "SELECT rowid, -bm25(skills_text, 4.0, 4.0, 1.0, 2.0, 0.5) AS score FROM skills_text
             WHERE skills_text MATCH ? {condition} ORDER BY score DESC, rowid LIMIT ?"
        );
        let most = Sql::from(i64::try_from(most).unwrap_or(i64::MAX));
        let all = std::iter::once(Sql::from(expression.to_owned())).chain(parameters).chain([most]);
        let mut statement = self.connection.prepare_cached(&sql).map_err(translate)?;
        let rows = statement.query_map(params_from_iter(all), |row| {
            let (key, score) = (row.get(0)?, row.get(1)?);
            Ok(Ranked { key, score, text: Some(score), vector: None })
        });
        rows.and_then(Iterator::collect).map_err(translate)
    }

    /// The best by both that pass the filter.
    fn by_both(
        &self,
        vectors: &Vectors,
        generation: Option<super::Generation>,
        expression: &str,
        query: &[f32],
        weight: f64,
    ) -> Result<Vec<Ranked>> {
        let reach = self.filter.reach().saturating_mul(vectors.candidates());
        let near = self.by_vector(vectors, generation, query, reach)?;
        let mut found = self.words(expression, "", Vec::new(), usize::MAX)?;
        vectors.add_cosines(query, &mut found);
        let passes = Passes::new(self.connection, self.filter);
        // They come best first.
        let best = found.iter().find(|ranked| passes.accepts(ranked.key)).and_then(|ranked| ranked.text);
        let best = best.unwrap_or_default().max(f64::MIN_POSITIVE);
        let known: HashSet<i64> = found.iter().map(|ranked| ranked.key).collect();
        found.extend(near.into_iter().filter(|ranked| !known.contains(&ranked.key)));
        rank(&mut found, best, weight);
        let mut ranked: Vec<_> = found.into_iter().filter(|ranked| passes.accepts(ranked.key)).take(reach).collect();
        passes.ended()?;
        vectors.exactly(self.connection, query, &mut ranked)?;
        rank(&mut ranked, best, weight);
        Ok(ranked)
    }

    /// The best `most` by embedding that pass the filter.
    fn by_vector(
        &self,
        vectors: &Vectors,
        generation: Option<super::Generation>,
        query: &[f32],
        most: usize,
    ) -> Result<Vec<Ranked>> {
        let passes = Passes::new(self.connection, self.filter);
        let found = vectors.top(self.connection, generation, query, most, |key| passes.accepts(key))?;
        passes.ended()?;
        let ranked = |(key, cosine): (i64, f64)| Ranked { key, score: cosine, text: None, vector: Some(cosine) };
        Ok(found.into_iter().map(ranked).collect())
    }
}

/// Whether skills pass a filter, asked one by one; after many refusals all that pass are looked up at once.
struct Passes<'s> {
    connection: &'s Connection,
    condition: (String, Vec<Sql>),
    refused: Cell<usize>,
    all: OnceCell<HashSet<i64>>,
    /// The first failure; everything is refused from there on.
    failure: RefCell<Option<Error>>,
}

impl<'s> Passes<'s> {
    /// Looking up one costs about as much as a thousandth of a table of some size.
    const REFUSALS: usize = 1000;

    fn new(connection: &'s Connection, filter: &Filter) -> Self {
        let condition = filter.condition();
        Passes { connection, condition, refused: Cell::new(0), all: OnceCell::new(), failure: RefCell::new(None) }
    }

    fn accepts(&self, key: i64) -> bool {
        if self.failure.borrow().is_some() {
            return false;
        }
        let passes = if self.refused.get() < Self::REFUSALS { self.ask(key) } else { self.look_up(key) };
        match passes {
            Ok(passes) => {
                self.refused.set(self.refused.get() + usize::from(!passes));
                passes
            }
            Err(error) => {
                *self.failure.borrow_mut() = Some(error);
                false
            }
        }
    }

    fn ask(&self, key: i64) -> Result<bool> {
        let (condition, parameters) = &self.condition;
        let sql = format!("SELECT 1 FROM skills s WHERE s.key = ? AND {condition}");
        let mut statement = self.connection.prepare_cached(&sql).map_err(translate)?;
        let key = Sql::from(key);
        statement.exists(params_from_iter(std::iter::once(&key).chain(parameters))).map_err(translate)
    }

    fn look_up(&self, key: i64) -> Result<bool> {
        if let Some(all) = self.all.get() {
            return Ok(all.contains(&key));
        }
        let (condition, parameters) = &self.condition;
        let sql = format!("SELECT s.key FROM skills s WHERE {condition}");
        let mut statement = self.connection.prepare_cached(&sql).map_err(translate)?;
        let rows = statement.query_map(params_from_iter(parameters), |row| row.get(0));
        let all: HashSet<i64> = rows.and_then(Iterator::collect).map_err(translate)?;
        Ok(self.all.get_or_init(|| all).contains(&key))
    }

    fn ended(self) -> Result<()> {
        self.failure.into_inner().map_or(Ok(()), Err)
    }
}

/// Scores what was found by words, by embedding, or by both, and puts the best first.
fn rank(found: &mut [Ranked], best: f64, weight: f64) {
    for ranked in found.iter_mut() {
        let words = (ranked.text.unwrap_or(0.0) / best).max(0.0);
        ranked.score = weight * ranked.vector.unwrap_or(0.0).max(0.0) + (1.0 - weight) * words;
    }
    // Where the score says nothing, the nearer is better: what was taken for being near is then the same for all pages.
    let near = |ranked: &Ranked| ranked.vector.unwrap_or(f64::NEG_INFINITY);
    found.sort_by(|a, b| {
        let by_score = b.score.total_cmp(&a.score);
        by_score.then_with(|| near(b).total_cmp(&near(a))).then_with(|| a.key.cmp(&b.key))
    });
}

/// Puts what is said of a skill into the index of words; `is_there` if something of it is.
pub(super) fn index_words(transaction: &Connection, key: i64, is_there: bool) -> Result<()> {
    if is_there {
        forget_words(transaction, key)?;
    }
    let sql =
        "INSERT INTO skills_text (rowid, id, name, description, tags, code) SELECT * FROM skills_words WHERE key = ?";
    transaction.prepare_cached(sql).and_then(|mut insert| insert.execute([key])).map(drop).map_err(translate)
}

/// Takes a skill out of both indexes.
pub(super) fn forget(transaction: &Connection, key: i64) -> Result<()> {
    forget_words(transaction, key)?;
    set_vector(transaction, key, &[])
}

fn forget_words(transaction: &Connection, key: i64) -> Result<()> {
    let sql = "DELETE FROM skills_text WHERE rowid = ?";
    transaction.prepare_cached(sql).and_then(|mut delete| delete.execute([key])).map(drop).map_err(translate)
}

/// Makes the index of words anew; says of how many skills.
pub(super) fn rebuild(transaction: &Connection) -> Result<u64> {
    let empty = "INSERT INTO skills_text (skills_text) VALUES ('delete-all')";
    transaction.execute(empty, []).map_err(translate)?;
    let fill = "INSERT INTO skills_text (rowid, id, name, description, tags, code) SELECT * FROM skills_words";
    transaction.execute(fill, []).map(|count| count as u64).map_err(translate)
}
