//! What must hold before a job starts by itself: each guard with the line that explains it.

use super::spec::RetrainingSpec;
use crate::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};

/// Failed jobs in a row after which none starts by itself.
pub const CIRCUIT: u32 = 3;

/// What the guards look at.
#[derive(Clone, Debug, Default)]
pub struct Situation {
    pub now: Timestamp,
    /// When the last job finished, whatever came of it.
    pub finished: Option<Timestamp>,
    /// Challengers refused since the last that came in.
    pub refused: u32,
    /// Jobs that failed since the last that did not.
    pub failed: u32,
    /// Matured labelled rows since the champion's training cut, and those of the rarer label.
    pub rows: u64,
    pub minority: u64,
    /// Share of the window's answers with an outcome, and what is usual.
    pub matched: Option<f64>,
    pub usual: Option<f64>,
    /// A data-quality incident that is open or lies in the window.
    pub incident: Option<String>,
    /// The rollout of this model that is running.
    pub rollout: Option<String>,
    /// The training job that runs on this machine.
    pub busy: Option<String>,
    pub jobs_last_day: u32,
    pub jobs_last_week: u32,
    /// When a challenger of this loop came in last.
    pub promoted: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    pub name: String,
    pub holds: bool,
    pub line: String,
}

/// The wait after a finished job: doubles with each refused challenger in a row.
pub fn cool_down(spec: &RetrainingSpec, refused: u32) -> Span {
    let doubled = spec.cool_down.0.saturating_mul(1i64 << refused.min(40));
    Span(doubled.min(spec.max_cool_down.0.max(spec.cool_down.0)))
}

/// All guards, in the order in which they are shown.
pub fn guards(spec: &RetrainingSpec, s: &Situation) -> Vec<Guard> {
    let guard = |name: &str, holds: bool, line: String| Guard { name: name.into(), holds, line };
    let wait = cool_down(spec, s.refused);
    let cool = match s.finished {
        None => guard("cool_down", true, "no job has finished yet".into()),
        Some(at) => guard(
            "cool_down",
            s.now >= at + wait,
            format!("last job finished {at}; {wait} of wait after {} refused in a row", s.refused),
        ),
    };
    let matched = match (s.matched, s.usual) {
        (Some(now), Some(usual)) => guard(
            "match_rate",
            now >= spec.min_match * usual,
            format!("{:.1} % of answers have their outcome, usually {:.1} %", now * 100.0, usual * 100.0),
        ),
        (Some(now), None) => {
            guard("match_rate", true, format!("{:.1} % of answers have their outcome; no usual rate yet", now * 100.0))
        }
        (None, _) => guard("match_rate", false, "no answers in the window".into()),
    };
    vec![
        cool,
        guard(
            "rows",
            s.rows >= spec.min_rows,
            format!("{} matured rows since the training cut; {} are needed", s.rows, spec.min_rows),
        ),
        guard(
            "minority",
            s.minority >= spec.min_minority,
            format!("{} of them of the rarer label; {} are needed", s.minority, spec.min_minority),
        ),
        matched,
        guard("incident", s.incident.is_none(), s.incident.clone().unwrap_or_else(|| "no data incident".into())),
        guard("rollout", s.rollout.is_none(), s.rollout.clone().unwrap_or_else(|| "no rollout is running".into())),
        guard("one_job", s.busy.is_none(), s.busy.clone().unwrap_or_else(|| "no other job runs".into())),
        guard(
            "budget",
            s.jobs_last_day < spec.jobs_a_day && s.jobs_last_week < spec.jobs_a_week,
            format!(
                "{} of {} jobs in a day, {} of {} in a week",
                s.jobs_last_day, spec.jobs_a_day, s.jobs_last_week, spec.jobs_a_week
            ),
        ),
        guard("circuit", s.failed < CIRCUIT, format!("{} jobs failed in a row; {CIRCUIT} stop the loop", s.failed)),
    ]
}

/// A challenger that came in this lately and is asked to be replaced again: the cause is not the model.
pub fn looping(spec: &RetrainingSpec, s: &Situation) -> bool {
    s.promoted.is_some_and(|at| s.now < at + spec.loop_guard)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Situation {
        Situation {
            now: Timestamp(0) + Span::days(100),
            rows: 5000,
            minority: 500,
            matched: Some(0.97),
            usual: Some(0.98),
            ..Situation::default()
        }
    }

    #[test]
    fn each_guard_refuses_for_its_own_reason_and_for_no_other() {
        let spec = RetrainingSpec::default();
        let failing = |s: &Situation| -> Vec<String> {
            guards(&spec, s).into_iter().filter(|g| !g.holds).map(|g| g.name).collect()
        };
        assert!(failing(&good()).is_empty());
        let day = |n| Timestamp(0) + Span::days(n);
        let text = || Some("why".to_string());
        for (name, s) in [
            ("cool_down", Situation { finished: Some(day(100) - Span::hours(23)), ..good() }),
            ("cool_down", Situation { finished: Some(day(97)), refused: 2, ..good() }),
            ("rows", Situation { rows: 1999, ..good() }),
            ("minority", Situation { minority: 99, ..good() }),
            ("match_rate", Situation { matched: Some(0.87), ..good() }),
            ("match_rate", Situation { matched: None, ..good() }),
            ("incident", Situation { incident: text(), ..good() }),
            ("rollout", Situation { rollout: text(), ..good() }),
            ("one_job", Situation { busy: text(), ..good() }),
            ("budget", Situation { jobs_last_day: 2, ..good() }),
            ("budget", Situation { jobs_last_week: 4, ..good() }),
            ("circuit", Situation { failed: 3, ..good() }),
        ] {
            assert_eq!(failing(&s), [name]);
        }
    }

    #[test]
    fn the_wait_doubles_up_to_its_bound() {
        let spec = RetrainingSpec::default();
        let days: Vec<i64> = (0..6).map(|n| cool_down(&spec, n).0 / Span::days(1).0).collect();
        assert_eq!(days, [1, 2, 4, 8, 14, 14]);
        assert_eq!(cool_down(&spec, 4_000_000_000), Span::days(14));
    }

    #[test]
    fn a_challenger_of_yesterday_that_triggers_again_is_a_loop() {
        let spec = RetrainingSpec::default();
        let at = |hours| Situation { promoted: Some(good().now - Span::hours(hours)), ..good() };
        assert!(looping(&spec, &at(71)));
        assert!(!looping(&spec, &at(72)));
        assert!(!looping(&spec, &good()));
    }
}
