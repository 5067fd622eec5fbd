//! `config`: the project's files, checked and shown.

use super::args::ConfigCommand;
use super::error::{CliError, Result, at_path};
use super::target::{Context, known_project};
use super::{output, table};
use crate::config::Project;
use serde_json::json;
use std::path::Path;
use understudy_domain::problem::Problem;

pub fn run(ctx: &Context, command: &ConfigCommand) -> Result {
    let project = ctx.project_dir();
    match command {
        ConfigCommand::Check => {
            let what = check(&project)?;
            if ctx.json { output::json(&json!({"ok": true, "found": what})) } else { output::line(&what) }
        }
        ConfigCommand::Show { effective: false } => {
            known_project(&project)?;
            let path = project.join("understudy.toml");
            output::put(&std::fs::read_to_string(&path).map_err(at_path(&path, "read"))?);
        }
        ConfigCommand::Show { effective: true } => {
            let all = load(&project)?.effective;
            if ctx.json {
                let one = |e: &crate::config::Effective| json!({"key": e.key, "value": e.value, "source": e.source.to_string()});
                output::json(&all.iter().map(one).collect::<Vec<_>>());
            } else {
                let rows = all.into_iter().map(|e| vec![e.key, e.value, e.source.to_string()]).collect();
                output::put(&table::table(&["setting", "value", "from"], &[], rows));
            }
        }
        running => super::reload::run(ctx, running)?,
    }
    Ok(())
}

pub fn load(project: &Path) -> Result<Project> {
    Project::load(project, &[]).map_err(|p| wrong(project, &p))
}

/// What the project holds, in words; or everything that is wrong with it.
pub fn check(dir: &Path) -> Result<String> {
    let project = load(dir)?;
    project.compile().map_err(|problems| wrong(dir, &problems))?;
    let features: usize = project.features.views.values().map(|v| v.features.len()).sum();
    let others = project.features.context.len() + project.features.expressions.len();
    let n = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let (all, models, rules) =
        (n(features + others, "feature"), n(project.models.len(), "model"), n(project.rules.len(), "rule"));
    Ok(format!("{}: {all}, {models}, {rules}", dir.display()))
}

fn wrong(dir: &Path, problems: &[Problem]) -> CliError {
    let n = problems.len();
    let what = if n == 1 { "1 problem".into() } else { format!("{n} problems") };
    CliError::new(format!("{what} in the project {}", dir.display()))
        .details(problems.iter().map(Problem::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_of_a_project_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("understudy.toml"), "[server]\nprot = 1\n").unwrap();
        let e = check(dir.path()).unwrap_err();
        assert!(e.message.starts_with("1 problem in the project"), "{e:?}");
        assert!(e.details[0].contains("understudy.toml:2") && e.details[0].contains("prot"), "{e:?}");
        assert!(check(&dir.path().join("none")).is_err());
    }

    #[test]
    fn a_new_project_is_right() {
        let dir = tempfile::tempdir().unwrap();
        let new = dir.path().join("new");
        super::super::init::write(&new, |_| ()).unwrap();
        let what = check(&new).unwrap();
        assert!(what.ends_with("3 features, 1 model, 1 rule"), "{what}");
    }
}
