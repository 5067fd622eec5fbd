use super::*;

#[test]
fn a_seed_is_the_same_run_every_time() {
    for n in 0..6 {
        let (first, again) = (seed(n), seed(n));
        assert_eq!((first.hash, first.steps, &first.fired), (again.hash, again.steps, &again.fired), "seed {n}");
    }
    assert_ne!(seed(1).hash, seed(2).hash);
}

#[test]
fn seeds_hold() {
    let runs = seeds(0, 60, &|_| {});
    let failed: Vec<_> = runs.iter().filter_map(|r| r.failure.as_ref().map(|f| (r.seed, &f.reason))).collect();
    assert!(failed.is_empty(), "replay with `understudy simulate system --seed N`: {failed:#?}");
    // Not a run of refusals: the callers get what they came for.
    let total = |what| runs.iter().filter_map(|r| r.calls.get(what)).sum::<u64>();
    assert!(total("accepted") > 500 && total("answered") > 300 && total("outcome_kept") > 50);
}
