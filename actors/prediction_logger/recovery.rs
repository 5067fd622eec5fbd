//! Where joins and monitors stood, from what was saved and what both logs hold after that; and saving it.
//!
//! A start reads what came since the last save, however long the logs are. Without a save (or with one that fits the
//! logs or the project no more) it reads both logs whole, record by record: never in memory at once.

use super::{PredictionLogger, State, reference};
use crate::api::Refusal;
use crate::fault_point;
use crate::generation::Generation;
use crate::monitor::{
    Counts, GetCounts, Input, OutcomeObserved, PredictionExpired, PredictionsServed, References, RestoreCounts,
    SavedCounts, layout,
};
use crate::ports::{Commit, StoreError};
use actix::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::sync_channel;
use std::time::Duration;
use tokio::sync::oneshot;
use understudy_domain::catalog::ModelPlan;
use understudy_domain::drift::WindowDrift;
use understudy_domain::join::{Joiner, SavedJoiner};
use understudy_domain::prediction::{OutcomeRecord, PredictionId, PredictionRecord, ServedArm};
use understudy_domain::time::Timestamp;

/// Outcomes read ahead of the predictions they belong to.
const AHEAD: usize = 1024;
/// Judged windows that a monitor is told of after a start; older ones were told of before it.
const JUDGED: usize = 16;
/// How long monitors may take to tell their counts; a save without them is left out.
const MONITORS_ANSWER: Duration = Duration::from_secs(5);

/// What was known when the logs ended at these positions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JoinSnapshot {
    pub predictions: u64,
    pub outcomes: u64,
    joiner: SavedJoiner,
    served: Vec<String>,
    seen: Timestamp,
    expired_at: Timestamp,
    monitors: BTreeMap<String, SavedCounts>,
}

impl JoinSnapshot {
    /// Nothing was known at these positions.
    pub fn at(predictions: u64, outcomes: u64) -> JoinSnapshot {
        JoinSnapshot {
            predictions,
            outcomes,
            joiner: Joiner::new(BTreeMap::new(), 1).save(),
            served: Vec::new(),
            seen: Timestamp::MIN,
            expired_at: Timestamp::MIN,
            monitors: BTreeMap::new(),
        }
    }
}

/// Whether what is joined and counted is what the logs hold.
#[derive(Clone, Default)]
pub(super) struct Writing {
    under_way: Arc<AtomicU64>,
    astray: Arc<AtomicBool>,
}

impl Writing {
    /// Follows a commit on its way. Beside the actor: its own futures stand still while it waits for the logs.
    pub(super) fn watch(&self, commit: Commit) -> Commit {
        let (told, result) = oneshot::channel();
        let writing = self.clone();
        writing.under_way.fetch_add(1, Relaxed);
        actix::spawn(async move {
            let written = commit.await.unwrap_or(Err(StoreError::Closed));
            if written.is_err() {
                writing.went_astray();
            }
            writing.under_way.fetch_sub(1, Relaxed);
            let _ = told.send(written);
        });
        result
    }

    /// Something is counted that is on no record, or the other way round: it must not be saved.
    pub(super) fn went_astray(&self) {
        self.astray.store(true, Relaxed);
    }

    fn is_astray(&self) -> bool {
        self.astray.load(Relaxed)
    }

    fn is_under_way(&self) -> bool {
        self.under_way.load(Relaxed) > 0
    }
}

/// The counts of one model while the logs are read.
pub(super) struct Rebuilt {
    plan: Arc<ModelPlan>,
    counts: Counts,
    references: References,
    judged: Vec<WindowDrift>,
}

/// Save where joins and monitors stand; replies when it is on disk.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct SaveJoins;

impl PredictionLogger {
    pub(super) fn recovering(&self) -> bool {
        self.rebuilt.is_some()
    }

    /// To the model's monitor, or to its counts while the logs are read.
    pub(super) fn monitor(&mut self, model: &str, input: Input) {
        if !self.deps.settings.monitoring {
            return;
        }
        if let Some(all) = &mut self.rebuilt {
            let Some(one) = all.get_mut(model) else { return };
            if let Input::Served(records) = &input {
                for r in records {
                    one.references.learn(&mut one.counts, &one.plan, &self.deps, &r.version);
                }
            }
            one.judged.extend(one.counts.apply(&input));
            let old = one.judged.len().saturating_sub(JUDGED);
            one.judged.drain(..old);
        } else if let Some(served) = self.current.load().served(model) {
            match input {
                Input::Served(records) => served.monitor.do_send(PredictionsServed(records)),
                Input::Outcome(joined) => served.monitor.do_send(OutcomeObserved(joined)),
                Input::Expired(time) => served.monitor.do_send(PredictionExpired { time }),
                Input::Refused(..) => {}
            }
        }
    }

    pub(super) fn recover(&mut self) -> Result<(), StoreError> {
        self.complete = false;
        let generation = self.current.load_full();
        let saved = self.saved(&generation);
        let group = std::mem::take(&mut self.state.group);
        self.state = State { group, ..State::new(&self.deps, &generation.catalog) };
        let mut counts = BTreeMap::new();
        let (mut predictions, mut outcomes) = (None, 0);
        if let Some(saved) = saved {
            (predictions, outcomes) = (Some(saved.predictions), saved.outcomes);
            let specs = super::outcome_specs(&generation.catalog);
            self.state.joiner = Joiner::from_saved(saved.joiner);
            self.state.joiner.follow(specs, self.deps.settings.max_pending);
            self.state.served = saved.served.into_iter().collect();
            (self.state.seen, self.state.expired_at) = (saved.seen, saved.expired_at);
            counts = saved.monitors;
        }
        let rebuilt = generation.models().map(|m| {
            let counts = counts.remove(&*m.name).map_or_else(|| Counts::new(&m.plan), |saved| saved.counts);
            let (plan, references) = (m.plan.clone(), References::default());
            (m.name.to_string(), Rebuilt { plan, counts, references, judged: Vec::new() })
        });
        self.rebuilt = Some(rebuilt.collect());
        let read = self.read_logs(predictions, outcomes);
        let rebuilt = self.rebuilt.take().unwrap_or_default();
        read?;
        for (model, one) in rebuilt {
            if let Some(served) = generation.served(&model) {
                served.monitor.do_send(RestoreCounts { counts: Box::new(one.counts), judged: one.judged });
            }
        }
        self.complete = true;
        self.writing = Writing::default();
        Ok(())
    }

    /// What was saved last, if the logs and the project still fit it.
    fn saved(&self, generation: &Generation) -> Option<JoinSnapshot> {
        let saved = match self.deps.joins.load() {
            Ok(saved) => saved?,
            Err(e) => {
                tracing::warn!(%e, "where joins and monitors stood cannot be read; both logs are read whole");
                return None;
            }
        };
        if saved.predictions > self.deps.predictions.position() || saved.outcomes > self.deps.outcomes.position() {
            tracing::warn!("where joins and monitors stood is ahead of the logs; both logs are read whole");
            return None;
        }
        let other = |m: &&crate::generation::Served| {
            saved.monitors.get(&*m.name).is_some_and(|kept| kept.layout != layout(&m.plan))
        };
        if let Some(model) = generation.models().find(other) {
            tracing::info!(model = %model.name, "the model's windows are others now; both logs are read whole");
            return None;
        }
        Some(saved)
    }

    /// Both logs after these positions, in event time: predictions before outcomes of the same instant. `None` is the
    /// whole prediction log, which is then read in order of time.
    fn read_logs(&mut self, predictions: Option<u64>, outcomes: u64) -> Result<(), StoreError> {
        let deps = self.deps.clone();
        let (ahead, come) = sync_channel::<OutcomeRecord>(AHEAD);
        std::thread::scope(|threads| {
            let log = deps.outcomes.clone();
            let reader = threads.spawn(move || {
                log.scan(outcomes, &mut |o| match ahead.send(o) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                })
            });
            let mut next = come.recv().ok();
            let mut visit = |r: PredictionRecord| {
                if r.placement.arm == ServedArm::Shadow {
                    return ControlFlow::Continue(());
                }
                while let Some(outcome) = next.take_if(|o| o.time < r.time) {
                    self.join_outcome(&outcome);
                    next = come.recv().ok();
                }
                if self.state.joiner.remembers(&r.model, r.id) {
                    return ControlFlow::Continue(());
                }
                self.join_prediction(&reference(&r), r.time);
                self.monitor(&r.model.clone(), Input::Served(vec![Arc::new(r)]));
                ControlFlow::Continue(())
            };
            let read = match predictions {
                Some(position) => deps.predictions.scan_after(position, &mut visit),
                None => deps.predictions.scan(None, PredictionId(0), &mut visit),
            };
            if read.is_ok() {
                while let Some(outcome) = next.take() {
                    self.join_outcome(&outcome);
                    next = come.recv().ok();
                }
            }
            // The reader may wait for room; it ends when nobody listens.
            drop(come);
            let outcomes = reader.join().unwrap_or_else(|_| Err(StoreError::Io("reading outcomes panicked".into())));
            read.and(outcomes)
        })
    }

    /// Asks for a save when reading back what came since would take long. A save costs as much as what is remembered,
    /// so it waits for a share of that.
    pub(super) fn save_if_due(&mut self, ctx: &mut Context<Self>) {
        let every = self.deps.settings.snapshot_every.max(self.state.joiner.remembered() as u64 / 4);
        if self.since_saved < every || self.saving {
            return;
        }
        ctx.address()
            .send(SaveJoins)
            .into_actor(self)
            .map(|saved, _, _| {
                if let Ok(Err(e)) = saved {
                    tracing::warn!(?e, "where joins and monitors stand was not saved; the logs still have it all");
                }
            })
            .spawn(ctx);
    }

    fn snapshot(&self, monitors: BTreeMap<String, SavedCounts>) -> JoinSnapshot {
        JoinSnapshot {
            predictions: self.deps.predictions.position(),
            outcomes: self.deps.outcomes.position(),
            joiner: self.state.joiner.save(),
            served: self.state.served.iter().cloned().collect(),
            seen: self.state.seen,
            expired_at: self.state.expired_at,
            monitors,
        }
    }
}

impl Handler<SaveJoins> for PredictionLogger {
    type Result = ResponseFuture<Result<(), Refusal>>;

    fn handle(&mut self, _: SaveJoins, ctx: &mut Self::Context) -> Self::Result {
        if self.saving || !self.complete {
            return Box::pin(async { Ok(()) });
        }
        self.saving = true;
        self.write_group();
        // Nothing else is handled until the logs hold all that was joined: the positions say where that is.
        let written = (self.deps.predictions.append(Vec::new()), self.deps.outcomes.append(Vec::new()));
        let (told, taken) = oneshot::channel();
        let settled = async move {
            let _ = written.0.await;
            let _ = written.1.await;
        };
        ctx.wait(settled.into_actor(self).map(|(), logger, ctx| {
            logger.settle();
            fault_point!("prediction_logger.save");
            if logger.writing.is_astray() {
                return logger.rebuild(ctx);
            }
            if logger.writing.is_under_way() {
                return;
            }
            logger.since_saved = 0;
            let snapshot = logger.snapshot(BTreeMap::new());
            // Monitors get messages in order: these are their counts at this very point.
            let generation = logger.current.load_full();
            let ask = |m: &crate::generation::Served| {
                let (reply, counts) = oneshot::channel();
                m.monitor.do_send(GetCounts(reply));
                (m.name.to_string(), counts)
            };
            let asked: Vec<_> = generation.models().map(ask).collect();
            let _ = told.send((snapshot, asked));
        }));
        let (joins, blocking, logger) = (self.deps.joins.clone(), self.deps.settings.blocking, ctx.address());
        Box::pin(async move {
            let mut astray = false;
            let saved = async {
                let internal = |detail: String| Refusal::Internal { detail };
                let Ok((mut snapshot, asked)) = taken.await else { return Ok(()) };
                for (model, counts) in asked {
                    let counts = tokio::time::timeout(MONITORS_ANSWER, counts).await;
                    let counts = counts.map_err(|_| internal(format!("the monitor of `{model}` does not answer")))?;
                    let counts = counts.map_err(|e| internal(e.to_string()))?;
                    astray |= counts.gaps;
                    snapshot.monitors.insert(model, counts);
                }
                if astray {
                    return Ok(());
                }
                let save = move || joins.save(&snapshot);
                blocking.run(save).await.map_err(internal)?.map_err(super::unavailable)
            }
            .await;
            logger.do_send(SavedJoins { astray });
            saved
        })
    }
}

#[derive(Message)]
#[rtype(result = "()")]
struct SavedJoins {
    /// A monitor has lost inputs, so nothing was saved.
    astray: bool,
}

impl Handler<SavedJoins> for PredictionLogger {
    type Result = ();

    fn handle(&mut self, m: SavedJoins, _: &mut Self::Context) {
        self.saving = false;
        if m.astray {
            self.writing.went_astray();
        }
    }
}
