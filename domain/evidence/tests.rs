use super::*;
use proptest::prelude::*;

/// A stream of numbers in [0, 1) out of a seed (splitmix64).
struct Coins(u64);

impl Coins {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
    fn hit(&mut self, p: f64) -> bool {
        self.unit() < p
    }
}

/// Share of `runs` in which the mixture ever rejects at `alpha` in `n` tosses of a coin with chance `p`, and the mean
/// e-value at the end.
fn ever(mixture: &Mixture, p: f64, n: u64, runs: u64, alpha: f64) -> (f64, f64) {
    let (mut rejected, mut sum) = (0, 0.0);
    for run in 0..runs {
        let (mut coins, mut hits, mut ever) = (Coins(run * 7919 + 1), 0, false);
        for toss in 1..=n {
            hits += u64::from(coins.hit(p));
            // Evidence moves slowly: looking at every fourth toss misses next to nothing.
            if toss % 4 == 0 {
                ever |= mixture.log_e(hits, toss - hits) >= threshold(alpha);
            }
        }
        rejected += u64::from(ever);
        sum += mixture.log_e(hits, n - hits).exp();
    }
    (rejected as f64 / runs as f64, sum / runs as f64)
}

#[test]
fn nulls_are_rejected_no_more_often_than_alpha_and_have_a_mean_of_one_at_most() {
    let table = [
        ("share 5 %, equal", Mixture::of_share(0.05, 1.0, Side::Above, Grid::Wide), theta(0.05, 1.0)),
        ("share 5 %, margin 0.95", Mixture::of_share(0.05, 0.95, Side::Below, Grid::Fine), theta(0.05, 0.95)),
        ("half, at its margin", Mixture::of_share(0.5, 1.0, Side::Below, Grid::Fine), 0.5),
        ("rate 5 %", Mixture::of_rate(0.05, Side::Above, Grid::Wide), 0.05),
        ("rate 5 %, below", Mixture::of_rate(0.05, Side::Below, Grid::Deep), 0.05),
        ("assignment of 25 %", Mixture::of_assignment(0.25), 0.25),
        ("better than the null", Mixture::of_share(0.5, 1.0, Side::Above, Grid::Wide), theta(0.5, 0.8)),
    ];
    for (what, mixture, p) in table {
        let (rejected, mean) = ever(&mixture, p, 400, 600, 0.05);
        // 600 runs: three standard deviations above 5 % are 7.7 %.
        assert!(rejected <= 0.077, "{what}: {rejected}");
        assert!(mean <= 1.6, "{what}: mean {mean}");
    }
}

#[test]
fn alternatives_are_found() {
    let (found, _) = ever(&Mixture::of_share(0.5, 1.0, Side::Above, Grid::Wide), theta(0.5, 2.0), 400, 100, 0.01);
    assert!(found > 0.99, "twice as many bad events: {found}");
    let (found, _) = ever(&Mixture::of_assignment(0.05), 0.10, 2000, 100, 1e-4);
    assert!(found > 0.99, "10 % instead of 5 %: {found}");
    let (found, _) = ever(&Mixture::of_share(0.5, 0.8, Side::Above, Grid::Fine), 0.5, 1500, 100, 0.05);
    assert!(found > 0.9, "as good as the baseline, margin 0.8: {found}");
}

#[test]
fn figures_by_hand() {
    assert_eq!(theta(0.05, 1.0), 0.05);
    assert!((theta(0.5, 3.0) - 0.75).abs() < 1e-12);
    // Every term is a product of ratios, so counts of nothing are worth 1 and order does not matter.
    let m = Mixture::new(0.5, [0.75]);
    assert_eq!(m.log_e(0, 0), 0.0);
    assert!((m.log_e(3, 1) - (3.0 * 1.5f64.ln() + 0.5f64.ln())).abs() < 1e-12);
    // Without an error, so many answers certify "less than 0.1 %".
    let below = Mixture::of_rate(0.001, Side::Below, Grid::Deep);
    let needed = (1..).find(|n| below.log_e(0, *n) >= threshold(0.05));
    assert_eq!(needed, Some(4159));
    // Huge counts stay finite.
    assert!(Mixture::of_share(0.01, 1.0, Side::Both, Grid::Doubling).log_e(u64::MAX / 2, 3).is_finite());
}

#[test]
fn segments_of_different_shares_add_up() {
    let (small, large) =
        (Mixture::of_share(0.05, 1.0, Side::Above, Grid::Wide), Mixture::of_share(0.5, 1.0, Side::Above, Grid::Wide));
    let both = Pooled::default().add(&small, 12, 100).add(&large, 60, 30).log_e();
    assert!(both > small.log_e(12, 100) && both > large.log_e(60, 30), "{both}");
    assert!((Pooled::default().add(&small, 7, 50).add(&small, 5, 50).log_e() - small.log_e(12, 100)).abs() < 1e-9);
    // Counts pooled over shares would blame the canary: 1 of 100 at 1 %, then 50 of 100 at 50 %, equal rates.
    let honest =
        Pooled::default().add(&Mixture::of_share(0.01, 1.0, Side::Above, Grid::Wide), 1, 99).add(&large, 50, 50);
    assert!(honest.log_e() < 0.0);
}

#[test]
fn a_canary_that_fails_is_stopped_within_a_handful_of_answers() {
    let after = |good: u64, pattern: &dyn Fn(u64) -> bool| {
        let mut hard = HardIncident::default();
        hard.on_good(good);
        (1..5000).find(|n| hard.on_answer(pattern(*n)) >= threshold(1e-5))
    };
    assert_eq!(after(0, &|_| true), Some(5));
    assert_eq!(after(1_000, &|_| true), Some(10));
    assert_eq!(after(100_000, &|_| true), Some(13));
    assert!(after(0, &|n| n % 2 == 0).is_some_and(|n| n <= 20));
    assert_eq!(after(0, &|n| n % 25 == 0), None, "4 % is no incident");
}

#[test]
fn five_percent_of_bad_answers_is_no_incident_however_long_it_lasts() {
    let mut fired = 0;
    for seed in 0..300 {
        let (mut coins, mut hard) = (Coins(seed), HardIncident::default());
        fired += u32::from((0..3000).any(|_| hard.on_answer(coins.hit(HARD_NULL)) >= threshold(0.01)));
    }
    // At alpha 1 %: three are expected at most, eight would be three standard deviations more.
    assert!(fired <= 8, "{fired} of 300");
}

#[test]
fn bands_hold_the_quantile_and_shrink() {
    let wide = quantile_band(0.95, 100, 0.05);
    let narrow = quantile_band(0.95, 100_000, 0.05);
    assert!(wide.low < narrow.low && narrow.low < 0.95 && 0.95 < narrow.high && narrow.high < wide.high);
    assert!(narrow.high - narrow.low < 0.01);
    assert_eq!(quantile_band(0.5, 0, 0.05), Interval { low: 0.0, high: 1.0 });
    assert!(distribution_band(1_000_000, 0.05) < 0.01 && distribution_band(1, 0.05) == 1.0);
    // Uniform values: the empirical level of 0.95 never leaves the band in 20 runs of 5,000 looks.
    for seed in 0..20 {
        let (mut coins, mut below) = (Coins(seed), 0u64);
        for n in 1..=5000 {
            below += u64::from(coins.hit(0.95));
            let (band, level) = (quantile_band(0.95, n, 0.05), below as f64 / n as f64);
            assert!(band.low <= level && level <= band.high, "{level} at {n} outside of {band:?}");
        }
    }
}

#[test]
fn intervals_hold_the_ratio() {
    let nothing = ratio_interval(&[(0.05, 0, 0)], 0.05);
    assert!(nothing.low < 1e-3 && nothing.high > 1e3);
    // 500 and 9,500 at 5 %: equal rates; the error of their log ratio is some 4.6 %.
    let equal = ratio_interval(&[(0.05, 500, 9500)], 0.05);
    assert!(equal.low < 0.95 && equal.low > 0.8 && equal.high > 1.05 && equal.high < 1.25, "{equal:?}");
    let double = ratio_interval(&[(0.05, 500, 9500), (0.5, 2000, 1000)], 0.05);
    assert!(double.low > 1.2, "{double:?}");
}

proptest! {
    #[test]
    fn more_hits_are_more_evidence_above_and_less_below(
        share in 0.01..0.9f64, hits in 0u64..200, misses in 0u64..2000,
    ) {
        let above = Mixture::of_share(share, 1.0, Side::Above, Grid::Wide);
        let below = Mixture::of_share(share, 1.0, Side::Below, Grid::Fine);
        prop_assert!(above.log_e(hits + 1, misses) > above.log_e(hits, misses));
        prop_assert!(below.log_e(hits + 1, misses) < below.log_e(hits, misses));
        prop_assert!(above.log_e(hits, misses + 1) < above.log_e(hits, misses));
    }

    #[test]
    fn the_exact_mean_of_an_e_value_is_one_at_the_null(share in 0.02..0.8f64, n in 1u64..30) {
        // All outcomes of n tosses, weighted by their chance.
        for (mixture, p) in [
            (Mixture::of_share(share, 1.0, Side::Above, Grid::Wide), share),
            (Mixture::of_share(share, 0.9, Side::Below, Grid::Fine), theta(share, 0.9)),
            (Mixture::of_assignment(share), share),
        ] {
            let mut chance = (1.0 - p).powi(n as i32);
            let mut mean = 0.0;
            for hits in 0..=n {
                mean += chance * mixture.log_e(hits, n - hits).exp();
                chance *= p / (1.0 - p) * (n - hits) as f64 / (hits + 1) as f64;
            }
            prop_assert!((mean - 1.0).abs() < 1e-6, "{}", mean);
        }
    }
}
