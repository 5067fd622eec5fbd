//! Posted outcomes: joined at once, acknowledged in order when they are durable.

use super::{PredictionLogger, unavailable};
use crate::api::{OutcomeResult, Refusal};
use crate::fault_point;
use crate::ports::{Commit, StoreError};
use actix::prelude::*;
use std::collections::BTreeMap;
use tokio::sync::oneshot;
use understudy_domain::catalog::Catalog;
use understudy_domain::prediction::{OutcomeRecord, OutcomeStatus};
use understudy_domain::project::OutcomeSpec;

/// Take outcomes; replies with one result each when those that changed anything are durable.
#[derive(Message)]
#[rtype(result = "()")]
pub struct PostOutcomes {
    pub outcomes: Vec<OutcomeRecord>,
    /// Read from events: those of models that have never served are not kept.
    pub derived: bool,
    pub done: oneshot::Sender<Result<Vec<OutcomeResult>, Refusal>>,
}

/// Outcomes that wait until they are durable.
pub(super) struct Post {
    number: u64,
    durable: Option<Result<(), StoreError>>,
    results: Vec<OutcomeResult>,
    done: oneshot::Sender<Result<Vec<OutcomeResult>, Refusal>>,
}

impl PredictionLogger {
    /// Passes on what became of a post. They come back in order; when one was not written, whatever was answered on
    /// the ground of it (a duplicate) is not true, so all that wait fail with it.
    fn on_post_settled(&mut self, number: u64, result: Result<(), StoreError>, ctx: &mut Context<Self>) {
        if let Some(post) = self.posts.iter_mut().find(|p| p.number == number) {
            post.durable = Some(result);
        }
        while let Some(Post { results, done, durable, .. }) = self.posts.pop_front_if(|p| p.durable.is_some()) {
            match durable.unwrap_or(Ok(())) {
                Ok(()) => drop(done.send(Ok(results))),
                Err(e) => {
                    tracing::error!(%e, "outcomes could not be written; nothing of it was acknowledged");
                    let _ = done.send(Err(unavailable(e.clone())));
                    self.posts.drain(..).for_each(|p| drop(p.done.send(Err(unavailable(e.clone())))));
                    self.write_group();
                    self.rebuild(ctx);
                    return;
                }
            }
        }
    }

    fn post(&mut self, outcomes: Vec<OutcomeRecord>, derived: bool) -> (Vec<OutcomeResult>, Option<Commit>) {
        let generation = self.current.load_full();
        let mut changed = Vec::new();
        let mut results = Vec::new();
        for outcome in outcomes {
            let Some(model) = generation.catalog.model(&outcome.model) else {
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
        fault_point!("prediction_logger.posted");
        // A duplicate of what is not written yet is acknowledged together with it.
        let wait = !changed.is_empty() || !self.posts.is_empty();
        (results, wait.then(|| self.writing.watch(self.deps.outcomes.append(changed))))
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

impl Handler<PostOutcomes> for PredictionLogger {
    type Result = ();

    fn handle(&mut self, m: PostOutcomes, ctx: &mut Self::Context) {
        fault_point!("prediction_logger.outcomes");
        if let Err(e) = self.deps.outcomes.accepting() {
            return drop(m.done.send(Err(unavailable(e))));
        }
        if !self.complete {
            let e = StoreError::Io("the outcome log cannot be read; it is tried again every second".into());
            return drop(m.done.send(Err(unavailable(e))));
        }
        let (results, commit) = self.post(m.outcomes, m.derived);
        self.save_if_due(ctx);
        let Some(commit) = commit else { return drop(m.done.send(Ok(results))) };
        self.posted += 1;
        let number = self.posted;
        self.posts.push_back(Post { number, durable: None, results, done: m.done });
        ctx.spawn(
            async move { commit.await.unwrap_or(Err(StoreError::Closed)) }
                .into_actor(self)
                .map(move |result, logger, ctx| logger.on_post_settled(number, result, ctx)),
        );
    }
}

/// The project changed: outcomes of added models are joined from now on, those of removed ones no more.
#[derive(Message)]
#[rtype(result = "()")]
pub struct FollowOutcomes;

pub(super) fn outcome_specs(catalog: &Catalog) -> BTreeMap<String, OutcomeSpec> {
    catalog.models.iter().filter_map(|(name, m)| m.spec.outcome.clone().map(|o| (name.clone(), o))).collect()
}

impl Handler<FollowOutcomes> for PredictionLogger {
    type Result = ();

    fn handle(&mut self, _: FollowOutcomes, _: &mut Self::Context) {
        let specs = outcome_specs(&self.current.load().catalog);
        self.state.joiner.follow(specs, self.deps.settings.max_pending);
    }
}
