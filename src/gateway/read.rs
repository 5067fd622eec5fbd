//! What can be looked at: models, monitoring, jobs, features, predictions, the system.

use super::call::{Call, json, ndjson, ok};
use super::error::Fault;
use super::json::checked_id;
use actix_web::HttpResponse;
use actix_web::http::{StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value as Json, json as object};
use understudy_actors::api::{Behind, ModelStatus};
use understudy_domain::entity::EntityIds;
use understudy_domain::model::Signature;
use understudy_domain::prediction::{OutcomeRecord, OutcomeTarget, PredictionId, PredictionRecord};

const DEFAULT_PREDICTIONS: usize = 100;
const MAX_PREDICTIONS: usize = 10_000;

pub fn models(call: &Call) -> Result<HttpResponse, Fault> {
    call.query(&[])?;
    Ok(ok(&object!({ "models": call.cell()?.models() })))
}

/// The model of that name.
pub fn status_of(call: &Call, model: &str) -> Result<ModelStatus, Fault> {
    let found = call.cell()?.models().into_iter().find(|m| m.model == model);
    found.ok_or_else(|| Fault::not_found("unknown_model", format!("no model `{model}`; see /v1/models")))
}

pub async fn model(call: &Call) -> Result<HttpResponse, Fault> {
    call.query(&[])?;
    let name = call.name("model")?;
    let status = status_of(call, &name)?;
    let signature = match &status.champion {
        Some(version) => Some(call.within(call.cell()?.signature(&name, Some(version))).await?),
        None => None,
    };
    #[derive(Serialize)]
    struct Shown<'a> {
        #[serde(flatten)]
        status: &'a ModelStatus,
        signature: Option<&'a Signature>,
        registered: Vec<Json>,
    }
    let registered = super::registry::versions(call, &status).await?;
    Ok(ok(&Shown { status: &status, signature: signature.as_deref(), registered }))
}

pub async fn monitor(call: &Call) -> Result<HttpResponse, Fault> {
    let name = call.name("model")?;
    let query = call.query(&["from", "until"])?;
    let (from, until) = (query.time("from")?, query.time("until")?);
    Ok(ok(&call.within(call.cell()?.monitor(&name, from, until)).await?))
}

pub async fn drift(call: &Call) -> Result<HttpResponse, Fault> {
    let name = call.name("model")?;
    let query = call.query(&["from", "until", "feature"])?;
    let (from, until) = (query.time("from")?, query.time("until")?);
    let feature = query.text("feature")?.map(str::to_owned);
    Ok(ok(&call.within(call.cell()?.drift(&name, from, until, feature)).await?))
}

pub async fn explain_drift(call: &Call) -> Result<HttpResponse, Fault> {
    let (model, feature) = (call.name("model")?, call.name("feature")?);
    let until = call.query(&["until"])?.time("until")?;
    Ok(ok(&call.within(call.cell()?.explain_drift(&model, &feature, until)).await?))
}

pub async fn train(call: &Call) -> Result<HttpResponse, Fault> {
    call.query(&[])?;
    let name = call.name("model")?;
    if !matches!(call.body.trim_ascii(), b"" | b"{}") {
        return Err(Fault::bad("invalid_body", "train takes no body; its settings are [train] of the model's file"));
    }
    let job = call.within(call.cell()?.train(&name)).await?;
    call.audit("model.train", &name, Json::Null, object!({ "job": job.job })).await;
    let mut response = json(StatusCode::ACCEPTED, &job);
    if let Ok(place) = header::HeaderValue::from_str(&format!("/v1/jobs/{}", job.job)) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

pub fn jobs(call: &Call) -> Result<HttpResponse, Fault> {
    call.query(&[])?;
    Ok(ok(&object!({ "jobs": call.cell()?.jobs() })))
}

pub fn job(call: &Call) -> Result<HttpResponse, Fault> {
    call.query(&[])?;
    let asked = call.name("job")?;
    let unknown = || Fault::not_found("unknown_job", format!("no job `{asked}`; see /v1/jobs"));
    let id: u64 = asked.parse().map_err(|_| unknown())?;
    let found = call.cell()?.jobs().into_iter().find(|j| j.job == id).ok_or_else(unknown)?;
    Ok(ok(&found))
}

pub fn features(call: &Call) -> Result<HttpResponse, Fault> {
    call.query(&[])?;
    Ok(ok(&call.cell()?.features()))
}

/// `entity=carrier:UA`, once per key.
fn entity_ids<'a>(given: impl Iterator<Item = &'a str>) -> Result<EntityIds, Fault> {
    let mut ids = EntityIds::new();
    for pair in given {
        let wrong = |why: &str| Fault::bad("invalid_query", format!("entity={pair}: {why}; expected entity=key:id"));
        let (key, id) = pair.split_once(':').filter(|(k, _)| !k.is_empty()).ok_or_else(|| wrong("no key"))?;
        checked_id(id).map_err(|e| wrong(&e))?;
        if ids.insert(key.to_owned(), Some(id.to_owned())).is_some() {
            return Err(wrong("this key is given twice"));
        }
    }
    Ok(ids)
}

pub async fn explain(call: &Call) -> Result<HttpResponse, Fault> {
    let name = call.name("name")?;
    let query = call.query(&["entity", "time"])?;
    let ids = entity_ids(query.0.iter().filter(|(n, _)| n == "entity").map(|(_, v)| v.as_str()))?;
    let time = query.time("time")?;
    Ok(ok(&call.within(call.cell()?.explain(&name, &ids, time)).await?))
}

pub async fn prediction(call: &Call) -> Result<HttpResponse, Fault> {
    call.query(&[])?;
    let asked = call.name("id")?;
    let id: PredictionId = asked.parse().map_err(|e: String| Fault::not_found("unknown_prediction", e))?;
    let cell = call.cell()?;
    let (record, outcomes) = call.within(cell.prediction(id)).await?;
    // The names of the vector; a version that can no longer be loaded leaves the bare vector.
    let signature = call.within(cell.signature(&record.model, Some(&record.version))).await.ok();
    let names = signature.iter().flat_map(|s| s.features.iter().map(|f| f.name.clone())).collect();
    let behind = call.within(cell.behind(&record, names)).await?;
    Ok(ok(&explained(&record, &outcomes, signature.as_deref(), &behind)?))
}

fn explained(
    record: &PredictionRecord,
    outcomes: &[OutcomeRecord],
    signature: Option<&Signature>,
    behind: &[Behind],
) -> Result<Json, Fault> {
    let mut out = serde_json::to_value(record).map_err(|e| Fault::internal(e.to_string()))?;
    if let Some(signature) = signature.filter(|s| s.features.len() == record.vector.len()) {
        let named = signature.features.iter().enumerate().map(|(i, feature)| {
            let age_s = record.ages.get(i).copied().flatten();
            (feature.name.clone(), object!({ "value": record.vector[i], "age_s": age_s }))
        });
        out["features"] = Json::Object(named.collect::<Map<_, _>>());
    }
    out["behind"] = serde_json::to_value(behind).map_err(|e| Fault::internal(e.to_string()))?;
    out["outcomes"] = outcomes.iter().map(flat).collect();
    Ok(out)
}

/// An outcome in the form that it was posted in.
fn flat(o: &OutcomeRecord) -> Json {
    let mut out = object!({ "model": o.model, "label": o.label, "time": o.time, "revision": o.revision });
    match &o.target {
        OutcomeTarget::PredictionId(id) => out["prediction_id"] = id.to_string().into(),
        OutcomeTarget::RequestId(id) => out["request_id"] = id.as_str().into(),
    }
    out
}

pub async fn predictions(call: &Call) -> Result<HttpResponse, Fault> {
    let query = call.query(&["model", "limit", "after"])?;
    let limit = query.number("limit", DEFAULT_PREDICTIONS, MAX_PREDICTIONS)?;
    let after = query.parsed::<PredictionId>("after")?;
    let model = query.text("model")?.map(str::to_owned);
    let records = call.within(call.cell()?.predictions(model, after, limit)).await?;
    let lines = call.header("accept").is_some_and(|a| a.contains("application/x-ndjson"));
    if lines { ndjson(&records) } else { Ok(ok(&records)) }
}

pub fn system(call: &Call) -> Result<HttpResponse, Fault> {
    call.query(&[])?;
    let cell = call.cell()?;
    let mut out = cell.describe();
    if let Json::Object(members) = &mut out {
        members.entry("version").or_insert_with(|| env!("CARGO_PKG_VERSION").into());
        members.entry("actors").or_insert_with(|| object!(cell.health()));
    }
    Ok(ok(&out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_of_a_query() {
        let ids = entity_ids(["carrier:UA", "path:a:b"].into_iter()).unwrap();
        assert_eq!((ids["carrier"].as_deref(), ids["path"].as_deref()), (Some("UA"), Some("a:b")));
        for bad in [&["carrier"][..], &[":UA"], &["carrier:"], &["a:1", "a:2"]] {
            assert_eq!(entity_ids(bad.iter().copied()).unwrap_err().status, 400, "{bad:?}");
        }
    }

    #[test]
    fn outcomes_read_as_they_were_posted() {
        let o = OutcomeRecord {
            model: "m".into(),
            target: OutcomeTarget::RequestId("r".into()),
            label: None,
            time: "2013-01-01T00:00:00Z".parse().unwrap(),
            revision: 2,
        };
        assert_eq!(
            flat(&o),
            object!({"model": "m", "label": null, "time": "2013-01-01T00:00:00Z", "revision": 2, "request_id": "r"})
        );
    }
}
