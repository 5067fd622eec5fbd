//! Latencies in log-linear buckets.

use serde::{Deserialize, Serialize};

const SUB: u32 = 16;

/// A histogram of microseconds: exact below 16, then 16 buckets per power of two (as HdrHistogram
/// does), so that a quantile is at most 6.25 % too high. At most 464 buckets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    counts: Vec<u32>,
    n: u64,
    max: u32,
}

/// Microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencySummary {
    pub n: u64,
    pub p50_us: u32,
    pub p90_us: u32,
    pub p99_us: u32,
    pub max_us: u32,
}

impl Latency {
    pub fn add(&mut self, us: u32) {
        let i = index(us);
        if i >= self.counts.len() {
            self.counts.resize(i + 1, 0);
        }
        self.counts[i] += 1;
        self.n += 1;
        self.max = self.max.max(us);
    }

    pub fn merge(&mut self, o: &Latency) {
        if o.counts.len() > self.counts.len() {
            self.counts.resize(o.counts.len(), 0);
        }
        for (a, b) in self.counts.iter_mut().zip(&o.counts) {
            *a += b;
        }
        self.n += o.n;
        self.max = self.max.max(o.max);
    }

    /// The smallest bucket end that at least the share `q` of the values do not exceed; 0 if empty.
    pub fn quantile(&self, q: f64) -> u32 {
        let wanted = ((q * self.n as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (i, c) in self.counts.iter().enumerate() {
            seen += u64::from(*c);
            if seen >= wanted {
                return highest(i).min(self.max);
            }
        }
        self.max
    }

    pub fn summary(&self) -> LatencySummary {
        LatencySummary {
            n: self.n,
            p50_us: self.quantile(0.5),
            p90_us: self.quantile(0.9),
            p99_us: self.quantile(0.99),
            max_us: self.max,
        }
    }
}

fn index(us: u32) -> usize {
    if us < SUB {
        return us as usize;
    }
    let shift = us.ilog2() - 4;
    ((shift + 1) * SUB + ((us >> shift) - SUB)) as usize
}

/// The highest value of a bucket.
fn highest(index: usize) -> u32 {
    let i = index as u64;
    let sub = u64::from(SUB);
    if i < sub {
        return index as u32;
    }
    let shift = i / sub - 1;
    u32::try_from(((sub + i % sub + 1) << shift) - 1).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantiles() {
        let mut l = Latency::default();
        assert_eq!(l.summary(), LatencySummary::default());
        (1..=1000).for_each(|us| l.add(us));
        let s = l.summary();
        assert!((500..=531).contains(&s.p50_us) && (990..=1000).contains(&s.p99_us) && s.max_us == 1000, "{s:?}");
    }

    proptest! {
        #[test]
        fn buckets_hold_their_values(us in any::<u32>(), more in any::<u32>()) {
            let top = highest(index(us));
            prop_assert!(top >= us && u64::from(top) <= u64::from(us) + u64::from(us) / 16);
            prop_assert!(index(us) < 464);
            prop_assert!(us > more || index(us) <= index(more));
        }
    }
}
