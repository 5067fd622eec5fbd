//! From an event to its end: the machine's entries are journalled, then its actions are done, and what they come to
//! is the next event.

use super::challenge::{Outcome, Work};
use super::rows::History;
use crate::api::Refusal;
use crate::deps::Deps;
use crate::feed_monitor::{FeedMonitor, GetDataIncidents};
use crate::generation::Current;
use crate::model_pool::{AcquireModel, ActivateVersion, LoadedModel, ModelPool, Published};
use crate::monitor::GetLedger;
use crate::prediction_logger::{CatchUp, PredictionLogger, unavailable};
use crate::trainer::Jobs;
use actix::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use understudy_domain::alert::{Resolved, Signal};
use understudy_domain::retraining::{Action, Alarm, Event, Evidence, Job, Known, Machine, Promotion, Reference};
use understudy_domain::time::Timestamp;

/// One model's loop.
pub(super) struct Loop {
    pub machine: Machine,
    /// Evaluated by itself.
    pub evaluated: bool,
    /// The next evaluation; `None` until the clock was looked at.
    pub next: Option<Timestamp>,
    pub progress: Option<String>,
}

/// What the handlers share with the futures they start.
pub(super) struct Shared {
    pub deps: Arc<Deps>,
    pub current: Current,
    pub pool: Addr<ModelPool>,
    pub logger: Addr<PredictionLogger>,
    pub feeds: Addr<FeedMonitor>,
    pub models: Published,
    pub jobs: Jobs,
    /// When the next evaluation of any model is due, for the replay path.
    pub due: Arc<AtomicI64>,
    pub loops: Mutex<BTreeMap<String, Loop>>,
    /// Held from a transition until it is durable: the journal is in the order of the transitions.
    pub order: tokio::sync::Mutex<()>,
    pub history: Arc<History>,
    /// Held while what is due is evaluated: a replay that is sent again waits for what the first began.
    pub evaluating: tokio::sync::Mutex<()>,
}

impl Shared {
    pub fn loops(&self) -> MutexGuard<'_, BTreeMap<String, Loop>> {
        self.loops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The loops of the models declared now, with what the journal says of them.
    pub fn read_journal(&self) -> Result<(), String> {
        let journal = self.deps.retraining.read().map_err(|e| e.to_string())?;
        let generation = self.current.load();
        let mut loops = BTreeMap::new();
        for served in generation.models() {
            let own = journal.iter().filter(|(m, _)| **m == *served.name).map(|(_, e)| e);
            let spec = served.plan.spec.retraining.clone();
            let machine = Machine::new(spec.clone().unwrap_or_default(), own);
            let name = served.name.to_string();
            loops.insert(name, Loop { machine, evaluated: spec.is_some(), next: None, progress: None });
        }
        *self.loops() = loops;
        Ok(())
    }

    /// Takes over the settings of a changed project.
    fn follow(&self) {
        let generation = self.current.load();
        let mut loops = self.loops();
        loops.retain(|m, _| generation.served(m).is_some());
        for served in generation.models() {
            let spec = served.plan.spec.retraining.clone();
            let (evaluated, spec) = (spec.is_some(), spec.unwrap_or_default());
            match loops.get_mut(&*served.name) {
                Some(l) => {
                    l.evaluated = evaluated;
                    l.machine.follow(spec);
                }
                None => {
                    let machine = Machine::new(spec, []);
                    loops.insert(served.name.to_string(), Loop { machine, evaluated, next: None, progress: None });
                }
            }
        }
    }

    /// Models whose evaluation is due, by name; those that were never looked at get their first date.
    fn due_now(&self, now: Timestamp) -> Vec<String> {
        self.follow();
        let mut due = Vec::new();
        let mut loops = self.loops();
        for (model, l) in loops.iter_mut().filter(|(_, l)| l.evaluated) {
            let next = *l.next.get_or_insert_with(|| l.machine.due(now));
            if next <= now {
                due.push(model.clone());
            }
        }
        due
    }

    fn publish_due(&self) {
        let next = self.loops().values().filter(|l| l.evaluated).filter_map(|l| l.next).min();
        self.due.store(next.map_or(i64::MAX, |t| t.0), Relaxed);
    }

    /// Evaluates every model that is due, one after the other, each to the end of the job it starts.
    pub async fn evaluate_due(self: Arc<Self>, now: Timestamp) -> Result<(), Refusal> {
        let mut result = Ok(());
        for model in self.due_now(now) {
            let evaluated = self.clone().evaluate(&model, now).await;
            if let Some(l) = self.loops().get_mut(&model)
                && evaluated.is_ok()
            {
                let every = l.machine.spec().every;
                l.next = Some(now.floor(every) + every);
            }
            result = result.and(evaluated);
        }
        self.publish_due();
        result
    }

    async fn evaluate(self: Arc<Self>, model: &str, now: Timestamp) -> Result<(), Refusal> {
        let Some(champion) = self.champion(model).await? else { return Ok(()) };
        let at = self.loops().get(model).map_or(now, |l| now.floor(l.machine.spec().every));
        let known = known(&champion);
        // A version is evaluated by what it did, whenever this process was started.
        if at <= known.since {
            return Ok(());
        }
        let generation = self.current.load_full();
        let served = generation.model(model)?;
        self.logger.send(CatchUp).await.map_err(gone)?;
        let Some(ledger) = served.monitor.send(GetLedger).await.map_err(gone)? else { return Ok(()) };
        let window = self.loops().get(model).map(|l| l.machine.spec().window).unwrap_or_default();
        let asked = GetDataIncidents { from: at - window, until: at };
        // What fell into an incident must not be learnt.
        let incident = self.feeds.send(asked).await.map_err(gone)?.into_iter().next_back();
        let evidence = Evidence {
            known,
            ledger,
            matures_after: served.plan.spec.outcome.as_ref().map(|o| o.matures_after).unwrap_or_default(),
            drift: None,
            incident: incident.map(|i| format!("feed {} since {}: {}", i.feed, i.since, i.reason)),
            rollout: None,
            busy: self.jobs.busy(),
        };
        self.drive(model, Event::Due(Box::new(evidence)), at).await
    }

    /// The version that serves, loaded.
    pub async fn champion(&self, model: &str) -> Result<Option<Arc<LoadedModel>>, Refusal> {
        let version = self.models.load().iter().find(|m| m.model == model).and_then(|m| m.champion.clone());
        let Some(version) = version else { return Ok(None) };
        let acquire = AcquireModel { model: Arc::from(model), version };
        self.pool.send(acquire).await.map_err(gone)?.map(Some)
    }

    /// From an event until nothing is left to do; `at` is the time of all of it.
    pub async fn drive(self: Arc<Self>, model: &str, event: Event, at: Timestamp) -> Result<(), Refusal> {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let actions = self.clone().step(model, event, at).await?;
            for action in actions {
                events.extend(self.clone().perform(model, action).await);
            }
        }
        Ok(())
    }

    /// One transition: applied, then durable. What could not be written has not happened: the journal is read again.
    async fn step(self: Arc<Self>, model: &str, event: Event, at: Timestamp) -> Result<Vec<Action>, Refusal> {
        let _order = self.order.lock().await;
        let (entries, actions) = match self.loops().get_mut(model) {
            Some(l) => l.machine.on(event, at),
            None => return Ok(Vec::new()),
        };
        if entries.is_empty() {
            return Ok(actions);
        }
        let (shared, name) = (self.clone(), model.to_owned());
        let written = self.deps.settings.blocking.run(move || shared.deps.retraining.append(&name, &entries)).await;
        match written {
            Ok(Ok(())) => Ok(actions),
            Ok(Err(e)) => {
                let _ = self.read_journal();
                Err(unavailable(e))
            }
            Err(detail) => Err(Refusal::Internal { detail }),
        }
    }

    async fn perform(self: Arc<Self>, model: &str, action: Action) -> Option<Event> {
        match action {
            Action::Alert(Alarm::Loop(text) | Alarm::Circuit(text) | Alarm::Waiting(text)) => {
                tracing::warn!(model, "retraining: {text}");
                self.deps.alerts.raise(Signal::retraining(model, &text, self.deps.clock.now()));
                None
            }
            Action::Train(job) => Some(self.train(model, job).await),
            Action::Promote { job, version, how } => self.promote(model, job, version, how).await,
        }
    }

    async fn train(self: Arc<Self>, model: &str, job: Job) -> Event {
        let id = job.id;
        tracing::info!(model, job = id, run = job.run, until = %job.until, "retraining: job started");
        let worked = self.clone().work(model, job).await;
        if let Some(l) = self.loops().get_mut(model) {
            l.progress = None;
        }
        match worked {
            Ok(Outcome { attempts, data, winner }) => {
                tracing::info!(model, job = id, ?winner, "retraining: job judged");
                Event::Judged { job: id, attempts, data, winner }
            }
            Err(why) => {
                tracing::error!(model, job = id, why, "retraining: job failed");
                let told = format!("job {id} failed: {why}");
                self.deps.alerts.raise(Signal::retraining(model, &told, self.deps.clock.now()));
                Event::Failed { job: id, why }
            }
        }
    }

    async fn work(self: Arc<Self>, model: &str, job: Job) -> Result<Outcome, String> {
        let generation = self.current.load_full();
        let plan = generation.model(model).map_err(|e| format!("{e:?}"))?.plan.clone();
        let spec = self.loops().get(model).map(|l| l.machine.spec().clone()).unwrap_or_default();
        let acquire = AcquireModel { model: Arc::from(model), version: job.champion.clone() };
        let champion = self.pool.send(acquire).await.map_err(|e| e.to_string())?.map_err(|e| format!("{e:?}"))?;
        // One job a machine, whoever asked for it.
        let _turn = self.jobs.turn().await;
        let (shared, name) = (self.clone(), model.to_owned());
        let work = move || {
            let progress = |share: f32, what: &str| {
                if let Some(l) = shared.loops().get_mut(&name) {
                    l.progress = Some(format!("{:.0} %: {what}", share * 100.0));
                }
            };
            Work {
                deps: &shared.deps,
                catalog: &generation.catalog,
                spec: &spec,
                job: &job,
                champion: &champion.runtime,
                history: &shared.history,
                progress: &progress,
            }
            .run(&plan)
        };
        self.deps.settings.blocking.run(work).await.map_err(|panic| format!("the trainer panicked: {panic}"))?
    }

    async fn promote(&self, model: &str, job: u64, version: String, how: Promotion) -> Option<Event> {
        if how == Promotion::Rollout {
            tracing::warn!(
                model,
                version,
                "retraining: no rollout of this model can be started here; it comes in at once"
            );
        }
        let activate = ActivateVersion { model: Arc::from(model), version };
        Some(match self.pool.send(activate).await {
            Ok(Ok(_)) => {
                self.deps.alerts.resolve(Resolved::retraining(model));
                Event::Promoted { job }
            }
            Ok(Err(e)) => Event::NotPromoted { job, why: format!("it could not be brought in: {e:?}") },
            Err(e) => Event::NotPromoted { job, why: format!("the model pool is gone: {e}") },
        })
    }
}

/// What a version's manifest says of it.
pub(super) fn known(champion: &LoadedModel) -> Known {
    let p = &champion.runtime.manifest().provenance;
    let reference = p.held_out.get("log_loss").map(|loss| Reference {
        loss: *loss,
        wrong: p.held_out.get("wrong").copied(),
        rows: p.held_out.get("rows").map_or(0, |n| *n as u64),
    });
    Known { version: champion.version.to_string(), since: p.created, cut: p.until, reference }
}

pub(super) fn gone(e: MailboxError) -> Refusal {
    Refusal::Internal { detail: format!("a part is being restarted ({e}); try again") }
}
