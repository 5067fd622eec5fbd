//! Readers of the libraries' model files. A file is data from outside: every size in it is bounded before anything
//! is allocated for it, and what it holds is checked again by `Forest::build`.

mod document;
mod lightgbm;
mod onnx;
mod onnx_ensemble;
mod onnx_graph;
mod protobuf;
mod ubjson;
mod xgboost;

use super::{Ensemble, Forest};
use serde::{Deserialize, Serialize};

/// Longest file that is read.
pub const MAX_BYTES: usize = 512 << 20;

/// What wrote the model, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// `Booster.save_model("model.txt")`
    Lightgbm,
    /// `Booster.save_model("model.json")`
    XgboostJson,
    /// `Booster.save_model("model.ubj")`
    XgboostUbj,
    /// A `TreeEnsemble` operator as `onnxmltools` and `skl2onnx` write it.
    Onnx,
}

impl Format {
    pub const ALL: [Format; 4] = [Format::Lightgbm, Format::XgboostJson, Format::XgboostUbj, Format::Onnx];

    /// The weights file of a version in this format.
    pub fn file(self) -> &'static str {
        match self {
            Format::Lightgbm => "model.txt",
            Format::XgboostJson => "model.json",
            Format::XgboostUbj => "model.ubj",
            Format::Onnx => "model.onnx",
        }
    }

    /// # Errors
    /// Says what in the file is damaged, too large, or cannot be evaluated.
    pub fn read(self, bytes: &[u8]) -> Result<Ensemble, String> {
        self.forest(bytes)?.build()
    }

    fn forest(self, bytes: &[u8]) -> Result<Forest, String> {
        if bytes.len() > MAX_BYTES {
            return Err(format!("{} bytes; at most {MAX_BYTES} are taken", bytes.len()));
        }
        match self {
            Format::Lightgbm => {
                lightgbm::read(std::str::from_utf8(bytes).map_err(|e| format!("no LightGBM text: {e}"))?)
            }
            Format::XgboostJson => xgboost::read(&document::from_json(bytes)?),
            Format::XgboostUbj => xgboost::read(&ubjson::read(bytes)?),
            Format::Onnx => onnx::read(bytes),
        }
    }
}

/// Words of a bit set that holds these categories; one may be at most `most`.
fn bits(categories: impl Iterator<Item = u64> + Clone, most: u64) -> Result<Vec<u64>, String> {
    let max = categories.clone().max().unwrap_or(0);
    if max > most {
        return Err(format!("category {max}; at most {most} are taken"));
    }
    let mut words = vec![0u64; (max / 64 + 1) as usize];
    categories.for_each(|c| words[(c / 64) as usize] |= 1 << (c % 64));
    Ok(words)
}
