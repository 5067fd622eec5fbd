//! The record of one evaluation: what is known of each criterion, the verdict, and why.

use super::share::Share;
use super::state::State;
use crate::evidence::{Interval, ratio_interval};
use crate::time::Span;
use serde::{Deserialize, Serialize};
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Promote,
    Hold,
    Rollback,
    Inconclusive,
    Incident,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Promote => "Promote",
            Verdict::Hold => "Hold",
            Verdict::Rollback => "Rollback",
            Verdict::Inconclusive => "Inconclusive",
            Verdict::Incident => "Incident",
        })
    }
}

/// What a verdict rests on, for counters and filters; `Decision::reason` says it in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Shares of the arms are not those of the route table.
    Assignment,
    Contract,
    NonFinite,
    Crashes,
    LoadFailed,
    WarmupFailed,
    /// The hard-incident rule.
    BadAnswers,
    /// Shadow answers failed or differ too much.
    Shadow,
    /// A criterion is worse than its margin.
    Worse,
    /// All that is required is certified.
    Certified,
    /// Not enough evidence or time yet.
    Waiting,
    /// Counts are not complete.
    Incomplete,
    /// An alert about the champion is open.
    BaselineAlert,
    BothArmsFail,
    NoCanaryTraffic,
    /// Outcomes of the arms are matched at different rates.
    MatchRate,
    /// A person is to decide.
    Approval,
    TimeOver,
    HoldOver,
    /// A person decided.
    Operator,
    Restart,
}

/// One criterion at one tick. Log e-values are natural logarithms, rounded to 1e-4.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// `errors`, `latency p95`, `outcome conversion`.
    pub name: String,
    /// Needed to leave this stage upwards.
    pub required: bool,
    /// Bad events (of an outcome: events), all segments together.
    pub canary: u64,
    pub baseline: u64,
    /// What they are counted among.
    pub canary_of: u64,
    pub baseline_of: u64,
    /// The ratio of the rates that is tolerated.
    pub margin: f64,
    /// Against "not worse than the margin".
    pub log_e_worse: f64,
    pub rollback_at: f64,
    /// With fewer bad events in the canary nothing is rolled back.
    pub rollback_from: u64,
    /// Against "worse than the margin"; its largest value so far certifies.
    pub log_e_better: f64,
    pub log_e_better_max: f64,
    pub certify_at: f64,
    pub certified: bool,
    /// (share in slots, canary, baseline) per segment, of what the share test counts.
    pub segments: Vec<(u32, u64, u64)>,
}

impl Standing {
    /// Whether this is enough to roll back. A canary that answered nothing does no harm; events that it cannot have are
    /// no sign of any.
    pub fn harms(&self) -> bool {
        self.canary_of > 0 && self.canary >= self.rollback_from && self.log_e_worse >= self.rollback_at
    }

    /// The canary's rate over the baseline's, at level `1 - alpha`, valid at every look.
    pub fn interval(&self, alpha: f64) -> Interval {
        let segments: Vec<_> = self.segments.iter().map(|(s, c, b)| (Share(*s).fraction(), *c, *b)).collect();
        ratio_interval(&segments, alpha)
    }

    /// How far the criterion is on its way to being certified: 0 to 1.
    pub fn progress(&self) -> f64 {
        if self.certified { 1.0 } else { (self.log_e_better_max / self.certify_at).clamp(0.0, 1.0) }
    }

    /// The canary's and the baseline's rates; 0 of nothing.
    pub fn rates(&self) -> (f64, f64) {
        let rate = |bad: u64, of: u64| if of == 0 { 0.0 } else { bad as f64 / of as f64 };
        (rate(self.canary, self.canary_of), rate(self.baseline, self.baseline_of))
    }
}

/// One evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Before the decision took effect.
    pub state: State,
    pub share: Share,
    /// Observed time in the stage and since the first share.
    pub in_stage: Span,
    pub elapsed: Span,
    pub criteria: Vec<Standing>,
    /// Evidence against "the arms have the shares of the route table", and what rejects it.
    pub log_e_assignment: f64,
    pub assignment_at: f64,
    pub verdict: Verdict,
    pub because: Reason,
    /// One sentence.
    pub reason: String,
    /// What is still missing for promotion; empty if nothing is.
    pub missing: Vec<String>,
}
