//! The project that the server runs: which files it starts with, how they become a generation, and what a change of
//! them does to the process.

use crate::cli::host::Overrides;
use crate::config::{self, History, Project, files, keys};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use understudy_actors::admission::AdmissionLimits;
use understudy_actors::config::{Change, Compiled, ConfigSource, Effect, Files, Verdict, diff};
use understudy_actors::config_watcher::InForce;
use understudy_actors::deps::{LiveSettings, Retention};
use understudy_actors::ports::Clock;
use understudy_domain::problem::Problem;

/// Sets the level of the log; there is none before the first server of the process.
pub static SET_LOG_LEVEL: OnceLock<SetLevel> = OnceLock::new();

type SetLevel = Box<dyn Fn(&str) + Send + Sync>;

/// Implements the port of the config watcher over a project's folder.
pub struct ProjectSource {
    dir: PathBuf,
    /// Of the start: they win over the files for as long as the server runs.
    env: Vec<(String, String)>,
    overrides: Overrides,
    workers: usize,
    history: Mutex<History>,
}

/// What a server starts with.
pub struct Start {
    pub source: Arc<ProjectSource>,
    pub in_force: InForce,
    pub generation: u64,
}

impl ProjectSource {
    fn load(&self, files: &Files) -> Result<Project, Vec<Problem>> {
        Project::from_files(&self.dir, files, self.env.iter().cloned(), &self.overrides)
    }

    fn compiled(&self, files: &Files) -> Result<Compiled, Vec<Problem>> {
        let project = self.load(files)?;
        let catalog = project.compile()?;
        Ok(Compiled {
            catalog: Arc::new(catalog),
            settings: live_settings(&project.settings, self.workers),
            log_level: project.settings.log.level.clone(),
            values: project.values(),
        })
    }

    fn history(&self) -> std::sync::MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Decides which files the server starts with: those of the folder, or the last ones applied where the process died
/// while it applied a change of them.
pub fn start(
    dir: &Path,
    overrides: &Overrides,
    data: &Path,
    workers: usize,
    clock: &dyn Clock,
) -> Result<Start, Vec<Problem>> {
    let read = files::read(dir).map_err(|p| vec![p])?;
    let source = ProjectSource {
        dir: dir.to_owned(),
        env: std::env::vars().collect(),
        overrides: overrides.clone(),
        workers,
        history: Mutex::new(History::open(data)),
    };
    let (last, cut_off, newest) = {
        let history = source.history();
        let last = history.last_applied().map(|(number, files)| (number, files.clone()));
        (last, history.cut_off().cloned(), history.newest())
    };
    let mut instead = None;
    let mut used = read;
    if let (Some(change), Some((_, good))) = (cut_off.filter(|c| c.hash == used.hash), &last)
        && good.hash != used.hash
    {
        let why = "the server ended while this change was being applied, and the last good files are used instead: \
                   `understudy config reload` tries the change again";
        tracing::error!(change = change.hash, "{why}");
        instead = Some(Change { verdict: Verdict::Refused, problems: vec![why.to_owned()], ..change });
        used = good.clone();
    }
    let compiled = source.compiled(&used)?;
    let generation = match &last {
        Some((number, files)) if files.hash == used.hash => *number,
        _ => newest + 1,
    };
    let before = last.as_ref().filter(|(number, _)| *number != generation);
    let before = before.and_then(|(_, files)| source.compiled(files).ok()).map(|c| c.values);
    if let Some(refused) = &instead {
        record(&source, refused.clone());
    }
    if last.as_ref().is_none_or(|(number, _)| *number != generation) {
        let change = Change {
            generation,
            time: clock.now(),
            by: "start".into(),
            hash: used.hash.clone(),
            verdict: Verdict::Applied,
            changes: before.map(|old| diff(&old, &compiled.values, keys::effect)).unwrap_or_default(),
            problems: Vec::new(),
            at_next_start: Vec::new(),
            files: Some(used.clone()),
        };
        record(&source, change);
    }
    Ok(Start { source: Arc::new(source), in_force: InForce { files: used, compiled, instead }, generation })
}

/// A history that cannot be written does not keep the server from serving.
fn record(source: &ProjectSource, change: Change) {
    if let Err(e) = source.history().record(change) {
        tracing::error!(e, "the history of the configuration could not be written");
    }
}

impl ConfigSource for ProjectSource {
    fn read(&self) -> Result<Files, String> {
        files::read(&self.dir).map_err(|p| p.to_string())
    }

    fn compile(&self, files: &Files) -> Result<Compiled, Vec<String>> {
        self.compiled(files).map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    fn write(&self, files: &Files) -> Result<(), String> {
        files::write(&self.dir, files).map_err(|e| format!("{}: {e}", self.dir.display()))
    }

    fn effect(&self, key: &str) -> Effect {
        keys::effect(key)
    }

    fn apply(&self, compiled: &Compiled) {
        if let Some(set) = SET_LOG_LEVEL.get() {
            set(&compiled.log_level);
        }
    }

    fn history(&self) -> Vec<Change> {
        self.history().changes().to_vec()
    }

    fn record(&self, change: Change) -> Result<(), String> {
        self.history().record(change)
    }
}

pub fn live_settings(s: &config::Settings, workers: usize) -> LiveSettings {
    LiveSettings {
        shards: if s.features.shards == 0 { workers } else { s.features.shards },
        max_entities: s.features.max_entities,
        lateness: s.features.lateness,
        max_future: s.features.max_future,
        dedupe_window: s.features.dedupe,
        admission: AdmissionLimits { max_in_flight: s.limits.max_in_flight as u64, max_wait: s.limits.max_wait.std() },
        log_sync: s.prediction_log.mode == config::LogMode::Sync,
        max_body_bytes: s.server.max_body_bytes,
        max_upload_bytes: s.models.max_upload_bytes,
        max_instances: s.limits.max_instances,
        max_events: s.limits.max_events_per_request,
        request_timeout: s.server.request_timeout.std(),
        retention: Retention {
            events_age: s.retention.events_age,
            events_bytes: s.retention.events_bytes,
            predictions_age: s.retention.predictions_age,
            predictions_bytes: s.retention.predictions_bytes,
            outcomes_age: s.retention.outcomes_age,
            outcomes_bytes: s.retention.outcomes_bytes,
        },
        ..LiveSettings::default()
    }
}
