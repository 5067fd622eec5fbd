//! Features, validation, route, model, log: one prediction.

use super::arms::{Attempt, Placed};
use super::{Cell, StoredAnswer, mailbox};
use crate::api::{Answer, PredictCommand, Refusal};
use crate::feature_set::FeatureSet;
use crate::feature_shard::LoadEntity;
use crate::generation::{Bound, Generation, Served};
use crate::model_instance;
use crate::monitor::PredictionRefused;
use crate::router::{LoadHere, Route, RoutePrediction, Routed};
use std::cell::RefCell;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use understudy_domain::features::{Lookup, Vector, VectorPlan};
use understudy_domain::fixed_hash;
use understudy_domain::prediction::{PredictionId, PredictionRecord, Timing, Verdict, unit_of};
use understudy_domain::time::Timestamp;
use understudy_domain::trace::TraceContext;
use understudy_domain::validate::Validation;
use understudy_domain::value::Value;

/// A request id in flight; keeps the answer, if there is one, when dropped.
struct Claim<'a> {
    cell: &'a Cell,
    key: u128,
    asked: u64,
    time: Timestamp,
    answer: Option<Answer>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut answers = self.cell.system.answers.lock().unwrap_or_else(PoisonError::into_inner);
        match self.answer.take() {
            Some(answer) => {
                answers.insert(self.key, StoredAnswer { asked: self.asked, answer: Some(answer) }, self.time);
            }
            None => answers.remove(self.key),
        }
    }
}

/// What a version made of a request.
struct Ran {
    bound: Arc<Bound>,
    vector: Vector,
    validation: Validation,
    score: f64,
}

/// Splits a request's time into steps.
pub(super) struct Laps(Instant);

impl Laps {
    fn lap(&mut self) -> u32 {
        let now = Instant::now();
        let us = now.duration_since(self.0).as_micros();
        self.0 = now;
        u32::try_from(us).unwrap_or(u32::MAX)
    }
}

impl Cell {
    /// One prediction within `deadline`. The request was admitted by the [`Gate`](crate::admission::Gate).
    pub async fn predict(
        &self,
        generation: &Generation,
        command: PredictCommand,
        deadline: Duration,
    ) -> Result<Answer, Refusal> {
        let served = generation.model(&command.model)?;
        let name = &served.name;
        let time = self.request_time(command.time)?;
        let repeat = command.request_id.as_deref().map(|id| (repeat_key(name, id), fingerprint(&command)));
        if let Some((key, asked)) = repeat
            && let Some(stored) = self.claim(key, asked, time)?
        {
            return Ok(stored);
        }
        // A caller that is gone drops this future anywhere: the id must not stay in flight.
        let claim = repeat.map(|(key, asked)| Claim { cell: self, key, asked, time, answer: None });
        let placed = RefCell::new(None);
        let answer = self.answer(generation, served, command, time, &placed);
        let result = match tokio::time::timeout(deadline, answer).await {
            Ok(result) => result,
            Err(_) => {
                if let Some(placed) = placed.take() {
                    self.failed(&placed.attempt(), &Refusal::Deadline);
                }
                Err(Refusal::Deadline)
            }
        };
        if let Some(mut claim) = claim {
            claim.answer = result.as_ref().ok().cloned();
        }
        if let Err(refusal) = &result {
            let code = refusal_code(refusal);
            self.deps().counters.refusals.add(&[name, code], 1);
            served.monitor.do_send(PredictionRefused { time, code });
        }
        result
    }

    fn request_time(&self, asked: Option<Timestamp>) -> Result<Timestamp, Refusal> {
        let clock = &self.deps().clock;
        match asked {
            None => Ok(clock.now()),
            Some(time) if clock.is_stream() => {
                clock.observe(time);
                Ok(time)
            }
            Some(_) => Err(Refusal::Invalid {
                code: "time_not_allowed",
                detail: "`time` is only taken while a recorded stream is the clock (clock.source = \"stream\")".into(),
            }),
        }
    }

    /// The stored answer of this request id, or `None` after noting that it is in flight.
    fn claim(&self, key: u128, asked: u64, now: Timestamp) -> Result<Option<Answer>, Refusal> {
        let mut answers = self.system.answers.lock().unwrap_or_else(PoisonError::into_inner);
        match answers.get(key) {
            None => {
                answers.insert(key, StoredAnswer { asked, answer: None }, now);
                Ok(None)
            }
            Some(stored) if stored.asked != asked => Err(Refusal::Invalid {
                code: "request_id_reused",
                detail: "this request id was used with other content; use a new id for another request".into(),
            }),
            Some(StoredAnswer { answer: Some(answer), .. }) => Ok(Some(Answer { repeated: true, ..answer.clone() })),
            Some(StoredAnswer { answer: None, .. }) => Err(Refusal::Conflict {
                code: "request_in_flight",
                detail: "a request with this id is being answered; ask again in a moment".into(),
            }),
        }
    }

    async fn answer(
        &self,
        generation: &Generation,
        served: &Served,
        command: PredictCommand,
        time: Timestamp,
        placed: &RefCell<Option<Placed>>,
    ) -> Result<Answer, Refusal> {
        let (name, plan) = (&served.name, &*served.plan);
        let trace = command.trace;
        let mut laps = Laps(Instant::now());
        let mut timing = Timing { parse_us: command.parse_us, ..Timing::default() };
        let id = match &command.request_id {
            Some(request) => PredictionId::of_request(time, name, request),
            None => PredictionId::new(time, (self.deps().settings.entropy)()),
        };
        let running = self.system.board.of(name);
        let declared = plan.spec.unit.as_deref().filter(|_| running.as_ref().is_none_or(|r| !r.by_request));
        let unit = unit_of(declared, &command.entities, &command.context, command.request_id.as_deref(), id);
        let unit = unit.into_owned();
        let (mut route, mut fallback_version) = self.route(name, &command, &unit).await?;
        timing.route_us = laps.lap();
        let mut attempt = Attempt { running: running.as_deref(), id, time, unit: &unit, placement: route.placement };
        if attempt.is_stopped() {
            route = self.baseline(name, &command, &attempt).await?;
            attempt.placement.instead = true;
        } else if fallback_version {
            self.failed(&attempt, &Refusal::Internal { detail: "the version could not be loaded".into() });
            attempt.placement.instead = true;
        }
        if let Some(running) = running.clone() {
            let (unit, placement) = (unit.clone(), attempt.placement);
            *placed.borrow_mut() = Some(Placed { running, id, time, unit, placement });
        }
        let mut ran = self.run(generation, served, &command, &route, time, (&mut timing, &mut laps)).await;
        placed.take();
        if let Err(refusal) = &ran
            && self.failed(&attempt, refusal)
            && attempt.falls_back()
        {
            route = self.baseline(name, &command, &attempt).await?;
            (attempt.placement.instead, fallback_version) = (true, true);
            ran = self.run(generation, served, &command, &route, time, (&mut timing, &mut laps)).await;
        }
        let Ran { bound, vector, validation, score } = ran?;
        attempt.answered();
        timing.total_us = timing.parse_us + timing.route_us + timing.features_us + timing.validate_us + timing.model_us;

        let positive = score >= plan.spec.threshold;
        let signature = &route.model.signature;
        let label = if positive { &signature.positive_label } else { &signature.negative_label };
        let mut vector = vector;
        let stale = vector.stale.iter().filter_map(|slot| bound.vector.names().get(*slot).cloned()).collect();
        vector.ages.truncate(vector.values.len());
        let record = Arc::new(PredictionRecord {
            id,
            model: name.to_string(),
            version: route.version.to_string(),
            feature_set: generation.catalog.plan.id().to_owned(),
            epoch: route.epoch,
            placement: attempt.placement,
            request_id: command.request_id,
            time,
            entities: command.entities,
            context: command.context,
            vector: vector.values,
            ages: vector.ages,
            score,
            label: label.clone(),
            confidence: if positive { score } else { 1.0 - score },
            verdict: validation.verdict,
            findings: validation.findings,
            timing,
        });
        self.deps().counters.predictions.add(&[name, &route.version, verdict_name(record.verdict)], 1);
        if let Some(tap) = running.as_ref().and_then(|r| r.shadow.load_full())
            && tap.takes(&record, &unit)
        {
            self.copy(tap, record.clone(), signature).await;
        }
        let logged = self.log_record(generation, record.clone(), trace).await?;
        Ok(Answer {
            generation: generation.number,
            record,
            signature: signature.clone(),
            calibrated: route.model.calibrated,
            stale,
            repeated: false,
            logged,
            fallback_version,
        })
    }

    /// Features, validation and model of one version.
    async fn run(
        &self,
        generation: &Generation,
        served: &Served,
        command: &PredictCommand,
        route: &Route,
        time: Timestamp,
        (timing, laps): (&mut Timing, &mut Laps),
    ) -> Result<Ran, Refusal> {
        let bound = generation.bind(&route.model)?;
        let mut vector = match &command.given {
            Some(values) => given(&bound.vector, values)?,
            None => self.vector(generation, &bound.vector, command, time).await?,
        };
        timing.features_us += laps.lap();

        let validation = bound.rules.check(&mut vector.values, Some(&bound.reference));
        timing.validate_us += laps.lap();
        for finding in &validation.findings {
            self.deps().counters.findings.add(&[&served.name, &finding.rule], 1);
        }

        let score = match validation.verdict {
            Verdict::Rejected => return Err(Refusal::Rejected { findings: validation.findings }),
            Verdict::Fallback => bound.fallback_score,
            Verdict::Valid | Verdict::Flagged | Verdict::Defaulted => {
                let scored = model_instance::predict(&route.instance, vec![std::mem::take(&mut vector.values)]).await;
                timing.model_us += laps.lap();
                let mut scored = scored?;
                vector.values = scored.rows.swap_remove(0);
                scored.scores[0]
            }
        };
        Ok(Ran { bound, vector, validation, score })
    }

    async fn log_record(
        &self,
        generation: &Generation,
        record: Arc<PredictionRecord>,
        trace: Option<TraceContext>,
    ) -> Result<bool, Refusal> {
        let open = self.deps().predictions.accepting();
        if !generation.settings.log_sync {
            return Ok(self.log(generation, record, None, trace) && open.is_ok());
        }
        open.map_err(crate::prediction_logger::unavailable)?;
        let (done, durable) = oneshot::channel();
        if !self.log(generation, record, Some(done), trace) {
            return Err(Refusal::Overloaded { retry_after_ms: 1000 });
        }
        durable
            .await
            .unwrap_or(Err(crate::ports::StoreError::Closed))
            .map(|()| true)
            .map_err(crate::prediction_logger::unavailable)
    }

    /// The version that answers, and whether it does so in place of one that could not be loaded.
    async fn route(&self, name: &Arc<str>, command: &PredictCommand, unit: &str) -> Result<(Route, bool), Refusal> {
        let (version, arm) = (command.version.clone(), command.arm);
        let ask = RoutePrediction { model: name.clone(), version, arm, unit: unit.to_owned() };
        let (version, placement, instead) = match self.router.send(ask).await.map_err(mailbox)?? {
            Routed::Ready(route) => return Ok((route, false)),
            Routed::NotLoaded { version, placement, instead } => (version, placement, instead),
        };
        let load = |version: String| {
            let load = self.router.send(LoadHere { model: name.clone(), version, placement });
            self.spanned(command.trace, "router", "LoadHere", load)
        };
        match (load(version.clone()).await.map_err(mailbox)?, instead) {
            (Ok(route), _) => Ok((route, false)),
            (Err(refusal), None) => Err(refusal),
            (Err(_), Some(baseline)) => {
                let route = load(baseline).await.map_err(mailbox)??;
                self.deps().counters.fallbacks.add(&[name, &version], 1);
                Ok((route, true))
            }
        }
    }

    /// The features as of `time`: entity features from the shards, then context and expressions.
    pub(super) async fn vector(
        &self,
        generation: &Generation,
        plan: &VectorPlan,
        command: &PredictCommand,
        time: Timestamp,
    ) -> Result<Vector, Refusal> {
        let features = &generation.catalog.plan;
        let FeatureSet { tables, shards, .. } = &*generation.features;
        if let Some(field) = features.unknown_context(&command.context).first() {
            return Err(Refusal::Invalid {
                code: "unknown_context_field",
                detail: format!("no context feature reads `{field}`; a stored feature cannot be given in the context"),
            });
        }
        let hashes = features.entity_hashes(&command.entities);
        let mut vector = plan.blank();
        for group in plan.groups() {
            let Some(entity) = hashes[group.entity] else { continue };
            let shard = entity.shard(tables.len());
            let table = &tables[shard];
            let read = |vector: &mut Vector| {
                table.lock().map(|mut t| t.read(entity, group, time, vector)).map_err(|_| rebuilding())
            };
            if read(&mut vector)? == Lookup::Cold {
                let load = shards[shard].send(LoadEntity { entity });
                let found =
                    self.spanned(command.trace, "feature_shard", "LoadEntity", load).await.map_err(mailbox)??;
                if !found || read(&mut vector)? == Lookup::Cold {
                    table.lock().map_err(|_| rebuilding())?.absent(group, &mut vector);
                }
            }
        }
        plan.finish(&command.context, &command.entities, &mut vector);
        Ok(vector)
    }
}

fn rebuilding() -> Refusal {
    Refusal::Unavailable { code: "features_rebuilding", detail: "feature state is being rebuilt; try again".into() }
}

/// A complete vector that came with the request.
fn given(plan: &VectorPlan, values: &[Value]) -> Result<Vector, Refusal> {
    if values.len() != plan.len() {
        return Err(Refusal::Invalid {
            code: "wrong_vector_length",
            detail: format!("the model takes {} features, {} were given", plan.len(), values.len()),
        });
    }
    Ok(Vector { values: values.to_vec(), ages: vec![None; values.len()], stale: Vec::new() })
}

fn repeat_key(model: &str, request: &str) -> u128 {
    fixed_hash::of_parts([model.as_bytes(), request.as_bytes()])
}

/// What was asked, without the id: a repeated id with other content is refused.
fn fingerprint(c: &PredictCommand) -> u64 {
    let asked = serde_json::to_vec(&(&c.version, c.time, &c.entities, &c.context, &c.given)).unwrap_or_default();
    fixed_hash::of_parts([&asked[..]]) as u64
}

pub fn verdict_name(v: Verdict) -> &'static str {
    match v {
        Verdict::Valid => "valid",
        Verdict::Flagged => "flagged",
        Verdict::Defaulted => "defaulted",
        Verdict::Fallback => "fallback",
        Verdict::Rejected => "rejected",
    }
}

/// The stable code of a refusal.
pub fn refusal_code(r: &Refusal) -> &'static str {
    match r {
        Refusal::NotFound { code, .. }
        | Refusal::Invalid { code, .. }
        | Refusal::Conflict { code, .. }
        | Refusal::Shed { code, .. }
        | Refusal::Unavailable { code, .. } => code,
        Refusal::NoVersion { .. } => "no_version",
        Refusal::Rejected { .. } => "validation_rejected",
        Refusal::Overloaded { .. } => "overloaded",
        Refusal::Deadline => "deadline_exceeded",
        Refusal::Model { fault, .. } => fault.code(),
        Refusal::Internal { .. } => "internal",
    }
}
