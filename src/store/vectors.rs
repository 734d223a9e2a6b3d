//! Which stored embeddings are nearest to a query: exact cosines, in memory.
//!
//! The idea: reading every row once is as fast as memory is, and needs no graph that is built, tuned and wrong now and then.
//! So rows lie behind one another, each as a whole number of cache lines filled up with zeros (the kernels have no remainder
//! and no load crosses a line), in chunks of 1 MiB: growing never copies more than that, and what a removal leaves empty goes.
//!
//! * Row `n` is under the key `keys[n]`, and `places` says `n` of every key. The last row takes a removed one's place.
//! * [`Precision::F32`] keeps rows at length 1. Components below `NEGLIGIBLE` are 0: no product is ever denormal, which would be
//!   slow, and no score changes.
//! * [`Precision::Int8`] keeps whole numbers, the largest being 127, and the length of what they are. A score is the exact cosine
//!   of those numbers and those of the query, of which there are as many as sums of 32 bits can bear: ±32767 up to 516
//!   dimensions, ±1032 at 16,384. Sixteen bits cost nothing there, since a row's must be widened anyway, and the query's
//!   rounding stops mattering.
//! * Scores are a matter of the row and the query alone, so that equal rows are equal and the order is the same every time.
//!
//! What was tried, measured once when this was written, in units of reading all 100,000 rows of 384 `f32` once. With `f32`: summing the products by iterators 4.0;
//! sixteen sums in plain Rust, the same inside `pulp`, and `wide` (which takes AVX2 only when it is compiled for that) 1.4 each;
//! `fearless_simd` 1.4 with SSE2, 1.15 with AVX2, 1.05 with AVX-512. Four times sixteen sums are slower than one time, since adding
//! them up costs more than waiting. With int8: plain Rust 1.7, inside `pulp` 1.2, `wide` 0.5, `fearless_simd` 0.4 or less. It also
//! is the one without dependencies. Two threads with half the rows each take half as long if a second core is idle, and no
//! less if none is; a thread of ours would have to be kept from the host's signals, so the caller's does it all.

mod kernel;
#[cfg(test)]
mod tests;

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use foldhash::{HashMap, HashMapExt};

use crate::skill::MAX_DIMENSION;
use kernel::{Bytes, Floats, Words};

/// What a component of a row of length 1 may be rounded away below: all of them together move a score by less than 1e-15.
const NEGLIGIBLE: f64 = 1e-18;

/// The largest number of a row kept in 8 bits.
const ROW_LEVELS: i32 = i8::MAX as i32;

/// How much lies in one piece. Small beside what a library may take, large beside what starting a piece costs.
const CHUNK_BYTES: usize = 1 << 20;

/// How embeddings are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// 4 bytes for each number; scores are within 1e-5 of the true cosine.
    F32,
    /// 1 byte for each number. With `m` the largest component of a row of length 1, `n` the dimension and `q` the same as `m` for
    /// the query, scores are within `sqrt(2 n) (m / 254 + q / 2064)` of the true cosine, which is far more than what is met:
    /// less than a thousandth for random vectors of 384. Rescore the best with [`cosine`].
    Int8,
}

/// Embeddings of one dimension under keys of their owner.
///
/// Every vector given to it has a direction ([`has_direction`](crate::skill::has_direction)) and the index's dimension; another length is a bug and
/// panics.
#[derive(Debug)]
pub struct VectorIndex {
    dimension: usize,
    keys: Vec<i64>,
    places: HashMap<i64, usize>,
    rows: Rows,
}

#[derive(Debug)]
enum Rows {
    F32(Chunks<Floats>),
    Int8 {
        rows: Chunks<Bytes>,
        /// One over the length of each row.
        factors: Vec<f32>,
    },
}

/// The cosine of two checked vectors of the same length, in -1 to 1, computed in `f64`: for putting what an index of
/// [`Precision::Int8`] found in the true order.
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "vectors of one dimension");
    let dot: f64 = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    bounded((dot / (length(a) * length(b))) as f32)
}

impl VectorIndex {
    /// An empty index, which takes nothing yet. The dimension is 1 to [`MAX_DIMENSION`].
    pub fn new(dimension: usize, precision: Precision) -> Self {
        assert!((1..=MAX_DIMENSION).contains(&dimension), "a checked dimension");
        let rows = match precision {
            Precision::F32 => Rows::F32(Chunks::new(dimension.div_ceil(Floats::LEN))),
            Precision::Int8 => Rows::Int8 { rows: Chunks::new(dimension.div_ceil(Bytes::LEN)), factors: Vec::new() },
        };
        VectorIndex { dimension, keys: Vec::new(), places: HashMap::new(), rows }
    }

    /// How many numbers each vector has.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// How many vectors there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// What it takes in memory, in bytes: what was allocated, used or not.
    pub fn bytes(&self) -> usize {
        let rows = match &self.rows {
            Rows::F32(rows) => rows.bytes(),
            Rows::Int8 { rows, factors } => rows.bytes() + factors.capacity() * size_of::<f32>(),
        };
        // A hash table has a power of two of slots, one in eight of them free, and a byte beside each.
        let slots = (self.places.capacity() * 8 / 7).next_power_of_two();
        let places = if self.places.capacity() == 0 { 0 } else { slots * (size_of::<(i64, usize)>() + 1) };
        rows + places + self.keys.capacity() * size_of::<i64>()
    }

    /// Keeps a vector under a key, in the place of the one that was there.
    pub fn set(&mut self, key: i64, vector: &[f32]) {
        assert_eq!(vector.len(), self.dimension, "a vector of the index's dimension");
        let place = *self.places.entry(key).or_insert(self.keys.len());
        if place == self.keys.len() {
            self.keys.push(key);
        }
        match &mut self.rows {
            Rows::F32(rows) => rows.set(place, &at_length_1(vector)),
            Rows::Int8 { rows, factors } => {
                let (numbers, factor) = quantised(vector, ROW_LEVELS);
                rows.set(place, &Bytes::of(numbers.map(|number| number as i8)));
                match factors.get_mut(place) {
                    Some(old) => *old = factor,
                    None => factors.push(factor),
                }
            }
        }
    }

    /// Forgets the vector under a key; says whether there was one.
    pub fn remove(&mut self, key: i64) -> bool {
        let Some(place) = self.places.remove(&key) else { return false };
        self.keys.swap_remove(place);
        if let Some(&moved) = self.keys.get(place) {
            self.places.insert(moved, place);
        }
        match &mut self.rows {
            Rows::F32(rows) => rows.swap_remove(place),
            Rows::Int8 { rows, factors } => {
                rows.swap_remove(place);
                factors.swap_remove(place);
            }
        }
        true
    }

    /// The nearest `k` of those that `accept` lets through, the best first and equal ones by key, with their cosines in -1 to 1.
    ///
    /// `accept` is asked only about what would be among the best so far: of random rows about `k ln(len / k)` times if it lets
    /// everything through, and of all rows if it lets fewer than `k` through.
    pub fn top(&self, query: &[f32], k: usize, accept: impl FnMut(i64) -> bool) -> Vec<(i64, f32)> {
        assert_eq!(query.len(), self.dimension, "a query of the index's dimension");
        if k == 0 || self.is_empty() {
            return Vec::new();
        }
        let mut scores = vec![0.0; self.len()];
        match &self.rows {
            Rows::F32(rows) => {
                let query = at_length_1(query);
                let pieces = rows.chunks.iter().zip(scores.chunks_mut(rows.per_chunk));
                pieces.for_each(|(rows, scores)| kernel::score_floats(&query, rows, scores));
            }
            Rows::Int8 { rows, factors } => {
                let query = Int8Query::new(query);
                let factors = factors.chunks(rows.per_chunk);
                let pieces = rows.chunks.iter().zip(factors).zip(scores.chunks_mut(rows.per_chunk));
                pieces.for_each(|((rows, factors), scores)| query.score(rows, factors, scores));
            }
        }
        best(self.keys.iter().copied().zip(scores), k, accept)
    }

    /// The cosine of a query and the vector under a key, as [`top`](Self::top) gives it.
    pub fn score(&self, key: i64, query: &[f32]) -> Option<f32> {
        assert_eq!(query.len(), self.dimension, "a query of the index's dimension");
        let place = *self.places.get(&key)?;
        let mut score = [0.0];
        match &self.rows {
            Rows::F32(rows) => kernel::score_floats(&at_length_1(query), rows.row(place), &mut score),
            Rows::Int8 { rows, factors } => {
                Int8Query::new(query).score(rows.row(place), &factors[place..=place], &mut score);
            }
        }
        Some(score[0])
    }
}

/// A query as whole numbers.
struct Int8Query {
    numbers: Vec<Words>,
    /// One over its length.
    factor: f32,
}

impl Int8Query {
    fn new(query: &[f32]) -> Self {
        let (numbers, factor) = quantised(query, query_levels(query.len()));
        Int8Query { numbers: Words::of(numbers), factor }
    }

    fn score(&self, rows: &[Bytes], factors: &[f32], scores: &mut [f32]) {
        kernel::dot_bytes(&self.numbers, rows, scores);
        for (score, factor) in scores.iter_mut().zip(factors) {
            *score = bounded(*score * (factor * self.factor));
        }
    }
}

/// The largest number of a query in 16 bits with which no sum of products leaves 32 bits.
fn query_levels(dimension: usize) -> i32 {
    let dimension = i32::try_from(dimension).unwrap_or(i32::MAX);
    (i32::MAX / ROW_LEVELS / dimension).clamp(1, i32::from(i16::MAX))
}

/// A vector as whole numbers from `-levels` to `levels`, one of which is the largest, and one over their length.
fn quantised(vector: &[f32], levels: i32) -> (impl Iterator<Item = i16>, f32) {
    let largest = vector.iter().fold(0.0, |largest: f32, number| largest.max(number.abs()));
    let scale = f64::from(levels) / f64::from(largest);
    let numbers = vector.iter().map(move |&number| (f64::from(number) * scale).round() as i16);
    let squares: f64 = numbers.clone().map(|number| f64::from(number).powi(2)).sum();
    (numbers, squares.sqrt().recip() as f32)
}

fn at_length_1(vector: &[f32]) -> Vec<Floats> {
    let length = length(vector);
    let unit = vector.iter().map(|&number| f64::from(number) / length);
    Floats::of(unit.map(|number| if number.abs() < NEGLIGIBLE { 0.0 } else { number as f32 }))
}

fn length(vector: &[f32]) -> f64 {
    // The square of the largest f32 is far from the end of f64, that of the smallest far from its zero.
    vector.iter().map(|&number| f64::from(number).powi(2)).sum::<f64>().sqrt()
}

/// A cosine without what rounding adds, and without -0, which would come after 0.
fn bounded(cosine: f32) -> f32 {
    cosine.clamp(-1.0, 1.0) + 0.0
}

/// What is better is greater.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ranked {
    score: f32,
    key: i64,
}

impl Eq for Ranked {}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.key.cmp(&self.key))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn best(
    scored: impl ExactSizeIterator<Item = (i64, f32)>,
    k: usize,
    mut accept: impl FnMut(i64) -> bool,
) -> Vec<(i64, f32)> {
    let mut best = BinaryHeap::with_capacity(k.min(scored.len()));
    for (key, score) in scored {
        let candidate = Ranked { score, key };
        if best.len() < k {
            if accept(key) {
                best.push(Reverse(candidate));
            }
        } else if let Some(mut worst) = best.peek_mut()
            && candidate > worst.0
            && accept(key)
        {
            worst.0 = candidate;
        }
    }
    best.into_sorted_vec().into_iter().map(|Reverse(Ranked { score, key })| (key, score)).collect()
}

/// Rows of one width behind one another, in pieces.
#[derive(Debug)]
struct Chunks<B> {
    /// How many blocks a row has.
    width: usize,
    /// How many rows a full chunk has. All but the last are full, and none is empty.
    per_chunk: usize,
    chunks: Vec<Vec<B>>,
}

impl<B: Copy> Chunks<B> {
    fn new(width: usize) -> Self {
        Chunks { width, per_chunk: (CHUNK_BYTES / (width * size_of::<B>())).max(1), chunks: Vec::new() }
    }

    fn len(&self) -> usize {
        let Some(last) = self.chunks.last() else { return 0 };
        (self.chunks.len() - 1) * self.per_chunk + last.len() / self.width
    }

    fn bytes(&self) -> usize {
        let blocks: usize = self.chunks.iter().map(Vec::capacity).sum();
        blocks * size_of::<B>() + self.chunks.capacity() * size_of::<Vec<B>>()
    }

    fn row(&self, place: usize) -> &[B] {
        let start = place % self.per_chunk * self.width;
        &self.chunks[place / self.per_chunk][start..start + self.width]
    }

    /// Puts a row in a place that there is, or behind the last one.
    fn set(&mut self, place: usize, row: &[B]) {
        if place == self.len() {
            return self.push(row);
        }
        let start = place % self.per_chunk * self.width;
        self.chunks[place / self.per_chunk][start..start + self.width].copy_from_slice(row);
    }

    fn push(&mut self, row: &[B]) {
        let full = self.per_chunk * self.width;
        match self.chunks.last_mut() {
            Some(last) if last.len() < full => {
                if last.len() == last.capacity() {
                    last.reserve_exact(last.len().min(full - last.len()));
                }
                last.extend_from_slice(row);
            }
            _ => self.chunks.push(row.to_vec()),
        }
    }

    /// Takes a row out; the last one takes its place.
    fn swap_remove(&mut self, place: usize) {
        let Some(last) = self.chunks.last_mut() else { return };
        let moved = last.split_off(last.len() - self.width);
        if last.is_empty() {
            self.chunks.pop();
        }
        if place < self.len() {
            self.set(place, &moved);
        }
    }
}
