//! Before it starts: how long each criterion needs at the live rates, and whether the rollout can end in promotion.
//!
//! A challenger that is exactly as good as the champion is taken along its expected counts; the time at which these
//! would certify it is close to the median time. For nine cases in ten its luck is 1.28 standard deviations worse.

use super::criteria::{Criterion, Kind};
use super::settings::{Better, RolloutSettings};
use super::share::Share;
use super::tick::coarse;
use crate::evidence::{Grid, Mixture, Pooled, Side, theta, threshold};
use crate::time::Span;
use serde::{Deserialize, Serialize};

/// What the service does today.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LiveRates {
    /// New units of counting per second: distinct entities that come, or requests.
    pub entities_per_s: f64,
    /// Of the answers.
    pub error_rate: f64,
    /// Per latency criterion: share of today's answers that are slower than quantile x margin.
    pub beyond_margin: Vec<f64>,
    /// Per outcome criterion.
    pub outcomes: Vec<LiveOutcome>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LiveOutcome {
    /// Events among predictions.
    pub rate: f64,
    /// Age at which an outcome counts.
    pub maturity: Span,
}

/// `None` where it never comes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NeededTime {
    pub name: String,
    pub required: bool,
    /// Canary entities, from nothing, at this stage's share.
    pub entities: Option<u64>,
    pub median: Option<Span>,
    /// In nine cases of ten.
    pub p90: Option<Span>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanStage {
    pub share: Share,
    pub needs: Vec<NeededTime>,
    /// With the evidence of the stages before it.
    pub lasts_median: Option<Span>,
    pub lasts_p90: Option<Span>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub stages: Vec<PlanStage>,
    /// Until the final promotion.
    pub median: Option<Span>,
    pub p90: Option<Span>,
    /// An equally good challenger is promoted within `max_duration` in at least half of all cases.
    pub can_promote: bool,
    /// ... in nine of ten.
    pub likely: bool,
    /// What to change, most useful first.
    pub hints: Vec<String>,
}

/// Standard deviations of bad luck in one case of ten.
const UNLUCKY: f64 = 1.2816;

/// The coin of one criterion at one share, tossed by an equally good challenger.
struct Coin {
    certify: Mixture,
    /// Tosses per entity, chance of a hit, and in which direction luck is bad.
    tosses: f64,
    hit: f64,
    bad_luck: f64,
}

fn coin(c: &Criterion, share: Share, s: &RolloutSettings, rates: &LiveRates) -> Option<Coin> {
    let rho = share.fraction();
    let share_coin = |canary: f64, baseline: f64, bad_luck: f64| {
        let (hits, misses) = (rho * canary, (1.0 - rho) * baseline);
        Coin { certify: c.tests(share).1, tosses: hits + misses, hit: theta(rho, canary / baseline), bad_luck }
    };
    match c.kind {
        Kind::Errors => {
            let certify = Mixture::of_rate(s.error_limit, Side::Below, Grid::Deep);
            Some(Coin { certify, tosses: rho, hit: rates.error_rate, bad_luck: 1.0 })
        }
        Kind::Latency(i) => {
            let beyond = *rates.beyond_margin.get(i)?;
            Some(share_coin(beyond, 1.0 - s.latency[i].quantile, 1.0))
        }
        Kind::Outcome(i) => {
            let rate = rates.outcomes.get(i).map(|o| o.rate).filter(|r| *r > 0.0)?;
            let worse = if s.outcomes[i].better == Better::Higher { -1.0 } else { 1.0 };
            Some(share_coin(rate, rate, worse))
        }
    }
}

impl Coin {
    /// Adds what `entities` of both arms together give.
    fn toss(&self, pooled: Pooled, entities: f64, luck: f64) -> Pooled {
        let n = entities * self.tosses;
        let hits = n * self.hit + self.bad_luck * luck * (n * self.hit * (1.0 - self.hit)).sqrt();
        let hits = hits.clamp(0.0, n);
        pooled.add_expected(&self.certify, hits, n - hits)
    }

    /// Entities of both arms until `before` and these certify; `None` beyond 10^13.
    fn needs(&self, before: &Pooled, luck: f64, log_e: f64) -> Option<f64> {
        let certified = |n: f64| self.toss(before.clone(), n, luck).log_e() >= log_e;
        if certified(0.0) {
            return Some(0.0);
        }
        let mut high = 64.0;
        while !certified(high) {
            high *= 2.0;
            if high > 1e13 {
                return None;
            }
        }
        let mut low = high / 2.0;
        while high / low > 1.001 {
            let middle = (low * high).sqrt();
            if certified(middle) { high = middle } else { low = middle }
        }
        Some(high)
    }
}

/// The plan of a rollout with these settings at these rates.
pub fn plan(s: &RolloutSettings, rates: &LiveRates) -> Plan {
    let criteria = Criterion::all(s);
    let shares = &s.stages[..s.stages.len().saturating_sub(1)];
    let median = chain(s, rates, &criteria, shares, 0.0);
    let p90 = chain(s, rates, &criteria, shares, UNLUCKY);
    let log_e = threshold(s.alpha_promote);
    let stage = |(i, share): (usize, &Share)| PlanStage {
        share: *share,
        needs: criteria
            .iter()
            .map(|c| {
                let coin = coin(c, *share, s, rates);
                let alone = |luck| coin.as_ref().and_then(|coin| coin.needs(&Pooled::default(), luck, log_e));
                let time = |n: f64| span(n / rates.entities_per_s, maturity(c, rates));
                NeededTime {
                    name: c.name.clone(),
                    required: required(s, shares, *share, c),
                    entities: alone(0.0).map(|n| (n * share.fraction()).ceil() as u64),
                    median: alone(0.0).and_then(time),
                    p90: alone(UNLUCKY).and_then(time),
                }
            })
            .collect(),
        lasts_median: median.get(i).copied().flatten(),
        lasts_p90: p90.get(i).copied().flatten(),
    };
    let stages: Vec<PlanStage> = shares.iter().enumerate().map(stage).collect();
    let total =
        |lasts: &[Option<Span>]| lasts.iter().try_fold(Span::ZERO, |sum, l| l.map(|l| Span(sum.0.saturating_add(l.0))));
    let (median, p90) = (total(&median), total(&p90));
    let within = |t: Option<Span>| t.is_some_and(|t| t <= s.max_duration);
    let mut plan = Plan { stages, median, p90, can_promote: within(median), likely: within(p90), hints: Vec::new() };
    plan.hints = hints(s, rates, &criteria, &plan);
    plan
}

fn required(s: &RolloutSettings, shares: &[Share], share: Share, c: &Criterion) -> bool {
    let from = if c.technical() { s.technical_from } else { s.business_from };
    shares.last().is_some_and(|last| share >= from.min(*last))
}

fn maturity(c: &Criterion, rates: &LiveRates) -> Span {
    match c.kind {
        Kind::Outcome(i) => rates.outcomes.get(i).map_or(Span::ZERO, |o| o.maturity),
        _ => Span::ZERO,
    }
}

fn span(seconds: f64, more: Span) -> Option<Span> {
    (seconds.is_finite() && seconds < 1e10).then(|| Span::seconds(seconds.ceil() as i64 + more.0 / crate::time::SECOND))
}

/// How long each stage lasts, evidence carried along.
fn chain(
    s: &RolloutSettings,
    rates: &LiveRates,
    criteria: &[Criterion],
    shares: &[Share],
    luck: f64,
) -> Vec<Option<Span>> {
    let log_e = threshold(s.alpha_promote);
    let mut pooled = vec![Pooled::default(); criteria.len()];
    let (mut lasts, mut passed) = (Vec::new(), Span::ZERO);
    for share in shares {
        let mut time = Some(s.dwell());
        for (c, before) in criteria.iter().zip(&pooled).filter(|(c, _)| required(s, shares, *share, c)) {
            let needs = coin(c, *share, s, rates).and_then(|coin| coin.needs(before, luck, log_e));
            let matures = maturity(c, rates);
            let needs = needs.and_then(|n| match n {
                // What the stages before gave suffices, once it is old enough.
                0.0 => Some(Span((matures.0 - passed.0).max(0))),
                n => span(n / rates.entities_per_s, matures),
            });
            time = time.zip(needs).map(|(a, b)| a.max(b));
        }
        lasts.push(time);
        let Some(time) = time else { break };
        passed = Span(passed.0.saturating_add(time.0));
        for (c, before) in criteria.iter().zip(&mut pooled) {
            if let Some(coin) = coin(c, *share, s, rates) {
                *before = coin.toss(std::mem::take(before), time.as_secs_f64() * rates.entities_per_s, luck);
            }
        }
    }
    lasts.resize(shares.len(), None);
    lasts
}

fn hints(s: &RolloutSettings, rates: &LiveRates, criteria: &[Criterion], plan: &Plan) -> Vec<String> {
    let mut hints = Vec::new();
    let Some(last) = plan.stages.last() else { return hints };
    let expected = rates.entities_per_s * last.share.fraction() * s.max_duration.as_secs_f64();
    if expected < s.min_entities as f64 {
        hints.push(format!(
            "with {expected:.0} canary entities in {} promotion waits for a person (min_entities = {}); \
             shadow comparison tells more at such rates",
            s.max_duration, s.min_entities
        ));
    }
    if rates.error_rate >= s.error_limit {
        hints.push(format!(
            "the champion itself errs in {:.3} % of its answers, so no challenger can be certified below error_limit = {}; \
             mend that first, or set error_limit to {:.4}",
            rates.error_rate * 100.0,
            s.error_limit,
            rates.error_rate * 2.0
        ));
    }
    let slow = |n: &&NeededTime| n.required && n.p90.is_none_or(|t| t > s.max_duration);
    for (need, c) in
        last.needs.iter().filter(slow).filter_map(|n| criteria.iter().find(|c| c.name == n.name).map(|c| (n, c)))
    {
        let takes = need.p90.map_or("never".to_owned(), coarse);
        hints.push(format!(
            "{} needs {takes} at {} (nine cases of ten){}",
            need.name,
            last.share,
            better(s, rates, c, last.share)
        ));
    }
    if hints.is_empty() && !plan.likely {
        hints.push("skip the smallest stages, or raise max_duration".into());
    }
    hints
}

/// The first change that would make a criterion fit.
fn better(s: &RolloutSettings, rates: &LiveRates, c: &Criterion, share: Share) -> String {
    let fits = |s: &RolloutSettings, share: Share| {
        let c = Criterion::all(s).into_iter().find(|other| other.kind == c.kind)?;
        let n = coin(&c, share, s, rates)?.needs(&Pooled::default(), UNLUCKY, threshold(s.alpha_promote))?;
        span(n / rates.entities_per_s, maturity(&c, rates)).filter(|t| *t <= s.max_duration)
    };
    for percent in [20, 50].into_iter().filter(|p| Share::percent(*p) > share) {
        if let Some(t) = fits(s, Share::percent(percent)) {
            return format!("; at {percent}% it would need {}", coarse(t));
        }
    }
    for step in [0.90, 0.80, 0.70] {
        let mut wider = s.clone();
        let key = match c.kind {
            Kind::Outcome(i) => {
                let o = &mut wider.outcomes[i];
                o.margin = if o.better == Better::Higher { step } else { 2.0 - step };
                if (o.margin - 1.0).abs() <= (s.outcomes[i].margin - 1.0).abs() {
                    continue;
                }
                format!("a margin of {:.2}", o.margin)
            }
            Kind::Errors => {
                wider.error_limit = s.error_limit * (2.0 - step) * 2.0;
                format!("error_limit = {:.4}", wider.error_limit)
            }
            // What lies beyond another margin is not known from these rates.
            Kind::Latency(_) => break,
        };
        if let Some(t) = fits(&wider, share) {
            return format!("; with {key} it would need {}", coarse(t));
        }
    }
    "; no share or margin makes it fit: lengthen max_duration, or leave it out and compare in shadow".into()
}
