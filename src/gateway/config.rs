//! `/v1/config`: the configuration in force, its history, and changes of it.

use super::call::{Call, json, ok};
use super::error::Fault;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde_json::json as object;
use understudy_actors::api::Refusal;
use understudy_actors::config::{Change, Verdict};
use understudy_actors::config_watcher::{DiffGenerations, GetConfig, GetHistory, Reload, Revert};

pub async fn status(call: &Call) -> Result<HttpResponse, Fault> {
    call.query(&[])?;
    Ok(ok(&call.within(call.cell()?.configuration(GetConfig)).await?))
}

/// Newest first.
pub async fn history(call: &Call) -> Result<HttpResponse, Fault> {
    call.query(&[])?;
    let changes = call.within(call.cell()?.configuration(GetHistory)).await?;
    Ok(ok(&object!({ "changes": changes })))
}

/// What is different between two generations.
pub async fn diff(call: &Call) -> Result<HttpResponse, Fault> {
    let query = call.query(&["from", "to"])?;
    let number = |name: &str| -> Result<u64, Fault> {
        let missing = || Fault::bad("invalid_query", format!("`{name}` is missing: ?from=GENERATION&to=GENERATION"));
        query.text(name)?.and_then(|n| n.parse().ok()).ok_or_else(missing)
    };
    let asked = DiffGenerations { from: number("from")?, to: number("to")? };
    let changes = call.within(call.cell()?.configuration(asked)).await?;
    Ok(ok(&object!({ "changes": changes })))
}

pub async fn reload(call: &Call) -> Result<HttpResponse, Fault> {
    call.query(&[])?;
    let change = call.cell()?.configuration(Reload { by: by(call) });
    answer(call, "config.reload", change).await
}

/// `?to=N`: an earlier generation's files, applied as a new generation.
pub async fn revert(call: &Call) -> Result<HttpResponse, Fault> {
    let query = call.query(&["to"])?;
    let missing = || Fault::bad("invalid_query", "`to` is missing: ?to=GENERATION");
    let to = query.text("to")?.and_then(|n| n.parse().ok()).ok_or_else(missing)?;
    let change = call.cell()?.configuration(Revert { to, by: by(call) });
    answer(call, "config.revert", change).await
}

/// The history says which request it was.
fn by(call: &Call) -> String {
    format!("api {}", call.request_id)
}

/// The result, or 202 when features are still being built after the request's time.
async fn answer(
    call: &Call,
    action: &str,
    change: impl Future<Output = Result<Change, Refusal>>,
) -> Result<HttpResponse, Fault> {
    let before = call.generation()?.number;
    let Ok(change) = tokio::time::timeout(call.limits().request_timeout, change).await else {
        let status = call.within(call.cell()?.configuration(GetConfig)).await?;
        return Ok(json(StatusCode::ACCEPTED, &status));
    };
    let change = change?;
    call.audit(
        action,
        &change.hash,
        object!({ "generation": before }),
        object!({
            "generation": change.generation, "verdict": change.verdict, "changed": change.changes.len(),
        }),
    )
    .await;
    match change.verdict {
        Verdict::Refused => Err(Fault::unprocessable("config_refused", change.problems.join("\n"))),
        Verdict::Superseded => {
            let detail = "a newer change of the project took its place".to_owned();
            Err(Refusal::Conflict { code: "superseded", detail }.into())
        }
        _ => Ok(ok(&change)),
    }
}
