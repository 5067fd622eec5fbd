//! Operations: alive, ready, metrics, the API document.

use super::call::{Call, json};
use super::error::Fault;
use super::{MetricsText, OPENAPI};
use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use serde::Serialize;
use understudy_actors::api::ActorHealth;
use understudy_domain::admission::Rung;

#[derive(Serialize)]
struct Health {
    status: &'static str,
    /// What is given up at present for want of memory; with `?verbose`, or when something is.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_level: Option<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    actors: Vec<ActorHealth>,
}

/// Answers as long as this worker can: a process that cannot should be restarted.
pub fn live(call: &Call) -> Result<HttpResponse, Fault> {
    let actors = if call.query(&["verbose"])?.flag("verbose")? { call.cell()?.health() } else { Vec::new() };
    Ok(json(StatusCode::OK, &Health { status: "ok", memory_level: None, actors }))
}

/// 503 while any actor is not ready; names those, or all with `?verbose`.
pub fn ready(call: &Call) -> Result<HttpResponse, Fault> {
    let verbose = call.query(&["verbose"])?.flag("verbose")?;
    let mut actors = call.cell()?.health();
    let ready = actors.iter().all(|a| a.ready);
    if !verbose {
        actors.retain(|a| !a.ready);
    }
    let rung = call.cell()?.gate().admission().rung();
    let memory_level = (verbose || rung != Rung::Normal).then(|| rung.name());
    let ready = ready && rung < Rung::RefuseWork;
    let (status, word) = if ready { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "not_ready") };
    Ok(json(status, &Health { status: word, memory_level, actors }))
}

pub fn v2_ready(call: &Call) -> Result<HttpResponse, Fault> {
    let ready = call.cell()?.health().iter().all(|a| a.ready);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(json(status, &serde_json::json!({ "ready": ready })))
}

/// Prometheus text format 0.0.4.
pub fn metrics(call: &Call) -> Result<HttpResponse, Fault> {
    let text = call.http.app_data::<web::Data<MetricsText>>().ok_or_else(|| Fault::internal("no metrics are wired"))?;
    let text = (text.get_ref())();
    Ok(HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text))
}

pub fn openapi() -> Result<HttpResponse, Fault> {
    Ok(HttpResponse::Ok().content_type("application/json").body(OPENAPI))
}
