//! Where traces and metrics go: `[telemetry]` of the settings, and the standard `OTEL_*` variables, which win.
//!
//! The SDK itself reads the rest of them: `OTEL_BSP_*`, `OTEL_METRIC_EXPORT_INTERVAL`, `OTEL_EXPORTER_OTLP_HEADERS`,
//! `OTEL_RESOURCE_ATTRIBUTES` and so on.

use super::client::Client;
use crate::config;
use opentelemetry_otlp::{MetricExporter, SpanExporter, WithExportConfig, WithHttpConfig};
use std::time::Duration;
use understudy_domain::problem::Problem;
use understudy_domain::trace::Sampler;

/// One export may take this long unless `OTEL_EXPORTER_OTLP_TIMEOUT` says otherwise: the standard's default.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A collector, and what it gets.
#[derive(Clone, Debug, PartialEq)]
pub struct Export {
    /// From the settings; `None`: the SDK takes it from the environment.
    endpoint: Option<String>,
    pub sampler: Sampler,
    traces: bool,
    metrics: bool,
    timeout: Duration,
    certificate: Option<String>,
}

/// What the settings and the environment say together; `None` exports nothing.
pub fn resolve(
    settings: &config::Telemetry,
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Option<Export>, Problem> {
    let get = |name: &str| variable(name).filter(|v| !v.is_empty());
    let is = |name: &str, word: &str| get(name).is_some_and(|v| v.eq_ignore_ascii_case(word));
    let anywhere =
        ["", "TRACES_", "METRICS_"].iter().any(|s| get(&format!("OTEL_EXPORTER_OTLP_{s}ENDPOINT")).is_some());
    let endpoint = Some(settings.otlp_endpoint.clone()).filter(|e| !e.is_empty() && !anywhere);
    if is("OTEL_SDK_DISABLED", "true") || (endpoint.is_none() && !anywhere) {
        return Ok(None);
    }
    if let Some(endpoint) = &endpoint
        && !(endpoint.starts_with("http://") || endpoint.starts_with("https://"))
    {
        let hint = "use the address of a collector's OTLP/HTTP receiver, such as http://127.0.0.1:4318";
        return Err(Problem::new("telemetry.otlp_endpoint", format!("`{endpoint}` is no HTTP address"), hint));
    }
    for name in
        ["OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL"]
    {
        if let Some(protocol) = get(name).filter(|p| p != "http/protobuf") {
            let hint = "collectors take http/protobuf on port 4318; unset the variable or set it to that";
            return Err(Problem::new(name, format!("`{protocol}` is not spoken here"), hint));
        }
    }
    let sampler = match get("OTEL_TRACES_SAMPLER") {
        None => Sampler { parent_based: true, ratio: settings.sample_share },
        Some(name) => Sampler::parse(&name, get("OTEL_TRACES_SAMPLER_ARG").as_deref())
            .map_err(|e| Problem::new("OTEL_TRACES_SAMPLER", e, "unset it to use telemetry.sample_share"))?,
    };
    let timeout =
        get("OTEL_EXPORTER_OTLP_TIMEOUT").and_then(|ms| ms.parse().ok()).map_or(TIMEOUT, Duration::from_millis);
    let (traces, metrics) = (!is("OTEL_TRACES_EXPORTER", "none"), !is("OTEL_METRICS_EXPORTER", "none"));
    let certificate = get("OTEL_EXPORTER_OTLP_CERTIFICATE");
    Ok(Some(Export { endpoint, sampler, traces, metrics, timeout, certificate }))
}

impl Export {
    fn client(&self) -> Result<Client, String> {
        Client::new(self.timeout, self.certificate.as_deref())
    }

    pub fn metrics(&self) -> Result<Option<MetricExporter>, String> {
        if !self.metrics {
            return Ok(None);
        }
        let mut builder = MetricExporter::builder().with_http().with_http_client(self.client()?);
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(format!("{}/v1/metrics", endpoint.trim_end_matches('/')));
        }
        builder.build().map(Some).map_err(|e| format!("the OTLP exporter of metrics: {e}"))
    }

    pub fn traces(&self) -> Result<Option<SpanExporter>, String> {
        if !self.traces {
            return Ok(None);
        }
        let mut builder = SpanExporter::builder().with_http().with_http_client(self.client()?);
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')));
        }
        builder.build().map(Some).map_err(|e| format!("the OTLP exporter of traces: {e}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(endpoint: &str, variables: &[(&str, &str)]) -> Result<Option<Export>, Problem> {
        let settings = config::Telemetry { otlp_endpoint: endpoint.into(), ..config::Telemetry::default() };
        resolve(&settings, |name| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn the_environment_wins_and_nothing_is_the_default() {
        assert_eq!(told("", &[]), Ok(None));
        let export = told("http://c:4318", &[]).unwrap().unwrap();
        assert_eq!(export.endpoint.as_deref(), Some("http://c:4318"));
        assert_eq!(export.sampler, Sampler { parent_based: true, ratio: 0.01 });
        let export = told("http://c:4318", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://d:4318")]).unwrap().unwrap();
        assert_eq!(export.endpoint, None, "left to the SDK, which reads it");
        assert_eq!(told("http://c:4318", &[("OTEL_SDK_DISABLED", "true")]), Ok(None));
        let export = told("http://c:4318", &[("OTEL_TRACES_EXPORTER", "none")]).unwrap().unwrap();
        assert!(!export.traces && export.metrics);
        let export = told("http://c:4318", &[("OTEL_TRACES_SAMPLER", "always_on")]).unwrap().unwrap();
        assert_eq!(export.sampler, Sampler { parent_based: false, ratio: 1.0 });
    }

    #[test]
    fn what_makes_no_sense_says_so() {
        let table = [
            ("collector:4317", vec![], "telemetry.otlp_endpoint"),
            ("http://c:1", vec![("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], "OTEL_EXPORTER_OTLP_PROTOCOL"),
            ("http://c:1", vec![("OTEL_TRACES_SAMPLER", "sometimes")], "OTEL_TRACES_SAMPLER"),
        ];
        for (endpoint, variables, key) in table {
            let problem = told(endpoint, &variables).unwrap_err();
            assert!(problem.key == key && !problem.hint.is_empty(), "{problem:?}");
        }
    }
}
