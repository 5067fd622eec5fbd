//! `POST /v1/outcomes`: the truth about earlier predictions, one or many.

use super::call::{Call, json};
use super::error::Fault;
use super::event_forms::too_many;
use super::json::{self as strict, Id, Object, Whole, present};
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use understudy_actors::api::OutcomeResult;
use understudy_domain::prediction::{OutcomeRecord, OutcomeStatus, OutcomeTarget, PredictionId};
use understudy_domain::time::Timestamp;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Posted {
    model: Id,
    #[serde(default, deserialize_with = "present")]
    prediction_id: Option<PredictionId>,
    #[serde(default, deserialize_with = "present")]
    request_id: Option<Id>,
    /// Must be there: null voids, absence is a mistake.
    #[serde(deserialize_with = "nullable")]
    label: Option<bool>,
    time: Timestamp,
    #[serde(default)]
    revision: Whole,
}

fn nullable<'de, D: Deserializer<'de>>(d: D) -> Result<Option<bool>, D::Error> {
    Option::deserialize(d)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch {
    outcomes: Vec<Object<Posted>>,
}

#[derive(Debug)]
pub enum Asked {
    One(OutcomeRecord),
    Many(Vec<OutcomeRecord>),
}

impl Posted {
    fn record(self) -> Result<OutcomeRecord, Fault> {
        let target = match (self.prediction_id, self.request_id) {
            (Some(id), None) => OutcomeTarget::PredictionId(id),
            (None, Some(id)) => OutcomeTarget::RequestId(id.0),
            _ => {
                return Err(Fault::bad(
                    "invalid_body",
                    "an outcome names exactly one of `prediction_id` and `request_id`",
                ));
            }
        };
        let revision = u32::try_from(self.revision.0).map_err(|_| {
            Fault::bad("invalid_body", format!("revision {} is larger than {}", self.revision.0, u32::MAX))
        })?;
        Ok(OutcomeRecord { model: self.model.0, target, label: self.label, time: self.time, revision })
    }
}

pub fn parse(body: &[u8]) -> Result<Asked, Fault> {
    #[derive(Deserialize)]
    struct Shape {
        outcomes: Option<serde::de::IgnoredAny>,
    }
    if strict::parse::<Shape>(body)?.outcomes.is_none() {
        return strict::parse::<Posted>(body)?.record().map(Asked::One);
    }
    let posted = strict::parse::<Batch>(body)?.outcomes;
    if posted.is_empty() {
        return Err(Fault::bad("invalid_body", "`outcomes` is empty; expected at least one"));
    }
    let at = |(i, Object(p)): (usize, Object<Posted>)| {
        p.record().map_err(|f| Fault { detail: format!("outcome {i}: {}", f.detail), ..f })
    };
    Ok(Asked::Many(posted.into_iter().enumerate().map(at).collect::<Result<_, _>>()?))
}

pub async fn outcomes(call: &Call) -> Result<HttpResponse, Fault> {
    call.require_json()?;
    call.query(&[])?;
    match parse(&call.body)? {
        Asked::One(record) => {
            let results = call.within(call.cell()?.outcomes(vec![record])).await?;
            single(results.into_iter().next().ok_or_else(|| Fault::internal("no result for the outcome"))?)
        }
        Asked::Many(records) => {
            if records.len() > call.limits().max_events {
                return Err(too_many(records.len(), call.limits().max_events));
            }
            let results = call.within(call.cell()?.outcomes(records)).await?;
            let taken = results.iter().any(|r| matches!(r, Ok(s) if status(*s) == StatusCode::ACCEPTED));
            let results: Vec<Item> = results.into_iter().map(Item::from).collect();
            let status = if taken { StatusCode::ACCEPTED } else { StatusCode::OK };
            Ok(json(status, &serde_json::json!({ "results": results })))
        }
    }
}

fn status(of: OutcomeStatus) -> StatusCode {
    match of {
        OutcomeStatus::Matured | OutcomeStatus::Amended | OutcomeStatus::Voided | OutcomeStatus::Parked => {
            StatusCode::ACCEPTED
        }
        OutcomeStatus::Duplicate | OutcomeStatus::Conflict | OutcomeStatus::Expired => StatusCode::OK,
    }
}

fn single(result: OutcomeResult) -> Result<HttpResponse, Fault> {
    match result? {
        OutcomeStatus::Conflict => {
            let detail = "another value for this revision is on record; send a higher `revision` to amend it";
            Err(Fault::conflict("outcome_conflict", detail))
        }
        OutcomeStatus::Expired => Err(Fault::gone("outcome_expired", "the prediction's time for outcomes has passed")),
        taken => Ok(json(status(taken), &taken)),
    }
}

/// One result of many; a refusal is told in place.
#[derive(Serialize)]
#[serde(untagged)]
enum Item {
    Taken(OutcomeStatus),
    Refused { status: &'static str, code: String, detail: String },
}

impl From<OutcomeResult> for Item {
    fn from(result: OutcomeResult) -> Self {
        match result.map_err(Fault::from) {
            Ok(status) => Item::Taken(status),
            Err(f) => Item::Refused { status: "refused", code: f.code.into_owned(), detail: f.detail },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = r#"{"model":"delay","request_id":"SF1","label":true,"time":"2013-01-01T05:15:00Z"}"#;

    #[test]
    fn one_void_and_many() {
        let Asked::One(r) = parse(ONE.as_bytes()).unwrap() else { panic!("one") };
        assert_eq!((r.target, r.label, r.revision), (OutcomeTarget::RequestId("SF1".into()), Some(true), 0));
        let void = ONE.replace("true", "null");
        assert!(matches!(parse(void.as_bytes()).unwrap(), Asked::One(r) if r.label.is_none()));
        let many = format!("{{\"outcomes\":[{ONE},{void}]}}");
        assert!(matches!(parse(many.as_bytes()).unwrap(), Asked::Many(v) if v.len() == 2));
    }

    #[test]
    fn refused() {
        let table = [
            (ONE.replace("\"label\":true,", ""), "missing field `label`"),
            (ONE.replace("true", "1"), "boolean"),
            (ONE.replace("\"request_id\":\"SF1\",", ""), "exactly one"),
            (ONE.replace("{", "{\"prediction_id\":\"01ARZ3NDEKTSV4RRFFQ69G5FAV\","), "exactly one"),
            (ONE.replace("request_id", "prediction_id"), "ULID"),
            (ONE.replace("{", "{\"revision\":-1,"), "whole number"),
            (ONE.replace("{", "{\"extra\":1,"), "unknown field `extra`"),
            ("{\"outcomes\":[]}".into(), "at least one"),
            (format!("{{\"outcomes\":[{ONE}],\"model\":\"m\"}}"), "unknown field `model`"),
            ("[]".into(), "expected an object"),
        ];
        for (body, said) in table {
            let e = parse(body.as_bytes()).unwrap_err();
            assert!(e.status == 400 && e.detail.contains(said), "{body}: {}", e.detail);
        }
    }

    #[test]
    fn statuses_of_a_single_outcome() {
        for (of, status) in
            [(OutcomeStatus::Matured, 202), (OutcomeStatus::Parked, 202), (OutcomeStatus::Duplicate, 200)]
        {
            assert_eq!(single(Ok(of)).unwrap().status(), status);
        }
        assert_eq!(single(Ok(OutcomeStatus::Conflict)).unwrap_err().status, 409);
        assert_eq!(single(Ok(OutcomeStatus::Expired)).unwrap_err().status, 410);
    }
}
