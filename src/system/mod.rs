//! Wiring: opens the project and its stores, starts the actors and the gateway, and stops them in order.

mod clock;
mod edge;
pub(crate) mod memory;
mod project;
mod signals;
mod stop;
mod storage;

pub use clock::{StreamClock, WallClock};

use crate::alerts;
use crate::cli::host::{Overrides, Running, StartError};
use crate::config::{self, Project};
use crate::gateway::{self, Connections, Edge, GatewayLimits};
use crate::runtime;
use crate::storage::feeds::FeedFile;
use crate::storage::joins::JoinFile;
use crate::storage::journal::{AlertFile, FileJournal};
use crate::storage::{Durability, RolloutJournals, Store, StoreOptions, tombstones};
use crate::telemetry::{self, Readings, Telemetry};
use signals::Stop;
use std::io::IsTerminal;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use stop::Unclean;
use tokio::sync::oneshot;
use understudy_actors::alerter::Alerts;
use understudy_actors::cell::Cell;
use understudy_actors::deps::{ActorSettings, Deps};
use understudy_actors::erasure::{Erasures, Filtered};
use understudy_actors::fault;
use understudy_actors::generation::Declared;
use understudy_actors::model_host::ModelRun;
use understudy_actors::ports::Clock;
use understudy_actors::system::System;
use understudy_domain::problem::Problem;
use understudy_domain::residency::Budget;

/// Everything that is checked and opened before the first thread of ours runs.
struct Prepared {
    project: Project,
    started: project::Start,
    workers: usize,
    store: Store,
    erasures: Erasures,
    listener: TcpListener,
    data: PathBuf,
    secured: edge::Secured,
    telemetry: Arc<Telemetry>,
    alerts: Arc<Alerts>,
}

/// Starts the complete server on a thread of its own and returns once it is ready.
pub fn start(dir: &Path, overrides: Overrides) -> Result<Running, StartError> {
    let mut overrides = overrides;
    // For one command of this machine, whatever the settings say.
    overrides.push(("server.bind".into(), "127.0.0.1".into()));
    overrides.push(("tls.mode".into(), "off".into()));
    let prepared = prepare(dir, &overrides, true)?;
    let key = prepared.secured.own_key.clone();
    let url = format!("http://{}", prepared.listener.local_addr().map_err(io)?);
    let (ready, is_ready) = mpsc::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = std::thread::Builder::new()
        .name("understudy".into())
        .spawn(move || {
            actix::System::new().block_on(run(prepared, ready, async move {
                let _ = stopped.await;
                Stop::Now
            }))
        })
        .map_err(io)?;
    is_ready.recv().map_err(|_| StartError::new("the server ended before it was ready", "its log says why"))??;
    let mut running = Running::new(url, move || {
        let _ = stop.send(());
        thread.join().map_err(|_| "the server thread panicked".to_owned())?.map_err(|unclean| unclean.why)
    });
    running.key = key;
    Ok(running)
}

/// Runs the server in the foreground until SIGTERM or SIGINT.
pub fn serve(dir: &Path, overrides: Overrides) -> Result<(), StartError> {
    let prepared = prepare(dir, &overrides, false)?;
    let scheme = prepared.secured.scheme();
    let address = prepared.listener.local_addr().map_err(io)?;
    let (ready, is_ready) = mpsc::channel::<Result<(), StartError>>();
    std::thread::spawn(move || {
        if let Ok(Ok(())) = is_ready.recv() {
            eprintln!("serving on {scheme}://{address}  (stop with Ctrl-C)");
        }
    });
    actix::System::new().block_on(run(prepared, ready, signals::stop_asked())).map_err(|unclean| StartError {
        message: unclean.why,
        hint: String::new(),
        exit: unclean.exit,
    })
}

fn prepare(dir: &Path, overrides: &Overrides, own: bool) -> Result<Prepared, StartError> {
    let project = Project::load(dir, overrides).map_err(|p| problems(&p))?;
    init_log(&project.settings.log);
    arm_faults()?;
    project.compile().map_err(|found| problems(&found))?;
    let settings = &project.settings;
    let address = (settings.server.bind, settings.server.port);
    let data = project.dir.join(&settings.storage.dir);
    let secured = edge::secured(&project, &data, own)?;
    let listener = TcpListener::bind(address).map_err(|e| {
        StartError::new(
            format!("cannot listen on {}:{}: {e}", address.0, address.1),
            "another program has the port: stop it, or choose another with --set server.port=PORT (0: any free one)",
        )
    })?;
    listener.set_nonblocking(true).map_err(io)?;
    let options = StoreOptions {
        durability: match settings.storage.durability {
            config::Durability::Power => Durability::Power,
            config::Durability::Process => Durability::Process,
        },
        segment_bytes: settings.storage.segment_bytes,
        min_free: settings.storage.min_free_bytes,
        open_deadline: settings.storage.open_deadline.std(),
        ..StoreOptions::default()
    };
    let store = Store::open(&data, options).map_err(|e| {
        StartError::new(format!("cannot open {}: {e}", data.display()), "`understudy doctor` looks at the folder")
    })?;
    let salt = ulid::Ulid::generate().0 ^ ulid::Ulid::generate().0.rotate_left(64);
    let erasures =
        tombstones::open(&data, salt).map_err(|e| StartError::new(e.to_string(), "docs/security.md, Erasure"))?;
    for warning in &store.report().warnings {
        tracing::warn!(%warning, "storage");
    }
    let workers = match settings.server.workers {
        0 => std::thread::available_parallelism().map_or(2, usize::from),
        n => n,
    };
    let started = project::start(dir, overrides, &data, workers, &WallClock).map_err(|p| problems(&p))?;
    let export =
        telemetry::resolve(&settings.telemetry, |name| std::env::var(name).ok()).map_err(|p| problems(&[p]))?;
    let telemetry = Telemetry::start(export.as_ref())
        .map_err(|e| StartError::new(e, "OTEL_SDK_DISABLED=true starts without sending telemetry"))?;
    let alerts = alerts(&project, &data)?;
    Ok(Prepared { project, started, workers, store, erasures, listener, data, secured, telemetry, alerts })
}

/// The journal of alerts, and where they go.
fn alerts(project: &Project, data: &Path) -> Result<Arc<Alerts>, StartError> {
    let sinks = alerts::sinks(project).map_err(|(what, hint)| StartError::config(what, &hint))?;
    let journal = AlertFile::open(data)
        .map_err(|e| StartError::new(e.to_string(), "move the file away: alerts that are open are told again"))?;
    Ok(Arc::new(Alerts::new(Arc::new(journal), sinks)))
}

async fn run(
    prepared: Prepared,
    ready: mpsc::Sender<Result<(), StartError>>,
    until: impl Future<Output = Stop>,
) -> Result<(), Unclean> {
    let Prepared { project, started, workers, store, erasures, listener, data, secured, telemetry, alerts } = prepared;
    let settings = &project.settings;
    let clock: Arc<dyn Clock> = match settings.clock.source {
        config::ClockSource::Wall => Arc::new(WallClock),
        config::ClockSource::Stream => Arc::new(StreamClock::default()),
    };
    let journal = match FileJournal::open(&data) {
        Ok(journal) => journal,
        Err(e) => {
            let _ = ready.send(Err(StartError::new(e.to_string(), "move the file away to begin a new journal")));
            return Err("the journal of retraining cannot be read".to_owned().into());
        }
    };
    let registry = Arc::new(runtime::Registry::new(data.join("models")));
    let rollouts =
        RolloutJournals::new(&data, store.durability()).map_err(|e| Unclean::from(format!("rollouts: {e}")))?;
    let project::Start { source, in_force, generation } = started;
    let layout =
        understudy_actors::feature_shard::layout_id(&in_force.compiled.catalog.plan, in_force.compiled.settings.shards);
    let shards = in_force.compiled.settings.shards;
    let features = crate::storage::features_of(&data, store.features(), &layout);
    tombstones::resume(&erasures, &*features, shards).map_err(|e| e.to_string())?;
    let erasures = Arc::new(erasures.over(store.events(), store.predictions()));
    let deps = Arc::new(Deps {
        settings: ActorSettings {
            models: ModelRun {
                threads: settings.models.threads,
                hang: settings.models.hang.std(),
                slow: settings.models.slow.std(),
                max_batch: settings.models.max_batch,
            },
            monitoring: settings.monitor.enabled,
            model_budget: Budget { versions: settings.models.max_loaded, bytes: settings.models.max_bytes },
            ..ActorSettings::default()
        },
        clock,
        wall: Arc::new(WallClock),
        events: Arc::new(Filtered { log: store.events(), erasures: erasures.clone() }),
        predictions: Arc::new(Filtered { log: store.predictions(), erasures: erasures.clone() }),
        outcomes: Arc::new(Filtered { log: store.outcomes(), erasures: erasures.clone() }),
        joins: Arc::new(JoinFile::new(&data, store.durability())),
        features,
        rollouts: Arc::new(rollouts),
        loader: registry.clone(),
        trainer: registry,
        retraining: Arc::new(journal),
        counters: Default::default(),
        telemetry: telemetry.clone(),
        erasures,
        feeds: Arc::new(FeedFile::new(&data)),
        alerts,
    });
    resume_clock(&deps);
    let declared = Declared {
        number: generation,
        catalog: in_force.compiled.catalog.clone(),
        settings: in_force.compiled.settings.clone(),
    };
    let system = System::start(deps, declared);
    system.watch(source, in_force);
    actix::spawn(signals::reload_on_hangup(system.clone()));
    let store = Arc::new(store);
    actix::spawn(storage::watch(system.clone(), store.clone()));
    let connections = Arc::<Connections>::default();
    let memory_cap = memory::cap(settings.limits.memory_cap_bytes);
    let security = secured.security.clone();
    telemetry.observe(Readings {
        system: system.clone(),
        connections: connections.clone(),
        security,
        memory_cap,
        store: store.clone(),
    });
    let metrics = telemetry.text();
    secured.keep_fresh();
    actix::spawn(memory::watch(system.clone(), memory_cap));
    let cells = system.clone();
    let limits = GatewayLimits {
        max_body_bytes: settings.server.max_body_bytes,
        max_upload_bytes: settings.models.max_upload_bytes,
        max_instances: settings.limits.max_instances,
        max_events: settings.limits.max_events_per_request,
        request_timeout: settings.server.request_timeout.std(),
        header_timeout: settings.limits.header_timeout.std(),
        body_timeout: settings.limits.body_timeout.std(),
        keep_alive: settings.limits.keep_alive.std(),
        max_connections: max_connections(settings.limits.max_connections, workers),
        max_connections_per_address: settings.limits.max_connections_per_address,
    };
    let edge = Edge {
        limits,
        metrics,
        telemetry: telemetry.clone(),
        connections,
        security: secured.security.clone(),
        tls: secured.tls()?,
    };
    let server = gateway::serve(listener, workers, move || Cell::new(cells.clone()), edge).await;
    let server = match server {
        Ok(server) => server,
        Err(e) => {
            let _ = ready.send(Err(io(e)));
            return Err("the gateway did not start".to_owned().into());
        }
    };
    let handle = server.handle();
    actix::spawn(server);
    let mut until = std::pin::pin!(until);
    let end = match stop::until_ready(&system, workers.max(1), until.as_mut()).await {
        Err(end) => end,
        Ok(()) => {
            tracing::info!(workers, project = %project.dir.display(), "ready");
            let _ = ready.send(Ok(()));
            stop::until_end(&system, until).await
        }
    };
    let ended = stop::end(end, &system, handle, &store, settings.server.drain.std()).await;
    telemetry.stop();
    ended
}

/// A worker's connections must leave file descriptors for the logs: a connection has two, and at
/// most three quarters of what the process may open are theirs.
fn max_connections(wanted: usize, workers: usize) -> usize {
    let files = usize::try_from(gateway::raise_file_limit()).unwrap_or(usize::MAX);
    let most = (files / 8 * 3 / workers.max(1)).max(1);
    if most < wanted {
        tracing::debug!(
            wanted,
            most,
            files,
            "limits.max_connections is more than the process may open; see `ulimit -n`"
        );
    }
    wanted.min(most)
}

/// For tests of the real program: a fault at a named point of an actor. Inert unless the operator sets it.
fn arm_faults() -> Result<(), StartError> {
    let Ok(text) = std::env::var("UNDERSTUDY_FAULT") else { return Ok(()) };
    fault::arm_process(&text).map_err(|e| StartError::new(e, "unset UNDERSTUDY_FAULT; it is for tests"))?;
    tracing::warn!(fault = text, "UNDERSTUDY_FAULT is set: this server fails on purpose");
    Ok(())
}

/// A recorded stream goes on where its log ends.
fn resume_clock(deps: &Deps) {
    let last = deps.events.last_seq();
    if deps.clock.is_stream() && last > 0 {
        let _ = deps.events.scan(last, &mut |e| {
            deps.clock.observe(e.ingested);
            std::ops::ControlFlow::Continue(())
        });
    }
}

fn problems(found: &[Problem]) -> StartError {
    let text = found.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    StartError::new(format!("the project cannot be loaded:\n{text}"), "`understudy config check` lists the same")
}

fn io(e: std::io::Error) -> StartError {
    StartError::new(e.to_string(), "")
}

fn log_filter(level: &str) -> tracing_subscriber::EnvFilter {
    tracing_subscriber::EnvFilter::try_new(format!("actix_server=warn,{level}"))
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"))
}

fn set_by(set: impl Fn(tracing_subscriber::EnvFilter) -> bool + Send + Sync + 'static) {
    let set = move |level: &str| {
        if !set(log_filter(level)) {
            tracing::error!(level, "the level of the log could not be changed");
        }
    };
    let _ = project::SET_LOG_LEVEL.set(Box::new(set));
}

fn init_log(log: &config::Log) {
    // actix-server says at every start what the line "ready" says once.
    let filter = log_filter(&log.level);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // A second server in one process (a test, a bench) keeps the first one's log.
    match log.format {
        config::LogFormat::Text => {
            let builder = builder.compact().with_filter_reloading();
            let handle = builder.reload_handle();
            if builder.try_init().is_ok() {
                set_by(move |filter| handle.reload(filter).is_ok());
            }
        }
        config::LogFormat::Json => {
            let builder = builder.json().with_filter_reloading();
            let handle = builder.reload_handle();
            if builder.try_init().is_ok() {
                set_by(move |filter| handle.reload(filter).is_ok());
            }
        }
    }
}
