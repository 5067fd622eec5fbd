//! The registered versions under `<data>/models/<model>/<version>/`: implements the loader and trainer ports.
//!
//! A version's folder never changes once it is there. What is decided about versions (names, archived ones) stands in
//! one file per model beside them, replaced as a whole.

use super::artefact::{self, Artefact, valid_name};
use super::candle::CandleModel;
use super::trees::TreeModel;
use super::{bundle, challenge, train};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use understudy_actors::ports::{
    Accept, Challenger, ModelLoader, ModelRuntime, Progress, RegisterError, Trainer, TrainingJob,
};
use understudy_domain::model::Manifest;
use understudy_domain::profile::ReferenceProfile;
use understudy_domain::registry::VersionLedger;

/// Names and archived versions of a model.
const LEDGER: &str = "registry.json";
const MAX_LEDGER_BYTES: u64 = 1 << 20;

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

    fn next_version(&self, model: &str) -> Result<String, String> {
        let versions = self.versions(model)?;
        let last = versions.last().and_then(|v| v[1..].parse::<u64>().ok()).unwrap_or(0);
        Ok(format!("v{}", last.saturating_add(1)))
    }

    /// A version with exactly these files, if there is one.
    fn same_files(&self, manifest: &Manifest) -> Result<Option<String>, String> {
        for version in self.versions(&manifest.model)? {
            // One that cannot be read is not the same.
            let known = self.manifest(&manifest.model, &version).ok();
            if known.is_some_and(|k| k.files == manifest.files && k.architecture == manifest.architecture) {
                return Ok(Some(version));
            }
        }
        Ok(None)
    }

    fn take_in(&self, bundle: &[u8], accept: &Accept<'_>) -> Result<Manifest, RegisterError> {
        let refused = RegisterError::Refused;
        let storage = RegisterError::Storage;
        let mut files = bundle::files(bundle).map_err(refused)?;
        let mut artefact = Artefact::from_files(&files).map_err(refused)?;
        files.retain(|(name, _)| name != artefact::MANIFEST);
        let model = artefact.manifest.model.clone();
        self.dir(&model, "v1").map_err(refused)?;
        let _one = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(version) = self.same_files(&artefact.manifest).map_err(storage)? {
            return Err(RegisterError::Known { model, version });
        }
        artefact.manifest.version = self.next_version(&model).map_err(storage)?;
        let manifest = artefact.manifest.clone();
        let runtime = open(artefact).map_err(refused)?;
        accept(&runtime).map_err(refused)?;
        let dir = self.dir(&model, &manifest.version).map_err(refused)?;
        artefact::store(&manifest, &files, &dir).map_err(storage)?;
        Ok(manifest)
    }
}

/// The runtime that a version is made for; answers the golden requests, or is refused.
pub fn open(artefact: Artefact) -> Result<Arc<dyn ModelRuntime>, String> {
    match artefact.manifest.runtime.as_str() {
        artefact::TREES => Ok(Arc::new(TreeModel::new(artefact)?)),
        #[cfg(feature = "onnx")]
        artefact::ONNX => Ok(Arc::new(super::onnx::OnnxModel::new(artefact)?)),
        #[cfg(not(feature = "onnx"))]
        artefact::ONNX => Err("manifest.json: runtime `onnx`: this program was built without it; build it with \
            `cargo build --release --features onnx`"
            .into()),
        _ => Ok(Arc::new(CandleModel::new(artefact)?)),
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

    fn profile(&self, model: &str, version: &str) -> Result<ReferenceProfile, String> {
        Ok(Artefact::read(&self.dir(model, version)?)?.profile)
    }

    fn manifest(&self, model: &str, version: &str) -> Result<Manifest, String> {
        artefact::read_manifest(&self.dir(model, version)?.join(artefact::MANIFEST))
    }

    fn ledger(&self, model: &str) -> Result<VersionLedger, String> {
        let path = self.dir(model, "v1")?.with_file_name(LEDGER);
        let wrong = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
        if !path.exists() {
            return Ok(VersionLedger::default());
        }
        serde_json::from_slice(&artefact::read_regular(&path, MAX_LEDGER_BYTES)?).map_err(|e| wrong(&e))
    }

    fn save_ledger(&self, model: &str, ledger: &VersionLedger) -> Result<(), String> {
        let path = self.dir(model, "v1")?.with_file_name(LEDGER);
        let text = serde_json::to_vec_pretty(ledger).map_err(|e| e.to_string())?;
        replace(&path, &text).map_err(|e| format!("{}: {e}", path.display()))
    }

    fn weigh(&self, model: &str, version: &str) -> Result<u64, String> {
        Ok(artefact::memory(&self.manifest(model, version)?))
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
        open(artefact).map_err(|e| format!("{}: {e}", dir.display()))
    }

    fn register(&self, bundle: &[u8], accept: &Accept<'_>) -> Result<Manifest, RegisterError> {
        self.take_in(bundle, accept)
    }
}

/// Written beside, synced, renamed: the old content or the new one, whatever happens.
fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let parent = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let beside = path.with_extension("partial");
    let mut file = fs::File::create(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    fs::File::open(parent)?.sync_all()
}

impl Registry {
    /// Registers what was made, under the next version.
    fn store(&self, mut artefact: Artefact) -> Result<Manifest, String> {
        artefact.manifest.version = self.next_version(&artefact.manifest.model)?;
        let dir = self.dir(&artefact.manifest.model, &artefact.manifest.version)?;
        artefact.write(&dir)
    }

    /// The newest version, if it is this very content.
    fn known(&self, artefact: &Artefact) -> Result<Option<Manifest>, String> {
        let Some(last) = self.versions(&artefact.manifest.model)?.pop() else { return Ok(None) };
        let known = Artefact::read(&self.dir(&artefact.manifest.model, &last)?).ok();
        let known = known.filter(|k| k.weights == artefact.weights && same(&k.manifest, &artefact.manifest));
        Ok(known.map(|k| k.manifest))
    }
}

/// The same but for what registering adds. `made` is compared as it would be read back: a number may lose its last bit.
fn same(known: &Manifest, made: &Manifest) -> bool {
    let plain = |m: &Manifest| Manifest { version: String::new(), files: Vec::new(), ..m.clone() };
    let read_back = serde_json::to_vec(&plain(made)).and_then(|text| serde_json::from_slice::<Manifest>(&text));
    read_back.is_ok_and(|made| plain(known) == made)
}

impl Trainer for Registry {
    fn train(&self, job: TrainingJob, progress: Progress<'_>) -> Result<Manifest, String> {
        self.dir(&job.model, "v1")?; // a name that cannot be stored fails before the work
        let artefact = train::train(job, progress)?;
        // What would be refused at load must not be registered.
        open(artefact.clone())?;
        let _one = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        self.store(artefact)
    }

    fn prepare(&self, job: TrainingJob, progress: Progress<'_>) -> Result<Challenger, String> {
        self.dir(&job.model, "v1")?;
        challenge::prepare(job, progress)
    }

    fn recalibrate(&self, job: TrainingJob, base: &str) -> Result<Challenger, String> {
        let dir = self.dir(&job.model, base)?;
        challenge::recalibrate(job, &dir)
    }

    fn publish(&self, challenger: Challenger) -> Result<Manifest, String> {
        let artefact = challenge::artefact(challenger)?;
        let _one = self.publishing.lock().unwrap_or_else(PoisonError::into_inner);
        // A job that ran again after a death made the same as before it.
        match self.known(&artefact)? {
            Some(known) => Ok(known),
            None => self.store(artefact),
        }
    }
}
