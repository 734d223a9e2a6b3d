//! The cache beside its peers: what a hit costs, mixed throughput, hit ratios.
//!
//! `cargo run --release -- [PART] [WORD...]` runs one part, and of it the rows whose name has every word. Parts: `hit`,
//! `mixed`, `ratio` (these three by default), `variants` and `small` and `weights` (2Q's choices), `shadow` (the estimate
//! of what 2Q would win).

mod ours;
mod ratios;
mod shadow;
mod subject;
mod timing;
mod traces;
mod two_queues;

/// Prints the rows of a part that are wanted.
type Part = fn(&dyn Fn(&str) -> bool);

const PARTS: [(&str, Part); 7] = [
    ("hit", timing::hit),
    ("mixed", timing::mixed),
    ("ratio", ratios::peers),
    ("variants", ratios::variants),
    ("small", ratios::small),
    ("weights", ratios::weights),
    ("shadow", shadow::table),
];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let named = PARTS.iter().find(|(name, _)| words.first().is_some_and(|word| word == name));
    let rest = &words[usize::from(named.is_some())..];
    let is_wanted = |name: &str| rest.iter().all(|word| name.contains(word.as_str()));
    let parts = named.map_or(&PARTS[..3], std::slice::from_ref);
    for (at, (_, part)) in parts.iter().enumerate() {
        if at > 0 {
            println!();
        }
        part(&is_wanted);
    }
}
