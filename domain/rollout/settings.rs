//! What a rollout may do, what it must show, and how sure it must be.

use super::share::Share;
use crate::problem::Problem;
use crate::time::Span;
use serde::{Deserialize, Serialize};

/// Who moves the traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Verdicts are told; a person moves every share, up and down.
    Advise,
    /// Down by itself; up when a person approves.
    Ask,
    /// Up and down by itself.
    #[default]
    Act,
}

/// What is counted: the unit by which traffic is split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// An entity keeps its arm, and counts once however often it comes.
    #[default]
    Entity,
    /// Every request is assigned anew and counts.
    Request,
}

/// What happens at the end of `max_duration` without a decision; it is always told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AtInconclusive {
    /// Back to 0 %.
    #[default]
    Rollback,
    /// The share stays, and rollback stays armed, until a person decides.
    Keep,
    /// On to 100 % if all technical criteria are certified and no outcome points the wrong way (e-value below 10).
    PromoteIfTechnical,
}

/// Which predictions of the matured ones are events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Counted {
    /// Those whose outcome is the positive label (a conversion, a downstream error).
    #[default]
    Positive,
    /// Those whose predicted label was not the outcome.
    Wrong,
    /// Those whose squared error `(score - outcome)^2` is above this.
    SquaredErrorAbove(f64),
}

/// Which direction of a rate is the better one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    #[default]
    Higher,
    Lower,
}

/// "The canary's `quantile` of latency is at most `margin` times the baseline's."
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LatencyCriterion {
    pub quantile: f64,
    pub margin: f64,
}

/// "The canary's rate of this outcome is not worse than `margin` times the baseline's."
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutcomeCriterion {
    pub name: String,
    #[serde(default)]
    pub counts: Counted,
    #[serde(default)]
    pub better: Better,
    /// Below 1 where higher is better (0.95: a loss of 5 % is tolerated), above 1 where lower is.
    pub margin: f64,
    /// Age at which a prediction's outcome counts; by default the 95 % quantile of the observed delay.
    #[serde(default)]
    pub maturity: Option<Span>,
}

/// A quantile of the baseline's latency over the hour before the start.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FrozenQuantile {
    pub quantile: f64,
    pub us: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutSettings {
    pub mode: Mode,
    pub unit: Unit,
    /// Shares of the canary, growing; the last one, 100 %, is reached by the final promotion.
    pub stages: Vec<Share>,
    /// A stage with at least this share is left upwards only with errors and latency certified.
    pub technical_from: Share,
    /// The same for outcomes. The last stage below 100 % needs both, whatever is said here.
    pub business_from: Share,
    /// Shortest time in a stage.
    pub min_dwell: Span,
    /// If traffic has a rhythm: a stage lasts a whole period at least.
    pub period: Option<Span>,
    /// From the first share to the end; time in which nothing was observed is not counted.
    pub max_duration: Span,
    pub tick: Span,
    /// After the final promotion, how long rollback stays armed before the alias moves.
    pub hold: Span,
    /// Copies that the challenger answers before it gets traffic; 0 leaves shadow out.
    pub shadow_answers: u64,
    /// Share of the traffic that is copied.
    pub shadow_share: Share,
    /// Largest share of shadow answers whose label differs from the champion's.
    pub shadow_disagreement: Option<f64>,
    pub alpha_rollback: f64,
    pub alpha_promote: f64,
    /// Sample-ratio mismatch.
    pub alpha_srm: f64,
    pub alpha_incident: f64,
    /// Errors of the canary are certified below it, and never judged below it.
    pub error_limit: f64,
    pub latency: Vec<LatencyCriterion>,
    pub outcomes: Vec<OutcomeCriterion>,
    /// With fewer canary entities expected in `max_duration` promotion waits for a person.
    pub min_entities: u64,
    pub at_inconclusive: AtInconclusive,
}

impl Default for RolloutSettings {
    fn default() -> Self {
        RolloutSettings {
            mode: Mode::default(),
            unit: Unit::default(),
            stages: [1, 5, 25, 50, 100].map(Share::percent).to_vec(),
            technical_from: Share::percent(5),
            business_from: Share::percent(25),
            min_dwell: Span(30 * crate::time::MINUTE),
            period: None,
            max_duration: Span::hours(24),
            tick: Span::seconds(10),
            hold: Span::hours(1),
            shadow_answers: 1000,
            shadow_share: Share::percent(10),
            shadow_disagreement: None,
            alpha_rollback: 0.01,
            alpha_promote: 0.05,
            alpha_srm: 1e-4,
            alpha_incident: 1e-5,
            error_limit: 0.001,
            latency: vec![
                LatencyCriterion { quantile: 0.95, margin: 1.10 },
                LatencyCriterion { quantile: 0.99, margin: 1.25 },
            ],
            outcomes: Vec::new(),
            min_entities: 2000,
            at_inconclusive: AtInconclusive::default(),
        }
    }
}

impl RolloutSettings {
    /// All that is wrong, with what to write instead; empty if nothing is.
    pub fn check(&self) -> Vec<Problem> {
        let mut found = Vec::new();
        let mut say = |key: &str, message: String, hint: &str| found.push(Problem::new(key, message, hint));
        let grows = self.stages.windows(2).all(|w| w[0] < w[1]);
        let ends = self.stages.last() == Some(&Share::ALL);
        if !(grows && ends && self.stages.first().is_some_and(|s| *s > Share::ZERO)) || self.stages.len() < 2 {
            let text: Vec<String> = self.stages.iter().map(Share::to_string).collect();
            let message = format!("stages [{}] do not grow from above 0% to 100%", text.join(", "));
            say("stages", message, "write something like [1, 5, 25, 50, 100] (percent) or [\"50 slots\", 5, 100]");
        }
        for (key, alpha) in [
            ("alpha_rollback", self.alpha_rollback),
            ("alpha_promote", self.alpha_promote),
            ("alpha_srm", self.alpha_srm),
            ("alpha_incident", self.alpha_incident),
        ] {
            if !(alpha > 0.0 && alpha <= 0.2) {
                say(
                    key,
                    format!("{alpha} is not a chance of error in (0, 0.2]"),
                    "0.01 means one rollout in a hundred",
                );
            }
        }
        if !(self.error_limit > 0.0 && self.error_limit < 0.5) {
            say("error_limit", format!("{} is not a share in (0, 0.5)", self.error_limit), "0.001 is 0.1 %");
        }
        if self.shadow_disagreement.is_some_and(|d| !(d > 0.0 && d <= 1.0)) {
            say("shadow_disagreement", "is not a share in (0, 1]".into(), "0.2 lets every fifth label differ");
        }
        if self.shadow_answers > 0 && self.shadow_share == Share::ZERO {
            say("shadow_share", "0% copies nothing".into(), "give it a share, or set shadow_answers = 0");
        }
        for (key, span) in [("min_dwell", self.min_dwell), ("tick", self.tick), ("max_duration", self.max_duration)] {
            if span.0 <= 0 {
                say(key, format!("{span} is not a length of time above 0"), "");
            }
        }
        let shortest = self.dwell().0.saturating_mul(self.stages.len() as i64 - 1);
        if self.max_duration.0 < shortest {
            let message =
                format!("{} is shorter than the least time of all stages, {}", self.max_duration, Span(shortest));
            say("max_duration", message, "raise it, or take fewer stages or a shorter min_dwell");
        }
        for (i, l) in self.latency.iter().enumerate() {
            if !(l.quantile > 0.0 && l.quantile < 1.0 && l.margin > 1.0 && l.margin <= 10.0) {
                let message = format!("quantile {} with margin {} cannot be tested", l.quantile, l.margin);
                say(&format!("latency[{i}]"), message, "quantile in (0, 1), margin in (1, 10]: 0.95 and 1.1");
            }
        }
        for (i, o) in self.outcomes.iter().enumerate() {
            let fits = match o.better {
                Better::Higher => o.margin > 0.1 && o.margin < 1.0,
                Better::Lower => o.margin > 1.0 && o.margin <= 10.0,
            };
            if !fits {
                let message = format!("margin {} of `{}` tolerates nothing or all", o.margin, o.name);
                say(&format!("outcomes[{i}].margin"), message, "0.95 where higher is better, 1.05 where lower is");
            }
            if self.outcomes[..i].iter().any(|p| p.name == o.name) || o.name.is_empty() {
                say(&format!("outcomes[{i}].name"), format!("`{}` is empty or there already", o.name), "");
            }
        }
        found
    }

    /// Shortest time in a stage.
    pub fn dwell(&self) -> Span {
        self.min_dwell.max(self.period.unwrap_or(Span::ZERO))
    }

    /// Criteria that may each roll back; `alpha_rollback` is shared out among them.
    pub fn guarded(&self) -> usize {
        1 + self.latency.len() + self.outcomes.len()
    }
}
