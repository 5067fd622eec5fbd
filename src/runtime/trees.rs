//! A loaded version that is a tree ensemble: its inputs, its trees, and which of their answers is served.

use super::artefact::{self, Artefact, weights_file};
use super::candle::{check_calibration, check_profile};
use super::warm_up::warm_up;
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::time::Duration;
use understudy_actors::ports::ModelRuntime;
use understudy_domain::model::Manifest;
use understudy_domain::profile::ReferenceProfile;
use understudy_domain::trees::import::Format;
use understudy_domain::trees::{Answer, Encoding, Ensemble, Inputs, Scratch};
use understudy_domain::value::Value;

/// Rows that are encoded at once; larger batches are cut, so that memory stays bounded.
const MAX_BATCH_ROWS: usize = 4096;

/// `architecture` of the manifest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    pub format: Format,
    pub inputs: Inputs,
    /// The class whose probability is served, counted from 0, for a model of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<usize>,
}

/// Trees behind the inputs that the manifest declares.
pub struct Trees {
    encoding: Encoding,
    ensemble: Ensemble,
    /// Position of the served probability; none if nothing of it is one.
    served: Option<usize>,
}

thread_local! {
    /// Numbers of the rows, and what evaluation needs.
    static MEMORY: RefCell<(Vec<f64>, Scratch)> = RefCell::default();
}

impl Trees {
    pub fn new(manifest: &Manifest, weights: &[u8]) -> Result<Trees, String> {
        let wrong = |e: String| format!("manifest.json: architecture: {e}");
        let architecture: Architecture =
            serde_json::from_value(manifest.architecture.clone()).map_err(|e| wrong(e.to_string()))?;
        let ensemble = architecture.format.read(weights).map_err(|e| format!("{}: {e}", weights_file(manifest)))?;
        let encoding = architecture.inputs.compile(&manifest.signature, ensemble.features()).map_err(wrong)?;
        let served = match (ensemble.answer(), architecture.class) {
            (Answer::Values, None) => None,
            (Answer::Values, Some(_)) => return Err(wrong("`class` of a model that has no classes".into())),
            (Answer::Binary, None) => Some(ensemble.width() - 1),
            (Answer::Classes, None) => None,
            (_, Some(class)) if class < ensemble.width() => Some(class),
            (_, Some(class)) => return Err(wrong(format!("class {class} of {}", ensemble.width()))),
        };
        Ok(Trees { encoding, ensemble, served })
    }

    pub fn ensemble(&self) -> &Ensemble {
        &self.ensemble
    }

    /// Position of the probability that is served.
    pub fn served(&self) -> Option<usize> {
        self.served
    }

    /// Calls `each` with the answer to every row, `width` numbers, in order.
    pub fn answers(&self, rows: &[&[Value]], mut each: impl FnMut(&[f64])) -> Result<(), String> {
        if let Some((r, row)) = rows.iter().enumerate().find(|(_, row)| row.len() != self.encoding.features()) {
            return Err(format!("row {r} has {} features, the model takes {}", row.len(), self.encoding.features()));
        }
        MEMORY.with_borrow_mut(|(numbers, scratch)| {
            for part in rows.chunks(MAX_BATCH_ROWS) {
                numbers.clear();
                part.iter().for_each(|row| self.encoding.encode(row, numbers));
                if let [_] = part {
                    each(self.ensemble.predict_one(numbers, scratch));
                } else {
                    let mut out = Vec::with_capacity(part.len() * self.ensemble.width());
                    self.ensemble.predict_batch(numbers, scratch, &mut out);
                    out.chunks_exact(self.ensemble.width()).for_each(&mut each);
                }
            }
        });
        Ok(())
    }
}

/// Immutable, so that any number of threads may ask it at once.
pub struct TreeModel {
    manifest: Manifest,
    profile: ReferenceProfile,
    trees: Trees,
    served: usize,
    bytes: usize,
    row_time: Option<Duration>,
}

impl TreeModel {
    /// Reads the trees and answers the golden requests; any difference refuses the version.
    pub fn new(artefact: Artefact) -> Result<TreeModel, String> {
        let Artefact { manifest, weights, profile, golden } = artefact;
        if !(0.0..=1.0).contains(&manifest.threshold) {
            return Err(format!("manifest.json: threshold {} is outside 0..1", manifest.threshold));
        }
        check_calibration(&manifest.calibration).map_err(|e| format!("manifest.json: calibration: {e}"))?;
        check_profile(&profile, &manifest.signature).map_err(|e| format!("profile.json: {e}"))?;
        let trees = Trees::new(&manifest, &weights)?;
        let served = trees.served().ok_or(match trees.ensemble().answer() {
            Answer::Classes => {
                "the model has several classes: say in `architecture` the `class` whose probability is served"
            }
            _ => "the model predicts quantities; what is served is the probability of the positive label",
        })?;
        let bytes = usize::try_from(artefact::memory(&manifest)).unwrap_or(usize::MAX).max(trees.ensemble().bytes());
        let mut model = TreeModel { manifest, profile, trees, served, bytes, row_time: None };
        model.row_time = Some(warm_up(&model, &golden)?);
        Ok(model)
    }
}

impl ModelRuntime for TreeModel {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn profile(&self) -> &ReferenceProfile {
        &self.profile
    }

    fn predict(&self, rows: &[&[Value]]) -> Result<Vec<f64>, String> {
        let mut scores = Vec::with_capacity(rows.len());
        self.trees.answers(rows, |answer| scores.push(self.manifest.calibration.apply(answer[self.served])))?;
        Ok(scores)
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    /// A row is at most the sum of the trees' depths of comparisons.
    fn bounded(&self) -> bool {
        true
    }

    fn row_time(&self) -> Option<Duration> {
        self.row_time
    }
}
