//! The two clocks: the machine's, and a recorded stream's own.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};
use understudy_actors::ports::Clock;
use understudy_domain::time::Timestamp;

pub struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
    fn observe(&self, _: Timestamp) {}
    fn is_stream(&self) -> bool {
        false
    }
}

/// `now` is the latest time that the stream has shown; it never moves back.
pub struct StreamClock(AtomicI64);

impl Default for StreamClock {
    fn default() -> Self {
        StreamClock(AtomicI64::new(0))
    }
}

impl Clock for StreamClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Relaxed))
    }
    fn observe(&self, t: Timestamp) {
        self.0.fetch_max(t.0, Relaxed);
    }
    fn is_stream(&self) -> bool {
        true
    }
}
