//! The networks that candle runs: logistic regression (no hidden layer) and MLPs with ReLU, one or an
//! ensemble whose probabilities are averaged.

use candle_core::{Device, Tensor};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use understudy_domain::encode::Encoder;
use understudy_domain::value::Value;

/// Bounds of what a manifest may ask for.
const MAX_LAYERS: usize = 16;
const MAX_WIDTH: usize = 8192;
const MAX_MEMBERS: usize = 64;

/// `architecture` of the manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// Widths of the hidden layers; none is logistic regression.
    pub hidden: Vec<usize>,
    pub members: usize,
    pub encoder: Encoder,
}

impl Architecture {
    /// Sizes that can be built; the weights' shapes are checked against them when loaded.
    pub fn check(&self) -> Result<(), String> {
        if self.hidden.len() > MAX_LAYERS || self.hidden.iter().any(|w| *w == 0 || *w > MAX_WIDTH) {
            return Err(format!("hidden = {:?}: at most {MAX_LAYERS} layers of 1..{MAX_WIDTH} are taken", self.hidden));
        }
        if self.members == 0 || self.members > MAX_MEMBERS {
            return Err(format!("members = {}: 1..{MAX_MEMBERS} are taken", self.members));
        }
        if self.encoder.width() == 0 {
            return Err("the encoder gives no inputs".into());
        }
        Ok(())
    }

    /// (inputs, outputs) of each layer.
    pub fn layers(&self) -> Vec<(usize, usize)> {
        let mut widths = vec![self.encoder.width()];
        widths.extend(&self.hidden);
        widths.push(1);
        widths.windows(2).map(|w| (w[0], w[1])).collect()
    }
}

/// One layer's weights [inputs, outputs] and bias [outputs].
pub type Layer = (Tensor, Tensor);

/// Weights of all members.
#[derive(Clone, Debug)]
pub struct Network {
    pub members: Vec<Vec<Layer>>,
}

fn tensor_name(member: usize, layer: usize, part: &str) -> String {
    format!("member.{member}.layer.{layer}.{part}")
}

impl Network {
    /// Probabilities for encoded rows [n, width], averaged over the members.
    pub fn probabilities(&self, rows: &Tensor) -> candle_core::Result<Vec<f64>> {
        let mut sums = vec![0.0f64; rows.dim(0)?];
        for layers in &self.members {
            let logits = forward(layers, rows)?.flatten_all()?.to_vec1::<f32>()?;
            for (sum, z) in sums.iter_mut().zip(logits) {
                *sum += 1.0 / (1.0 + (-f64::from(z)).exp());
            }
        }
        Ok(sums.into_iter().map(|s| s / self.members.len() as f64).collect())
    }

    pub fn save(&self) -> Result<Vec<u8>, String> {
        let mut parts = Vec::new();
        for (m, layers) in self.members.iter().enumerate() {
            for (l, (weight, bias)) in layers.iter().enumerate() {
                for (part, tensor) in [("weight", weight), ("bias", bias)] {
                    let values = tensor.flatten_all().and_then(|t| t.to_vec1::<f32>()).map_err(|e| e.to_string())?;
                    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                    parts.push((tensor_name(m, l, part), tensor.dims().to_vec(), bytes));
                }
            }
        }
        let views = parts.iter().map(|(name, shape, bytes)| {
            TensorView::new(Dtype::F32, shape.clone(), bytes).map(|v| (name.clone(), v)).map_err(|e| e.to_string())
        });
        let views = views.collect::<Result<Vec<_>, _>>()?;
        safetensors::serialize(views, None).map_err(|e| e.to_string())
    }

    pub fn load(bytes: &[u8], architecture: &Architecture) -> Result<Network, String> {
        let file = SafeTensors::deserialize(bytes).map_err(|e| format!("model.safetensors: {e}"))?;
        let read = |name: String, shape: &[usize]| -> Result<Tensor, String> {
            let view = file.tensor(&name).map_err(|_| format!("model.safetensors has no tensor `{name}`"))?;
            if view.dtype() != Dtype::F32 || view.shape() != shape {
                return Err(format!(
                    "tensor `{name}` is {:?} {:?}, the architecture says F32 {shape:?}",
                    view.dtype(),
                    view.shape()
                ));
            }
            let values: Vec<f32> =
                view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            if values.iter().any(|v| !v.is_finite()) {
                return Err(format!("tensor `{name}` holds a value that is not finite"));
            }
            Tensor::from_vec(values, shape, &Device::Cpu).map_err(|e| e.to_string())
        };
        let expected = architecture.members * architecture.layers().len() * 2;
        if file.len() != expected {
            return Err(format!("model.safetensors has {} tensors, the architecture says {expected}", file.len()));
        }
        let member = |m: usize| -> Result<Vec<Layer>, String> {
            let layers = architecture.layers().into_iter().enumerate();
            layers
                .map(|(l, (i, o))| {
                    Ok((read(tensor_name(m, l, "weight"), &[i, o])?, read(tensor_name(m, l, "bias"), &[o])?))
                })
                .collect()
        };
        Ok(Network { members: (0..architecture.members).map(member).collect::<Result<_, _>>()? })
    }
}

/// Logits [n, 1] of one member.
pub fn forward(layers: &[Layer], rows: &Tensor) -> candle_core::Result<Tensor> {
    let mut x = rows.clone();
    for (i, (weight, bias)) in layers.iter().enumerate() {
        x = x.matmul(weight)?.broadcast_add(bias)?;
        if i + 1 < layers.len() {
            x = x.relu()?;
        }
    }
    Ok(x)
}

/// Encodes rows into one tensor [n, width].
pub fn encode(encoder: &Encoder, rows: &[&[Value]]) -> candle_core::Result<Tensor> {
    let mut flat = Vec::with_capacity(rows.len() * encoder.width());
    for row in rows {
        encoder.encode(row, &mut flat);
    }
    Tensor::from_vec(flat, (rows.len(), encoder.width()), &Device::Cpu)
}
