//! XGBoost's JSON and UBJSON models (1.6 to 3.x); both hold the same document.

use super::super::{Aggregate, Answer, Forest, Leaf, Missing, Node, Precision, Split, Step, Test, Tree};
use super::bits;
use super::document::{Document, whole};
use crate::calibrate::logit;
use std::collections::HashMap;

/// XGBoost's own limit of a category number.
const MAX_CATEGORY: u64 = 1 << 24;
/// Of all sets of one tree.
const MAX_WORDS: usize = 1 << 20;

/// How a saved base score becomes a margin.
#[derive(Clone, Copy)]
enum Base {
    Margin,
    Probability,
    Mean,
}

pub fn read(document: &Document) -> Result<Forest, String> {
    let learner = document.get("learner")?;
    let parameter = |name: &str| learner.whole(&format!("learner_model_param.{name}"));
    let features = parameter("num_feature")?;
    let classes = parameter("num_class")?;
    if learner.find("learner_model_param.num_target").is_some() && parameter("num_target")? > 1 {
        return Err("the model has several targets; one is evaluated".into());
    }
    let booster = learner.get("gradient_booster")?;
    let (model, weights) = match booster.text("name")? {
        "gbtree" => (booster.get("model")?, None),
        "dart" => (booster.get("gbtree.model")?, Some(booster.numbers("weight_drop")?)),
        other => return Err(format!("booster `{other}` has no trees; `gbtree` and `dart` are read")),
    };
    let outputs = classes.max(1);
    let list = model.list("trees")?;
    let info = model.numbers("tree_info")?;
    if info.len() != list.len() || weights.is_some_and(|w| w.len() != list.len()) {
        return Err(format!("{} trees, but `tree_info` or `weight_drop` are of another number", list.len()));
    }
    let mut trees = Vec::with_capacity(list.len());
    for (t, tree) in list.iter().enumerate() {
        let output = whole(info[t]).ok_or_else(|| format!("tree_info[{t}] is {}", info[t]))?;
        let weight = weights.map_or(1.0, |w| w[t] as f32);
        trees.push(self::tree(tree, output, weight).map_err(|e| format!("tree {t}: {e}"))?);
    }
    let name = learner.text("objective.name")?;
    let major = document.numbers("version").ok().and_then(|v| v.first().copied()).unwrap_or(0.0);
    if name == "binary:logitraw" && major < 3.0 {
        return Err("objective `binary:logitraw` saved before XGBoost 3.0: its base score was no margin then".into());
    }
    let (steps, answer, base) = objective(name)?;
    if answer == Answer::Binary && outputs != 1 {
        return Err(format!("objective `{name}` with {outputs} classes"));
    }
    let base = base_score(learner, base, outputs)?;
    Ok(Forest {
        features,
        precision: Precision::Single,
        trees,
        outputs,
        base,
        aggregate: Aggregate::Sum,
        steps,
        answer,
    })
}

fn tree(tree: &Document, output: usize, weight: f32) -> Result<Tree, String> {
    let vector =
        tree.find("tree_param.size_leaf_vector").map_or(Ok(1), |_| tree.whole("tree_param.size_leaf_vector"))?;
    if vector > 1 {
        return Err("has vector leaves (`multi_strategy=multi_output_tree`); only one value a leaf is read".into());
    }
    let left = tree.numbers("left_children")?;
    let n = left.len();
    let column = |name: &str| match tree.numbers(name) {
        Ok(column) if column.len() == n => Ok(column),
        Ok(column) => Err(format!("`{name}` has {} numbers, expected {n}", column.len())),
        Err(e) => Err(e),
    };
    let right = column("right_children")?;
    let (features, conditions) = (column("split_indices")?, column("split_conditions")?);
    let default_left = column("default_left")?;
    let types = if tree.find("split_type").is_some() { Some(column("split_type")?) } else { None };
    let sets = sets(tree)?;
    let index = |x: f64, what: &str| whole(x).ok_or_else(|| format!("{what} {x}"));
    let node = |i: usize| -> Result<Node, String> {
        if left[i] == -1.0 {
            return Ok(Node::Leaf(Leaf::One(f64::from(conditions[i] as f32 * weight))));
        }
        let (l, r) = (index(left[i], "child")?, index(right[i], "child")?);
        let feature = index(features[i], "feature")?;
        let goes_left = default_left[i] != 0.0;
        let split = match types.map_or(0.0, |t| t[i]) {
            0.0 => {
                let (test, missing) = (Test::Below(f64::from(conditions[i] as f32)), Missing::Nan { yes: goes_left });
                Split { feature, test, missing, yes: l, no: r }
            }
            // The categories of the set go right.
            1.0 => {
                let set = sets.get(&i).ok_or_else(|| format!("node {i} has no set"))?;
                let (test, missing) = (Test::In(set.clone()), Missing::Nan { yes: !goes_left });
                Split { feature, test, missing, yes: r, no: l }
            }
            other => return Err(format!("node {i}: split type {other} is not known")),
        };
        Ok(Node::Split(split))
    };
    Ok(Tree { root: 0, nodes: (0..n).map(node).collect::<Result<_, _>>()?, output })
}

/// Node to the bits of its set.
fn sets(tree: &Document) -> Result<HashMap<usize, Vec<u64>>, String> {
    if tree.find("categories_nodes").is_none() {
        return Ok(HashMap::new());
    }
    let categories = tree.numbers("categories")?;
    let (nodes, starts) = (tree.numbers("categories_nodes")?, tree.numbers("categories_segments")?);
    let sizes = tree.numbers("categories_sizes")?;
    if nodes.len() != starts.len() || nodes.len() != sizes.len() {
        return Err("`categories_nodes`, `_segments` and `_sizes` differ in length".into());
    }
    let mut words = 0;
    let set = |i: usize| {
        let part = || {
            let (start, size) = (whole(starts[i])?, whole(sizes[i])?);
            Some((whole(nodes[i])?, categories.get(start..start.checked_add(size)?)?))
        };
        let (node, part) = part().ok_or_else(|| format!("set {i} is not among the categories"))?;
        let numbers: Option<Vec<u64>> = part.iter().map(|c| whole(*c).map(|c| c as u64)).collect();
        let numbers = numbers.ok_or_else(|| format!("set {i} holds what is no category"))?;
        let bits = bits(numbers.iter().copied(), MAX_CATEGORY)?;
        words += bits.len();
        if words > MAX_WORDS {
            return Err(format!("the category sets have more than {MAX_WORDS} words"));
        }
        Ok((node, bits))
    };
    (0..nodes.len()).map(set).collect()
}

/// `"5E-1"`, or since 3.1 `"[5E-1]"` with one for each class.
fn base_score(learner: &Document, kind: Base, outputs: usize) -> Result<Vec<f64>, String> {
    let text = learner.text("learner_model_param.base_score")?;
    let numbers: Result<Vec<f32>, _> = text.trim_matches(['[', ']']).split(',').map(|n| n.trim().parse()).collect();
    let numbers = numbers.map_err(|_| format!("base_score is {text:?}, no number"))?;
    let margin = |b: f32| {
        let b = f64::from(b);
        f64::from(match kind {
            Base::Margin => b,
            Base::Probability => logit(b),
            Base::Mean => b.ln(),
        } as f32)
    };
    let base: Vec<f64> = numbers.into_iter().map(margin).collect();
    match base.as_slice() {
        [one] => Ok(vec![*one; outputs.min(super::super::MAX_OUTPUTS)]),
        all if all.len() == outputs => Ok(base),
        all => Err(format!("base_score has {} numbers for {outputs} outputs", all.len())),
    }
}

fn objective(name: &str) -> Result<(Vec<Step>, Answer, Base), String> {
    let logistic = vec![Step::Logistic { k: 1.0 }];
    Ok(match name {
        "binary:logistic" => (logistic, Answer::Binary, Base::Probability),
        "reg:logistic" => (logistic, Answer::Values, Base::Probability),
        "binary:logitraw" => (Vec::new(), Answer::Values, Base::Margin),
        "binary:hinge" => (vec![Step::Positive], Answer::Values, Base::Margin),
        "multi:softprob" => (vec![Step::Softmax], Answer::Classes, Base::Margin),
        "multi:softmax" => (vec![Step::ArgMax], Answer::Values, Base::Margin),
        "count:poisson" | "reg:gamma" | "reg:tweedie" | "survival:cox" => (vec![Step::Exp], Answer::Values, Base::Mean),
        "survival:aft" => (vec![Step::Exp], Answer::Values, Base::Mean),
        "reg:squarederror"
        | "reg:linear"
        | "reg:squaredlogerror"
        | "reg:pseudohubererror"
        | "reg:absoluteerror"
        | "reg:quantileerror"
        | "rank:pairwise"
        | "rank:ndcg"
        | "rank:map" => (Vec::new(), Answer::Values, Base::Margin),
        other => return Err(format!("objective `{other}` is not known: its scores cannot be turned into answers")),
    })
}
