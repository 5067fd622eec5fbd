//! Checks a forest and lays it out flat: indices in range, every split with two subtrees of its own, no cycle,
//! bounded sizes. What passes can be walked without a check.

use super::source::{Aggregate, Forest, Leaf, Missing, Node, Precision, Split, Test, Tree};
use super::{EQUAL, Ensemble, KIND, NUMBER, Packed, SET, WHOLE, transform};
use std::collections::HashMap;

/// Nodes of all trees: 256 MiB of memory.
pub const MAX_NODES: usize = 1 << 24;
pub const MAX_TREES: usize = 100_000;
/// Splits above one another.
pub const MAX_DEPTH: u32 = 4096;
pub const MAX_FEATURES: usize = 1 << 20;
pub const MAX_OUTPUTS: usize = 4096;
/// Words of all category sets and numbers of all vector leaves.
const MAX_EXTRA: usize = 1 << 24;

/// How a slot is made of its feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Fill {
    /// Missing values stay no number: a comparison is false, the walk goes to `next`.
    First,
    /// Missing values become infinite: the walk goes to `next + 1`.
    Second,
    /// As `First`, and zeros are missing too.
    ZeroFirst,
    ZeroSecond,
    /// No number is 0.
    Zero,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    pub feature: u32,
    pub fill: Fill,
}

/// An ensemble, or what is wrong with the forest.
pub type Built = Result<Ensemble, String>;

struct Layout {
    nodes: Vec<Packed>,
    slots: HashMap<Slot, u32>,
    order: Vec<Slot>,
    sets: Vec<u64>,
    vectors: Vec<f64>,
    features: usize,
    outputs: usize,
    precision: Precision,
    vector_leaves: bool,
    special: bool,
}

impl Forest {
    /// # Errors
    /// Says which tree and node cannot be evaluated, and why.
    pub fn build(self) -> Built {
        check_sizes(&self)?;
        let many = |n: &Node| matches!(n, Node::Leaf(Leaf::Many(_)));
        let mut layout = Layout {
            nodes: Vec::new(),
            slots: HashMap::new(),
            order: vec![Slot { feature: 0, fill: Fill::First }],
            sets: Vec::new(),
            vectors: Vec::new(),
            features: self.features,
            outputs: self.outputs,
            precision: self.precision,
            vector_leaves: self.trees.iter().any(|t| t.nodes.iter().any(many)),
            special: false,
        };
        let (mut roots, mut depths, mut outputs_of) = (Vec::new(), Vec::new(), Vec::new());
        for (t, tree) in self.trees.iter().enumerate() {
            let (root, depth) = layout.add(tree).map_err(|e| format!("tree {t}: {e}"))?;
            roots.push(root);
            depths.push(depth);
            outputs_of.push(tree.output as u32);
        }
        let divide = match self.aggregate {
            Aggregate::Sum => 1.0,
            Aggregate::Mean(n) if n.is_finite() && n > 0.0 => n,
            Aggregate::Mean(n) => return Err(format!("the trees' sum is divided by {n}")),
        };
        Ok(Ensemble {
            features: self.features,
            precision: self.precision,
            slots: layout.order,
            nodes: layout.nodes,
            roots,
            depths,
            outputs_of,
            vectors: layout.vectors,
            sets: layout.sets,
            special: layout.special,
            outputs: self.outputs,
            base: if self.base.is_empty() { vec![0.0; self.outputs] } else { self.base },
            divide,
            steps: self.steps,
            answer: self.answer,
        })
    }
}

fn check_sizes(forest: &Forest) -> Result<(), String> {
    let nodes: usize = forest.trees.iter().map(|t| t.nodes.len()).sum();
    for (what, n, most) in [
        ("trees", forest.trees.len(), MAX_TREES),
        ("nodes", nodes, MAX_NODES),
        ("features", forest.features, MAX_FEATURES),
        ("outputs", forest.outputs, MAX_OUTPUTS),
    ] {
        if n == 0 || n > most {
            return Err(format!("{n} {what}; 1..{most} are taken"));
        }
    }
    if !(forest.base.is_empty() || forest.base.len() == forest.outputs) {
        return Err(format!("{} base scores for {} outputs", forest.base.len(), forest.outputs));
    }
    if forest.base.iter().any(|b| !b.is_finite()) {
        return Err("a base score is not finite".into());
    }
    let mut width = forest.outputs;
    for step in &forest.steps {
        let one = matches!(step, transform::Step::WithComplement | transform::Step::WithNegative);
        if one && width != 1 {
            return Err(format!("{step:?} takes one output, there are {width}"));
        }
        width = transform::width(width, &[*step]);
    }
    Ok(())
}

impl Layout {
    /// Root and depth of the tree in the flat form: level by level, the two children of a split side by side.
    fn add(&mut self, tree: &Tree) -> Result<(u32, u32), String> {
        if tree.output >= self.outputs {
            return Err(format!("adds to output {}, there are {}", tree.output, self.outputs));
        }
        let mut seen = vec![false; tree.nodes.len()];
        let mut take = |index: usize| -> Result<&Node, String> {
            let node = tree.nodes.get(index).ok_or_else(|| format!("names node {index} of {}", tree.nodes.len()))?;
            if std::mem::replace(&mut seen[index], true) {
                return Err(format!("node {index} is reached twice: it is no tree"));
            }
            Ok(node)
        };
        let root = self.nodes.len();
        let empty = Packed { at: 0.0, slot: 0, next: 0 };
        // (node, its place, splits above it); places are given when the parent is laid out.
        let mut queue = std::collections::VecDeque::from([(tree.root, root, 0u32)]);
        self.nodes.push(empty);
        let mut deepest = 0;
        while let Some((index, place, depth)) = queue.pop_front() {
            deepest = deepest.max(depth);
            if depth > MAX_DEPTH {
                return Err(format!("is deeper than {MAX_DEPTH}"));
            }
            let at = |e: String| format!("node {index}: {e}");
            match take(index)? {
                Node::Leaf(leaf) => {
                    let at = self.leaf(leaf, tree.output).map_err(at)?;
                    // Slot 0 is no number, so the comparison is false and the walk stays.
                    self.nodes[place] = Packed { at, slot: 0, next: place as u32 };
                }
                Node::Split(split) => {
                    let next = self.nodes.len();
                    let (packed, swapped) = self.split(split, next as u32).map_err(at)?;
                    self.nodes[place] = packed;
                    self.nodes.extend([empty, empty]);
                    let (first, second) = if swapped { (split.no, split.yes) } else { (split.yes, split.no) };
                    queue.push_back((first, next, depth + 1));
                    queue.push_back((second, next + 1, depth + 1));
                }
            }
        }
        Ok((root as u32, deepest))
    }

    fn leaf(&mut self, leaf: &Leaf, output: usize) -> Result<f64, String> {
        let pairs: &[(usize, f64)] = match leaf {
            Leaf::One(v) => &[(output, *v)],
            Leaf::Many(pairs) => pairs,
        };
        if pairs.iter().any(|(_, v)| !v.is_finite()) {
            return Err("a leaf's value is not finite".into());
        }
        if let Some((o, _)) = pairs.iter().find(|(o, _)| *o >= self.outputs) {
            return Err(format!("a leaf adds to output {o}, there are {}", self.outputs));
        }
        if !self.vector_leaves {
            return Ok(pairs.first().map_or(0.0, |(_, v)| *v));
        }
        let start = self.vectors.len();
        if start + self.outputs > MAX_EXTRA {
            return Err(format!("the leaves have more than {MAX_EXTRA} values"));
        }
        self.vectors.resize(start + self.outputs, 0.0);
        for (o, v) in pairs {
            self.vectors[start + o] += v;
        }
        Ok((start / self.outputs) as f64)
    }

    /// The packed split, and whether `no` comes first.
    fn split(&mut self, split: &Split, next: u32) -> Result<(Packed, bool), String> {
        if split.feature >= self.features {
            return Err(format!("splits on feature {}, there are {}", split.feature, self.features));
        }
        let single = self.precision == Precision::Single;
        let (kind, at) = match &split.test {
            Test::AtMost(t) | Test::Below(t) | Test::Equal(t) if t.is_nan() => {
                return Err("the threshold is no number".into());
            }
            // An infinite one tells missing values from all others; every number is at most the greatest.
            Test::AtMost(t) if single => (NUMBER, f64::from((*t as f32).min(f32::MAX))),
            Test::AtMost(t) => (NUMBER, t.min(f64::MAX)),
            // x < t is x <= the number before t.
            Test::Below(t) => (NUMBER, if single { f64::from((*t as f32).next_down()) } else { t.next_down() }),
            Test::Equal(t) => (EQUAL, if single { f64::from(*t as f32) } else { *t }),
            Test::In(words) | Test::OneOf(words) => {
                let start = self.sets.len();
                if start + words.len() > MAX_EXTRA {
                    return Err(format!("the category sets have more than {MAX_EXTRA} words"));
                }
                self.sets.extend(words);
                let kind = if matches!(split.test, Test::In(_)) { SET } else { WHOLE };
                (kind, f64::from_bits((start as u64) << 32 | words.len() as u64))
            }
        };
        self.special |= kind != NUMBER;
        // Numbers go to `next` when the test holds; sets and equalities to `next + 1`.
        let swapped = kind != NUMBER;
        let second = |yes: bool| yes == swapped;
        let fill = match split.missing {
            Missing::Nan { yes } if second(yes) => Fill::Second,
            Missing::Nan { .. } => Fill::First,
            Missing::Zero { yes } if second(yes) => Fill::ZeroSecond,
            Missing::Zero { .. } => Fill::ZeroFirst,
            Missing::IsZero => Fill::Zero,
        };
        let slot = Slot { feature: split.feature as u32, fill };
        let order = &mut self.order;
        let slot = *self.slots.entry(slot).or_insert_with(|| {
            order.push(slot);
            order.len() as u32 - 1
        });
        debug_assert_eq!(slot & KIND, 0);
        Ok((Packed { at, slot: kind | slot, next }, swapped))
    }
}
