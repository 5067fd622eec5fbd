//! An ensemble laid out for one row: the first layers of all members are one matrix, the later ones a
//! batch of matrices, so an answer takes a handful of tensor operations however many members there are.

use super::network::Network;
use candle_core::{Result, Tensor};

pub struct Fused {
    /// [inputs, members * outputs] and [1, members * outputs].
    first: (Tensor, Tensor),
    /// [members, inputs, outputs] and [members, 1, outputs].
    rest: Vec<(Tensor, Tensor)>,
    members: usize,
}

impl Fused {
    pub fn new(network: &Network) -> Result<Fused> {
        let members = network.members.len();
        let layer = |l: usize| network.members.iter().map(move |m| &m[l]);
        let weights: Vec<&Tensor> = layer(0).map(|(w, _)| w).collect();
        let biases: Vec<&Tensor> = layer(0).map(|(_, b)| b).collect();
        let first = (Tensor::cat(&weights, 1)?.contiguous()?, Tensor::cat(&biases, 0)?.unsqueeze(0)?);
        let rest = (1..network.members.first().map_or(0, Vec::len)).map(|l| {
            let weights: Vec<&Tensor> = layer(l).map(|(w, _)| w).collect();
            let biases: Vec<&Tensor> = layer(l).map(|(_, b)| b).collect();
            Ok((Tensor::stack(&weights, 0)?, Tensor::stack(&biases, 0)?.unsqueeze(1)?))
        });
        Ok(Fused { first, rest: rest.collect::<Result<_>>()?, members })
    }

    /// Mean of the members' probabilities for one encoded row [1, inputs].
    pub fn probability(&self, row: &Tensor) -> Result<f64> {
        let mut x = row.matmul(&self.first.0)?.add(&self.first.1)?.reshape((self.members, 1, ()))?;
        for (weight, bias) in &self.rest {
            x = x.relu()?.matmul(weight)?.add(bias)?;
        }
        let logits = x.flatten_all()?.to_vec1::<f32>()?;
        Ok(logits.into_iter().map(|z| 1.0 / (1.0 + (-f64::from(z)).exp())).sum::<f64>() / self.members as f64)
    }
}
