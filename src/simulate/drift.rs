//! Drift detection on made-up traffic whose truth is known: how often it alarms on nothing, how soon it sees a shift.

use super::dice::Dice;
use serde::Serialize;
use understudy_domain::drift::{Against, EDetector, FeatureDrift, Level, Reference, Sampled, State, Watch};
use understudy_domain::model::{Signature, SignatureFeature};
use understudy_domain::project::DriftSpec;
use understudy_domain::time::{Span, Timestamp};
use understudy_domain::value::{Value, ValueType};

/// Rows of a reference.
const REFERENCE: usize = 10_000;
/// Days after which another reference is drawn, so that no single lucky one decides.
const DAYS_A_REFERENCE: u64 = 25;
/// Windows after which a shift counts as not found.
const PATIENCE: u64 = 24;
/// Streams and items of the detector of rates; the rate jumps in the middle.
const STREAMS: u64 = 80;
const ITEMS: u64 = 20_000;
const NORMAL_RATE: f64 = 0.05;

#[derive(Clone, Copy, Debug)]
pub struct DriftOptions {
    pub days: u64,
    pub features: usize,
    pub rows_per_window: usize,
    pub windows_per_day: u64,
    /// In standard deviations of one feature.
    pub shift: Option<f64>,
    /// How often the shift is tried.
    pub runs: u64,
    pub seed: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct DriftCampaign {
    /// Days of traffic in which nothing changed.
    pub model_days: u64,
    /// Features in windows at `warn` or above that holds, on those days.
    pub false_alarms: u64,
    pub false_alarms_per_100_days: f64,
    pub not_enough_data_windows: u64,
    /// Alarms a day of rules that are often used instead, on the same windows.
    pub other_rules: OtherRules,
    /// Share of the shifts found in the first window; null without a shift.
    pub detected: Option<f64>,
    /// The same at `notice`.
    pub noticed: Option<f64>,
    /// Median windows until the first sees it, and until an alarm holds.
    pub windows_to_detect: Option<u64>,
    pub windows_to_alarm: Option<u64>,
    /// Filled in by [`rates`].
    pub rates: Vec<RateCampaign>,
}

/// Alarms a day.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OtherRules {
    pub psi_above_0_1: f64,
    pub p_below_0_05: f64,
    pub fdr_0_05: f64,
    pub fdr_0_01: f64,
    pub fdr_0_01_and_debiased_psi_above_0_1: f64,
}

/// The e-detector on streams of a rate of 5 % that jumps in the middle.
#[derive(Clone, Debug, Serialize)]
pub struct RateCampaign {
    pub items_between_false_alarms: f64,
    /// Share of streams without a jump that alarm at all.
    pub false_alarm_streams: f64,
    /// (rate after the jump, median items to the alarm, share found).
    pub delays: Vec<(f64, u64, f64)>,
}

pub fn drift(o: &DriftOptions) -> DriftCampaign {
    let mut out = DriftCampaign {
        model_days: 0,
        false_alarms: 0,
        false_alarms_per_100_days: 0.0,
        not_enough_data_windows: 0,
        other_rules: OtherRules::default(),
        detected: None,
        noticed: None,
        windows_to_detect: None,
        windows_to_alarm: None,
        rates: Vec::new(),
    };
    while out.model_days < o.days {
        stationary(o, DAYS_A_REFERENCE.min(o.days - out.model_days), &mut out);
    }
    let days = (out.model_days as f64).max(1.0);
    out.false_alarms_per_100_days = out.false_alarms as f64 / days * 100.0;
    let r = &mut out.other_rules;
    for per_day in [
        &mut r.psi_above_0_1,
        &mut r.p_below_0_05,
        &mut r.fdr_0_05,
        &mut r.fdr_0_01,
        &mut r.fdr_0_01_and_debiased_psi_above_0_1,
    ] {
        *per_day /= days;
    }
    if let Some(shift) = o.shift {
        shifted(o, shift, &mut out);
    }
    out
}

/// One reference and a watch over traffic like it.
struct Stream {
    dice: Dice,
    watch: Watch,
    spec: DriftSpec,
    rows: usize,
    features: usize,
    windows: u64,
    row: Vec<Value>,
}

const VERSION: &str = "v1";

impl Stream {
    fn new(o: &DriftOptions, stream: u64) -> Stream {
        let mut dice = Dice::new(o.seed, stream);
        let window = Span(Span::days(1).0 / o.windows_per_day.max(1) as i64);
        let spec = DriftSpec { window, period: window, min_rows: 1, ..DriftSpec::default() };
        let feature = |i| SignatureFeature { name: format!("f{i}"), kind: ValueType::Float, nullable: true };
        let signature = Signature {
            features: (0..o.features).map(feature).collect(),
            positive_label: "yes".into(),
            negative_label: "no".into(),
        };
        let rows: Vec<Vec<Value>> =
            (0..REFERENCE).map(|_| (0..o.features).map(|_| Value::Float(dice.normal())).collect()).collect();
        let sampled = rows.iter().map(|r| Sampled { time: Timestamp(0), vector: r, score: None });
        let reference = Reference::build(&signature, sampled, window, window);
        let mut watch = Watch::new("m", DriftSpec { min_rows: 500.min(o.rows_per_window as u64), ..spec.clone() });
        watch.follow(VERSION, Some(std::sync::Arc::new(reference)));
        Stream { dice, watch, spec, rows: o.rows_per_window, features: o.features, windows: 0, row: Vec::new() }
    }

    /// A window of rows whose first feature is moved; what was judged of it.
    fn window(&mut self, shift: f64) -> Vec<FeatureDrift> {
        let start = Timestamp(0) + Span(self.spec.window.0 * self.windows as i64);
        for _ in 0..self.rows {
            self.row.clear();
            for i in 0..self.features {
                let moved = if i == 0 { shift } else { 0.0 };
                self.row.push(Value::Float(self.dice.normal() + moved));
            }
            self.watch.count(VERSION, start, &self.row, None);
        }
        self.windows += 1;
        let judged = self.watch.advance(start + Span(self.spec.window.0 * 2 - 1));
        judged.into_iter().filter(|w| w.state == State::Judged).flat_map(|w| w.features).collect()
    }
}

fn stationary(o: &DriftOptions, days: u64, out: &mut DriftCampaign) {
    let mut stream = Stream::new(o, out.model_days);
    let bias = 9.0 * (1.0 / o.rows_per_window as f64 + 1.0 / REFERENCE as f64);
    for _ in 0..days * o.windows_per_day {
        let judged = stream.window(0.0);
        out.not_enough_data_windows += u64::from(judged.is_empty());
        out.false_alarms += judged.iter().filter(|f| f.level >= Level::Warn).count() as u64;
        let plain: Vec<&FeatureDrift> = judged.iter().filter(|f| f.against == Against::Reference).collect();
        let p: Vec<Option<f64>> = plain.iter().map(|f| Some(f.p_value)).collect();
        let count = |found: Vec<bool>| found.into_iter().filter(|f| *f).count() as f64;
        let strict = understudy_domain::drift::significant(&p, 0.01);
        let r = &mut out.other_rules;
        r.psi_above_0_1 += plain.iter().filter(|f| f.psi + bias > 0.1).count() as f64;
        r.p_below_0_05 += plain.iter().filter(|f| f.p_value < 0.05).count() as f64;
        r.fdr_0_05 += count(understudy_domain::drift::significant(&p, 0.05));
        r.fdr_0_01_and_debiased_psi_above_0_1 +=
            plain.iter().zip(&strict).filter(|(f, s)| **s && f.psi > 0.1).count() as f64;
        r.fdr_0_01 += count(strict);
    }
    out.model_days += days;
}

fn shifted(o: &DriftOptions, shift: f64, out: &mut DriftCampaign) {
    let (mut detected, mut noticed, mut first, mut held) = (0, 0, Vec::new(), Vec::new());
    for run in 0..o.runs {
        let mut stream = Stream::new(o, 1 << 40 | run);
        let (mut seen, mut alarm) = (None, None);
        for window in 1..=PATIENCE {
            let judged = stream.window(shift);
            let of = |level: fn(&FeatureDrift) -> Level| {
                judged.iter().filter(|f| f.feature == "f0").map(level).max().unwrap_or_default()
            };
            if window == 1 {
                noticed += u64::from(of(|f| f.window_level) >= Level::Notice);
                detected += u64::from(of(|f| f.window_level) >= Level::Warn);
            }
            if of(|f| f.window_level) >= Level::Warn {
                seen = seen.or(Some(window));
            }
            if of(|f| f.level) >= Level::Warn {
                alarm = Some(window);
                break;
            }
        }
        first.push(seen.unwrap_or(u64::MAX));
        held.push(alarm.unwrap_or(u64::MAX));
    }
    let median = |mut v: Vec<u64>| {
        v.sort_unstable();
        v.get(v.len() / 2).copied().filter(|w| *w < u64::MAX)
    };
    out.detected = Some(detected as f64 / o.runs as f64);
    out.noticed = Some(noticed as f64 / o.runs as f64);
    (out.windows_to_detect, out.windows_to_alarm) = (median(first), median(held));
}

/// The e-detector at one setting, on streams of a rate that jumps.
pub fn rates(arl: f64, seed: u64) -> RateCampaign {
    let bad = |dice: &mut Dice, rate: f64| dice.unit() < rate;
    let quiet = |stream: u64| {
        let (mut dice, mut detector) = (Dice::new(seed, stream), EDetector::new(NORMAL_RATE, arl));
        (0..ITEMS).any(|_| detector.on(bad(&mut dice, NORMAL_RATE)))
    };
    // Items from the jump to the next alarm; the detector has been at work before it.
    let jump = |rate: f64, stream: u64| {
        let (mut dice, mut detector) = (Dice::new(seed, stream), EDetector::new(NORMAL_RATE, arl));
        (0..ITEMS / 2).for_each(|_| _ = detector.on(bad(&mut dice, NORMAL_RATE)));
        (1..=ITEMS / 2).find(|_| detector.on(bad(&mut dice, rate)))
    };
    let alarms = (0..STREAMS).filter(|s| quiet(*s)).count();
    let delays = [0.08, 0.10, 0.20].map(|rate| {
        let mut found: Vec<u64> = (0..STREAMS).filter_map(|s| jump(rate, s + (rate * 1e6) as u64)).collect();
        found.sort_unstable();
        (rate, found.get(found.len() / 2).copied().unwrap_or(ITEMS), found.len() as f64 / STREAMS as f64)
    });
    RateCampaign {
        items_between_false_alarms: arl,
        false_alarm_streams: alarms as f64 / STREAMS as f64,
        delays: delays.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(days: u64, n: usize, shift: Option<f64>) -> DriftOptions {
        DriftOptions { days, features: 10, rows_per_window: n, windows_per_day: 24, shift, runs: 120, seed: 5 }
    }

    #[test]
    fn quiet_on_nothing_awake_on_a_shift() {
        let c = drift(&options(8, 500, None));
        assert_eq!((c.model_days, c.false_alarms), (8, 0), "{c:?}");
        // The windows were judged: the usual rule alarms on a twentieth of them.
        let expected = 24.0 * 10.0 * 0.05;
        assert!((c.other_rules.p_below_0_05 - expected).abs() < expected / 3.0, "{c:?}");
        let c = drift(&DriftOptions { features: 2, ..options(0, 500, Some(0.5)) });
        assert!(c.detected >= Some(0.98), "{c:?}");
        assert_eq!((c.windows_to_detect, c.windows_to_alarm), (Some(1), Some(2)), "{c:?}");
    }

    #[test]
    fn delays_of_the_rate_detector() {
        let c = rates(1e6, 1);
        assert_eq!(c.false_alarm_streams, 0.0);
        for ((rate, delay, found), expected) in c.delays.iter().zip([999.0, 408.0, 74.0]) {
            assert!(*found == 1.0 && (*delay as f64 / expected - 1.0).abs() < 0.25, "{rate}: {delay}, not {expected}");
        }
    }
}
