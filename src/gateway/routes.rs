//! The single table of routes: the server and the test against `openapi.json` are driven by it.

use super::call::{self, Call};
use super::connections::InWork;
use super::error::Fault;
use super::rollout::Order;
use super::{
    alerts, config, entities, events, health, outcomes, predict, read, registry, replay, retraining, rollout, rules, v2,
};
use crate::security::{Caller, Scope, Security};
use crate::system::WallClock;
use crate::telemetry::{Finished, Telemetry};
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::web::{self, Bytes};
use actix_web::{HttpRequest, HttpResponse};
use std::cell::RefCell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;
use understudy_actors::admission::Ticket;
use understudy_actors::cell::Cell;
use understudy_actors::generation::Generation;
use understudy_actors::ports::Clock;
use understudy_domain::admission::{Class, Rung};

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Predict,
    Ingest,
    Outcomes,
    Replay,
    Models,
    Model,
    Register,
    Version,
    Alias,
    Archive,
    Monitor,
    Drift,
    ExplainDrift,
    Train,
    Jobs,
    Job,
    Retraining,
    ModelRetraining,
    StartRetraining,
    DecideChallenger,
    Features,
    ExplainFeature,
    Prediction,
    Predictions,
    Erase,
    TryRules,
    Rollout,
    StartRollout,
    PlanRollout,
    AaRollout,
    PromoteRollout,
    AbortRollout,
    ApproveRollout,
    RetryRollout,
    Feeds,
    Alerts,
    SilenceAlerts,
    EndSilence,
    EndAlert,
    TestAlert,
    Rollouts,
    RolloutJournal,
    RolloutReport,
    VerifyRollout,
    Config,
    ConfigHistory,
    ConfigDiff,
    ConfigReload,
    ConfigRevert,
    System,
    Live,
    Ready,
    Metrics,
    OpenApi,
    V2Server,
    V2Live,
    V2Ready,
    V2Model,
    V2ModelReady,
    V2Infer,
}

/// One row: method, path template, operation. POST routes read a body.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub operation: Operation,
    /// How important it is under load; `None` is always answered: health, and what tells what is wrong.
    pub class: Option<Class>,
    /// What a key must be good for; `None` is open to all.
    pub scope: Option<Scope>,
}

const fn get(path: &'static str, operation: Operation) -> Route {
    Route { method: "GET", path, operation, class: class(operation), scope: scope(operation) }
}
const fn post(path: &'static str, operation: Operation) -> Route {
    Route { method: "POST", path, operation, class: class(operation), scope: scope(operation) }
}

/// Every operation stands here: one that is forgotten does not compile.
const fn scope(operation: Operation) -> Option<Scope> {
    use Operation::*;
    match operation {
        Live | Ready | V2Live | V2Ready => None,
        Predict | V2Infer | V2Server | V2Model | V2ModelReady => Some(Scope::Serve),
        Ingest | Outcomes => Some(Scope::Ingest),
        Models | Model | Version | Monitor | Drift | ExplainDrift | Jobs | Job | Retraining | ModelRetraining
        | Features | ExplainFeature | Prediction | Predictions | TryRules | Feeds | Alerts | Rollout | PlanRollout
        | AaRollout | Rollouts | RolloutJournal | RolloutReport | VerifyRollout | Config | ConfigHistory
        | ConfigDiff | System | Metrics | OpenApi => Some(Scope::Read),
        Replay | Train | StartRetraining | DecideChallenger | StartRollout | PromoteRollout | AbortRollout
        | ApproveRollout | RetryRollout | Register | Alias | Archive | Erase | ConfigReload | ConfigRevert
        | SilenceAlerts | EndSilence | EndAlert | TestAlert => Some(Scope::Admin),
    }
}

const fn class(operation: Operation) -> Option<Class> {
    use Operation::*;
    match operation {
        Predict | V2Infer => Some(Class::Serve),
        Ingest | Outcomes => Some(Class::Ingest),
        Live | Ready | Metrics | Alerts | Rollout | PromoteRollout | AbortRollout | ApproveRollout | System
        | Config | ConfigHistory | ConfigDiff | ConfigReload | ConfigRevert | OpenApi | V2Server | V2Live | V2Ready => {
            None
        }
        Replay | Models | Model | Register | Version | Alias | Archive | Monitor | Drift | ExplainDrift | Train
        | Jobs | Job | Retraining | ModelRetraining | StartRetraining | DecideChallenger | Features
        | ExplainFeature | Prediction | Predictions | Erase | TryRules | StartRollout | PlanRollout | AaRollout
        | RetryRollout | Rollouts | RolloutJournal | RolloutReport | VerifyRollout | V2Model | V2ModelReady | Feeds
        | SilenceAlerts | EndSilence | EndAlert | TestAlert => Some(Class::Read),
    }
}

pub const ROUTES: &[Route] = &[
    post("/v1/models/{model}/predict", Operation::Predict),
    post("/v1/events", Operation::Ingest),
    post("/v1/outcomes", Operation::Outcomes),
    post("/v1/replay", Operation::Replay),
    get("/v1/models", Operation::Models),
    get("/v1/models/{model}", Operation::Model),
    post("/v1/models", Operation::Register),
    post("/v1/models/{model}/aliases", Operation::Alias),
    get("/v1/models/{model}/versions/{version}", Operation::Version),
    post("/v1/models/{model}/versions/{version}/archive", Operation::Archive),
    get("/v1/models/{model}/monitor", Operation::Monitor),
    get("/v1/models/{model}/drift", Operation::Drift),
    get("/v1/models/{model}/drift/{feature}", Operation::ExplainDrift),
    post("/v1/models/{model}/train", Operation::Train),
    get("/v1/models/{model}/rollout", Operation::Rollout),
    post("/v1/models/{model}/rollout", Operation::StartRollout),
    post("/v1/models/{model}/rollout/plan", Operation::PlanRollout),
    post("/v1/models/{model}/rollout/aa", Operation::AaRollout),
    post("/v1/models/{model}/rollout/promote", Operation::PromoteRollout),
    post("/v1/models/{model}/rollout/abort", Operation::AbortRollout),
    post("/v1/models/{model}/rollout/approve", Operation::ApproveRollout),
    post("/v1/models/{model}/rollout/retry", Operation::RetryRollout),
    get("/v1/rollouts", Operation::Rollouts),
    get("/v1/rollouts/{id}/journal", Operation::RolloutJournal),
    get("/v1/rollouts/{id}/report", Operation::RolloutReport),
    get("/v1/rollouts/{id}/verify", Operation::VerifyRollout),
    get("/v1/jobs", Operation::Jobs),
    get("/v1/jobs/{job}", Operation::Job),
    get("/v1/retraining", Operation::Retraining),
    get("/v1/models/{model}/retraining", Operation::ModelRetraining),
    post("/v1/models/{model}/retraining", Operation::StartRetraining),
    post("/v1/models/{model}/retraining/{job}", Operation::DecideChallenger),
    get("/v1/feeds", Operation::Feeds),
    get("/v1/alerts", Operation::Alerts),
    post("/v1/alerts/test", Operation::TestAlert),
    post("/v1/alerts/silences", Operation::SilenceAlerts),
    post("/v1/alerts/silences/{id}/end", Operation::EndSilence),
    post("/v1/alerts/{id}/resolve", Operation::EndAlert),
    get("/v1/features", Operation::Features),
    get("/v1/features/{name}/explain", Operation::ExplainFeature),
    get("/v1/predictions", Operation::Predictions),
    get("/v1/predictions/{id}", Operation::Prediction),
    post("/v1/entities/erase", Operation::Erase),
    post("/v1/rules/try", Operation::TryRules),
    get("/v1/config", Operation::Config),
    get("/v1/config/history", Operation::ConfigHistory),
    get("/v1/config/diff", Operation::ConfigDiff),
    post("/v1/config/reload", Operation::ConfigReload),
    post("/v1/config/revert", Operation::ConfigRevert),
    get("/v1/system", Operation::System),
    get("/livez", Operation::Live),
    get("/readyz", Operation::Ready),
    get("/metrics", Operation::Metrics),
    get("/openapi.json", Operation::OpenApi),
    get("/v2", Operation::V2Server),
    get("/v2/health/live", Operation::V2Live),
    get("/v2/health/ready", Operation::V2Ready),
    get("/v2/models/{model}", Operation::V2Model),
    get("/v2/models/{model}/ready", Operation::V2ModelReady),
    post("/v2/models/{model}/infer", Operation::V2Infer),
    get("/v2/models/{model}/versions/{version}", Operation::V2Model),
    get("/v2/models/{model}/versions/{version}/ready", Operation::V2ModelReady),
    post("/v2/models/{model}/versions/{version}/infer", Operation::V2Infer),
];

/// Registers every route; anything else is a 404 or 405 problem. The worker's `web::Data<Cell>`,
/// `web::Data<GatewayLimits>` and `web::Data<MetricsText>` are put into the app by [`super::serve`].
pub fn configure(cfg: &mut web::ServiceConfig) {
    let mut paths: Vec<&str> = Vec::new();
    for route in ROUTES {
        if !paths.contains(&route.path) {
            paths.push(route.path);
        }
    }
    for path in paths {
        let here: Vec<&Route> = ROUTES.iter().filter(|r| r.path == path).collect();
        let allow = here.iter().map(|r| r.method).collect::<Vec<_>>().join(", ");
        let mut resource = web::resource(path);
        for route in here {
            let method = Method::from_bytes(route.method.as_bytes()).expect("the table holds real methods");
            let handler = move |http: HttpRequest, payload: web::Payload| run(route, http, payload);
            resource = resource.route(web::method(method).to(handler));
        }
        let other = move |http: HttpRequest| {
            let fault = Fault::no_method(http.method().as_str(), &allow);
            async move { refused(&http, &fault) }
        };
        cfg.service(resource.default_service(web::to(other)));
    }
    cfg.default_service(web::to(|http: HttpRequest| async move { refused(&http, &Fault::no_route(http.path())) }));
}

fn refused(http: &HttpRequest, fault: &Fault) -> HttpResponse {
    let id = call::request_id(http);
    named(fault.respond(&id, http.path()), &id)
}

/// The generation of the configuration that answered.
const GENERATION: HeaderName = HeaderName::from_static("x-generation");

pub(super) fn generated(mut response: HttpResponse, number: Option<u64>) -> HttpResponse {
    if let Some(number) = number {
        response.headers_mut().insert(GENERATION, HeaderValue::from(number));
    }
    response
}

/// Every answer carries the request's id.
pub(super) fn named(mut response: HttpResponse, id: &str) -> HttpResponse {
    if let Ok(value) = HeaderValue::from_str(id) {
        response.headers_mut().insert(HeaderName::from_static("x-request-id"), value);
    }
    response
}

async fn run(route: &'static Route, http: HttpRequest, payload: web::Payload) -> HttpResponse {
    let started = Instant::now();
    let request_id = call::request_id(&http);
    let _in_work = InWork::on(&http);
    let telemetry = http.app_data::<web::Data<Telemetry>>().cloned();
    let span = telemetry.as_ref().and_then(|t| {
        let header = |name| http.headers().get(name).and_then(|v| v.to_str().ok());
        t.begin(header("traceparent"), header("tracestate"))
    });
    let trace = span.as_ref().map(|s| s.context);
    let generation = http.app_data::<web::Data<Cell>>().map(|cell| cell.generation());
    let number = generation.as_ref().map(|g| g.number);
    let mut steps = Vec::new();
    let response = match admitted(route, &http, generation.as_deref(), payload, started).await {
        Ok((body, caller, _ticket)) => {
            let call = Call { http, body, request_id, started, generation, caller, trace, steps: RefCell::default() };
            let response = match guarded(dispatch(route.operation, &call)).await {
                Ok(response) => response,
                Err(fault) => {
                    fault.note(&call.request_id, call.http.path(), trace);
                    fault.respond(&call.request_id, call.http.path())
                }
            };
            steps = call.steps.take();
            named(degraded(response, &call.http), &call.request_id)
        }
        Err(fault) => named(degraded(fault.respond(&request_id, http.path()), &http), &request_id),
    };
    if let Some(telemetry) = telemetry {
        let (method, route, status) = (route.method, route.path, response.status().as_u16());
        telemetry.end(span, &Finished { method, route, status, started, steps: &steps });
    }
    generated(response, number)
}

/// The body, and the place among the requests in work. What will be refused is refused before its body is
/// read; a body that comes slowly holds no place.
async fn admitted(
    route: &Route,
    http: &HttpRequest,
    generation: Option<&Generation>,
    payload: web::Payload,
    started: Instant,
) -> Result<(Bytes, Caller, Option<Ticket>), Fault> {
    call::check_head(http)?;
    let caller = caller(route, http)?;
    // Without a cell there is nothing to protect, and nothing that can be asked.
    let gate = http.app_data::<web::Data<Cell>>().map(|cell| cell.gate());
    let gate = gate.and_then(|gate| Some((gate, route.class?)));
    let mut limits = call::limits(http, generation);
    if route.operation == Operation::Register {
        limits = limits.for_upload();
    }
    let limit = limits.request_timeout;
    let deadline = call::deadline(http, limit).unwrap_or(limit);
    if let Some((gate, class)) = gate
        && let Some(refusal) = gate.refuses(class, deadline)
    {
        // A connection whose body was not read must be closed, and a new one costs more than reading a small body.
        if http.method() == Method::POST && call::is_short(http) {
            call::read_body(http, payload, limits).await?;
        }
        return Err(refusal.into());
    }
    let body = match http.method() == Method::POST {
        true => call::read_body(http, payload, limits).await?,
        false => Bytes::new(),
    };
    let Some((gate, class)) = gate else { return Ok((body, caller, None)) };
    let model = if class == Class::Serve { http.match_info().get("model").and_then(|m| gate.model(m)) } else { None };
    let ticket = gate.enter(class, model, deadline.saturating_sub(started.elapsed())).await?;
    Ok((body, caller, Some(ticket)))
}

/// Who asks, if they may. Details of an open route need the scope `read`.
fn caller(route: &Route, http: &HttpRequest) -> Result<Caller, Fault> {
    let Some(security) = http.app_data::<web::Data<Security>>() else { return Ok(Caller::Anyone) };
    let header = |name: HeaderName| http.headers().get(name).and_then(|v| v.to_str().ok());
    security.check_local(header(header::HOST), header(header::ORIGIN))?;
    let scope = route.scope.or_else(|| http.query_string().contains("verbose").then_some(Scope::Read));
    let now = WallClock.now();
    Ok(security.check(header(header::AUTHORIZATION), scope, http.match_info().get("model"), now)?)
}

/// While something is being given up, every answer says so.
pub(super) fn degraded(mut response: HttpResponse, http: &HttpRequest) -> HttpResponse {
    if let Some(cell) = http.app_data::<web::Data<Cell>>()
        && let rung = cell.gate().admission().rung()
        && rung != Rung::Normal
    {
        let name = HeaderName::from_static("understudy-degraded");
        response.headers_mut().insert(name, HeaderValue::from_static(rung.name()));
    }
    response
}

/// A panic is a 500 of its request, not a broken connection.
async fn guarded(work: impl Future<Output = Result<HttpResponse, Fault>>) -> Result<HttpResponse, Fault> {
    let mut work = pin!(work);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
        Ok(poll) => poll,
        Err(_) => Poll::Ready(Err(Fault::internal("a fault of the server; the log has it under this request id"))),
    })
    .await
}

async fn dispatch(operation: Operation, call: &Call) -> Result<HttpResponse, Fault> {
    match operation {
        Operation::Predict => predict::predict(call).await,
        Operation::Ingest => events::ingest(call).await,
        Operation::Outcomes => outcomes::outcomes(call).await,
        Operation::Replay => replay::replay(call).await,
        Operation::Models => read::models(call),
        Operation::Model => read::model(call).await,
        Operation::Register => registry::register(call).await,
        Operation::Version => registry::version(call).await,
        Operation::Alias => registry::alias(call).await,
        Operation::Archive => registry::archive(call).await,
        Operation::Monitor => read::monitor(call).await,
        Operation::Drift => read::drift(call).await,
        Operation::ExplainDrift => read::explain_drift(call).await,
        Operation::Train => read::train(call).await,
        Operation::Jobs => read::jobs(call),
        Operation::Job => read::job(call),
        Operation::Retraining => retraining::all(call).await,
        Operation::ModelRetraining => retraining::one(call).await,
        Operation::StartRetraining => retraining::start(call).await,
        Operation::DecideChallenger => retraining::decide(call).await,
        Operation::Features => read::features(call),
        Operation::ExplainFeature => read::explain(call).await,
        Operation::Prediction => read::prediction(call).await,
        Operation::Predictions => read::predictions(call).await,
        Operation::Erase => entities::erase(call).await,
        Operation::TryRules => rules::try_rules(call).await,
        Operation::Rollout => rollout::status(call).await,
        Operation::StartRollout => rollout::start(call).await,
        Operation::PlanRollout => rollout::plan(call).await,
        Operation::AaRollout => rollout::aa(call).await,
        Operation::PromoteRollout => rollout::command(call, Order::Promote).await,
        Operation::AbortRollout => rollout::command(call, Order::Abort).await,
        Operation::ApproveRollout => rollout::command(call, Order::Approve).await,
        Operation::RetryRollout => rollout::command(call, Order::Retry).await,
        Operation::Feeds => alerts::feeds(call).await,
        Operation::Alerts => alerts::list(call).await,
        Operation::SilenceAlerts => alerts::silence(call).await,
        Operation::EndSilence => alerts::end_silence(call).await,
        Operation::EndAlert => alerts::end(call).await,
        Operation::TestAlert => alerts::test(call).await,
        Operation::Rollouts => rollout::list(call).await,
        Operation::RolloutJournal => rollout::journal(call).await,
        Operation::RolloutReport => rollout::report(call).await,
        Operation::VerifyRollout => rollout::verify(call).await,
        Operation::Config => config::status(call).await,
        Operation::ConfigHistory => config::history(call).await,
        Operation::ConfigDiff => config::diff(call).await,
        Operation::ConfigReload => config::reload(call).await,
        Operation::ConfigRevert => config::revert(call).await,
        Operation::System => read::system(call),
        Operation::Live => health::live(call),
        Operation::Ready => health::ready(call),
        Operation::Metrics => health::metrics(call),
        Operation::OpenApi => health::openapi(),
        Operation::V2Server => Ok(v2::server()),
        Operation::V2Live => Ok(v2::live()),
        Operation::V2Ready => health::v2_ready(call),
        Operation::V2Model => v2::model(call).await,
        Operation::V2ModelReady => v2::model_ready(call).await,
        Operation::V2Infer => v2::infer(call).await,
    }
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
