//! **Owns** every rollout: its state machine, its journal, and the counts it decides on.
//! **Receives** `RolloutFacts` from the prediction logger, `StartRollout`, `CommandRollout` and questions from the cells,
//! `TickRollouts` from a replay; a timer of its own while the wall clock is the clock.
//! **Sends** `AcquireModel`, `SetRoute` and `SetAlias` to the model pool; writes the board that the cells read.
//! **On failure** an input whose entry cannot be made durable changes nothing, and its sender gets the reason; a canary
//! that plainly fails is stopped by the cells meanwhile.
//! **On restart** each rollout is brought back by its journal, its counts by the prediction and outcome logs.

mod aa;
mod acting;
mod board;
mod lives;
mod messages;
mod recovery;
mod shadowing;
mod showing;
mod starting;
mod verifying;

pub use aa::{AaReport, run_aa};
pub use board::{Board, Running};
pub use messages::*;
pub use verifying::{Verification, verify};

use crate::api::Refusal;
use crate::deps::Deps;
use crate::event_logger::RETRY;
use crate::fault_point;
use crate::feed_monitor::FeedBoard;
use crate::generation::Current;
use crate::guard::Vitals;
use crate::model_pool::{ModelPool, Published};
use crate::prediction_logger::{PredictionLogger, unavailable};
use actix::prelude::*;
use lives::Life;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use understudy_domain::rollout::{Input, Refused, State};
use understudy_domain::time::Timestamp;

/// Between two looks at what is due while the wall clock is the clock.
const LOOK: Duration = Duration::from_millis(250);

pub struct RolloutController {
    deps: Arc<Deps>,
    current: Current,
    vitals: Arc<Vitals>,
    board: Arc<Board>,
    pool: Addr<ModelPool>,
    logger: Addr<PredictionLogger>,
    models: Published,
    /// Incidents of the feeds.
    feeds: Arc<FeedBoard>,
    /// By model: the rollout that runs, or the last one.
    lives: BTreeMap<Arc<str>, Life>,
    /// Actions to perform, in order, one at a time.
    due: VecDeque<acting::Due>,
    acting: bool,
    /// Loads and warm-ups under way.
    loading: usize,
    /// Who waits until nothing is under way.
    settled: Vec<oneshot::Sender<()>>,
}

impl RolloutController {
    pub fn new(
        deps: Arc<Deps>,
        current: Current,
        vitals: Arc<Vitals>,
        board: Arc<Board>,
        pool: Addr<ModelPool>,
        logger: Addr<PredictionLogger>,
        (models, feeds): (Published, Arc<FeedBoard>),
    ) -> Self {
        RolloutController {
            deps,
            current,
            vitals,
            board,
            pool,
            logger,
            models,
            feeds,
            lives: BTreeMap::new(),
            due: VecDeque::new(),
            acting: false,
            loading: 0,
            settled: Vec::new(),
        }
    }

    /// One input: tried on a copy, made durable, then kept and acted upon.
    fn feed(&mut self, model: &str, input: Input, now: Timestamp) -> Result<(), Refusal> {
        let Some(life) = self.lives.get_mut(model) else { return Ok(()) };
        let mut next = life.rollout.clone();
        let reaction = next.on(input, now).map_err(conflict)?;
        if let Some(entry) = reaction.entry {
            life.write(&*self.deps.rollouts, Some(entry)).map_err(unavailable)?;
            fault_point!("rollout.journalled");
        }
        let (before, after) = (life.rollout.state(), next.state());
        life.rollout = next;
        if before != after {
            tracing::info!(model, rollout = life.id(), %before, %after, share = %life.rollout.share(), "rollout");
        }
        self.plan_actions(model, reaction.actions, now);
        Ok(())
    }

    /// As [`Self::feed`], for inputs that nobody waits for.
    fn feed_noted(&mut self, model: &str, input: Input, now: Timestamp) {
        if let Err(e) = self.feed(model, input, now) {
            tracing::error!(model, ?e, "a rollout could not take an input");
        }
    }

    fn on_fact(&mut self, fact: RolloutFact) {
        match fact {
            RolloutFact::Served(record) => {
                if let Some(life) = self.lives.get_mut(record.model.as_str()) {
                    life.tally.on_served(&record);
                }
            }
            RolloutFact::Outcome { model, id, label, at } => {
                if let Some(life) = self.lives.get_mut(&model) {
                    life.tally.on_outcome(id, label, at);
                    if let Some(tap) = &life.tap {
                        tap.on_outcome(id, label);
                    }
                }
            }
            RolloutFact::Failed(model, failed) => self.on_failed(&model, failed),
        }
    }

    fn on_failed(&mut self, model: &Arc<str>, failed: understudy_domain::rollout::FailedAnswer) {
        let Some(life) = self.lives.get_mut(model) else { return };
        if life.rollout.state().ended() || !life.tally.on_failed(&failed) {
            return;
        }
        let (at, hard, fault, arm) = (failed.at, failed.hard, failed.fault.clone(), failed.arm);
        life.failed.push(failed);
        if let (Some(fault), understudy_domain::rollout::Arm::Canary) = (fault, arm) {
            self.feed_noted(model, Input::CanaryFault(fault), at);
        }
        if let Some((canary, baseline)) = hard {
            self.feed_noted(model, Input::HardIncident { canary, baseline }, at);
        }
    }

    /// Rollouts whose evaluation is due, in order of their models' names.
    fn tick(&mut self, upto: Timestamp) -> Result<(), Refusal> {
        fault_point!("rollout.tick");
        let stream = self.deps.clock.is_stream();
        let due: Vec<(Arc<str>, Timestamp)> = self
            .lives
            .iter()
            .filter(|(_, life)| !life.rollout.state().ended())
            .map(|(model, life)| (model.clone(), life.tick_at(upto)))
            .filter(|(model, at)| self.lives.get(model).is_some_and(|life| *at > life.ticked))
            .collect();
        for (model, at) in due {
            // A recorded stream is evaluated at the tick's own time, whatever the next line's is.
            let now = if stream { at } else { upto };
            self.evaluate(&model, now)?;
            if let Some(life) = self.lives.get_mut(&model) {
                life.ticked = at;
            }
        }
        self.publish();
        Ok(())
    }

    /// What is wrong with what both arms read: nothing is promoted on it. While a recorded stream is the clock an incident
    /// is noticed at a moment that hangs on the machine, so that nothing may follow from it.
    fn baseline_alert(&self) -> Option<String> {
        let open = self.feeds.open();
        let incident = open.first().filter(|_| !self.deps.clock.is_stream())?;
        Some(format!("feed {}: {}", incident.feed, incident.reason))
    }

    fn evaluate(&mut self, model: &str, now: Timestamp) -> Result<(), Refusal> {
        let baseline_alert = self.baseline_alert();
        let Some(life) = self.lives.get_mut(model) else { return Ok(()) };
        match life.rollout.state() {
            State::Shadow => {
                let (step, report) = (life.rollout.step(), life.tap.as_ref().map(|t| t.report()).unwrap_or_default());
                self.feed(model, Input::Shadow { step, report }, now)
            }
            State::Stage(_) | State::Holding => {
                life.tally.mature(now);
                let (segments, incomplete) = (life.tally.news(), None);
                let tick = understudy_domain::rollout::Tick { segments, incomplete, baseline_alert };
                self.feed(model, Input::Tick(tick), now)
            }
            _ => Ok(()),
        }
    }

    /// What the cells see.
    fn publish(&self) {
        let running = self.lives.values().filter(|l| !l.rollout.state().ended());
        let next = running.clone().map(Life::next_tick).min();
        self.board.set(running.map(|l| l.running.clone()).collect());
        self.board.set_next_tick(next.filter(|_| self.deps.clock.is_stream()));
    }

    fn status_of(&self, model: &str) -> Result<RolloutStatus, Refusal> {
        let life = self.lives.get(model).ok_or_else(|| Refusal::NotFound {
            code: "no_rollout",
            detail: format!(
                "model `{model}` has had no rollout; `understudy rollout start {model} VERSION` begins one"
            ),
        })?;
        Ok(life.status())
    }

    /// Tells those who wait, if nothing is under way.
    fn tell_settled(&mut self) {
        if self.loading == 0 && self.due.is_empty() && !self.acting {
            for waiter in self.settled.drain(..) {
                let _ = waiter.send(());
            }
        }
    }
}

fn conflict(refused: Refused) -> Refusal {
    let code = match &refused {
        Refused::Conflict { .. } => "rollout_moved",
        Refused::NotNow { .. } => "rollout_not_now",
    };
    Refusal::Conflict { code, detail: refused.to_string() }
}

impl Actor for RolloutController {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        fault_point!("rollout.started");
        if !self.deps.clock.is_stream() {
            ctx.run_interval(LOOK, |controller, ctx| {
                let now = controller.deps.clock.now();
                if let Err(e) = controller.tick(now) {
                    tracing::error!(?e, "a rollout could not be evaluated; it is tried again");
                }
                controller.act(ctx);
            });
        }
        self.recover(ctx);
    }
}

impl Supervised for RolloutController {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.lives.clear();
        self.due.clear();
        (self.acting, self.loading) = (false, 0);
    }
}

impl Handler<RolloutFacts> for RolloutController {
    type Result = ();

    fn handle(&mut self, m: RolloutFacts, ctx: &mut Self::Context) {
        fault_point!("rollout.facts");
        m.0.into_iter().for_each(|fact| self.on_fact(fact));
        self.act(ctx);
    }
}

impl Handler<TickRollouts> for RolloutController {
    type Result = ResponseActFuture<Self, Result<(), Refusal>>;

    fn handle(&mut self, m: TickRollouts, ctx: &mut Self::Context) -> Self::Result {
        let flushed: Vec<_> = self.lives.values().filter_map(|l| Some(l.tap.as_ref()?.flushed())).collect();
        // Shadow answers belong to what came before; only a recorded stream asks this way.
        let copies = async move {
            for flushed in flushed {
                let _ = flushed.await;
            }
        };
        let _ = ctx;
        Box::pin(copies.into_actor(self).then(move |(), controller, ctx| {
            let ticked = controller.tick(m.upto);
            controller.act(ctx);
            let settled = controller.settle();
            async move {
                let _ = settled.await;
                ticked
            }
            .into_actor(controller)
        }))
    }
}

impl Handler<SettleRollouts> for RolloutController {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: SettleRollouts, ctx: &mut Self::Context) -> Self::Result {
        let journal = self.deps.rollouts.clone();
        for life in self.lives.values_mut().filter(|l| !l.failed.is_empty()) {
            if let Err(e) = life.write(&*journal, None) {
                tracing::error!(%e, rollout = life.id(), "failed answers could not be written; tried again");
            }
        }
        self.act(ctx);
        let settled = self.settle();
        Box::pin(async move {
            let _ = settled.await;
        })
    }
}

impl RolloutController {
    fn settle(&mut self) -> oneshot::Receiver<()> {
        let (done, settled) = oneshot::channel();
        self.settled.push(done);
        self.tell_settled();
        settled
    }
}

impl Handler<CommandRollout> for RolloutController {
    type Result = Result<RolloutStatus, Refusal>;

    fn handle(&mut self, m: CommandRollout, ctx: &mut Self::Context) -> Self::Result {
        fault_point!("rollout.command");
        self.status_of(&m.model)?;
        let now = self.now_for(&m.model);
        if matches!(m.command, Input::Retry { .. }) {
            self.begin_again(&m.model, &m.command)?;
        }
        self.feed(&m.model, m.command, now)?;
        self.publish();
        self.act(ctx);
        self.status_of(&m.model)
    }
}

impl Handler<GetRollout> for RolloutController {
    type Result = Result<RolloutStatus, Refusal>;

    fn handle(&mut self, m: GetRollout, _: &mut Self::Context) -> Self::Result {
        self.status_of(&m.model)
    }
}

impl Handler<ListRollouts> for RolloutController {
    type Result = Result<Vec<RolloutStatus>, Refusal>;

    fn handle(&mut self, m: ListRollouts, _: &mut Self::Context) -> Self::Result {
        let asked = |model: &Arc<str>| m.model.as_ref().is_none_or(|wanted| wanted == model);
        let models: Vec<Arc<str>> =
            self.current.load().models().map(|s| s.name.clone()).filter(|name| asked(name)).collect();
        let mut all = Vec::new();
        for model in models {
            for id in self.deps.rollouts.list(&model).map_err(unavailable)? {
                match self.lives.get(&model).filter(|l| l.id() == id) {
                    Some(life) => all.push(life.status()),
                    None => all.push(recovery::past(&*self.deps.rollouts, &id)?),
                }
            }
        }
        Ok(all)
    }
}

impl RolloutController {
    /// Tries again what a restart could not do.
    fn retry_recovery(&mut self, why: String, ctx: &mut Context<Self>) {
        self.vitals.set_ready(false, why);
        ctx.run_later(RETRY, |controller, ctx| controller.recover(ctx));
    }
}
