//! The two inner loops, in as wide instructions as the processor has.
//!
//! Everything here is `#[inline(always)]`: what `dispatch!` calls is compiled once for each instruction set, with all that it
//! calls.

use fearless_simd::{Level, Simd, dispatch, f32x16, i8x64, i16x32, i32x16, prelude::*};

/// Numbers in a cache line, or in two.
macro_rules! block {
    ($(#[$doc:meta])* $name:ident, $number:ty, $len:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        #[repr(align(64))]
        pub struct $name([$number; $len]);

        impl $name {
            pub const LEN: usize = $len;

            /// Numbers as blocks, the last one filled up with zeros.
            pub fn of(numbers: impl Iterator<Item = $number>) -> Vec<Self> {
                let mut blocks = Vec::with_capacity(numbers.size_hint().0.div_ceil($len));
                for (index, number) in numbers.enumerate() {
                    if index % $len == 0 {
                        blocks.push($name([Default::default(); $len]));
                    }
                    if let Some(block) = blocks.last_mut() {
                        block.0[index % $len] = number;
                    }
                }
                blocks
            }
        }
    };
}

block!(
    /// Of a row or a query of length 1.
    Floats, f32, 16
);
block!(
    /// Of a row of whole numbers.
    Bytes, i8, 64
);
block!(
    /// Of a query of whole numbers: as many as in [`Bytes`].
    Words, i16, 64
);

/// The cosine of a query with each row.
pub fn score_floats(query: &[Floats], rows: &[Floats], scores: &mut [f32]) {
    dispatch!(Level::new(), simd => floats(simd, query, rows, scores));
}

/// The sum of products of a query with each row, rounded to `f32`. It must fit into 32 bits.
pub fn dot_bytes(query: &[Words], rows: &[Bytes], dots: &mut [f32]) {
    dispatch!(Level::new(), simd => bytes(simd, query, rows, dots));
}

#[inline(always)]
fn floats<S: Simd>(simd: S, query: &[Floats], rows: &[Floats], scores: &mut [f32]) {
    for (score, row) in scores.iter_mut().zip(rows.chunks_exact(query.len())) {
        let mut sums = f32x16::splat(simd, 0.0);
        for (numbers, query) in row.iter().zip(query) {
            sums = f32x16::from_slice(simd, &numbers.0).mul_add(f32x16::from_slice(simd, &query.0), sums);
        }
        *score = super::bounded(sums.reduce_sum());
    }
}

#[inline(always)]
fn bytes<S: Simd>(simd: S, query: &[Words], rows: &[Bytes], dots: &mut [f32]) {
    for (dot, row) in dots.iter_mut().zip(rows.chunks_exact(query.len())) {
        let mut sums = i32x16::splat(simd, 0);
        for (numbers, query) in row.iter().zip(query) {
            let (low, high) = i8x64::from_slice(simd, &numbers.0).widen();
            let (query_low, query_high) = query.0.split_at(Words::LEN / 2);
            sums += low.pairwise_dot_product(i16x32::from_slice(simd, query_low));
            sums += high.pairwise_dot_product(i16x32::from_slice(simd, query_high));
        }
        *dot = sums.reduce_sum() as f32;
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    /// Processors with the widest instructions would never try the others.
    #[test]
    fn every_instruction_set_gives_the_same() {
        let best = Level::new();
        let sse2 = best.as_sse2().map(|set| set.level());
        let sse4_2 = best.as_sse4_2().map(|set| set.level());
        let avx2 = best.as_avx2().map(|set| set.level());
        let rows = Bytes::of((0..3 * 384).map(|index| (index * 37 % 255 - 127) as i8));
        let query = Words::of((0..384).map(|index| (index * 7919 % 65_535 - 32_767) as i16));
        let exact: Vec<f32> = rows.chunks(6).map(|row| exact(&query, row) as f32).collect();
        let float_rows = Floats::of((0..3 * 384).map(|index| (index * 37 % 255 - 127) as f32 / 2000.0));
        let float_query = Floats::of((0..384).map(|index| (index * 41 % 255 - 127) as f32 / 2000.0));
        let (mut dots, mut first) = ([0.0; 3], [0.0; 3]);
        score_floats(&float_query, &float_rows, &mut first);
        for level in [Some(best), sse2, sse4_2, avx2].into_iter().flatten() {
            dispatch!(level, simd => bytes(simd, &query, &rows, &mut dots));
            assert_eq!(dots[..], exact, "{level:?}");
            dispatch!(level, simd => floats(simd, &float_query, &float_rows, &mut dots));
            assert!(
                dots.iter().zip(first).all(|(dot, first)| (dot - first).abs() < 1e-6),
                "{level:?}: {dots:?}, {first:?}"
            );
        }
    }

    fn exact(query: &[Words], row: &[Bytes]) -> i64 {
        let numbers = row.iter().flat_map(|block| block.0).map(i64::from);
        numbers.zip(query.iter().flat_map(|block| block.0)).map(|(number, query)| number * i64::from(query)).sum()
    }
}
