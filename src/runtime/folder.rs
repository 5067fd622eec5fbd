//! A model's folder by itself, outside of any project: a version with its manifest, or just a tree model's file as the
//! library saved it. For commands that check and measure.

use super::artefact::{Artefact, MANIFEST, TREES, read_regular};
use super::registry;
use super::trees::Trees;
use std::path::Path;
use std::sync::Arc;
use understudy_actors::ports::ModelRuntime;
use understudy_domain::model::Signature;
use understudy_domain::trees::import::{Format, MAX_BYTES};
use understudy_domain::trees::{Ensemble, Scratch};
use understudy_domain::value::Value;

pub enum Folder {
    /// What the program would serve.
    Served(Arc<dyn ModelRuntime>),
    /// A version whose answers are no probability of one label: it can be asked, not served.
    Values { signature: Signature, trees: Box<Trees> },
    /// A file without a manifest: rows are the model's own numbers.
    Plain { format: Format, ensemble: Box<Ensemble> },
}

impl Folder {
    pub fn open(dir: &Path) -> Result<Folder, String> {
        if dir.join(MANIFEST).exists() {
            let artefact = Artefact::read(dir)?;
            let at = |e: String| format!("{}: {e}", dir.display());
            if artefact.manifest.runtime == TREES {
                let trees = Trees::new(&artefact.manifest, &artefact.weights).map_err(at)?;
                if trees.served().is_none() {
                    return Ok(Folder::Values { signature: artefact.manifest.signature, trees: Box::new(trees) });
                }
            }
            return registry::open(artefact).map(Folder::Served).map_err(at);
        }
        let found: Vec<Format> = Format::ALL.into_iter().filter(|f| dir.join(f.file()).exists()).collect();
        match found.as_slice() {
            [format] => {
                let path = dir.join(format.file());
                let bytes = read_regular(&path, MAX_BYTES as u64)?;
                let ensemble = format.read(&bytes).map_err(|e| format!("{}: {e}", path.display()))?;
                Ok(Folder::Plain { format: *format, ensemble: Box::new(ensemble) })
            }
            [] => {
                let names = Format::ALL.map(Format::file).join(", ");
                Err(format!("{}: there is neither {MANIFEST} nor one of {names}", dir.display()))
            }
            _ => Err(format!("{}: there are several models and no {MANIFEST} that names one", dir.display())),
        }
    }

    /// The features of a row; none says that rows are plain numbers.
    pub fn signature(&self) -> Option<&Signature> {
        match self {
            Folder::Served(runtime) => Some(&runtime.manifest().signature),
            Folder::Values { signature, .. } => Some(signature),
            Folder::Plain { .. } => None,
        }
    }

    pub fn what(&self) -> String {
        match self {
            Folder::Served(r) => format!("{} {} ({})", r.manifest().model, r.manifest().version, r.manifest().runtime),
            Folder::Values { trees, .. } => format!("{} trees, not served", trees.ensemble().trees()),
            Folder::Plain { format, ensemble } => format!("{}: {} trees", format.file(), ensemble.trees()),
        }
    }

    /// The numbers of every row's answer.
    pub fn answers(&self, rows: &[Vec<Value>]) -> Result<Vec<Vec<f64>>, String> {
        let slices: Vec<&[Value]> = rows.iter().map(Vec::as_slice).collect();
        match self {
            Folder::Served(runtime) => Ok(runtime.predict(&slices)?.into_iter().map(|s| vec![s]).collect()),
            Folder::Values { trees, .. } => {
                let mut all = Vec::with_capacity(rows.len());
                trees.answers(&slices, |answer| all.push(answer.to_vec()))?;
                Ok(all)
            }
            Folder::Plain { ensemble, .. } => {
                let (mut scratch, mut all) = (Scratch::default(), Vec::with_capacity(rows.len()));
                for (i, row) in rows.iter().enumerate() {
                    let numbers = numbers(row, ensemble.features()).map_err(|e| format!("row {}: {e}", i + 1))?;
                    all.push(ensemble.predict_one(&numbers, &mut scratch).to_vec());
                }
                Ok(all)
            }
        }
    }
}

/// A row as the model's own numbers; null is NaN.
pub fn numbers(row: &[Value], features: usize) -> Result<Vec<f64>, String> {
    if row.len() != features {
        return Err(format!("{} values, the model takes {features}", row.len()));
    }
    row.iter()
        .map(|v| match v {
            Value::Null => Ok(f64::NAN),
            v => v.as_f64().ok_or_else(|| format!("{v} is no number; only a manifest can say what categories are")),
        })
        .collect()
}
