//! Retraining loops: their state, jobs asked for, and a person's word on a challenger that waits.

use super::call::{Call, json, ok};
use super::error::Fault;
use super::json as strict;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value as Json, json as object};
use understudy_actors::retraining::{DecideChallenger, GetRetraining, StartRetraining};
use understudy_domain::retraining::Candidate;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    /// Those of the model's settings if there are none.
    #[serde(default)]
    candidates: Vec<Candidate>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Decide {
    approve: bool,
}

pub async fn all(call: &Call) -> Result<HttpResponse, Fault> {
    call.query(&[])?;
    let loops = call.within(call.cell()?.retraining(GetRetraining { model: None })).await?;
    Ok(ok(&object!({ "retraining": loops })))
}

pub async fn one(call: &Call) -> Result<HttpResponse, Fault> {
    call.query(&[])?;
    let model = Some(call.name("model")?);
    let found = call.within(call.cell()?.retraining(GetRetraining { model })).await?.into_iter().next();
    let unknown = || Fault::not_found("unknown_model", "the model is not part of the project yet; try again");
    Ok(ok(&found.ok_or_else(unknown)?))
}

pub async fn start(call: &Call) -> Result<HttpResponse, Fault> {
    call.query(&[])?;
    let model = call.name("model")?;
    let asked: Start = match call.body.trim_ascii() {
        b"" => Start::default(),
        body => {
            call.require_json()?;
            strict::no_duplicates(body)?;
            strict::parse(body)?
        }
    };
    let question = StartRetraining { model: model.clone(), candidates: asked.candidates };
    let job = call.within(call.cell()?.retraining(question)).await?;
    call.audit("model.retrain", &model, Json::Null, object!({ "job": job.id })).await;
    Ok(json(StatusCode::ACCEPTED, &job))
}

pub async fn decide(call: &Call) -> Result<HttpResponse, Fault> {
    call.require_json()?;
    call.query(&[])?;
    let (model, asked) = (call.name("model")?, call.name("job")?);
    let unknown = || Fault::not_found("unknown_job", format!("no job `{asked}` of `{model}`"));
    let job: u64 = asked.parse().map_err(|_| unknown())?;
    strict::no_duplicates(&call.body)?;
    let word: Decide = strict::parse(&call.body)?;
    let question = DecideChallenger { model: model.clone(), job, approve: word.approve };
    let decided = call.within(call.cell()?.retraining(question)).await?;
    call.audit("model.retrain.decide", &model, Json::Null, object!({ "job": job, "approve": word.approve })).await;
    Ok(ok(&decided))
}
