//! `rules try`: what changed rules would have done to logged traffic.

use super::client::query;
use super::error::{CliError, Result, at_path};
use super::output::{json, put};
use super::target::Context;
use super::{models, table};
use serde_json::{Map, Value, json};
use std::path::Path;
use understudy_domain::project::RuleFile;

pub fn try_file(ctx: &Context, path: &Path, model: Option<&str>) -> Result {
    let text = std::fs::read_to_string(path).map_err(at_path(path, "read"))?;
    let file: RuleFile = toml::from_str(&text)
        .map_err(|e| CliError::new(format!("{}: {}", path.display(), e.to_string().trim_end())))?;
    if file.rules.is_empty() {
        return Err(CliError::new(format!("{} holds no rules", path.display()))
            .hint("a rule is a table [rules.NAME] with `expect`"));
    }
    let server = ctx.server()?;
    let models = match model {
        Some(m) => vec![m.to_string()],
        None => models::all(&server.client)?.iter().map(models::name).collect(),
    };
    let mut answers = Map::new();
    for m in models {
        let route = format!("/v1/rules/try{}", query(&[("model", Some(m.clone()))]));
        answers.insert(m, server.client.post(&route, &json!({"rules": file.rules}))?);
    }
    let answers = Value::Object(answers);
    if ctx.json {
        json(&answers)
    } else {
        put(&table::pairs(&answers))
    }
    server.finish()
}
