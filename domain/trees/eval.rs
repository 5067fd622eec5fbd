//! Evaluation. Several walks go side by side, each a fixed number of steps without a branch, so that their memory
//! accesses overlap: one row through several trees, or several rows through one tree.

use super::build::Fill;
use super::source::Precision;
use super::{EQUAL, Ensemble, KIND, Packed, SET, WHOLE, transform};

/// Walks side by side; more gain nothing (docs/performance.md).
const LANES: usize = 8;
/// Rows of a block: their slots and one tree stay in the first-level cache.
const BLOCK: usize = 64;
/// LightGBM's bound of what counts as zero.
const ZERO: f64 = 1e-35f32 as f64;

/// Memory that evaluation reuses.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    slots: Vec<f64>,
    leaves: Vec<f64>,
    sums: Vec<f64>,
}

impl Ensemble {
    /// The answer to one row of `features` numbers; missing values are NaN. Valid until the next call.
    ///
    /// # Panics
    /// If the row has another length.
    pub fn predict_one<'s>(&self, row: &[f64], scratch: &'s mut Scratch) -> &'s [f64] {
        assert_eq!(row.len(), self.features, "a row has as many numbers as the ensemble features");
        let Scratch { slots, leaves, sums } = scratch;
        slots.resize(self.slots.len(), 0.0);
        self.fill(row, slots);
        leaves.resize(self.roots.len(), 0.0);
        if self.special {
            self.through_trees::<true>(slots, leaves)
        } else {
            self.through_trees::<false>(slots, leaves)
        }
        self.finish(leaves.iter().copied(), sums);
        sums
    }

    /// The answers to rows that lie one after another, appended to `out`, `width` numbers each.
    ///
    /// # Panics
    /// If the rows have another length.
    pub fn predict_batch(&self, rows: &[f64], scratch: &mut Scratch, out: &mut Vec<f64>) {
        assert_eq!(rows.len() % self.features, 0, "a row has as many numbers as the ensemble features");
        let Scratch { slots, leaves, sums } = scratch;
        let (width, trees) = (self.slots.len(), self.roots.len());
        slots.resize(BLOCK * width, 0.0);
        for block in rows.chunks(BLOCK * self.features) {
            let n = block.len() / self.features;
            for (row, slots) in block.chunks_exact(self.features).zip(slots.chunks_exact_mut(width)) {
                self.fill(row, slots);
            }
            leaves.resize(trees * BLOCK, 0.0);
            for t in 0..trees {
                let leaves = &mut leaves[t * BLOCK..][..n];
                if self.special {
                    self.through_rows::<true>(t, slots, width, leaves);
                } else {
                    self.through_rows::<false>(t, slots, width, leaves);
                }
            }
            for r in 0..n {
                self.finish(leaves[r..].iter().step_by(BLOCK).copied(), sums);
                out.extend_from_slice(sums);
            }
        }
    }

    /// Rows that visit many leaves, made of the splits' own values; the same for the same ensemble.
    pub fn example_rows(&self, rows: usize) -> Vec<f64> {
        let mut values = vec![vec![f64::NAN]; self.features];
        for node in self.nodes.iter().filter(|n| n.slot != 0) {
            let feature = self.slots[(node.slot & !KIND) as usize].feature as usize;
            let set = [SET, WHOLE].contains(&(node.slot & KIND));
            let value = if set { (values[feature].len() % 64) as f64 } else { node.at };
            values[feature].push(value);
        }
        // Different strides, so that features do not move together.
        let pick = |r: usize, f: usize| values[f][(r * (2 * f + 7) + f) % values[f].len()];
        (0..rows * self.features).map(|i| pick(i / self.features, i % self.features)).collect()
    }

    /// The slots of one row.
    fn fill(&self, row: &[f64], slots: &mut [f64]) {
        let single = self.precision == Precision::Single;
        slots[0] = f64::NAN;
        for (slot, to) in self.slots[1..].iter().zip(&mut slots[1..]) {
            let x = row[slot.feature as usize];
            let x = if single { f64::from(x as f32) } else { x };
            let missing = match slot.fill {
                Fill::First | Fill::Second | Fill::Zero => x.is_nan(),
                Fill::ZeroFirst | Fill::ZeroSecond => x.is_nan() || x.abs() <= ZERO,
            };
            let instead = match slot.fill {
                Fill::First | Fill::ZeroFirst => f64::NAN,
                Fill::Second | Fill::ZeroSecond => f64::INFINITY,
                Fill::Zero => 0.0,
            };
            *to = if missing { instead } else { x };
        }
    }

    /// One row through all trees.
    fn through_trees<const SPECIAL: bool>(&self, slots: &[f64], leaves: &mut [f64]) {
        let mut at = 0;
        while at + LANES <= self.roots.len() {
            let roots: &[u32; LANES] = self.roots[at..at + LANES].try_into().expect("LANES roots");
            let depth = self.depths[at..at + LANES].iter().copied().max().unwrap_or(0);
            let found = self.walk::<SPECIAL, LANES>(*roots, depth, slots, [0; LANES]);
            leaves[at..at + LANES].copy_from_slice(&found);
            at += LANES;
        }
        for (t, leaf) in leaves.iter_mut().enumerate().skip(at) {
            [*leaf] = self.walk::<SPECIAL, 1>([self.roots[t]], self.depths[t], slots, [0]);
        }
    }

    /// Several rows through one tree.
    fn through_rows<const SPECIAL: bool>(&self, t: usize, slots: &[f64], width: usize, leaves: &mut [f64]) {
        let (root, depth, n) = (self.roots[t], self.depths[t], leaves.len());
        let mut at = 0;
        while at + LANES <= n {
            let starts = std::array::from_fn(|k| (at + k) * width);
            let found = self.walk::<SPECIAL, LANES>([root; LANES], depth, slots, starts);
            leaves[at..at + LANES].copy_from_slice(&found);
            at += LANES;
        }
        for (r, leaf) in leaves.iter_mut().enumerate().skip(at) {
            [*leaf] = self.walk::<SPECIAL, 1>([root], depth, slots, [r * width]);
        }
    }

    /// `at` of the leaves that walks from `roots` over the slots from `starts` end in.
    #[inline]
    fn walk<const SPECIAL: bool, const N: usize>(
        &self,
        roots: [u32; N],
        depth: u32,
        slots: &[f64],
        starts: [usize; N],
    ) -> [f64; N] {
        let nodes = self.nodes.as_slice();
        let mut at = roots;
        for _ in 0..depth {
            for k in 0..N {
                let node = nodes[at[k] as usize];
                let second = if SPECIAL && node.slot & KIND != 0 {
                    self.special(node, slots[starts[k] + (node.slot & !KIND) as usize])
                } else {
                    slots[starts[k] + node.slot as usize] > node.at
                };
                at[k] = node.next + u32::from(second);
            }
        }
        at.map(|i| nodes[i as usize].at)
    }

    /// Whether a set or an equality holds; missing values that count as `yes` are infinite.
    #[inline]
    fn special(&self, node: Packed, x: f64) -> bool {
        if x == f64::INFINITY {
            return true;
        }
        match node.slot & KIND {
            EQUAL => x == node.at,
            kind @ (SET | WHOLE) => {
                let (start, len) = ((node.at.to_bits() >> 32) as usize, node.at.to_bits() & u64::from(u32::MAX));
                // Also false for no number.
                x > -1.0 && (kind == SET || x.fract() == 0.0) && {
                    let category = x as u64;
                    category / 64 < len && self.sets[start + (category / 64) as usize] >> (category % 64) & 1 == 1
                }
            }
            _ => x > node.at,
        }
    }

    /// Adds up in the order of the trees, as the libraries do, and transforms.
    fn finish(&self, leaves: impl Iterator<Item = f64>, sums: &mut Vec<f64>) {
        sums.clear();
        match (self.outputs, self.vectors.is_empty(), self.precision) {
            (1, true, Precision::Single) => {
                let sum = leaves.fold(self.base[0] as f32, |sum, v| sum + v as f32);
                sums.push(f64::from(sum));
            }
            (1, true, Precision::Double) => sums.push(leaves.fold(self.base[0], |sum, v| sum + v)),
            (outputs, true, precision) => {
                sums.extend(&self.base);
                debug_assert_eq!(sums.len(), outputs);
                for (output, v) in self.outputs_of.iter().zip(leaves) {
                    add(&mut sums[*output as usize], v, precision);
                }
            }
            (outputs, false, precision) => {
                sums.extend(&self.base);
                for index in leaves {
                    let vector = &self.vectors[index as usize * outputs..][..outputs];
                    sums.iter_mut().zip(vector).for_each(|(sum, v)| add(sum, *v, precision));
                }
            }
        }
        if self.divide != 1.0 {
            sums.iter_mut().for_each(|s| *s /= self.divide);
        }
        transform::apply(&self.steps, sums);
    }
}

#[inline]
fn add(sum: &mut f64, v: f64, precision: Precision) {
    *sum = match precision {
        Precision::Single => f64::from(*sum as f32 + v as f32),
        Precision::Double => *sum + v,
    };
}
