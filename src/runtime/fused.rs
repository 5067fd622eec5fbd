//! An ensemble laid out for one row. The first layers of all members are one matrix, of which only the rows
//! under the inputs that are not 0 are read: most inputs are one-hot. The later layers are a batch of
//! matrices, so an answer takes a handful of tensor operations however many members there are.

use super::network::Network;
use candle_core::{Device, Result, Tensor};
use understudy_domain::encode::Encoder;
use understudy_domain::value::Value;

pub struct Fused {
    /// [inputs, members * outputs], row by row.
    weights: Vec<f32>,
    /// [members * outputs].
    bias: Vec<f32>,
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
        let rest = (1..network.members.first().map_or(0, Vec::len)).map(|l| {
            let weights: Vec<&Tensor> = layer(l).map(|(w, _)| w).collect();
            let biases: Vec<&Tensor> = layer(l).map(|(_, b)| b).collect();
            Ok((Tensor::stack(&weights, 0)?, Tensor::stack(&biases, 0)?.unsqueeze(1)?))
        });
        Ok(Fused {
            weights: Tensor::cat(&weights, 1)?.flatten_all()?.to_vec1()?,
            bias: Tensor::cat(&biases, 0)?.flatten_all()?.to_vec1()?,
            rest: rest.collect::<Result<_>>()?,
            members,
        })
    }

    /// Mean of the members' probabilities for one row.
    pub fn probability(&self, encoder: &Encoder, row: &[Value]) -> Result<f64> {
        let mut first = self.bias.clone();
        let outputs = first.len();
        encoder.visit(row, |input, x| {
            let weights = &self.weights[input * outputs..(input + 1) * outputs];
            first.iter_mut().zip(weights).for_each(|(sum, w)| *sum += x * w);
        });
        if self.rest.is_empty() {
            return Ok(self.mean(&first));
        }
        let mut x = Tensor::from_vec(first, (self.members, 1, outputs / self.members), &Device::Cpu)?;
        for (weight, bias) in &self.rest {
            x = x.relu()?.matmul(weight)?.add(bias)?;
        }
        Ok(self.mean(&x.flatten_all()?.to_vec1::<f32>()?))
    }

    fn mean(&self, logits: &[f32]) -> f64 {
        logits.iter().map(|z| 1.0 / (1.0 + (-f64::from(*z)).exp())).sum::<f64>() / self.members as f64
    }
}
