//! Admission: what may enter, what waits, what is refused at once. Not an actor: atomics that all workers
//! share, and one [`Gate`] per worker.
//!
//! **Owns** the requests in work by class and model, the adaptive limits, the rung of memory pressure.
//! **Receives** `Gate::enter` from the gateway before a request does anything; the ticket's drop ends it.
//! **Sends** nothing.
//! **On failure** a caller gets `Refusal::Shed` with the reason and when to come again; nothing was done.
//! **On restart** of the process it starts with an optimistic limit and learns anew.

mod gate;

pub use gate::{Gate, Ticket};

use crate::api::Refusal;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use understudy_domain::admission::{Class, Gradient, Rung, Window, model_share};

/// The adaptive limit never falls below this. A worker runs what is ready in turn, so a small number in work costs
/// little wait; a smaller limit would hold back callers that the machine can serve.
const MIN_LIMIT: u64 = 64;
/// The adaptive limit at the start; it grows within seconds when it is used.
const START_LIMIT: u64 = 256;
/// A caller is asked to stay away at least this long: coming back at once only costs both sides.
const MIN_RETRY_MS: u64 = 100;

/// Settings; all can change while requests are in work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdmissionLimits {
    /// Requests in work at once, whatever the adaptive limit says.
    pub max_in_flight: u64,
    /// A request that would wait longer on a worker before its work begins is refused; nobody waits twice as long.
    pub max_wait: Duration,
}

/// Why a request was not let in; the code of the refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// The queue of the worker is longer than it may be.
    Overloaded,
    /// It could not be answered within its deadline.
    Deadline,
    /// One model has all that one model may have.
    Model,
    /// Memory is short.
    Memory,
}

impl Shed {
    pub const ALL: [Shed; 4] = [Shed::Overloaded, Shed::Deadline, Shed::Model, Shed::Memory];

    pub fn code(self) -> &'static str {
        match self {
            Shed::Overloaded => "overloaded",
            Shed::Deadline => "deadline_unreachable",
            Shed::Model => "model_overloaded",
            Shed::Memory => "memory_pressure",
        }
    }
}

/// Requests of a class that ended in the present window, and what was learnt from earlier ones.
struct Lane {
    in_flight: AtomicU64,
    ended: AtomicU64,
    latency_us: AtomicU64,
    /// What a request must be expected to take, in microseconds: twice the mean of the last window.
    expected_us: AtomicU64,
    limit: AtomicU64,
    admitted: AtomicU64,
    shed: [AtomicU64; Shed::ALL.len()],
    learner: Mutex<Gradient>,
}

/// Shared by all workers.
pub struct Admission {
    lanes: [Lane; Class::ALL.len()],
    in_flight: AtomicU64,
    waiting: AtomicU64,
    models: Vec<(Arc<str>, AtomicU64)>,
    max_in_flight: AtomicU64,
    max_wait_us: AtomicU64,
    rung: AtomicU8,
    born: Instant,
    /// End of the present window, in microseconds since `born`.
    window_end: AtomicU64,
    window_start: AtomicU64,
}

/// Depth of a bound, for metrics and `/v1/system`.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ClassLoad {
    pub class: &'static str,
    pub in_flight: u64,
    /// Most that may be in work, all classes together, for one more of this class.
    pub limit: u64,
    pub admitted: u64,
    /// Refused, by reason.
    pub shed: Vec<(&'static str, u64)>,
}

impl Admission {
    pub fn new(limits: AdmissionLimits, models: impl IntoIterator<Item = Arc<str>>) -> Arc<Admission> {
        let lane = || {
            let learner = Gradient::new(START_LIMIT, MIN_LIMIT, limits.max_in_flight);
            Lane {
                in_flight: AtomicU64::new(0),
                ended: AtomicU64::new(0),
                latency_us: AtomicU64::new(0),
                expected_us: AtomicU64::new(0),
                limit: AtomicU64::new(learner.limit()),
                admitted: AtomicU64::new(0),
                shed: Default::default(),
                learner: Mutex::new(learner),
            }
        };
        Arc::new(Admission {
            lanes: std::array::from_fn(|_| lane()),
            in_flight: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            models: models.into_iter().map(|m| (m, AtomicU64::new(0))).collect(),
            max_in_flight: AtomicU64::new(limits.max_in_flight),
            max_wait_us: AtomicU64::new(micros(limits.max_wait)),
            rung: AtomicU8::new(0),
            born: Instant::now(),
            window_end: AtomicU64::new(0),
            window_start: AtomicU64::new(0),
        })
    }

    /// New settings, for requests from now on.
    pub fn apply(&self, limits: AdmissionLimits) {
        self.max_in_flight.store(limits.max_in_flight, Relaxed);
        self.max_wait_us.store(micros(limits.max_wait), Relaxed);
        for lane in &self.lanes {
            let Ok(mut learner) = lane.learner.lock() else { continue };
            learner.rebound(MIN_LIMIT, limits.max_in_flight);
            lane.limit.store(learner.limit(), Relaxed);
        }
    }

    /// The rung of memory pressure, for requests from now on.
    pub fn set_rung(&self, rung: Rung) {
        self.rung.store(rung as u8, Relaxed);
    }

    pub fn rung(&self) -> Rung {
        Rung::from_index(self.rung.load(Relaxed))
    }

    /// Requests in work and those that wait on a worker.
    pub fn depth(&self) -> (u64, u64) {
        (self.in_flight.load(Relaxed), self.waiting.load(Relaxed))
    }

    pub fn max_wait(&self) -> Duration {
        Duration::from_micros(self.max_wait_us.load(Relaxed))
    }

    pub fn loads(&self) -> Vec<ClassLoad> {
        let of = |class: Class| {
            let lane = &self.lanes[class as usize];
            ClassLoad {
                class: class.name(),
                in_flight: lane.in_flight.load(Relaxed),
                limit: self.limit(class),
                admitted: lane.admitted.load(Relaxed),
                shed: Shed::ALL.iter().zip(&lane.shed).map(|(s, n)| (s.code(), n.load(Relaxed))).collect(),
            }
        };
        Class::ALL.into_iter().map(of).collect()
    }

    /// (model, requests in work, most that may be).
    pub fn model_loads(&self) -> Vec<(Arc<str>, u64, u64)> {
        let most = model_share(self.limit(Class::Serve), self.models.len());
        self.models.iter().map(|(name, n)| (name.clone(), n.load(Relaxed), most)).collect()
    }

    /// Most that may be in work, all classes together, for one more of this class. Serving sets the limit for
    /// all; only ingest, which waits for the disk, has a latency of its own to learn from.
    fn limit(&self, class: Class) -> u64 {
        let own = self.lanes[class as usize].limit.load(Relaxed);
        class.share(self.lanes[Class::Serve as usize].limit.load(Relaxed)).min(own)
    }

    fn take(&self, class: Class, model: Option<usize>) -> Result<(), Shed> {
        let lane = &self.lanes[class as usize];
        let back = |n: &AtomicU64| {
            n.fetch_sub(1, Relaxed);
        };
        let serving = self.lanes[Class::Serve as usize].limit.load(Relaxed);
        if self.in_flight.fetch_add(1, Relaxed) >= class.share(serving) {
            back(&self.in_flight);
            return Err(Shed::Overloaded);
        }
        if lane.in_flight.fetch_add(1, Relaxed) >= lane.limit.load(Relaxed) {
            back(&self.in_flight);
            back(&lane.in_flight);
            return Err(Shed::Overloaded);
        }
        if let Some(model) = model {
            let most = model_share(serving, self.models.len());
            if self.models[model].1.fetch_add(1, Relaxed) >= most {
                back(&self.in_flight);
                back(&lane.in_flight);
                back(&self.models[model].1);
                return Err(Shed::Model);
            }
        }
        lane.admitted.fetch_add(1, Relaxed);
        Ok(())
    }

    fn give_back(&self, class: Class, model: Option<usize>, took: Duration, now: Instant) {
        let lane = &self.lanes[class as usize];
        self.in_flight.fetch_sub(1, Relaxed);
        lane.in_flight.fetch_sub(1, Relaxed);
        if let Some(model) = model {
            self.models[model].1.fetch_sub(1, Relaxed);
        }
        lane.ended.fetch_add(1, Relaxed);
        lane.latency_us.fetch_add(micros(took), Relaxed);
        let at = micros(now - self.born);
        let end = self.window_end.load(Relaxed);
        if at >= end && self.window_end.compare_exchange(end, at + Gradient::WINDOW.0 as u64, Relaxed, Relaxed).is_ok()
        {
            self.learn(at);
        }
    }

    /// Once per window, by whoever ends the first request after it.
    fn learn(&self, at: u64) {
        let length_us = at.saturating_sub(self.window_start.swap(at, Relaxed)).max(1) as f64;
        for class in [Class::Serve, Class::Ingest] {
            let lane = &self.lanes[class as usize];
            let (count, sum) = (lane.ended.swap(0, Relaxed), lane.latency_us.swap(0, Relaxed));
            if count == 0 {
                continue;
            }
            let mean_us = sum as f64 / count as f64;
            lane.expected_us.store((2.0 * mean_us) as u64, Relaxed);
            let Ok(mut learner) = lane.learner.lock() else { continue };
            let limit = learner.on_window(Window { count, mean_us, in_flight: sum as f64 / length_us });
            lane.limit.store(limit, Relaxed);
        }
    }

    fn refusal(&self, class: Class, why: Shed, wait: Duration) -> Refusal {
        self.lanes[class as usize].shed[why as usize].fetch_add(1, Relaxed);
        let rung = self.rung();
        let detail = match why {
            Shed::Overloaded => format!("more {} requests than can be answered; nothing was done", class.name()),
            Shed::Deadline => "it could not be answered within its deadline; nothing was done".to_owned(),
            Shed::Model => "this model has all that one model may have in work; nothing was done".to_owned(),
            Shed::Memory => {
                format!("memory is short (level {}); {} requests are refused", rung.name(), class.name())
            }
        };
        let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let retry_after_ms = if why == Shed::Memory { 5_000 } else { wait.clamp(MIN_RETRY_MS, 10_000) };
        Refusal::Shed { code: why.code(), detail, retry_after_ms }
    }
}

fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
