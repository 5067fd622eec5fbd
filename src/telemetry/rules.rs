//! Prometheus alert rules as data: what fires, for how long, what to do, and a series that proves that it fires.

use std::fmt::Write;

pub struct Rule {
    pub name: &'static str,
    pub query: &'static str,
    /// Must hold this long, as Prometheus writes it.
    pub lasting: &'static str,
    pub severity: &'static str,
    pub summary: &'static str,
    /// Heading of docs/operations.md, as an anchor.
    pub runbook: &'static str,
    /// Series of one-minute values that make it fire after half an hour.
    pub fires_on: &'static [(&'static str, &'static str)],
}

pub const RULES: &[Rule] = &[
    Rule {
        name: "UnderstudyDown",
        query: "up{job=\"understudy\"} == 0",
        lasting: "2m",
        severity: "page",
        summary: "Understudy does not answer Prometheus",
        runbook: "watching",
        fires_on: &[("up{job=\"understudy\"}", "0x60")],
    },
    Rule {
        name: "UnderstudyActorsNotReady",
        query: "understudy_actors_not_ready > 0",
        lasting: "5m",
        severity: "page",
        summary: "{{ $value }} actors are not ready; /readyz?verbose says which and why",
        runbook: "an-actor-restarts-or-does-in-a-loop",
        fires_on: &[("understudy_actors_not_ready", "1x60")],
    },
    Rule {
        name: "UnderstudyActorsRestart",
        query: "increase(understudy_actors_restarts_total[15m]) > 3",
        lasting: "0m",
        severity: "ticket",
        summary: "Actors were restarted {{ $value }} times in 15 minutes",
        runbook: "an-actor-restarts-or-does-in-a-loop",
        fires_on: &[("understudy_actors_restarts_total", "0+1x60")],
    },
    Rule {
        name: "UnderstudyFailedRequests",
        query: "sum(rate(http_server_request_duration_seconds_count{http_response_status_code=~\"500|504|507\"}[5m])) \
                / sum(rate(http_server_request_duration_seconds_count[5m])) > 0.01",
        lasting: "5m",
        severity: "page",
        summary: "{{ $value | humanizePercentage }} of the requests fail",
        runbook: "watching",
        fires_on: &[
            ("http_server_request_duration_seconds_count{http_response_status_code=\"500\"}", "0+6x60"),
            ("http_server_request_duration_seconds_count{http_response_status_code=\"200\"}", "0+94x60"),
        ],
    },
    Rule {
        name: "UnderstudyOverloaded",
        query: "sum(rate(understudy_admission_refused_total{class=\"serve\"}[5m])) \
                / sum(rate(understudy_admission_admitted_total{class=\"serve\"}[5m])) > 0.05",
        lasting: "5m",
        severity: "page",
        summary: "More than 5 % as many predictions are refused as are let in",
        runbook: "overload",
        fires_on: &[
            ("understudy_admission_refused_total{class=\"serve\"}", "0+60x60"),
            ("understudy_admission_admitted_total{class=\"serve\"}", "0+600x60"),
        ],
    },
    Rule {
        name: "UnderstudyLogClosed",
        query: "understudy_storage_closed > 0",
        lasting: "1m",
        severity: "page",
        summary: "The logs take no records: the disk is full or failing",
        runbook: "when-the-disk-fails",
        fires_on: &[("understudy_storage_closed", "1x60")],
    },
    Rule {
        name: "UnderstudyDiskSoonFull",
        query: "predict_linear(understudy_storage_free_bytes[1h], 86400) < 0",
        lasting: "15m",
        severity: "ticket",
        summary: "At this rate the disk is full within a day",
        runbook: "when-the-disk-fails",
        fires_on: &[("understudy_storage_free_bytes", "10000000000-100000000x60")],
    },
    Rule {
        name: "UnderstudyPredictionsNotLogged",
        query: "increase(understudy_prediction_log_dropped_total[10m]) > 0",
        lasting: "0m",
        severity: "ticket",
        summary: "{{ $value }} predictions were answered and not logged",
        runbook: "watching",
        fires_on: &[("understudy_prediction_log_dropped_total", "0+5x60")],
    },
    Rule {
        name: "UnderstudyDamagedBlocks",
        query: "increase(understudy_storage_damaged_total[1h]) > 0",
        lasting: "0m",
        severity: "ticket",
        summary: "Damaged places were met in a log and left out",
        runbook: "when-the-disk-fails",
        fires_on: &[("understudy_storage_damaged_total", "0x10 1x50")],
    },
    Rule {
        name: "UnderstudyNoEvents",
        query: "sum(rate(understudy_events_total[30m])) == 0 and sum(rate(understudy_predictions_total[30m])) > 0",
        lasting: "10m",
        severity: "ticket",
        summary: "Predictions are asked for and no event comes in: features grow stale",
        runbook: "watching",
        fires_on: &[
            ("understudy_events_total{status=\"accepted\"}", "100x90"),
            ("understudy_predictions_total{model=\"m\"}", "0+10x90"),
        ],
    },
    Rule {
        name: "UnderstudyInputBroken",
        query: "sum by (model) (rate(understudy_predictions_total{verdict!=\"valid\"}[15m])) \
                / sum by (model) (rate(understudy_predictions_total[15m])) > 0.2",
        lasting: "15m",
        severity: "ticket",
        summary: "{{ $value | humanizePercentage }} of the requests to {{ $labels.model }} break a rule",
        runbook: "watching",
        fires_on: &[
            ("understudy_predictions_total{model=\"m\",verdict=\"flagged\"}", "0+50x60"),
            ("understudy_predictions_total{model=\"m\",verdict=\"valid\"}", "0+50x60"),
        ],
    },
    Rule {
        name: "UnderstudyFeedIncident",
        query: "understudy_feeds_incidents > 0",
        lasting: "0m",
        severity: "page",
        summary: "Something is wrong with the feed {{ $labels.feed }}; /v1/feeds says what and since when",
        runbook: "a-feed-is-wrong",
        fires_on: &[("understudy_feeds_incidents{feed=\"weather\"}", "0x10 1x50")],
    },
    Rule {
        name: "UnderstudyModelDrift",
        query: "max by (model) (understudy_drift_index{against=\"reference\"}) > 0.25",
        lasting: "0m",
        severity: "ticket",
        summary: "What {{ $labels.model }} sees is not what it was trained on",
        runbook: "a-model-drifts",
        fires_on: &[("understudy_drift_index{model=\"m\",feature=\"x\",against=\"reference\"}", "0x10 0.5x50")],
    },
    Rule {
        name: "UnderstudyRolloutStopped",
        // A series that begins with its first event has no increase: before it there was none.
        query: "sum by (model) (understudy_rollout_ended_total{verdict=~\"rollback|incident\"}) \
                - (sum by (model) (understudy_rollout_ended_total{verdict=~\"rollback|incident\"} offset 1h) \
                or 0 * sum by (model) (understudy_rollout_ended_total{verdict=~\"rollback|incident\"})) > 0",
        lasting: "0m",
        severity: "ticket",
        summary: "A rollout of {{ $labels.model }} was stopped",
        runbook: "a-rollout-stopped",
        fires_on: &[("understudy_rollout_ended_total{model=\"m\",verdict=\"rollback\"}", "_x10 1x50")],
    },
    Rule {
        name: "UnderstudyAlertsNotDelivered",
        query: "sum by (sink) (increase(understudy_alerts_deliveries_total{delivery!=\"delivered\"}[1h])) > 0",
        lasting: "0m",
        severity: "ticket",
        summary: "Alerts do not arrive at {{ $labels.sink }}",
        runbook: "alerts",
        fires_on: &[("understudy_alerts_deliveries_total{sink=\"webhook\",delivery=\"failed\"}", "0x10 3x50")],
    },
];

/// The rules, as Prometheus reads them.
pub fn file() -> String {
    let mut out =
        String::from("# Written by `understudy telemetry dashboards`.\ngroups:\n  - name: understudy\n    rules:\n");
    for r in RULES {
        let query = r.query.split_whitespace().collect::<Vec<_>>().join(" ");
        let _ = write!(
            out,
            "      - alert: {}\n        expr: {}\n        for: {}\n        labels: {{ severity: {} }}\n        annotations:\n          summary: {}\n          runbook: docs/operations.md#{}\n",
            r.name,
            quoted(&query),
            r.lasting,
            r.severity,
            quoted(r.summary),
            r.runbook
        );
    }
    out
}

/// For `promtool test rules`: each rule fires on its series, and on nothing.
pub fn tests() -> String {
    let mut out = String::from(
        "# Written by `understudy telemetry dashboards`; `promtool test rules alerts_test.yaml` runs it.\n\
         rule_files: [alerts.yaml]\nevaluation_interval: 1m\ntests:\n",
    );
    for r in RULES {
        out.push_str("  - interval: 1m\n    input_series:\n");
        for (series, values) in r.fires_on {
            let _ = write!(out, "      - series: {}\n        values: {}\n", quoted(series), quoted(values));
        }
        // Whatever its labels and text come to: that it fires is asked of the series that Prometheus itself makes.
        let _ = write!(
            out,
            "    promql_expr_test:\n      - expr: {}\n        eval_time: 55m\n        exp_samples: [{{ value: 1 }}]\n      - expr: {}\n        eval_time: 0m\n        exp_samples: []\n",
            quoted(&format!("count(ALERTS{{alertname=\"{}\",alertstate=\"firing\"}})", r.name)),
            quoted(&format!("count(ALERTS{{alertname=\"{}\",alertstate=\"firing\"}})", r.name)),
        );
    }
    out
}

/// A YAML string.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::super::{dashboards, inventory::METRICS};
    use super::*;

    const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/dashboards");

    /// Names of metrics in a query: words with an underscore that are no label.
    fn metrics(query: &str) -> Vec<String> {
        let mut outside = String::new();
        let mut depth = 0;
        for c in query.chars() {
            match c {
                '{' | '[' => depth += 1,
                '}' | ']' => depth -= 1,
                c if depth == 0 => outside.push(c),
                _ => {}
            }
        }
        let words = outside.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        words.filter(|w| w.starts_with("understudy_") || w.starts_with("http_server_")).map(str::to_owned).collect()
    }

    #[test]
    fn queries_name_metrics_that_there_are() {
        let known: Vec<String> = METRICS.iter().map(|m| m.prometheus()).collect();
        let queries = dashboards::queries().chain(RULES.iter().map(|r| r.query));
        for query in queries {
            for name in metrics(query) {
                let base = ["_bucket", "_count", "_sum"].iter().find_map(|s| name.strip_suffix(s)).unwrap_or(&name);
                assert!(known.iter().any(|k| k == base), "{name} in {query}");
            }
        }
    }

    #[test]
    fn what_is_written_is_current() {
        let mut files = dashboards::files();
        files.push(("alerts.yaml".into(), file()));
        files.push(("alerts_test.yaml".into(), tests()));
        for (name, text) in files {
            let written = std::fs::read_to_string(format!("{FOLDER}/{name}")).unwrap_or_default();
            assert!(written == text, "dashboards/{name}: run `understudy telemetry dashboards`");
        }
    }

    #[test]
    fn every_alert_has_its_page() {
        let page = include_str!("../../docs/operations.md");
        let anchors: Vec<String> = page
            .lines()
            .filter_map(|l| l.strip_prefix("## "))
            .map(|h| h.to_lowercase().replace(' ', "-").replace(|c: char| !(c.is_alphanumeric() || c == '-'), ""))
            .collect();
        for r in RULES {
            assert!(anchors.iter().any(|a| a == r.runbook), "{}: docs/operations.md has no #{}", r.name, r.runbook);
        }
    }
}
