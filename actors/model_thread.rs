//! Threads of their own for a model that is slow or may hang: they take what waits as one batch where that pays, and
//! one that stands still is abandoned and replaced.
//!
//! Nothing waits for a batch: an idle thread takes what there is. A call whose caller has gone is not made. A thread
//! cannot be stopped from outside; so one that has not answered within the limit is left to itself: the queue goes to a
//! new thread, its late answer to nobody. After [`MAX_ABANDONED`] the version takes no more work: a model that hangs
//! again and again would take every thread there is.

use crate::api::{ModelFault, Refusal};
use crate::fault_point;
use crate::guard::panic_text;
use crate::model_host::{Blame, ModelRun, Scored, score};
use crate::ports::ModelRuntime;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use understudy_domain::batching::BatchCost;
use understudy_domain::value::Value;

/// Threads of one version that may stand still before it is given up.
pub const MAX_ABANDONED: usize = 3;
/// Calls waiting for one version's threads; more are refused at once.
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
    cost: BatchCost,
    idle: usize,
    started: u64,
    abandoned: usize,
    closed: bool,
}

impl State {
    /// This thread's share of what waits, in order; calls that nobody waits for any more are left out.
    fn take(&mut self, most: usize) -> Vec<Job> {
        self.queue.retain(|job| !job.reply.is_closed());
        let waiting: usize = self.queue.iter().map(|job| job.rows.len()).sum();
        let mut left = self.cost.size(waiting.div_ceil(self.idle + 1), most);
        let mut taken = Vec::new();
        while let Some(job) = self.queue.front()
            && (taken.is_empty() || job.rows.len() <= left)
        {
            left = left.saturating_sub(job.rows.len());
            taken.extend(self.queue.pop_front());
            if left == 0 {
                break;
            }
        }
        taken
    }
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    ended: Condvar,
    runtime: Arc<dyn ModelRuntime>,
    blame: Arc<Blame>,
    run: ModelRun,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The threads of one version; they end when it is dropped.
pub struct ModelThreads(Arc<Shared>);

impl ModelThreads {
    pub fn start(threads: usize, run: ModelRun, runtime: Arc<dyn ModelRuntime>, blame: Arc<Blame>) -> ModelThreads {
        let state = Mutex::default();
        let shared = Arc::new(Shared { state, wake: Condvar::new(), ended: Condvar::new(), runtime, blame, run });
        (0..threads).for_each(|_| one_more(&shared));
        let watched = shared.clone();
        thread("model-watch".into(), move || watch(&watched));
        ModelThreads(shared)
    }

    /// The answer comes to the receiver, or never: the caller's deadline ends the wait.
    pub fn predict(&self, rows: Vec<Vec<Value>>) -> Result<oneshot::Receiver<Result<Scored, Refusal>>, Refusal> {
        let mut state = self.0.lock();
        if state.abandoned > MAX_ABANDONED {
            return Err(Refusal::Unavailable {
                code: ModelFault::Hang.code(),
                detail: format!(
                    "{} calls of this version did not end; train or choose another version",
                    state.abandoned
                ),
            });
        }
        if state.queue.len() >= MAX_QUEUE {
            state.queue.retain(|job| !job.reply.is_closed());
            if state.queue.len() >= MAX_QUEUE {
                return Err(Refusal::Overloaded { retry_after_ms: 1000 });
            }
        }
        let (reply, answer) = oneshot::channel();
        state.queue.push_back(Job { rows, reply });
        self.0.wake.notify_one();
        Ok(answer)
    }
}

impl Drop for ModelThreads {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.wake.notify_all();
        self.0.ended.notify_all();
    }
}

fn thread(name: String, work: impl FnOnce() + Send + 'static) {
    if let Err(e) = std::thread::Builder::new().name(name).spawn(work) {
        tracing::error!(%e, "no thread for a model");
    }
}

/// One more thread that answers.
fn one_more(shared: &Arc<Shared>) {
    let own = shared.clone();
    let number = {
        let mut state = shared.lock();
        state.started += 1;
        state.started
    };
    thread(format!("model-{number}"), move || work(&own, number));
}

/// Looks for threads that stand still, until the end; each is replaced, until too many were.
fn watch(shared: &Arc<Shared>) {
    let hang = shared.run.hang;
    let every = (hang / 4).clamp(Duration::from_millis(5), Duration::from_millis(200));
    let mut state = shared.lock();
    while !state.closed {
        state = shared.ended.wait_timeout(state, every).unwrap_or_else(PoisonError::into_inner).0;
        let before = state.busy.len();
        state.busy.retain(|(_, since)| since.elapsed() < hang);
        let hung = before - state.busy.len();
        if hung == 0 {
            continue;
        }
        state.abandoned += hung;
        let abandoned = state.abandoned;
        let blame = &shared.blame;
        blame.count(ModelFault::Hang, hung as u64);
        let (model, version) = (&*blame.model, &*blame.version);
        tracing::error!(model, version, hung, abandoned, ?hang, "a model call does not end; its thread is abandoned");
        if abandoned > MAX_ABANDONED {
            tracing::error!(model, version, abandoned, "incident: this version is given up; its requests are refused");
            state.queue.clear();
            continue;
        }
        drop(state);
        (0..hung).for_each(|_| one_more(shared));
        state = shared.lock();
    }
}

fn work(shared: &Shared, number: u64) {
    loop {
        let jobs = {
            let mut state = shared.lock();
            loop {
                // What was asked before the end is still answered.
                let jobs = state.take(shared.run.max_batch);
                if !jobs.is_empty() {
                    state.busy.push((number, Instant::now()));
                    break jobs;
                }
                if state.closed {
                    return;
                }
                state.idle += 1;
                state = shared.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        };
        let rows = jobs.iter().map(|job| job.rows.len()).sum();
        let begun = Instant::now();
        answer(shared, jobs);
        let mut state = shared.lock();
        state.cost.on_call(rows, begun.elapsed());
        let at = state.busy.iter().position(|(n, _)| *n == number);
        match at {
            Some(at) => drop(state.busy.swap_remove(at)),
            // Abandoned meanwhile, and replaced.
            None => return,
        }
    }
}

/// One call for all of them; if that fails, one for each, so that a bad row is its own caller's alone.
fn answer(shared: &Shared, jobs: Vec<Job>) {
    if jobs.len() > 1 {
        let slices: Vec<&[Value]> = jobs.iter().flat_map(|job| job.rows.iter().map(Vec::as_slice)).collect();
        if let Ok(scores) = guarded(shared, &slices) {
            let mut scores = scores.into_iter();
            for Job { rows, reply } in jobs {
                let scores = scores.by_ref().take(rows.len()).collect();
                let _ = reply.send(Ok(Scored { rows, scores }));
            }
            return;
        }
    }
    for Job { rows, reply } in jobs {
        let slices: Vec<&[Value]> = rows.iter().map(Vec::as_slice).collect();
        let scored = guarded(shared, &slices);
        if let Err(refusal) = &scored {
            shared.blame.refused(refusal);
        }
        let _ = reply.send(scored.map(|scores| Scored { rows, scores }));
    }
}

fn guarded(shared: &Shared, rows: &[&[Value]]) -> Result<Vec<f64>, Refusal> {
    catch_unwind(AssertUnwindSafe(|| {
        fault_point!("model_thread.predict");
        score(&*shared.runtime, rows)
    }))
    .unwrap_or_else(|panic| {
        let detail = format!("the model panicked: {}", panic_text(&*panic));
        Err(Refusal::Model { fault: ModelFault::Panic, detail })
    })
}
