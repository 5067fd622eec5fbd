//! `feature verify`: expected feature values against what the feature code computes, or what a server served.

use super::error::{CliError, Result, at_path};
use super::features::{each_prediction, signature};
use super::output::{count, json, line};
use super::target::{Context, known_project};
use super::{config, models, replay, source};
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;
use understudy_domain::backfill::Backfill;
use understudy_domain::event::{Event, LoggedEvent};
use understudy_domain::features::Plan;
use understudy_domain::time::Timestamp;

/// Largest difference of two floats that count as equal, absolute and relative.
const TOLERANCE: f64 = 1e-9;
/// Differences that are printed.
const EXAMPLES: usize = 10;

type Expected = BTreeMap<String, Map<String, Value>>;

/// Without `--url`: folds the recording in process. With it: compares what that server logged.
pub fn run(ctx: &Context, path: &Path, events: Option<&Path>, model: Option<&str>) -> Result {
    let mut expected = read_expected(path)?;
    let mut report = Comparison { rows: expected.len(), ..Comparison::default() };
    match &ctx.url {
        Some(_) => served(ctx, &mut expected, model, &mut report)?,
        None => folded(ctx, &mut expected, events, model, &mut report)?,
    }
    report.missing = expected.into_keys().collect();
    report.equal = report.values - report.differing.len() as u64;
    conclude(ctx, &report)
}

/// The feature code itself: every event of the recording in order, the vector of each listed request before its own event.
fn folded(
    ctx: &Context,
    expected: &mut Expected,
    events: Option<&Path>,
    model: Option<&str>,
    report: &mut Comparison,
) -> Result {
    let dir = ctx.project_dir();
    known_project(&dir)?;
    let project = config::load(&dir)?;
    let requests =
        project.models.iter().filter(|m| model.is_none_or(|name| m.name == name)).find_map(|m| m.request.clone());
    let request = requests.ok_or_else(|| {
        CliError::new("no model of the project says which event is a request")
            .hint("add [request] event = \"...\" to a model")
    })?;
    let problems = |found: Vec<understudy_domain::problem::Problem>| {
        CliError::new("the features cannot be verified")
            .details(found.into_iter().map(|p| project.place(p).to_string()).collect())
    };
    let plan = Arc::new(Plan::compile(&project.features).map_err(problems)?);
    let names: BTreeSet<String> = expected.values().flat_map(|f| f.keys().cloned()).collect();
    let names: Vec<String> = names.into_iter().collect();
    let vector = plan.vector(&names).map_err(problems)?;
    let mut backfill = Backfill::new(plan, vector, &request.event, None, None, Timestamp(i64::MAX))
        .map_err(problems)?
        .only(expected.keys().cloned().collect());
    let bar = replay::progress(ctx.quiet);
    let lateness = project.settings.features.lateness;
    let (mut seen, mut clock, mut seq) = (HashSet::new(), Timestamp::MIN, 0);
    for l in events.map_or_else(|| source::recording(&dir), source::file)? {
        let event: Event = serde_json::from_str(&l?.json).map_err(|e| {
            CliError::new(format!("line {}: {e}", seq + 1))
                .hint("each line is an event: id, type, time, entities, properties")
        })?;
        if !seen.insert(event.id_hash()) {
            continue;
        }
        seq += 1;
        clock = clock.max(event.time);
        let late = clock - event.time > lateness;
        backfill.push(&LoggedEvent { seq, ingested: clock, late, event });
        if seq % 8192 == 0 {
            bar.set_position(seq);
        }
    }
    bar.finish_and_clear();
    for row in backfill.finish() {
        if let Some(want) = expected.remove(&row.request_id) {
            let got =
                names.iter().zip(&row.vector).map(|(n, v)| (n.as_str(), serde_json::to_value(v).unwrap_or_default()));
            report.compare(&row.request_id, &want, got);
        }
    }
    Ok(())
}

/// The vectors that a server logged with its predictions.
fn served(ctx: &Context, expected: &mut Expected, model: Option<&str>, report: &mut Comparison) -> Result {
    let server = ctx.server()?;
    let model = match model {
        Some(m) => m.to_string(),
        None => models::all(&server.client)?
            .first()
            .map(models::name)
            .ok_or_else(|| CliError::new("the project has no model"))?,
    };
    let names = signature(&server.client, &model)?;
    each_prediction(&server.client, Some(&model), None, |record| {
        let id = record["request_id"].as_str().unwrap_or_default();
        if let Some(want) = expected.remove(id) {
            let vector = record["vector"].as_array().cloned().unwrap_or_default();
            report.compare(id, &want, names.iter().map(String::as_str).zip(vector));
        }
        Ok(!expected.is_empty())
    })?;
    server.finish()
}

#[derive(Default, Serialize)]
struct Comparison {
    /// Requests listed in the file.
    rows: usize,
    /// Values compared.
    values: u64,
    equal: u64,
    differing: Vec<Difference>,
    /// Requests of the file that were never seen (or never answered, with a server).
    missing: Vec<String>,
}

#[derive(Serialize)]
struct Difference {
    request: String,
    feature: String,
    expected: Value,
    got: Value,
}

impl Comparison {
    fn compare<'a>(&mut self, request: &str, want: &Map<String, Value>, got: impl Iterator<Item = (&'a str, Value)>) {
        for (feature, got) in got {
            let Some(expected) = want.get(feature) else { continue };
            self.values += 1;
            if !same(expected, &got) {
                let (request, feature) = (request.to_owned(), feature.to_owned());
                self.differing.push(Difference { request, feature, expected: expected.clone(), got });
            }
        }
    }
}

fn same(a: &Value, b: &Value) -> bool {
    if let (Some(x), Some(y)) = (a.as_i64(), b.as_i64()) {
        return x == y;
    }
    match (a.as_f64(), b.as_f64()) {
        (Some(x), Some(y)) => (x - y).abs() <= TOLERANCE * x.abs().max(1.0),
        _ => a == b,
    }
}

fn conclude(ctx: &Context, report: &Comparison) -> Result {
    let (different, missing) = (report.differing.len(), report.missing.len());
    if ctx.json {
        json(report);
    } else {
        line(&format!(
            "{} values of {} requests compared: {} equal, {different} different; {missing} requests missing",
            count(report.values),
            report.rows - missing,
            count(report.equal),
        ));
    }
    if different == 0 && missing == 0 {
        return Ok(());
    }
    let shown = report.differing.iter().take(EXAMPLES);
    let details = shown.map(|d| format!("{} {}: expected {}, got {}", d.request, d.feature, d.expected, d.got));
    Err(CliError::new("feature values differ from the expected ones").details(details.collect()).hint(if missing > 0 {
        "missing requests are not in the recording, or were refused by the server"
    } else {
        ""
    }))
}

fn read_expected(path: &Path) -> Result<Expected> {
    let text = std::fs::read_to_string(path).map_err(at_path(path, "read"))?;
    let mut all = Expected::new();
    for (i, l) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let v: Value = serde_json::from_str(l).unwrap_or_default();
        match (v["id"].as_str(), v["features"].as_object()) {
            (Some(id), Some(features)) => all.insert(id.to_string(), features.clone()),
            _ => return Err(CliError::new(format!("{}:{}: not {{\"id\", \"features\"}}", path.display(), i + 1))),
        };
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn whole_numbers_must_be_equal_and_floats_nearly() {
        for (a, b, want) in [
            (json!(3), json!(3), true),
            (json!(3), json!(4), false),
            (json!(3), json!(3.0), true),
            (json!(0.1), json!(0.1 + 1e-12), true),
            (json!(0.1), json!(0.1 + 1e-6), false),
            (json!(null), json!(null), true),
            (json!(null), json!(0), false),
            (json!("UA"), json!("UA"), true),
        ] {
            assert_eq!(same(&a, &b), want, "{a} {b}");
        }
    }
}
