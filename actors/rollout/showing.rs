//! What is shown of the rollouts to those who watch: nothing decides by it.

use super::RolloutController;
use understudy_domain::rollout::Verdict;

impl RolloutController {
    /// Shares, and how far each criterion is on its way to either verdict.
    pub(super) fn show(&self) {
        let counters = &self.deps.counters;
        for (model, life) in &self.lives {
            let share = if life.rollout.state().ended() { 0.0 } else { life.rollout.share().fraction() };
            counters.rollout_share.set(&[model], share);
            for c in life.rollout.decision().iter().flat_map(|d| &d.criteria) {
                let of = |log_e: f64, at: f64| if at > 0.0 { (log_e / at).max(0.0) } else { 0.0 };
                counters.rollout_evidence.set(&[model, &c.name, "rollback"], of(c.log_e_worse, c.rollback_at));
                counters.rollout_evidence.set(&[model, &c.name, "promotion"], c.progress());
            }
        }
    }

    pub(super) fn count_verdict(&self, model: &str, verdict: Verdict) {
        let name = match verdict {
            Verdict::Promote => "promote",
            Verdict::Hold => "hold",
            Verdict::Rollback => "rollback",
            Verdict::Inconclusive => "inconclusive",
            Verdict::Incident => "incident",
        };
        self.deps.counters.rollout_verdicts.add(&[model, name], 1);
    }
}
