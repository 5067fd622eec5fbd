//! A project folder: `understudy.toml`, `features/`, `models/`, `rules/`, read whole or not at all.

use super::effective::{Effective, resolve};
use super::settings::Settings;
use super::toml_file::TomlFile;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use understudy_domain::problem::Problem;
use understudy_domain::project::{FeatureFile, ModelSpec, RuleFile, RuleSpec};

/// Everything a project declares, and the files it was read from.
#[derive(Clone, Debug)]
pub struct Project {
    pub dir: PathBuf,
    pub settings: Settings,
    /// Every setting with where its value came from.
    pub effective: Vec<Effective>,
    pub features: FeatureFile,
    pub models: Vec<ModelSpec>,
    pub rules: BTreeMap<String, RuleSpec>,
    files: Vec<TomlFile>,
}

impl Project {
    /// Reads a project with the process's environment; `overrides` are (dotted key, value).
    pub fn load(dir: &Path, overrides: &[(String, String)]) -> Result<Project, Vec<Problem>> {
        Project::load_with(dir, std::env::vars(), overrides)
    }

    /// Reads a project with an environment of the caller's.
    pub fn load_with(
        dir: &Path,
        env: impl IntoIterator<Item = (String, String)>,
        overrides: &[(String, String)],
    ) -> Result<Project, Vec<Problem>> {
        let main = dir.join("understudy.toml");
        if !main.is_file() {
            let what = if dir.is_dir() { "the folder has no understudy.toml" } else { "there is no such folder" };
            let hint = format!("`understudy init {}` makes a project there", dir.display());
            return Err(vec![Problem { file: dir.display().to_string(), ..Problem::new("", what, hint) }]);
        }
        let main = TomlFile::read(&main).map_err(|p| vec![p])?;
        let mut problems = Vec::new();
        let resolved = resolve(&main, env, overrides).map_err(|p| problems.extend(p)).ok();
        let mut features = FeatureFile::default();
        let mut owners = BTreeMap::new();
        let mut files = vec![main];
        for (file, part) in read_all::<FeatureFile>(dir, "features", &mut problems) {
            let mut merge = Merge { file: &file, owners: &mut owners, problems: &mut problems };
            // Views and context fields both name features: one name means one thing.
            for (view, spec) in &part.views {
                for name in spec.features.keys() {
                    merge.claim("feature", name, &format!("views.{view}.features.{name}"));
                }
            }
            merge.names("feature", "context", part.context.keys());
            merge.names("feature", "expressions", part.expressions.keys());
            merge.names("entity", "entities", part.entities.keys());
            merge.names("event", "events", part.events.keys());
            merge.names("view", "views", part.views.keys());
            features.entities.extend(part.entities);
            features.events.extend(part.events);
            features.views.extend(part.views);
            features.context.extend(part.context);
            features.expressions.extend(part.expressions);
            files.push(file);
        }
        let mut models = Vec::new();
        for (file, model) in read_all::<ModelSpec>(dir, "models", &mut problems) {
            let mut merge = Merge { file: &file, owners: &mut owners, problems: &mut problems };
            merge.claim("model", &model.name, "name");
            models.push(model);
            files.push(file);
        }
        let mut rules = BTreeMap::new();
        for (file, part) in read_all::<RuleFile>(dir, "rules", &mut problems) {
            Merge { file: &file, owners: &mut owners, problems: &mut problems }.names(
                "rule",
                "rules",
                part.rules.keys(),
            );
            rules.extend(part.rules);
            files.push(file);
        }
        match resolved {
            Some((settings, effective)) if problems.is_empty() => {
                Ok(Project { dir: dir.into(), settings, effective, features, models, rules, files })
            }
            _ => Err(problems),
        }
    }

    /// File and 1-based line of a dotted key such as `views.user_clicks.features.clicks_1h.window`.
    /// A key of a model may begin with `models.NAME.`.
    pub fn locate(&self, key: &str) -> Option<(String, usize)> {
        for model in &self.models {
            let prefix = format!("models.{}", model.name);
            let Some(rest) = key.strip_prefix(&prefix).filter(|r| r.is_empty() || r.starts_with('.')) else { continue };
            let file = self.files.iter().find(|f| f.parse::<ModelSpec>().is_ok_and(|m| m.name == model.name))?;
            let line = file.locate(rest.trim_start_matches('.')).or_else(|| file.locate("name"));
            return Some((file.name.clone(), line.unwrap_or(0)));
        }
        // The file that knows the longest beginning of the key.
        let mut rest = key;
        loop {
            if let Some(f) = self.files.iter().find(|f| f.has(rest)) {
                return Some((f.name.clone(), f.locate(rest).unwrap_or(0)));
            }
            rest = &rest[..rest.rfind('.')?];
        }
    }

    /// Adds file and line to a problem of a later step that has only a dotted key.
    pub fn place(&self, mut p: Problem) -> Problem {
        if p.file.is_empty()
            && let Some((file, line)) = self.locate(&p.key)
        {
            p.file = file;
            p.line = line;
        }
        p
    }
}

/// Names seen so far, and the file each came from.
struct Merge<'a> {
    file: &'a TomlFile,
    owners: &'a mut BTreeMap<(&'static str, String), String>,
    problems: &'a mut Vec<Problem>,
}

impl Merge<'_> {
    fn names<'n>(&mut self, what: &'static str, section: &str, names: impl Iterator<Item = &'n String>) {
        for name in names {
            self.claim(what, name, &format!("{section}.{name}"));
        }
    }

    fn claim(&mut self, what: &'static str, name: &str, key: &str) {
        let (fits, allowed) = match what {
            "model" => (model_name(name), "a lowercase letter or digit, then up to 62 of a-z 0-9 . _ -"),
            "feature" => (feature_name(name), "a letter or _, then up to 63 letters, digits or _ (a CEL name)"),
            _ => (!name.is_empty(), "at least one character"),
        };
        if !fits {
            let p = Problem::new(key, format!("`{name}` is not a {what} name"), format!("use {allowed}"));
            self.problems.push(self.file.place(p));
        }
        if let Some(first) = self.owners.insert((what, name.into()), self.file.name.clone()) {
            let message = format!("the {what} `{name}` is declared in {first} and in {}", self.file.name);
            self.problems.push(self.file.place(Problem::new(key, message, "rename or remove one of them")));
        }
    }
}

fn model_name(s: &str) -> bool {
    let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    s.len() <= 63 && s.bytes().next().is_some_and(lower) && s.bytes().all(|b| lower(b) || b"._-".contains(&b))
}

fn feature_name(s: &str) -> bool {
    s.len() <= 64
        && !s.as_bytes().first().is_none_or(u8::is_ascii_digit)
        && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The parsed `*.toml` of a folder, by file name. A folder that is not there is empty.
fn read_all<T: DeserializeOwned>(dir: &Path, folder: &str, problems: &mut Vec<Problem>) -> Vec<(TomlFile, T)> {
    let Ok(entries) = std::fs::read_dir(dir.join(folder)) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "toml"));
    paths.sort();
    let mut out = Vec::new();
    for path in paths {
        match TomlFile::read(&path).and_then(|f| f.parse().map(|t| (f, t))) {
            Ok(pair) => out.push(pair),
            Err(p) => problems.push(p),
        }
    }
    out
}
