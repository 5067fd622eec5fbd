//! The request path of one HTTP worker: the handle that its gateway has on the system.
//!
//! A cell runs its own router and model instances, so that the messages of a request stay on its thread;
//! entity features are read from the shards' published tables, and only the log is on another thread.

mod admin;
mod arms;
mod behind;
mod drifting;
mod erase;
mod predict;
mod replay;
mod rollouts;

pub use erase::Erasure;
pub use predict::{refusal_code, verdict_name};

use crate::admission::Gate;
use crate::api::*;
use crate::config_watcher::ConfigWatcher;
use crate::deps::Deps;
use crate::event_logger::IngestEvents;
use crate::generation::Generation;
use crate::guard::Vitals;
use crate::ports::MessageSpan;
use crate::prediction_logger::PostOutcomes;
use crate::router::Router;
use crate::supervise;
use crate::system::System;
use actix::prelude::*;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use tokio::sync::oneshot;
use understudy_domain::event::{Event, IngestOutcome};
use understudy_domain::prediction::{OutcomeRecord, PredictionRecord};
use understudy_domain::trace::TraceContext;

/// Name of a worker's actor, one on each.
pub(crate) const CELL: &str = "router";

/// Cheap to clone; not `Send`: each worker thread makes its own.
#[derive(Clone)]
pub struct Cell {
    system: Arc<System>,
    router: Addr<Router>,
    gate: Rc<Gate>,
}

/// The answer kept for a repeated request id, with the fingerprint of what was asked.
#[derive(Clone)]
pub struct StoredAnswer {
    pub(crate) asked: u64,
    /// `None` while the first request with this id is in flight.
    pub(crate) answer: Option<Answer>,
}

impl Cell {
    /// Starts this worker's router on the current arbiter.
    pub fn new(system: Arc<System>) -> Cell {
        let vitals = Vitals::new(CELL, system.escalation.clone());
        system.register(vitals.clone());
        let router = Router::new(vitals.clone(), system.escalation.clone(), system.pool.clone());
        let gate = Gate::new(system.admission.clone());
        Cell { router: supervise::start(router, vitals), gate, system }
    }

    fn deps(&self) -> &Deps {
        &self.system.deps
    }

    /// The configuration in force: taken once per request and handed to what answers it.
    pub fn generation(&self) -> Arc<Generation> {
        self.system.current.load_full()
    }

    /// Asks the config watcher.
    pub async fn configuration<M, T>(&self, question: M) -> Result<T, Refusal>
    where
        M: Message<Result = Result<T, Refusal>> + Send + 'static,
        T: Send + 'static,
        ConfigWatcher: Handler<M>,
    {
        let watcher = self.system.config().ok_or_else(|| Refusal::Unavailable {
            code: "no_project_files",
            detail: "this server has no files to watch".into(),
        })?;
        watcher.send(question).await.map_err(mailbox)?
    }

    /// The gate that every request of this worker passes before anything is done for it.
    pub fn gate(&self) -> &Rc<Gate> {
        &self.gate
    }

    /// One result per event, in order; resolves when the accepted ones are durable and can be read.
    pub async fn ingest(&self, events: Vec<Event>) -> Result<Vec<IngestOutcome>, Refusal> {
        let taken = self.system.events.send(IngestEvents { events, hold: false }).await.map_err(mailbox)??;
        if let Some(commit) = taken.commit {
            self.committed(commit).await?;
        }
        Ok(taken.outcomes)
    }

    async fn committed(&self, commit: crate::ports::Commit) -> Result<(), Refusal> {
        let result = commit.await.unwrap_or(Err(crate::ports::StoreError::Closed));
        result.map_err(crate::prediction_logger::unavailable)
    }

    pub async fn outcomes(&self, outcomes: Vec<OutcomeRecord>) -> Result<Vec<OutcomeResult>, Refusal> {
        let (done, results) = oneshot::channel();
        self.system.logger.do_send(PostOutcomes { outcomes, derived: false, done });
        results
            .await
            .map_err(|_| Refusal::Internal { detail: "the prediction logger is being restarted; send again".into() })?
    }

    /// True while a recorded stream is the clock.
    pub fn clock_is_stream(&self) -> bool {
        self.deps().clock.is_stream()
    }

    /// Every actor is up and has recovered its state.
    pub fn ready(&self) -> bool {
        self.system.ready()
    }

    /// The record as it went to the log: for tests and the gateway's own use.
    pub(crate) fn log(
        &self,
        generation: &Generation,
        record: Arc<PredictionRecord>,
        durable: Option<oneshot::Sender<Result<(), crate::ports::StoreError>>>,
        trace: Option<TraceContext>,
    ) -> bool {
        if self.system.queued.fetch_add(1, Relaxed) >= generation.settings.log_queue {
            self.system.queued.fetch_sub(1, Relaxed);
            self.deps().counters.dropped();
            return false;
        }
        let traced = trace.map(|trace| (trace, Instant::now()));
        self.system.logger.do_send(crate::prediction_logger::LogPrediction { record, durable, traced });
        true
    }

    /// Awaits the answer to a message; it is a span of the request, if that is traced.
    async fn spanned<T>(
        &self,
        trace: Option<TraceContext>,
        actor: &'static str,
        message: &'static str,
        answer: impl Future<Output = T>,
    ) -> T {
        let Some(parent) = trace else { return answer.await };
        let started = Instant::now();
        let answered = answer.await;
        self.deps().telemetry.message(MessageSpan { parent, actor, message, started, took: started.elapsed() });
        answered
    }
}

fn mailbox(e: MailboxError) -> Refusal {
    Refusal::Internal { detail: format!("the actor is being restarted ({e}); try again") }
}
