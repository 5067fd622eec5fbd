//! The registered versions under `<data>/models/<model>/<version>/`: implements the loader and trainer ports.

use super::artefact::{Artefact, valid_name};
use super::network::CandleModel;
use super::train;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use understudy_actors::ports::{ModelLoader, ModelRuntime, Progress, Trainer, TrainingJob};
use understudy_domain::model::Manifest;

pub struct Registry {
    root: PathBuf,
}

impl Registry {
    pub fn new(root: PathBuf) -> Registry {
        Registry { root }
    }

    fn dir(&self, model: &str, version: &str) -> Result<PathBuf, String> {
        if !valid_name(model) || !valid_name(version) {
            return Err(format!("`{model}` {version}: names are lower-case letters, digits, `.`, `_`, `-`"));
        }
        Ok(self.root.join(model).join(version))
    }
}

impl ModelLoader for Registry {
    fn versions(&self, model: &str) -> Result<Vec<String>, String> {
        let dir = self.root.join(model);
        let Ok(entries) = fs::read_dir(&dir) else { return Ok(Vec::new()) };
        let mut numbers: Vec<u64> =
            entries.filter_map(|e| e.ok()?.file_name().to_str()?.strip_prefix('v')?.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers.into_iter().map(|n| format!("v{n}")).collect())
    }

    fn load(&self, model: &str, version: &str) -> Result<Arc<dyn ModelRuntime>, String> {
        Ok(Arc::new(CandleModel::new(Artefact::read(&self.dir(model, version)?)?)?))
    }
}

impl Trainer for Registry {
    fn train(&self, job: TrainingJob, progress: Progress<'_>) -> Result<Manifest, String> {
        let last = self.versions(&job.model)?.last().and_then(|v| v[1..].parse::<u64>().ok()).unwrap_or(0);
        let version = format!("v{}", last + 1);
        let dir = self.dir(&job.model, &version)?;
        let artefact = train::train(job, version, progress)?;
        // What would be refused at load must not be registered.
        CandleModel::new(artefact.clone())?;
        artefact.write(&dir)
    }
}
