//! How OTLP leaves the house: the blocking HTTP client that the command line has too. The exporters call it on
//! threads of their own.

use crate::cli::client::{trusting, untrusting};
use async_trait::async_trait;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use std::time::Duration;

/// Largest answer of a collector that is read, in bytes.
const MAX_ANSWER_BYTES: u64 = 1 << 20;

#[derive(Debug)]
pub struct Client(ureq::Agent);

impl Client {
    /// `timeout` bounds one export from the first byte to the last.
    /// `certificate` is the PEM file of what a collector's own must come from.
    pub fn new(timeout: Duration, certificate: Option<&str>) -> Result<Client, String> {
        let tls = match certificate {
            None => untrusting(),
            Some(file) => trusting(file).map_err(|e| format!("OTEL_EXPORTER_OTLP_CERTIFICATE: {file}: {e}"))?,
        };
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .tls_config(tls)
            .build();
        Ok(Client(config.into()))
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let answer = self.0.run(Request::from_parts(head, &body[..]))?;
        let (head, mut body) = answer.into_parts();
        let bytes = body.with_config().limit(MAX_ANSWER_BYTES).read_to_vec()?;
        Ok(Response::from_parts(head, bytes.into()))
    }
}
