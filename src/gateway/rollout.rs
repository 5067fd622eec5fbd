//! Rollouts over HTTP: begin, look, command, recompute.

use super::call::{Call, json, ndjson, ok};
use super::error::Fault;
use super::json::{self as strict, Object, present};
use crate::report::rollout as page;
use actix_web::HttpResponse;
use actix_web::http::{StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json as object};
use understudy_domain::rollout::{Input, JournalEntry, RolloutSettings};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StartBody {
    version: String,
    /// In place of the project's.
    #[serde(default)]
    settings: Map<String, Json>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanBody {
    #[serde(default)]
    settings: Map<String, Json>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CommandBody {
    /// The step that the sender saw.
    expected_step: u64,
    #[serde(default, deserialize_with = "present")]
    reason: Option<String>,
    /// Promote: all the way.
    #[serde(default)]
    all: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AaBody {
    #[serde(default = "aa_runs")]
    runs: u64,
    #[serde(default = "aa_predictions")]
    predictions: u64,
    #[serde(default)]
    settings: Map<String, Json>,
}

fn aa_runs() -> u64 {
    200
}
fn aa_predictions() -> u64 {
    50_000
}

/// Bounds of one A/A test: minutes of one core at most.
const MAX_AA: (u64, u64) = (10_000, 1_000_000);

/// `POST /v1/models/{model}/rollout/aa`
pub async fn aa(call: &Call) -> Result<HttpResponse, Fault> {
    call.query(&[])?;
    call.require_json()?;
    let model = call.name("model")?;
    let Object(body) = strict::parse::<Object<AaBody>>(&call.body)?;
    if !(1..=MAX_AA.0).contains(&body.runs) || !(100..=MAX_AA.1).contains(&body.predictions) {
        let detail = format!("runs is 1 to {}, predictions 100 to {}", MAX_AA.0, MAX_AA.1);
        return Err(Fault::unprocessable("invalid_aa", detail));
    }
    let settings = settings(call, &model, &body.settings)?;
    Ok(ok(&call.cell()?.aa_rollout(&model, settings, (body.runs, body.predictions)).await?))
}

/// What a person may tell a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Promote,
    Abort,
    Approve,
    Retry,
}

fn settings(call: &Call, model: &str, overlay: &Map<String, Json>) -> Result<RolloutSettings, Fault> {
    Ok(call.cell()?.rollout_settings(model, overlay)?)
}

/// `POST /v1/models/{model}/rollout`
pub async fn start(call: &Call) -> Result<HttpResponse, Fault> {
    call.query(&[])?;
    call.require_json()?;
    let model = call.name("model")?;
    let Object(body) = strict::parse::<Object<StartBody>>(&call.body)?;
    let settings = settings(call, &model, &body.settings)?;
    let status = call.cell()?.start_rollout(&model, &body.version, settings).await?;
    let after = object!({ "rollout": status.id, "version": body.version });
    call.audit("rollout.start", &model, Json::Null, after).await;
    Ok(json(StatusCode::CREATED, &status))
}

/// `POST /v1/models/{model}/rollout/plan`
pub async fn plan(call: &Call) -> Result<HttpResponse, Fault> {
    call.query(&[])?;
    call.require_json()?;
    let model = call.name("model")?;
    let Object(body) = strict::parse::<Object<PlanBody>>(&call.body)?;
    let settings = settings(call, &model, &body.settings)?;
    Ok(ok(&call.cell()?.plan_rollout(&model, settings).await?))
}

/// `POST /v1/models/{model}/rollout/{promote,abort,approve,retry}`
pub async fn command(call: &Call, order: Order) -> Result<HttpResponse, Fault> {
    call.query(&[])?;
    call.require_json()?;
    let model = call.name("model")?;
    let Object(body) = strict::parse::<Object<CommandBody>>(&call.body)?;
    let (expected_step, by) = (body.expected_step, call.caller.name().to_owned());
    let (action, input) = match order {
        Order::Promote => ("rollout.promote", Input::PromoteNow { expected_step, by, all: body.all }),
        Order::Approve => ("rollout.approve", Input::Approve { expected_step, by }),
        Order::Retry => ("rollout.retry", Input::Retry { expected_step, by }),
        Order::Abort => {
            let reason = body.reason.unwrap_or_else(|| "no reason was given".into());
            ("rollout.abort", Input::Abort { expected_step, by, reason })
        }
    };
    let status = call.cell()?.command_rollout(&model, input).await?;
    let after = object!({ "rollout": status.id, "state": status.state, "step": status.step });
    call.audit(action, &model, object!({ "step": expected_step }), after).await;
    Ok(ok(&status))
}

/// `GET /v1/models/{model}/rollout`
pub async fn status(call: &Call) -> Result<HttpResponse, Fault> {
    call.query(&[])?;
    let model = call.name("model")?;
    Ok(ok(&call.within(call.cell()?.rollout(&model)).await?))
}

/// `GET /v1/rollouts`
pub async fn list(call: &Call) -> Result<HttpResponse, Fault> {
    let query = call.query(&["model"])?;
    let model = query.text("model")?;
    let all = call.within(call.cell()?.rollouts(model)).await?;
    Ok(ok(&object!({ "rollouts": all })))
}

/// `GET /v1/rollouts/{id}/journal`: one line per entry.
pub async fn journal(call: &Call) -> Result<HttpResponse, Fault> {
    call.query(&[])?;
    let lines = call.within(call.cell()?.rollout_journal(&call.name("id")?)).await?;
    ndjson(lines.iter())
}

/// `GET /v1/rollouts/{id}/verify`
pub async fn verify(call: &Call) -> Result<HttpResponse, Fault> {
    call.query(&[])?;
    Ok(ok(&call.cell()?.verify_rollout(&call.name("id")?).await?))
}

/// `GET /v1/rollouts/{id}/report`: JSON, or one page with `format=html`.
pub async fn report(call: &Call) -> Result<HttpResponse, Fault> {
    let query = call.query(&["format"])?;
    let html = match query.text("format")? {
        None | Some("json") => false,
        Some("html") => true,
        Some(other) => return Err(Fault::bad("invalid_query", format!("format={other}: json or html"))),
    };
    let lines = call.within(call.cell()?.rollout_journal(&call.name("id")?)).await?;
    let entries: Vec<&JournalEntry> = lines.iter().filter_map(|l| l.entry.as_ref()).collect();
    let told = page::tell(&entries);
    if html {
        let body = crate::report::render(&page::page(&told, &entries));
        return Ok(HttpResponse::Ok().insert_header((header::CONTENT_TYPE, "text/html; charset=utf-8")).body(body));
    }
    #[derive(Serialize)]
    struct Report<'a> {
        #[serde(flatten)]
        told: &'a page::Told,
        failed: Vec<&'a understudy_domain::rollout::FailedAnswer>,
    }
    let failed = lines.iter().filter_map(|l| l.failed.as_ref()).take(1000).collect();
    Ok(ok(&Report { told: &told, failed }))
}
