//! The champion against itself, on what it really answered: units are dealt out to two arms anew in each run, and the
//! whole machine decides on them. Both arms are one version, so whatever it finds is a false alarm of these settings on
//! this traffic: the one honest check that its units are independent enough.

use super::recovery::counting;
use crate::api::Refusal;
use crate::deps::Deps;
use crate::generation::Generation;
use crate::prediction_logger::unavailable;
use serde::Serialize;
use std::collections::HashMap;
use std::ops::ControlFlow;
use understudy_domain::prediction::{OutcomeTarget, Placement, PredictionId, PredictionRecord, ServedArm};
use understudy_domain::rollout::{
    Arm, FrozenQuantile, Input, Mode, Rollout, RolloutSettings, Start, State, Tally, Tick,
};
use understudy_domain::route;
use understudy_domain::time::{Span, Timestamp};

/// Evaluations of one run; a longer stretch of traffic is looked at less often.
const MAX_TICKS: i64 = 1_000;

/// Shares of the runs, by how they ended. `rolled_back` and `incident` are false alarms.
#[derive(Clone, Debug, Default, Serialize)]
pub struct AaReport {
    pub model: String,
    pub version: String,
    pub runs: u64,
    pub predictions: u64,
    pub units: u64,
    pub over: Span,
    pub rolled_back: f64,
    pub incident: f64,
    pub promoted: f64,
    /// Neither, when the traffic or `max_duration` was over.
    pub undecided: f64,
    pub alpha_rollback: f64,
    pub reading: String,
}

/// Blocking.
pub fn run_aa(
    deps: &Deps,
    generation: &Generation,
    model: &str,
    settings: &RolloutSettings,
    (runs, predictions): (u64, u64),
) -> Result<AaReport, Refusal> {
    let served = generation.model(model)?;
    let mut records = deps.predictions.newest(Some(model), predictions as usize).map_err(unavailable)?;
    let version = records.first().map(|r| r.version.clone()).unwrap_or_default();
    records.retain(|r| r.version == version && Tally::arm(r) == Some(Arm::Baseline));
    records.reverse();
    let (Some(first), Some(last)) = (records.first(), records.last()) else { return Err(too_few(0)) };
    let (from, until) = (first.time, last.time);
    if records.len() < 100 || until <= from {
        return Err(too_few(records.len()));
    }
    let outcomes = outcomes(deps, model, &records)?;
    let mut settings = settings.clone();
    (settings.mode, settings.shadow_answers) = (Mode::Act, 0);
    settings.tick = settings.tick.max(Span((until - from).0 / MAX_TICKS));
    let window = served.plan.spec.outcome.as_ref().map_or(Span::days(1), |o| o.matures_after);
    for o in &mut settings.outcomes {
        o.maturity = o.maturity.or(Some(window));
    }
    let mut start = Start {
        id: "aa".into(),
        model: model.to_owned(),
        champion: version.clone(),
        challenger: version.clone(),
        settings,
        frozen: Vec::new(),
    };
    let about = counting(deps, served, &start);
    let mut latencies: Vec<u32> = records.iter().map(|r| about.latency.of(Arm::Baseline, r)).collect();
    latencies.sort_unstable();
    let at = |q: f64| latencies[((q * latencies.len() as f64).ceil() as usize).clamp(1, latencies.len()) - 1];
    let frozen =
        |l: &understudy_domain::rollout::LatencyCriterion| FrozenQuantile { quantile: l.quantile, us: at(l.quantile) };
    start.frozen = start.settings.latency.iter().map(frozen).collect();
    let probe = Tally::new(&start, about.clone());
    let units: Vec<String> = records.iter().map(|r| probe.unit(r).into_owned()).collect();
    let mut ends: HashMap<&'static str, u64> = HashMap::new();
    for run in 0..runs {
        start.id = format!("aa-{run}");
        let end = one(&start, Tally::new(&start, about.clone()), &mut records, &units, &outcomes)?;
        *ends.entry(end).or_default() += 1;
    }
    let share = |end: &str| ends.get(end).copied().unwrap_or(0) as f64 / runs as f64;
    let distinct: std::collections::BTreeSet<&String> = units.iter().collect();
    let (rolled_back, incident, alpha) = (share("rolled_back"), share("incident"), start.settings.alpha_rollback);
    // What chance alone allows in so many runs, three standard deviations.
    let bound = alpha + 3.0 * (alpha * (1.0 - alpha) / runs as f64).sqrt();
    let reading = if rolled_back + incident <= bound {
        format!("no more alarms than alpha_rollback = {alpha} allows in {runs} runs (up to {:.2} %)", 100.0 * bound)
    } else {
        format!(
            "more alarms than alpha_rollback = {alpha} allows ({:.2} % in {runs} runs): what is counted is not \
             independent; count by a coarser unit, or widen the margins",
            100.0 * bound
        )
    };
    Ok(AaReport {
        model: model.to_owned(),
        version,
        runs,
        predictions: records.len() as u64,
        units: distinct.len() as u64,
        over: until - from,
        rolled_back,
        incident,
        promoted: share("promoted"),
        undecided: share("undecided"),
        alpha_rollback: alpha,
        reading,
    })
}

fn too_few(n: usize) -> Refusal {
    Refusal::Conflict {
        code: "no_baseline_traffic",
        detail: format!("the log holds {n} predictions of the champion; an A/A test needs at least 100"),
    }
}

type Outcome = (PredictionId, Option<bool>, Timestamp);

fn outcomes(deps: &Deps, model: &str, records: &[PredictionRecord]) -> Result<Vec<Outcome>, Refusal> {
    let by_request: HashMap<&str, PredictionId> =
        records.iter().filter_map(|r| Some((r.request_id.as_deref()?, r.id))).collect();
    let mut found = Vec::new();
    deps.outcomes
        .scan(0, &mut |o| {
            let id = match &o.target {
                OutcomeTarget::PredictionId(id) => Some(*id),
                OutcomeTarget::RequestId(request) => by_request.get(request.as_str()).copied(),
            };
            found.extend(id.filter(|_| o.model == model).map(|id| (id, o.label, o.time)));
            ControlFlow::Continue(())
        })
        .map_err(unavailable)?;
    found.sort_by_key(|o| o.2);
    Ok(found)
}

/// One deal. The machine sees what a controller would see, at the same times.
fn one(
    start: &Start,
    mut tally: Tally,
    records: &mut [PredictionRecord],
    units: &[String],
    outcomes: &[Outcome],
) -> Result<&'static str, Refusal> {
    let wrong = |e: String| Refusal::Invalid { code: "invalid_rollout_settings", detail: e };
    let from = records.first().map_or(Timestamp(0), |r| r.time);
    let every = start.settings.tick;
    let (mut rollout, _) = Rollout::start(start.clone(), from)
        .map_err(|p| wrong(p.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))?;
    let feed = |rollout: &mut Rollout, input, at| rollout.on(input, at).map(drop).map_err(|e| wrong(e.to_string()));
    for step in 0..2 {
        let input = if step == 0 { Input::Loaded { step } } else { Input::Warmed { step } };
        feed(&mut rollout, input, from)?;
    }
    tally.begin(rollout.segment().unwrap_or(0));
    let (mut next, mut told) = (from.floor(every) + every, 0);
    for (record, unit) in records.iter_mut().zip(units) {
        while record.time >= next {
            while let Some((id, label, at)) = outcomes.get(told).filter(|o| o.2 < next) {
                tally.on_outcome(*id, *label, *at);
                told += 1;
            }
            tally.mature(next);
            let tick = Tick { segments: tally.news(), ..Tick::default() };
            feed(&mut rollout, Input::Tick(tick), next)?;
            match rollout.state() {
                State::RolledBack => return Ok("rolled_back"),
                State::Incident => return Ok("incident"),
                State::Promoted | State::Holding => return Ok("promoted"),
                State::Inconclusive => return Ok("undecided"),
                _ => {}
            }
            tally.begin(rollout.segment().unwrap_or(0));
            // Nothing is looked at twice where nothing happened.
            next = (record.time.floor(every)).max(next) + every;
        }
        let slot = route::slot(&start.id, unit);
        let canary = u32::from(slot) < rollout.share().0;
        record.placement = Placement {
            arm: if canary { ServedArm::Canary } else { ServedArm::Baseline },
            segment: rollout.segment(),
            ..Placement::default()
        };
        tally.on_served(record);
    }
    Ok("undecided")
}
