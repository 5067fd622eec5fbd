//! Feature state of other definitions, beside `state/`: `layouts/<layout>/state`. Made when a changed project is built
//! while the server runs; used by the next start if the project is still that one.

use super::StoreOptions;
use super::report::OpenReport;
use super::state::SledFeatures;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use understudy_actors::ports::{FeatureStore, StoreError};

/// Opens the store of a layout beside the store at `state`.
pub(super) fn open(state: &Path, layout: &str, options: &StoreOptions) -> Result<Arc<dyn FeatureStore>, StoreError> {
    let folder = layouts(state).join(folder_of(layout));
    let io = |e: String| StoreError::Io(format!("{}: {e}", folder.display()));
    std::fs::create_dir_all(&folder).map_err(|e| io(e.to_string()))?;
    let store = SledFeatures::open(&folder, options, &mut OpenReport::default()).map_err(|e| io(e.to_string()))?;
    Ok(Arc::new(store))
}

fn layouts(state: &Path) -> PathBuf {
    state.with_file_name("layouts")
}

fn folder_of(layout: &str) -> String {
    layout.replace(|c: char| !c.is_ascii_alphanumeric(), "-")
}

/// The store that a start uses: the one beside `state/` if that was built for this layout while the server ran, else
/// `state/` itself. Others are removed: the event log has what they were made from.
pub fn features_of(root: &Path, own: Arc<dyn FeatureStore>, layout: &str) -> Arc<dyn FeatureStore> {
    let all = layouts(&root.join("state"));
    let built = all.join(folder_of(layout));
    let elsewhere = !matches!(own.layout(), Ok(None)) && own.layout() != Ok(Some(layout.to_owned()));
    let used = if elsewhere && built.is_dir() { own.beside(layout).ok() } else { None };
    for entry in std::fs::read_dir(&all).into_iter().flatten().flatten() {
        if (used.is_none() || entry.path() != built)
            && let Err(e) = std::fs::remove_dir_all(entry.path())
        {
            tracing::warn!(folder = %entry.path().display(), %e, "state of other features could not be removed");
        }
    }
    used.unwrap_or(own)
}
