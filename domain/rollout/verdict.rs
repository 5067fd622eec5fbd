//! The verdict of one evaluation. The order is the rule: what comes first decides.

use super::decision::{Reason, Standing, Verdict};
use super::settings::Mode;
use crate::evidence::threshold;
use crate::time::Span;

/// All that a verdict is made of.
#[derive(Clone, Debug)]
pub(super) struct Known<'a> {
    pub criteria: &'a [Standing],
    /// Evidence against the shares of the arms, and what rejects it.
    pub log_e_assignment: f64,
    pub assignment_at: f64,
    /// Entities in the segment.
    pub canary_entities: u64,
    /// What the canary did that needs no statistics.
    pub contract_violations: u64,
    pub non_finite: u64,
    pub crashes: bool,
    /// The dwell began anew after an outage of both arms.
    pub both_arms_fail: bool,
    pub incomplete: Option<&'a str>,
    pub baseline_alert: Option<&'a str>,
    /// An outcome whose arms are matched at different rates.
    pub unmatched: Option<&'a str>,
    /// Observed time in the stage, or since an outage of both arms.
    pub calm: Span,
    pub dwell: Span,
    pub elapsed: Span,
    pub max_duration: Span,
    /// Canary entities to be expected within `max_duration`, and how many allow promotion without a person.
    pub expected_entities: f64,
    pub min_entities: u64,
    pub mode: Mode,
}

/// A verdict with its reason.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Judged {
    pub verdict: Verdict,
    pub because: Reason,
    pub reason: String,
}

/// Outputs that are not finite before it is an incident.
pub(super) const NON_FINITE: u64 = 3;
/// Nothing is promoted while the shares of the arms are doubtful at this level.
const CLEAN: f64 = 0.01;

pub(super) fn judge(k: &Known<'_>) -> Judged {
    let open = || incomplete(k).or_else(|| rollback(k)).or_else(|| blocked(k));
    incident(k).or_else(open).map_or_else(
        || certified(k),
        |j| match j.verdict {
            Verdict::Hold if k.elapsed >= k.max_duration => judged(
                Verdict::Inconclusive,
                Reason::TimeOver,
                format!("after {} there is neither harm nor proof that all is well", k.max_duration),
            ),
            _ => j,
        },
    )
}

fn judged(verdict: Verdict, because: Reason, reason: impl Into<String>) -> Judged {
    Judged { verdict, because, reason: reason.into() }
}

fn incident(k: &Known<'_>) -> Option<Judged> {
    let now = |because, reason: String| Some(judged(Verdict::Incident, because, reason));
    if k.contract_violations > 0 {
        return now(Reason::Contract, format!("{} outputs of the wrong shape", k.contract_violations));
    }
    if k.non_finite >= NON_FINITE {
        return now(Reason::NonFinite, format!("{} outputs that are not finite", k.non_finite));
    }
    if k.crashes {
        return now(Reason::Crashes, "three crashes within 60 s".into());
    }
    if k.log_e_assignment >= k.assignment_at && k.canary_entities > 0 {
        let text = format!(
            "the canary's share of the traffic is not what the route table says (log e-value {} of {}), \
             so no comparison of the arms can be trusted",
            k.log_e_assignment, k.assignment_at
        );
        return now(Reason::Assignment, text);
    }
    None
}

fn incomplete(k: &Known<'_>) -> Option<Judged> {
    k.incomplete.map(|why| judged(Verdict::Hold, Reason::Incomplete, format!("counts are not complete: {why}")))
}

fn rollback(k: &Known<'_>) -> Option<Judged> {
    let worst = k.criteria.iter().filter(|s| s.harms()).max_by(|a, b| a.log_e_worse.total_cmp(&b.log_e_worse))?;
    let (canary, baseline) = worst.rates();
    let text = format!(
        "{} is worse than its margin: {} of {} ({}) in the canary, {} of {} ({}) in the baseline, log e-value {} of {}",
        worst.name,
        worst.canary,
        worst.canary_of,
        percent(canary),
        worst.baseline,
        worst.baseline_of,
        percent(baseline),
        worst.log_e_worse,
        worst.rollback_at
    );
    Some(judged(Verdict::Rollback, Reason::Worse, text))
}

/// What stands against promotion, most fundamental first; `None` if nothing does.
fn blocked(k: &Known<'_>) -> Option<Judged> {
    let hold = |because, reason: String| Some(judged(Verdict::Hold, because, reason));
    if k.log_e_assignment >= k.assignment_at {
        return hold(Reason::NoCanaryTraffic, "no request reaches the canary".into());
    }
    if k.log_e_assignment >= threshold(CLEAN) {
        return hold(Reason::Assignment, "the canary's share of the traffic looks wrong; more will tell".into());
    }
    if k.both_arms_fail && k.calm < k.dwell {
        return hold(Reason::BothArmsFail, "both arms failed a short while ago; the stage's time begins anew".into());
    }
    if let Some(alert) = k.baseline_alert {
        return hold(Reason::BaselineAlert, format!("what both arms read is wrong: {alert}"));
    }
    if let Some(outcome) = k.unmatched {
        let text = format!("outcomes of `{outcome}` are matched at different rates in the two arms");
        return hold(Reason::MatchRate, text);
    }
    let open: Vec<&str> = k.criteria.iter().filter(|s| s.required && !s.certified).map(|s| s.name.as_str()).collect();
    if !open.is_empty() {
        return hold(Reason::Waiting, format!("not yet certified: {}", open.join(", ")));
    }
    if k.canary_entities == 0 {
        return hold(Reason::NoCanaryTraffic, "the canary has not answered anything yet".into());
    }
    if k.calm < k.dwell {
        return hold(Reason::Waiting, format!("the stage lasts {} at least, {} have passed", k.dwell, k.calm));
    }
    None
}

/// All is well: on by itself, or with a person.
fn certified(k: &Known<'_>) -> Judged {
    let required: Vec<&str> = k.criteria.iter().filter(|s| s.required).map(|s| s.name.as_str()).collect();
    let what = match required.len() {
        0 => "the stage's time is over and nothing is worse".to_owned(),
        _ => format!("certified: {}", required.join(", ")),
    };
    let ask = |why: &str| judged(Verdict::Hold, Reason::Approval, format!("{what}; {why}"));
    if k.mode != Mode::Act {
        return ask("a person is to approve");
    }
    if k.expected_entities < k.min_entities as f64 {
        return ask(&format!(
            "with {:.0} canary entities in {} (less than {}) a person is to approve",
            k.expected_entities, k.max_duration, k.min_entities
        ));
    }
    judged(Verdict::Promote, Reason::Certified, what)
}

fn percent(share: f64) -> String {
    format!("{:.3}%", share * 100.0)
}
