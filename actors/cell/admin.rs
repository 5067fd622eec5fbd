//! Questions about the system: explain, monitor, models, jobs, logged predictions, rules on trial.

use super::{Cell, mailbox};
use crate::alerter::Alerter;
use crate::api::*;
use crate::feature_shard::LoadEntity;
use crate::feed_monitor::GetFeeds;
use crate::model_pool::{
    AcquireModel, AliasChanged, ArchiveVersion, LoadedModel, RegisterVersion, Registered, SetAlias,
};
use crate::monitor::{GetDrift, GetReport};
use crate::prediction_logger::CatchUp;
use crate::retraining::RetrainingOrchestrator;
use crate::trainer::StartTraining;
use actix::prelude::*;
use serde_json::json;
use std::ops::ControlFlow;
use std::sync::Arc;
use understudy_domain::drift::DriftReport;
use understudy_domain::entity::EntityIds;
use understudy_domain::features::FeatureSource;
use understudy_domain::feed::FeedReport;
use understudy_domain::model::{Manifest, Signature};
use understudy_domain::monitor::MonitorReport;
use understudy_domain::prediction::{OutcomeRecord, OutcomeTarget, PredictionId, PredictionRecord};
use understudy_domain::project::RuleFile;
use understudy_domain::time::Timestamp;
use understudy_domain::validate;

impl Cell {
    /// Value, window, events counted and age of one feature of one entity.
    pub async fn explain(
        &self,
        feature: &str,
        ids: &EntityIds,
        time: Option<Timestamp>,
    ) -> Result<FeatureExplanation, Refusal> {
        let generation = self.generation();
        let plan = &generation.catalog.plan;
        let meta = plan.feature(feature).ok_or_else(|| Refusal::NotFound {
            code: "unknown_feature",
            detail: format!("no feature is named `{feature}`; `understudy feature list` shows them all"),
        })?;
        let entity = meta.entity().ok_or_else(|| Refusal::Invalid {
            code: "not_a_view_feature",
            detail: format!(
                "`{feature}` comes from {}, not from events of an entity",
                if meta.source == FeatureSource::Context { "the request itself" } else { "other features" }
            ),
        })?;
        let keys = plan.entity_keys(entity);
        let hash = plan.entity_hashes(ids)[entity].ok_or_else(|| Refusal::Invalid {
            code: "missing_entity_key",
            detail: format!(
                "`{feature}` belongs to an entity with the keys {}; give each as entity=KEY:ID",
                keys.join(", ")
            ),
        })?;
        let set = &generation.features;
        let shard = hash.shard(set.tables.len());
        set.shards[shard].send(LoadEntity { entity: hash }).await.map_err(mailbox)??;
        let as_of = time.unwrap_or_else(|| self.deps().clock.now());
        let table = set.tables[shard].lock().map_err(|_| Refusal::Unavailable {
            code: "features_rebuilding",
            detail: "feature state is being rebuilt; try again".into(),
        })?;
        let found = table.explain(hash, feature, as_of).ok_or_else(|| Refusal::NotFound {
            code: "unknown_entity",
            detail: "no event of this entity is known".into(),
        })?;
        let age_s = found.newest.map(|t| (as_of - t).as_secs_f64());
        Ok(FeatureExplanation {
            feature: feature.to_owned(),
            entity: plan.entity_types().nth(entity).unwrap_or_default().to_owned(),
            id: keys.iter().filter_map(|k| ids.get(k).cloned().flatten()).collect(),
            value: found.value,
            as_of,
            window_from: Some(found.from),
            events_counted: found.events,
            newest_event: found.newest,
            stale: matches!((age_s, meta.ttl), (Some(age), Some(ttl)) if age > ttl.as_secs_f64()),
            age_s,
        })
    }

    pub async fn monitor(
        &self,
        model: &str,
        from: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<MonitorReport, Refusal> {
        let monitor = self.generation().model(model)?.monitor.clone();
        self.catch_up().await?;
        monitor.send(GetReport { from, until }).await.map_err(mailbox)?
    }

    pub async fn drift(
        &self,
        model: &str,
        from: Option<Timestamp>,
        until: Option<Timestamp>,
        feature: Option<String>,
    ) -> Result<DriftReport, Refusal> {
        let served = self.generation().model(model)?.monitor.clone();
        self.catch_up().await?;
        served.send(GetDrift { from, until, feature }).await.map_err(mailbox)?
    }

    pub async fn train(&self, model: &str) -> Result<JobStatus, Refusal> {
        self.generation().model(model)?;
        self.system.trainer.send(StartTraining { model: model.to_owned() }).await.map_err(mailbox)?
    }

    /// Asks the retraining orchestrator.
    pub async fn retraining<M, T>(&self, question: M) -> Result<T, Refusal>
    where
        M: Message<Result = Result<T, Refusal>> + Send + 'static,
        T: Send + 'static,
        RetrainingOrchestrator: Handler<M>,
    {
        self.system.retraining.send(question).await.map_err(mailbox)?
    }

    /// The feeds under watch; findings of windows that begin in [from, until).
    pub async fn feeds(&self, from: Option<Timestamp>, until: Option<Timestamp>) -> Result<FeedReport, Refusal> {
        self.system.feeds.send(GetFeeds { from, until }).await.map_err(mailbox)?
    }

    /// Asks the alerter.
    pub async fn alerter<M, T>(&self, question: M) -> Result<T, Refusal>
    where
        M: Message<Result = Result<T, Refusal>> + Send + 'static,
        T: Send + 'static,
        Alerter: Handler<M>,
    {
        self.system.alerter.send(question).await.map_err(mailbox)?
    }

    pub fn jobs(&self) -> Vec<JobStatus> {
        self.system.jobs()
    }

    pub fn models(&self) -> Vec<ModelStatus> {
        self.system.models()
    }

    async fn loaded(&self, model: &str, version: Option<&str>) -> Result<Arc<LoadedModel>, Refusal> {
        let name = self.generation().model(model)?.name.clone();
        let champion = || self.models().into_iter().find(|m| m.model == model).and_then(|m| m.champion);
        let version = version.map(str::to_owned).or_else(champion).ok_or_else(|| Refusal::NoVersion {
            detail: format!("model `{model}` has no version yet: `understudy train {model}` makes one"),
        })?;
        self.system.pool.send(AcquireModel { model: name, version }).await.map_err(mailbox)?
    }

    /// Asks the pool for a change of the registry.
    async fn pool<M, T>(&self, change: M) -> Result<T, Refusal>
    where
        M: actix::Message<Result = Result<T, Refusal>> + Send + 'static,
        T: Send + 'static,
        crate::model_pool::ModelPool: actix::Handler<M>,
    {
        self.system.pool.send(change).await.map_err(mailbox)?
    }

    /// A version that was made elsewhere, as a tar archive of its files; checked whole or refused whole.
    pub async fn register(&self, bundle: Vec<u8>) -> Result<Registered, Refusal> {
        self.pool(RegisterVersion { bundle }).await
    }

    /// Gives a name to a version, or takes it away.
    pub async fn set_alias(&self, model: &str, alias: &str, version: Option<&str>) -> Result<AliasChanged, Refusal> {
        let model = self.generation().model(model)?.name.clone();
        self.pool(SetAlias { model, alias: alias.to_owned(), version: version.map(str::to_owned) }).await
    }

    /// Takes a version out of use for good; the epoch of the routes.
    pub async fn archive(&self, model: &str, version: &str) -> Result<u64, Refusal> {
        let model = self.generation().model(model)?.name.clone();
        self.pool(ArchiveVersion { model, version: version.to_owned() }).await
    }

    /// What is registered as a version, whether or not it can be loaded.
    pub async fn manifest(&self, model: &str, version: &str) -> Result<Manifest, Refusal> {
        let model = self.generation().model(model)?.name.clone();
        let status = self.models().into_iter().find(|m| m.model == *model);
        if !status.is_some_and(|m| m.versions.iter().any(|v| v == version)) {
            return Err(Refusal::NotFound {
                code: "unknown_version",
                detail: format!(
                    "model `{model}` has no version `{version}`; `understudy model show {model}` lists them"
                ),
            });
        }
        let (loader, version) = (self.deps().loader.clone(), version.to_owned());
        let read = self.deps().settings.blocking.run(move || loader.manifest(&model, &version)).await;
        let unreadable = |detail| Refusal::Unavailable { code: "model_not_loadable", detail };
        read.map_err(|detail| Refusal::Internal { detail })?.map_err(unreadable)
    }

    /// Signature and labels of a version, the served one if none is named; loads it if needed.
    pub async fn signature(&self, model: &str, version: Option<&str>) -> Result<Arc<Signature>, Refusal> {
        Ok(self.loaded(model, version).await?.signature.clone())
    }

    /// Reads a log where blocking work belongs.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, crate::ports::StoreError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let read = self.deps().settings.blocking.run(read).await;
        read.map_err(|detail| Refusal::Internal { detail })?.map_err(crate::prediction_logger::unavailable)
    }

    /// What was answered before can be read after this.
    pub(super) async fn catch_up(&self) -> Result<(), Refusal> {
        self.system.logger.send(CatchUp).await.map_err(mailbox)
    }

    /// A logged prediction and the outcomes known of it.
    pub async fn prediction(&self, id: PredictionId) -> Result<(PredictionRecord, Vec<OutcomeRecord>), Refusal> {
        self.catch_up().await?;
        let system = self.system.clone();
        self.read(move || {
            let record = system.deps.predictions.get(id)?;
            let Some(record) = record else { return Ok(None) };
            let mut outcomes = Vec::new();
            system.deps.outcomes.scan(0, &mut |o| {
                let about = match &o.target {
                    OutcomeTarget::PredictionId(p) => *p == id,
                    OutcomeTarget::RequestId(r) => Some(r) == record.request_id.as_ref(),
                };
                if about && o.model == record.model {
                    outcomes.push(o);
                }
                ControlFlow::Continue(())
            })?;
            Ok(Some((record, outcomes)))
        })
        .await?
        .ok_or_else(|| Refusal::NotFound {
            code: "unknown_prediction",
            detail: format!("no prediction `{id}` is in the log"),
        })
    }

    /// Up to `limit` logged predictions: in order of id after `after`, or the newest first without it.
    pub async fn predictions(
        &self,
        model: Option<String>,
        after: Option<PredictionId>,
        limit: usize,
    ) -> Result<Vec<PredictionRecord>, Refusal> {
        // Else a misspelt name would read the whole log to find nothing.
        if let Some(model) = &model {
            self.generation().model(model)?;
        }
        self.catch_up().await?;
        let system = self.system.clone();
        self.read(move || {
            let Some(after) = after else { return system.deps.predictions.newest(model.as_deref(), limit) };
            let mut found = Vec::new();
            system.deps.predictions.scan(model.as_deref(), PredictionId(after.0.saturating_add(1)), &mut |r| {
                found.push(r);
                if found.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })?;
            Ok(found)
        })
        .await
    }

    /// Per rule: what the given rules would have done to the newest `limit` logged predictions, beside today's.
    pub async fn try_rules(&self, model: &str, rules: RuleFile, limit: usize) -> Result<serde_json::Value, Refusal> {
        let loaded = self.loaded(model, None).await?;
        let generation = self.generation();
        let plan = &generation.model(model)?.plan;
        let bound = generation.bind(&loaded)?;
        let plans = &generation.catalog.plan;
        let checks: Vec<_> = bound
            .vector
            .names()
            .iter()
            .map(|n| plans.feature(n).map(|f| f.checks.clone()).unwrap_or_default())
            .collect();
        let changed = validate::Rules::compile(&loaded.signature, &checks, &rules.rules, model, &plan.spec.profile)
            .map_err(|problems| Refusal::Invalid {
                code: "invalid_rules",
                detail: problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"),
            })?;
        let records = self.predictions(Some(model.to_owned()), None, limit).await?;
        let rows = records.iter().map(|r| (r.id, r.vector.as_slice()));
        let reference = changed.prepare(loaded.runtime.profile());
        let (old, new) = ((&bound.rules, Some(&bound.reference)), (&changed, Some(&reference)));
        serde_json::to_value(validate::try_rules(old, new, rows))
            .map_err(|e| Refusal::Internal { detail: e.to_string() })
    }

    /// Definitions of all features.
    pub fn features(&self) -> serde_json::Value {
        let generation = self.generation();
        let plan = &generation.catalog.plan;
        let source = |s: FeatureSource| match s {
            FeatureSource::View => "view",
            FeatureSource::Context => "context",
            FeatureSource::Expression => "expression",
        };
        let list: Vec<_> = plan
            .features()
            .iter()
            .map(|f| {
                json!({
                    "name": f.name, "type": f.kind, "nullable": f.nullable, "source": source(f.source),
                    "view": f.view, "ttl": f.ttl,
                    "entity": f.entity().and_then(|e| plan.entity_types().nth(e)),
                })
            })
            .collect();
        json!({"feature_set": plan.id(), "features": list})
    }

    pub fn health(&self) -> Vec<ActorHealth> {
        self.system.health()
    }

    /// Clock, actors, features, logs: for `/v1/system` and `doctor`.
    pub fn describe(&self) -> serde_json::Value {
        let (deps, generation) = (self.deps(), self.generation());
        let stats = self.system.feature_stats();
        json!({
            "clock": {"source": if deps.clock.is_stream() { "stream" } else { "wall" }, "now": deps.clock.now()},
            "ready": self.ready(),
            "generation": generation.number,
            "actors": self.health(),
            "admission": {
                "in_flight": self.system.admission.depth().0,
                "waiting": self.system.admission.depth().1,
                "memory_level": self.system.admission.rung(),
                "classes": self.system.admission.loads(),
            },
            "features": {
                "feature_set": generation.catalog.plan.id(),
                "shards": stats.len(),
                "entities": stats.iter().map(|s| s.entities).sum::<usize>(),
                "points": stats.iter().map(|s| s.points).sum::<usize>(),
                "tiles": stats.iter().map(|s| s.tiles).sum::<usize>(),
                "bytes": stats.iter().map(|s| s.bytes).sum::<usize>(),
                "memo_hits": stats.iter().map(|s| s.memo_hits).sum::<u64>(),
                "memo_misses": stats.iter().map(|s| s.memo_misses).sum::<u64>(),
            },
            "models": self.system.describe_models(),
            "event_log": {"last_seq": deps.events.last_seq()},
            "prediction_log": {
                "mode": if generation.settings.log_sync { "sync" } else { "async" },
                "queued": self.system.log_queue(),
                "dropped": deps.counters.log_dropped.load(std::sync::atomic::Ordering::Relaxed),
            },
        })
    }
}
