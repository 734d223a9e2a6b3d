use std::cell::Cell;
use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const DIMENSIONS: [usize; 6] = [1, 3, 16, 383, 384, 1536];
const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Int8];

/// What is nearest, in the most obvious way.
#[derive(Default)]
struct Model(BTreeMap<i64, Vec<f32>>);

impl Model {
    fn top(&self, k: usize, score: impl Fn(&[f32]) -> f64, accept: impl Fn(i64) -> bool) -> Vec<(i64, f64)> {
        let accepted = self.0.iter().filter(|(key, _)| accept(**key));
        let mut all: Vec<_> = accepted.map(|(key, vector)| (*key, score(vector))).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        all.truncate(k);
        all
    }
}

fn true_cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum() };
    dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt())
}

/// The numbers that 8 bits keep of a row, or 16 of a query.
fn whole(vector: &[f32], levels: f64) -> Vec<f32> {
    let largest = vector.iter().map(|number| f64::from(number.abs())).fold(0.0, f64::max);
    vector.iter().map(|&number| (f64::from(number) * (levels / largest)).round() as f32).collect()
}

/// What a score ought to be, and how far rounding to `f32` may take it from there.
fn naive(precision: Precision, query: &[f32], row: &[f32]) -> (f64, f64) {
    match precision {
        Precision::F32 => (true_cosine(query, row), 1e-5),
        Precision::Int8 => {
            let levels = f64::from((i32::MAX / 127 / query.len() as i32).min(32_767));
            (true_cosine(&whole(query, levels), &whole(row, 127.0)), 1e-6)
        }
    }
}

/// How far a score of whole numbers may be from the true cosine: what [`Precision::Int8`] promises.
fn promised(query: &[f32], row: &[f32]) -> f64 {
    let largest = |vector: &[f32]| {
        let largest = vector.iter().map(|number| f64::from(number.abs())).fold(0.0, f64::max);
        largest / vector.iter().map(|&number| f64::from(number).powi(2)).sum::<f64>().sqrt()
    };
    (2.0 * query.len() as f64).sqrt() * (largest(row) / 254.0 + largest(query) / 2064.0) + 1e-6
}

/// Checks the best against the model: the scores are right, and where they differ enough, so is the order.
fn compare(index: &VectorIndex, model: &Model, query: &[f32], k: usize, accept: impl Fn(i64) -> bool) {
    let precision = if matches!(index.rows, Rows::F32(_)) { Precision::F32 } else { Precision::Int8 };
    let found = index.top(query, k, &accept);
    let expected = model.top(k, |row| naive(precision, query, row).0, &accept);
    assert_eq!(found.len(), expected.len());
    assert!(found.is_sorted_by(|a, b| a.1 > b.1 || (a.1 == b.1 && a.0 < b.0)), "{found:?}");
    for ((key, score), (_, at_this_rank)) in found.into_iter().zip(expected) {
        let row = &model.0[&key];
        let (right, tolerance) = naive(precision, query, row);
        assert!((f64::from(score) - right).abs() <= tolerance, "{score} for {right}");
        assert!((f64::from(score) - at_this_rank).abs() <= tolerance, "{score} where {at_this_rank} belongs");
        assert!((-1.0..=1.0).contains(&score) && accept(key));
        assert_eq!(index.score(key, query), Some(score));
        if precision == Precision::Int8 {
            assert!((f64::from(score) - true_cosine(query, row)).abs() <= promised(query, row));
        }
    }
}

/// Numbers of a checked vector: ordinary ones, and now and then some at the ends of what `f32` can be.
fn vector(dimension: usize) -> impl Strategy<Value = Vec<f32>> {
    let ordinary = prop::collection::vec(-1.0f32..1.0, dimension);
    let few = prop::collection::vec(prop_oneof![9 => Just(0.0f32), 1 => Just(1.0f32), 1 => Just(-1.0f32)], dimension);
    let extreme =
        prop_oneof![Just(f32::MAX), Just(f32::MIN), Just(1e-45f32), Just(1e-39f32), Just(1e-20f32), -1.0f32..1.0];
    let wild = prop::collection::vec(extreme, dimension);
    let scaled = (ordinary.clone(), prop_oneof![Just(1e-38f32), Just(1e30f32)])
        .prop_map(|(numbers, scale)| numbers.into_iter().map(|number| number * scale).collect());
    prop_oneof![6 => ordinary, 2 => few, 1 => wild, 1 => scaled].prop_map(|mut numbers: Vec<f32>| {
        if numbers.iter().all(|&number| number == 0.0) {
            numbers[0] = 1.0;
        }
        numbers
    })
}

#[derive(Debug, Clone)]
enum Step {
    Set(i64, Vec<f32>),
    Remove(i64),
    Top(Vec<f32>, usize, i64),
}

fn steps() -> impl Strategy<Value = (usize, Vec<Step>)> {
    prop::sample::select(&DIMENSIONS[..]).prop_flat_map(|dimension| {
        let step = prop_oneof![
            5 => (-4i64..8, vector(dimension)).prop_map(|(key, vector)| Step::Set(key, vector)),
            2 => (-4i64..8).prop_map(Step::Remove),
            2 => (vector(dimension), 0usize..16, 1i64..4).prop_map(|(query, k, every)| Step::Top(query, k, every)),
        ];
        (Just(dimension), prop::collection::vec(step, 1..20))
    })
}

proptest! {
    #[test]
    fn behaves_as_the_obvious_way_does((dimension, steps) in steps()) {
        for precision in PRECISIONS {
            let (mut index, mut model) = (VectorIndex::new(dimension, precision), Model::default());
            for step in &steps {
                match step {
                    Step::Set(key, vector) => {
                        index.set(*key, vector);
                        model.0.insert(*key, vector.clone());
                    }
                    Step::Remove(key) => prop_assert_eq!(index.remove(*key), model.0.remove(key).is_some()),
                    Step::Top(query, k, every) => compare(&index, &model, query, *k, |key| key % every == 0),
                }
                prop_assert_eq!((index.len(), index.is_empty()), (model.0.len(), model.0.is_empty()));
            }
        }
    }

    #[test]
    fn the_exact_cosine_is_that(a in vector(384), b in vector(384)) {
        prop_assert!((f64::from(cosine(&a, &b)) - true_cosine(&a, &b)).abs() < 1e-6);
        prop_assert!((cosine(&a, &a) - 1.0).abs() < 1e-6);
    }
}

/// Numbers that are the same every time, one vector after another.
fn spread(dimension: usize, count: usize) -> Vec<Vec<f32>> {
    let mut state = 1u64;
    let mut number = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| (0..dimension).map(|_| number()).collect()).collect()
}

/// Enough rows for several pieces of memory.
fn filled(dimension: usize, precision: Precision, count: usize) -> (VectorIndex, Model) {
    let (mut index, mut model) = (VectorIndex::new(dimension, precision), Model::default());
    for (key, vector) in (0..).zip(spread(dimension, count)) {
        index.set(key, &vector);
        model.0.insert(key, vector);
    }
    (index, model)
}

#[test]
fn rows_in_many_pieces_are_found_replaced_and_removed() {
    for precision in PRECISIONS {
        let (mut index, mut model) = filled(MAX_DIMENSION, precision, 150);
        let query = spread(MAX_DIMENSION, 151).pop().expect("one");
        compare(&index, &model, &query, 20, |_| true);
        for key in (0..150).filter(|key| key % 3 != 0) {
            assert!(index.remove(key));
            assert!(!index.remove(key));
            model.0.remove(&key);
        }
        index.set(3, &query);
        model.0.insert(3, query.clone());
        compare(&index, &model, &query, 100, |_| true);
        let best = index.top(&query, 1, |_| true)[0];
        assert!(best.0 == 3 && best.1 > 0.99999, "{best:?}");
        assert_eq!(index.score(4, &query), None);
    }
}

#[test]
fn memory_is_counted_and_comes_back() {
    for (precision, number) in [(Precision::F32, 4), (Precision::Int8, 1)] {
        let mut index = VectorIndex::new(384, precision);
        assert_eq!((index.bytes(), index.dimension()), (0, 384));
        let vectors = spread(384, 10_000);
        for (key, vector) in (0..).zip(&vectors) {
            index.set(key, vector);
        }
        let rows = 10_000 * 384 * number;
        // A key and its place take up to 60 bytes; the last piece is up to one too large.
        assert!((rows..rows + 10_000 * 60 + CHUNK_BYTES).contains(&index.bytes()), "{}", index.bytes());
        for key in 1..10_000 {
            index.remove(key);
        }
        assert!(index.bytes() < 10_000 * 60 + CHUNK_BYTES, "{}", index.bytes());
        assert_eq!(index.top(&vectors[0], 2, |_| true).len(), 1);
    }
}

#[test]
fn equal_ones_are_ordered_by_key_however_they_came() {
    for precision in PRECISIONS {
        let mut index = VectorIndex::new(3, precision);
        for key in [7, -3, 9, 1, 4] {
            index.set(key, &[2.0, 0.0, 0.0]);
        }
        // Opposite, and at right angles from either side.
        index.set(0, &[-1.0, 0.0, 0.0]);
        index.set(6, &[-0.0, -3.0, 2.0]);
        index.set(5, &[0.0, 3.0, -2.0]);
        index.remove(9);
        let keys = |k| index.top(&[3.0, 0.0, 0.0], k, |_| true).into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(keys(3), [-3, 1, 4]);
        assert_eq!(keys(usize::MAX), [-3, 1, 4, 7, 5, 6, 0]);
        assert!(keys(0).is_empty());
    }
}

#[test]
fn only_what_would_be_among_the_best_is_asked_about() {
    let mut index = VectorIndex::new(2, Precision::F32);
    (0..100u8).for_each(|key| index.set(i64::from(key), &[100.0, f32::from(key)]));
    let asked = Cell::new(0);
    let found = index.top(&[1.0, 0.0], 2, |key| {
        asked.set(asked.get() + 1);
        key != 1
    });
    assert_eq!(found.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(asked.get(), 3);
}

#[test]
fn the_ends_of_f32_are_vectors_as_any_other() {
    for precision in PRECISIONS {
        let mut index = VectorIndex::new(4, precision);
        index.set(1, &[f32::MAX, f32::MAX, f32::MIN, f32::MAX]);
        index.set(2, &[1e-45, 0.0, 0.0, 0.0]);
        index.set(3, &[f32::MAX, 1e-45, 1e-45, 1e-45]);
        let tiny = [1e-45, 1e-45, -1e-45, 1e-45];
        assert_eq!(index.top(&tiny, 3, |_| true), [(1, 1.0), (2, 0.5), (3, 0.5)]);
        assert_eq!(cosine(&tiny, &[f32::MAX; 4]), 0.5);
    }
}

/// The largest sum that whole numbers can add up to must fit.
#[test]
fn no_sum_leaves_32_bits() {
    for dimension in [1, 515, 516, 517, 4096, MAX_DIMENSION] {
        let mut index = VectorIndex::new(dimension, Precision::Int8);
        let same = vec![0.3; dimension];
        index.set(1, &same);
        assert_eq!(index.score(1, &same), Some(1.0), "{dimension}");
        assert_eq!(index.score(1, &vec![-7.0; dimension]), Some(-1.0), "{dimension}");
        assert!(i64::from(query_levels(dimension)) * 127 * dimension as i64 <= i64::from(i32::MAX));
    }
}

#[test]
fn eight_bits_are_close_and_four_times_as_many_have_the_true_best() {
    let (index, model) = filled(384, Precision::Int8, 2000);
    for query in spread(384, 2005).split_off(2000) {
        let candidates = index.top(&query, 40, |_| true);
        for (key, score) in &candidates {
            assert!((score - cosine(&model.0[key], &query)).abs() < 1e-3);
        }
        let mut rescored: Vec<_> =
            candidates.into_iter().map(|(key, _)| (key, cosine(&model.0[&key], &query))).collect();
        rescored.sort_by(|a, b| b.1.total_cmp(&a.1));
        let best = model.top(10, |row| true_cosine(row, &query), |_| true);
        assert!(rescored.into_iter().zip(best).all(|((key, _), (expected, _))| key == expected));
    }
}
