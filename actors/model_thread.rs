//! Threads of their own for models that are slow or may hang: one that stands still is abandoned and replaced.
//!
//! A thread cannot be stopped from outside. So one that has not answered within the limit is left to itself: its queue
//! goes to a new thread, its late answer to nobody. After [`MAX_ABANDONED`] the instance takes no more work: a model
//! that hangs again and again would take every thread there is.

use crate::fault_point;
use crate::guard::{Vitals, panic_text};
use crate::model_instance::{Scored, score};
use crate::ports::ModelRuntime;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use understudy_domain::value::Value;

use crate::api::Refusal;

/// Threads of one instance that may stand still before it is given up.
pub const MAX_ABANDONED: usize = 3;
/// Rows waiting for one instance's threads; more are refused at once.
const MAX_QUEUE: usize = 1024;

type Reply = oneshot::Sender<Result<Scored, Refusal>>;

struct Job {
    rows: Vec<Vec<Value>>,
    reply: Reply,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    /// Threads at work: their number and since when; a thread that is not listed was abandoned.
    busy: Vec<(u64, Instant)>,
    started: u64,
    abandoned: usize,
    closed: bool,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    runtime: Arc<dyn ModelRuntime>,
    vitals: Arc<Vitals>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The threads of one instance; they end when it is dropped.
pub struct ModelThreads {
    shared: Arc<Shared>,
    hang: Duration,
}

impl ModelThreads {
    pub fn start(threads: usize, hang: Duration, runtime: Arc<dyn ModelRuntime>, vitals: Arc<Vitals>) -> ModelThreads {
        let shared = Arc::new(Shared { state: Mutex::default(), wake: Condvar::new(), runtime, vitals });
        let all = ModelThreads { shared, hang };
        (0..threads).for_each(|_| all.thread());
        all
    }

    fn thread(&self) {
        let shared = self.shared.clone();
        let mut state = self.shared.lock();
        state.started += 1;
        let number = state.started;
        let name = format!("model-{number}");
        if let Err(e) = std::thread::Builder::new().name(name).spawn(move || work(&shared, number)) {
            tracing::error!(%e, "no thread for a model");
        }
    }

    /// The answer comes to the receiver, or never: the caller's deadline ends the wait.
    pub fn predict(&self, rows: Vec<Vec<Value>>) -> Result<oneshot::Receiver<Result<Scored, Refusal>>, Refusal> {
        let mut state = self.shared.lock();
        if state.abandoned > MAX_ABANDONED {
            return Err(Refusal::Unavailable {
                code: "model_hangs",
                detail: format!(
                    "{} calls of this version did not end; train or choose another version",
                    state.abandoned
                ),
            });
        }
        if state.queue.len() >= MAX_QUEUE {
            return Err(Refusal::Overloaded { retry_after_ms: 1000 });
        }
        let (reply, answer) = oneshot::channel();
        // What nobody waits for any more is not worth a thread.
        state.queue.retain(|job| !job.reply.is_closed());
        state.queue.push_back(Job { rows, reply });
        self.shared.wake.notify_one();
        Ok(answer)
    }

    /// Looks for threads that stand still; each is replaced, until too many were.
    pub fn watch(&self) {
        let mut state = self.shared.lock();
        let before = state.busy.len();
        state.busy.retain(|(_, since)| since.elapsed() < self.hang);
        let hung = before - state.busy.len();
        state.abandoned += hung;
        let abandoned = state.abandoned;
        drop(state);
        if hung == 0 {
            return;
        }
        let (actor, limit) = (self.shared.vitals.name(), self.hang);
        tracing::error!(actor, hung, abandoned, ?limit, "a model call does not end; its thread is abandoned");
        if abandoned > MAX_ABANDONED {
            self.shared.vitals.set_ready(false, format!("incident: {abandoned} calls did not end within {limit:?}"));
        } else {
            (0..hung).for_each(|_| self.thread());
        }
    }
}

impl Drop for ModelThreads {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_all();
    }
}

fn work(shared: &Shared, number: u64) {
    loop {
        let job = {
            let mut state = shared.lock();
            loop {
                if state.closed {
                    return;
                }
                if let Some(job) = state.queue.pop_front() {
                    state.busy.push((number, Instant::now()));
                    break job;
                }
                state = shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        };
        let answer = catch_unwind(AssertUnwindSafe(|| {
            fault_point!("model_thread.predict");
            score(&*shared.runtime, job.rows)
        }))
        .unwrap_or_else(|panic| Err(Refusal::Internal { detail: format!("model: {}", panic_text(&*panic)) }));
        let _ = job.reply.send(answer);
        let mut state = shared.lock();
        let at = state.busy.iter().position(|(n, _)| *n == number);
        match at {
            Some(at) => drop(state.busy.swap_remove(at)),
            // Abandoned meanwhile, and replaced.
            None => return,
        }
    }
}
