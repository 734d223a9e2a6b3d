//! Trouble, made on purpose: each kind tells exactly what the documentation says, in that order, and then is quiet.

mod caches;
mod delivery;
mod memory;
mod pool;
mod runs;
mod store;
