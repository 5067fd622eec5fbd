//! What was seen recently, by id: event ids (duplicates), request ids (repeated requests).

use crate::time::{Span, Timestamp};
use std::collections::HashMap;

/// What is remembered of an accepted event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub seq: u64,
    /// Content without the id; the same id with another fingerprint is a conflict.
    pub fingerprint: u64,
}

/// Ids of the last `window`, in two generations so that forgetting is O(1) per rotation.
/// An id is remembered for at least `window`, and for at most twice that, unless more than
/// `max_ids` arrive meanwhile: then the older generation goes early.
#[derive(Clone, Debug)]
pub struct Recent<V> {
    window: Span,
    max_ids: usize,
    current: HashMap<u128, V>,
    previous: HashMap<u128, V>,
    rotated: Timestamp,
}

impl<V> Recent<V> {
    pub fn new(window: Span, max_ids: usize) -> Self {
        Recent {
            window,
            max_ids: max_ids.max(2),
            current: HashMap::new(),
            previous: HashMap::new(),
            rotated: Timestamp::MIN,
        }
    }

    /// Room for so many more, as far as a generation takes them.
    pub fn reserve(&mut self, more: usize) {
        self.current.reserve(more.min((self.max_ids / 2).saturating_sub(self.current.len())));
    }

    /// Another window, from the next insert on.
    pub fn set_window(&mut self, window: Span) {
        self.window = window;
    }

    pub fn get(&self, id: u128) -> Option<&V> {
        self.current.get(&id).or_else(|| self.previous.get(&id))
    }

    pub fn insert(&mut self, id: u128, value: V, now: Timestamp) {
        if self.rotated == Timestamp::MIN {
            self.rotated = now;
        }
        if now - self.rotated >= self.window || self.current.len() >= self.max_ids / 2 {
            // As many may be expected again: growing a large table stalls whoever inserts.
            let next = HashMap::with_capacity(self.current.len());
            self.previous = std::mem::replace(&mut self.current, next);
            self.rotated = now;
        }
        self.current.insert(id, value);
    }

    pub fn remove(&mut self, id: u128) {
        self.current.remove(&id);
        self.previous.remove(&id);
    }

    pub fn len(&self) -> usize {
        self.current.len() + self.previous.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(seq: u64) -> Seen {
        Seen { seq, fingerprint: seq }
    }

    #[test]
    fn remembers_for_the_window_and_forgets_after_two() {
        let mut index = Recent::new(Span::hours(1), 1000);
        let t = |m: i64| Timestamp(m * 60_000_000);
        index.insert(1, seen(1), t(0));
        index.insert(2, seen(2), t(59));
        assert_eq!(index.get(1), Some(&seen(1)));
        index.insert(3, seen(3), t(60));
        assert_eq!(index.get(1), Some(&seen(1)), "the generation before is still searched");
        index.insert(4, seen(4), t(120));
        assert_eq!((index.get(1), index.get(3)), (None, Some(&seen(3))));
    }

    #[test]
    fn never_holds_more_than_its_bound() {
        let mut index = Recent::new(Span::days(7), 100);
        for i in 0..10_000u64 {
            index.insert(u128::from(i), seen(i), Timestamp(0));
            assert!(index.len() <= 100);
        }
        assert_eq!(index.get(9_999), Some(&seen(9_999)));
    }
}
