use super::*;
use crate::metrics::{ece, log_loss};
use proptest::prelude::*;

/// SplitMix64 (Steele, Lea and Flood 2014).
struct SplitMix64(u64);

impl SplitMix64 {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Scores whose true probability is `truth(score)`.
fn sample(n: usize, truth: impl Fn(f64) -> f64) -> (Vec<f64>, Vec<bool>) {
    let mut r = SplitMix64(7);
    (0..n)
        .map(|_| {
            let s = 0.02 + 0.96 * r.unit();
            (s, r.unit() < truth(s))
        })
        .unzip()
}

#[test]
fn platt_recovers_its_parameters() {
    let (s, l) = sample(40_000, |p| sigmoid(1.7 * logit(p) - 0.6));
    let Calibration::Platt { a, b } = fit_platt(&s, &l) else { panic!("not Platt") };
    assert!((a - 1.7).abs() < 0.05 && (b + 0.6).abs() < 0.05, "{a} {b}");
}

#[test]
fn isotonic_follows_the_true_curve() {
    let truth = |p: f64| p * p;
    let (s, l) = sample(40_000, truth);
    let c = fit_isotonic(&s, &l);
    for i in 1..10 {
        let p = f64::from(i) / 10.0;
        // The error of a pooled block shrinks with the cube root of n only.
        assert!((c.apply(p) - truth(p)).abs() < 0.06, "{p}: {}", c.apply(p));
    }
}

#[test]
fn calibration_error_and_loss_fall() {
    let (s, l) = sample(20_000, |p| sigmoid(0.5 * logit(p) - 1.0));
    for c in [fit_platt(&s, &l), fit_isotonic(&s, &l)] {
        let fitted: Vec<f64> = s.iter().map(|p| c.apply(*p)).collect();
        assert!(ece(&s, &l, 10) > 0.1 && ece(&fitted, &l, 10) < 0.02);
        assert!(log_loss(&fitted, &l) < log_loss(&s, &l));
    }
}

#[test]
fn edges() {
    assert_eq!(fit_platt(&[], &[]), Calibration::None);
    assert_eq!(fit_isotonic(&[], &[]), Calibration::None);
    assert!(!Calibration::None.is_calibrated());
    assert_eq!(Calibration::None.apply(0.3), 0.3);
    // One label only: certain, but not infinitely so.
    assert!((fit_isotonic(&[0.2, 0.4], &[false, false]).apply(0.3) - 0.25).abs() < 1e-12);
    assert!((fit_isotonic(&[0.2, 0.4], &[true, true]).apply(0.3) - 0.75).abs() < 1e-12);
    // Scores upside down: the base rate.
    let upside = fit_platt(&[0.1, 0.2, 0.8, 0.9], &[true, true, false, false]);
    assert!((upside.apply(0.1) - 0.5).abs() < 1e-9 && (upside.apply(0.9) - 0.5).abs() < 1e-9);
    // A pure end block yields to a rarer neighbour, and distinct x stay distinct.
    let mut s = vec![0.1];
    let mut l = vec![false];
    s.extend([0.5; 20]);
    l.extend((0..20).map(|i| i == 0));
    assert_eq!(fit_isotonic(&s, &l), Calibration::Isotonic { x: vec![0.1, 0.5], y: vec![0.05, 0.05] });
}

proptest! {
    #[test]
    fn monotone_finite_and_within_bounds(
        rows in prop::collection::vec((prop_oneof![0.0..=1.0, Just(0.0), Just(1.0), Just(0.5)], any::<bool>()), 1..60),
        mut probes in prop::collection::vec(0.0..=1.0f64, 2..30),
    ) {
        let (s, l): (Vec<f64>, Vec<bool>) = rows.into_iter().unzip();
        probes.extend(&s);
        probes.sort_by(f64::total_cmp);
        for c in [fit_platt(&s, &l), fit_isotonic(&s, &l)] {
            prop_assert!(c.is_calibrated());
            let out: Vec<f64> = probes.iter().map(|p| c.apply(*p)).collect();
            prop_assert!(out.iter().all(|p| (0.0..=1.0).contains(p)), "{:?}", c);
            prop_assert!(out.windows(2).all(|w| w[0] <= w[1]), "{:?} {:?}", c, out);
            if let Calibration::Isotonic { x, y } = &c {
                prop_assert!(x.windows(2).all(|w| w[0] < w[1]));
                prop_assert!(y.iter().all(|p| *p > 0.0 && *p < 1.0));
            }
        }
    }
}
