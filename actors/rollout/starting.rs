//! Before and at the start: what the champion does today, what a rollout would need, and its first entry.

use super::recovery::{counting, running, versions};
use super::{Life, PlanReport, PlanRollout, RolloutController, RolloutStatus, StartRollout};
use crate::api::Refusal;
use crate::generation::Served;
use crate::prediction_logger::unavailable;
use actix::prelude::*;
use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;
use understudy_domain::prediction::{OutcomeTarget, PredictionRecord};
use understudy_domain::rollout::{
    Arm, Counted, FrozenQuantile, LatencySource, LiveOutcome, LiveRates, Rollout, RolloutSettings, Start, Tally, plan,
};
use understudy_domain::route::unit_hash;
use understudy_domain::time::{Span, Timestamp};

/// Predictions looked at for rates and delays.
const LOOKED_AT: usize = 20_000;
/// Quantiles are frozen over this time, or over `FEWEST` predictions where it holds less.
const FROZEN_OVER: Span = Span::hours(1);
const FEWEST: usize = 2_000;

/// The champion's latest answers.
struct Observed {
    /// Oldest first.
    records: Vec<PredictionRecord>,
    latency: LatencySource,
    /// By request: label and delay of its outcome.
    outcomes: HashMap<u128, (Option<bool>, Span)>,
}

impl Observed {
    fn latencies(&self) -> Vec<u32> {
        let since = self.records.last().map_or(Timestamp::MIN, |r| r.time - FROZEN_OVER);
        let recent = self.records.iter().filter(|r| r.time >= since).count().max(FEWEST).min(self.records.len());
        let of = |r: &PredictionRecord| self.latency.of(Arm::Baseline, r);
        let mut us: Vec<u32> = self.records[self.records.len() - recent..].iter().map(of).collect();
        us.sort_unstable();
        us
    }

    fn over(&self) -> Span {
        match (self.records.first(), self.records.last()) {
            (Some(a), Some(b)) => b.time - a.time,
            _ => Span::ZERO,
        }
    }

    /// 95 % quantile of the delays of outcomes.
    fn delay(&self) -> Option<Span> {
        let mut delays: Vec<Span> = self.outcomes.values().map(|(_, d)| *d).collect();
        delays.sort_unstable();
        (!delays.is_empty()).then(|| delays[(delays.len() - 1) * 95 / 100])
    }
}

/// Nearest rank.
fn quantile(sorted: &[u32], q: f64) -> u32 {
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(0)
}

impl RolloutController {
    fn observe(&self, served: &Served, champion: &str, start: &Start) -> Result<Observed, Refusal> {
        let newest = self.deps.predictions.newest(Some(&served.name), LOOKED_AT).map_err(unavailable)?;
        let mut records: Vec<_> =
            newest.into_iter().filter(|r| r.version == champion && Tally::arm(r) == Some(Arm::Baseline)).collect();
        records.reverse();
        let by_request: HashMap<&str, usize> =
            records.iter().enumerate().filter_map(|(i, r)| Some((r.request_id.as_deref()?, i))).collect();
        let by_id: HashMap<u128, usize> = records.iter().enumerate().map(|(i, r)| (r.id.0, i)).collect();
        let mut outcomes = HashMap::new();
        let scanned = self.deps.outcomes.scan(0, &mut |o| {
            let of = match &o.target {
                OutcomeTarget::PredictionId(id) => by_id.get(&id.0),
                OutcomeTarget::RequestId(request) => by_request.get(request.as_str()),
            };
            if let Some(r) = of.filter(|_| o.model == *served.name).map(|i| &records[*i]) {
                outcomes.insert(r.id.0, (o.label, o.time - r.time));
            }
            ControlFlow::Continue(())
        });
        scanned.map_err(unavailable)?;
        let latency = counting(&self.deps, served, start).latency;
        Ok(Observed { records, latency, outcomes })
    }

    fn champion(&self, model: &str) -> Result<String, Refusal> {
        let status = self.models.load();
        let champion = status.iter().find(|m| m.model == model).and_then(|m| m.champion.clone());
        champion.ok_or_else(|| Refusal::NoVersion {
            detail: format!("model `{model}` has no champion yet: `understudy train {model}` makes one"),
        })
    }

    /// A start without frozen values; maturities that were not said are those observed.
    fn draft(
        &self,
        model: &Arc<str>,
        champion: &str,
        version: &str,
        settings: &RolloutSettings,
    ) -> Result<Start, Refusal> {
        let number = self.deps.rollouts.list(model).map_err(unavailable)?.len() + 1;
        Ok(Start {
            id: format!("{model}-{number}"),
            model: model.to_string(),
            champion: champion.to_owned(),
            challenger: version.to_owned(),
            settings: settings.clone(),
            frozen: Vec::new(),
        })
    }

    fn start(&mut self, m: &StartRollout) -> Result<RolloutStatus, Refusal> {
        let generation = self.current.load_full();
        let served = generation.model(&m.model)?;
        if let Some(life) = self.lives.get(&m.model).filter(|l| !l.rollout.state().ended()) {
            return Err(Refusal::Conflict {
                code: "rollout_running",
                detail: format!("rollout `{}` of `{}` is {}; end it first", life.id(), m.model, life.rollout.state()),
            });
        }
        let champion = self.champion(&m.model)?;
        let known = versions(&*self.deps.loader, &m.model)?;
        if !known.contains(&m.version) {
            return Err(Refusal::NotFound {
                code: "unknown_version",
                detail: format!("model `{}` has no version `{}`; it has: {}", m.model, m.version, known.join(", ")),
            });
        }
        let mut start = self.draft(&m.model, &champion, &m.version, &m.settings)?;
        let seen = self.observe(served, &champion, &start)?;
        let latencies = seen.latencies();
        if latencies.is_empty() && !start.settings.latency.is_empty() {
            return Err(Refusal::Conflict {
                code: "no_baseline_traffic",
                detail: format!(
                    "`{champion}` has answered nothing yet, so there is no latency to compare with; let it serve first, or \
                     start with latency = []"
                ),
            });
        }
        start.frozen = start
            .settings
            .latency
            .iter()
            .map(|l| FrozenQuantile { quantile: l.quantile, us: quantile(&latencies, l.quantile) })
            .collect();
        let window = served.plan.spec.outcome.as_ref().map_or(Span::ZERO, |o| o.matures_after);
        for o in &mut start.settings.outcomes {
            o.maturity = o.maturity.or_else(|| Some(seen.delay().unwrap_or(Span::ZERO).max(window)));
        }
        let now = self.deps.clock.now();
        let (rollout, reaction) = Rollout::start(start.clone(), now).map_err(|problems| Refusal::Invalid {
            code: "invalid_rollout_settings",
            detail: problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        })?;
        let mut life = Life {
            tally: Tally::new(&start, counting(&self.deps, served, &start)),
            running: Arc::new(running(served, &start, m.fallback)),
            tap: None,
            resumes: None,
            compared: None,
            failed: Vec::new(),
            alerts: Vec::new(),
            started: now,
            last: now,
            ticked: now,
            rollout,
        };
        life.write(&*self.deps.rollouts, reaction.entry).map_err(unavailable)?;
        tracing::info!(model = &*m.model, rollout = life.id(), champion, challenger = m.version, "rollout begins");
        self.lives.insert(m.model.clone(), life);
        self.publish();
        self.plan_actions(&m.model, reaction.actions, now);
        self.status_of(&m.model)
    }

    /// A second attempt counts from nothing; refused where the command itself would be.
    pub(super) fn begin_again(
        &mut self,
        model: &str,
        command: &understudy_domain::rollout::Input,
    ) -> Result<(), Refusal> {
        let generation = self.current.load_full();
        let (served, now) = (generation.model(model)?, self.now_for(model));
        let deps = self.deps.clone();
        let Some(life) = self.lives.get_mut(model) else { return Ok(()) };
        life.rollout.clone().on(command.clone(), now).map_err(super::conflict)?;
        let start = life.rollout.started_as().clone();
        life.tally = Tally::new(&start, counting(&deps, served, &start));
        life.running = Arc::new(running(served, &start, life.running.fallback));
        (life.ticked, life.compared, life.resumes) = (now, None, None);
        Ok(())
    }

    fn plan(&self, m: &PlanRollout) -> Result<PlanReport, Refusal> {
        let generation = self.current.load_full();
        let served = generation.model(&m.model)?;
        let champion = self.champion(&m.model)?;
        let start = self.draft(&m.model, &champion, &champion, &m.settings)?;
        let seen = self.observe(served, &champion, &start)?;
        let over = seen.over();
        if seen.records.len() < 2 || over <= Span::ZERO {
            return Err(Refusal::Conflict {
                code: "no_baseline_traffic",
                detail: format!("`{champion}` has answered {} requests; a plan needs live rates", seen.records.len()),
            });
        }
        let tally = Tally::new(&start, Default::default());
        let unit = served.plan.spec.unit.as_deref().filter(|_| !tally.by_request());
        let units: BTreeSet<u64> = seen.records.iter().map(|r| unit_hash(&r.unit(unit))).collect();
        let latencies = seen.latencies();
        let beyond = m.settings.latency.iter().map(|l| {
            let limit = f64::from(quantile(&latencies, l.quantile)) * l.margin;
            latencies.iter().filter(|us| f64::from(**us) > limit).count() as f64 / latencies.len().max(1) as f64
        });
        let window = served.plan.spec.outcome.as_ref().map_or(Span::ZERO, |o| o.matures_after);
        let absent = served.plan.spec.outcome.as_ref().is_some_and(|o| o.absence_means_negative);
        let rate = |counts: Counted| {
            let threshold = served.plan.spec.threshold;
            let known = seen.records.iter().filter_map(|r| match seen.outcomes.get(&r.id.0) {
                Some((label, _)) => Some((r.score, (*label)?)),
                None => absent.then_some((r.score, false)),
            });
            let (mut events, mut of) = (0u64, 0u64);
            for (score, y) in known {
                of += 1;
                events += u64::from(counts.counts(score, threshold, y));
            }
            events as f64 / of.max(1) as f64
        };
        let outcomes = m.settings.outcomes.iter().map(|o| {
            let maturity = o.maturity.unwrap_or_else(|| seen.delay().unwrap_or(Span::ZERO).max(window));
            LiveOutcome { rate: rate(o.counts), maturity }
        });
        let of = |family: &crate::counters::Family| {
            let mine =
                |labels: &[String]| labels.first().is_some_and(|l| **l == *m.model) && labels.get(1) == Some(&champion);
            family.read().iter().filter(|(labels, _)| mine(labels)).map(|(_, n)| n).sum::<u64>()
        };
        let (faults, answers) = (of(&self.deps.counters.model_faults), of(&self.deps.counters.predictions));
        let rates = LiveRates {
            entities_per_s: units.len() as f64 / over.as_secs_f64(),
            error_rate: faults as f64 / (faults + answers).max(1) as f64,
            beyond_margin: beyond.collect(),
            outcomes: outcomes.collect(),
        };
        Ok(PlanReport {
            model: m.model.to_string(),
            plan: plan(&m.settings, &rates),
            rates,
            predictions: seen.records.len() as u64,
            over,
            settings: m.settings.clone(),
        })
    }
}

impl Handler<StartRollout> for RolloutController {
    type Result = Result<RolloutStatus, Refusal>;

    fn handle(&mut self, m: StartRollout, ctx: &mut Self::Context) -> Self::Result {
        crate::fault_point!("rollout.command");
        let started = self.start(&m);
        self.act(ctx);
        started
    }
}

impl Handler<PlanRollout> for RolloutController {
    type Result = Result<PlanReport, Refusal>;

    fn handle(&mut self, m: PlanRollout, _: &mut Self::Context) -> Self::Result {
        self.plan(&m)
    }
}
