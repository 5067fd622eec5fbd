//! `/v1/alerts` and `/v1/feeds`: what is wrong, who is told, and what the feeds look like.

use super::call::{Call, json, ok};
use super::error::Fault;
use super::json as strict;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value as Json, json as object};
use std::collections::BTreeMap;
use understudy_actors::alerter::{EndAlert, EndSilence, GetAlerts, SilenceAlerts, TestAlert};
use understudy_domain::time::Span;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewSilence {
    /// Label and value; all must match.
    matches: BTreeMap<String, String>,
    #[serde(rename = "for")]
    lasting: Span,
    #[serde(default)]
    comment: String,
}

/// Open alerts, those that are over, silences, and how the sinks do.
pub async fn list(call: &Call) -> Result<HttpResponse, Fault> {
    call.query(&[])?;
    Ok(ok(&call.within(call.cell()?.alerter(GetAlerts)).await?))
}

pub async fn silence(call: &Call) -> Result<HttpResponse, Fault> {
    call.require_json()?;
    call.query(&[])?;
    strict::no_duplicates(&call.body)?;
    let asked: NewSilence = strict::parse(&call.body)?;
    let question =
        SilenceAlerts { matches: asked.matches, lasting: asked.lasting, by: call.who(), comment: asked.comment };
    let silence = call.within(call.cell()?.alerter(question)).await?;
    call.audit("alerts.silence", &silence.id, Json::Null, object!(silence)).await;
    Ok(json(StatusCode::CREATED, &silence))
}

pub async fn end_silence(call: &Call) -> Result<HttpResponse, Fault> {
    let id = without_body(call)?;
    let ended = call.within(call.cell()?.alerter(EndSilence { id })).await?;
    call.audit("alerts.unsilence", &ended.id, object!(ended), Json::Null).await;
    Ok(ok(&ended))
}

/// A person says that an alert is over.
pub async fn end(call: &Call) -> Result<HttpResponse, Fault> {
    let id = without_body(call)?;
    let ended = call.within(call.cell()?.alerter(EndAlert { id })).await?;
    call.audit("alerts.resolve", &ended.signal.cause, Json::Null, object!({ "id": ended.id })).await;
    Ok(ok(&ended))
}

pub async fn test(call: &Call) -> Result<HttpResponse, Fault> {
    call.query(&[])?;
    empty(call)?;
    let fired = call.within(call.cell()?.alerter(TestAlert { by: call.who() })).await?;
    call.audit("alerts.test", &fired.id, Json::Null, Json::Null).await;
    Ok(json(StatusCode::ACCEPTED, &fired))
}

fn without_body(call: &Call) -> Result<String, Fault> {
    call.query(&[])?;
    empty(call)?;
    call.name("id")
}

fn empty(call: &Call) -> Result<(), Fault> {
    match call.body.trim_ascii() {
        b"" | b"{}" => Ok(()),
        _ => Err(Fault::bad("invalid_body", "this takes no body")),
    }
}

pub async fn feeds(call: &Call) -> Result<HttpResponse, Fault> {
    let query = call.query(&["from", "until"])?;
    let (from, until) = (query.time("from")?, query.time("until")?);
    Ok(ok(&call.within(call.cell()?.feeds(from, until)).await?))
}
