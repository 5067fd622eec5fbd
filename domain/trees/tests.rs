use super::*;
use proptest::prelude::*;

mod files;

fn split(feature: usize, test: Test, missing: Missing, yes: usize, no: usize) -> Node {
    Node::Split(Split { feature, test, missing, yes, no })
}

fn leaf(value: f64) -> Node {
    Node::Leaf(Leaf::One(value))
}

fn forest(precision: Precision, trees: Vec<Vec<Node>>) -> Forest {
    let tree = |nodes| Tree { root: 0, nodes, output: 0 };
    Forest {
        features: 2,
        precision,
        trees: trees.into_iter().map(tree).collect(),
        outputs: 1,
        base: Vec::new(),
        aggregate: Aggregate::Sum,
        steps: Vec::new(),
        answer: Answer::Values,
    }
}

fn one(forest: Forest, row: &[f64]) -> Vec<f64> {
    forest.build().unwrap().predict_one(row, &mut Scratch::default()).to_vec()
}

/// 1 if the test says yes to `x`.
fn says(precision: Precision, test: Test, missing: Missing, x: f64) -> bool {
    let nodes = vec![split(0, test, missing, 1, 2), leaf(1.0), leaf(0.0)];
    one(forest(precision, vec![nodes]), &[x, 0.0]) == [1.0]
}

const NAN_NO: Missing = Missing::Nan { yes: false };

#[test]
fn comparisons_are_those_of_the_library() {
    use Precision::{Double, Single};
    let above = 0.1f64.next_up();
    let table = [
        (Double, Test::AtMost(0.1), 0.1, true),
        (Double, Test::AtMost(0.1), above, false),
        // Both round to the same f32.
        (Single, Test::AtMost(0.1), above, true),
        (Single, Test::AtMost(0.1), f64::from(0.1f32.next_up()), false),
        (Double, Test::Below(0.1), 0.1, false),
        (Double, Test::Below(0.1), 0.1f64.next_down(), true),
        (Single, Test::Below(0.1), 0.1, false),
        (Single, Test::Below(0.1), f64::from(0.1f32.next_down()), true),
        (Double, Test::Below(0.0), -0.0, false),
        (Double, Test::Below(0.0), -f64::from_bits(1), true),
        (Double, Test::AtMost(f64::INFINITY), f64::MAX, true),
        (Single, Test::AtMost(f64::INFINITY), 1e38, true),
        (Double, Test::AtMost(f64::NEG_INFINITY), -1e300, false),
        (Double, Test::Equal(2.0), 2.0, true),
        (Double, Test::Equal(2.0), 2.5, false),
        (Double, Test::In(vec![0b101]), 2.0, true),
        (Double, Test::In(vec![0b101]), 2.9, true),
        (Double, Test::OneOf(vec![0b101]), 2.9, false),
        (Double, Test::OneOf(vec![0b101]), 2.0, true),
        (Double, Test::In(vec![0b101]), 1.0, false),
        (Double, Test::In(vec![0b101]), -1.0, false),
        (Double, Test::In(vec![0b101]), 64.0, false),
        (Double, Test::In(vec![0b101]), 1e300, false),
        (Double, Test::In(vec![0, 1]), 64.0, true),
    ];
    for (precision, test, x, expected) in table {
        assert_eq!(says(precision, test.clone(), NAN_NO, x), expected, "{precision:?} {test:?} {x:?}");
    }
}

#[test]
fn missing_values_go_where_the_split_says() {
    for test in [Test::AtMost(5.0), Test::Below(5.0), Test::Equal(5.0), Test::In(vec![32])] {
        let says = |missing, x| says(Precision::Double, test.clone(), missing, x);
        for yes in [true, false] {
            assert_eq!(says(Missing::Nan { yes }, f64::NAN), yes, "{test:?}");
            assert_eq!(says(Missing::Zero { yes }, f64::NAN), yes, "{test:?}");
            for zero in [0.0, -0.0, 1e-36] {
                assert_eq!(says(Missing::Zero { yes }, zero), yes, "{test:?} {zero}");
            }
            // 5 is no missing value of any kind, and only `<` says no.
            let five = !matches!(test, Test::Below(_));
            assert_eq!(says(Missing::Nan { yes }, 5.0), five, "{test:?}");
            assert_eq!(says(Missing::Zero { yes }, 5.0), five, "{test:?}");
        }
        assert_eq!(says(Missing::IsZero, f64::NAN), says(Missing::IsZero, 0.0), "{test:?}");
    }
    let at_most = Test::AtMost(-1.0);
    assert!(!says(Precision::Double, at_most.clone(), Missing::IsZero, f64::NAN), "0 is above -1");
    assert!(says(Precision::Double, at_most, Missing::Nan { yes: true }, f64::NAN));
}

#[test]
fn what_is_no_forest_is_refused_with_its_place() {
    let s = |yes, no| split(0, Test::AtMost(1.0), NAN_NO, yes, no);
    let of = |nodes: Vec<Node>| forest(Precision::Double, vec![vec![leaf(0.0)], nodes]);
    let mut chain: Vec<Node> = (0..5000).map(|i| s(i + 1, 5000 + i + 1)).collect();
    chain.extend((0..5001).map(|_| leaf(0.0)));
    type Change = fn(&mut Forest);
    let table: [(Vec<Node>, Change, &str); 14] = [
        (vec![], |_| (), "names node 0 of 0"),
        (vec![s(0, 0)], |_| (), "node 0 is reached twice"),
        (vec![s(1, 1), leaf(0.0)], |_| (), "node 1 is reached twice"),
        (vec![s(1, 2), leaf(0.0)], |_| (), "names node 2 of 2"),
        (vec![leaf(f64::NAN)], |_| (), "not finite"),
        (vec![split(9, Test::AtMost(1.0), NAN_NO, 1, 2), leaf(0.0), leaf(0.0)], |_| (), "feature 9, there are 2"),
        (vec![split(0, Test::AtMost(f64::NAN), NAN_NO, 1, 2), leaf(0.0), leaf(0.0)], |_| (), "no number"),
        (chain, |_| (), "deeper than 4096"),
        (vec![leaf(0.0)], |f| f.trees[1].output = 3, "output 3, there are 1"),
        (vec![leaf(0.0)], |f| f.trees.clear(), "0 trees"),
        (vec![leaf(0.0)], |f| f.features = usize::MAX, "features; 1.."),
        (vec![leaf(0.0)], |f| f.outputs = usize::MAX, "outputs; 1.."),
        (vec![leaf(0.0)], |f| f.base = vec![0.0; 2], "2 base scores"),
        (vec![leaf(0.0)], |f| f.aggregate = Aggregate::Mean(0.0), "divided by 0"),
    ];
    for (nodes, change, expected) in table {
        let mut forest = of(nodes);
        change(&mut forest);
        let said = forest.build().unwrap_err();
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn sums_go_through_base_mean_and_steps() {
    let trees = || vec![vec![leaf(1.0)], vec![leaf(2.0)]];
    let with = |change: &dyn Fn(&mut Forest)| {
        let mut f = forest(Precision::Double, trees());
        change(&mut f);
        one(f, &[0.0, 0.0])
    };
    assert_eq!(with(&|_| ()), [3.0]);
    assert_eq!(with(&|f| f.base = vec![0.5]), [3.5]);
    assert_eq!(with(&|f| f.aggregate = Aggregate::Mean(2.0)), [1.5]);
    let two = |f: &mut Forest| (f.outputs, f.trees[1].output) = (2, 1);
    assert_eq!(with(&two), [1.0, 2.0]);
    // An output with no vote of its own, a leaf with two.
    let vector = |f: &mut Forest| {
        f.outputs = 3;
        f.trees[0].nodes = vec![Node::Leaf(Leaf::Many(vec![(2, 5.0), (0, 1.0)]))];
    };
    assert_eq!(with(&vector), [3.0, 0.0, 5.0]);
    let e = 1f64.exp();
    for (steps, expected) in [
        (vec![Step::Softmax], vec![1.0 / (1.0 + e), e / (1.0 + e)]),
        (vec![Step::ArgMax], vec![1.0]),
        (vec![Step::L1], vec![1.0 / 3.0, 2.0 / 3.0]),
        (vec![Step::Exp], vec![e, e * e]),
        (vec![Step::SignedSquare, Step::Linear { a: -1.0, b: 0.0 }, Step::SignedSquare], vec![-1.0, -16.0]),
        (vec![Step::Softplus], vec![(1.0 + e).ln(), (1.0 + e * e).ln()]),
        (vec![Step::Linear { a: 1.0, b: -1.5 }, Step::Positive], vec![0.0, 1.0]),
        (vec![Step::Logistic { k: 2.0 }], vec![1.0 / (1.0 + (-2f64).exp()), 1.0 / (1.0 + (-4f64).exp())]),
    ] {
        let got = with(&|f| {
            two(f);
            f.steps = steps.clone();
        });
        assert!(got.iter().zip(&expected).all(|(g, x)| (g - x).abs() < 1e-12), "{steps:?}: {got:?} {expected:?}");
        assert_eq!(got.len(), expected.len(), "{steps:?}");
    }
    assert_eq!(with(&|f| f.steps = vec![Step::WithComplement]), [-2.0, 3.0]);
    assert_eq!(with(&|f| f.steps = vec![Step::WithNegative]), [-3.0, 3.0]);
    // Extreme sums stay numbers.
    let extreme = |f: &mut Forest| {
        two(f);
        f.base = vec![1e300, -1e300];
        f.steps = vec![Step::Softmax];
    };
    assert_eq!(with(&extreme), [1.0, 0.0]);
}

#[test]
fn single_precision_adds_in_single_precision() {
    let big = f64::from(2f32.powi(24));
    let f = |precision| forest(precision, vec![vec![leaf(big)], vec![leaf(1.0)], vec![leaf(-big)]]);
    assert_eq!(one(f(Precision::Single), &[0.0, 0.0]), [0.0]);
    assert_eq!(one(f(Precision::Double), &[0.0, 0.0]), [1.0]);
}

/// What a node's test says, written as the libraries' documents do.
fn naive(nodes: &[Node], at: usize, row: &[f64]) -> f64 {
    let split = match &nodes[at] {
        Node::Leaf(Leaf::One(v)) => return *v,
        Node::Leaf(_) => unreachable!(),
        Node::Split(split) => split,
    };
    let x = row[split.feature];
    let (x, missing) = match split.missing {
        Missing::Nan { yes } => (x, x.is_nan().then_some(yes)),
        Missing::Zero { yes } => (x, (x.is_nan() || x.abs() <= 1e-35).then_some(yes)),
        Missing::IsZero => (if x.is_nan() { 0.0 } else { x }, None),
    };
    let yes = missing.unwrap_or(match &split.test {
        Test::AtMost(t) => x <= *t,
        Test::Below(t) => x < *t,
        Test::Equal(t) => x == *t,
        Test::In(w) => x > -1.0 && w.get(x as usize / 64).is_some_and(|b| b >> (x as usize % 64) & 1 == 1),
        Test::OneOf(w) => {
            x >= 0.0 && x.fract() == 0.0 && w.get(x as usize / 64).is_some_and(|b| b >> (x as usize % 64) & 1 == 1)
        }
    });
    naive(nodes, if yes { split.yes } else { split.no }, row)
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![Just(f64::NAN), Just(0.0), (-4i32..70).prop_map(f64::from), -5.0..70.0f64]
}

fn test() -> impl Strategy<Value = Test> {
    prop_oneof![
        4 => (-4i32..70).prop_map(|t| Test::AtMost(t.into())),
        4 => (-4i32..70).prop_map(|t| Test::Below(t.into())),
        1 => (-4i32..70).prop_map(|t| Test::Equal(t.into())),
        1 => prop::collection::vec(any::<u64>(), 1..3).prop_map(Test::In),
        1 => prop::collection::vec(any::<u64>(), 1..3).prop_map(Test::OneOf),
    ]
}

fn missing() -> impl Strategy<Value = Missing> {
    let (nan, zero) = (|yes| Missing::Nan { yes }, |yes| Missing::Zero { yes });
    prop_oneof![any::<bool>().prop_map(nan), any::<bool>().prop_map(zero), Just(Missing::IsZero)]
}

/// A random tree: each split takes one of the places that are still open.
fn nodes() -> impl Strategy<Value = Vec<Node>> {
    prop::collection::vec((0..2usize, test(), missing(), any::<prop::sample::Index>()), 0..20).prop_map(|splits| {
        let mut nodes = vec![leaf(0.0)];
        let mut open = vec![0];
        for (feature, test, missing, at) in splits {
            let place = open.swap_remove(at.index(open.len()));
            let (yes, no) = (nodes.len(), nodes.len() + 1);
            nodes[place] = split(feature, test, missing, yes, no);
            nodes.extend([leaf(yes as f64), leaf(no as f64)]);
            open.extend([yes, no]);
        }
        nodes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_flat_form_answers_as_the_tree_does(
        trees in prop::collection::vec(nodes(), 1..20),
        rows in prop::collection::vec((value(), value()), 1..150),
    ) {
        let ensemble = forest(Precision::Double, trees.clone()).build().unwrap();
        let mut scratch = Scratch::default();
        let flat: Vec<f64> = rows.iter().flat_map(|r| [r.0, r.1]).collect();
        let mut batch = Vec::new();
        ensemble.predict_batch(&flat, &mut scratch, &mut batch);
        for (row, together) in flat.chunks(2).zip(batch) {
            let expected: f64 = trees.iter().map(|t| naive(t, 0, row)).sum();
            prop_assert_eq!(ensemble.predict_one(row, &mut scratch), [expected]);
            prop_assert_eq!(together, expected);
        }
    }
}
