//! Mixtures of likelihood ratios of a coin: the one primitive behind every test.

use super::theta;

/// The side of the null hypothesis on which the alternatives lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Against "at most": alternatives are larger.
    Above,
    /// Against "at least": alternatives are smaller.
    Below,
    /// Against "exactly".
    Both,
}

/// How far the alternatives are from the null, as powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grid {
    /// 24 points, 2^(k/4 - 1/8): from 9 % to 58 times. For faults.
    Wide,
    /// 22 points, 2^0.02 .. 2^1.3 in equal steps: from 1.4 % to 2.5 times. For small differences.
    Fine,
    /// 14 points, 2^(k/4 - 1/8): from 9 % to 10 times. For a rate far below its limit.
    Deep,
    /// 7 points, 2^0.05 .. 2^3.2, each twice the one before. For shares of traffic.
    Doubling,
}

impl Grid {
    /// Exponents of two, ascending, all above 0.
    fn exponents(self) -> Vec<f64> {
        let quarters = |n: i32| (1..=n).map(|k| f64::from(k) / 4.0 - 0.125).collect();
        match self {
            Grid::Wide => quarters(24),
            Grid::Deep => quarters(14),
            Grid::Fine => (0..22).map(|k| 0.02 + f64::from(k) * 1.28 / 21.0).collect(),
            Grid::Doubling => (0..7).map(|k| 0.05 * f64::from(1 << k)).collect(),
        }
    }

    /// Ratios to the null on `side`.
    fn ratios(self, side: Side) -> Vec<f64> {
        let exponents = self.exponents();
        let up = exponents.iter().map(|e| e.exp2());
        let down = exponents.iter().map(|e| (-e).exp2());
        match side {
            Side::Above => up.collect(),
            Side::Below => down.collect(),
            Side::Both => down.chain(up).collect(),
        }
    }
}

/// The mean over alternatives `p_k` of the likelihood ratio of `p_k` to the null `p_0`, for a coin that gave `hits` and
/// `misses`. Each term has a monotone expectation in the true `p`, so the mean is a supermartingale under every `p` on
/// the null's side (Robbins 1970; Howard, Ramdas, McAuliffe and Sekhon, Annals of Statistics 49:2, 2021).
#[derive(Clone, Debug, PartialEq)]
pub struct Mixture {
    /// `ln(p_k / p_0)`.
    hit: Vec<f64>,
    /// `ln((1 - p_k) / (1 - p_0))`.
    miss: Vec<f64>,
}

impl Mixture {
    /// The null and its alternatives, all within (0, 1); alternatives outside are left out.
    pub fn new(null: f64, alternatives: impl IntoIterator<Item = f64>) -> Self {
        let inside = alternatives.into_iter().filter(|p| *p > 0.0 && *p < 1.0);
        let (hit, miss) = inside.map(|p| ((p / null).ln(), ((-p).ln_1p() - (-null).ln_1p()))).unzip();
        Mixture { hit, miss }
    }

    /// Of a bad event, whether it was the canary's (hit) or the baseline's (miss), against "the canary's rate is
    /// `margin` times the baseline's at most (`Above`) or at least (`Below`)". `share` of the traffic is the canary's.
    pub fn of_share(share: f64, margin: f64, side: Side, grid: Grid) -> Self {
        let alternatives = grid.ratios(side).into_iter().map(|r| theta(share, margin * r));
        Mixture::new(theta(share, margin), alternatives)
    }

    /// Of a trial, whether it was bad, against "the rate is at most (`Above`) or at least (`Below`) `limit`".
    pub fn of_rate(limit: f64, side: Side, grid: Grid) -> Self {
        Mixture::new(limit, grid.ratios(side).into_iter().map(|r| limit * r))
    }

    /// Of a unit, whether it went to the canary, against "with chance `share`": the sample-ratio test.
    pub fn of_assignment(share: f64) -> Self {
        Mixture::of_share(share, 1.0, Side::Both, Grid::Doubling)
    }

    /// The log e-value of these counts.
    pub fn log_e(&self, hits: u64, misses: u64) -> f64 {
        Pooled::default().add(self, hits, misses).log_e()
    }
}

/// Evidence of several segments against one null hypothesis: per alternative the log likelihood ratios are added, then
/// the mean is taken. Segments may differ in their share (and so in `p_0` and `p_k`), never in margin and grid. The mean
/// is taken last, so that its price (at most the log of the number of alternatives) is paid once and not per segment.
#[derive(Clone, Debug, Default)]
pub struct Pooled {
    sums: Vec<f64>,
}

impl Pooled {
    #[must_use]
    pub fn add(self, mixture: &Mixture, hits: u64, misses: u64) -> Self {
        self.add_expected(mixture, hits as f64, misses as f64)
    }

    /// With expected instead of counted events, for plans.
    #[must_use]
    pub fn add_expected(mut self, mixture: &Mixture, hits: f64, misses: f64) -> Self {
        self.sums.resize(mixture.hit.len(), 0.0);
        for ((sum, hit), miss) in self.sums.iter_mut().zip(&mixture.hit).zip(&mixture.miss) {
            *sum += hits * hit + misses * miss;
        }
        self
    }

    /// 0 before anything was added.
    pub fn log_e(&self) -> f64 {
        let largest = self.sums.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if !largest.is_finite() {
            return 0.0;
        }
        let sum: f64 = self.sums.iter().map(|s| (s - largest).exp()).sum();
        largest + (sum / self.sums.len() as f64).ln()
    }
}
