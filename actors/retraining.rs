//! **Owns** the retraining loops of all models: one state machine each, and their journal.
//! **Receives** `EvaluateDue` from its own timer, or from a replay at each date; `StartRetraining`, `DecideChallenger` and `GetRetraining` from the cells.
//! **Sends** `GetLedger` to the monitors, `AcquireModel` and `ActivateVersion` to the model pool.
//! **On failure** what could not be journalled has not happened; a job that fails is run once more; serving is untouched.
//! **On restart** the journal is read; a job that ran is interrupted and starts again, once, on the same data.

mod challenge;
mod drive;
mod rows;
mod status;

pub use status::RetrainingStatus;

use crate::api::Refusal;
use crate::deps::Deps;
use crate::event_logger::RETRY;
use crate::feed_monitor::FeedMonitor;
use crate::generation::Current;
use crate::guard::Vitals;
use crate::model_pool::{ModelPool, Published};
use crate::prediction_logger::PredictionLogger;
use crate::trainer::Jobs;
use actix::prelude::*;
use drive::{Shared, known};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::time::Duration;
use understudy_domain::retraining::{Candidate, Event, Job, JobState};
use understudy_domain::time::Timestamp;

/// How often the clock is looked at while the wall clock rules.
const LOOK: Duration = Duration::from_secs(10);

/// Evaluate what is due at `now`; replies when that, and every job it started, is done.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct EvaluateDue {
    pub now: Timestamp,
}

/// Start a job now, whatever the score says; replies with it once it is on record.
#[derive(Message)]
#[rtype(result = "Result<Job, Refusal>")]
pub struct StartRetraining {
    pub model: String,
    /// Empty: those of the model's settings.
    pub candidates: Vec<Candidate>,
}

/// A person's word on a challenger that waits for it.
#[derive(Message)]
#[rtype(result = "Result<Job, Refusal>")]
pub struct DecideChallenger {
    pub model: String,
    pub job: u64,
    pub approve: bool,
}

/// The loops, of one model or of all.
#[derive(Message)]
#[rtype(result = "Result<Vec<RetrainingStatus>, Refusal>")]
pub struct GetRetraining {
    pub model: Option<String>,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Look;

pub struct RetrainingOrchestrator {
    shared: Arc<Shared>,
    vitals: Arc<Vitals>,
    /// What ran when the process or this actor ended has not been taken up again yet.
    resume: Arc<AtomicBool>,
    looking: bool,
}

/// Who it works with.
pub struct Neighbours {
    pub pool: Addr<ModelPool>,
    pub logger: Addr<PredictionLogger>,
    /// Knows the incidents of the data.
    pub feeds: Addr<FeedMonitor>,
    pub models: Published,
    pub jobs: Jobs,
    pub due: Arc<AtomicI64>,
}

impl RetrainingOrchestrator {
    pub fn new(deps: Arc<Deps>, current: Current, vitals: Arc<Vitals>, with: Neighbours) -> Self {
        let shared = Shared {
            deps,
            current,
            pool: with.pool,
            logger: with.logger,
            feeds: with.feeds,
            models: with.models,
            jobs: with.jobs,
            due: with.due,
            loops: Default::default(),
            order: Default::default(),
            history: Default::default(),
            evaluating: Default::default(),
        };
        RetrainingOrchestrator { shared: Arc::new(shared), vitals, resume: Arc::new(true.into()), looking: false }
    }
}

/// Takes up what ran when the process ended, once, before anything new.
async fn resume(shared: Arc<Shared>, pending: Arc<AtomicBool>) -> Result<(), Refusal> {
    if !pending.swap(false, Relaxed) {
        return Ok(());
    }
    let models: Vec<(String, Timestamp)> = {
        let loops = shared.loops();
        let open = |l: &drive::Loop| l.machine.jobs().rev().find(|j| j.state.is_open()).map(|j| j.until);
        loops.iter().filter_map(|(m, l)| Some((m.clone(), open(l)?))).collect()
    };
    for (model, at) in models {
        // At the job's own time: a stream ends as it would have without the interruption.
        if let Err(e) = shared.clone().drive(&model, Event::Restarted, at).await {
            pending.store(true, Relaxed);
            return Err(e);
        }
    }
    Ok(())
}

impl Actor for RetrainingOrchestrator {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.looking = false;
        match self.shared.read_journal() {
            Ok(()) => self.vitals.set_ready(true, ""),
            Err(e) => {
                self.vitals.set_ready(false, e);
                ctx.run_later(RETRY, |it, ctx| it.started(ctx));
                return;
            }
        }
        self.resume.store(true, Relaxed);
        // The first line of a replay comes here, whatever its time: what ran is taken up before it is answered.
        self.shared.due.store(i64::MIN, Relaxed);
        if !self.shared.deps.clock.is_stream() {
            ctx.run_interval(LOOK, |_, ctx| ctx.notify(Look));
        }
    }
}

impl Supervised for RetrainingOrchestrator {}

impl Handler<Look> for RetrainingOrchestrator {
    type Result = ();

    fn handle(&mut self, _: Look, ctx: &mut Self::Context) {
        if self.looking {
            return;
        }
        self.looking = true;
        let (shared, pending, now) = (self.shared.clone(), self.resume.clone(), self.shared.deps.clock.now());
        let work = async move {
            let _turn = shared.evaluating.lock().await;
            resume(shared.clone(), pending).await?;
            shared.clone().evaluate_due(now).await
        };
        ctx.spawn(work.into_actor(self).map(|done: Result<(), Refusal>, it, _| {
            it.looking = false;
            if let Err(e) = done {
                tracing::error!(?e, "retraining: an evaluation could not be finished; it is tried again");
            }
        }));
    }
}

impl Handler<EvaluateDue> for RetrainingOrchestrator {
    type Result = ResponseFuture<Result<(), Refusal>>;

    fn handle(&mut self, m: EvaluateDue, _: &mut Self::Context) -> Self::Result {
        let (shared, pending) = (self.shared.clone(), self.resume.clone());
        Box::pin(async move {
            let _turn = shared.evaluating.lock().await;
            resume(shared.clone(), pending).await?;
            shared.clone().evaluate_due(m.now).await
        })
    }
}

impl Handler<StartRetraining> for RetrainingOrchestrator {
    type Result = ResponseFuture<Result<Job, Refusal>>;

    fn handle(&mut self, m: StartRetraining, _: &mut Self::Context) -> Self::Result {
        let shared = self.shared.clone();
        Box::pin(async move {
            let spec = shared.current.load().model(&m.model)?.plan.spec.clone();
            for (table, there) in [("train", spec.train.is_some()), ("outcome", spec.outcome.is_some())] {
                if !there {
                    let detail = format!("model `{}` has no [{table}] table; a training job needs it", m.model);
                    return Err(Refusal::Invalid { code: "not_trainable", detail });
                }
            }
            let busy = shared.loops().get(&m.model).and_then(|l| l.machine.busy());
            if let Some(detail) = busy {
                return Err(Refusal::Conflict { code: "already_queued", detail });
            }
            let champion = shared.champion(&m.model).await?.ok_or_else(|| Refusal::NoVersion {
                detail: format!("model `{0}` has no version to beat yet: `understudy train {0}` makes one", m.model),
            })?;
            let event = Event::Asked { candidates: m.candidates, champion: known(&champion) };
            let now = shared.deps.clock.now();
            let before = shared.loops().get(&m.model).and_then(|l| l.machine.jobs().next_back().map(|j| j.id));
            let (work, name) = (shared.clone(), m.model.clone());
            actix::spawn(async move {
                if let Err(e) = work.drive(&name, event, now).await {
                    tracing::error!(?e, model = name, "retraining: a job that was asked for could not be finished");
                }
            });
            // It is on record a moment later: the journal is written before the work begins.
            for _ in 0..1000 {
                let newest = shared.loops().get(&m.model).and_then(|l| l.machine.jobs().next_back().cloned());
                if let Some(job) = newest.filter(|j| Some(j.id) != before) {
                    return Ok(job);
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(Refusal::Deadline)
        })
    }
}

impl Handler<DecideChallenger> for RetrainingOrchestrator {
    type Result = ResponseFuture<Result<Job, Refusal>>;

    fn handle(&mut self, m: DecideChallenger, _: &mut Self::Context) -> Self::Result {
        let shared = self.shared.clone();
        Box::pin(async move {
            let find = || shared.loops().get(&m.model).and_then(|l| l.machine.job(m.job).cloned());
            let unknown = || Refusal::NotFound {
                code: "unknown_job",
                detail: format!("model `{}` has no retraining job {}", m.model, m.job),
            };
            let job = find().ok_or_else(unknown)?;
            if job.state != JobState::Waiting {
                let detail = format!("job {} is {}; only one that waits can be decided on", m.job, job.state.name());
                return Err(Refusal::Conflict { code: "not_waiting", detail });
            }
            let event = if m.approve { Event::Approved { job: m.job } } else { Event::Declined { job: m.job } };
            let now = shared.deps.clock.now();
            shared.clone().drive(&m.model, event, now).await?;
            find().ok_or_else(unknown)
        })
    }
}

impl Handler<GetRetraining> for RetrainingOrchestrator {
    type Result = Result<Vec<RetrainingStatus>, Refusal>;

    fn handle(&mut self, m: GetRetraining, _: &mut Self::Context) -> Self::Result {
        if let Some(model) = &m.model {
            self.shared.current.load().model(model)?;
        }
        let loops = self.shared.loops();
        let wanted = loops.iter().filter(|(name, _)| m.model.as_ref().is_none_or(|w| w == *name));
        let told = |(name, l): (&String, &drive::Loop)| {
            status::status(name, &l.machine, l.evaluated, l.next, l.progress.clone())
        };
        Ok(wanted.map(told).collect())
    }
}
