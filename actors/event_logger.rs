//! **Owns** the order of events (seq), the duplicate index, and the events held back while a stream is replayed.
//! **Receives** `IngestEvents`, `CommitHeld`, `AbandonHeld`, `KnownEvents` and `EraseEntity` from the cells.
//! **Sends** `FoldEvents` to every feature shard in order of seq, `PostOutcomes` to the prediction logger,
//! `EventsTaken` to the watch over the feeds.
//! **On failure** nothing is acknowledged: the caller gets `internal` or `storage_unavailable` and may send again.
//! A log that could not be written takes back what was folded: numbers and states are read back from what is durable.
//! **On restart** the same. First everything given to the log before is waited for: what is still on its way to
//! the disk would be missed, and its numbers given twice.

mod erase;

pub use erase::EraseEntity;

use crate::api::{OutcomeResult, Refusal};
use crate::deps::Deps;
use crate::fault_point;
use crate::feature_shard::{CatchUp, FeatureShard, FoldEvents, RebuildState};
use crate::feed_monitor::{EventsTaken, FeedBoard, FeedMonitor};
use crate::generation::{Current, Generation};
use crate::guard::Vitals;
use crate::ports::{Commit, StoreError};
use crate::prediction_logger::{PostOutcomes, PredictionLogger, unavailable};
use crate::start_pass::{Index, StartPass};
use actix::prelude::*;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use understudy_domain::dedupe::{Recent, Seen};
use understudy_domain::event::{Event, IngestOutcome, LoggedEvent};
use understudy_domain::time::Span;

/// A log that cannot be read is tried again after this long.
pub(crate) const RETRY: Duration = Duration::from_secs(1);

/// Take events in; replies when they are folded, with a handle on their durability.
#[derive(Message)]
#[rtype(result = "Result<Ingested, Refusal>")]
pub struct IngestEvents {
    pub events: Vec<Event>,
    /// Fold now, commit at `CommitHeld`: a replayed batch commits its events after its predictions, so that
    /// a crash in between sends both again.
    pub hold: bool,
}

pub struct Ingested {
    pub outcomes: Vec<IngestOutcome>,
    /// Resolves when the accepted events are durable; `None` while they are held.
    pub commit: Option<Commit>,
}

/// Outcomes, commit, per shard whether its set serves and its fold, joined outcomes.
type Taken = (
    Vec<IngestOutcome>,
    Option<Commit>,
    Vec<(bool, oneshot::Receiver<Result<(), Refusal>>)>,
    Option<oneshot::Receiver<Result<Vec<OutcomeResult>, Refusal>>>,
);

/// Append what was held; `None` if nothing was.
#[derive(Message)]
#[rtype(result = "Result<Option<Commit>, Refusal>")]
pub struct CommitHeld;

/// A replayed batch ended before its commit: what is held is taken back, so that the batch can be sent again.
#[derive(Message)]
#[rtype(result = "()")]
pub struct AbandonHeld;

/// Which of these ids are in the log?
#[derive(Message)]
#[rtype(result = "Result<Vec<bool>, Refusal>")]
pub struct KnownEvents {
    pub ids: Vec<u128>,
}

/// From the reply on these shards hold every event that was acknowledged, and get every further batch.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct AttachSet {
    pub id: u64,
    pub shards: Vec<Addr<FeatureShard>>,
}

/// All other sets get no more batches.
#[derive(Message)]
#[rtype(result = "()")]
pub struct DetachSets {
    pub keep: u64,
}

pub struct EventLogger {
    deps: Arc<Deps>,
    current: Current,
    vitals: Arc<Vitals>,
    /// Sets of shards that get every batch: the one that serves, and one that is being built.
    sets: Vec<(u64, Vec<Addr<FeatureShard>>)>,
    logger: Addr<PredictionLogger>,
    feeds: Addr<FeedMonitor>,
    feed_board: Arc<FeedBoard>,
    /// Where the first index comes from.
    start: Option<Arc<StartPass>>,
    /// Rebuilds so far: what was appended before the last one is settled and cannot fail any more.
    life: u64,
    /// `None` until the log was read.
    state: Option<State>,
}

struct State {
    next_seq: u64,
    seen: Recent<Seen>,
    held: Vec<LoggedEvent>,
}

impl State {
    /// `start` has read the log already, if the process has just started.
    fn recover(deps: &Deps, dedupe_window: Span, start: Option<&StartPass>) -> Result<State, StoreError> {
        let mut index = start.and_then(StartPass::index).unwrap_or_else(|| Index::new(deps, dedupe_window));
        let last = deps.events.last_seq();
        index.read(deps, last)?;
        Ok(State { next_seq: last + 1, seen: index.seen, held: Vec::new() })
    }
}

impl EventLogger {
    pub(crate) fn new(
        deps: Arc<Deps>,
        current: Current,
        vitals: Arc<Vitals>,
        logger: Addr<PredictionLogger>,
        (feeds, feed_board): (Addr<FeedMonitor>, Arc<FeedBoard>),
        start: Arc<StartPass>,
    ) -> Self {
        let serving = current.load().features.clone();
        let sets = vec![(serving.id, serving.shards.clone())];
        EventLogger { deps, current, vitals, sets, logger, feeds, feed_board, start: Some(start), life: 0, state: None }
    }

    /// Waits until all that was appended is durable or refused, then reads the state back. Messages wait meanwhile.
    fn rebuild(&mut self, ctx: &mut Context<Self>) {
        self.vitals.set_ready(false, "reading the event log");
        self.life += 1;
        self.state = None;
        let settled = self.deps.events.append(Vec::new());
        ctx.wait(settled.into_actor(self).map(|_, logger, ctx| logger.recover(ctx)));
    }

    fn recover(&mut self, ctx: &mut Context<Self>) {
        fault_point!("event_logger.started");
        let start = self.start.take();
        match State::recover(&self.deps, self.current.load().settings.dedupe_window, start.as_deref()) {
            Ok(state) => {
                self.state = Some(state);
                // The shards may hold events that were never committed, under numbers that will be given again.
                if self.life > 1 {
                    self.sets.iter().flat_map(|(_, shards)| shards).for_each(|shard| shard.do_send(RebuildState));
                }
                self.vitals.set_ready(true, "");
            }
            Err(e) => {
                self.vitals.set_ready(false, e.to_string());
                ctx.run_later(RETRY, |logger, ctx| logger.rebuild(ctx));
            }
        }
    }

    fn state(&mut self) -> Result<&mut State, Refusal> {
        self.state.as_mut().ok_or_else(|| Refusal::Unavailable {
            code: "storage_unavailable",
            detail: "the event log cannot be read; it is tried again every second".into(),
        })
    }

    /// Appends, and passes the result on. After a failure everything later is a gap to the log: start from what it has.
    fn commit(&self, events: Vec<LoggedEvent>, ctx: &mut Context<Self>) -> Commit {
        let commit = self.deps.events.append(events);
        let (done, passed) = oneshot::channel();
        let life = self.life;
        ctx.spawn(async move { commit.await.unwrap_or(Err(StoreError::Closed)) }.into_actor(self).map(
            move |result, logger, ctx| {
                if let Err(e) = &result
                    && life == logger.life
                {
                    tracing::error!(%e, "the event log could not be written; nothing of it was acknowledged");
                    logger.rebuild(ctx);
                }
                let _ = done.send(result);
            },
        ));
        passed
    }

    /// Decides on one event; accepted ones are added to `batch`.
    fn take(
        deps: &Deps,
        generation: &Generation,
        state: &mut State,
        event: Event,
        (batch, refused): (&mut Vec<LoggedEvent>, &mut Vec<(String, String)>),
    ) -> IngestOutcome {
        if let Err((code, detail)) = generation.catalog.plan.check_event(&event) {
            refused.push((event.kind, code.clone()));
            return IngestOutcome::Rejected { code, detail };
        }
        let (id, fingerprint) = (event.id_hash(), event.fingerprint());
        if let Some(seen) = state.seen.get(id) {
            let (outcome, code) = match seen.fingerprint == fingerprint {
                true => (IngestOutcome::Duplicate { seq: seen.seq }, "duplicate"),
                false => (IngestOutcome::Conflict { seq: seen.seq }, "conflict"),
            };
            refused.push((event.kind, code.to_owned()));
            return outcome;
        }
        deps.clock.observe(event.time);
        let now = deps.clock.now();
        if event.time > now + generation.settings.max_future {
            let detail = format!(
                "`time` is {} but the clock says {now}; at most {} ahead is taken",
                event.time, generation.settings.max_future
            );
            refused.push((event.kind, "event_in_future".into()));
            return IngestOutcome::Rejected { code: "event_in_future".into(), detail };
        }
        let late = now - event.time > generation.settings.lateness;
        let seq = state.next_seq;
        state.next_seq += 1;
        state.seen.insert(id, Seen { seq, fingerprint }, now);
        batch.push(LoggedEvent { seq, ingested: now, late, event });
        IngestOutcome::Accepted { seq, late }
    }

    fn ingest(&mut self, m: IngestEvents, ctx: &mut Context<Self>) -> Result<Taken, Refusal> {
        fault_point!("event_logger.ingest");
        // One generation for the whole batch.
        let (deps, generation) = (self.deps.clone(), self.current.load_full());
        // Before anything is numbered or folded: what cannot be written would have to be taken back.
        deps.events.accepting().and_then(|()| deps.outcomes.accepting()).map_err(unavailable)?;
        let state = self.state()?;
        state.seen.set_window(generation.settings.dedupe_window);
        let (mut batch, mut brought) = (Vec::with_capacity(m.events.len()), Vec::new());
        let mut refused = Vec::new();
        let outcomes: Vec<_> = m
            .events
            .into_iter()
            .map(|event| {
                let told = generation.catalog.outcomes_of(&event);
                let outcome = Self::take(&deps, &generation, state, event, (&mut batch, &mut refused));
                // A duplicate brings its outcomes again: the first delivery may have died before they were durable.
                if matches!(outcome, IngestOutcome::Accepted { .. } | IngestOutcome::Duplicate { .. }) {
                    brought.extend(told);
                }
                outcome
            })
            .collect();
        fault_point!("event_logger.numbered");
        self.count(&outcomes);
        let batch = Arc::new(batch);
        let came = (batch.len() + refused.len()) as u64;
        if came > 0 && deps.settings.monitoring && self.feed_board.admit(came) {
            self.feeds.do_send(EventsTaken { taken: batch.clone(), refused, now: deps.clock.now() });
        }
        let mut folds = Vec::new();
        if !batch.is_empty() {
            for (set, shard) in self.sets.iter().flat_map(|(id, shards)| shards.iter().map(move |s| (id, s))) {
                let (done, folded) = oneshot::channel();
                shard.do_send(FoldEvents { events: batch.clone(), done });
                // Waited for in any case: the set may serve a moment later. A set in the making may fail.
                folds.push((*set == generation.features.id, folded));
            }
        }
        fault_point!("event_logger.sent");
        let held = &mut self.state()?.held;
        held.extend(batch.iter().cloned());
        let now = if m.hold { Vec::new() } else { std::mem::take(held) };
        let repeated = outcomes.iter().filter_map(|o| match o {
            IngestOutcome::Duplicate { seq } => Some(*seq),
            _ => None,
        });
        let repeated = repeated.max().filter(|seq| !m.hold && *seq > deps.events.last_seq());
        let commit = match repeated {
            None => (!now.is_empty()).then(|| self.commit(now, ctx)),
            Some(seq) => Some(self.commit_with_first(now, seq, ctx)),
        };
        let joined = (!brought.is_empty()).then(|| {
            let (done, joined) = oneshot::channel();
            self.logger.do_send(PostOutcomes { outcomes: brought, derived: true, done });
            joined
        });
        Ok((outcomes, commit, folds, joined))
    }

    /// A repeated event is acknowledged when its first delivery is durable: that one may still fail.
    fn commit_with_first(&self, events: Vec<LoggedEvent>, first: u64, ctx: &mut Context<Self>) -> Commit {
        let commit = self.commit(events, ctx);
        let (done, passed) = oneshot::channel();
        let life = self.life;
        ctx.spawn(async move { commit.await.unwrap_or(Err(StoreError::Closed)) }.into_actor(self).map(
            move |result, logger, _| {
                // Within one life no number is given twice.
                let written = life == logger.life && logger.deps.events.last_seq() >= first;
                let lost = || StoreError::Io("the first delivery of this event was not written; send it again".into());
                let _ = done.send(result.and(if written { Ok(()) } else { Err(lost()) }));
            },
        ));
        passed
    }

    fn count(&self, outcomes: &[IngestOutcome]) {
        for outcome in outcomes {
            let status = match outcome {
                IngestOutcome::Accepted { late: false, .. } => "accepted",
                IngestOutcome::Accepted { late: true, .. } => "late",
                IngestOutcome::Duplicate { .. } => "duplicate",
                IngestOutcome::Conflict { .. } => "conflict",
                IngestOutcome::Rejected { .. } => "rejected",
            };
            self.deps.counters.events.add(&[status], 1);
        }
    }
}

impl Actor for EventLogger {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.rebuild(ctx);
    }
}

impl Supervised for EventLogger {}

impl Handler<IngestEvents> for EventLogger {
    type Result = ResponseFuture<Result<Ingested, Refusal>>;

    fn handle(&mut self, m: IngestEvents, ctx: &mut Self::Context) -> Self::Result {
        let taken = self.ingest(m, ctx);
        Box::pin(async move {
            let (outcomes, commit, folds, joined) = taken?;
            for (serves, fold) in folds {
                let folded = fold.await.unwrap_or_else(|_| Err(lost("a feature shard")));
                if serves {
                    folded?;
                }
            }
            if let Some(joined) = joined {
                joined.await.map_err(|_| lost("the prediction logger"))??;
            }
            Ok(Ingested { outcomes, commit })
        })
    }
}

impl Handler<KnownEvents> for EventLogger {
    type Result = Result<Vec<bool>, Refusal>;

    fn handle(&mut self, m: KnownEvents, _: &mut Self::Context) -> Self::Result {
        fault_point!("event_logger.known");
        let state = self.state()?;
        Ok(m.ids.iter().map(|id| state.seen.get(*id).is_some()).collect())
    }
}

impl Handler<CommitHeld> for EventLogger {
    type Result = MessageResult<CommitHeld>;

    fn handle(&mut self, _: CommitHeld, ctx: &mut Self::Context) -> Self::Result {
        fault_point!("event_logger.commit_held");
        let held = self.state().map(|state| std::mem::take(&mut state.held));
        MessageResult(held.map(|held| (!held.is_empty()).then(|| self.commit(held, ctx))))
    }
}

impl Handler<AbandonHeld> for EventLogger {
    type Result = ();

    fn handle(&mut self, _: AbandonHeld, ctx: &mut Self::Context) {
        if self.state.as_ref().is_some_and(|state| !state.held.is_empty()) {
            self.rebuild(ctx);
        }
    }
}

impl Handler<AttachSet> for EventLogger {
    type Result = ResponseFuture<Result<(), Refusal>>;

    fn handle(&mut self, m: AttachSet, _: &mut Self::Context) -> Self::Result {
        let AttachSet { id, shards } = m;
        let erased = self.deps.erasures.now();
        let attached = self.state().map(|state| {
            let until = state.next_seq - 1 - state.held.len() as u64;
            let mut held = state.held.clone();
            for e in &mut held {
                erased.blank(e);
            }
            let held = Arc::new(held);
            let caught_up: Vec<_> = shards.iter().map(|shard| shard.send(CatchUp { until })).collect();
            if !held.is_empty() {
                for shard in &shards {
                    shard.do_send(FoldEvents { events: held.clone(), done: oneshot::channel().0 });
                }
            }
            caught_up
        });
        if attached.is_ok() {
            self.sets.push((id, shards));
        }
        Box::pin(async move {
            for caught_up in attached? {
                caught_up.await.map_err(|_| lost("a feature shard"))??;
            }
            Ok(())
        })
    }
}

impl Handler<DetachSets> for EventLogger {
    type Result = ();

    fn handle(&mut self, m: DetachSets, _: &mut Self::Context) {
        self.sets.retain(|(id, _)| *id == m.keep);
    }
}

fn lost(who: &str) -> Refusal {
    Refusal::Internal { detail: format!("{who} failed and is being restarted; send the events again") }
}
