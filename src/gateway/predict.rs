//! `POST /v1/models/{model}/predict`: one request or many.

use super::call::{Call, json};
use super::error::{Fault, Problem};
use super::json::{self as strict, Entities, Id, Object, Scalars, present};
use super::together::in_order;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use std::time::Duration;
use understudy_actors::api::{Answer, PredictCommand};
use understudy_domain::prediction::{Finding, PredictionId, Timing, Verdict};
use understudy_domain::time::Timestamp;
use understudy_domain::value::Value;

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Instance {
    #[serde(default, deserialize_with = "present")]
    request_id: Option<Id>,
    #[serde(default)]
    entities: Entities,
    #[serde(default)]
    context: Scalars,
    #[serde(default, deserialize_with = "present")]
    time: Option<Timestamp>,
}

/// The members of an instance, or `instances`; never both.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    #[serde(default, deserialize_with = "present")]
    request_id: Option<Id>,
    #[serde(default, deserialize_with = "present")]
    entities: Option<Entities>,
    #[serde(default, deserialize_with = "present")]
    context: Option<Scalars>,
    #[serde(default, deserialize_with = "present")]
    time: Option<Timestamp>,
    #[serde(default, deserialize_with = "present")]
    instances: Option<Vec<Object<Instance>>>,
}

#[derive(Debug, PartialEq)]
pub enum Asked {
    One(Instance),
    Many(Vec<Instance>),
}

pub fn parse(body: &[u8], max_instances: usize) -> Result<Asked, Fault> {
    let body: Body = strict::parse(body)?;
    let Some(instances) = body.instances else {
        return Ok(Asked::One(Instance {
            request_id: body.request_id,
            entities: body.entities.unwrap_or_default(),
            context: body.context.unwrap_or_default(),
            time: body.time,
        }));
    };
    if body.request_id.is_some() || body.entities.is_some() || body.context.is_some() || body.time.is_some() {
        let detail = "`instances` stands alone: put request_id, entities, context and time into each instance";
        return Err(Fault::bad("invalid_body", detail));
    }
    match instances.len() {
        0 => Err(Fault::bad("invalid_body", "`instances` is empty; expected at least one")),
        n if n > max_instances => Err(Fault::too_large(
            "too_many_instances",
            format!("{n} instances; at most {max_instances} in one request"),
        )),
        _ => Ok(Asked::Many(instances.into_iter().map(|o| o.0).collect())),
    }
}

impl Instance {
    fn command(self, model: &str, key: Option<String>, parse_us: u32) -> PredictCommand {
        PredictCommand {
            model: model.to_owned(),
            version: None,
            arm: None,
            request_id: self.request_id.map(|id| id.0).or(key),
            time: self.time,
            entities: self.entities.0,
            context: self.context.0,
            given: None,
            parse_us,
            trace: None,
        }
    }
}

/// The `Idempotency-Key`, with or without the quotes of a structured field.
fn idempotency_key(call: &Call) -> Result<Option<String>, Fault> {
    let Some(value) = call.http.headers().get("idempotency-key") else { return Ok(None) };
    let key = std::str::from_utf8(value.as_bytes()).unwrap_or_default();
    let key = key.strip_prefix('"').and_then(|k| k.strip_suffix('"')).unwrap_or(key);
    strict::checked_id(key).map_err(|e| Fault::bad("invalid_idempotency_key", format!("Idempotency-Key: {e}")))?;
    Ok(Some(key.to_owned()))
}

pub async fn predict(call: &Call) -> Result<HttpResponse, Fault> {
    call.require_json()?;
    let model = call.name("model")?;
    let explain = call.query(&["explain"])?.flag("explain")?;
    let (deadline, key) = (call.deadline()?, idempotency_key(call)?);
    let asked = parse(&call.body, call.limits().max_instances)?;
    let parse_us = u32::try_from(call.started.elapsed().as_micros()).unwrap_or(u32::MAX);
    match asked {
        Asked::One(instance) => {
            let answer = one(call, instance.command(&model, key, parse_us), deadline).await?;
            Ok(json(StatusCode::OK, &View { answer: &answer, explain }))
        }
        Asked::Many(instances) => {
            // An instance without an id of its own gets one from the key: a repeated request repeats each.
            let commands = instances.into_iter().enumerate().map(|(i, instance)| {
                let key = key.as_ref().map(|k| format!("{k}/{i}"));
                one(call, instance.command(&model, key, parse_us), deadline)
            });
            let results = in_order(commands).await;
            if let Some(fault) = common(&results) {
                return Err(fault.clone());
            }
            Ok(json(StatusCode::OK, &many(call, &results, explain)))
        }
    }
}

async fn one(call: &Call, mut command: PredictCommand, deadline: Duration) -> Result<Answer, Fault> {
    let cell = call.cell()?;
    if command.time.is_some() && !cell.clock_is_stream() {
        let detail = "`time` may be given only while a recorded stream is the clock (clock.source = \"stream\")";
        return Err(Fault::unprocessable("time_not_allowed", detail));
    }
    if let Some(side) = call.side(&command.model)? {
        (command.arm, command.version) = side;
    }
    command.trace = call.traced();
    let began = call.started.elapsed();
    let answer = cell.predict(call.generation()?, command, deadline.saturating_sub(began)).await?;
    call.note(began, &answer.record);
    Ok(answer)
}

/// What is wrong with the address, not with an instance, refuses the whole request.
fn common(results: &[Result<Answer, Fault>]) -> Option<&Fault> {
    let first = results.first()?.as_ref().err()?;
    let addressed = first.status == StatusCode::NOT_FOUND || first.code == "no_version";
    (addressed && results.iter().all(|r| r.as_ref().err() == Some(first))).then_some(first)
}

#[derive(Serialize)]
struct Many<'a> {
    predictions: Vec<Item<'a>>,
    failed: usize,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Item<'a> {
    Served(View<'a>),
    Failed { error: Problem<'a> },
}

fn many<'a>(call: &'a Call, results: &'a [Result<Answer, Fault>], explain: bool) -> Many<'a> {
    let item = |(i, result): (usize, &'a Result<Answer, Fault>)| match result {
        Ok(answer) => Item::Served(View { answer, explain }),
        Err(fault) => {
            let instance = format!("{}#/instances/{i}", call.http.path());
            Item::Failed { error: fault.problem(&call.request_id, instance.into(), false) }
        }
    };
    Many {
        predictions: results.iter().enumerate().map(item).collect(),
        failed: results.iter().filter(|r| r.is_err()).count(),
    }
}

/// An answer as the caller sees it.
pub struct View<'a> {
    pub answer: &'a Answer,
    pub explain: bool,
}

impl Serialize for View<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let (answer, record) = (self.answer, &*self.answer.record);
        Shown {
            id: record.id,
            request_id: record.request_id.as_deref(),
            model: &record.model,
            version: &record.version,
            feature_set: &record.feature_set,
            epoch: record.epoch,
            arm: record.placement.arm.name(),
            generation: answer.generation,
            score: record.score,
            label: &record.label,
            confidence: record.confidence,
            calibrated: answer.calibrated,
            verdict: record.verdict,
            findings: &record.findings,
            stale: &answer.stale,
            logged: answer.logged,
            repeated: answer.repeated,
            fallback_version: answer.fallback_version,
            features: self.explain.then_some(Features(answer)),
            timing_us: self.explain.then(|| Split::from(record.timing)),
        }
        .serialize(s)
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    id: PredictionId,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    model: &'a str,
    version: &'a str,
    feature_set: &'a str,
    epoch: u64,
    arm: &'static str,
    generation: u64,
    score: f64,
    label: &'a str,
    confidence: f64,
    calibrated: bool,
    verdict: Verdict,
    findings: &'a [Finding],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    stale: &'a [String],
    logged: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    repeated: bool,
    /// The version that was to answer could not be loaded; the champion did.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    fallback_version: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    features: Option<Features<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timing_us: Option<Split>,
}

/// Name -> value, age and staleness, in the order of the signature.
struct Features<'a>(&'a Answer);

#[derive(Serialize)]
struct Feature<'a> {
    value: &'a Value,
    age_s: Option<u32>,
    stale: bool,
}

impl Serialize for Features<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let (names, record) = (&self.0.signature.features, &self.0.record);
        let mut map = s.serialize_map(Some(names.len()))?;
        for (i, (feature, value)) in names.iter().zip(&record.vector).enumerate() {
            let age_s = record.ages.get(i).copied().flatten();
            let stale = self.0.stale.contains(&feature.name);
            map.serialize_entry(&feature.name, &Feature { value, age_s, stale })?;
        }
        map.end()
    }
}

#[derive(Serialize)]
struct Split {
    parse: u32,
    features: u32,
    validate: u32,
    route: u32,
    model: u32,
    total: u32,
}

impl From<Timing> for Split {
    fn from(t: Timing) -> Self {
        Split {
            parse: t.parse_us,
            features: t.features_us,
            validate: t.validate_us,
            route: t.route_us,
            model: t.model_us,
            total: t.total_us,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_and_many() {
        let body = br#"{"request_id":"SF1","entities":{"carrier":"UA","gate":7},"context":{"distance":2402,"x":null}}"#;
        let Asked::One(one) = parse(body, 10).unwrap() else { panic!("one") };
        let command = one.command("delay", Some("key".into()), 5);
        assert_eq!(command.request_id.as_deref(), Some("SF1"), "the body's id wins");
        assert_eq!(command.entities["gate"].as_deref(), Some("7"));
        assert_eq!(command.context["distance"], Value::Int(2402));
        assert!(matches!(parse(b"{}", 10).unwrap(), Asked::One(_)));
        assert!(matches!(parse(br#"{"instances":[{},{}]}"#, 2).unwrap(), Asked::Many(v) if v.len() == 2));
    }

    #[test]
    fn refused_bodies() {
        let table = [
            (r#"{"entites":{}}"#, 400, "unknown field `entites`"),
            (r#"{"instances":[{"contxt":{}}]}"#, 400, "unknown field `contxt`"),
            (r#"{"request_id":null}"#, 400, "null"),
            (r#"{"request_id":""}"#, 400, "expected 1 to 256"),
            (r#"{"instances":[]}"#, 400, "at least one"),
            (r#"{"instances":[{}],"context":{}}"#, 400, "stands alone"),
            (r#"{"instances":[{},{},{}]}"#, 413, "at most 2"),
            (r#"{"context":{},"context":{}}"#, 400, "duplicate field `context`"),
            (r#"{"time":"yesterday"}"#, 400, "RFC 3339"),
            (r#"{"context":{"a":1e999}}"#, 400, "out of range at line 1"),
            ("[]", 400, "expected an object"),
            (r#"{"instances":[[]]}"#, 400, "expected an object"),
        ];
        for (body, status, said) in table {
            let e = parse(body.as_bytes(), 2).unwrap_err();
            assert_eq!(e.status.as_u16(), status, "{body}");
            assert!(e.detail.contains(said), "{body}: {}", e.detail);
        }
    }
}
