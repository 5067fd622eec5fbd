//! Grafana dashboards, one for each question that people on call ask, as data. `understudy telemetry dashboards`
//! writes them; tests hold the written files, and every metric that a query names, to this and to the inventory.

use serde_json::{Value, json};

/// One plot: title, unit of Grafana, queries with their legends.
struct Panel(&'static str, &'static str, &'static [(&'static str, &'static str)]);

struct Dashboard {
    /// File name without `.json`, and the dashboard's uid.
    file: &'static str,
    title: &'static str,
    about: &'static str,
    panels: &'static [Panel],
}

/// `$model` is a variable of every dashboard; `$__rate_interval` is Grafana's.
const DASHBOARDS: &[Dashboard] = &[
    Dashboard {
        file: "operations",
        title: "Understudy / Operations",
        about: "Is it up, fast and not overloaded? Design for operations from day one.",
        panels: &[
            Panel(
                "Predictions a second",
                "reqps",
                &[(
                    "sum by (model) (rate(understudy_predictions_total{model=~\"$model\"}[$__rate_interval]))",
                    "{{model}}",
                )],
            ),
            Panel(
                "Time of a request, 50 / 99 %",
                "s",
                &[
                    (
                        "histogram_quantile(0.5, sum by (le) (rate(http_server_request_duration_seconds_bucket{http_route=~\".*(predict|infer)\"}[$__rate_interval])))",
                        "p50",
                    ),
                    (
                        "histogram_quantile(0.99, sum by (le) (rate(http_server_request_duration_seconds_bucket{http_route=~\".*(predict|infer)\"}[$__rate_interval])))",
                        "p99",
                    ),
                ],
            ),
            Panel(
                "Answers by status",
                "reqps",
                &[(
                    "sum by (http_response_status_code) (rate(http_server_request_duration_seconds_count[$__rate_interval]))",
                    "{{http_response_status_code}}",
                )],
            ),
            Panel(
                "Time of each step, 99 %",
                "s",
                &[(
                    "histogram_quantile(0.99, sum by (le, step) (rate(understudy_prediction_step_duration_seconds_bucket{model=~\"$model\"}[$__rate_interval])))",
                    "{{step}}",
                )],
            ),
            Panel(
                "Refused, by class and reason",
                "reqps",
                &[(
                    "sum by (class, reason) (rate(understudy_admission_refused_total[$__rate_interval]))",
                    "{{class}} {{reason}}",
                )],
            ),
            Panel(
                "In work and limit, by class",
                "short",
                &[("understudy_admission_in_flight", "{{class}}"), ("understudy_admission_limit", "{{class}} limit")],
            ),
            Panel(
                "Memory",
                "bytes",
                &[
                    ("understudy_process_memory_bytes", "resident"),
                    ("understudy_features_memory_bytes", "features"),
                    ("understudy_process_memory_limit_bytes", "limit"),
                ],
            ),
            Panel(
                "Prediction log",
                "short",
                &[
                    ("understudy_prediction_log_queued", "queued"),
                    ("rate(understudy_prediction_log_dropped_total[$__rate_interval])", "dropped a second"),
                ],
            ),
            Panel(
                "Actors",
                "short",
                &[
                    ("understudy_actors_not_ready", "not ready"),
                    ("increase(understudy_actors_restarts_total[$__rate_interval])", "restarts"),
                ],
            ),
            Panel("Free disk", "bytes", &[("understudy_storage_free_bytes", "free")]),
            Panel(
                "Connections",
                "short",
                &[
                    ("understudy_connections_open", "open"),
                    ("rate(understudy_connections_swept_total[$__rate_interval])", "swept a second"),
                ],
            ),
            Panel(
                "Spans",
                "short",
                &[("sum by (result) (rate(understudy_telemetry_spans_total[$__rate_interval]))", "{{result}}")],
            ),
        ],
    },
    Dashboard {
        file: "features",
        title: "Understudy / Features",
        about: "Do events become features in time? Features are the bottleneck.",
        panels: &[
            Panel(
                "Events a second, by what became of them",
                "short",
                &[("sum by (status) (rate(understudy_events_total[$__rate_interval]))", "{{status}}")],
            ),
            Panel(
                "Time to look features up, 50 / 99 %",
                "s",
                &[
                    (
                        "histogram_quantile(0.5, sum by (le) (rate(understudy_prediction_step_duration_seconds_bucket{step=\"features\"}[$__rate_interval])))",
                        "p50",
                    ),
                    (
                        "histogram_quantile(0.99, sum by (le) (rate(understudy_prediction_step_duration_seconds_bucket{step=\"features\"}[$__rate_interval])))",
                        "p99",
                    ),
                ],
            ),
            Panel(
                "Entities in memory",
                "short",
                &[("understudy_features_entities", "in memory"), ("understudy_features_entities_limit", "limit")],
            ),
            Panel(
                "Read back from disk a second",
                "short",
                &[("rate(understudy_features_cold_loads_total[$__rate_interval])", "entities")],
            ),
            Panel("Memory of feature state", "bytes", &[("understudy_features_memory_bytes", "features")]),
            Panel("Durable events", "short", &[("understudy_event_log_last_seq", "events")]),
        ],
    },
    Dashboard {
        file: "data-quality",
        title: "Understudy / Data quality",
        about: "Is what comes in what the models were trained on? Data quality decides.",
        panels: &[
            Panel(
                "Broken rules a second",
                "short",
                &[(
                    "sum by (model, rule) (rate(understudy_findings_total{model=~\"$model\"}[$__rate_interval]))",
                    "{{model}} {{rule}}",
                )],
            ),
            Panel(
                "Predictions by verdict",
                "reqps",
                &[(
                    "sum by (verdict) (rate(understudy_predictions_total{model=~\"$model\"}[$__rate_interval]))",
                    "{{verdict}}",
                )],
            ),
            Panel(
                "Refused requests, by reason",
                "reqps",
                &[(
                    "sum by (model, code) (rate(understudy_refusals_total{model=~\"$model\"}[$__rate_interval]))",
                    "{{model}} {{code}}",
                )],
            ),
            Panel(
                "Outcomes, by what became of them",
                "short",
                &[(
                    "sum by (status) (rate(understudy_outcomes_total{model=~\"$model\"}[$__rate_interval]))",
                    "{{status}}",
                )],
            ),
        ],
    },
];

/// One plot to each line of these: title, unit, query, legend.
macro_rules! plots {
    ($($title:literal, $unit:literal, $query:literal, $legend:literal;)*) => {
        &[$(Panel($title, $unit, &[($query, $legend)])),*]
    };
}

/// What the models see, say and come to.
const MODEL: Dashboard = Dashboard {
    file: "model",
    title: "Understudy / Model and drift",
    about: "Do the models still see what they were trained on, and are they still right? Models decay.",
    panels: plots![
        "Log loss of the last mature window", "short",
            "understudy_quality_last{model=~\"$model\",measure=\"log_loss\"}", "{{model}}";
        "AUC of the last mature window", "short",
            "understudy_quality_last{model=~\"$model\",measure=\"auc\"}", "{{model}}";
        "Score and outcome", "percentunit",
            "understudy_quality_last{model=~\"$model\",measure=~\"rate|mean_score\"}", "{{model}} {{measure}}";
        "Calibration error", "short",
            "understudy_quality_last{model=~\"$model\",measure=\"ece\"}", "{{model}}";
        "Drift against training, the ten most", "short",
            "topk(10, understudy_drift_index{model=~\"$model\",against=\"reference\"})", "{{model}} {{feature}}";
        "Changes against recent windows, the ten most", "short",
            "topk(10, understudy_drift_index{model=~\"$model\",against=\"recent\"})", "{{model}} {{feature}}";
        "Windows judged, by level", "short",
            "sum by (state) (increase(understudy_drift_windows_total{model=~\"$model\"}[1h]))", "{{state}}";
        "Incidents of feeds", "short",
            "understudy_feeds_incidents", "{{feed}}";
        "Changes of feeds, by level", "short",
            "sum by (feed, level) (increase(understudy_feeds_findings_total[1h]))", "{{feed}} {{level}}";
        "Open alerts", "short",
            "understudy_alerts_open", "{{severity}}";
        "Alerts told, and what became of it", "short",
            "sum by (sink, delivery) (increase(understudy_alerts_deliveries_total[1h]))", "{{sink}} {{delivery}}";
        "Predictions by version", "reqps",
            "sum by (model, version) (rate(understudy_predictions_total{model=~\"$model\"}[$__rate_interval]))", "{{model}} {{version}}";
    ],
};

/// How challengers come in.
const ROLLOUT: Dashboard = Dashboard {
    file: "rollout",
    title: "Understudy / Rollout",
    about: "Is the challenger better, or is it going back? Roll out by evidence.",
    panels: plots![
        "Share of the canary", "percentunit",
            "understudy_rollout_share{model=~\"$model\"}", "{{model}}";
        "Rollouts that ended", "short",
            "sum by (model, verdict) (understudy_rollout_ended_total{model=~\"$model\"})", "{{model}} {{verdict}}";
        "Evidence for a rollback (1 decides)", "short",
            "understudy_rollout_evidence{model=~\"$model\",towards=\"rollback\"}", "{{model}} {{criterion}}";
        "Evidence for a promotion (1 certifies)", "short",
            "understudy_rollout_evidence{model=~\"$model\",towards=\"promotion\"}", "{{model}} {{criterion}}";
        "Predictions by version", "reqps",
            "sum by (version) (rate(understudy_predictions_total{model=~\"$model\"}[$__rate_interval]))", "{{version}}";
        "Time of a prediction by version, 95 %", "s",
            "histogram_quantile(0.95, sum by (le, version) (rate(understudy_prediction_duration_seconds_bucket{model=~\"$model\"}[$__rate_interval])))", "{{version}}";
        "What versions did wrong", "short",
            "sum by (version, cause) (increase(understudy_model_faults_total{model=~\"$model\"}[5m])) or vector(0)", "{{version}} {{cause}}";
        "Answers of the champion for another version", "short",
            "sum by (version) (increase(understudy_model_fallbacks_total{model=~\"$model\"}[5m])) or vector(0)", "{{version}}";
    ],
};

fn all() -> impl Iterator<Item = &'static Dashboard> {
    DASHBOARDS.iter().chain([&MODEL, &ROLLOUT])
}

/// File name and text of each dashboard.
pub fn files() -> Vec<(String, String)> {
    all().map(|d| (format!("{}.json", d.file), text(&grafana(d)))).collect()
}

/// Every query, for tests.
#[cfg(test)]
pub fn queries() -> impl Iterator<Item = &'static str> {
    all().flat_map(|d| d.panels).flat_map(|p| p.2).map(|(query, _)| *query)
}

fn text(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("plain data") + "\n"
}

fn grafana(d: &Dashboard) -> Value {
    let source = json!({"type": "prometheus", "uid": "${datasource}"});
    let panel = |(i, Panel(title, unit, queries)): (usize, &Panel)| {
        let targets: Vec<Value> = queries
            .iter()
            .zip('A'..)
            .map(|((expr, legend), id)| {
                json!({"refId": id.to_string(), "expr": expr, "legendFormat": legend, "datasource": source})
            })
            .collect();
        json!({
            "id": i + 1, "type": "timeseries", "title": title, "datasource": source,
            "gridPos": {"x": i % 2 * 12, "y": i / 2 * 8, "w": 12, "h": 8},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 8, "showPoints": "never"}}, "overrides": []},
            "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}},
            "targets": targets,
        })
    };
    json!({
        "uid": format!("understudy-{}", d.file), "title": d.title, "description": d.about, "tags": ["understudy"],
        "schemaVersion": 39, "version": 1, "editable": true, "refresh": "30s", "timezone": "browser",
        "time": {"from": "now-6h", "to": "now"},
        "links": [{"type": "dashboards", "tags": ["understudy"], "title": "Understudy", "asDropdown": false, "keepTime": true}],
        "templating": {"list": [
            {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
            {"name": "model", "type": "query", "datasource": source, "includeAll": true, "multi": true, "allValue": ".*",
             "query": "label_values(understudy_predictions_total, model)", "refresh": 2, "label": "Model",
             "current": {"text": "All", "value": "$__all"}},
        ]},
        "panels": d.panels.iter().enumerate().map(panel).collect::<Vec<_>>(),
    })
}
