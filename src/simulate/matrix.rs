//! The fault matrix: for every actor, what a caller sees of a panic, an error, a full disk, a slow dependency and a
//! stop, what is lost, and how long until all is well. One table, one test; docs/operations.md tells it in words.

use super::clock::SimClock;
use super::dice::Dice;
use super::disk::Disk;
use super::project::{self, MODEL, SimModels};
use crate::storage::journal::MemoryJournal;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use understudy_actors::api::{PredictCommand, Refusal};
use understudy_actors::blocking::Blocking;
use understudy_actors::cell::{Cell, refusal_code};
use understudy_actors::deps::{ActorSettings, Deps, LiveSettings};
use understudy_actors::fault::{self, Action, Order, POINTS};
use understudy_actors::generation::Declared;
use understudy_actors::system::{System, Threads};
use understudy_domain::event::Event;
use understudy_domain::prediction::{OutcomeRecord, OutcomeTarget};
use understudy_domain::rollout::Input;
use understudy_domain::value::Value;

/// What is done while the fault is there.
#[derive(Clone, Copy, Debug)]
enum Ask {
    Ingest,
    Predict,
    Outcome,
    Report,
    Explain,
    Train,
    Command,
}
use Ask::*;

/// Fault, call, what the caller sees (`ok` or a code), virtual milliseconds until ready and answering again.
type Row = (&'static str, Ask, &'static [&'static str], u64);

/// A panic costs the caller of that message one refusal and nothing else; where nobody waits for the message, nothing.
const PANICS: &[Row] = &[
    ("event_logger.ingest", Ingest, &["internal"], 100),
    ("event_logger.numbered", Ingest, &["internal"], 100),
    ("event_logger.sent", Ingest, &["internal"], 100),
    ("feature_shard.fold", Ingest, &["internal"], 100),
    ("feature_shard.folding", Ingest, &["internal"], 100),
    ("feature_shard.load", Explain, &["internal"], 100),
    ("prediction_logger.log", Predict, &["storage_unavailable"], 100),
    ("prediction_logger.joined", Predict, &["storage_unavailable"], 100),
    ("prediction_logger.write", Predict, &["storage_unavailable"], 100),
    ("prediction_logger.outcomes", Outcome, &["internal"], 100),
    ("prediction_logger.posted", Outcome, &["internal"], 100),
    ("monitor.served", Predict, &["ok"], 100),
    ("monitor.report", Report, &["internal"], 100),
    ("model_pool.acquire", Predict, &["internal"], 1_500),
    ("model_pool.loaded", Predict, &["internal"], 1_500),
    ("router.route", Predict, &["internal"], 100),
    ("router.load", Predict, &["internal"], 100),
    ("router.hosted", Predict, &["internal"], 100),
    ("model_instance.predict", Predict, &["internal"], 100),
    ("trainer.enqueue", Train, &["internal"], 100),
    ("trainer.train", Train, &["ok"], 100),
    ("trainer.finished", Train, &["ok"], 100),
    ("rollout.command", Command, &["internal"], 100),
];

/// Errors of what an actor depends on: nothing is acknowledged that is not durable, nobody is restarted for it.
const DEPENDENCIES: &[Row] = &[
    ("events.write", Ingest, &["storage_unavailable"], 100),
    ("events.sync", Ingest, &["storage_unavailable"], 100),
    ("events.full", Ingest, &["disk_full"], 100),
    ("events.slow", Ingest, &["ok"], 100),
    ("predictions.write", Predict, &["storage_unavailable"], 100),
    ("predictions.full", Predict, &["disk_full"], 100),
    // The answer waits for its record, and the caller no longer than its deadline.
    ("predictions.slow", Predict, &["ok", "deadline_exceeded"], 100),
    ("outcomes.write", Outcome, &["storage_unavailable"], 100),
    ("outcomes.slow", Outcome, &["ok"], 100),
    ("features.read", Explain, &["storage_unavailable"], 100),
];

/// Records that are reported as lost though their caller was refused: the group that the panic took with it.
const REPORTED: &[(&str, u64)] = &[("prediction_logger.write", 1)];

struct Bench {
    disk: Disk,
    system: Arc<System>,
    cell: Cell,
    asked: u64,
}

impl Bench {
    async fn start() -> Bench {
        let (disk, models) = (Disk::new(Dice::new(7, 7)), Arc::new(SimModels::default()));
        models.register();
        let clock: Arc<SimClock> = Arc::default();
        clock.begin_life();
        let deps = Deps {
            settings: ActorSettings { blocking: Blocking::Inline, ..ActorSettings::default() },
            clock: clock.clone(),
            wall: clock,
            events: disk.events(),
            predictions: disk.predictions(),
            outcomes: disk.outcomes(),
            joins: disk.joins(),
            features: disk.features(),
            rollouts: Arc::new(crate::storage::memory::MemoryJournals::default()),
            loader: models.clone(),
            trainer: models,
            retraining: Arc::new(MemoryJournal::default()),
            counters: Default::default(),
            telemetry: Arc::new(()),
            erasures: Default::default(),
            feeds: Arc::new(()),
            alerts: Default::default(),
        };
        let settings = LiveSettings { log_sync: true, max_entities: 2, shards: 1, ..LiveSettings::default() };
        let declared = Declared { number: 1, catalog: Arc::new(project::catalog()), settings };
        let here = actix::Arbiter::current();
        let threads = Threads { features: here.clone(), logging: here.clone(), control: here, one: true };
        let system = System::start_on(Arc::new(deps), declared, &threads, Vec::new());
        let cell = Cell::new(system.clone());
        let mut bench = Bench { disk, system, cell, asked: 0 };
        bench.well().await;
        bench
    }

    /// Virtual time until every actor is ready.
    async fn well(&mut self) -> Duration {
        let started = tokio::time::Instant::now();
        while !(self.system.ready() && self.disk.idle()) {
            assert!(started.elapsed() < Duration::from_secs(60), "{:?}", self.system.health());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        started.elapsed()
    }

    async fn ask(&mut self, what: Ask) -> Result<(), Refusal> {
        self.asked += 1;
        let (id, now) = (format!("x{}", self.asked), self.system.deps.clock.now());
        let user = BTreeMap::from([("user".to_owned(), Some(format!("u{}", self.asked % 5)))]);
        match what {
            Ingest => {
                let properties = BTreeMap::from([("amount".to_owned(), Value::Float(1.0))]);
                let event = Event { id, kind: "order".into(), time: now, entities: user, properties };
                self.cell.ingest(vec![event]).await.map(drop)
            }
            Predict => {
                let context = BTreeMap::from([("basket".to_owned(), Value::Float(1.0))]);
                let command = PredictCommand { model: MODEL.into(), entities: user, context, ..Default::default() };
                let generation = self.cell.generation();
                self.cell.predict(&generation, command, Duration::from_secs(5)).await.map(drop)
            }
            Outcome => {
                let target = OutcomeTarget::RequestId(id);
                let outcome = OutcomeRecord { model: MODEL.into(), target, label: Some(true), time: now, revision: 0 };
                self.cell.outcomes(vec![outcome]).await.map(drop)
            }
            Report => self.cell.monitor(MODEL, None, None).await.map(drop),
            Explain => match self.cell.explain("orders_1h", &user, None).await {
                Err(Refusal::NotFound { .. }) => Ok(()),
                other => other.map(drop),
            },
            Train => self.cell.train(MODEL).await.map(drop),
            // No rollout runs: the controller answers, and that is its answer.
            Command => {
                let abort = Input::Abort { expected_step: 0, reason: String::new(), by: String::new() };
                match self.cell.command_rollout(MODEL, abort).await {
                    Err(Refusal::NotFound { .. }) => Ok(()),
                    other => other.map(drop),
                }
            }
        }
    }
}

async fn check((name, ask, expected, within): &Row) {
    let mut bench = Bench::start().await;
    let armed = fault::plan(Vec::new());
    match POINTS.iter().position(|p| p == name) {
        Some(point) => armed.plant(vec![Order { point, action: Action::Panic, skip: 0, times: 1 }]),
        None => bench.disk.plant(super::disk::FAULTS.iter().find(|f| *f == name).expect("a fault"), 1),
    }
    let seen = bench.ask(*ask).await;
    let seen = seen.as_ref().map_or_else(refusal_code, |()| "ok");
    assert!(expected.contains(&seen), "{name}: the caller sees {seen}, expected {expected:?}");
    tokio::time::sleep(Duration::from_millis(1)).await;
    let mut well = bench.well().await;
    let fired = armed.seen().fired.iter().sum::<u64>() + bench.disk.fired().values().sum::<u64>();
    assert_eq!(fired, 1, "{name} happened");
    bench.disk.heal();
    // Well is when everything answers again, not only what failed.
    for ask in [Ingest, Predict, Outcome, Report, Explain, Train, Command] {
        let started = tokio::time::Instant::now();
        loop {
            match bench.ask(ask).await {
                Ok(()) => break,
                Err(Refusal::Conflict { .. }) => break, // a job of this model waits already
                Err(e) => assert!(started.elapsed() < Duration::from_secs(10), "{name}: then {ask:?}: {e:?}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
            well += started.elapsed();
        }
    }
    let slow = if name.ends_with(".slow") { 10_000 } else { 0 };
    assert!(well <= Duration::from_millis(*within + slow), "{name}: well after {well:?}, expected {within} ms");
    let restarts: u64 = bench.system.health().iter().map(|h| h.restarts).sum();
    let panics: u64 = bench.system.health().iter().map(|h| h.panics).sum();
    assert_eq!(restarts, panics, "{name}: only a panic restarts an actor");
    // A stop in this state is an orderly one, and all that was acknowledged is on the disk.
    bench.system.stop().await.unwrap_or_else(|e| panic!("{name}: then stop: {e:?}"));
    let reported = REPORTED.iter().find(|(n, _)| n == name).map_or(0, |(_, n)| *n);
    assert_eq!(bench.system.deps.counters.log_dropped.load(Relaxed), reported, "{name}: reported as lost");
}

#[test]
fn every_actor_meets_every_fault_as_the_table_says() {
    for row in PANICS.iter().chain(DEPENDENCIES) {
        let runtime = actix::System::with_tokio_rt(|| {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_all().start_paused(true).build().expect("a runtime")
        });
        runtime.block_on(check(row));
    }
}

#[test]
fn the_table_has_every_actor() {
    let actors = |names: &mut dyn Iterator<Item = &&'static str>| {
        let mut all: Vec<_> = names.filter_map(|n| n.split('.').next()).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    assert_eq!(
        actors(&mut PANICS.iter().map(|(n, ..)| n)),
        actors(&mut POINTS.iter().filter(|p| !p.starts_with("model_thread.")))
    );
}
