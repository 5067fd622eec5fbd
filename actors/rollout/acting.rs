//! Actions of the state machine, performed one after another; what is loaded meanwhile reports back by its step.

use super::{Life, RolloutController};
use crate::api::Refusal;
use crate::model_pool::{AcquireModel, LoadedModel, RolloutRoute, SetAlias, SetRoute};
use crate::shadow::ShadowTap;
use actix::prelude::*;
use std::sync::Arc;
use understudy_domain::alert::{Resolved, Signal};
use understudy_domain::registry::{CHAMPION, PREVIOUS};
use understudy_domain::rollout::{Action, Input, Share, Verdict};
use understudy_domain::time::Timestamp;

/// An action, for whom, and the time of the input that it follows from.
pub(super) struct Due {
    pub model: Arc<str>,
    pub action: Action,
    pub at: Timestamp,
}

/// What an action asked of the pool comes to.
type Asked = std::pin::Pin<Box<dyn Future<Output = Result<(), Refusal>>>>;

impl RolloutController {
    pub(super) fn plan_actions(&mut self, model: &str, actions: Vec<Action>, at: Timestamp) {
        let Some((name, life)) = self.lives.get_key_value(model) else { return };
        let (name, first) = (name.clone(), self.due.len());
        let promoted = life.rollout.state() == understudy_domain::rollout::State::Promoted;
        for action in actions {
            self.due.push_back(Due { model: name.clone(), action, at });
        }
        if promoted && self.due.len() > first {
            // The alias leads to the challenger by then; the rollout's route is not needed any more.
            let segment = 0;
            let action = Action::SetShare { step: u64::MAX, share: Share::ZERO, segment };
            self.due.push_back(Due { model: name, action, at });
        }
    }

    /// Performs what is due until something has to be waited for.
    pub(super) fn act(&mut self, ctx: &mut Context<Self>) {
        while !self.acting {
            let Some(due) = self.due.pop_front() else { break };
            if let Some(asked) = self.perform(&due, ctx) {
                self.acting = true;
                ctx.spawn(asked.into_actor(self).map(move |result, controller, ctx| {
                    controller.acting = false;
                    controller.performed(due, result, ctx);
                }));
            }
        }
        if !self.acting {
            self.publish();
        }
        self.show();
        self.tell_settled();
    }

    fn performed(&mut self, due: Due, result: Result<(), Refusal>, ctx: &mut Context<Self>) {
        if let Err(e) = result {
            // The table is as it was. A canary that may not serve is kept from it by the board; the rest is tried again.
            tracing::error!(model = &*due.model, action = ?due.action, ?e, "an action of a rollout failed; tried again");
            let again = self.lives.get(&due.model).is_some_and(|l| stands(l, &due.action));
            if again {
                ctx.run_later(crate::event_logger::RETRY, move |controller, ctx| {
                    controller.due.push_front(due);
                    controller.act(ctx);
                });
                return;
            }
        }
        self.act(ctx);
    }

    /// Begins an action; `Some` if the next one has to wait for it.
    fn perform(&mut self, due: &Due, ctx: &mut Context<Self>) -> Option<Asked> {
        let model = due.model.clone();
        match &due.action {
            Action::Load { step, version } => {
                // What stopped the one before is history.
                self.deps.alerts.resolve(Resolved::rollout(&model));
                self.load(model, version.clone(), *step, due.at, ctx);
                None
            }
            Action::Warm { step, version } => {
                self.warm(model, version.clone(), *step, due.at, ctx);
                None
            }
            Action::StartShadow { step, version, share } => {
                self.start_shadow(model, version.clone(), (*step, *share), ctx);
                None
            }
            Action::StopShadow => {
                let life = self.lives.get_mut(&model)?;
                life.running.shadow.store(None);
                life.compared = life.tap.take().map(|t| t.comparison());
                None
            }
            Action::SetShare { share, segment, .. } => {
                let life = self.lives.get_mut(&model)?;
                let start = life.rollout.started_as();
                let route = (*share > Share::ZERO).then(|| RolloutRoute {
                    salt: start.id.clone(),
                    baseline: start.champion.clone(),
                    canary: start.challenger.clone(),
                    share: share.0,
                    segment: *segment,
                });
                if route.is_some() {
                    life.tally.begin(*segment);
                }
                let set = self.pool.send(SetRoute { model, route });
                Some(Box::pin(async move { set.await.map_err(gone)?.map(drop) }))
            }
            Action::ResetHardIncident => {
                self.lives.get(&model)?.running.reset_hard();
                None
            }
            Action::SetAlias { alias, .. } if alias == PREVIOUS => None, // the registry keeps it by itself
            Action::SetAlias { alias, version } => {
                debug_assert_eq!(alias, CHAMPION);
                let set = self.pool.send(SetAlias { model, alias: alias.clone(), version: Some(version.clone()) });
                Some(Box::pin(async move { set.await.map_err(gone)?.map(drop) }))
            }
            action @ Action::RaiseAlert { .. } => {
                self.lives.get_mut(&model)?.alert(action, due.at);
                None
            }
            Action::Finish { verdict, reason } => {
                let id = self.lives.get(&model)?.id().to_owned();
                tracing::info!(model = &*model, rollout = id, %verdict, reason, "rollout ended");
                self.count_verdict(&model, *verdict);
                let stopped = match verdict {
                    Verdict::Incident => Some("incident"),
                    Verdict::Rollback => Some("rolled back"),
                    _ => None,
                };
                match stopped {
                    Some(what) => self.deps.alerts.raise(Signal::rollout(&model, &id, what, reason, due.at)),
                    None => self.deps.alerts.resolve(Resolved::rollout(&model)),
                }
                self.publish();
                None
            }
        }
    }

    fn acquire(
        &mut self,
        model: &Arc<str>,
        version: String,
    ) -> impl Future<Output = Result<Arc<LoadedModel>, Refusal>> + use<> {
        self.loading += 1;
        let loaded = self.pool.send(AcquireModel { model: model.clone(), version });
        async move { loaded.await.map_err(gone)? }
    }

    /// The load answers the golden requests of the artefact.
    fn load(&mut self, model: Arc<str>, version: String, step: u64, at: Timestamp, ctx: &mut Context<Self>) {
        let loaded = self.acquire(&model, version);
        ctx.spawn(loaded.into_actor(self).map(move |loaded, controller, ctx| {
            controller.loading -= 1;
            let at = controller.reported(at);
            let input = match loaded {
                Ok(_) => Input::Loaded { step },
                Err(e) => Input::LoadFailed { reason: detail(&e) },
            };
            let mine = controller.lives.get(&model).is_some_and(|l| l.rollout.step() == step);
            if mine {
                controller.feed_noted(&model, input, at);
            }
            controller.act(ctx);
        }));
    }

    /// Under the definitions in force, on this project's features.
    fn warm(&mut self, model: Arc<str>, version: String, step: u64, at: Timestamp, ctx: &mut Context<Self>) {
        let loaded = self.acquire(&model, version);
        let current = self.current.clone();
        let warmed = async move {
            let loaded = loaded.await?;
            current.load_full().bind(&loaded).map(drop)
        };
        ctx.spawn(warmed.into_actor(self).map(move |warmed, controller, ctx| {
            controller.loading -= 1;
            let at = controller.reported(at);
            let input = match warmed {
                Ok(()) => Input::Warmed { step },
                Err(e) => Input::WarmupFailed { step, reason: detail(&e) },
            };
            controller.feed_noted(&model, input, at);
            controller.act(ctx);
        }));
    }

    fn start_shadow(&mut self, model: Arc<str>, version: String, (step, share): (u64, Share), ctx: &mut Context<Self>) {
        let loaded = self.acquire(&model, version);
        ctx.spawn(loaded.into_actor(self).map(move |loaded, controller, ctx| {
            controller.loading -= 1;
            let (waits, logger) = (controller.deps.clock.is_stream(), controller.logger.clone());
            let threshold = controller.current.load().served(&model).map_or(0.5, |s| s.plan.spec.threshold);
            if let Some(life) = controller.lives.get_mut(&model).filter(|l| l.rollout.step() == step) {
                let salt = format!("{}/shadow", life.id());
                let tap = loaded
                    .map_err(|e| detail(&e))
                    .and_then(|loaded| ShadowTap::start(loaded, share, salt, threshold, waits, logger));
                match tap {
                    Ok(tap) => {
                        if let Some(resumes) = life.resumes.take()
                            && let Err(e) = resumes.go_on(&controller.deps, life, &tap)
                        {
                            tracing::warn!(%e, rollout = life.id(), "shadow begins anew: the logs cannot be read");
                        }
                        life.running.shadow.store(Some(tap.clone()));
                        life.tap = Some(tap);
                    }
                    Err(why) => {
                        let now = controller.now_for(&model);
                        controller.feed_noted(&model, Input::LoadFailed { reason: why }, now);
                    }
                }
            }
            controller.act(ctx);
        }));
    }

    /// When something that was begun at `at` is over: at once, by a recorded stream's clock.
    fn reported(&self, at: Timestamp) -> Timestamp {
        if self.deps.clock.is_stream() { at } else { self.deps.clock.now() }
    }

    /// The time of a command. A recorded stream's clock may stand where the last evaluation was, or before it.
    pub(super) fn now_for(&self, model: &str) -> Timestamp {
        let now = self.deps.clock.now();
        self.lives.get(model).map_or(now, |l| now.max(l.last))
    }
}

/// Whether an action that failed is still what the rollout wants.
fn stands(life: &Life, action: &Action) -> bool {
    match action {
        Action::SetShare { step, .. } => *step == u64::MAX || life.rollout.step() == *step,
        Action::SetAlias { .. } => true,
        _ => false,
    }
}

fn detail(refusal: &Refusal) -> String {
    match refusal {
        Refusal::NotFound { detail, .. }
        | Refusal::Invalid { detail, .. }
        | Refusal::Conflict { detail, .. }
        | Refusal::Unavailable { detail, .. }
        | Refusal::Model { detail, .. }
        | Refusal::Internal { detail }
        | Refusal::NoVersion { detail } => detail.clone(),
        other => format!("{other:?}"),
    }
}

fn gone(e: MailboxError) -> Refusal {
    Refusal::Internal { detail: format!("the model pool is being restarted ({e})") }
}
