//! Where the calls of one loaded version run: on the worker that asks, or on threads of their own.
//!
//! On the worker: models of microseconds whose time is bounded by what they are made of. Anything else gets threads,
//! shared by all workers: what may hang from the start, what is slow by its golden requests, and what becomes slow.

use crate::api::{ModelFault, Refusal};
use crate::counters::Counters;
use crate::model_thread::ModelThreads;
use crate::ports::ModelRuntime;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use understudy_domain::batching::Pace;
use understudy_domain::value::Value;

/// How models are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelRun {
    /// Threads of each version; 0 lets quick and bounded models run on the workers, and gives the others half of the
    /// machine's cores.
    pub threads: usize,
    /// A call that has not ended by then never will.
    pub hang: Duration,
    /// A model whose row takes longer does not run on a worker.
    pub slow: Duration,
    /// Most rows of one call to a model on threads.
    pub max_batch: usize,
}

impl Default for ModelRun {
    fn default() -> Self {
        ModelRun { threads: 0, hang: Duration::from_secs(10), slow: Duration::from_millis(1), max_batch: 64 }
    }
}

impl ModelRun {
    /// Everything on the caller's thread, whatever it takes: for simulations, which have one thread.
    pub fn inline(self) -> ModelRun {
        ModelRun { threads: 0, slow: Duration::MAX, ..self }
    }

    fn own_threads(&self) -> usize {
        let half = || std::thread::available_parallelism().map_or(1, |n| usize::from(n) / 2);
        if self.threads > 0 { self.threads } else { half().max(1) }
    }
}

/// The rows come back with their scores, so that they need not be copied.
#[derive(Debug)]
pub struct Scored {
    pub rows: Vec<Vec<Value>>,
    pub scores: Vec<f64>,
}

/// Scores, or where they will be. Dropping the receiver gives the call up.
pub enum Scoring {
    Done(Scored),
    Later(oneshot::Receiver<Result<Scored, Refusal>>),
}

/// Names of a version and where its faults are counted.
pub struct Blame {
    pub model: Arc<str>,
    pub version: Arc<str>,
    pub counters: Arc<Counters>,
}

impl Blame {
    /// Counts what the model did wrong.
    pub fn count(&self, fault: ModelFault, n: u64) {
        self.counters.model_faults.add(&[&self.model, &self.version, fault.name()], n);
    }
}

/// One loaded version, ready to be called from any worker.
pub struct ModelHost {
    pub blame: Arc<Blame>,
    runtime: Arc<dyn ModelRuntime>,
    run: ModelRun,
    pace: Mutex<Pace>,
    threads: OnceLock<ModelThreads>,
}

impl ModelHost {
    pub fn new(blame: Blame, runtime: Arc<dyn ModelRuntime>, run: ModelRun) -> ModelHost {
        let slow = runtime.row_time().is_some_and(|t| t > run.slow);
        let own = run.threads > 0 || slow || (!runtime.bounded() && run.slow < Duration::MAX);
        let host = ModelHost { blame: Arc::new(blame), runtime, run, pace: Mutex::default(), threads: OnceLock::new() };
        if own {
            host.move_to_threads();
        }
        host
    }

    fn move_to_threads(&self) -> &ModelThreads {
        self.threads.get_or_init(|| {
            let threads = self.run.own_threads();
            ModelThreads::start(threads, self.run, self.runtime.clone(), self.blame.clone())
        })
    }

    /// Whether it has threads of its own.
    pub fn on_threads(&self) -> bool {
        self.threads.get().is_some()
    }

    /// Scores for rows in signature order.
    pub fn predict(&self, rows: Vec<Vec<Value>>) -> Result<Scoring, Refusal> {
        if let Some(threads) = self.threads.get() {
            return threads.predict(rows).map(Scoring::Later);
        }
        let (count, begun) = (rows.len(), Instant::now());
        let slices: Vec<&[Value]> = rows.iter().map(Vec::as_slice).collect();
        let scored = score(&*self.runtime, &slices);
        if self.run.slow < Duration::MAX
            && self.pace.lock().unwrap_or_else(PoisonError::into_inner).on_call(count, begun.elapsed(), self.run.slow)
            && !self.on_threads()
        {
            let (model, version, bound) = (&*self.blame.model, &*self.blame.version, self.run.slow);
            tracing::warn!(model, version, ?bound, "this model is too slow to run on a worker; it gets threads");
            self.move_to_threads();
        }
        match scored {
            Ok(scores) => Ok(Scoring::Done(Scored { rows, scores })),
            Err(refusal) => {
                self.blame.refused(&refusal);
                Err(refusal)
            }
        }
    }
}

impl Blame {
    pub(crate) fn refused(&self, refusal: &Refusal) {
        if let Refusal::Model { fault, .. } = refusal {
            self.count(*fault, 1);
        }
    }
}

/// Scores of rows in signature order, checked: what is no probability is never passed on.
pub(crate) fn score(runtime: &dyn ModelRuntime, rows: &[&[Value]]) -> Result<Vec<f64>, Refusal> {
    let wrong = |fault, detail: String| Err(Refusal::Model { fault, detail });
    let scores = match runtime.predict(rows) {
        Ok(scores) => scores,
        Err(e) => return wrong(ModelFault::Error, format!("the model failed: {e}")),
    };
    if scores.len() != rows.len() {
        return wrong(ModelFault::Shape, format!("the model gave {} scores for {} rows", scores.len(), rows.len()));
    }
    match scores.iter().find(|s| !(0.0..=1.0).contains(*s)) {
        None => Ok(scores),
        Some(s) if s.is_finite() => {
            wrong(ModelFault::Shape, format!("the model answered {s}, which is no probability"))
        }
        Some(_) => wrong(ModelFault::NotFinite, "the model answered a value that is not finite".into()),
    }
}
