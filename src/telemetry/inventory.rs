//! The metric inventory: every name, kind, unit and meaning in one place. `/metrics`, OTLP, docs/metrics.md and the
//! dashboards are made from it, and tests hold them to it.

use crate::gateway::Connections;
use crate::security::Security;
use crate::storage::Store;
use crate::system::memory;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use understudy_actors::counters::{Counters, Family};
use understudy_actors::ports::SinkStatus;
use understudy_actors::system::System;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    Gauge,
    Histogram,
}

/// What the values are read from when a reader asks; the request path touches no exporter.
pub struct Readings {
    pub system: Arc<System>,
    pub connections: Arc<Connections>,
    pub security: Arc<Security>,
    /// Bytes; 0 is none.
    pub memory_cap: u64,
    pub store: Arc<Store>,
}

/// Values of attributes, in the order of [`Metric::attributes`], and the reading.
pub type Labelled = Vec<(Vec<String>, f64)>;

#[derive(Clone, Copy)]
pub enum Read {
    One(fn(&Readings) -> f64),
    Many(fn(&Readings) -> Labelled),
    /// Recorded where it happens.
    Elsewhere,
}

#[derive(Clone, Copy)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    /// UCUM, as the semantic conventions have it; `{thing}` counts things.
    pub unit: &'static str,
    pub meaning: &'static str,
    pub attributes: &'static [&'static str],
    pub read: Read,
}

impl Metric {
    /// Its name at `/metrics`: underscores, the unit, `_total` for counters.
    pub fn prometheus(&self) -> String {
        let mut name = self.name.replace('.', "_");
        match self.unit {
            "s" => name.push_str("_seconds"),
            "By" => name.push_str("_bytes"),
            "1" if self.kind == Kind::Gauge => name.push_str("_ratio"),
            _ => {}
        }
        if self.kind == Kind::Counter {
            name.push_str("_total");
        }
        name
    }
}

/// Every attribute and what bounds its values. None names an entity, a request or a path as it came.
pub const ATTRIBUTES: &[(&str, &str)] = &[
    ("model", "names of the project's models"),
    ("version", "registered versions; `other` beyond 500 sets"),
    ("verdict", "valid, flagged, defaulted, fallback; of rollouts promote, rollback, inconclusive, incident"),
    ("code", "stable codes of refusals, see docs/http.md"),
    ("cause", "shape, not_finite, error, panic, hang, load"),
    ("rule", "names of the project's rules and of the built-in ones"),
    ("status", "what becomes of events and outcomes, see docs/http.md"),
    ("state", "not_enough_data, none, notice, warn, alert"),
    ("feature", "names of the models' features, and (score)"),
    ("against", "reference, recent"),
    ("measure", "log_loss, auc, ece, rate, mean_score"),
    ("criterion", "criteria of rollouts, see docs/rollout.md"),
    ("towards", "rollback, promotion"),
    ("feed", "event types under watch, at most 64"),
    ("level", "none, notice, warn, alert"),
    ("severity", "info, warning, critical"),
    ("alertname", "kinds of alerts, see docs/operations.md"),
    ("told", "firing, resolved"),
    ("sink", "log, webhook"),
    ("delivery", "delivered, failed, dropped"),
    ("class", "serve, ingest, shadow, read"),
    ("reason", "why admission refuses"),
    ("result", "made, exported, failed"),
    ("step", "parse, route, features, validate, model"),
    ("http.request.method", "GET, POST"),
    ("http.route", "templates of the table of routes"),
    ("http.response.status_code", "statuses of docs/http.md"),
];

const fn gauge(name: &'static str, unit: &'static str, meaning: &'static str, read: fn(&Readings) -> f64) -> Metric {
    Metric { name, kind: Kind::Gauge, unit, meaning, attributes: &[], read: Read::One(read) }
}

const fn counter(name: &'static str, unit: &'static str, meaning: &'static str, read: fn(&Readings) -> f64) -> Metric {
    Metric { name, kind: Kind::Counter, unit, meaning, attributes: &[], read: Read::One(read) }
}

/// By attribute.
const fn by(of: &'static [&'static str], metric: Metric, read: fn(&Readings) -> Labelled) -> Metric {
    Metric { attributes: of, read: Read::Many(read), ..metric }
}

/// A histogram of seconds.
const fn times(name: &'static str, meaning: &'static str, attributes: &'static [&'static str]) -> Metric {
    Metric { name, kind: Kind::Histogram, unit: "s", meaning, attributes, read: Read::Elsewhere }
}

const fn nothing(_: &Readings) -> f64 {
    0.0
}

fn family(r: &Readings, pick: fn(&Counters) -> &Family) -> Labelled {
    pick(&r.system.deps.counters).read().into_iter().map(|(labels, n)| (labels, n as f64)).collect()
}

/// What admission tells of each class.
fn classes(r: &Readings, read: fn(&understudy_actors::admission::ClassLoad) -> u64) -> Labelled {
    r.system.admission.loads().iter().map(|l| (vec![l.class.to_string()], read(l) as f64)).collect()
}

pub const HTTP_DURATION: Metric = times(
    "http.server.request.duration",
    "Time from the head of a request to its answer",
    &["http.request.method", "http.route", "http.response.status_code"],
);
pub const PREDICTION_DURATION: Metric = times(
    "understudy.prediction.duration",
    "Time of one prediction without the writing of its log",
    &["model", "version"],
);
pub const STEP_DURATION: Metric =
    times("understudy.prediction.step.duration", "Time of one step of a prediction", &["model", "step"]);
pub const SPANS: Metric = Metric {
    name: "understudy.telemetry.spans",
    kind: Kind::Counter,
    unit: "{span}",
    meaning: "Spans made, exported, and failed to be exported; the rest waits or was dropped",
    attributes: &["result"],
    read: Read::Elsewhere,
};

pub const METRICS: &[Metric] = &[
    // Predictions, events, outcomes
    by(
        &["model", "version", "verdict"],
        counter("understudy.predictions", "{prediction}", "Predictions answered", nothing),
        |r| family(r, |c| &c.predictions),
    ),
    by(&["model", "code"], counter("understudy.refusals", "{request}", "Prediction requests refused", nothing), |r| {
        family(r, |c| &c.refusals)
    }),
    by(&["model", "rule"], counter("understudy.findings", "{finding}", "Broken validation rules", nothing), |r| {
        family(r, |c| &c.findings)
    }),
    by(
        &["model", "state"],
        counter("understudy.drift.windows", "{window}", "Windows judged for drift, by the level that holds", nothing),
        |r| family(r, |c| &c.drift_windows),
    ),
    by(&["status"], counter("understudy.events", "{event}", "Events, by what became of them", nothing), |r| {
        family(r, |c| &c.events)
    }),
    by(
        &["model", "status"],
        counter("understudy.outcomes", "{outcome}", "Outcomes, by what became of them", nothing),
        |r| family(r, |c| &c.outcomes),
    ),
    HTTP_DURATION,
    PREDICTION_DURATION,
    STEP_DURATION,
    // What the models see and say, against what is usual
    by(
        &["model", "feature", "against"],
        gauge(
            "understudy.drift.index",
            "{index}",
            "Population stability index beyond what is usual, last window",
            nothing,
        ),
        |r| r.system.deps.counters.drift.read(),
    ),
    by(
        &["model", "measure"],
        gauge("understudy.quality.last", "{measure}", "Quality of the last window whose outcomes are mature", nothing),
        |r| r.system.deps.counters.quality.read(),
    ),
    // Rollouts
    by(
        &["model"],
        gauge("understudy.rollout.share", "{share}", "Share of the traffic that the canary gets, 0 to 1", nothing),
        |r| r.system.deps.counters.rollout_share.read(),
    ),
    by(
        &["model", "criterion", "towards"],
        gauge("understudy.rollout.evidence", "{share}", "Log e-value over what the verdict takes; 1 decides", nothing),
        |r| r.system.deps.counters.rollout_evidence.read(),
    ),
    by(
        &["model", "verdict"],
        counter("understudy.rollout.ended", "{rollout}", "Rollouts that ended, by verdict", nothing),
        |r| family(r, |c| &c.rollout_verdicts),
    ),
    // Feeds and alerts
    by(
        &["feed"],
        gauge("understudy.feeds.incidents", "{incident}", "Incidents that are open, by feed", nothing),
        |r| {
            let open = r.system.feed_board.open();
            let feeds = r.system.feed_board.feeds();
            let n = |feed: &str| open.iter().filter(|i| i.feed == feed).count() as f64;
            feeds.iter().map(|f| (vec![f.feed.clone()], n(&f.feed))).collect()
        },
    ),
    by(
        &["feed", "level"],
        counter("understudy.feeds.findings", "{finding}", "Changes of feeds, by the level that holds", nothing),
        |r| family(r, |c| &c.feed_findings),
    ),
    counter("understudy.feeds.skipped", "{event}", "Events the watch over the feeds left out: it was behind", |r| {
        r.system.feed_board.skipped() as f64
    }),
    by(&["severity"], gauge("understudy.alerts.open", "{alert}", "Open alerts", nothing), |r| {
        let open = r.system.deps.alerts.open();
        open.iter().map(|(severity, n)| (vec![severity.name().to_owned()], *n as f64)).collect()
    }),
    by(
        &["alertname", "told"],
        counter("understudy.alerts.told", "{alert}", "Alerts told, as firing or resolved", nothing),
        |r| family(r, |c| &c.alerts),
    ),
    by(
        &["sink", "delivery"],
        counter("understudy.alerts.deliveries", "{delivery}", "What became of tellings", nothing),
        |r| {
            let of = |s: &SinkStatus| {
                let by = |delivery: &str, n: u64| (vec![s.name.clone(), delivery.to_owned()], n as f64);
                [by("delivered", s.delivered), by("failed", s.failed), by("dropped", s.dropped)]
            };
            r.system.deps.alerts.sinks().iter().flat_map(of).collect()
        },
    ),
    // Models in memory, and what they did wrong
    by(
        &["model", "version", "cause"],
        counter("understudy.model.faults", "{fault}", "What versions did wrong, failed loads among it", nothing),
        |r| family(r, |c| &c.model_faults),
    ),
    by(
        &["model", "version"],
        counter(
            "understudy.model.fallbacks",
            "{prediction}",
            "Answers of the champion for a version not loaded",
            nothing,
        ),
        |r| family(r, |c| &c.fallbacks),
    ),
    by(&["model", "version"], counter("understudy.models.loads", "{load}", "Loads of versions", nothing), |r| {
        family(r, |c| &c.model_loads)
    }),
    by(
        &["model", "version"],
        counter("understudy.models.evictions", "{eviction}", "Versions that had to make room", nothing),
        |r| family(r, |c| &c.model_evictions),
    ),
    gauge("understudy.models.loaded", "{version}", "Versions in memory", |r| {
        r.system.models_in_memory().0.versions as f64
    }),
    gauge("understudy.models.loaded_limit", "{version}", "Most versions in memory", |r| {
        r.system.deps.settings.model_budget.versions as f64
    }),
    gauge("understudy.models.memory", "By", "Bytes of the versions in memory", |r| {
        r.system.models_in_memory().0.bytes as f64
    }),
    gauge("understudy.models.memory_limit", "By", "Most bytes of versions in memory", |r| {
        r.system.deps.settings.model_budget.bytes as f64
    }),
    // Admission: every bound beside its depth
    gauge("understudy.requests.in_flight", "{request}", "Requests in work", |r| r.system.admission.depth().0 as f64),
    gauge("understudy.requests.waiting", "{request}", "Requests that wait on a worker for their turn", |r| {
        r.system.admission.depth().1 as f64
    }),
    gauge("understudy.requests.max_wait", "s", "Longest wait before a request is refused", |r| {
        r.system.admission.max_wait().as_secs_f64()
    }),
    by(&["class"], gauge("understudy.admission.in_flight", "{request}", "Requests in work, by class", nothing), |r| {
        classes(r, |l| l.in_flight)
    }),
    by(
        &["class"],
        gauge("understudy.admission.limit", "{request}", "Most in work of all classes for one more of this", nothing),
        |r| classes(r, |l| l.limit),
    ),
    by(&["class"], counter("understudy.admission.admitted", "{request}", "Requests let in", nothing), |r| {
        classes(r, |l| l.admitted)
    }),
    by(
        &["class", "reason"],
        counter("understudy.admission.refused", "{request}", "Requests not let in", nothing),
        |r| {
            let loads = r.system.admission.loads();
            let of = |l: &understudy_actors::admission::ClassLoad| {
                let class = l.class.to_string();
                l.shed
                    .iter()
                    .map(move |(why, n)| (vec![class.clone(), (*why).to_string()], *n as f64))
                    .collect::<Vec<_>>()
            };
            loads.iter().flat_map(of).collect()
        },
    ),
    by(
        &["model"],
        gauge("understudy.admission.model_in_flight", "{request}", "Requests in work, by model", nothing),
        |r| r.system.admission.model_loads().into_iter().map(|(m, n, _)| (vec![m.to_string()], n as f64)).collect(),
    ),
    by(
        &["model"],
        gauge("understudy.admission.model_limit", "{request}", "Most in work for one model", nothing),
        |r| r.system.admission.model_loads().into_iter().map(|(m, _, n)| (vec![m.to_string()], n as f64)).collect(),
    ),
    // Connections and keys
    gauge("understudy.connections.open", "{connection}", "Open connections", |r| r.connections.counts().0 as f64),
    counter("understudy.connections.refused", "{connection}", "Connections closed: their address had too many", |r| {
        r.connections.counts().1 as f64
    }),
    counter("understudy.connections.swept", "{connection}", "Connections closed because they did nothing", |r| {
        r.connections.counts().2 as f64
    }),
    gauge("understudy.auth.keys", "{key}", "API keys that are known", |r| r.security.keys() as f64),
    counter("understudy.auth.unauthorized", "{request}", "Requests without a good key", |r| {
        r.security.denied()[0] as f64
    }),
    counter("understudy.auth.forbidden", "{request}", "Requests whose key is not good for them", |r| {
        r.security.denied()[1] as f64
    }),
    counter("understudy.auth.rate_limited", "{request}", "Requests over the rate of their key", |r| {
        r.security.denied()[2] as f64
    }),
    // The process
    gauge("understudy.process.memory", "By", "Resident memory", |_| memory::resident().unwrap_or(0) as f64),
    gauge("understudy.process.memory_limit", "By", "Memory near which work is given up; 0 is none", |r| {
        r.memory_cap as f64
    }),
    gauge(
        "understudy.process.memory_level",
        "{level}",
        "0 normal, 1 shed_shadow, 2 shed_reads, 3 shrink_caches, 4 refuse_work",
        |r| r.system.admission.rung() as u8 as f64,
    ),
    gauge("understudy.actors.not_ready", "{actor}", "Actors that are not ready", |r| {
        r.system.health().iter().filter(|h| !h.ready).count() as f64
    }),
    counter("understudy.actors.restarts", "{restart}", "Actor restarts", |r| {
        r.system.health().iter().map(|h| h.restarts as f64).sum()
    }),
    // Storage
    gauge("understudy.prediction_log.queued", "{record}", "Predictions waiting for the log", |r| {
        r.system.log_queue() as f64
    }),
    gauge("understudy.prediction_log.queue_limit", "{record}", "Most predictions that may wait for the log", |r| {
        r.system.generation().settings.log_queue as f64
    }),
    counter("understudy.prediction_log.dropped", "{record}", "Predictions the log could not take", |r| {
        r.system.deps.counters.log_dropped.load(Relaxed) as f64
    }),
    gauge("understudy.storage.free", "By", "Free space on the disk of the data directory", |r| {
        r.store.health().free_bytes as f64
    }),
    gauge("understudy.storage.closed", "{log}", "1 while the logs take no records: full or failing disk", |r| {
        f64::from(u8::from(r.store.accepting().is_err()))
    }),
    counter("understudy.storage.damaged", "{block}", "Damaged places that reading met and left out", |r| {
        r.store.health().damaged as f64
    }),
    counter("understudy.storage.quarantined", "{segment}", "Segments that were set aside", |r| {
        r.store.health().quarantined as f64
    }),
    gauge("understudy.event_log.last_seq", "{event}", "Durable events", |r| r.system.deps.events.last_seq() as f64),
    // Features
    gauge("understudy.features.entities", "{entity}", "Entities in memory", |r| {
        r.system.feature_stats().iter().map(|t| t.entities as f64).sum()
    }),
    gauge("understudy.features.entities_limit", "{entity}", "Most entities in memory", |r| {
        r.system.generation().settings.max_entities as f64
    }),
    gauge("understudy.features.memory", "By", "Estimated memory of feature state", |r| {
        r.system.feature_stats().iter().map(|t| t.bytes as f64).sum()
    }),
    counter("understudy.features.cold_loads", "{entity}", "Entities read back from disk", |r| {
        r.system.deps.counters.cold_loads.load(Relaxed) as f64
    }),
    // This
    SPANS,
];
