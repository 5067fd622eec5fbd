use super::*;
use proptest::prelude::*;

/// A server that answers in `service_us` up to `capacity` at once; beyond it latency grows with the queue.
fn latency(in_flight: f64, capacity: f64, service_us: f64) -> f64 {
    service_us * (in_flight / capacity).max(1.0)
}

/// Windows of a server under more load than it can take: the limit is always used up.
fn settle(g: &mut Gradient, capacity: f64, service_us: f64, windows: usize) -> u64 {
    for _ in 0..windows {
        let in_flight = g.limit() as f64;
        g.on_window(Window { count: 100, mean_us: latency(in_flight, capacity, service_us), in_flight });
    }
    g.limit()
}

#[test]
fn the_limit_finds_the_knee_after_a_quiet_time() {
    let mut g = Gradient::new(64, 16, 4096);
    for _ in 0..50 {
        g.on_window(Window { count: 100, mean_us: 1000.0, in_flight: 20.0 });
    }
    assert_eq!(g.limit(), 64, "an unused limit does not grow");
    let limit = settle(&mut g, 100.0, 1000.0, 200);
    assert!((100..400).contains(&limit), "knee at 100, tolerance 1.5: {limit}");
    // The server becomes four times slower at the same capacity: less may be in work.
    let slower = settle(&mut g, 25.0, 1000.0, 50);
    assert!(slower < limit / 2, "{slower} after {limit}");
    let again = settle(&mut g, 100.0, 1000.0, 300);
    assert!(again > slower, "{again} after {slower}");
}

#[test]
fn a_limit_that_is_not_used_falls_to_twice_what_is_used() {
    let mut g = Gradient::new(1000, 10, 1000);
    g.on_window(Window { count: 10, mean_us: 100.0, in_flight: 30.0 });
    // Latency is fifty times what it was; within some windows the limit is at what is used, twice.
    let limits: Vec<u64> = (0..100)
        .map(|_| g.on_window(Window { count: 10, mean_us: 5000.0, in_flight: 30.0 }))
        .take_while(|limit| *limit > 60)
        .collect();
    assert!(limits.len() < 30 && limits.is_sorted_by(|a, b| a > b), "{limits:?}");
}

#[test]
fn classes_are_let_in_by_importance() {
    let shares: Vec<u64> = Class::ALL.iter().map(|c| c.share(100)).collect();
    assert_eq!(shares, [100, 80, 50, 25]);
    assert!(Class::ALL.iter().all(|c| c.share(1) == 1));
    assert_eq!((model_share(100, 1), model_share(100, 2)), (100, 75));
}

#[test]
fn rungs_go_up_at_once_and_down_late() {
    let mut ladder = MemoryLadder::default();
    let table = [
        (79, Rung::Normal),
        (80, Rung::ShedShadow),
        (78, Rung::ShedShadow),
        (76, Rung::Normal),
        (98, Rung::RefuseWork),
        (95, Rung::RefuseWork),
        (93, Rung::ShrinkCaches),
        (86, Rung::ShedReads),
        (0, Rung::Normal),
        (1000, Rung::RefuseWork),
    ];
    for (used, rung) in table {
        assert_eq!(ladder.on_reading(used, 100), rung, "at {used} %");
    }
    assert_eq!(ladder.on_reading(u64::MAX, 0), Rung::Normal, "no cap, no ladder");
    for (i, rung) in Rung::ALL.iter().enumerate() {
        assert_eq!(Rung::from_index(i as u8), *rung);
        // What a rung refuses, every higher one refuses too, and the more important class is refused no earlier.
        for pair in Class::ALL.windows(2) {
            assert!(!rung.refuses(pair[0]) || rung.refuses(pair[1]));
        }
    }
}

#[test]
fn a_bucket_gives_its_burst_and_then_its_rate() {
    let rate = Rate { per_s: 10.0, burst: 5.0 };
    let mut state = 0;
    let second = 1_000_000_000;
    let mut take_all = |now: u64| {
        let mut n = 0;
        loop {
            match take(rate, state, now) {
                Ok(next) => (state, n) = (next, n + 1),
                Err(wait) => return (n, wait),
            }
        }
    };
    assert_eq!(take_all(second), (5, second / 10));
    assert_eq!(take_all(second + second / 2), (5, second / 10));
    assert_eq!(take_all(second * 100).0, 5, "a full bucket holds no more than the burst");
}

proptest! {
    #[test]
    fn the_limit_stays_within_its_bounds(
        windows in prop::collection::vec((0u64..1000, 0.0f64..1e9, 0.0f64..1e5), 0..200),
        start in 0u64..10_000, min in 0u64..100, max in 0u64..5000,
    ) {
        let mut g = Gradient::new(start, min, max);
        for (count, mean_us, in_flight) in windows {
            let limit = g.on_window(Window { count, mean_us, in_flight });
            prop_assert!(limit >= min.min(max).max(1) && limit <= max.max(1));
        }
    }

    #[test]
    fn an_overload_never_outgrows_the_capacity_for_long(capacity in 30.0f64..1000.0, service in 10.0f64..1e5) {
        let mut g = Gradient::new(20, 16, 100_000);
        let limit = settle(&mut g, capacity, service, 300) as f64;
        // Tolerance 1.5, and the allowed queue on top of it.
        prop_assert!(limit >= capacity * 0.9 && limit <= capacity * 4.0 + 100.0, "{} for {}", limit, capacity);
    }

    #[test]
    fn over_any_time_no_more_than_burst_plus_rate(gaps in prop::collection::vec(0u64..200_000_000, 1..300)) {
        let rate = Rate { per_s: 50.0, burst: 7.0 };
        let (mut state, mut now, mut taken) = (0, 1_000, 0u64);
        let start = now;
        for gap in gaps {
            now += gap;
            match take(rate, state, now) {
                Ok(next) => (state, taken) = (next, taken + 1),
                Err(wait) => prop_assert!(take(rate, state, now + wait).is_ok()),
            }
        }
        prop_assert!(taken as f64 <= 7.0 + 50.0 * (now - start) as f64 / 1e9 + 1e-6);
    }
}
