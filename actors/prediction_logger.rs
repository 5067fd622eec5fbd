//! **Owns** the joiner of predictions and outcomes, and the order of both logs.
//! **Receives** `LogPrediction` (fire and forget) from the cells, `PostOutcomes` from cells and the event logger, `FlushLog`.
//! **Sends** `PredictionServed`, `OutcomeObserved`, `PredictionExpired` to the model's monitor.
//! **On failure** callers that wait get `internal`; in async mode the records of the unflushed group are lost and counted.
//! **On restart** the joiner is rebuilt from both logs.

use crate::api::{OutcomeResult, Refusal};
use crate::deps::Deps;
use crate::guard::{Vitals, guarded};
use crate::monitor::{Monitor, OutcomeObserved, PredictionExpired, PredictionServed};
use crate::ports::{Commit, StoreError};
use actix::prelude::*;
use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::oneshot;
use understudy_domain::join::{Joined, Joiner, PredictionRef};
use understudy_domain::prediction::{OutcomeRecord, OutcomeStatus, PredictionId, PredictionRecord};
use understudy_domain::time::{Span, Timestamp};

/// Records written to the log at once when they come faster than the actor writes.
const GROUP: usize = 512;
/// How often expiry is looked at while nothing arrives.
const IDLE_TICK: Duration = Duration::from_secs(10);
/// Event time between two looks at expiry while predictions arrive.
const EXPIRY_STEP: Span = Span::seconds(60);

/// Keep what was seen and said.
#[derive(Message)]
#[rtype(result = "()")]
pub struct LogPrediction {
    pub record: Arc<PredictionRecord>,
    /// In sync mode the answer waits for it.
    pub durable: Option<oneshot::Sender<Result<(), StoreError>>>,
}

/// Take outcomes; replies with one result each when those that changed anything are durable.
#[derive(Message)]
#[rtype(result = "()")]
pub struct PostOutcomes {
    pub outcomes: Vec<OutcomeRecord>,
    /// Read from events: those of models that have never served are not kept.
    pub derived: bool,
    pub done: oneshot::Sender<Result<Vec<OutcomeResult>, Refusal>>,
}

/// Replies when everything logged before is durable.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct FlushLog;

#[derive(Message)]
#[rtype(result = "()")]
struct WriteGroup;

pub struct PredictionLogger {
    deps: Arc<Deps>,
    vitals: Arc<Vitals>,
    monitors: BTreeMap<String, Addr<Monitor>>,
    /// Records sent to this actor and not yet taken by the log; the cells add, this actor subtracts.
    queued: Arc<AtomicU64>,
    state: State,
}

struct State {
    joiner: Joiner,
    /// Models that have served at least once.
    served: HashSet<String>,
    group: Vec<PredictionRecord>,
    last_commit: Option<Commit>,
    /// Event time of the latest prediction or outcome, for recorded streams.
    seen: Timestamp,
    expired_at: Timestamp,
}

impl State {
    fn new(deps: &Deps) -> State {
        let specs = deps
            .catalog
            .models
            .iter()
            .filter_map(|(name, m)| m.spec.outcome.clone().map(|o| (name.clone(), o)))
            .collect();
        State {
            joiner: Joiner::new(specs, deps.settings.max_pending),
            served: HashSet::new(),
            group: Vec::new(),
            last_commit: None,
            seen: Timestamp::MIN,
            expired_at: Timestamp::MIN,
        }
    }
}

fn reference(record: &PredictionRecord) -> PredictionRef {
    PredictionRef {
        model: record.model.clone(),
        id: record.id,
        request_id: record.request_id.clone(),
        time: record.time,
        score: record.score,
        version: record.version.clone(),
    }
}

impl PredictionLogger {
    pub fn new(
        deps: Arc<Deps>,
        vitals: Arc<Vitals>,
        monitors: BTreeMap<String, Addr<Monitor>>,
        queued: Arc<AtomicU64>,
    ) -> Self {
        let state = State::new(&deps);
        PredictionLogger { deps, vitals, monitors, queued, state }
    }

    /// The clock of joins: a recorded stream's own, taken from what passes here and so independent of the
    /// threads' timing; else the wall clock.
    fn now(&mut self, seen: Timestamp) -> Timestamp {
        self.state.seen = self.state.seen.max(seen);
        if self.deps.clock.is_stream() { self.state.seen } else { self.deps.clock.now() }
    }

    fn recover(&mut self) -> Result<(), StoreError> {
        self.state = State::new(&self.deps);
        let mut records = Vec::new();
        self.deps.predictions.scan(None, PredictionId(0), &mut |r| {
            records.push((r.time, reference(&r)));
            self.monitor(&r.model.clone(), PredictionServed(Arc::new(r)));
            ControlFlow::Continue(())
        })?;
        let mut outcomes = Vec::new();
        self.deps.outcomes.scan(0, &mut |o| {
            outcomes.push(o);
            ControlFlow::Continue(())
        })?;
        // Both logs again in event time: predictions before outcomes of the same instant.
        let (mut p, mut o) = (records.into_iter().peekable(), outcomes.into_iter().peekable());
        loop {
            let take_prediction = match (p.peek(), o.peek()) {
                (Some((t, _)), Some(outcome)) => *t <= outcome.time,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => break,
            };
            if take_prediction {
                let (time, r) = p.next().expect("peeked");
                self.join_prediction(&r, time);
            } else {
                let outcome = o.next().expect("peeked");
                self.join_outcome(&outcome);
            }
        }
        Ok(())
    }

    fn monitor<M>(&self, model: &str, message: M)
    where
        M: Message + Send + 'static,
        M::Result: Send,
        Monitor: Handler<M>,
    {
        if let Some(monitor) = self.monitors.get(model) {
            monitor.do_send(message);
        }
    }

    fn observe(&self, joined: Joined) {
        self.monitor(&joined.model.clone(), OutcomeObserved(joined));
    }

    fn join_prediction(&mut self, r: &PredictionRef, time: Timestamp) {
        if !self.state.served.contains(&r.model) {
            self.state.served.insert(r.model.clone());
        }
        let now = self.now(time);
        if let Some(joined) = self.state.joiner.on_prediction(r, now) {
            self.observe(joined);
        }
        self.expire(now);
    }

    fn join_outcome(&mut self, outcome: &OutcomeRecord) -> OutcomeStatus {
        let now = self.now(outcome.time);
        let (status, joined) = self.state.joiner.on_outcome(outcome, now);
        if let Some(joined) = joined {
            self.observe(joined);
        }
        self.expire(now);
        status
    }

    fn expire(&mut self, now: Timestamp) {
        if now - self.state.expired_at < EXPIRY_STEP {
            return;
        }
        self.state.expired_at = now;
        for expiry in self.state.joiner.tick(now) {
            self.monitor(&expiry.model.clone(), PredictionExpired { time: expiry.time });
            self.deps.counters.outcomes.add(&[&expiry.model, "never"], 1);
        }
    }

    fn write_group(&mut self) {
        if self.state.group.is_empty() {
            return;
        }
        let group = std::mem::take(&mut self.state.group);
        self.queued.fetch_sub(group.len() as u64, Relaxed);
        self.state.last_commit = Some(self.deps.predictions.append(group));
    }

    fn post(&mut self, outcomes: Vec<OutcomeRecord>, derived: bool) -> (Vec<OutcomeResult>, Option<Commit>) {
        let mut changed = Vec::new();
        let mut results = Vec::new();
        for outcome in outcomes {
            let Some(model) = self.deps.catalog.model(&outcome.model) else {
                results.push(Err(Refusal::NotFound {
                    code: "unknown_model",
                    detail: format!("no model is named `{}`", outcome.model),
                }));
                continue;
            };
            if model.spec.outcome.is_none() {
                results.push(Err(Refusal::Invalid {
                    code: "no_outcome_declared",
                    detail: format!("model `{}` declares no [outcome]; add one to its file", outcome.model),
                }));
                continue;
            }
            if derived && !self.state.served.contains(&outcome.model) {
                continue;
            }
            let status = self.join_outcome(&outcome);
            self.deps.counters.outcomes.add(&[&outcome.model, status_name(status)], 1);
            if !matches!(status, OutcomeStatus::Duplicate | OutcomeStatus::Conflict | OutcomeStatus::Expired) {
                changed.push(outcome);
            }
            results.push(Ok(status));
        }
        let commit = (!changed.is_empty()).then(|| self.deps.outcomes.append(changed));
        (results, commit)
    }
}

pub fn status_name(status: OutcomeStatus) -> &'static str {
    match status {
        OutcomeStatus::Matured => "matured",
        OutcomeStatus::Amended => "amended",
        OutcomeStatus::Voided => "voided",
        OutcomeStatus::Parked => "parked",
        OutcomeStatus::Duplicate => "duplicate",
        OutcomeStatus::Conflict => "conflict",
        OutcomeStatus::Expired => "expired",
    }
}

impl Actor for PredictionLogger {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(4096);
        match self.recover() {
            Ok(()) => self.vitals.set_ready(true, ""),
            Err(e) => self.vitals.set_ready(false, e.to_string()),
        }
        ctx.run_interval(IDLE_TICK, |logger, _| {
            if !logger.deps.clock.is_stream() {
                let now = logger.deps.clock.now();
                logger.expire(now);
            }
        });
    }
}

impl Supervised for PredictionLogger {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.vitals.restarted(self.deps.wall.now());
        let lost = self.state.group.len() as u64;
        self.deps.counters.log_dropped.fetch_add(lost, Relaxed);
        self.queued.fetch_sub(lost, Relaxed);
        for monitor in self.monitors.values() {
            monitor.do_send(crate::monitor::ResetWindows);
        }
    }
}

impl Handler<LogPrediction> for PredictionLogger {
    type Result = ();

    fn handle(&mut self, m: LogPrediction, ctx: &mut Self::Context) {
        let vitals = self.vitals.clone();
        let _ = guarded(self, ctx, &vitals, |logger, ctx| {
            logger.join_prediction(&reference(&m.record), m.record.time);
            logger.monitor(&m.record.model, PredictionServed(m.record.clone()));
            // Whatever else is already in the mailbox joins this group.
            if logger.state.group.is_empty() {
                ctx.notify(WriteGroup);
            }
            logger.state.group.push(Arc::unwrap_or_clone(m.record));
            if logger.state.group.len() >= GROUP || m.durable.is_some() {
                logger.write_group();
            }
            if let (Some(durable), Some(commit)) = (m.durable, logger.state.last_commit.take()) {
                ctx.spawn(
                    async move {
                        let _ = durable.send(commit.await.unwrap_or(Err(StoreError::Closed)));
                    }
                    .into_actor(logger),
                );
            }
            Ok(())
        });
    }
}

impl Handler<WriteGroup> for PredictionLogger {
    type Result = ();

    fn handle(&mut self, _: WriteGroup, ctx: &mut Self::Context) {
        let vitals = self.vitals.clone();
        let _ = guarded(self, ctx, &vitals, |logger, _| {
            logger.write_group();
            Ok(())
        });
    }
}

impl Handler<PostOutcomes> for PredictionLogger {
    type Result = ();

    fn handle(&mut self, m: PostOutcomes, ctx: &mut Self::Context) {
        let vitals = self.vitals.clone();
        let posted = guarded(self, ctx, &vitals, |logger, _| Ok(logger.post(m.outcomes, m.derived)));
        match posted {
            Ok((results, None)) => drop(m.done.send(Ok(results))),
            Err(e) => drop(m.done.send(Err(e))),
            Ok((results, Some(commit))) => {
                ctx.spawn(
                    async move {
                        let durable = commit.await.unwrap_or(Err(StoreError::Closed));
                        let _ = m.done.send(durable.map(|()| results).map_err(unavailable));
                    }
                    .into_actor(self),
                );
            }
        }
    }
}

impl Handler<FlushLog> for PredictionLogger {
    type Result = ResponseFuture<Result<(), Refusal>>;

    fn handle(&mut self, _: FlushLog, ctx: &mut Self::Context) -> Self::Result {
        let vitals = self.vitals.clone();
        let flushed = guarded(self, ctx, &vitals, |logger, _| {
            logger.write_group();
            Ok(logger.state.last_commit.take())
        });
        Box::pin(async move {
            match flushed? {
                Some(commit) => commit.await.unwrap_or(Err(StoreError::Closed)).map_err(unavailable),
                None => Ok(()),
            }
        })
    }
}

/// Storage trouble as the caller sees it. `ENOSPC` (28) has a code of its own: its remedy is another.
pub fn unavailable(e: StoreError) -> Refusal {
    match &e {
        StoreError::Full => Refusal::Overloaded { retry_after_ms: 1000 },
        StoreError::Io(text) if text.contains("os error 28") => Refusal::Unavailable {
            code: "disk_full",
            detail: "the disk is full; free some space and send again".into(),
        },
        _ => Refusal::Unavailable { code: "storage_unavailable", detail: e.to_string() },
    }
}
