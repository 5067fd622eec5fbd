//! **Owns** the joiner of predictions and outcomes, and the order of both logs.
//! **Receives** `LogPrediction` (fire and forget) from the cells, `PostOutcomes` from cells and the event logger, `FlushLog`, `CatchUp`,
//! `SaveJoins`.
//! **Sends** `PredictionsServed`, `OutcomeObserved`, `PredictionExpired`, `GetCounts`, `RestoreCounts` to the model's monitor.
//! **On failure** callers that wait get `internal` or `storage_unavailable`; in async mode the records of the unflushed
//! group, and of a group that the log refused, are lost and counted. After an outcome that could not be written the
//! joiner is rebuilt, so that the same outcome sent again is not taken for a duplicate.
//! **On restart** the joiner and the monitors' counts are what was saved last and both logs after it, read when all
//! that was given to them before is settled.

mod outcomes;
mod recovery;
mod rollouts;

use crate::api::Refusal;
use crate::deps::Deps;
use crate::event_logger::RETRY;
use crate::fault_point;
use crate::generation::Current;
use crate::guard::Vitals;
use crate::monitor::Input;
use crate::ports::{Commit, MessageSpan, StoreError};
use crate::rollout::{Board, RolloutFact};
use actix::prelude::*;
pub use outcomes::{FollowOutcomes, PostOutcomes, status_name};
use outcomes::{Post, outcome_specs};
pub use recovery::{JoinSnapshot, SaveJoins};
pub use rollouts::{AnswerFailed, LogShadow, TellRollouts};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use understudy_domain::catalog::Catalog;
use understudy_domain::join::{Joined, Joiner, PredictionRef};
use understudy_domain::prediction::{OutcomeRecord, OutcomeStatus, PredictionId, PredictionRecord, ServedArm};
use understudy_domain::time::{Span, Timestamp};
use understudy_domain::trace::TraceContext;

/// Records written to the log at once.
const GROUP: usize = 1024;
/// How long a group waits for company: a commit costs the same for one record as for hundreds. A crash of the
/// process loses at most this much of what async mode has answered.
const LINGER: Duration = Duration::from_millis(10);
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
    /// The request is traced, and when it was sent here.
    pub traced: Option<(TraceContext, Instant)>,
}

/// Replies when everything logged before is durable.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct FlushLog;

/// Replies when everything logged before can be read, or could not be written.
#[derive(Message)]
#[rtype(result = "()")]
pub struct CatchUp;

#[derive(Message)]
#[rtype(result = "()")]
struct WriteGroup;

pub struct PredictionLogger {
    deps: Arc<Deps>,
    current: Current,
    vitals: Arc<Vitals>,
    /// Records sent to this actor and not yet taken by the log; the cells add, this actor subtracts.
    queued: Arc<AtomicU64>,
    board: Arc<Board>,
    /// For the rollout controller, in order.
    facts: Vec<RolloutFact>,
    /// Groups on their way to the log, oldest first.
    commits: VecDeque<(u64, Commit)>,
    /// Posts that wait until their outcomes are durable, oldest first.
    posts: VecDeque<Post>,
    posted: u64,
    /// Records without a waiting caller that left the mailbox and are in no group yet.
    in_hand: u64,
    /// A group failed since the last flush.
    failed: Option<StoreError>,
    /// The logs are read again: the clock of joins is what they tell, and monitors get the result.
    rebuilt: Option<BTreeMap<String, recovery::Rebuilt>>,
    /// Predictions and outcomes joined since the last save.
    since_saved: u64,
    saving: bool,
    writing: recovery::Writing,
    /// They were read: outcomes can be told from duplicates.
    complete: bool,
    state: State,
}

struct State {
    joiner: Joiner,
    /// Models that have served at least once.
    served: HashSet<String>,
    group: Vec<Arc<PredictionRecord>>,
    /// Of these, requests of a recorded stream that was sent again: the log has them, and monitors have counted them.
    repeats: HashSet<PredictionId>,
    /// Traced requests of the group.
    traced: Vec<(TraceContext, Instant)>,
    /// Event time of the latest prediction or outcome, for recorded streams.
    seen: Timestamp,
    expired_at: Timestamp,
}

impl State {
    fn new(deps: &Deps, catalog: &Catalog) -> State {
        let specs = outcome_specs(catalog);
        State {
            joiner: Joiner::new(specs, deps.settings.max_pending),
            served: HashSet::new(),
            group: Vec::new(),
            repeats: HashSet::new(),
            traced: Vec::new(),
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
        current: Current,
        vitals: Arc<Vitals>,
        queued: Arc<AtomicU64>,
        board: Arc<Board>,
    ) -> Self {
        let state = State::new(&deps, &current.load().catalog);
        PredictionLogger {
            deps,
            current,
            vitals,
            queued,
            board,
            facts: Vec::new(),
            commits: VecDeque::new(),
            posts: VecDeque::new(),
            posted: 0,
            in_hand: 0,
            failed: None,
            rebuilt: None,
            since_saved: 0,
            saving: false,
            writing: recovery::Writing::default(),
            complete: false,
            state,
        }
    }

    /// Waits until all that was appended is durable or refused, then reads both logs. Messages wait meanwhile.
    fn rebuild(&mut self, ctx: &mut Context<Self>) {
        self.vitals.set_ready(false, "reading the prediction and outcome logs");
        let (predictions, outcomes) = (self.deps.predictions.append(Vec::new()), self.deps.outcomes.append(Vec::new()));
        let settled = async move {
            let _ = predictions.await;
            let _ = outcomes.await;
        };
        ctx.wait(settled.into_actor(self).map(|(), logger, ctx| {
            logger.settle();
            fault_point!("prediction_logger.started");
            match logger.recover() {
                Ok(()) => logger.vitals.set_ready(true, ""),
                Err(e) => {
                    logger.vitals.set_ready(false, e.to_string());
                    ctx.run_later(RETRY, |logger, ctx| {
                        logger.write_group();
                        logger.rebuild(ctx);
                    });
                }
            }
        }));
    }

    /// Takes note of the groups that are written or refused by now.
    fn settle(&mut self) {
        while let Some((n, commit)) = self.commits.front_mut() {
            let result = match commit.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => return,
                Err(oneshot::error::TryRecvError::Closed) => Err(StoreError::Closed),
                Ok(result) => result,
            };
            if let Err(e) = result {
                tracing::error!(%e, records = *n, "a group of predictions could not be written");
                self.deps.counters.log_dropped.fetch_add(*n, Relaxed);
                self.failed = Some(e);
            }
            self.commits.pop_front();
        }
    }

    /// The clock of joins: a recorded stream's own, taken from what passes here and so independent of the
    /// threads' timing; else the wall clock. While the logs are read, what they tell: an outcome that was in time
    /// when it came is in time after a restart, however long ago that was.
    fn now(&mut self, seen: Timestamp) -> Timestamp {
        self.state.seen = self.state.seen.max(seen);
        if self.recovering() || self.deps.clock.is_stream() { self.state.seen } else { self.deps.clock.now() }
    }

    fn observe(&mut self, joined: Joined) {
        self.monitor(&joined.model.clone(), Input::Outcome(joined));
    }

    fn join_prediction(&mut self, r: &PredictionRef, time: Timestamp) {
        if !self.state.served.contains(&r.model) {
            self.state.served.insert(r.model.clone());
        }
        let now = self.now(time);
        self.since_saved += 1;
        if let Some(joined) = self.state.joiner.on_prediction(r, now) {
            self.note_outcome(&joined, time);
            self.observe(joined);
        }
        self.expire(now);
    }

    fn join_outcome(&mut self, outcome: &OutcomeRecord) -> OutcomeStatus {
        let now = self.now(outcome.time);
        self.since_saved += 1;
        let (status, joined) = self.state.joiner.on_outcome(outcome, now);
        if let Some(joined) = joined {
            self.note_outcome(&joined, outcome.time);
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
            self.monitor(&expiry.model.clone(), Input::Expired(expiry.time));
            self.deps.counters.outcomes.add(&[&expiry.model, "never"], 1);
        }
    }

    /// One message per model, however many records.
    fn tell_monitors(&mut self, group: &[Arc<PredictionRecord>]) {
        let mut by_model: BTreeMap<&str, Vec<Arc<PredictionRecord>>> = BTreeMap::new();
        let counts =
            |r: &&Arc<PredictionRecord>| r.placement.arm != ServedArm::Shadow && !self.state.repeats.contains(&r.id);
        for record in group.iter().filter(counts) {
            by_model.entry(&record.model).or_default().push(record.clone());
        }
        for (model, served) in by_model {
            self.monitor(model, Input::Served(served));
        }
    }

    fn write_group(&mut self) {
        fault_point!("prediction_logger.write");
        if self.state.group.is_empty() {
            return;
        }
        self.settle();
        self.tell_rollouts();
        let group = std::mem::take(&mut self.state.group);
        self.tell_monitors(&group);
        self.state.repeats.clear();
        self.deps.telemetry.predictions(&group);
        for (parent, started) in self.state.traced.drain(..) {
            let (actor, message) = ("prediction_logger", "LogPrediction");
            self.deps.telemetry.message(MessageSpan { parent, actor, message, started, took: started.elapsed() });
        }
        let n = group.len() as u64;
        self.commits.push_back((n, self.writing.watch(self.deps.predictions.append(group))));
    }
}

impl Actor for PredictionLogger {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(IDLE_TICK, |logger, _| {
            logger.settle();
            if !logger.deps.clock.is_stream() {
                let now = logger.deps.clock.now();
                logger.expire(now);
            }
        });
        self.rebuild(ctx);
    }
}

impl Supervised for PredictionLogger {
    fn restarting(&mut self, _: &mut Self::Context) {
        let lost = std::mem::take(&mut self.state.group).len() as u64 + std::mem::take(&mut self.in_hand);
        if lost > 0 {
            self.deps.counters.log_dropped.fetch_add(lost, Relaxed);
            self.failed =
                Some(StoreError::Io(format!("{lost} records were lost in a restart of the prediction logger")));
        }
        self.posts.clear();
        self.saving = false;
    }
}

impl Handler<LogPrediction> for PredictionLogger {
    type Result = ();

    fn handle(&mut self, m: LogPrediction, ctx: &mut Self::Context) {
        self.queued.fetch_sub(1, Relaxed);
        self.in_hand = u64::from(m.durable.is_none());
        fault_point!("prediction_logger.log");
        if self.state.joiner.remembers(&m.record.model, m.record.id) {
            self.state.repeats.insert(m.record.id);
        }
        self.join_prediction(&reference(&m.record), m.record.time);
        fault_point!("prediction_logger.joined");
        if m.record.placement.segment.is_some() && !self.board.is_empty() {
            self.note(RolloutFact::Served(m.record.clone()));
        }
        // Seen by joins and monitors, but not on record: the answer says so.
        if let Err(e) = self.deps.predictions.accepting() {
            self.in_hand = 0;
            self.writing.went_astray();
            self.tell_monitors(std::slice::from_ref(&m.record));
            match m.durable {
                Some(durable) => drop(durable.send(Err(e))),
                None => self.deps.counters.dropped(),
            }
            return;
        }
        if self.state.group.is_empty() && m.durable.is_none() {
            ctx.notify_later(WriteGroup, LINGER);
        }
        self.state.group.push(m.record);
        self.state.traced.extend(m.traced);
        self.in_hand = 0;
        if self.state.group.len() >= GROUP || m.durable.is_some() {
            self.write_group();
            self.save_if_due(ctx);
        }
        if let Some(durable) = m.durable
            && let Some((_, commit)) = self.commits.pop_back()
        {
            ctx.spawn(
                async move {
                    let _ = durable.send(commit.await.unwrap_or(Err(StoreError::Closed)));
                }
                .into_actor(self),
            );
        }
    }
}

impl Handler<WriteGroup> for PredictionLogger {
    type Result = ();

    fn handle(&mut self, _: WriteGroup, ctx: &mut Self::Context) {
        self.write_group();
        self.save_if_due(ctx);
    }
}

impl Handler<CatchUp> for PredictionLogger {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: CatchUp, _: &mut Self::Context) -> Self::Result {
        self.write_group();
        let written = self.deps.predictions.append(Vec::new());
        Box::pin(async move { drop(written.await) })
    }
}

impl Handler<FlushLog> for PredictionLogger {
    type Result = ResponseActFuture<Self, Result<(), Refusal>>;

    fn handle(&mut self, _: FlushLog, _: &mut Self::Context) -> Self::Result {
        fault_point!("prediction_logger.flush");
        self.write_group();
        let written = self.deps.predictions.append(Vec::new());
        Box::pin(written.into_actor(self).map(|written, logger, _| {
            // In order: when the last one is settled, all are.
            logger.settle();
            let failed = logger.failed.take().map_or(Ok(()), Err);
            written.unwrap_or(Err(StoreError::Closed)).and(failed).map_err(unavailable)
        }))
    }
}

/// Storage trouble as the caller sees it. A full disk has a code of its own: its remedy is another.
pub fn unavailable(e: StoreError) -> Refusal {
    match &e {
        StoreError::Full => Refusal::Overloaded { retry_after_ms: 1000 },
        StoreError::DiskFull(why) => Refusal::Unavailable {
            code: "disk_full",
            detail: format!("{why}; nothing was written: free some space and send again, no restart is needed"),
        },
        _ => Refusal::Unavailable { code: "storage_unavailable", detail: e.to_string() },
    }
}
