//! The front of the gateway: what a worker has no room for is refused here, before it is routed, its key is looked
//! up or anything of it is kept. Under overload most requests end here, so what a refusal costs is taken from what is served.
//!
//! The same gate is asked again after the body was read; health, metrics and questions always pass.

use super::call;
use super::connections::InWork;
use super::error::Fault;
use super::routes::{degraded, generated, named};
use actix_web::body::{BodyStream, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, web};
use std::future::poll_fn;
use std::pin::pin;
use understudy_actors::api::Refusal;
use understudy_actors::cell::Cell;
use understudy_domain::admission::Class;

/// Why a request is refused at once, if it is.
pub fn refusal(request: &ServiceRequest) -> Option<Refusal> {
    let cell = request.app_data::<web::Data<Cell>>()?;
    if !cell.gate().is_pressed() {
        return None;
    }
    let class = class(request.method(), request.path())?;
    let limit = call::limits(request.request(), Some(&cell.generation())).request_timeout;
    let deadline = call::deadline(request.request(), limit).unwrap_or(limit);
    cell.gate().refuses(class, deadline)
}

/// The class of what makes up nearly all load, by its path alone.
fn class(method: &Method, path: &str) -> Option<Class> {
    if method != Method::POST {
        return None;
    }
    match path {
        "/v1/events" | "/v1/outcomes" => Some(Class::Ingest),
        _ if path.starts_with("/v1/models/") && path.ends_with("/predict") => Some(Class::Serve),
        _ if path.starts_with("/v2/models/") && path.ends_with("/infer") => Some(Class::Serve),
        _ => None,
    }
}

/// The answer of a refused request. A connection whose body was not read must be closed, and a new one costs more
/// than letting a small body pass.
pub async fn refuse(request: ServiceRequest, refusal: Refusal) -> ServiceResponse {
    let (http, payload) = request.into_parts();
    let _in_work = InWork::on(&http);
    if call::is_short(&http) {
        let limit = call::limits(&http, None).body_timeout;
        // One that does not come in time leaves the connection to be closed.
        let _ = tokio::time::timeout(limit, pass_over(payload)).await;
    }
    let response = answer(&http, refusal);
    ServiceResponse::new(http, response)
}

async fn pass_over(payload: Payload) {
    let mut body = pin!(BodyStream::new(payload));
    while let Some(Ok(_)) = poll_fn(|cx| body.as_mut().poll_next(cx)).await {}
}

fn answer(http: &HttpRequest, refusal: Refusal) -> HttpResponse {
    let id = call::request_id(http);
    let number = http.app_data::<web::Data<Cell>>().map(|cell| cell.generation().number);
    generated(named(degraded(Fault::from(refusal).respond(&id, http.path()), http), &id), number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::routes::ROUTES;

    #[test]
    fn the_class_by_path_is_that_of_the_table_of_routes() {
        for route in ROUTES {
            let path = route.path.replace("{model}", "m").replace("{version}", "7").replace("{job}", "j");
            let method = Method::from_bytes(route.method.as_bytes()).unwrap();
            match class(&method, &path) {
                Some(class) => assert_eq!(Some(class), route.class, "{path}"),
                None => assert!(!matches!(route.class, Some(Class::Serve | Class::Ingest)), "{path}"),
            }
        }
        assert_eq!(class(&Method::GET, "/v1/models/m/predict"), None);
    }
}
