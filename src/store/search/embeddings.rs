//! The embeddings of a library: as they are stored, and in memory once one was searched for.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rusqlite::{Connection, OptionalExtension, params};

use super::Ranked;
use crate::error::{Code, Error, Result};
use crate::json::Value;
use crate::skill::has_direction;
use crate::store::Generation;
use crate::store::sqlite::translate;
use crate::store::vectors::{Precision, VectorIndex, cosine};

/// With numbers of one byte so many times as many candidates as are asked for are ranked by what is stored.
const CANDIDATES: usize = 4;

/// The embeddings in memory. Shared freely between threads; searches go on side by side.
#[derive(Debug)]
pub(in crate::store) struct Vectors {
    precision: Precision,
    loaded: RwLock<Loaded>,
}

#[derive(Debug, Default)]
struct Loaded {
    index: Option<VectorIndex>,
    /// The last change that is in it.
    change: i64,
    /// When that was all there was.
    generation: Option<Generation>,
}

impl Vectors {
    /// By the name of the option `store.vectors`.
    pub fn new(precision: &str) -> Self {
        let precision = if precision == "int8" { Precision::Int8 } else { Precision::F32 };
        Vectors { precision, loaded: RwLock::default() }
    }

    /// The `most` nearest to a query that are accepted, the nearest first, with their cosines.
    pub fn top(
        &self,
        connection: &Connection,
        generation: Option<Generation>,
        query: &[f32],
        most: usize,
        accept: impl Fn(i64) -> bool,
    ) -> Result<Vec<(i64, f64)>> {
        let loaded = self.current(connection, generation)?;
        let Some(index) = loaded.index.as_ref().filter(|index| !index.is_empty()) else { return Ok(Vec::new()) };
        check_dimension(index.dimension(), query.len())?;
        if matches!(self.precision, Precision::F32) {
            return Ok(index.top(query, most, accept).into_iter().map(|(key, cosine)| (key, cosine.into())).collect());
        }
        let candidates = index.top(query, most.saturating_mul(CANDIDATES), accept);
        drop(loaded);
        let mut exact = Vec::with_capacity(candidates.len());
        for (key, _) in candidates {
            // Taken away since, if there is none.
            let Some(vector) = stored_vector(connection, key)?.filter(|vector| vector.len() == query.len()) else {
                continue;
            };
            exact.push((key, f64::from(cosine(&vector, query))));
        }
        exact.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        exact.truncate(most);
        Ok(exact)
    }

    /// Adds their cosines to what was found by words; with `int8` approximately, see [`exactly`](Vectors::exactly).
    pub(super) fn add_cosines(&self, query: &[f32], found: &mut [Ranked]) {
        let loaded = self.read();
        let Some(index) = loaded.index.as_ref().filter(|index| index.dimension() == query.len()) else { return };
        for ranked in found {
            ranked.vector = index.score(ranked.key, query).map(f64::from);
        }
    }

    /// How many times as many candidates as are asked for have to be ranked exactly.
    pub fn candidates(&self) -> usize {
        if matches!(self.precision, Precision::F32) { 1 } else { CANDIDATES }
    }

    /// The exact cosines of candidates.
    pub(super) fn exactly(&self, connection: &Connection, query: &[f32], found: &mut [Ranked]) -> Result<()> {
        if matches!(self.precision, Precision::F32) {
            return Ok(());
        }
        for ranked in found.iter_mut().filter(|ranked| ranked.vector.is_some()) {
            let vector = stored_vector(connection, ranked.key)?.filter(|vector| vector.len() == query.len());
            ranked.vector = vector.map(|vector| cosine(&vector, query).into());
        }
        Ok(())
    }

    /// `{"stored", "dimension", "loaded", "loaded_bytes", "precision"}`.
    pub fn stats(&self, connection: &Connection) -> Result<Value> {
        let sql = "SELECT count(*) FROM vectors WHERE vector IS NOT NULL";
        let stored = connection.query_row(sql, [], |row| row.get(0)).map_err(translate)?;
        Ok(self.stats_of(Some((stored, stored_dimension(connection, None)?))))
    }

    /// The same with what the database says, if it says anything: how many it has, and their dimension.
    pub fn stats_of(&self, stored: Option<(i64, Option<usize>)>) -> Value {
        let loaded = self.read();
        let index = loaded.index.as_ref();
        Value::object([
            ("stored", stored.map_or(Value::Null, |(count, _)| Value::from(count))),
            ("dimension", stored.and_then(|(_, dimension)| dimension).map_or(Value::Null, Value::from)),
            ("loaded", Value::from(index.map_or(0, VectorIndex::len))),
            ("loaded_bytes", Value::from(index.map_or(0, VectorIndex::bytes))),
            ("precision", Value::from(if matches!(self.precision, Precision::F32) { "f32" } else { "int8" })),
        ])
    }

    /// What they take in memory now.
    pub fn bytes(&self) -> u64 {
        self.read().index.as_ref().map_or(0, VectorIndex::bytes) as u64
    }

    /// Lets go of what is in memory, until the next search; says what it took.
    pub fn unload(&self) -> u64 {
        let loaded = std::mem::take(&mut *self.loaded.write().unwrap_or_else(PoisonError::into_inner));
        loaded.index.as_ref().map_or(0, VectorIndex::bytes) as u64
    }

    /// What is in memory, after what has changed was read.
    fn current(&self, connection: &Connection, generation: Option<Generation>) -> Result<RwLockReadGuard<'_, Loaded>> {
        {
            let loaded = self.read();
            if generation.is_some() && loaded.generation == generation {
                return Ok(loaded);
            }
        }
        let mut loaded = self.loaded.write().unwrap_or_else(PoisonError::into_inner);
        loaded.catch_up(connection, self.precision)?;
        loaded.generation = generation;
        Ok(RwLockWriteGuard::downgrade(loaded))
    }

    fn read(&self) -> RwLockReadGuard<'_, Loaded> {
        self.loaded.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Loaded {
    /// Reads what has changed; all anew if the length has.
    fn catch_up(&mut self, connection: &Connection, precision: Precision) -> Result<()> {
        if self.read_changes(connection, precision)? {
            return Ok(());
        }
        *self = Loaded::default();
        if self.read_changes(connection, precision)? {
            return Ok(());
        }
        *self = Loaded::default();
        Err(Error::new(Code::Corrupt, "there are embeddings of several lengths; the full check says more"))
    }

    /// Whether all have the length of those before.
    fn read_changes(&mut self, connection: &Connection, precision: Precision) -> Result<bool> {
        let sql = "SELECT skill, change, vector FROM vectors WHERE change > ? ORDER BY change";
        let mut statement = connection.prepare_cached(sql).map_err(translate)?;
        let mut rows = statement.query([self.change]).map_err(translate)?;
        while let Some(row) = rows.next().map_err(translate)? {
            let (key, change) = (row.get(0).map_err(translate)?, row.get(1).map_err(translate)?);
            let blob = row.get_ref(2).and_then(|blob| Ok(blob.as_blob_or_null()?)).map_err(translate)?;
            // What a damaged file has instead of an embedding is near to nothing.
            match blob.map(numbers).filter(|vector| has_direction(vector)) {
                Some(vector) => {
                    let index = self.index.get_or_insert_with(|| VectorIndex::new(vector.len(), precision));
                    if index.dimension() != vector.len() {
                        return Ok(false);
                    }
                    index.set(key, &vector);
                }
                None => {
                    if let Some(index) = &mut self.index {
                        index.remove(key);
                    }
                }
            }
            self.change = change;
        }
        Ok(true)
    }
}

/// Stores an embedding; an empty one takes a stored one away.
pub(in crate::store) fn set_vector(transaction: &Connection, key: i64, vector: &[f32]) -> Result<()> {
    const CHANGE: &str = "(SELECT coalesce(max(change), 0) + 1 FROM vectors)";
    if vector.is_empty() {
        let sql = format!("UPDATE vectors SET vector = NULL, change = {CHANGE} WHERE skill = ? AND vector IS NOT NULL");
        let mut statement = transaction.prepare_cached(&sql).map_err(translate)?;
        return statement.execute([key]).map(drop).map_err(translate);
    }
    if let Some(others) = dimension(transaction, key)? {
        check_dimension(others, vector.len())?;
    }
    let sql = format!(
        "INSERT INTO vectors (skill, change, vector) VALUES (?, {CHANGE}, ?)
         ON CONFLICT (skill) DO UPDATE SET change = excluded.change, vector = excluded.vector"
    );
    let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
    let mut statement = transaction.prepare_cached(&sql).map_err(translate)?;
    statement.execute(params![key, bytes]).map(drop).map_err(translate)
}

/// The embedding of a skill.
pub(in crate::store) fn stored_vector(connection: &Connection, key: i64) -> Result<Option<Vec<f32>>> {
    let sql = "SELECT vector FROM vectors WHERE skill = ?";
    let mut statement = connection.prepare_cached(sql).map_err(translate)?;
    let blob = statement.query_row([key], |row| row.get::<_, Option<Vec<u8>>>(0)).optional().map_err(translate)?;
    Ok(blob.flatten().map(|blob| numbers(&blob)))
}

/// How many numbers the embeddings have, those of one skill aside, if there are any.
pub(in crate::store) fn stored_dimension(connection: &Connection, but: Option<i64>) -> Result<Option<usize>> {
    dimension(connection, but.unwrap_or(i64::MIN))
}

/// How many numbers the embeddings of all skills but one have, if there are any.
fn dimension(connection: &Connection, but: i64) -> Result<Option<usize>> {
    let sql = "SELECT length(vector) / 4 FROM vectors WHERE vector IS NOT NULL AND skill <> ? LIMIT 1";
    let mut statement = connection.prepare_cached(sql).map_err(translate)?;
    statement.query_row([but], |row| row.get(0)).optional().map_err(translate)
}

fn check_dimension(stored: usize, given: usize) -> Result<()> {
    if stored == given {
        return Ok(());
    }
    let message = format!("the embeddings of this library have {stored} numbers; this one has {given}");
    Err(Error::invalid(message).path("embedding"))
}

fn numbers(blob: &[u8]) -> Vec<f32> {
    blob.chunks_exact(4).map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])).collect()
}
