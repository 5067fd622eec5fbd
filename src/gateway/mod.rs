//! The HTTP edge: parses, asks this worker's cell, answers. It decides nothing.
//!
//! `docs/http.md` tells the contract in words, `openapi.json` in full; `routes.rs` is the one table of routes.

mod alerts;
pub(crate) mod call;
mod config;
mod connections;
pub mod entities;
mod error;
pub(crate) mod event_forms;
mod events;
mod front;
mod health;
mod json;
pub(crate) mod outcomes;
pub(crate) mod predict;
mod read;
mod registry;
mod replay;
mod retraining;
mod rollout;
pub mod routes;
mod rules;
mod shapes;
mod together;
pub(crate) mod v2;

pub use connections::{Connections, raise_file_limit};
pub use routes::configure;

use crate::security::Security;
use crate::telemetry::Telemetry;
use actix_web::dev::Service;
use actix_web::{App, HttpServer, web};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use understudy_actors::cell::Cell;

/// The OpenAPI 3.1 document, as served.
pub const OPENAPI: &str = include_str!("openapi.json");

/// Bounds of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GatewayLimits {
    /// Longest body, in bytes; more is 413.
    pub max_body_bytes: usize,
    /// The same of a registered model version.
    pub max_upload_bytes: usize,
    /// Most instances of one predict request, or rows of an infer request.
    pub max_instances: usize,
    /// Most events of one ingest, and outcomes of one request.
    pub max_events: usize,
    /// Longest wait for an answer; `X-Deadline-Ms` may shorten it.
    pub request_timeout: Duration,
    /// Longest time for a head, and for a body, to arrive; then 408.
    pub header_timeout: Duration,
    pub body_timeout: Duration,
    /// An idle connection is kept this long.
    pub keep_alive: Duration,
    /// Open connections per worker; more wait to be accepted.
    pub max_connections: usize,
    /// Open connections of one address; more are closed. 0 is no limit.
    pub max_connections_per_address: usize,
}

impl Default for GatewayLimits {
    fn default() -> Self {
        GatewayLimits {
            max_body_bytes: 1 << 20,
            max_upload_bytes: 256 << 20,
            max_instances: 1000,
            max_events: 10_000,
            request_timeout: Duration::from_secs(5),
            header_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(10),
            keep_alive: Duration::from_secs(75),
            max_connections: 10_000,
            max_connections_per_address: 0,
        }
    }
}

/// Longest time for the body of a registered version to arrive.
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(300);

impl GatewayLimits {
    /// Of a request that brings a model.
    pub fn for_upload(self) -> Self {
        let body_timeout = self.body_timeout.max(UPLOAD_TIMEOUT);
        GatewayLimits { max_body_bytes: self.max_upload_bytes, body_timeout, ..self }
    }
}

/// The text of `/metrics`, made when it is asked for.
pub type MetricsText = Arc<dyn Fn() -> String + Send + Sync>;

/// Connections that the kernel holds before they are accepted.
const BACKLOG: i32 = 2048;
/// Requests in flight may finish for this long after a stop.
const DRAIN_SECONDS: u64 = 15;

/// What the gateway is given besides its cells.
pub struct Edge {
    pub limits: GatewayLimits,
    pub metrics: MetricsText,
    pub telemetry: Arc<Telemetry>,
    pub connections: Arc<Connections>,
    pub security: Arc<Security>,
    /// TLS of the listener; `None` speaks plain HTTP.
    pub tls: Option<rustls::ServerConfig>,
}

/// Starts the HTTP workers on a bound listener. `make_cell` runs once on each worker's thread.
/// Signals are the caller's: stop with `server.handle().stop(true)`.
pub async fn serve(
    listener: TcpListener,
    workers: usize,
    make_cell: impl Fn() -> Cell + Send + Clone + 'static,
    edge: Edge,
) -> std::io::Result<actix_web::dev::Server> {
    let Edge { limits, metrics, telemetry, connections, security, tls } = edge;
    // Once more, with a longer queue than the standard library asks for.
    rustix::net::listen(&listener, BACKLOG)?;
    actix_web::rt::spawn(connections.clone().keep_sweeping(limits.keep_alive + limits.header_timeout));
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::new(make_cell()))
            .app_data(web::Data::new(limits))
            .app_data(web::Data::new(metrics.clone()))
            .app_data(web::Data::from(telemetry.clone()))
            .app_data(web::Data::from(security.clone()))
            .configure(configure)
            .wrap_fn(|request, inside| {
                let work = match front::refusal(&request) {
                    Some(refusal) => Err(front::refuse(request, refusal)),
                    None => Ok(inside.call(request)),
                };
                async move {
                    match work {
                        Ok(passed) => passed.await,
                        Err(refused) => Ok(refused.await),
                    }
                }
            })
    })
    .workers(workers.max(1))
    .max_connections(limits.max_connections.max(1))
    .on_connect(move |io, data| connections.accept(io, data, limits.max_connections_per_address))
    .client_request_timeout(limits.header_timeout)
    .tls_handshake_timeout(limits.header_timeout)
    .keep_alive(limits.keep_alive)
    .h1_allow_half_closed(false) // a client that has gone gets no more work done
    .shutdown_timeout(DRAIN_SECONDS)
    .disable_signals();
    let server = match tls {
        Some(config) => server.listen_rustls_0_23(listener, config)?,
        None => server.listen(listener)?,
    };
    Ok(server.run())
}
