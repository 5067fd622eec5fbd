//! From the trees' sums to what the library's own `predict` answers.

use crate::calibrate::sigmoid;

/// What an answer's numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The last number is the probability of the positive class.
    Binary,
    /// One probability for each class.
    Classes,
    /// Predicted quantities, or scores that order rows; no probabilities.
    Values,
}

/// One step over all outputs, in the order of the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// 1 / (1 + e^(-k x)), each output by itself.
    Logistic {
        k: f64,
    },
    /// e^(x - max) divided by their sum.
    Softmax,
    Exp,
    /// sign(x) x^2: the labels were square roots.
    SignedSquare,
    /// ln(1 + e^x).
    Softplus,
    /// a x + b
    Linear {
        a: f64,
        b: f64,
    },
    /// x divided by the sum of the absolute values (0 stays 0).
    L1,
    /// One output x becomes [1 - x, x].
    WithComplement,
    /// One output x becomes [-x, x].
    WithNegative,
    /// The index of the greatest, the first of equals.
    ArgMax,
    /// 1 above 0, else 0.
    Positive,
}

/// Numbers left of `outputs` after the steps.
pub fn width(outputs: usize, steps: &[Step]) -> usize {
    steps.iter().fold(outputs, |n, step| match step {
        Step::WithComplement | Step::WithNegative => 2,
        Step::ArgMax => 1,
        _ => n,
    })
}

/// Applies the steps to one row's sums.
pub fn apply(steps: &[Step], x: &mut Vec<f64>) {
    for step in steps {
        match *step {
            Step::Logistic { k } => x.iter_mut().for_each(|v| *v = sigmoid(k * *v)),
            Step::Softmax => {
                let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                x.iter_mut().for_each(|v| *v = (*v - max).exp());
                let sum: f64 = x.iter().sum();
                x.iter_mut().for_each(|v| *v /= sum);
            }
            Step::Exp => x.iter_mut().for_each(|v| *v = v.exp()),
            Step::SignedSquare => x.iter_mut().for_each(|v| *v *= v.abs()),
            Step::Softplus => x.iter_mut().for_each(|v| *v = v.max(0.0) + (-v.abs()).exp().ln_1p()),
            Step::Linear { a, b } => x.iter_mut().for_each(|v| *v = a * *v + b),
            Step::L1 => {
                let sum: f64 = x.iter().map(|v| v.abs()).sum();
                if sum > 0.0 {
                    x.iter_mut().for_each(|v| *v /= sum);
                }
            }
            Step::WithComplement => x.insert(0, 1.0 - x[0]),
            Step::WithNegative => x.insert(0, -x[0]),
            Step::ArgMax => {
                let best = (1..x.len()).fold(0, |best, i| if x[i] > x[best] { i } else { best });
                x.clear();
                x.push(best as f64);
            }
            Step::Positive => x.iter_mut().for_each(|v| *v = f64::from(u8::from(*v > 0.0))),
        }
    }
}
