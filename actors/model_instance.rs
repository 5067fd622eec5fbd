//! **Owns** one loaded model version on one worker thread (weights are shared, immutable).
//! **Receives** `Predict` from the cell of the same thread.
//! **Sends** nothing.
//! **On failure** that request gets `internal` or `model_contract`; the instance is restarted.
//! **On restart** nothing needs rebuilding: the runtime holds no state.

use crate::api::Refusal;
use crate::fault_point;
use crate::guard::Vitals;
use crate::ports::ModelRuntime;
use actix::prelude::*;
use std::sync::Arc;
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

pub struct ModelInstance {
    vitals: Arc<Vitals>,
    runtime: Arc<dyn ModelRuntime>,
}

impl ModelInstance {
    pub fn new(vitals: Arc<Vitals>, runtime: Arc<dyn ModelRuntime>) -> Self {
        ModelInstance { vitals, runtime }
    }
}

impl Actor for ModelInstance {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.vitals.set_ready(true, "");
    }
}

impl Supervised for ModelInstance {}

impl Handler<Predict> for ModelInstance {
    type Result = Result<Scored, Refusal>;

    fn handle(&mut self, m: Predict, _: &mut Self::Context) -> Self::Result {
        fault_point!("model_instance.predict");
        let rows: Vec<&[Value]> = m.rows.iter().map(Vec::as_slice).collect();
        let scores = self.runtime.predict(&rows).map_err(|e| Refusal::Internal { detail: format!("model: {e}") })?;
        let sound = scores.len() == rows.len() && scores.iter().all(|s| (0.0..=1.0).contains(s));
        if !sound {
            return Err(Refusal::Internal {
                detail: "the model answered with the wrong shape or a value that is no probability".into(),
            });
        }
        Ok(Scored { rows: m.rows, scores })
    }
}
