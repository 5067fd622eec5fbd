//! One network in training: its data, its passes over them by AdamW, and its finished layers.

use super::network::{Architecture, Layer, encode, forward};
use super::random::SplitMix;
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::optim::{AdamW, Optimizer, ParamsAdamW};
use understudy_domain::encode::Encoder;
use understudy_domain::project::{ClassWeight, TrainSpec};
use understudy_domain::value::Value;

/// Encoded rows [n, width] with labels [n, 1] and weights [n, 1].
pub struct Data {
    x: Tensor,
    y: Tensor,
    w: Tensor,
    rows: usize,
    /// Of the negative and the positive label.
    class_weights: [f32; 2],
}

impl Data {
    pub fn new(
        encoder: &Encoder,
        rows: &[&[Value]],
        labels: &[bool],
        weighting: ClassWeight,
    ) -> candle_core::Result<Data> {
        let n = labels.len();
        let positives = labels.iter().filter(|l| **l).count();
        let class_weights = match weighting {
            ClassWeight::None => [1.0; 2],
            ClassWeight::Balanced => [n - positives, positives].map(|k| n as f32 / 2.0 / k.max(1) as f32),
        };
        let column = |f: &dyn Fn(bool) -> f32| {
            Tensor::from_vec(labels.iter().map(|l| f(*l)).collect::<Vec<f32>>(), (n, 1), &Device::Cpu)
        };
        Ok(Data {
            x: encode(encoder, rows)?,
            y: column(&|l| f32::from(u8::from(l)))?,
            w: column(&|l| class_weights[usize::from(l)])?,
            rows: n,
            class_weights,
        })
    }

    /// Weight of a row of this label in the loss.
    pub fn class_weight(&self, label: bool) -> f32 {
        self.class_weights[usize::from(label)]
    }
}

/// One network in training.
pub struct Member {
    /// Embedding matrices by category feature: (first input position, vocabulary, matrix).
    embeddings: Vec<(usize, usize, Var)>,
    layers: Vec<(Var, Var)>,
    optimizer: AdamW,
    random: SplitMix,
}

impl Member {
    pub fn new(architecture: &Architecture, spec: &TrainSpec, seed: u64) -> candle_core::Result<Member> {
        let mut random = SplitMix(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let mut matrix = |i: usize, o: usize| {
            let bound = (6.0 / (i + o) as f64).sqrt(); // Glorot and Bengio 2010
            Var::from_vec((0..i * o).map(|_| random.uniform(bound)).collect::<Vec<f32>>(), (i, o), &Device::Cpu)
        };
        let categories = if spec.embedding > 0 && !architecture.hidden.is_empty() {
            architecture.encoder.categories()
        } else {
            Vec::new()
        };
        let mut inputs = architecture.encoder.width();
        let mut embeddings = Vec::new();
        for (at, size) in categories.into_iter().filter(|(_, size)| *size > 0) {
            inputs = inputs - size + spec.embedding;
            embeddings.push((at, size, matrix(size, spec.embedding)?));
        }
        let mut layers = Vec::new();
        for (l, (i, o)) in architecture.layers().into_iter().enumerate() {
            let i = if l == 0 { inputs } else { i };
            let weight = if architecture.hidden.is_empty() {
                Var::zeros((i, o), DType::F32, &Device::Cpu)?
            } else {
                matrix(i, o)?
            };
            layers.push((weight, Var::zeros(o, DType::F32, &Device::Cpu)?));
        }
        let vars = layers
            .iter()
            .flat_map(|(w, b)| [w.clone(), b.clone()])
            .chain(embeddings.iter().map(|e| e.2.clone()))
            .collect();
        let settings = ParamsAdamW { lr: spec.learning_rate, weight_decay: spec.l2, ..ParamsAdamW::default() };
        Ok(Member { embeddings, layers, optimizer: AdamW::new(vars, settings)?, random })
    }

    fn logits(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let layers: Vec<Layer> =
            self.layers.iter().map(|(w, b)| (w.as_tensor().clone(), b.as_tensor().clone())).collect();
        if self.embeddings.is_empty() {
            return forward(&layers, x);
        }
        let mut parts = Vec::new();
        let mut done = 0;
        for (at, size, matrix) in &self.embeddings {
            if *at > done {
                parts.push(x.narrow(1, done, at - done)?);
            }
            parts.push(x.narrow(1, *at, *size)?.contiguous()?.matmul(matrix)?);
            done = at + size;
        }
        if done < x.dim(1)? {
            parts.push(x.narrow(1, done, x.dim(1)? - done)?);
        }
        forward(&layers, &Tensor::cat(&parts, 1)?)
    }

    /// One pass over the rows in a new order.
    pub fn epoch(&mut self, data: &Data, spec: &TrainSpec) -> candle_core::Result<()> {
        let mut order: Vec<u32> = (0..data.rows as u32).collect();
        self.random.shuffle(&mut order);
        for batch in order.chunks(spec.batch.max(1)) {
            let index = Tensor::from_slice(batch, batch.len(), &Device::Cpu)?;
            let (x, y, w) =
                (data.x.index_select(&index, 0)?, data.y.index_select(&index, 0)?, data.w.index_select(&index, 0)?);
            let z = self.logits(&x)?;
            // max(z,0) - z*y + ln(1 + exp(-|z|)): log loss on logits without overflow.
            let loss = ((z.relu()? - (&z * &y)?)? + (z.abs()?.neg()?.exp()? + 1.0)?.log()?)?;
            self.optimizer.backward_step(&(loss * w)?.mean_all()?)?;
        }
        Ok(())
    }

    pub fn probabilities(&self, x: &Tensor) -> candle_core::Result<Vec<f64>> {
        let z = self.logits(x)?.flatten_all()?.to_vec1::<f32>()?;
        Ok(z.into_iter().map(|z| 1.0 / (1.0 + (-f64::from(z)).exp())).collect())
    }

    /// The finished layers; embeddings are multiplied into the first layer, so serving is one matrix.
    pub fn finish(self, width: usize) -> candle_core::Result<Vec<Layer>> {
        let mut layers: Vec<Layer> =
            self.layers.iter().map(|(w, b)| (w.as_tensor().detach(), b.as_tensor().detach())).collect();
        if self.embeddings.is_empty() {
            return Ok(layers);
        }
        let first = layers[0].0.clone();
        let (mut rows, mut from, mut to) = (Vec::new(), 0, 0);
        for (at, size, matrix) in &self.embeddings {
            if *at > to {
                rows.push(first.narrow(0, from, at - to)?);
                from += at - to;
            }
            let d = matrix.dim(1)?;
            rows.push(matrix.as_tensor().detach().matmul(&first.narrow(0, from, d)?.contiguous()?)?);
            from += d;
            to = at + size;
        }
        if to < width {
            rows.push(first.narrow(0, from, width - to)?);
        }
        layers[0].0 = Tensor::cat(&rows, 0)?.contiguous()?;
        Ok(layers)
    }
}
