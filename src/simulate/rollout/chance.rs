//! Exact draws from the distributions of traffic.

use crate::simulate::dice::Dice;

/// Draws out of one seed.
pub struct Chance(Dice);

/// Below this mean a count is drawn by going up from 0, above it by going outwards from its mode.
const SMALL_MEAN: f64 = 10.0;

impl Chance {
    pub fn new(seed: u64, stream: u64) -> Chance {
        Chance(Dice::new(seed, stream))
    }

    /// In [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.0.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn hit(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Standard normal (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Pareto with least value 1 and this exponent, at most `most`.
    pub fn heavy(&mut self, exponent: f64, most: f64) -> f64 {
        (1.0 - self.unit()).powf(-1.0 / exponent).min(most)
    }

    /// Hits in `n` trials with chance `p` each.
    pub fn binomial(&mut self, n: u64, p: f64) -> u64 {
        if n == 0 || p <= 0.0 {
            return 0;
        }
        if p > 0.5 {
            return n - self.binomial(n, 1.0 - p);
        }
        let (trials, odds) = (n as f64, p / (1.0 - p));
        let up = |k: f64| (trials - k) / (k + 1.0) * odds;
        if trials * p < SMALL_MEAN {
            return self.upwards((trials * (-p).ln_1p()).exp(), n, up);
        }
        let mode = ((trials + 1.0) * p).floor();
        let log = ln_factorial(trials) - ln_factorial(mode) - ln_factorial(trials - mode);
        let at_mode = (log + mode * p.ln() + (trials - mode) * (-p).ln_1p()).exp();
        self.outwards(mode, at_mode, n, up)
    }

    pub fn poisson(&mut self, mean: f64) -> u64 {
        let up = |k: f64| mean / (k + 1.0);
        if mean < SMALL_MEAN {
            return self.upwards((-mean).exp(), 1000, up);
        }
        let mode = mean.floor();
        self.outwards(mode, (mode * mean.ln() - mean - ln_factorial(mode)).exp(), u64::MAX, up)
    }

    /// Inversion from 0: `up(k)` is the chance of k+1 over that of k.
    fn upwards(&mut self, at_zero: f64, most: u64, up: impl Fn(f64) -> f64) -> u64 {
        let (mut left, mut chance, mut k) = (self.unit(), at_zero, 0);
        while left >= chance && k < most {
            left -= chance;
            chance *= up(k as f64);
            k += 1;
        }
        k
    }

    /// Inversion from the mode, one step up and one step down in turn.
    fn outwards(&mut self, mode: f64, at_mode: f64, most: u64, up: impl Fn(f64) -> f64) -> u64 {
        let mut left = self.unit() - at_mode;
        let (mut high, mut low) = (mode, mode);
        let (mut chance_high, mut chance_low) = (at_mode, at_mode);
        while left >= 0.0 {
            if chance_high < 1e-18 && chance_low < 1e-18 {
                return mode as u64;
            }
            if high < most as f64 {
                chance_high *= up(high);
                high += 1.0;
                left -= chance_high;
                if left < 0.0 {
                    return high as u64;
                }
            }
            if low > 0.0 {
                low -= 1.0;
                chance_low /= up(low);
                left -= chance_low;
                if left < 0.0 {
                    return low as u64;
                }
            }
        }
        mode as u64
    }
}

/// ln n!, by Stirling's series from 10 on.
fn ln_factorial(n: f64) -> f64 {
    if n < 10.0 {
        return (2..=n as u64).map(|k| (k as f64).ln()).sum();
    }
    let series = 1.0 / (12.0 * n) - 1.0 / (360.0 * n.powi(3)) + 1.0 / (1260.0 * n.powi(5));
    (n + 0.5) * n.ln() - n + 0.5 * std::f64::consts::TAU.ln() + series
}

/// Share of a standard normal below `x` (Abramowitz and Stegun 26.2.17, to 7.5e-8).
pub fn below(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let poly =
        t * (0.319_381_530 + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let above = (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt() * poly;
    if x > 0.0 { 1.0 - above } else { above }
}

/// The standard normal's quantile, by bisection.
pub fn quantile(p: f64) -> f64 {
    let (mut low, mut high) = (-9.0, 9.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if below(middle) < p { low = middle } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean and variance of 4,000 draws.
    fn moments(mut draw: impl FnMut() -> f64) -> (f64, f64) {
        let draws: Vec<f64> = (0..4000).map(|_| draw()).collect();
        let mean = draws.iter().sum::<f64>() / 4000.0;
        (mean, draws.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / 3999.0)
    }

    #[test]
    fn counts_have_their_mean_and_variance() {
        let mut chance = Chance::new(3, 1);
        for (n, p) in [(40, 0.1), (500, 0.001), (9500, 0.05), (20_000, 0.7), (7, 0.5)] {
            let (mean, variance) = moments(|| chance.binomial(n, p) as f64);
            let (m, v) = (n as f64 * p, n as f64 * p * (1.0 - p));
            assert!((mean - m).abs() < 4.0 * (v / 4000.0).sqrt(), "binomial {n} {p}: {mean}");
            assert!((variance / v - 1.0).abs() < 0.2, "binomial {n} {p}: variance {variance} of {v}");
        }
        for m in [0.3, 9.0, 10_000.0] {
            let (mean, variance) = moments(|| chance.poisson(m) as f64);
            assert!((mean - m).abs() < 4.0 * (m / 4000.0).sqrt(), "poisson {m}: {mean}");
            assert!((variance / m - 1.0).abs() < 0.2, "poisson {m}: variance {variance}");
        }
        let (mean, variance) = moments(|| chance.normal());
        assert!(mean.abs() < 0.07 && (variance - 1.0).abs() < 0.1);
    }

    #[test]
    fn small_counts_have_their_exact_chances() {
        let mut chance = Chance::new(5, 1);
        let mut seen = [0u32; 4];
        (0..80_000).for_each(|_| seen[chance.binomial(3, 0.3) as usize] += 1);
        for (k, share) in [0.343, 0.441, 0.189, 0.027].into_iter().enumerate() {
            let got = f64::from(seen[k]) / 80_000.0;
            assert!((got - share).abs() < 4.0 * (share * (1.0 - share) / 80_000.0f64).sqrt(), "{k}: {got}");
        }
        assert!((quantile(0.95) - 1.644_85).abs() < 1e-4 && (below(-1.0) - 0.158_655).abs() < 1e-6);
    }
}
