//! `/v2`: the Open Inference Protocol, as a stock client of another project speaks it.
//!
//! Here a request brings complete vectors, one tensor per feature of the signature; predictions
//! by entity, whose features we look up, are the business of `/v1`.

mod answer;
pub(crate) mod request;
pub(crate) mod rows;
mod tensor;

use super::call::{Call, ok};
use super::error::Fault;
use super::read::status_of;
use super::together::in_order;
use actix_web::HttpResponse;
use serde_json::{Value as Json, json as object};
use understudy_actors::api::{PredictCommand, Refusal};
use understudy_domain::model::Signature;
use understudy_domain::value::ValueType;

/// Says that a binary body starts with this many bytes of JSON.
pub const HEADER_LENGTH: &str = "inference-header-content-length";
pub const PLATFORM: &str = "understudy_candle";

pub fn server() -> HttpResponse {
    ok(&object!({ "name": "understudy", "version": env!("CARGO_PKG_VERSION"), "extensions": ["binary_tensor_data"] }))
}

pub fn live() -> HttpResponse {
    ok(&object!({ "live": true }))
}

fn version(call: &Call) -> Result<Option<String>, Fault> {
    match call.http.match_info().get("version") {
        Some(_) => call.name("version").map(Some),
        None => Ok(None),
    }
}

/// The data type that metadata names for a feature.
pub fn datatype(kind: ValueType) -> &'static str {
    match kind {
        ValueType::Bool => "BOOL",
        ValueType::Int => "INT64",
        ValueType::Float => "FP64",
        ValueType::Category => "BYTES",
    }
}

fn inputs(signature: &Signature) -> Vec<Json> {
    let tensor = |f: &understudy_domain::model::SignatureFeature| object!({ "name": f.name, "datatype": datatype(f.kind), "shape": [-1], "parameters": { "nullable": f.nullable } });
    signature.features.iter().map(tensor).collect()
}

pub async fn model(call: &Call) -> Result<HttpResponse, Fault> {
    let (name, version) = (call.name("model")?, version(call)?);
    let status = status_of(call, &name)?;
    let signature = call.within(call.cell()?.signature(&name, version.as_deref())).await?;
    let outputs: Vec<Json> = answer::OUTPUTS
        .iter()
        .map(|o| object!({ "name": o.name(), "datatype": o.datatype(), "shape": [-1] }))
        .collect();
    let versions = version.map_or(status.versions, |v| vec![v]);
    Ok(ok(&object!({
        "name": name, "versions": versions, "platform": PLATFORM, "inputs": inputs(&signature), "outputs": outputs,
    })))
}

pub async fn model_ready(call: &Call) -> Result<HttpResponse, Fault> {
    let (name, version) = (call.name("model")?, version(call)?);
    let status = status_of(call, &name)?;
    match &version {
        Some(v) if !status.versions.contains(v) => {
            Err(Fault::not_found("unknown_version", format!("model `{name}` has no version `{v}`")))
        }
        None if status.champion.is_none() => {
            Err(Fault::conflict("no_version", format!("model `{name}` has no version to serve yet; train one")))
        }
        _ => Ok(ok(&object!({ "name": name, "ready": true }))),
    }
}

pub async fn infer(call: &Call) -> Result<HttpResponse, Fault> {
    call.require_json()?;
    let (name, version) = (call.name("model")?, version(call)?);
    // The path is the caller's own choice already.
    let (arm, version) = match version {
        Some(version) => (None, Some(version)),
        None => call.side(&name)?.unwrap_or_default(),
    };
    let deadline = call.deadline()?;
    let header = call.header(HEADER_LENGTH);
    let (infer, raw) = request::parse(&call.body, header)?;
    let wanted = answer::wanted(&infer)?;
    let (cell, generation) = (call.cell()?, call.generation()?);
    let signature = call.within(cell.signature(&name, version.as_deref())).await?;
    let rows = rows::rows(&infer, raw, &signature, call.limits().max_instances)?;
    let parse_us = u32::try_from(call.started.elapsed().as_micros()).unwrap_or(u32::MAX);
    let commands = rows.into_iter().map(|row| {
        let command = PredictCommand {
            model: name.clone(),
            version: version.clone(),
            arm,
            given: Some(row),
            parse_us,
            trace: call.traced(),
            ..PredictCommand::default()
        };
        let began = call.started.elapsed();
        async move {
            let answer = cell.predict(generation, command, deadline.saturating_sub(began)).await?;
            call.note(began, &answer.record);
            Ok(answer)
        }
    });
    let mut answers = Vec::new();
    for (i, result) in in_order(commands).await.into_iter().enumerate() {
        // The protocol has no partial answers: one row that fails refuses the request.
        let refused = |f: Fault| Fault { detail: format!("row {i}: {}", f.detail), ..f };
        answers.push(result.map_err(|r: Refusal| refused(r.into()))?);
    }
    let records: Vec<_> = answers.iter().map(|a| &*a.record).collect();
    let fallback = answers.iter().any(|a| a.fallback_version);
    answer::render(&name, infer.id.as_deref(), &records, fallback, &wanted)
}
