//! LightGBM's text format (`version=v3`, `v4`): `key=value` lines, a header, then one section for each tree.

use super::super::{Aggregate, Answer, Forest, Leaf, Missing, Node, Precision, Split, Step, Test, Tree};
use std::collections::HashMap;
use std::str::FromStr;

/// Bits of `decision_type`.
const CATEGORY: u8 = 1;
const DEFAULT_LEFT: u8 = 2;
/// Limit of one category number.
const MAX_CATEGORY_WORDS: usize = 1 << 20;

pub fn read(text: &str) -> Result<Forest, String> {
    let mut lines = text.lines();
    if lines.next().map(str::trim) != Some("tree") {
        return Err("no LightGBM model: the first line is not `tree`".into());
    }
    let mut sections = sections(lines);
    let header = sections.next().ok_or("the header is missing")?;
    let version = header.get("version").copied().unwrap_or("none");
    if !["v3", "v4"].contains(&version) {
        return Err(format!("version {version} of the text format; v3 and v4 are read"));
    }
    let per_round: usize = header.number("num_tree_per_iteration")?;
    let features = header.number::<usize>("max_feature_idx")?.saturating_add(1);
    let outputs = per_round.max(1);
    let mut trees = Vec::new();
    for (t, section) in sections.enumerate() {
        trees.push(tree(&section, t % outputs).map_err(|e| format!("Tree={t}: {e}"))?);
    }
    if trees.len() % outputs != 0 {
        return Err(format!("{} trees are no whole rounds of {outputs}", trees.len()));
    }
    if header.get("tree_sizes").is_some_and(|sizes| sizes.split_whitespace().count() != trees.len()) {
        return Err(format!("{} trees, `tree_sizes` has another number: the file is cut off", trees.len()));
    }
    let rounds = trees.len() / outputs;
    let averaged = header.get("average_output").is_some();
    let (steps, answer) = objective(header.get("objective").copied().unwrap_or(""), outputs)?;
    Ok(Forest {
        features,
        precision: Precision::Double,
        trees,
        outputs,
        base: Vec::new(),
        aggregate: if averaged { Aggregate::Mean(rounds as f64) } else { Aggregate::Sum },
        steps,
        answer,
    })
}

/// Key to value of one section.
struct Section<'t>(HashMap<&'t str, &'t str>);

/// The header and each tree; ends at `end of trees`.
fn sections<'t>(lines: impl Iterator<Item = &'t str>) -> impl Iterator<Item = Section<'t>> {
    let mut lines = lines.take_while(|l| l.trim() != "end of trees").peekable();
    std::iter::from_fn(move || {
        let mut section = HashMap::new();
        lines.peek()?;
        while let Some(line) = lines.next_if(|l| section.is_empty() || !l.starts_with("Tree=")) {
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            section.insert(key.trim(), value.trim());
        }
        Some(Section(section))
    })
}

impl<'t> Section<'t> {
    fn get(&self, key: &str) -> Option<&&'t str> {
        self.0.get(key)
    }

    fn number<T: FromStr>(&self, key: &str) -> Result<T, String> {
        let text = self.get(key).ok_or_else(|| format!("`{key}` is missing"))?;
        text.parse().map_err(|_| format!("`{key}` is {text:?}, no number"))
    }

    /// Exactly `n` numbers.
    fn list<T: FromStr>(&self, key: &str, n: usize) -> Result<Vec<T>, String> {
        let text = self.get(key).ok_or_else(|| format!("`{key}` is missing"))?;
        let list: Result<Vec<T>, String> =
            text.split_whitespace().map(|x| x.parse().map_err(|_| format!("`{key}` holds {x:?}, no number"))).collect();
        match list? {
            list if list.len() == n => Ok(list),
            list => Err(format!("`{key}` has {} numbers, expected {n}", list.len())),
        }
    }
}

fn tree(section: &Section<'_>, output: usize) -> Result<Tree, String> {
    let leaves: usize = section.number("num_leaves")?;
    if section.get("is_linear").is_some_and(|v| *v != "0") {
        return Err("is linear (`linear_tree=true`); only constant leaves are evaluated".into());
    }
    if leaves == 0 {
        return Err("has no leaves".into());
    }
    let values: Vec<f64> = section.list("leaf_value", leaves)?;
    let splits = leaves - 1;
    let mut nodes = Vec::with_capacity(values.len() + splits);
    if splits > 0 {
        let features: Vec<usize> = section.list("split_feature", splits)?;
        let thresholds: Vec<f64> = section.list("threshold", splits)?;
        let types: Vec<u8> = section.list("decision_type", splits)?;
        let left: Vec<i64> = section.list("left_child", splits)?;
        let right: Vec<i64> = section.list("right_child", splits)?;
        let sets = sets(section)?;
        // A negative child is a leaf: -1 the first.
        let child = |c: i64| if c >= 0 { c as usize } else { (!c) as usize + splits };
        for i in 0..splits {
            let default_left = types[i] & DEFAULT_LEFT != 0;
            let (test, missing) = if types[i] & CATEGORY != 0 {
                let set = sets.get(thresholds[i] as usize).ok_or_else(|| format!("split {i}: there is no such set"))?;
                (Test::In(set.clone()), Missing::Nan { yes: false })
            } else {
                let missing = match types[i] >> 2 & 3 {
                    0 => Missing::IsZero,
                    1 => Missing::Zero { yes: default_left },
                    2 => Missing::Nan { yes: default_left },
                    other => return Err(format!("split {i}: missing type {other} is not known")),
                };
                (Test::AtMost(thresholds[i]), missing)
            };
            let split = Split { feature: features[i], test, missing, yes: child(left[i]), no: child(right[i]) };
            nodes.push(Node::Split(split));
        }
    }
    nodes.extend(values.into_iter().map(|v| Node::Leaf(Leaf::One(v))));
    Ok(Tree { root: 0, nodes, output })
}

/// Bit sets of the categories that go left.
fn sets(section: &Section<'_>) -> Result<Vec<Vec<u64>>, String> {
    let n: usize = section.number("num_cat")?;
    if n == 0 {
        return Ok(Vec::new());
    }
    let bounds: Vec<usize> = section.list("cat_boundaries", n.saturating_add(1))?;
    let total = bounds.last().copied().unwrap_or(0);
    let words: Vec<u32> = section.list("cat_threshold", total)?;
    let set = |w: &[usize]| {
        let words = words.get(w[0]..w[1]).ok_or("`cat_boundaries` are not in order")?;
        if words.len() > MAX_CATEGORY_WORDS {
            return Err(format!("a set of {} words; at most {MAX_CATEGORY_WORDS} are taken", words.len()));
        }
        let pair = |p: &[u32]| u64::from(p[0]) | u64::from(p.get(1).copied().unwrap_or(0)) << 32;
        Ok(words.chunks(2).map(pair).collect())
    };
    bounds.windows(2).map(set).collect()
}

/// `objective=` of the header: a name and its parameters, as `binary sigmoid:1`.
fn objective(text: &str, outputs: usize) -> Result<(Vec<Step>, Answer), String> {
    let mut words = text.split_whitespace();
    let name = words.next().unwrap_or("");
    let parameters: Vec<&str> = words.collect();
    let k = || -> Result<f64, String> {
        let Some(text) = parameters.iter().find_map(|p| p.strip_prefix("sigmoid:")) else { return Ok(1.0) };
        text.parse().ok().filter(|k: &f64| k.is_finite()).ok_or_else(|| format!("objective: sigmoid is {text:?}"))
    };
    let (steps, answer) = match name {
        "binary" => (vec![Step::Logistic { k: k()? }], Answer::Binary),
        "cross_entropy" | "xentropy" => (vec![Step::Logistic { k: 1.0 }], Answer::Binary),
        "multiclass" | "softmax" => (vec![Step::Softmax], Answer::Classes),
        "multiclassova" | "multiclass_ova" | "ova" | "ovr" => (vec![Step::Logistic { k: k()? }], Answer::Classes),
        "poisson" | "gamma" | "tweedie" => (vec![Step::Exp], Answer::Values),
        "cross_entropy_lambda" | "xentlambda" => (vec![Step::Softplus], Answer::Values),
        "regression" | "regression_l2" if parameters.contains(&"sqrt") => (vec![Step::SignedSquare], Answer::Values),
        "regression" | "regression_l2" | "regression_l1" | "huber" | "fair" | "quantile" | "mape" | "lambdarank"
        | "rank_xendcg" => (Vec::new(), Answer::Values),
        // Trained with an objective of the user's own: its raw scores are what `predict` gives.
        "" | "custom" | "none" => (Vec::new(), Answer::Values),
        other => return Err(format!("objective `{other}` is not known: its scores cannot be turned into answers")),
    };
    if answer == Answer::Binary && outputs != 1 {
        return Err(format!("objective `{name}` with {outputs} trees a round"));
    }
    Ok((steps, answer))
}
