//! `understudy.toml`: the settings of the program. `config/understudy.toml` is the commented list of all.

use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use understudy_domain::time::{DAY, HOUR, MINUTE, SECOND, Span};

macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $t:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $name { $($(#[$field_doc])* pub $field: $t,)* }
        impl Default for $name {
            fn default() -> Self {
                $name { $($field: $default,)* }
            }
        }
    };
}

section! {
    /// All settings, with the defaults of the code where the file is silent.
    Settings {
        server: Server = Server::default(),
        storage: Storage = Storage::default(),
        retention: Retention = Retention::default(),
        clock: Clock = Clock::default(),
        features: Features = Features::default(),
        models: Models = Models::default(),
        limits: Limits = Limits::default(),
        auth: Auth = Auth::default(),
        tls: Tls = Tls::default(),
        log: Log = Log::default(),
        telemetry: Telemetry = Telemetry::default(),
        monitor: Monitor = Monitor::default(),
        prediction_log: PredictionLog = PredictionLog::default(),
        alerts: Alerts = Alerts::default(),
    }
}

section! {
    Server {
        /// Address to listen on.
        bind: IpAddr = IpAddr::from([127, 0, 0, 1]),
        /// TCP port; 0 lets the system choose.
        port: u16 = 8080,
        /// HTTP worker threads; 0 is one per core.
        workers: usize = 0,
        /// Largest request body, in bytes.
        max_body_bytes: usize = 1 << 20,
        /// A request not answered by then gets 504.
        request_timeout: Span = Span(5 * SECOND),
        /// After SIGTERM: how long to go on serving, not ready, so that load balancers see it.
        drain: Span = Span(5 * SECOND),
    }
}

section! {
    Storage {
        /// Folder of logs, state and models; relative to the project.
        dir: String = "data".into(),
        /// What an acknowledged write survives.
        durability: Durability = Durability::Power,
        /// A log segment is closed at this size, in bytes.
        segment_bytes: u64 = 256 << 20,
        /// With less free space than this nothing is written to the logs, in bytes; 0 waits until the disk is full.
        min_free_bytes: u64 = 1 << 30,
        /// A segment that takes longer to open is treated as damaged and set aside.
        open_deadline: Span = Span(MINUTE),
    }
}

section! {
    /// How much of each log is kept. Whole segments are deleted; 0 keeps everything.
    Retention {
        events_age: Span = Span::ZERO,
        events_bytes: u64 = 0,
        predictions_age: Span = Span::ZERO,
        predictions_bytes: u64 = 0,
        outcomes_age: Span = Span::ZERO,
        outcomes_bytes: u64 = 0,
    }
}

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Loss of power: synced to the disk before it is acknowledged.
    Power,
    /// Death of the process: handed to the operating system.
    Process,
}

section! {
    Clock {
        /// Where `now` comes from.
        source: ClockSource = ClockSource::Wall,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockSource {
    Wall,
    /// The newest ingest time of the replayed stream.
    Stream,
}

section! {
    Features {
        /// Feature shards; 0 is one per worker. A change rebuilds the state from the event log.
        shards: usize = 0,
        /// Entities held in memory, over all shards.
        max_entities: usize = 1_000_000,
        /// An event older than this when it arrives is kept but not folded into features.
        lateness: Span = Span(HOUR),
        /// An event further in the future than this is refused.
        max_future: Span = Span(5 * MINUTE),
        /// How long event ids are remembered to recognise duplicates.
        dedupe: Span = Span(7 * DAY),
    }
}

section! {
    Models {
        /// Versions in memory at once, of all models.
        max_loaded: usize = 32,
        /// Bytes that the versions in memory may hold together.
        max_bytes: u64 = 1 << 30,
        /// Longest body of a registered version, in bytes.
        max_upload_bytes: usize = 256 << 20,
        /// Threads of each loaded version; 0 runs quick models on the workers, and gives one that is slow or may hang
        /// half of the cores.
        threads: usize = 0,
        /// A model whose row takes longer gets threads of its own.
        slow: Span = Span(SECOND / 1000),
        /// Most rows in one call to a model on threads.
        max_batch: usize = 64,
        /// A call that has not ended by then is abandoned, and its thread replaced.
        hang: Span = Span(10 * SECOND),
    }
}

section! {
    Limits {
        /// Requests in work at once, whatever the adaptive limit says; more wait, then get 503 with Retry-After.
        max_in_flight: usize = 1024,
        /// Longest wait of a request before its work begins; who would wait longer gets 503 at once.
        max_wait: Span = Span(SECOND / 10),
        /// Memory of the process, in bytes, near which work is given up step by step; 0 is the container's limit, if any.
        memory_cap_bytes: u64 = 0,
        /// Longest time for the head of a request to arrive; then 408.
        header_timeout: Span = Span(5 * SECOND),
        /// Longest time for the body of a request to arrive; then 408.
        body_timeout: Span = Span(10 * SECOND),
        /// How long an idle connection is kept.
        keep_alive: Span = Span(75 * SECOND),
        /// Open connections per HTTP worker; more wait to be accepted.
        max_connections: usize = 10_000,
        /// Open connections from one address; more are closed. 0 is no limit (behind a proxy all have one address).
        max_connections_per_address: usize = 0,
        /// Predictions in one request.
        max_instances: usize = 1000,
        /// Events in one ingest request.
        max_events_per_request: usize = 10_000,
    }
}

section! {
    Auth {
        /// File of API keys, relative to the project; `understudy keys` writes it.
        keys_file: String = "keys.json".into(),
        /// Requests per second of a key that has no rate of its own; more get 429. 0 is no limit.
        requests_per_s: u32 = 0,
        /// Names, separated by commas, under which this machine is asked while no keys are in use.
        allowed_hosts: String = String::new(),
    }
}

section! {
    Tls {
        mode: TlsMode = TlsMode::Off,
        /// PEM file of the certificate and its chain, relative to the project.
        cert: String = "tls/cert.pem".into(),
        /// PEM file of its private key.
        key: String = "tls/key.pem".into(),
    }
}

/// Who speaks TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TlsMode {
    /// Nobody; only on a loopback address.
    Off,
    /// This program, with `tls.cert` and `tls.key`.
    Files,
    /// A proxy in front; the network between is trusted.
    TerminatedElsewhere,
}

section! {
    Log {
        /// A level (error, warn, info, debug, trace) or a `tracing` filter.
        level: String = "info".into(),
        format: LogFormat = LogFormat::Text,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    Text,
    Json,
}

section! {
    /// Where traces and metrics go; the standard `OTEL_*` variables win.
    Telemetry {
        /// Address of a collector's OTLP/HTTP receiver, such as `http://127.0.0.1:4318`; empty sends nothing.
        otlp_endpoint: String = String::new(),
        /// Share of requests whose trace is kept, 0 to 1; a caller that decided decides, errors and canaries are kept.
        sample_share: f64 = 0.01,
    }
}

section! {
    /// Whether models are watched.
    Monitor {
        /// Without it nothing is counted: no monitor, no drift, no alerts of them, no retraining by itself.
        enabled: bool = true,
    }
}

section! {
    /// Who is told when something is wrong. Alerts always go to the log.
    Alerts {
        /// Address that gets each alert in Alertmanager's webhook format: https, or http on this machine; empty sends none.
        webhook: String = String::new(),
        /// File of the secret that bodies are signed with, relative to the project.
        secret_file: String = String::new(),
        /// PEM file of certificates that the receiver's must come from; the system's if empty.
        ca_file: String = String::new(),
        /// Address of this server as people reach it, for links; that of `[server]` if empty.
        external_url: String = String::new(),
        /// Longest attempt.
        timeout: Span = Span(2 * SECOND),
        /// Attempts before a body is given up; the waits between them double from one second to a minute.
        attempts: u32 = 8,
        /// Bodies that may wait; more are dropped and counted.
        queue: usize = 256,
    }
}

section! {
    PredictionLog {
        /// Whether an answer waits until its record is durable.
        mode: LogMode = LogMode::Async,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogMode {
    /// Answer at once; records of the last milliseconds can be lost in a crash.
    Async,
    Sync,
}
