//! `config`: the project's files, checked and shown.

use super::args::ConfigCommand;
use super::error::{CliError, Result, at_path};
use super::output;
use super::target::{Context, known_project};
use std::path::Path;

pub fn run(ctx: &Context, command: &ConfigCommand) -> Result {
    let project = ctx.project_dir();
    match command {
        ConfigCommand::Check => {
            let what = check(&project)?;
            if ctx.json { output::json(&serde_json::json!({"ok": true, "found": what})) } else { output::line(&what) }
        }
        ConfigCommand::Show { .. } => {
            known_project(&project)?;
            let path = project.join("understudy.toml");
            output::put(&std::fs::read_to_string(&path).map_err(at_path(&path, "read"))?);
        }
    }
    Ok(())
}

/// What the project holds, in words; or what is wrong with it.
pub fn check(project: &Path) -> Result<String> {
    known_project(project)?;
    let path = project.join("understudy.toml");
    let text = std::fs::read_to_string(&path).map_err(at_path(&path, "read"))?;
    text.parse::<toml::Table>().map_err(|e| CliError::new(format!("{}: {e}", path.display())))?;
    Ok(format!("{} can be read", path.display()))
}
