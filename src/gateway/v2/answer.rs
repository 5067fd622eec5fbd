//! The answer to an infer request: JSON, or JSON followed by raw tensors.

use super::HEADER_LENGTH;
use super::request::{Infer, Output as Requested};
use crate::gateway::call::ok;
use crate::gateway::error::Fault;
use crate::gateway::json::Object;
use actix_web::HttpResponse;
use serde_json::{Value as Json, json as object};
use understudy_domain::prediction::PredictionRecord;

/// What an infer request can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    Score,
    Label,
    Confidence,
    PredictionId,
}

pub const OUTPUTS: [Output; 4] = [Output::Score, Output::Label, Output::Confidence, Output::PredictionId];

impl Output {
    pub fn name(self) -> &'static str {
        match self {
            Output::Score => "score",
            Output::Label => "label",
            Output::Confidence => "confidence",
            Output::PredictionId => "prediction_id",
        }
    }

    pub fn datatype(self) -> &'static str {
        match self {
            Output::Score | Output::Confidence => "FP64",
            Output::Label | Output::PredictionId => "BYTES",
        }
    }

    fn json(self, r: &PredictionRecord) -> Json {
        match self {
            Output::Score => r.score.into(),
            Output::Confidence => r.confidence.into(),
            Output::Label => r.label.as_str().into(),
            Output::PredictionId => r.id.to_string().into(),
        }
    }

    fn raw(self, r: &PredictionRecord, out: &mut Vec<u8>) {
        let mut text = |s: &str| {
            out.extend(u32::try_from(s.len()).unwrap_or(0).to_le_bytes());
            out.extend(s.as_bytes());
        };
        match self {
            Output::Label => text(&r.label),
            Output::PredictionId => text(&r.id.to_string()),
            Output::Score => out.extend(r.score.to_le_bytes()),
            Output::Confidence => out.extend(r.confidence.to_le_bytes()),
        }
    }
}

/// Outputs to write, each with whether it is binary.
pub type Wanted = Vec<(Output, bool)>;

pub fn wanted(infer: &Infer) -> Result<Wanted, Fault> {
    let all = infer.parameters.as_ref().and_then(|p| p.0.binary_data_output).unwrap_or(false);
    let named = |Object(r): &Object<Requested>| {
        let output = OUTPUTS.into_iter().find(|o| o.name() == r.name).ok_or_else(|| {
            let known = OUTPUTS.map(Output::name).join(", ");
            Fault::bad("unknown_output", format!("output `{}`; expected one of {known}", r.name))
        })?;
        Ok((output, r.parameters.as_ref().and_then(|p| p.0.binary_data).unwrap_or(all)))
    };
    match infer.outputs.as_deref() {
        None | Some([]) => Ok(OUTPUTS.into_iter().map(|o| (o, all)).collect()),
        Some(requested) => requested.iter().map(named).collect(),
    }
}

/// `fallback`: the champion answered in place of the version that a row was routed to.
pub fn render(
    model: &str,
    id: Option<&str>,
    records: &[&PredictionRecord],
    fallback: bool,
    wanted: &Wanted,
) -> Result<HttpResponse, Fault> {
    let mut raw = Vec::new();
    let outputs: Vec<Json> = wanted
        .iter()
        .map(|&(output, binary)| {
            let mut tensor =
                object!({ "name": output.name(), "datatype": output.datatype(), "shape": [records.len()] });
            if binary {
                let before = raw.len();
                records.iter().for_each(|r| output.raw(r, &mut raw));
                tensor["parameters"] = object!({ "binary_data_size": raw.len() - before });
            } else {
                tensor["data"] = records.iter().map(|r| output.json(r)).collect();
            }
            tensor
        })
        .collect();
    let version = records.first().map_or("", |r| r.version.as_str());
    let mut head = object!({ "model_name": model, "model_version": version });
    if let Some(id) = id {
        head["id"] = id.into();
    }
    if fallback {
        head["parameters"] = object!({ "fallback_version": true });
    }
    head["outputs"] = outputs.into();
    if wanted.iter().all(|(_, binary)| !binary) {
        return Ok(ok(&head));
    }
    let mut body = serde_json::to_vec(&head).map_err(|e| Fault::internal(e.to_string()))?;
    let length = body.len();
    body.extend(raw);
    Ok(HttpResponse::Ok()
        .content_type("application/octet-stream")
        .insert_header((HEADER_LENGTH, length.to_string()))
        .body(body))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
