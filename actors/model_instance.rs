//! **Owns** one loaded model version on one worker thread (weights are shared, immutable).
//! **Receives** `Predict` from the cell of the same thread.
//! **Sends** nothing. With `threads` the work is done on threads of its own, and a call that does not end holds up
//! neither this worker nor other callers.
//! **On failure** that request gets `internal`; the instance is restarted. A call that does not end: 504 at the
//! caller's deadline, its thread is abandoned and replaced; after too many, `model_hangs` at once.
//! **On restart** nothing needs rebuilding: the runtime holds no state.

use crate::api::Refusal;
use crate::fault_point;
use crate::guard::Vitals;
use crate::model_thread::ModelThreads;
use crate::ports::ModelRuntime;
use actix::prelude::*;
use std::sync::Arc;
use std::time::Duration;
use understudy_domain::value::Value;

/// Scores for rows in signature order.
#[derive(Message)]
#[rtype(result = "Result<Scored, Refusal>")]
pub struct Predict {
    pub rows: Vec<Vec<Value>>,
}

/// The rows come back with their scores, so that they need not be copied.
#[derive(Debug)]
pub struct Scored {
    pub rows: Vec<Vec<Value>>,
    pub scores: Vec<f64>,
}

/// Between two looks for threads that stand still.
const WATCH: Duration = Duration::from_millis(200);

/// How a worker runs its models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelRun {
    /// Threads of each loaded version on each worker; 0 runs it on the worker itself, which suits models that take
    /// microseconds.
    pub threads: usize,
    /// A call that has not ended by then never will.
    pub hang: Duration,
}

impl Default for ModelRun {
    fn default() -> Self {
        ModelRun { threads: 0, hang: Duration::from_secs(10) }
    }
}

pub struct ModelInstance {
    vitals: Arc<Vitals>,
    runtime: Arc<dyn ModelRuntime>,
    run: ModelRun,
    threads: Option<ModelThreads>,
}

impl ModelInstance {
    pub fn new(vitals: Arc<Vitals>, runtime: Arc<dyn ModelRuntime>, run: ModelRun) -> Self {
        ModelInstance { vitals, runtime, run, threads: None }
    }
}

/// Scores of rows in signature order, checked.
pub(crate) fn score(runtime: &dyn ModelRuntime, rows: Vec<Vec<Value>>) -> Result<Scored, Refusal> {
    let slices: Vec<&[Value]> = rows.iter().map(Vec::as_slice).collect();
    let scores = runtime.predict(&slices).map_err(|e| Refusal::Internal { detail: format!("model: {e}") })?;
    let sound = scores.len() == rows.len() && scores.iter().all(|s| (0.0..=1.0).contains(s));
    if !sound {
        return Err(Refusal::Internal {
            detail: "the model answered with the wrong shape or a value that is no probability".into(),
        });
    }
    Ok(Scored { rows, scores })
}

impl Actor for ModelInstance {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.vitals.set_ready(true, "");
        if self.run.threads > 0 {
            let threads =
                ModelThreads::start(self.run.threads, self.run.hang, self.runtime.clone(), self.vitals.clone());
            self.threads = Some(threads);
            ctx.run_interval(WATCH, |instance, _| instance.threads.iter().for_each(ModelThreads::watch));
        }
    }
}

impl Supervised for ModelInstance {}

impl Handler<Predict> for ModelInstance {
    type Result = Response<Result<Scored, Refusal>>;

    fn handle(&mut self, m: Predict, _: &mut Self::Context) -> Self::Result {
        fault_point!("model_instance.predict");
        let Some(threads) = &self.threads else { return Response::reply(score(&*self.runtime, m.rows)) };
        match threads.predict(m.rows) {
            Err(refusal) => Response::reply(Err(refusal)),
            Ok(answer) => Response::fut(async move {
                let gone = || Err(Refusal::Internal { detail: "the model's thread ended without an answer".into() });
                answer.await.unwrap_or_else(|_| gone())
            }),
        }
    }
}

#[cfg(test)]
mod tests;
