//! The one hash of everything persisted or reproducible by a client: XXH3, seed 0.
//! It is the same on every machine and release; `std`'s hasher is not.

use xxhash_rust::xxh3::Xxh3;

/// XXH3-128 over the parts, each preceded by its length as u64 LE, so that ("ab","c") and ("a","bc") differ.
pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u128 {
    let mut h = Xxh3::new();
    for p in parts {
        h.update(&(p.len() as u64).to_le_bytes());
        h.update(p);
    }
    h.digest128()
}
