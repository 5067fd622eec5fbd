//! **Owns** the training jobs: one runs at a time, on the blocking pool, never on a serving thread.
//! **Receives** `StartTraining` from the cells.
//! **Sends** `SetAlias` to the model pool.
//! **On failure** the job is `failed` with its reason; nothing was registered, serving is untouched.
//! **On restart** the job that ran is `failed`; versions already registered stay.

use crate::api::{JobState, JobStatus, Refusal};
use crate::deps::Deps;
use crate::fault_point;
use crate::generation::Current;
use crate::guard::Vitals;
use crate::model_pool::{ModelPool, SetAlias};
use crate::ports::{TrainingJob, TrainingRow};
use actix::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use understudy_domain::backfill::Backfill;
use understudy_domain::catalog::Catalog;
use understudy_domain::registry::CHAMPION;
use understudy_domain::time::Timestamp;

/// Jobs remembered.
const KEEP_JOBS: usize = 100;

/// Train a model on everything known by now; replies with the queued job.
#[derive(Message)]
#[rtype(result = "Result<JobStatus, Refusal>")]
pub struct StartTraining {
    pub model: String,
}

#[derive(Message)]
#[rtype(result = "()")]
struct RunNext;

/// Job statuses, newest last; the trainer and its running job write, everyone reads.
#[derive(Clone, Default)]
pub struct Jobs(Arc<Mutex<VecDeque<JobStatus>>>, Turn);

/// Held while a job trains: one a machine.
pub(crate) type Turn = Arc<tokio::sync::Mutex<()>>;

impl Jobs {
    /// Waits until no other job trains.
    pub(crate) async fn turn(&self) -> tokio::sync::OwnedMutexGuard<()> {
        self.1.clone().lock_owned().await
    }

    /// The job that trains or waits to, in words.
    pub(crate) fn busy(&self) -> Option<String> {
        let open = |j: &&JobStatus| !matches!(j.state, JobState::Registered | JobState::Failed);
        let jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.iter().find(open).map(|j| format!("training job {} of {} runs", j.job, j.model))
    }

    pub fn list(&self) -> Vec<JobStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn add(&self, model: &str) -> JobStatus {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let job = JobStatus {
            job: jobs.back().map_or(1, |j| j.job + 1),
            model: model.to_owned(),
            state: JobState::Queued,
            progress: 0.0,
            message: String::new(),
            rows: 0,
            version: None,
        };
        jobs.push_back(job.clone());
        if jobs.len() > KEEP_JOBS {
            jobs.pop_front();
        }
        job
    }

    fn update(&self, id: u64, change: impl FnOnce(&mut JobStatus)) {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(job) = jobs.iter_mut().find(|j| j.job == id) {
            change(job);
        }
    }
}

pub struct Trainer {
    deps: Arc<Deps>,
    current: Current,
    vitals: Arc<Vitals>,
    pool: Addr<ModelPool>,
    jobs: Jobs,
    queue: VecDeque<(u64, String, Timestamp)>,
    running: Option<u64>,
}

impl Trainer {
    pub fn new(deps: Arc<Deps>, current: Current, vitals: Arc<Vitals>, pool: Addr<ModelPool>, jobs: Jobs) -> Self {
        Trainer { deps, current, vitals, pool, jobs, queue: VecDeque::new(), running: None }
    }

    fn enqueue(&mut self, model: &str, ctx: &mut Context<Self>) -> Result<JobStatus, Refusal> {
        let plan = self.current.load().model(model)?.plan.clone();
        let missing = |what: &str| Refusal::Invalid {
            code: "not_trainable",
            detail: format!("model `{model}` has no [{what}] table; the built-in trainer needs it"),
        };
        plan.spec.train.as_ref().ok_or_else(|| missing("train"))?;
        plan.spec.request.as_ref().ok_or_else(|| missing("request"))?;
        plan.spec.outcome.as_ref().ok_or_else(|| missing("outcome"))?;
        if let Some((id, ..)) = self.queue.iter().find(|(_, m, _)| m == model) {
            return Err(Refusal::Conflict {
                code: "already_queued",
                detail: format!("job {id} of `{model}` is waiting"),
            });
        }
        let job = self.jobs.add(model);
        self.queue.push_back((job.job, model.to_owned(), self.deps.clock.now()));
        ctx.notify(RunNext);
        Ok(job)
    }

    fn run(&mut self, id: u64, model: String, until: Timestamp, ctx: &mut Context<Self>) {
        self.running = Some(id);
        let (deps, jobs, pool) = (self.deps.clone(), self.jobs.clone(), self.pool.clone());
        // A job keeps the definitions it began with.
        let catalog = self.current.load().catalog.clone();
        let spec = catalog.model(&model).and_then(|plan| plan.spec.train.as_ref());
        let alias = spec.map_or(CHAMPION, |train| &train.alias).to_owned();
        let progress = self.jobs.clone();
        let turn = self.jobs.clone();
        let work = async move {
            let _turn = turn.turn().await;
            let name = model.clone();
            let trained = deps.settings.blocking.run({
                let deps = deps.clone();
                move || train(&deps, &catalog, &progress, id, &name, until)
            });
            let version = trained.await.map_err(|e| format!("the trainer panicked: {e}"))??;
            let activate = SetAlias { model: Arc::from(model.as_str()), alias, version: Some(version.clone()) };
            match pool.send(activate).await {
                Ok(Ok(_)) => Ok(version),
                Ok(Err(e)) => Err(format!("{version} is registered but could not be loaded: {e:?}")),
                Err(e) => Err(format!("{version} is registered but the model pool is gone: {e}")),
            }
        };
        ctx.spawn(work.into_actor(self).map(move |result: Result<String, String>, trainer, ctx| {
            fault_point!("trainer.finished");
            jobs.update(id, |job| match result {
                Ok(version) => {
                    (job.state, job.progress, job.version) = (JobState::Registered, 1.0, Some(version));
                }
                Err(why) => {
                    tracing::error!(job = id, why, "training failed");
                    (job.state, job.message) = (JobState::Failed, why);
                }
            });
            trainer.running = None;
            ctx.notify(RunNext);
        }));
    }
}

/// Backfill over the event log through the serving code, then the trainer; blocking.
fn train(
    deps: &Deps,
    catalog: &Catalog,
    jobs: &Jobs,
    id: u64,
    model: &str,
    until: Timestamp,
) -> Result<String, String> {
    fault_point!("trainer.train");
    let plan = catalog.model(model).ok_or("the model left the project")?;
    let spec = plan.spec.train.clone().ok_or("no [train] table")?;
    let outcome = plan.spec.outcome.clone().ok_or("no [outcome] table")?;
    let request = plan.spec.request.as_ref().ok_or("no [request] table")?;
    jobs.update(id, |j| j.state = JobState::Backfilling);
    let last = deps.events.last_seq().max(1);
    let vector = catalog.plan.vector(&plan.spec.features).map_err(|_| "the features changed")?;
    let mut backfill = Backfill::new(catalog.plan.clone(), vector, &request.event, Some(&outcome), spec.from, until)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    deps.events
        .scan(1, &mut |e| {
            if e.seq % 4096 == 0 {
                jobs.update(id, |j| j.progress = e.seq as f32 / last as f32);
            }
            backfill.push(&e);
            ControlFlow::Continue(())
        })
        .map_err(|e| e.to_string())?;
    let mut rows: Vec<TrainingRow> = backfill
        .finish()
        .into_iter()
        .filter_map(|r| {
            let label = r.label?;
            Some(TrainingRow { request_id: r.request_id, time: r.time, vector: r.vector, label })
        })
        .collect();
    rows.sort_by(|a, b| (a.time, &a.request_id).cmp(&(b.time, &b.request_id)));
    if rows.is_empty() {
        return Err(format!("no labelled `{}` events are in the log yet; import events first", request.event));
    }
    jobs.update(id, |j| (j.state, j.progress, j.rows) = (JobState::Training, 0.0, rows.len() as u64));
    let job = TrainingJob {
        model: model.to_owned(),
        spec,
        signature: (*plan.signature).clone(),
        feature_set: catalog.plan.id().to_owned(),
        meanings: meanings(catalog, &plan.spec.features),
        drift: plan.spec.drift.clone(),
        threshold: plan.spec.threshold,
        created: until,
        rows,
    };
    let manifest = deps.trainer.train(job, &|share, what| {
        jobs.update(id, |j| (j.progress, j.message) = (share, what.to_owned()));
    })?;
    Ok(manifest.version)
}

pub(crate) fn meanings(catalog: &Catalog, features: &[String]) -> BTreeMap<String, String> {
    features.iter().filter_map(|f| Some((f.clone(), catalog.plan.meaning(f)?.to_owned()))).collect()
}

impl Actor for Trainer {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.vitals.set_ready(true, "");
    }
}

impl Supervised for Trainer {
    fn restarting(&mut self, ctx: &mut Self::Context) {
        if let Some(id) = self.running.take() {
            self.jobs.update(id, |j| (j.state, j.message) = (JobState::Failed, "the trainer was restarted".into()));
        }
        ctx.notify(RunNext);
    }
}

impl Handler<StartTraining> for Trainer {
    type Result = Result<JobStatus, Refusal>;

    fn handle(&mut self, m: StartTraining, ctx: &mut Self::Context) -> Self::Result {
        fault_point!("trainer.enqueue");
        self.enqueue(&m.model, ctx)
    }
}

impl Handler<RunNext> for Trainer {
    type Result = ();

    fn handle(&mut self, _: RunNext, ctx: &mut Self::Context) {
        if self.running.is_none()
            && let Some((id, model, until)) = self.queue.pop_front()
        {
            self.run(id, model, until, ctx);
        }
    }
}
