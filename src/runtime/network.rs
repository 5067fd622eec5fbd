//! The networks that candle runs: logistic regression (no hidden layer) and MLPs with ReLU, one or an
//! ensemble whose probabilities are averaged.

use candle_core::{Device, Tensor};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use understudy_actors::ports::ModelRuntime;
use understudy_domain::encode::Encoder;
use understudy_domain::model::Manifest;
use understudy_domain::profile::ReferenceProfile;
use understudy_domain::value::Value;

use super::artefact::Artefact;

/// `architecture` of the manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Architecture {
    /// Widths of the hidden layers; none is logistic regression.
    pub hidden: Vec<usize>,
    pub members: usize,
    pub encoder: Encoder,
}

impl Architecture {
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

/// A loaded version.
pub struct CandleModel {
    manifest: Manifest,
    profile: ReferenceProfile,
    architecture: Architecture,
    network: Network,
    bytes: usize,
}

impl CandleModel {
    /// Builds the network and answers the golden requests; any difference refuses the version.
    pub fn new(artefact: Artefact) -> Result<CandleModel, String> {
        let Artefact { manifest, weights, profile, golden } = artefact;
        if manifest.runtime != "candle" {
            return Err(format!(
                "manifest.json: runtime `{}` is not known; this program runs `candle`",
                manifest.runtime
            ));
        }
        let architecture: Architecture = serde_json::from_value(manifest.architecture.clone())
            .map_err(|e| format!("manifest.json: architecture: {e}"))?;
        if architecture.encoder.features() != manifest.signature.features.len() || architecture.members == 0 {
            return Err("manifest.json: architecture and signature disagree on the number of features".into());
        }
        let network = Network::load(&weights, &architecture)?;
        let model = CandleModel { bytes: weights.len(), manifest, profile, architecture, network };
        if golden.is_empty() {
            return Err("golden.jsonl is empty; a version without golden requests is not served".into());
        }
        for (i, g) in golden.iter().enumerate() {
            let got = model.predict(&[&g.vector])?[0];
            if (got - g.score).abs() > 1e-6 {
                return Err(format!("golden request {}: answers {got}, recorded was {}", i + 1, g.score));
            }
        }
        Ok(model)
    }
}

impl ModelRuntime for CandleModel {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn profile(&self) -> &ReferenceProfile {
        &self.profile
    }

    fn predict(&self, rows: &[&[Value]]) -> Result<Vec<f64>, String> {
        if let Some(row) = rows.iter().find(|r| r.len() != self.architecture.encoder.features()) {
            return Err(format!(
                "a row has {} features, the model takes {}",
                row.len(),
                self.architecture.encoder.features()
            ));
        }
        let raw = encode(&self.architecture.encoder, rows)
            .and_then(|x| self.network.probabilities(&x))
            .map_err(|e| e.to_string())?;
        if raw.iter().any(|p| !p.is_finite()) {
            return Err("the network gave a value that is not finite".into());
        }
        Ok(raw.into_iter().map(|p| self.manifest.calibration.apply(p)).collect())
    }

    fn bytes(&self) -> usize {
        self.bytes
    }
}
