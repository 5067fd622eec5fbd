//! A loaded version: checks that its parts fit together, then answers on candle.

use super::artefact::{self, Artefact};
use super::fused::Fused;
use super::network::{Architecture, Network, encode};
use super::warm_up::warm_up;
use std::time::Duration;
use understudy_actors::ports::ModelRuntime;
use understudy_domain::calibrate::Calibration;
use understudy_domain::model::{Manifest, Signature};
use understudy_domain::profile::ReferenceProfile;
use understudy_domain::value::Value;

/// Rows of one matrix; larger batches are cut, so that memory stays bounded.
const MAX_BATCH_ROWS: usize = 4096;

/// Immutable, so that any number of threads may ask it at once.
pub struct CandleModel {
    manifest: Manifest,
    profile: ReferenceProfile,
    architecture: Architecture,
    network: Network,
    fused: Fused,
    bytes: usize,
    row_time: Option<Duration>,
}

impl CandleModel {
    /// Builds the network and answers the golden requests; any difference refuses the version.
    pub fn new(artefact: Artefact) -> Result<CandleModel, String> {
        let Artefact { manifest, weights, profile, golden } = artefact;
        if manifest.runtime != "candle" {
            return Err(format!(
                "manifest.json: runtime `{}` is not known; this program runs `candle` and `trees`",
                manifest.runtime
            ));
        }
        if !(0.0..=1.0).contains(&manifest.threshold) {
            return Err(format!("manifest.json: threshold {} is outside 0..1", manifest.threshold));
        }
        let architecture: Architecture = serde_json::from_value(manifest.architecture.clone())
            .map_err(|e| format!("manifest.json: architecture: {e}"))?;
        architecture
            .encoder
            .check(&manifest.signature)
            .and_then(|()| architecture.check())
            .map_err(|e| format!("manifest.json: architecture: {e}"))?;
        check_calibration(&manifest.calibration).map_err(|e| format!("manifest.json: calibration: {e}"))?;
        check_profile(&profile, &manifest.signature).map_err(|e| format!("profile.json: {e}"))?;
        let network = Network::load(&weights, &architecture)?;
        let fused = Fused::new(&network).map_err(|e| format!("model.safetensors: {e}"))?;
        let bytes = usize::try_from(artefact::memory(&manifest)).unwrap_or(usize::MAX).max(2 * weights.len());
        let mut model = CandleModel { bytes, manifest, profile, architecture, network, fused, row_time: None };
        model.row_time = Some(warm_up(&model, &golden)?);
        Ok(model)
    }

    fn check_rows(&self, rows: &[&[Value]]) -> Result<(), String> {
        let features = &self.manifest.signature.features;
        for (r, row) in rows.iter().enumerate() {
            if row.len() != features.len() {
                return Err(format!("row {r} has {} features, the model takes {}", row.len(), features.len()));
            }
            if let Some(i) = row.iter().position(|v| matches!(v, Value::Float(x) if !x.is_finite())) {
                return Err(format!("row {r}: feature `{}` is not a finite number", features[i].name));
            }
        }
        Ok(())
    }

    /// Uncalibrated.
    fn raw(&self, rows: &[&[Value]]) -> candle_core::Result<Vec<f64>> {
        let encoder = &self.architecture.encoder;
        match rows {
            [row] => Ok(vec![self.fused.probability(encoder, row)?]),
            _ => self.network.probabilities(&encode(encoder, rows)?),
        }
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
        self.check_rows(rows)?;
        let mut scores = Vec::with_capacity(rows.len());
        for part in rows.chunks(MAX_BATCH_ROWS) {
            for p in self.raw(part).map_err(|e| e.to_string())? {
                // What is no number stays none: whoever asked counts it and refuses.
                scores.push(if p.is_finite() { self.manifest.calibration.apply(p) } else { p });
            }
        }
        Ok(scores)
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    /// A row is a fixed number of multiplications.
    fn bounded(&self) -> bool {
        true
    }

    fn row_time(&self) -> Option<Duration> {
        self.row_time
    }
}

pub(super) fn check_calibration(calibration: &Calibration) -> Result<(), String> {
    match calibration {
        Calibration::None => Ok(()),
        Calibration::Platt { a, b } if a.is_finite() && *a >= 0.0 && b.is_finite() => Ok(()),
        Calibration::Platt { .. } => Err("platt needs finite numbers and a >= 0".into()),
        Calibration::Isotonic { x, y } => {
            let ordered = !x.is_empty() && x.len() == y.len() && x.is_sorted_by(|a, b| a < b) && y.is_sorted();
            if ordered && x.iter().all(|v| v.is_finite()) && y.iter().all(|v| (0.0..=1.0).contains(v)) {
                return Ok(());
            }
            Err("isotonic needs as many y as x, x increasing, y within 0..1 and not decreasing".into())
        }
    }
}

pub(super) fn check_profile(profile: &ReferenceProfile, signature: &Signature) -> Result<(), String> {
    let found = profile.features.iter().map(|f| f.name.as_str());
    let expected = signature.features.iter().map(|f| f.name.as_str());
    if found.eq(expected) { Ok(()) } else { Err("its features are not those of the signature".into()) }
}

#[cfg(test)]
#[path = "candle_tests.rs"]
mod tests;
