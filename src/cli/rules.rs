//! `rules try`: what changed rules would have done to logged traffic.

use super::error::{CliError, Result, at_path};
use super::output::{json, put};
use super::table;
use super::target::Context;
use serde_json::json;
use std::path::Path;
use understudy_domain::project::RuleFile;

pub fn try_file(ctx: &Context, path: &Path, model: Option<&str>) -> Result {
    let text = std::fs::read_to_string(path).map_err(at_path(path, "read"))?;
    let file: RuleFile = toml::from_str(&text)
        .map_err(|e| CliError::new(format!("{}: {}", path.display(), e.to_string().trim_end())))?;
    let mut body = json!({"rules": file.rules});
    if let Some(m) = model {
        body["model"] = m.into();
    }
    let server = ctx.server()?;
    let answer = server.client.post("/v1/rules/try", &body)?;
    if ctx.json {
        json(&answer)
    } else {
        put(&table::pairs(&answer))
    }
    server.finish()
}
