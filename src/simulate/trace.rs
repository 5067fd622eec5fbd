//! What happened in a run, as a hash over every line and the last lines themselves.

use std::collections::VecDeque;
use xxhash_rust::xxh3::Xxh3;

/// Lines kept for the report of a failure.
const KEEP: usize = 60;

#[derive(Default)]
pub struct Trace {
    hash: Xxh3,
    lines: VecDeque<String>,
}

impl Trace {
    pub fn note(&mut self, line: String) {
        self.hash.update(line.as_bytes());
        self.hash.update(b"\n");
        if self.lines.len() == KEEP {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    pub fn hash(&self) -> u64 {
        self.hash.digest()
    }

    pub fn last(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }
}
