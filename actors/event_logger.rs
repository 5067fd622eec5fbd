//! **Owns** the order of events (seq), the duplicate index, and the events held back while a stream is replayed.
//! **Receives** `IngestEvents` and `CommitHeld` from the cells.
//! **Sends** `FoldEvents` to every feature shard in order of seq, `PostOutcomes` to the prediction logger.
//! **On failure** nothing is acknowledged: the caller gets `internal` or `storage_unavailable` and may send again.
//! **On restart** seq and the duplicate index are read back from the log.

use crate::api::Refusal;
use crate::deps::Deps;
use crate::feature_shard::{FeatureShard, FoldEvents, RebuildState};
use crate::guard::{Vitals, guarded};
use crate::ports::{Commit, StoreError};
use crate::prediction_logger::{PostOutcomes, PredictionLogger};
use actix::prelude::*;
use std::ops::ControlFlow;
use std::sync::Arc;
use tokio::sync::oneshot;
use understudy_domain::dedupe::{Recent, Seen};
use understudy_domain::event::{Event, IngestOutcome, LoggedEvent};

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

/// Append what was held; `None` if nothing was.
#[derive(Message)]
#[rtype(result = "Result<Option<Commit>, Refusal>")]
pub struct CommitHeld;

/// Which of these ids are in the log?
#[derive(Message)]
#[rtype(result = "Result<Vec<bool>, Refusal>")]
pub struct KnownEvents {
    pub ids: Vec<u128>,
}

/// The log could not be written: what was folded and not acknowledged must go.
#[derive(Message)]
#[rtype(result = "()")]
pub struct LogFailed;

pub struct EventLogger {
    deps: Arc<Deps>,
    vitals: Arc<Vitals>,
    shards: Vec<Addr<FeatureShard>>,
    logger: Addr<PredictionLogger>,
    state: State,
}

struct State {
    next_seq: u64,
    seen: Recent<Seen>,
    held: Vec<LoggedEvent>,
}

impl State {
    fn recover(deps: &Deps) -> Result<State, StoreError> {
        let mut seen = Recent::new(deps.settings.dedupe_window, deps.settings.dedupe_max_ids);
        deps.events.scan(1, &mut |e| {
            seen.insert(e.event.id_hash(), Seen { seq: e.seq, fingerprint: e.event.fingerprint() }, e.ingested);
            ControlFlow::Continue(())
        })?;
        Ok(State { next_seq: deps.events.last_seq() + 1, seen, held: Vec::new() })
    }
}

impl EventLogger {
    pub fn new(
        deps: Arc<Deps>,
        vitals: Arc<Vitals>,
        shards: Vec<Addr<FeatureShard>>,
        logger: Addr<PredictionLogger>,
    ) -> Self {
        let seen = Recent::new(deps.settings.dedupe_window, 2);
        EventLogger { deps, vitals, shards, logger, state: State { next_seq: 0, seen, held: Vec::new() } }
    }

    /// Decides on one event; accepted ones are added to `batch`.
    fn take(&mut self, event: Event, batch: &mut Vec<LoggedEvent>) -> IngestOutcome {
        let deps = self.deps.clone();
        if let Err((code, detail)) = deps.catalog.plan.check_event(&event) {
            return IngestOutcome::Rejected { code, detail };
        }
        let (id, fingerprint) = (event.id_hash(), event.fingerprint());
        if let Some(seen) = self.state.seen.get(id) {
            return if seen.fingerprint == fingerprint {
                IngestOutcome::Duplicate { seq: seen.seq }
            } else {
                IngestOutcome::Conflict { seq: seen.seq }
            };
        }
        deps.clock.observe(event.time);
        let now = deps.clock.now();
        if event.time > now + deps.settings.max_future {
            return IngestOutcome::Rejected {
                code: "event_in_future".into(),
                detail: format!(
                    "`time` is {} but the clock says {now}; at most {} ahead is taken",
                    event.time, deps.settings.max_future
                ),
            };
        }
        let late = now - event.time > deps.settings.lateness;
        let seq = self.state.next_seq;
        self.state.next_seq += 1;
        self.state.seen.insert(id, Seen { seq, fingerprint }, now);
        batch.push(LoggedEvent { seq, ingested: now, late, event });
        IngestOutcome::Accepted { seq, late }
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
        ctx.set_mailbox_capacity(1024);
        match State::recover(&self.deps) {
            Ok(state) => {
                self.state = state;
                self.vitals.set_ready(true, "");
            }
            Err(e) => self.vitals.set_ready(false, e.to_string()),
        }
    }
}

impl Supervised for EventLogger {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.vitals.restarted(self.deps.wall.now());
        // The shards may hold events that were never committed, under numbers that will be given again.
        for shard in &self.shards {
            shard.do_send(RebuildState);
        }
    }
}

impl Handler<LogFailed> for EventLogger {
    type Result = ();

    fn handle(&mut self, _: LogFailed, ctx: &mut Self::Context) {
        self.vitals.set_ready(false, "the event log could not be written; rebuilding from what is durable");
        ctx.stop();
    }
}

impl Handler<IngestEvents> for EventLogger {
    type Result = ResponseFuture<Result<Ingested, Refusal>>;

    fn handle(&mut self, m: IngestEvents, ctx: &mut Self::Context) -> Self::Result {
        let vitals = self.vitals.clone();
        let taken = guarded(self, ctx, &vitals, |logger, _| {
            let mut batch = Vec::with_capacity(m.events.len());
            // A duplicate brings its outcomes again: the first delivery may have died before they were durable.
            let brought: Vec<_> = m.events.iter().flat_map(|e| logger.deps.catalog.outcomes_of(e)).collect();
            let outcomes: Vec<_> = m.events.into_iter().map(|e| logger.take(e, &mut batch)).collect();
            logger.count(&outcomes);
            let batch = Arc::new(batch);
            let mut folds = Vec::new();
            if !batch.is_empty() {
                for shard in &logger.shards {
                    let (done, folded) = oneshot::channel();
                    shard.do_send(FoldEvents { events: batch.clone(), done });
                    folds.push(folded);
                }
            }
            logger.state.held.extend(batch.iter().cloned());
            let commit = (!m.hold && !logger.state.held.is_empty())
                .then(|| logger.deps.events.append(std::mem::take(&mut logger.state.held)));
            let joined = (!brought.is_empty()).then(|| {
                let (done, joined) = oneshot::channel();
                logger.logger.do_send(PostOutcomes { outcomes: brought, derived: true, done });
                joined
            });
            Ok((outcomes, commit, folds, joined))
        });
        Box::pin(async move {
            let (outcomes, commit, folds, joined) = taken?;
            for fold in folds {
                fold.await.unwrap_or_else(|_| Err(lost("a feature shard")))?;
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

    fn handle(&mut self, m: KnownEvents, ctx: &mut Self::Context) -> Self::Result {
        let vitals = self.vitals.clone();
        guarded(self, ctx, &vitals, |logger, _| {
            Ok(m.ids.iter().map(|id| logger.state.seen.get(*id).is_some()).collect())
        })
    }
}

impl Handler<CommitHeld> for EventLogger {
    type Result = MessageResult<CommitHeld>;

    fn handle(&mut self, _: CommitHeld, ctx: &mut Self::Context) -> Self::Result {
        let vitals = self.vitals.clone();
        MessageResult(guarded(self, ctx, &vitals, |logger, _| {
            let held = std::mem::take(&mut logger.state.held);
            Ok((!held.is_empty()).then(|| logger.deps.events.append(held)))
        }))
    }
}

fn lost(who: &str) -> Refusal {
    Refusal::Internal { detail: format!("{who} failed and is being restarted; send the events again") }
}
