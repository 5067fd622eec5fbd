//! The score: four terms, each evidence in [0, 1], joined by a noisy-or:
//! S = 1 - (1 - w_p P)(1 - w_c C)(1 - w_d D)(1 - w_a A). A term without its input is 0 and says so.

use super::ledger::Cohort;
use super::random::normal_quantile;
use super::spec::RetrainingSpec;
use crate::time::Span;
use serde::{Deserialize, Serialize};

/// Fewer matured answers than this are no measurement of loss or calibration.
pub const MIN_ROWS: u64 = 500;
/// Excess calibration error that makes the calibration term 1.
const FULL_ECE: f64 = 0.05;
/// Debiased PSI, weighted by importance, that makes the drift term 1.
const FULL_PSI: f64 = 0.25;
/// Mean matured answers between two false alarms of the detector of wrong answers.
const ARL_ITEMS: f64 = 1e6;
/// How much more often answers are wrong in the alternatives that the detector mixes.
const RATIOS: [f64; 4] = [1.1, 1.25, 1.5, 2.0];

/// How good the champion was when it came in: on rows that neither its weights nor its calibration saw.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    pub loss: f64,
    /// Share of wrong labels; `None` where it was not measured.
    pub wrong: Option<f64>,
    pub rows: u64,
}

/// Features that drift enough to alert, weighted by importance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    pub psi: f64,
    pub features: Vec<String>,
}

/// What the score is made of.
#[derive(Clone, Debug)]
pub struct Inputs<'a> {
    pub reference: Option<Reference>,
    /// The champion's matured answers of the window.
    pub window: &'a Cohort,
    /// Its days since it came in, oldest first: what the detector runs over.
    pub days: &'a [&'a Cohort],
    /// `None` where drift is not measured.
    pub drift: Option<&'a Drift>,
    /// Since the newest row that its weights were trained on.
    pub age: Span,
}

/// One term with the line that explains it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Term {
    pub name: String,
    pub value: f64,
    pub weight: f64,
    pub line: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// In [0, 1].
    pub value: f64,
    /// The same without the age term: whether there is something to improve, or only something old.
    pub without_age: f64,
    pub terms: Vec<Term>,
}

pub fn score(spec: &RetrainingSpec, inputs: &Inputs<'_>) -> Score {
    let terms = vec![performance(spec, inputs), calibration(spec, inputs), drift(spec, inputs), age(spec, inputs)];
    let join = |terms: &[Term]| 1.0 - terms.iter().map(|t| 1.0 - t.weight * t.value).product::<f64>();
    Score { value: join(&terms), without_age: join(&terms[..3]), terms }
}

fn term(name: &str, weight: f64, value: f64, line: String) -> Term {
    let value = if value.is_finite() { value.clamp(0.0, 1.0) } else { 0.0 };
    Term { name: name.into(), value, weight, line }
}

fn performance(spec: &RetrainingSpec, i: &Inputs<'_>) -> Term {
    let make = |value, line| term("performance", spec.weight_performance, value, line);
    let n = i.window.n;
    if n < MIN_ROWS {
        return make(0.0, format!("{n} matured answers in the window; {MIN_ROWS} are needed to measure its loss"));
    }
    let Some(r) = i.reference else {
        return make(0.0, "the champion's own loss at promotion is not known".into());
    };
    let now = i.window.loss();
    let more = (now - r.loss) / r.loss.max(f64::MIN_POSITIVE);
    let said = format!("loss {now:.4} on {n} matured answers, {:.4} when it came in: {:+.1} %", r.loss, more * 100.0);
    if more <= 0.0 {
        return make(0.0, said);
    }
    let Some(wrong) = r.wrong else {
        return make(0.0, format!("{said}; its share of wrong answers then is not known, so chance is not ruled out"));
    };
    let evidence = wrong_detector(wrong, r.rows, i.days);
    let share = i.window.wrong_rate();
    let (word, value) = if evidence.alarm { ("is", more / spec.tolerance) } else { ("is not", 0.0) };
    make(
        value,
        format!(
            "{said}; wrong answers {:.1} % against {:.1} %, which {word} beyond chance (e = {:.1e}, alarm at {:.0e})",
            share * 100.0,
            wrong * 100.0,
            evidence.e,
            evidence.limit
        ),
    )
}

struct Detector {
    e: f64,
    limit: f64,
    alarm: bool,
}

/// Shiryaev-Roberts mixture over the days (Shin, Ramdas and Rinaldo 2024): M = (M + 1) LR for each alternative, alarm
/// when the mean exceeds the mean number of days between false alarms. A day is one step with the likelihood ratio of
/// all its answers, so the order within it does not matter. p0 is the upper 99 % bound of the rate at promotion.
fn wrong_detector(rate: f64, rows: u64, days: &[&Cohort]) -> Detector {
    let spread = (rate * (1.0 - rate) / rows.max(1) as f64).sqrt();
    let p0 = (rate + normal_quantile(0.99) * spread).clamp(1e-6, 0.999);
    let items: u64 = days.iter().map(|c| c.n).sum();
    let limit = ARL_ITEMS / (items as f64 / days.len().max(1) as f64).max(1.0);
    let (mut best, mut alarm) = (0.0f64, false);
    let mut state = [0.0f64; RATIOS.len()];
    for day in days {
        for (m, ratio) in state.iter_mut().zip(RATIOS) {
            let p1 = (p0 * ratio).min((1.0 + p0) / 2.0);
            let (k, n) = (day.wrong as f64, day.n as f64);
            let log = k * (p1 / p0).ln() + (n - k) * ((1.0 - p1) / (1.0 - p0)).ln();
            *m = ((*m + 1.0) * log.min(690.0).exp()).min(1e300);
        }
        best = state.iter().sum::<f64>() / RATIOS.len() as f64;
        alarm = best >= limit;
    }
    Detector { e: best, limit, alarm }
}

fn calibration(spec: &RetrainingSpec, i: &Inputs<'_>) -> Term {
    let make = |value, line| term("calibration", spec.weight_calibration, value, line);
    let n = i.window.n;
    if n < MIN_ROWS {
        return make(0.0, format!("{n} matured answers in the window; {MIN_ROWS} are needed to measure calibration"));
    }
    let (error, chance) = i.window.calibration();
    let excess = (error - chance).max(0.0);
    make(excess / FULL_ECE, format!("calibration error {error:.4} on {n} answers, {chance:.4} of it by chance"))
}

fn drift(spec: &RetrainingSpec, i: &Inputs<'_>) -> Term {
    let make = |value, line| term("drift", spec.weight_drift, value, line);
    match i.drift {
        None => make(0.0, "drift is not measured for this model".into()),
        Some(d) if d.features.is_empty() => make(0.0, "no feature's drift alerts".into()),
        Some(d) => make(
            d.psi / FULL_PSI,
            format!("debiased PSI {:.3}, weighted by importance, of {}", d.psi, d.features.join(", ")),
        ),
    }
}

fn age(spec: &RetrainingSpec, i: &Inputs<'_>) -> Term {
    let days = |s: Span| s.0 as f64 / Span::days(1).0 as f64;
    let over = days(i.age) - days(spec.min_age);
    let room = (days(spec.max_age) - days(spec.min_age)).max(f64::MIN_POSITIVE);
    term(
        "age",
        spec.weight_age,
        over / room,
        format!(
            "its newest training row is {:.0} days old; counts from {:.0}, fully at {:.0}",
            days(i.age),
            days(spec.min_age),
            days(spec.max_age)
        ),
    )
}
