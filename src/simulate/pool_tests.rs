//! The model pool on one thread and a clock that jumps: more versions than fit, loads that fail, names that change.

use super::clock::SimClock;
use super::dice::Dice;
use super::disk::Disk;
use super::project::{self, MODEL, SimModels};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use understudy_actors::api::{Answer, PredictCommand, Refusal};
use understudy_actors::blocking::Blocking;
use understudy_actors::cell::{Cell, refusal_code};
use understudy_actors::counters::Family;
use understudy_actors::deps::{ActorSettings, Deps, LiveSettings};
use understudy_actors::generation::Declared;
use understudy_actors::ports::ModelLoader;
use understudy_actors::system::{System, Threads};
use understudy_domain::residency::Budget;
use understudy_domain::value::Value;

const LONG: Duration = Duration::from_secs(60);

struct Bench {
    system: Arc<System>,
    models: Arc<SimModels>,
    cells: [Cell; 2],
}

impl Bench {
    async fn start(versions: usize, budget: Budget) -> Bench {
        let (disk, models) = (Disk::new(Dice::new(7, 7)), Arc::new(SimModels::default()));
        (0..versions).for_each(|_| drop(models.register()));
        let clock: Arc<SimClock> = Arc::default();
        clock.begin_life();
        let deps = Deps {
            settings: ActorSettings { blocking: Blocking::Inline, model_budget: budget, ..ActorSettings::default() },
            clock: clock.clone(),
            wall: clock,
            events: disk.events(),
            predictions: disk.predictions(),
            outcomes: disk.outcomes(),
            joins: disk.joins(),
            features: disk.features(),
            rollouts: Arc::new(crate::storage::memory::MemoryJournals::default()),
            loader: models.clone(),
            trainer: models.clone(),
            retraining: Arc::new(crate::storage::journal::MemoryJournal::default()),
            counters: Default::default(),
            telemetry: Arc::new(()),
            erasures: Default::default(),
            feeds: Arc::new(()),
            alerts: Default::default(),
        };
        let declared = Declared { number: 1, catalog: Arc::new(project::catalog()), settings: LiveSettings::default() };
        let here = actix::Arbiter::current();
        let threads = Threads { features: here.clone(), logging: here.clone(), control: here, one: true };
        let system = System::start_on(Arc::new(deps), declared, &threads, Vec::new());
        let cells = [Cell::new(system.clone()), Cell::new(system.clone())];
        while !(system.ready() && disk.idle()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Bench { system, models, cells }
    }

    async fn ask(&self, cell: usize, version: Option<String>) -> Result<Answer, Refusal> {
        let cell = &self.cells[cell % 2];
        let command = PredictCommand {
            model: MODEL.into(),
            version,
            entities: BTreeMap::from([("user".to_owned(), Some("u1".to_owned()))]),
            context: BTreeMap::from([("basket".to_owned(), Value::Float(1.0))]),
            ..PredictCommand::default()
        };
        cell.predict(&cell.generation(), command, LONG).await
    }

    async fn version(&self, cell: usize, version: Option<&str>) -> Result<String, &'static str> {
        let answer = self.ask(cell, version.map(str::to_owned)).await;
        answer.map(|a| a.record.version.clone()).map_err(|e| refusal_code(&e))
    }

    fn sum(&self, family: &Family) -> u64 {
        let _ = self;
        family.read().iter().map(|(_, n)| n).sum()
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = actix::System::with_tokio_rt(|| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().expect("a runtime of one thread")
    });
    runtime.block_on(test);
}

fn bytes() -> u64 {
    SimModels::default().weigh(MODEL, "v1").expect("a weight")
}

#[test]
fn eight_versions_take_turns_in_five_places_and_nobody_is_refused() {
    run(async {
        let budget = Budget { versions: 5, bytes: 5 * bytes() };
        let bench = Bench::start(8, budget).await;
        let ask = |n: usize| {
            let version = format!("v{}", n * 7 % 8 + 1);
            let bench = &bench;
            async move {
                for round in 0..10 {
                    let got = bench.version(n + round, Some(&version)).await;
                    assert_eq!(got.as_deref(), Ok(version.as_str()));
                }
            }
        };
        // All at once on one thread: polled in turns until each is done.
        let mut callers: Vec<_> = (0..200).map(|n| Box::pin(ask(n))).collect();
        std::future::poll_fn(|cx| {
            callers.retain_mut(|c| c.as_mut().poll(cx).is_pending());
            if callers.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        let (counters, (_, peak)) = (&bench.system.deps.counters, bench.system.models_in_memory());
        let loads = bench.sum(&counters.model_loads);
        assert!(loads >= 8 && bench.sum(&counters.model_evictions) >= 3, "{loads} loads");
        assert_eq!(loads, bench.sum(&counters.model_misses), "one load for many waiters");
        assert_eq!((peak.versions, peak.bytes), (5, 5 * bytes()), "the budget holds at every moment");
    });
}

#[test]
fn what_made_room_is_free_only_when_nobody_has_it_and_comes_back_when_asked() {
    run(async {
        let bench = Bench::start(3, Budget { versions: 1, bytes: u64::MAX }).await;
        for version in ["v1", "v2", "v3", "v1", "v2"] {
            // Both workers ask for it: neither keeps it from making room.
            for cell in 0..2 {
                assert_eq!(bench.version(cell, Some(version)).await.as_deref(), Ok(version));
            }
        }
        assert_eq!(bench.sum(&bench.system.deps.counters.model_loads), 5);
        assert_eq!(bench.system.models_in_memory().1.versions, 1);
    });
}

#[test]
fn a_version_larger_than_the_budget_is_refused_and_others_go_on() {
    run(async {
        let bench = Bench::start(2, Budget { versions: 5, bytes: bytes() - 1 }).await;
        assert_eq!(bench.version(0, None).await, Err("model_too_large"));
        assert_eq!(bench.version(1, Some("v1")).await, Err("model_too_large"));
        assert_eq!(bench.version(1, Some("v9")).await, Err("unknown_version"));
    });
}

#[test]
fn a_broken_version_is_not_read_at_every_request() {
    run(async {
        let bench = Bench::start(2, Budget { versions: 5, bytes: u64::MAX }).await;
        *bench.models.load_errors.lock().unwrap() = u64::MAX;
        for n in 0..10_000 {
            assert_eq!(bench.version(n, Some("v1")).await, Err("model_not_loadable"));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let loads = bench.sum(&bench.system.deps.counters.model_loads);
        assert!((5..=10).contains(&loads), "{loads} loads for 10,000 requests in ten seconds");
        let faults = bench.system.deps.counters.model_faults.read();
        assert_eq!(faults, [(vec![MODEL.to_owned(), "v1".into(), "load".into()], loads)]);
        // It is mended: the pause ends by itself, and a name ends it at once.
        *bench.models.load_errors.lock().unwrap() = 0;
        assert_eq!(bench.version(0, Some("v1")).await, Err("model_not_loadable"));
        bench.cells[0].set_alias(MODEL, "shadow", Some("v1")).await.expect("it can be loaded");
        assert_eq!(bench.version(0, Some("v1")).await.as_deref(), Ok("v1"));
    });
}

#[test]
fn a_name_that_cannot_be_given_changes_nothing() {
    run(async {
        let bench = Bench::start(2, Budget { versions: 5, bytes: u64::MAX }).await;
        assert_eq!(bench.version(0, None).await.as_deref(), Ok("v2"), "the newest, where nothing was ever named");
        let before = bench.models.ledger(MODEL).unwrap();
        *bench.models.load_errors.lock().unwrap() = 1;
        let refused = bench.cells[0].set_alias(MODEL, "champion", Some("v1")).await;
        assert_eq!(refused.as_ref().map_err(refusal_code).err(), Some("model_not_loadable"));
        assert_eq!(bench.models.ledger(MODEL).unwrap(), before);
        assert_eq!(bench.version(0, None).await.as_deref(), Ok("v2"));
        let changed = bench.cells[0].set_alias(MODEL, "champion", Some("v1")).await.expect("loaded by now");
        assert_eq!(changed.before.as_deref(), Some("v2"));
        for cell in 0..2 {
            assert_eq!(bench.version(cell, None).await.as_deref(), Ok("v1"));
        }
        let refused = bench.cells[1].archive(MODEL, "v2").await;
        assert_eq!(refused.as_ref().map_err(refusal_code).err(), Some("version_in_use"), "it is what one returns to");
        let refused = bench.cells[1].register(b"no archive".to_vec()).await;
        assert_eq!(refused.as_ref().map_err(refusal_code).err(), Some("artefact_refused"));
    });
}
