use super::*;
use crate::model::{Signature, SignatureFeature};
use crate::project::DriftSpec;
use crate::time::{Span, Timestamp};
use crate::value::{Value, ValueType};
use proptest::prelude::*;
use std::sync::Arc;

/// SplitMix64, uniform in [0, 1).
fn random(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

fn signature() -> Signature {
    let f = |name: &str, kind| SignatureFeature { name: name.into(), kind, nullable: true };
    Signature {
        features: vec![f("x", ValueType::Float), f("t", ValueType::Category)],
        positive_label: "yes".into(),
        negative_label: "no".into(),
    }
}

fn row(seed: &mut u64, shift: f64, missing: f64) -> Vec<Value> {
    let x = (0..12).map(|_| random(seed)).sum::<f64>() - 6.0 + shift;
    let t = ["a", "b", "c"][(random(seed) * 3.0) as usize];
    vec![if random(seed) < missing { Value::Null } else { Value::Float(x) }, Value::text(t)]
}

fn day(n: i64) -> Timestamp {
    Timestamp(0) + Span::days(n)
}

fn watch() -> Watch {
    let mut seed = 1;
    let rows: Vec<(Timestamp, Vec<Value>)> = (0..20_000).map(|i| (day(i / 1000), row(&mut seed, 0.0, 0.01))).collect();
    let sampled = rows.iter().map(|(time, r)| Sampled { time: *time, vector: r, score: Some(0.2) });
    let reference = Reference::build(&signature(), sampled, Span::days(1), Span::days(1));
    assert!(reference.columns.iter().all(|c| c.floor < 0.02), "a reference without trend is like itself");
    let mut w = Watch::new("m", DriftSpec::default());
    w.follow("v1", Some(Arc::new(reference)));
    w
}

fn feed(w: &mut Watch, at: i64, rows: usize, shift: f64, missing: f64) -> WindowDrift {
    let mut seed = at as u64 + 77;
    for _ in 0..rows {
        w.count("v1", day(at), &row(&mut seed, shift, missing), Some(0.2));
    }
    let mut judged = w.advance(day(at + 1) + Span::hours(2));
    assert_eq!(judged.len(), 1, "each window is judged once, when it is over");
    judged.remove(0)
}

#[test]
fn bins_count_every_value_once() {
    let b = Binning::numeric((0..1000).map(f64::from).chain([f64::NAN, f64::INFINITY]).collect());
    for (value, missing) in
        [(Value::Null, true), (Value::text("a"), true), (Value::Float(f64::NAN), true), (Value::Int(5), false)]
    {
        assert_eq!(b.of(&value) == MISSING, missing, "{value:?}");
    }
    assert!(b.of(&Value::Float(-1e300)) == 1 && b.of(&Value::Float(1e300)) == b.bins() - 1);
    // Nine tenths are one value: it has a bin of its own.
    let atom = Binning::numeric((0..1000).map(|i| if i % 10 == 0 { f64::from(i) } else { 0.5 }).collect());
    let (below, at, above) = (atom.of(&Value::Float(0.4)), atom.of(&Value::Float(0.5)), atom.of(&Value::Float(0.6)));
    assert!(below < at && at < above);
    let names = Binning::category(&[("a", 5), ("b", 9)].into());
    assert_eq!(["b", "a", "z"].map(|t| names.of(&Value::text(t))), [1, 2, 3]);
    assert_eq!((names.label(3, 3).as_str(), names.label(0, 0).as_str()), ("other", "missing"));
}

#[test]
fn a_shift_is_seen_at_once_and_holds_after_the_second_window() {
    let mut w = watch();
    for d in 0..8 {
        let judged = feed(&mut w, d, 1000, 0.0, 0.01);
        assert_eq!((judged.state, judged.level), (State::Judged, Level::None), "{judged:?}");
    }
    let first = feed(&mut w, 8, 1000, 0.8, 0.01);
    let x = |j: &WindowDrift, a| j.features.iter().find(|f| f.feature == "x" && f.against == a).unwrap().clone();
    for against in [Against::Reference, Against::Recent] {
        let f = x(&first, against);
        assert!(f.window_level >= Level::Alert && f.level == Level::None && f.significant, "{f:?}");
    }
    let second = feed(&mut w, 9, 1000, 0.8, 0.01);
    assert_eq!(x(&second, Against::Reference).level, Level::Alert);
    assert!(second.features[0].explanation.starts_with("x: "), "{:?}", second.features[0]);
    let t = second.features.iter().find(|f| f.feature == "t").unwrap();
    assert_eq!(t.window_level, Level::None);
    // One good window ends nothing yet, two do.
    assert_eq!(x(&feed(&mut w, 10, 1000, 0.0, 0.01), Against::Reference).level, Level::Alert);
    assert_eq!(x(&feed(&mut w, 11, 1000, 0.0, 0.01), Against::Reference).level, Level::None);
    let asked = w.report(Some(day(8)), Some(day(9)), Some("x"));
    let f = &asked.windows[0].features[0];
    assert!(asked.windows.len() == 1 && f.bars.len() >= 10, "{asked:?}");
    for side in [|b: &Bar| b.reference, |b: &Bar| b.window] {
        assert!((f.bars.iter().map(side).sum::<f64>() - 1.0).abs() < 1e-9);
    }
    assert!(histograms(&f.bars).lines().count() == f.bars.len());
}

#[test]
fn missing_values_are_named_and_few_rows_say_nothing() {
    let mut w = watch();
    assert_eq!(feed(&mut w, 0, 499, 5.0, 0.0).state, State::NotEnoughData);
    let judged = feed(&mut w, 1, 800, 0.0, 0.4);
    let f = &judged.features[0];
    assert!(f.feature == "x" && (f.missing - 0.4).abs() < 0.06 && f.explanation.contains("are missing"), "{f:?}");
    w.follow("v2", None);
    let all = w.report(None, None, None);
    assert_eq!((all.without_reference, all.windows.len()), (vec!["v2".to_string()], 2));
    w.count("v1", day(2), &row(&mut 5, 0.0, 0.0), None);
    assert_eq!(w.report(Some(day(2)), None, None).windows[0].state, State::Open);
}

#[test]
fn a_season_inside_the_reference_is_its_floor() {
    let mut seed = 3;
    let mut at = |d: i64| row(&mut seed, (d % 10) as f64 / 4.0, 0.0);
    let rows: Vec<(Timestamp, Vec<Value>)> = (0..20_000).map(|i| (day(i / 1000), at(i / 1000))).collect();
    let sampled = rows.iter().map(|(time, r)| Sampled { time: *time, vector: r, score: None });
    let moving = Reference::build(&signature(), sampled, Span::days(1), Span::days(1));
    assert!(moving.columns[0].floor > 0.25 && moving.columns[1].floor < 0.02, "{moving:?}");
    assert_eq!(moving.columns.len(), 2, "no score, no column for it");
}

#[test]
fn hours_meet_the_same_hours() {
    let mut seed = 9;
    let hour = |h: i64| Timestamp(0) + Span::hours(h);
    // The mean swings over the day.
    let swing = |h: i64| ((h % 24) as f64 / 24.0 * std::f64::consts::TAU).sin();
    let rows: Vec<(Timestamp, Vec<Value>)> =
        (0..24 * 10).flat_map(|h| (0..100).map(move |_| h)).map(|h| (hour(h), row(&mut seed, swing(h), 0.0))).collect();
    let sampled = rows.iter().map(|(time, r)| Sampled { time: *time, vector: r, score: None });
    let reference = Arc::new(Reference::build(&signature(), sampled, Span::hours(1), Span::days(1)));
    assert_eq!(reference.columns[0].phases.len(), 24);
    let spec = DriftSpec { window: Span::hours(1), keep: 100, ..DriftSpec::default() };
    let mut w = Watch::new("m", spec);
    w.follow("v", Some(reference));
    let mut seed = 10;
    let mut worst = Level::None;
    for h in 240..264 {
        for _ in 0..600 {
            w.count("v", hour(h), &row(&mut seed, swing(h), 0.0), None);
        }
        let judged = w.advance(hour(h + 2));
        worst = worst.max(judged.iter().flat_map(|j| &j.features).map(|f| f.window_level).max().unwrap_or_default());
    }
    assert!(worst < Level::Warn, "{worst:?}");
}

#[test]
fn discoveries_by_rank() {
    // Benjamini and Hochberg (1995), table of their example: four discoveries at q = 0.05.
    let p = [
        0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590,
        1.0,
    ];
    let found = significant(&p.map(Some), 0.05);
    assert_eq!(found.iter().filter(|f| **f).count(), 4);
    assert!(found[..4].iter().all(|f| *f));
    assert_eq!(significant(&[None, Some(0.9)], 0.05), [false, false]);
}

#[test]
fn normal_rates_have_an_upper_bound() {
    assert!((upper_rate(0, 1000) - (1.0 - 100f64.powf(-1e-3))).abs() < 1e-9);
    let upper = upper_rate(50, 1000);
    assert!(upper > 0.065 && upper < 0.08, "{upper}");
    assert_eq!(upper_rate(0, 0), 1.0);
}

proptest! {
    #[test]
    fn psi_is_not_negative_and_zero_for_equal_shares(counts in proptest::collection::vec(1u32..500, 12), k in 1u32..4) {
        let b = Binning::numeric((0..10).map(f64::from).collect());
        let mut reference = counts.clone();
        reference.resize(b.bins(), 0);
        let same: Vec<u32> = reference.iter().map(|c| c * k).collect();
        let c = compare(&b, &reference, &same).unwrap();
        prop_assert!(c.psi < 0.01 && c.p_value > 0.99, "{c:?}");
        let mut other = reference.clone();
        other.reverse();
        let c = compare(&b, &reference, &other).unwrap();
        prop_assert!(c.psi >= 0.0 && (0.0..=1.0).contains(&c.p_value));
        prop_assert!((c.bars.iter().map(|b| b.window).sum::<f64>() - 1.0).abs() < 1e-9);
    }

    #[test]
    fn levels_hold_when_enough_windows_reach_them(levels in proptest::collection::vec(0usize..4, 0..4)) {
        let all = [Level::None, Level::Notice, Level::Warn, Level::Alert];
        let levels: Vec<Level> = levels.into_iter().map(|i| all[i]).collect();
        let held = persistent(&levels, 2);
        prop_assert!(held == Level::None || levels.iter().filter(|l| **l >= held).count() >= 2);
    }
}

/// Rows of two groups, of which the second has another value; `share` of them are of the second.
fn mixed(w: &mut Watch, d: i64, share: f64, shift: f64) -> Vec<WindowDrift> {
    let mut seed = d as u64 + 7;
    for _ in 0..1000 {
        let second = random(&mut seed) < share;
        let x = (0..12).map(|_| random(&mut seed)).sum::<f64>() - 6.0 + if second { 3.0 } else { 0.0 } + shift;
        w.count("v1", day(d), &[Value::Float(x), Value::text(if second { "b" } else { "a" })], Some(0.2));
    }
    w.advance(day(d + 1) + Span::hours(2))
}

fn mixed_watch() -> Watch {
    let mut seed = 1;
    let row = |seed: &mut u64| {
        let second = random(seed) < 0.2;
        let x = (0..12).map(|_| random(seed)).sum::<f64>() - 6.0 + if second { 3.0 } else { 0.0 };
        vec![Value::Float(x), Value::text(if second { "b" } else { "a" })]
    };
    let rows: Vec<(Timestamp, Vec<Value>)> = (0..20_000).map(|i| (day(i / 1000), row(&mut seed))).collect();
    let sampled = rows.iter().map(|(time, r)| Sampled { time: *time, vector: r, score: None });
    let reference = Reference::build(&signature(), sampled, Span::days(1), Span::days(1));
    let mut w = Watch::new("m", DriftSpec::default());
    w.follow("v1", Some(Arc::new(reference)));
    for d in 30..38 {
        mixed(&mut w, d, 0.2, 0.0);
    }
    w
}

#[test]
fn a_change_of_who_asks_is_told_from_a_change_of_what_they_are() {
    let mut asks = mixed_watch();
    mixed(&mut asks, 38, 0.7, 0.0);
    let case = asks.case("x", None).expect("it was judged");
    let mix = case.mix.clone().expect("windows before");
    assert!(mix.by == "t" && mix.before > 0.3 && mix.after < 0.1 * mix.before, "{case:?}");
    assert!(
        case.drift.window_level >= Level::Alert && case.since == day(38) && !case.drift.bars.is_empty(),
        "{case:?}"
    );
    let mut are = mixed_watch();
    mixed(&mut are, 38, 0.2, 1.5);
    let mix = are.case("x", None).and_then(|c| c.mix).expect("windows before");
    assert!(mix.before > 0.3 && mix.after > 0.8 * mix.before, "{mix:?}");
    // The category itself is not explained by itself.
    assert!(asks.case("t", None).is_some_and(|c| c.mix.is_none()));
    assert!(asks.case("nothing", None).is_none() && asks.case("x", Some(day(30))).is_none());
}

#[test]
fn a_drift_has_a_beginning_and_other_versions_a_first_time() {
    let mut w = mixed_watch();
    for d in 38..42 {
        mixed(&mut w, d, 0.2, 1.5);
    }
    let case = w.case("x", None).expect("it was judged");
    assert_eq!((case.since, case.start, case.versions.len()), (day(38), day(41), 0), "{case:?}");
    w.follow("v2", None);
    w.count("v2", day(41), &[Value::Float(0.0), Value::text("a")], None);
    let v = w.case("x", None).expect("it was judged").versions;
    assert_eq!((v.len(), v[0].at, v[0].what.as_str()), (1, day(41), "v1 -> v2"));
}

/// Bytes of a watch, by what it would be written as.
fn size(w: &Watch) -> usize {
    format!("{w:?}").len()
}

#[test]
fn counting_takes_no_memory_however_many_come() {
    let mut w = mixed_watch();
    let mut seed = 3;
    let rows: Vec<Vec<Value>> = (0..100).map(|_| row(&mut seed, 0.0, 0.01)).collect();
    let count = |w: &mut Watch, days: std::ops::Range<i64>, each: usize| {
        for d in days {
            for n in 0..each {
                w.count("v1", day(d), &rows[n % rows.len()], Some(0.3));
            }
            w.advance(day(d + 1) + Span::hours(2));
        }
    };
    count(&mut w, 40..110, 600);
    let full = size(&w);
    count(&mut w, 110..180, 3000);
    // Only the digits of the counts grow.
    assert!(size(&w) < full + full / 4, "{full} -> {}", size(&w));
}

/// Profiles are JSON: an edge just below a frequent value must come back as it was, or that value changes its bin.
#[test]
fn bins_come_back_from_json_as_they_were() {
    for frequent in (0..400).map(|n| f64::from(n) * 0.37).chain((0..60).map(f64::from)) {
        let sample: Vec<f64> = (0..300).map(|i| if i % 3 == 0 { frequent } else { f64::from(i) / 7.0 }).collect();
        let binning = Binning::numeric(sample);
        let back: Binning = serde_json::from_str(&serde_json::to_string(&binning).unwrap()).unwrap();
        assert_eq!(back.of(&Value::Float(frequent)), binning.of(&Value::Float(frequent)), "{frequent}");
        assert_eq!(back, binning);
    }
}
