//! A project's configuration as the system sees it: the port to its files, a change, and what became of it.

use crate::deps::LiveSettings;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use understudy_domain::catalog::Catalog;
use understudy_domain::time::Timestamp;

/// The files of a project as they were at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// Of names and contents.
    pub hash: String,
    /// Path relative to the project, and contents; in order of path.
    pub files: Vec<(String, String)>,
}

/// Files that were found right, whole.
#[derive(Clone)]
pub struct Compiled {
    pub catalog: Arc<Catalog>,
    pub settings: LiveSettings,
    /// A level, or a filter of the log.
    pub log_level: String,
    /// Every key with its value, for the diff.
    pub values: BTreeMap<String, String>,
}

/// When a changed key takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// With the generation, between two requests.
    Live,
    /// At the next start.
    Restart,
}

/// One key of the project that is another than before; `None` where it is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyChange {
    pub key: String,
    pub from: Option<String>,
    pub to: Option<String>,
    pub effect: Effect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Begun and not finished: after a crash the last one applied is used.
    Applying,
    Applied,
    Refused,
    /// A newer change came while features were being built.
    Superseded,
    /// Nothing but comments or order.
    Unchanged,
}

/// One look at changed files, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// In force after it: a new one if it was applied.
    pub generation: u64,
    pub time: Timestamp,
    /// Who asked: `start`, `file`, `signal`, `api ...`, `revert N`.
    pub by: String,
    pub hash: String,
    pub verdict: Verdict,
    pub changes: Vec<KeyChange>,
    /// Why it was refused; file, line, key and reason each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// Changed keys that take effect at the next start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub at_next_start: Vec<String>,
    /// Of applied changes: what makes a revert possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Files>,
}

/// The project's files and the history of its changes; calls block.
pub trait ConfigSource: Send + Sync {
    fn read(&self) -> Result<Files, String>;
    /// All of it, or all that is wrong: each with file, line, key and reason.
    fn compile(&self, files: &Files) -> Result<Compiled, Vec<String>>;
    /// Makes the project's files these, each atomically.
    fn write(&self, files: &Files) -> Result<(), String>;
    fn effect(&self, key: &str) -> Effect;
    /// What is not in the actors' hands: the level of the log.
    fn apply(&self, compiled: &Compiled);
    /// Oldest first.
    fn history(&self) -> Vec<Change>;
    /// Durable when it returns; replaces a last entry that is `Applying`.
    fn record(&self, change: Change) -> Result<(), String>;
}

/// How far features of a changed project are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Building {
    /// Sequence number of the event log that has been read, and its last one.
    pub read: u64,
    pub of: u64,
}

/// For `/v1/config`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConfigStatus {
    pub generation: u64,
    pub hash: String,
    /// Of the generation in force.
    pub since: Timestamp,
    #[serde(default)]
    pub building: Option<Building>,
    /// The last change that was refused, until one is applied.
    #[serde(default)]
    pub last_error: Option<Change>,
    /// Keys that are other in the files than at the start, and wait for the next one.
    #[serde(default)]
    pub at_next_start: Vec<String>,
}

/// Keys that differ, in order.
pub fn diff(
    old: &BTreeMap<String, String>,
    new: &BTreeMap<String, String>,
    effect: impl Fn(&str) -> Effect,
) -> Vec<KeyChange> {
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter()
        .filter(|key| old.get(*key) != new.get(*key))
        .map(|key| KeyChange {
            key: key.clone(),
            from: old.get(key).cloned(),
            to: new.get(key).cloned(),
            effect: effect(key),
        })
        .collect()
}
