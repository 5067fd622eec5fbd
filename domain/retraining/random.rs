//! Seeded resampling and the few quantiles that it needs.

/// SplitMix64 (Steele, Lea and Flood 2014): one word of state, the same everywhere.
pub(super) struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In [0, 1).
    #[cfg(test)]
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// In 0..n, for n > 0; the bias of the multiplication is below n / 2^64.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}

/// P(Z <= z) of a standard normal (Abramowitz and Stegun 26.2.17, error below 7.5e-8).
pub(super) fn normal_cdf(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let poly =
        t * (0.319_381_530 + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    let tail = (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * poly;
    if z >= 0.0 { 1.0 - tail } else { tail }
}

/// z with P(Z <= z) = p, by bisection of [`normal_cdf`]; p within (0, 1).
pub(super) fn normal_quantile(p: f64) -> f64 {
    let (mut low, mut high) = (-9.0, 9.0);
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if normal_cdf(middle) < p { low = middle } else { high = middle }
    }
    (low + high) / 2.0
}

/// Quantile of Student's t with `degrees` of freedom (Cornish-Fisher expansion to 1/degrees^3; within 1 % from 5 on).
pub(super) fn student_quantile(p: f64, degrees: f64) -> f64 {
    let z = normal_quantile(p);
    let (z2, d) = (z * z, degrees.max(1.0));
    let g1 = z * (z2 + 1.0) / 4.0;
    let g2 = z * (5.0 * z2 * z2 + 16.0 * z2 + 3.0) / 96.0;
    let g3 = z * (3.0 * z2 * z2 * z2 + 19.0 * z2 * z2 + 17.0 * z2 - 15.0) / 384.0;
    z + g1 / d + g2 / (d * d) + g3 / (d * d * d)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_the_tables() {
        for (p, z) in [(0.95, 1.6449), (0.975, 1.9600), (0.5, 0.0), (0.01, -2.3263)] {
            assert!((normal_quantile(p) - z).abs() < 1e-3, "{p}");
        }
        for (p, d, t) in [(0.05, 6.0, -1.943), (0.025, 6.0, -2.447), (0.05, 13.0, -1.771), (0.025, 29.0, -2.045)] {
            assert!((student_quantile(p, d) - t).abs() < 0.02, "{p} {d}: {}", student_quantile(p, d));
        }
    }

    #[test]
    fn a_seed_gives_its_sequence_and_indices_stay_in_range() {
        let (mut a, mut b) = (Random::new(3), Random::new(3));
        let mut seen = [0; 7];
        for _ in 0..7000 {
            let i = a.below(7);
            assert_eq!(i, b.below(7));
            seen[i] += 1;
        }
        assert!(seen.iter().all(|n| (850..1150).contains(n)), "{seen:?}");
    }
}
