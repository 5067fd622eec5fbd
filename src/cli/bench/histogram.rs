//! Latencies in buckets of at most 1.6 % relative width: constant memory, exact counts, mergeable.

/// Buckets per power of two.
const SUB: u64 = 64;
const SUB_BITS: u32 = SUB.trailing_zeros();
/// Up to 2^40 ns, 18 minutes.
const POWERS: u32 = 40;

#[derive(Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    n: u64,
}

impl Histogram {
    pub fn new() -> Self {
        Histogram { counts: vec![0; ((POWERS - SUB_BITS + 1) as usize) * SUB as usize], n: 0 }
    }

    pub fn record(&mut self, ns: u64) {
        let last = self.counts.len() - 1;
        self.counts[bucket(ns).min(last)] += 1;
        self.n += 1;
    }

    pub fn merge(&mut self, other: &Histogram) {
        for (a, b) in self.counts.iter_mut().zip(&other.counts) {
            *a += b;
        }
        self.n += other.n;
    }

    pub fn count(&self) -> u64 {
        self.n
    }

    /// The smallest bucket bound that at least the share `q` of all latencies does not exceed,
    /// in microseconds; `None` without any.
    pub fn quantile_us(&self, q: f64) -> Option<f64> {
        let rank = ((q * self.n as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let position = self.counts.iter().position(|c| {
            seen += c;
            seen >= rank
        });
        position.filter(|_| self.n > 0).map(|i| upper(i) as f64 / 1000.0)
    }
}

fn bucket(ns: u64) -> usize {
    if ns < SUB {
        return ns as usize;
    }
    let power = 63 - ns.leading_zeros() - SUB_BITS;
    (u64::from(power + 1) * SUB + ((ns >> power) - SUB)) as usize
}

/// Largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let (row, column) = (bucket as u64 / SUB, bucket as u64 % SUB);
    match row {
        0 => column,
        _ => ((SUB + column + 1) << (row - 1)) - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_value_lies_in_its_bucket(ns in 0u64..1 << 40) {
            let b = bucket(ns);
            prop_assert!(upper(b) >= ns);
            prop_assert!(b == 0 || upper(b - 1) < ns);
            prop_assert!((upper(b) - ns) as f64 <= ns as f64 / SUB as f64);
        }

        #[test]
        fn merging_is_recording_all(a in prop::collection::vec(1u64..1 << 30, 1..50), b in prop::collection::vec(1u64..1 << 30, 1..50)) {
            let of = |v: &[u64]| { let mut h = Histogram::new(); v.iter().for_each(|x| h.record(*x)); h };
            let mut merged = of(&a);
            merged.merge(&of(&b));
            let all = of(&[a, b].concat());
            prop_assert_eq!(merged.counts, all.counts);
            prop_assert_eq!(merged.n, all.n);
        }
    }

    #[test]
    fn quantiles_of_a_thousand() {
        let mut h = Histogram::new();
        assert_eq!(h.quantile_us(0.5), None);
        for us in 1..=1000u64 {
            h.record(us * 1000);
        }
        for (q, us) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0), (0.0, 1.0)] {
            let got = h.quantile_us(q).unwrap();
            assert!(got >= us && got <= us * 1.017, "q {q}: {got} for {us}");
        }
    }

    #[test]
    fn the_longest_latency_still_counts() {
        let mut h = Histogram::new();
        h.record(u64::MAX);
        assert_eq!(h.count(), 1);
        assert!(h.quantile_us(0.5).is_some());
    }
}
