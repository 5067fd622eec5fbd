//! `TreeEnsembleClassifier` and `TreeEnsembleRegressor` of ai.onnx.ml 1 to 3, as onnxruntime evaluates them where
//! the specification leaves it open (two classes with the weights of one).

use super::super::{Aggregate, Answer, Forest, Leaf, MAX_OUTPUTS, MAX_TREES};
use super::super::{Missing, Node, Precision, Split, Step, Test, Tree};
use super::onnx::Operator;
use std::collections::HashMap;

pub fn forest(op: &Operator<'_>, precision: Precision, features: Option<usize>) -> Result<Forest, String> {
    let (classifier, prefix) = match op.op {
        "TreeEnsembleClassifier" => (true, "class"),
        "TreeEnsembleRegressor" => (false, "target"),
        other => return Err(format!("operator `{other}` (ai.onnx.ml 5) is not read; export with ai.onnx.ml 3")),
    };
    let mut weights = weights(op, prefix)?;
    let classes = if classifier {
        let labels = op.integers("classlabels_int64s")?.len().max(op.strings("classlabels_strings")?.len());
        if labels < 2 {
            return Err(format!("{labels} class labels"));
        }
        labels
    } else {
        let targets = op.integer("n_targets")?.unwrap_or(1);
        usize::try_from(targets).map_err(|_| format!("{targets} targets"))?
    };
    if classes > MAX_OUTPUTS {
        return Err(format!("{classes} outputs; at most {MAX_OUTPUTS} are taken"));
    }
    // Two classes, and the leaves know one of them: its score decides.
    let first = weights.all.first().map_or(0, |w| w.0);
    let one_of_two = classifier && classes == 2 && weights.all.iter().all(|(id, _)| *id == first);
    if one_of_two {
        weights.all.iter_mut().for_each(|(id, _)| *id = 0);
    }
    let outputs = if one_of_two { 1 } else { classes };
    let mut base = op.floats("base_values")?;
    if one_of_two && base.len() == 2 {
        base.remove(0);
    }
    let (steps, answer) = if classifier {
        let positive = weights.all.iter().all(|(_, w)| *w >= 0.0);
        transform(op.string("post_transform")?.unwrap_or("NONE"), one_of_two, positive, classes)?
    } else {
        match op.string("post_transform")?.unwrap_or("NONE") {
            "NONE" => (Vec::new(), Answer::Values),
            "LOGISTIC" => (vec![Step::Logistic { k: 1.0 }], Answer::Values),
            other => return Err(format!("post_transform {other} of a regressor is not known")),
        }
    };
    let (trees, most) = trees(op, &weights)?;
    let aggregate = match op.string("aggregate_function")?.unwrap_or("SUM") {
        "SUM" => Aggregate::Sum,
        "AVERAGE" if base.is_empty() => Aggregate::Mean(trees.len() as f64),
        other => return Err(format!("aggregate_function {other} is not known")),
    };
    Ok(Forest { features: features.unwrap_or(most + 1), precision, trees, outputs, base, aggregate, steps, answer })
}

fn transform(name: &str, one_of_two: bool, positive: bool, classes: usize) -> Result<(Vec<Step>, Answer), String> {
    let logistic = Step::Logistic { k: 1.0 };
    let answer = if classes == 2 { Answer::Binary } else { Answer::Classes };
    let steps = match (name, one_of_two) {
        ("NONE", true) if positive => vec![Step::WithComplement],
        ("NONE", true) => return Ok((vec![Step::WithNegative], Answer::Values)),
        ("LOGISTIC", true) => vec![logistic, Step::WithComplement],
        ("NONE", false) => Vec::new(),
        ("LOGISTIC", false) => vec![logistic],
        ("SOFTMAX", false) => vec![Step::Softmax],
        (other, _) => return Err(format!("post_transform {other} is not known")),
    };
    Ok((steps, answer))
}

/// (output, value) of every leaf, by (tree, node).
struct Weights {
    all: Vec<(usize, f64)>,
    of: HashMap<(i64, i64), Vec<u32>>,
}

fn weights(op: &Operator<'_>, prefix: &str) -> Result<Weights, String> {
    let of = |name: &str| op.integers(&format!("{prefix}_{name}"));
    let (trees, nodes, ids) = (of("treeids")?, of("nodeids")?, of("ids")?);
    let values = op.floats(&format!("{prefix}_weights"))?;
    if trees.len() != values.len() || nodes.len() != values.len() || ids.len() != values.len() {
        return Err(format!("`{prefix}_treeids`, `_nodeids`, `_ids` and `_weights` differ in length"));
    }
    let mut by_leaf: HashMap<(i64, i64), Vec<u32>> = HashMap::new();
    for i in 0..values.len() {
        by_leaf.entry((trees[i], nodes[i])).or_default().push(i as u32);
    }
    let id = |id: i64| usize::try_from(id).map_err(|_| format!("`{prefix}_ids` holds {id}"));
    let ids = ids.into_iter().map(id).collect::<Result<Vec<_>, _>>()?;
    Ok(Weights { all: ids.into_iter().zip(values).collect(), of: by_leaf })
}

/// The trees in the order of the file, and the highest feature.
fn trees(op: &Operator<'_>, weights: &Weights) -> Result<(Vec<Tree>, usize), String> {
    let values = op.floats("nodes_values")?;
    let n = values.len();
    let column = |name: &str| match op.integers(name) {
        Ok(c) if c.len() == n => Ok(c),
        Ok(c) => Err(format!("`{name}` has {} numbers, expected {n}", c.len())),
        Err(e) => Err(e),
    };
    let (tree_ids, node_ids) = (column("nodes_treeids")?, column("nodes_nodeids")?);
    let features = column("nodes_featureids")?;
    let (yes, no) = (column("nodes_truenodeids")?, column("nodes_falsenodeids")?);
    let tracks = op.integers("nodes_missing_value_tracks_true")?;
    let modes = op.strings("nodes_modes")?;
    if modes.len() != n || !(tracks.is_empty() || tracks.len() == n) {
        return Err("`nodes_modes` or `nodes_missing_value_tracks_true` have another length".into());
    }
    let mut tree_of = HashMap::new();
    let mut place = HashMap::with_capacity(n);
    let mut sizes: Vec<usize> = Vec::new();
    for i in 0..n {
        let t = *tree_of.entry(tree_ids[i]).or_insert(sizes.len());
        if t == sizes.len() {
            sizes.push(0);
        }
        if place.insert((tree_ids[i], node_ids[i]), sizes[t]).is_some() {
            return Err(format!("tree {} has two nodes {}", tree_ids[i], node_ids[i]));
        }
        sizes[t] += 1;
    }
    if sizes.len() > MAX_TREES {
        return Err(format!("{} trees; at most {MAX_TREES} are taken", sizes.len()));
    }
    let empty = |size: &usize| Tree { root: 0, nodes: Vec::with_capacity(*size), output: 0 };
    let mut trees: Vec<Tree> = sizes.iter().map(empty).collect();
    let mut most = 0;
    for i in 0..n {
        let at = |e: String| format!("tree {}, node {}: {e}", tree_ids[i], node_ids[i]);
        let tree = &mut trees[tree_of[&tree_ids[i]]];
        if modes[i] == b"LEAF" {
            let pairs = weights.of.get(&(tree_ids[i], node_ids[i]));
            let pairs = pairs.into_iter().flatten().map(|w| weights.all[*w as usize]);
            tree.nodes.push(Node::Leaf(Leaf::Many(pairs.collect())));
            continue;
        }
        let child =
            |id: i64| place.get(&(tree_ids[i], id)).copied().ok_or_else(|| at(format!("there is no node {id}")));
        let feature = usize::try_from(features[i]).map_err(|_| at(format!("feature {}", features[i])))?;
        most = most.max(feature);
        let (yes, no) = (child(yes[i])?, child(no[i])?);
        let missing = tracks.get(i).is_some_and(|t| *t != 0);
        tree.nodes.push(Node::Split(split(modes[i], values[i], feature, (yes, no), missing).map_err(at)?));
    }
    for tree in &mut trees {
        one_output(tree);
        sets(tree)?;
    }
    Ok((trees, most))
}

fn split(mode: &[u8], t: f64, feature: usize, (yes, no): (usize, usize), missing_true: bool) -> Result<Split, String> {
    // x > t is not (x <= t), and x >= t not (x < t); no number satisfies none of them.
    let (test, swap) = match mode {
        b"BRANCH_LEQ" => (Test::AtMost(t), false),
        b"BRANCH_LT" => (Test::Below(t), false),
        b"BRANCH_GT" => (Test::AtMost(t), true),
        b"BRANCH_GTE" => (Test::Below(t), true),
        b"BRANCH_EQ" => (Test::Equal(t), false),
        b"BRANCH_NEQ" => (Test::Equal(t), true),
        other => return Err(format!("mode {} is not known", String::from_utf8_lossy(other))),
    };
    // `!=` holds for no number.
    let missing_true = missing_true || mode == b"BRANCH_NEQ";
    let (yes, no) = if swap { (no, yes) } else { (yes, no) };
    Ok(Split { feature, test, missing: Missing::Nan { yes: missing_true != swap }, yes, no })
}

/// Where all leaves of a tree add to one output, they are plain numbers.
fn one_output(tree: &mut Tree) {
    let leaves =
        || tree.nodes.iter().filter_map(|n| if let Node::Leaf(Leaf::Many(pairs)) = n { Some(pairs) } else { None });
    let output = leaves().flatten().next().map_or(0, |(o, _)| *o);
    if !leaves().all(|pairs| pairs.len() <= 1 && pairs.iter().all(|(o, _)| *o == output)) {
        return;
    }
    tree.output = output;
    for node in &mut tree.nodes {
        if let Node::Leaf(leaf @ Leaf::Many(_)) = node {
            let Leaf::Many(pairs) = leaf else { continue };
            *leaf = Leaf::One(pairs.first().map_or(0.0, |(_, v)| *v));
        }
    }
}

/// Highest category of a chain of equalities.
const MAX_CATEGORY: f64 = 65_535.0;

/// A split on a set of categories is exported as a chain of equalities that all lead to the same subtree. It is made
/// one split again: a chain is no tree.
fn sets(tree: &mut Tree) -> Result<(), String> {
    let link = |node: Option<&Node>| match node {
        Some(Node::Split(Split { test: Test::Equal(c), feature, missing, yes, no }))
            if (0.0..=MAX_CATEGORY).contains(c) && c.fract() == 0.0 =>
        {
            Some((*c as u64, (*feature, *missing, *yes), *no))
        }
        _ => None,
    };
    let mut seen = vec![false; tree.nodes.len()];
    let mut open = vec![tree.root];
    while let Some(at) = open.pop() {
        if seen.get(at).copied().unwrap_or(true) {
            continue; // out of range, or not a tree: what is built of it says so
        }
        seen[at] = true;
        let Some(Node::Split(split)) = tree.nodes.get(at) else { continue };
        let (yes, mut no) = (split.yes, split.no);
        if let Some((first, same, next)) = link(tree.nodes.get(at)) {
            let mut categories = vec![first];
            no = next;
            while let Some((category, these, next)) = link(tree.nodes.get(no))
                && these == same
                && !std::mem::replace(&mut seen[no], true)
            {
                categories.push(category);
                no = next;
            }
            if let (Some(Node::Split(split)), true) = (tree.nodes.get_mut(at), categories.len() > 1) {
                split.test = Test::OneOf(super::bits(categories.into_iter(), MAX_CATEGORY as u64)?);
                split.no = no;
            }
        }
        open.extend([yes, no]);
    }
    Ok(())
}
