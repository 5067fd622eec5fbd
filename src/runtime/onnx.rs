//! A loaded version that is an ONNX network: its inputs, the network as the other library saved it, and which of its
//! answers is served.

use super::artefact::{self, Artefact, weights_file};
use super::candle::{check_calibration, check_profile};
use super::warm_up::warm_up;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::DimLike;
use tract_onnx::tract_hir::infer::Factoid;
use understudy_actors::ports::ModelRuntime;
use understudy_domain::model::Manifest;
use understudy_domain::profile::ReferenceProfile;
use understudy_domain::trees::{Encoding, Inputs};
use understudy_domain::value::Value;

/// Rows that are asked at once; larger batches are cut, so that memory stays bounded.
const MAX_BATCH_ROWS: usize = 1024;

/// What the numbers of the network's output are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    #[default]
    Probability,
    /// One number: the probability is 1 / (1 + exp(-x)).
    Logit,
    /// One number a class: the probability of class k is exp(x_k) / sum exp(x).
    Softmax,
}

/// `architecture` of the manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Architecture {
    inputs: Inputs,
    #[serde(default)]
    answer: Answer,
    /// Which of the network's outputs, counted from 0: classifiers often give labels first.
    #[serde(default)]
    output: usize,
    /// The class whose probability is served, counted from 0, for an output of several numbers.
    #[serde(default)]
    class: Option<usize>,
}

/// Immutable, so that any number of threads may ask it at once.
pub struct OnnxModel {
    manifest: Manifest,
    profile: ReferenceProfile,
    network: Arc<TypedRunnableModel>,
    encoding: Encoding,
    architecture: Architecture,
    bytes: usize,
    row_time: Option<Duration>,
}

/// The network for batches of any size, and how many numbers a row has.
fn read(weights: &[u8]) -> TractResult<(Arc<TypedRunnableModel>, usize)> {
    let mut model = tract_onnx::onnx().model_for_read(&mut &*weights)?;
    let inputs = model.input_outlets()?.len();
    ensure(inputs == 1, || format!("{inputs} inputs; one of shape [rows, features] is taken"))?;
    // The number of rows may be a name or unknown; that of the features must be a number.
    let declared = model.input_fact(0)?.shape.dim(1).and_then(|dim| dim.concretize());
    let width = declared.and_then(|dim| dim.to_usize().ok());
    let width = width
        .ok_or_else(|| TractError::msg("the input's second dimension, the number of features, is not a number"))?;
    let rows = model.symbols.sym("rows");
    model.set_input_fact(0, f32::fact([rows.to_dim(), width.to_dim()]).into())?;
    Ok((model.into_optimized()?.into_runnable()?, width))
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> TractResult<()> {
    if holds { Ok(()) } else { Err(TractError::msg(otherwise())) }
}

impl OnnxModel {
    /// Reads the network and answers the golden requests; any difference refuses the version.
    pub fn new(artefact: Artefact) -> Result<OnnxModel, String> {
        let Artefact { manifest, weights, profile, golden } = artefact;
        if !(0.0..=1.0).contains(&manifest.threshold) {
            return Err(format!("manifest.json: threshold {} is outside 0..1", manifest.threshold));
        }
        check_calibration(&manifest.calibration).map_err(|e| format!("manifest.json: calibration: {e}"))?;
        check_profile(&profile, &manifest.signature).map_err(|e| format!("profile.json: {e}"))?;
        let wrong = |e: String| format!("manifest.json: architecture: {e}");
        let architecture: Architecture =
            serde_json::from_value(manifest.architecture.clone()).map_err(|e| wrong(e.to_string()))?;
        let (network, width) = read(&weights).map_err(|e| format!("{}: {e:#}", weights_file(&manifest)))?;
        let encoding = architecture.inputs.compile(&manifest.signature, width).map_err(wrong)?;
        let bytes = usize::try_from(artefact::memory(&manifest)).unwrap_or(usize::MAX);
        let mut model = OnnxModel { manifest, profile, network, encoding, architecture, bytes, row_time: None };
        model.row_time = Some(warm_up(&model, &golden)?);
        Ok(model)
    }

    fn answers(&self, rows: &[&[Value]], scores: &mut Vec<f64>) -> TractResult<()> {
        let mut numbers = Vec::new();
        rows.iter().for_each(|row| self.encoding.encode(row, &mut numbers));
        let numbers: Vec<f32> = numbers.into_iter().map(|x| x as f32).collect();
        let width = numbers.len() / rows.len().max(1);
        let input = Tensor::from_shape(&[rows.len(), width], &numbers)?;
        let outputs = self.network.run(tvec!(input.into()))?;
        let (which, all) = (self.architecture.output, outputs.len());
        let output = outputs.get(which).ok_or_else(|| TractError::msg(format!("output {which} of {all}")))?;
        let output = output.cast_to::<f32>()?;
        let output = output.to_plain_array_view::<f32>()?;
        ensure(output.len().is_multiple_of(rows.len().max(1)) && !output.is_empty(), || {
            format!("{} numbers for {} rows", output.len(), rows.len())
        })?;
        let of_row = output.len() / rows.len().max(1);
        let all: Vec<f64> = output.iter().map(|x| f64::from(*x)).collect();
        for row in all.chunks_exact(of_row) {
            scores.push(self.score(row)?);
        }
        Ok(())
    }

    /// The probability that is served, of one row's numbers.
    fn score(&self, row: &[f64]) -> TractResult<f64> {
        let Architecture { answer, class, .. } = &self.architecture;
        let class = match (class, row) {
            (None, [_]) => 0,
            (Some(class), _) if *class < row.len() => *class,
            (None, _) => return Err(TractError::msg(format!("{} numbers a row: say in `class` which one", row.len()))),
            (Some(class), _) => return Err(TractError::msg(format!("class {class} of {}", row.len()))),
        };
        let score = match answer {
            Answer::Probability => row[class],
            Answer::Logit => 1.0 / (1.0 + (-row[class]).exp()),
            Answer::Softmax => {
                let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                (row[class] - most).exp() / row.iter().map(|x| (x - most).exp()).sum::<f64>()
            }
        };
        // A number outside is an answer of another kind than declared; not a number is for the caller to see.
        ensure(score.is_nan() || (0.0..=1.0).contains(&score), || {
            format!("{score} is no probability: say in `answer` whether it is a logit")
        })?;
        Ok(score)
    }
}

impl ModelRuntime for OnnxModel {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn profile(&self) -> &ReferenceProfile {
        &self.profile
    }

    fn predict(&self, rows: &[&[Value]]) -> Result<Vec<f64>, String> {
        if let Some((r, row)) = rows.iter().enumerate().find(|(_, row)| row.len() != self.encoding.features()) {
            return Err(format!("row {r} has {} features, the model takes {}", row.len(), self.encoding.features()));
        }
        let mut scores = Vec::with_capacity(rows.len());
        for part in rows.chunks(MAX_BATCH_ROWS) {
            self.answers(part, &mut scores).map_err(|e| format!("the network: {e:#}"))?;
        }
        scores.iter_mut().for_each(|s| *s = self.manifest.calibration.apply(*s));
        Ok(scores)
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    fn row_time(&self) -> Option<Duration> {
        self.row_time
    }
}

#[cfg(test)]
#[path = "onnx_tests.rs"]
mod tests;
