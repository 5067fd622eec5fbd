use super::*;
use proptest::prelude::*;

fn pairs() -> impl Strategy<Value = Vec<(f64, bool)>> {
    // Few distinct scores, so that ties happen.
    prop::collection::vec((prop_oneof![(0u32..=20).prop_map(|i| f64::from(i) / 20.0), 0.0..=1.0], any::<bool>()), 0..80)
}

fn quality(pairs: &[(f64, bool)]) -> Quality {
    let mut q = Quality::default();
    for (s, l) in pairs {
        q.add(*s, *l);
    }
    q
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

#[test]
fn known_values() {
    let s = [0.1, 0.4, 0.35, 0.8];
    let l = [false, false, true, true];
    assert_eq!(auc(&s, &l), Some(0.75));
    assert_eq!(auc(&[0.5; 4], &l), Some(0.5));
    assert_eq!(auc(&[0.9, 0.1], &[false, true]), Some(0.0));
    assert_eq!(auc(&s, &[true; 4]), None);
    assert!(close(log_loss(&[0.5, 0.25], &[true, false]), (2f64.ln() - 0.75f64.ln()) / 2.0));
    assert!(log_loss(&[0.0], &[true]) < 34.6, "a wrong certainty costs ln(1e15), not infinity");
    assert!(close(brier(&s, &l), (0.01 + 0.16 + 0.4225 + 0.04) / 4.0));
    assert!(close(ece(&[0.05, 0.05, 1.0, 0.95], &[false, true, true, true], 10), (0.9 + 0.05) / 4.0));
    assert_eq!((log_loss(&[], &[]), brier(&[], &[]), ece(&[], &[], 10)), (0.0, 0.0, 0.0));
    assert_eq!(Quality::default().summary().auc, None);
}

#[test]
fn an_outcome_never_added_is_not_taken_back() {
    let mut q = quality(&[(0.3, true)]);
    q.remove(0.3, false);
    q.remove(0.9, true);
    q.remove(f64::NAN, true);
    assert_eq!(q, quality(&[(0.3, true)]));
}

proptest! {
    #[test]
    fn auc_is_the_share_of_pairs_won(p in pairs()) {
        let (s, l): (Vec<_>, Vec<_>) = p.iter().copied().unzip();
        let (mut won, mut n) = (0.0, 0.0);
        for (a, _) in p.iter().filter(|(_, l)| *l) {
            for (b, _) in p.iter().filter(|(_, l)| !*l) {
                n += 1.0;
                won += if a > b { 1.0 } else if a == b { 0.5 } else { 0.0 };
            }
        }
        match auc(&s, &l) {
            None => prop_assert_eq!(n, 0.0),
            Some(a) => prop_assert!(close(a, won / n)),
        }
    }

    #[test]
    fn running_figures_equal_the_exact_ones(p in pairs()) {
        let (s, l): (Vec<_>, Vec<_>) = p.iter().copied().unzip();
        let q = quality(&p);
        let sum = q.summary();
        prop_assert!(close(sum.log_loss, log_loss(&s, &l)));
        prop_assert!(close(sum.brier, brier(&s, &l)));
        prop_assert!(close(sum.ece, ece(&s, &l, 10)));
        prop_assert_eq!(sum.auc.is_some(), auc(&s, &l).is_some());
        if let (Some(a), Some(b)) = (sum.auc, auc(&s, &l)) {
            prop_assert!((a - b).abs() <= q.auc_error_bound().unwrap() + 1e-12);
        }
    }

    #[test]
    fn merging_and_taking_back_leave_no_trace(a in pairs(), b in pairs()) {
        let both: Vec<_> = b.iter().chain(&a).copied().collect();
        let mut merged = quality(&a);
        merged.merge(&quality(&b));
        prop_assert_eq!(&merged, &quality(&both));
        for (s, l) in &b {
            merged.remove(*s, *l);
        }
        prop_assert_eq!(&merged, &quality(&a));
        let json = serde_json::to_string(&merged).unwrap();
        prop_assert_eq!(serde_json::from_str::<Quality>(&json).unwrap(), merged);
    }
}
