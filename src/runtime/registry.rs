//! The registered versions under `<data>/models/<model>/<version>/`: implements the loader and trainer ports.

use super::artefact::{Artefact, valid_name};
use super::candle::CandleModel;
use super::train;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use understudy_actors::ports::{ModelLoader, ModelRuntime, Progress, Trainer, TrainingJob};
use understudy_domain::model::Manifest;

pub struct Registry {
    root: PathBuf,
    /// Held while a version gets its number and its folder.
    publishing: Mutex<()>,
}

impl Registry {
    pub fn new(root: PathBuf) -> Registry {
        Registry { root, publishing: Mutex::new(()) }
    }

    fn dir(&self, model: &str, version: &str) -> Result<PathBuf, String> {
        if !valid_name(model) || !valid_name(version) {
            return Err(format!(
                "{model:?} {version:?}: names are 1..63 lower-case letters, digits, `.`, `_`, `-` and begin with a letter or digit"
            ));
        }
        Ok(self.root.join(model).join(version))
    }
}

impl ModelLoader for Registry {
    fn versions(&self, model: &str) -> Result<Vec<String>, String> {
        let dir = self.dir(model, "v1")?;
        let dir = dir.parent().unwrap_or(&self.root);
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(format!("{}: {e}", dir.display())),
        };
        let number = |name: &str| {
            let n: u64 = name.strip_prefix('v')?.parse().ok()?;
            (format!("v{n}") == name).then_some(n) // `v07` and `v+7` are not ours
        };
        let mut numbers: Vec<u64> = entries.filter_map(|e| number(e.ok()?.file_name().to_str()?)).collect();
        numbers.sort_unstable();
        Ok(numbers.into_iter().map(|n| format!("v{n}")).collect())
    }

    fn load(&self, model: &str, version: &str) -> Result<Arc<dyn ModelRuntime>, String> {
        let dir = self.dir(model, version)?;
        let artefact = Artefact::read(&dir)?;
        if artefact.manifest.model != model || artefact.manifest.version != version {
            return Err(format!(
                "{}: the manifest is of `{}` {}; a version lives in the folder it was made for",
                dir.display(),
                artefact.manifest.model,
                artefact.manifest.version
            ));
        }
        let loaded = CandleModel::new(artefact).map_err(|e| format!("{}: {e}", dir.display()))?;
        Ok(Arc::new(loaded))
    }
}

impl Trainer for Registry {
    fn train(&self, job: TrainingJob, progress: Progress<'_>) -> Result<Manifest, String> {
        self.dir(&job.model, "v1")?; // a name that cannot be stored fails before the work
        let mut artefact = train::train(job, progress)?;
        let _one = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        let versions = self.versions(&artefact.manifest.model)?;
        let last = versions.last().and_then(|v| v[1..].parse::<u64>().ok()).unwrap_or(0);
        artefact.manifest.version = format!("v{}", last.saturating_add(1));
        let dir = self.dir(&artefact.manifest.model, &artefact.manifest.version)?;
        // What would be refused at load must not be registered.
        CandleModel::new(artefact.clone())?;
        artefact.write(&dir)
    }
}
