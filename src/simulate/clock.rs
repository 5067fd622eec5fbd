//! The simulated wall clock: tokio's paused time plus an offset that jumps.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use tokio::time::Instant;
use understudy_actors::ports::Clock;
use understudy_domain::time::Timestamp;

/// 2026-01-05T00:00:00Z, a Monday.
const START_US: i64 = 1_767_571_200_000_000;

pub struct SimClock {
    /// Time at the start of the life, jumps included.
    base: AtomicI64,
    life: Mutex<Option<Instant>>,
    /// A recorded stream is the clock: `now` is the latest time it has shown.
    stream: AtomicBool,
}

impl Default for SimClock {
    fn default() -> Self {
        SimClock { base: AtomicI64::new(START_US), life: Mutex::new(None), stream: AtomicBool::new(false) }
    }
}

impl SimClock {
    fn elapsed_us(&self) -> i64 {
        let life = self.life.lock().expect("no panic while held");
        if self.is_stream() {
            return 0;
        }
        life.map_or(0, |start| start.elapsed().as_micros() as i64)
    }

    /// A new runtime has a clock of its own.
    pub fn begin_life(&self) {
        *self.life.lock().expect("no panic while held") = Some(Instant::now());
    }

    /// Keeps the time at which a life ended.
    pub fn end_life(&self) {
        self.base.fetch_add(self.elapsed_us(), Relaxed);
        *self.life.lock().expect("no panic while held") = None;
    }

    pub fn set_stream(&self) {
        self.stream.store(true, Relaxed);
    }

    pub fn jump(&self, by_us: i64) {
        self.base.fetch_add(by_us, Relaxed);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.base.load(Relaxed) + self.elapsed_us())
    }
    fn observe(&self, t: Timestamp) {
        if self.is_stream() {
            self.base.fetch_max(t.0, Relaxed);
        }
    }
    fn is_stream(&self) -> bool {
        self.stream.load(Relaxed)
    }
}
