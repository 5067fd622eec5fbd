//! The one hash of everything persisted or reproducible by a client: XXH3, seed 0.
//! It is the same on every machine and release; `std`'s hasher is not.

use xxhash_rust::xxh3::{Xxh3, xxh3_64, xxh3_128};

/// What is gathered on the stack; longer input goes through the streaming state, which costs more to set up
/// than a short input takes to hash.
const SHORT: usize = 240;

/// XXH3-128 over the parts, each preceded by its length as u64 LE, so that ("ab","c") and ("a","bc") differ.
pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u128 {
    let (mut short, mut used) = ([0u8; SHORT], 0);
    let mut parts = parts.into_iter();
    while let Some(p) = parts.next() {
        let end = used + 8 + p.len();
        if end > SHORT {
            return streamed(&short[..used], std::iter::once(p).chain(parts));
        }
        short[used..used + 8].copy_from_slice(&(p.len() as u64).to_le_bytes());
        short[used + 8..end].copy_from_slice(p);
        used = end;
    }
    xxh3_128(&short[..used])
}

/// XXH3-64 of one run of bytes.
pub fn of_bytes(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

fn streamed<'a>(start: &[u8], parts: impl Iterator<Item = &'a [u8]>) -> u128 {
    let mut h = Xxh3::new();
    h.update(start);
    for p in parts {
        h.update(&(p.len() as u64).to_le_bytes());
        h.update(p);
    }
    h.digest128()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn short_and_long_input_have_one_hash(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..120), 0..6)) {
            let parts = || parts.iter().map(Vec::as_slice);
            prop_assert_eq!(of_parts(parts()), streamed(&[], parts()));
        }
    }
}
