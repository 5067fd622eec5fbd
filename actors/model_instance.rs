//! **Owns** one loaded model version on one worker thread (weights are shared, immutable).
//! **Receives** `Predict` from the cell of the same thread.
//! **Sends** nothing. A model that is slow or may hang runs on threads of its own, and a call that does not end holds
//! up neither this worker nor other callers.
//! **On failure** that request gets `internal`; the instance is restarted. A call that does not end: 504 at the
//! caller's deadline, its thread is abandoned and replaced; after too many, `model_hangs` at once.
//! **On restart** nothing needs rebuilding: the runtime holds no state.

use crate::api::Refusal;
use crate::fault_point;
use crate::guard::Vitals;
use crate::model_host::{ModelHost, Scored, Scoring};
use actix::prelude::*;
use std::sync::Arc;
use understudy_domain::value::Value;

/// Scores for rows in signature order.
#[derive(Message)]
#[rtype(result = "Result<Scoring, Refusal>")]
pub struct Predict {
    pub rows: Vec<Vec<Value>>,
}

pub struct ModelInstance {
    vitals: Arc<Vitals>,
    host: Arc<ModelHost>,
}

impl ModelInstance {
    pub fn new(vitals: Arc<Vitals>, host: Arc<ModelHost>) -> Self {
        ModelInstance { vitals, host }
    }
}

/// Asks and waits. Whoever drops this future gives the call up: it is not made if it has not begun.
pub async fn predict(instance: &Addr<ModelInstance>, rows: Vec<Vec<Value>>) -> Result<Scored, Refusal> {
    let gone = |e: MailboxError| Refusal::Internal { detail: format!("the model is being restarted ({e}); try again") };
    match instance.send(Predict { rows }).await.map_err(gone)?? {
        Scoring::Done(scored) => Ok(scored),
        Scoring::Later(answer) => answer
            .await
            .unwrap_or_else(|_| Err(Refusal::Internal { detail: "the model's thread ended without an answer".into() })),
    }
}

impl Actor for ModelInstance {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        // No timer: with one it would outlive the last who has its address, and its version stay in memory.
        self.vitals.set_ready(true, "");
    }
}

impl Supervised for ModelInstance {}

impl Handler<Predict> for ModelInstance {
    type Result = Result<Scoring, Refusal>;

    fn handle(&mut self, m: Predict, _: &mut Self::Context) -> Self::Result {
        fault_point!("model_instance.predict");
        self.host.predict(m.rows)
    }
}

#[cfg(test)]
mod tests;
