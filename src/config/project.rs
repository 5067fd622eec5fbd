//! A project folder: `understudy.toml`, `features/`, `models/`, `rules/`, read whole or not at all.

use super::effective::{Effective, resolve};
use super::settings::Settings;
use super::toml_file::TomlFile;
use super::{files, keys};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use understudy_actors::config::Files;
use understudy_domain::catalog::Catalog;
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
        let main = dir.join(files::MAIN);
        if !main.is_file() {
            let what = if dir.is_dir() { "the folder has no understudy.toml" } else { "there is no such folder" };
            let hint = format!("`understudy init {}` makes a project there", dir.display());
            return Err(vec![Problem { file: dir.display().to_string(), ..Problem::new("", what, hint) }]);
        }
        let files = files::read(dir).map_err(|p| vec![p])?;
        Project::from_files(dir, &files, env, overrides)
    }

    /// A project out of files that were read before: nothing else is looked at.
    pub fn from_files(
        dir: &Path,
        read: &Files,
        env: impl IntoIterator<Item = (String, String)>,
        overrides: &[(String, String)],
    ) -> Result<Project, Vec<Problem>> {
        let file = |(name, text): &(String, String)| TomlFile::new(dir.join(name).display().to_string(), text.clone());
        let main =
            read.files.iter().find(|(name, _)| name == files::MAIN).map(file).unwrap_or_else(|| TomlFile::new("", ""));
        let mut problems = Vec::new();
        let resolved = resolve(&main, env, overrides).map_err(|p| problems.extend(p)).ok();
        let mut features = FeatureFile::default();
        let mut owners = BTreeMap::new();
        let mut parsed = vec![main];
        for (file, part) in parse_all::<FeatureFile>(dir, read, "features", &mut problems) {
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
            parsed.push(file);
        }
        let mut models = Vec::new();
        for (file, model) in parse_all::<ModelSpec>(dir, read, "models", &mut problems) {
            let mut merge = Merge { file: &file, owners: &mut owners, problems: &mut problems };
            merge.claim("model", &model.name, "name");
            models.push(model);
            parsed.push(file);
        }
        let mut rules = BTreeMap::new();
        for (file, part) in parse_all::<RuleFile>(dir, read, "rules", &mut problems) {
            Merge { file: &file, owners: &mut owners, problems: &mut problems }.names(
                "rule",
                "rules",
                part.rules.keys(),
            );
            rules.extend(part.rules);
            parsed.push(file);
        }
        if let Some((_, effective)) = &resolved {
            problems.extend(keys::out_of_range(effective).into_iter().map(|p| parsed[0].place(p)));
        }
        match resolved {
            Some((settings, effective)) if problems.is_empty() => {
                Ok(Project { dir: dir.into(), settings, effective, features, models, rules, files: parsed })
            }
            _ => Err(problems),
        }
    }

    /// Everything compiled, or all that is wrong with it, placed: what `config check` and a reload do.
    pub fn compile(&self) -> Result<Catalog, Vec<Problem>> {
        Catalog::compile(&self.features, &self.models, &self.rules)
            .map_err(|problems| problems.into_iter().map(|p| self.place(p)).collect())
    }

    /// Every key of the project with its value: what is compared when it changes.
    pub fn values(&self) -> BTreeMap<String, String> {
        let mut out: BTreeMap<String, String> =
            self.effective.iter().map(|e| (e.key.clone(), e.value.clone())).collect();
        let mut put = |key: String, value: serde_json::Value| {
            if !value.is_null() {
                out.insert(key, value.to_string());
            }
        };
        let json = |value: serde_json::Result<serde_json::Value>| value.unwrap_or_default();
        for (name, spec) in &self.features.entities {
            put(format!("entities.{name}"), json(serde_json::to_value(spec)));
        }
        for (name, spec) in &self.features.events {
            put(format!("events.{name}"), json(serde_json::to_value(spec)));
        }
        for (name, view) in &self.features.views {
            let mut whole = json(serde_json::to_value(view));
            let features = whole.as_object_mut().and_then(|v| v.remove("features"));
            put(format!("views.{name}"), whole);
            for (feature, spec) in features.iter().filter_map(|f| f.as_object()).flatten() {
                put(format!("views.{name}.features.{feature}"), spec.clone());
            }
        }
        for (name, spec) in &self.features.context {
            put(format!("context.{name}"), json(serde_json::to_value(spec)));
        }
        for (name, spec) in &self.features.expressions {
            put(format!("expressions.{name}"), json(serde_json::to_value(spec)));
        }
        for model in &self.models {
            for (key, value) in json(serde_json::to_value(model)).as_object().into_iter().flatten() {
                put(format!("models.{}.{key}", model.name), value.clone());
            }
        }
        for (name, spec) in &self.rules {
            put(format!("rules.{name}"), json(serde_json::to_value(spec)));
        }
        out
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

/// The parsed files of a folder, by file name.
fn parse_all<T: DeserializeOwned>(
    dir: &Path,
    read: &Files,
    folder: &str,
    problems: &mut Vec<Problem>,
) -> Vec<(TomlFile, T)> {
    let mut out = Vec::new();
    for (name, text) in read.files.iter().filter(|(name, _)| Path::new(name).starts_with(folder)) {
        let file = TomlFile::new(dir.join(name).display().to_string(), text.clone());
        match file.parse() {
            Ok(parsed) => out.push((file, parsed)),
            Err(p) => problems.push(p),
        }
    }
    out
}
