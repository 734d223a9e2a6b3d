//! The nearest of 100,000 embeddings, beside adding up the products of all of them in the most obvious way, in one run.
//!
//! `cargo bench --bench vectors -- WORD` runs the rows whose name has the word.

mod pairing;

use std::cell::RefCell;
use std::hint::black_box;

use pairing::{Row, heading};
use skillcache::store::vectors::{Precision, VectorIndex};

const VECTORS: usize = 100_000;
const DIMENSION: usize = 384;

/// Numbers from -1 to 1, the same every time.
fn numbers() -> Vec<f32> {
    let mut state = 1u64;
    let number = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..VECTORS * DIMENSION).map(number).collect()
}

fn main() {
    let numbers = numbers();
    let query = &numbers[DIMENSION * 7..DIMENSION * 8];
    let scores = RefCell::new(vec![0.0; VECTORS]);
    let naive = || {
        for (score, row) in scores.borrow_mut().iter_mut().zip(numbers.chunks_exact(DIMENSION)) {
            *score = row.iter().zip(black_box(query)).map(|(a, b)| a * b).sum::<f32>();
        }
    };
    let read = || {
        let sums = numbers.chunks_exact(16).fold([0u32; 16], |mut sums, numbers| {
            sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum ^= number.to_bits());
            sums
        });
        black_box(sums);
    };
    heading();
    for (precision, name) in [(Precision::F32, "f32"), (Precision::Int8, "int8")] {
        let mut index = VectorIndex::new(DIMENSION, precision);
        (0..).zip(numbers.chunks_exact(DIMENSION)).for_each(|(key, vector)| index.set(key, vector));
        let top = || assert_eq!(index.top(black_box(query), 10, |_| true)[0].0, 7);
        let name = format!("top 10 of 100,000 x 384, {name}");
        let row = Row { name: &name, peer: "products summed by iterators, f32", blocks: 40, calls: 1, peer_calls: 1 };
        row.run(top, naive);
        Row { peer: "every f32 read once", ..row }.run(top, read);
    }
}
