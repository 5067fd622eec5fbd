//! Rollouts: commands and questions of people.

use super::{Cell, mailbox};
use crate::api::Refusal;
use crate::prediction_logger::{CatchUp, TellRollouts};
use crate::rollout::*;
use actix::prelude::*;
use std::sync::Arc;
use understudy_domain::rollout::{Input, RolloutSettings};

impl Cell {
    async fn controller<M, T>(&self, message: M) -> Result<T, Refusal>
    where
        M: Message<Result = Result<T, Refusal>> + Send + 'static,
        T: Send + 'static,
        RolloutController: Handler<M>,
    {
        self.system.rollouts.send(message).await.map_err(mailbox)?
    }

    /// A recorded stream goes on only when what a command began is in force: loading takes no time of the stream.
    async fn settled(&self) -> Result<(), Refusal> {
        if self.clock_is_stream() {
            self.system.rollouts.send(SettleRollouts).await.map_err(mailbox)?;
        }
        Ok(())
    }

    /// The model's declared settings, with those of `overlay` in their place.
    pub fn rollout_settings(
        &self,
        model: &str,
        overlay: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<RolloutSettings, Refusal> {
        let generation = self.generation();
        let declared = &generation.model(model)?.plan.spec.rollout.settings;
        let invalid = |detail| Refusal::Invalid { code: "invalid_rollout_settings", detail };
        let mut merged = serde_json::to_value(declared).map_err(|e| invalid(e.to_string()))?;
        if let Some(fields) = merged.as_object_mut() {
            fields.extend(overlay.clone());
        }
        let settings: RolloutSettings = serde_json::from_value(merged).map_err(|e| invalid(e.to_string()))?;
        let problems = settings.check();
        if problems.is_empty() {
            return Ok(settings);
        }
        Err(invalid(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))
    }

    pub async fn start_rollout(
        &self,
        model: &str,
        version: &str,
        settings: RolloutSettings,
    ) -> Result<RolloutStatus, Refusal> {
        let served = self.generation();
        let served = served.model(model)?;
        let (model, fallback) = (served.name.clone(), served.plan.spec.rollout.fallback);
        // What was predicted so far is what quantiles are frozen from.
        self.system.logger.send(CatchUp).await.map_err(mailbox)?;
        let start = StartRollout { model: model.clone(), version: version.to_owned(), settings, fallback };
        self.controller(start).await?;
        self.settled().await?;
        self.controller(GetRollout { model }).await
    }

    pub async fn plan_rollout(&self, model: &str, settings: RolloutSettings) -> Result<PlanReport, Refusal> {
        let model = self.generation().model(model)?.name.clone();
        self.system.logger.send(CatchUp).await.map_err(mailbox)?;
        self.controller(PlanRollout { model, settings }).await
    }

    pub async fn command_rollout(&self, model: &str, command: Input) -> Result<RolloutStatus, Refusal> {
        let model = self.generation().model(model)?.name.clone();
        self.system.logger.send(TellRollouts).await.map_err(mailbox)?;
        self.controller(CommandRollout { model: model.clone(), command }).await?;
        self.settled().await?;
        self.controller(GetRollout { model }).await
    }

    pub async fn rollout(&self, model: &str) -> Result<RolloutStatus, Refusal> {
        let model = self.generation().model(model)?.name.clone();
        self.controller(GetRollout { model }).await
    }

    pub async fn rollouts(&self, model: Option<&str>) -> Result<Vec<RolloutStatus>, Refusal> {
        let model = match model {
            Some(model) => Some(self.generation().model(model)?.name.clone()),
            None => None,
        };
        self.controller(ListRollouts { model }).await
    }

    /// Every line of a rollout's journal.
    pub async fn rollout_journal(&self, id: &str) -> Result<Arc<Vec<JournalLine>>, Refusal> {
        let (journal, id) = (self.deps().rollouts.clone(), id.to_owned());
        let read = self.deps().settings.blocking.run(move || (journal.read(&id), id)).await;
        let (lines, id) = read.map_err(|detail| Refusal::Internal { detail })?;
        let lines = lines.map_err(crate::prediction_logger::unavailable)?;
        if lines.is_empty() {
            return Err(Refusal::NotFound {
                code: "unknown_rollout",
                detail: format!("no rollout is called `{id}`; `understudy rollout status` lists them"),
            });
        }
        Ok(Arc::new(lines))
    }

    /// Recomputes every verdict of a rollout from its journal, and its counts from the logs.
    pub async fn verify_rollout(&self, id: &str) -> Result<Verification, Refusal> {
        let lines = self.rollout_journal(id).await?;
        self.system.logger.send(CatchUp).await.map_err(mailbox)?;
        let (deps, generation, id) = (self.system.deps.clone(), self.generation(), id.to_owned());
        let blocking = deps.settings.blocking;
        let verified = blocking.run(move || verify(&deps, &generation, &id, &lines)).await;
        verified.map_err(|detail| Refusal::Internal { detail })?
    }

    /// The champion against itself on logged traffic, dealt out anew in each run.
    pub async fn aa_rollout(
        &self,
        model: &str,
        settings: RolloutSettings,
        (runs, predictions): (u64, u64),
    ) -> Result<AaReport, Refusal> {
        self.system.logger.send(CatchUp).await.map_err(mailbox)?;
        let (deps, generation, model) = (self.system.deps.clone(), self.generation(), model.to_owned());
        let blocking = deps.settings.blocking;
        let done = blocking.run(move || run_aa(&deps, &generation, &model, &settings, (runs, predictions))).await;
        done.map_err(|detail| Refusal::Internal { detail })?
    }
}
