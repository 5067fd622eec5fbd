//! What one prediction costs in allocations: a count, so that the noise of the machine does not matter.

use super::clock::SimClock;
use super::meter;
use super::project::{self, MODEL, SimModels};
use crate::storage::journal::MemoryJournal;
use crate::storage::memory::{MemoryEvents, MemoryFeatures, MemoryOutcomes, MemoryPredictions};
use std::sync::Arc;
use std::time::Duration;
use understudy_actors::api::PredictCommand;
use understudy_actors::cell::Cell;
use understudy_actors::deps::{ActorSettings, Deps, LiveSettings};
use understudy_actors::generation::Declared;
use understudy_actors::system::{System, Threads};
use understudy_domain::event::Event;
use understudy_domain::value::Value;

/// Features of two entities, a context field, route, rules, model, answer; then joining, monitoring and logging.
/// Raise it only with a reason in docs/performance.md.
const MOST_PER_PREDICTION: u64 = 60;
const MEASURED: u64 = 500;

fn asked() -> PredictCommand {
    PredictCommand {
        model: MODEL.into(),
        entities: [("user", "u1"), ("shop", "s1")].map(|(k, v)| (k.into(), Some(v.into()))).into(),
        context: [("basket".into(), Value::Float(20.0))].into(),
        ..PredictCommand::default()
    }
}

fn order(i: u64, at: understudy_domain::time::Timestamp) -> Event {
    Event {
        id: format!("o{i}"),
        kind: "order".into(),
        time: at,
        entities: asked().entities,
        properties: [("amount".into(), Value::Float(i as f64)), ("kind".into(), Value::text("book"))].into(),
    }
}

#[test]
fn a_prediction_allocates_little() {
    let runtime = actix::System::with_tokio_rt(|| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().start_paused(true).build().expect("a runtime of one thread")
    });
    let (clock, models) = (Arc::<SimClock>::default(), Arc::<SimModels>::default());
    models.register();
    let deps = Arc::new(Deps {
        settings: ActorSettings { blocking: understudy_actors::blocking::Blocking::Inline, ..ActorSettings::default() },
        clock: clock.clone(),
        wall: clock.clone(),
        events: Arc::new(MemoryEvents::default()),
        predictions: Arc::new(MemoryPredictions::default()),
        outcomes: Arc::new(MemoryOutcomes::default()),
        joins: Arc::new(crate::storage::memory::MemoryJoins::default()),
        features: Arc::new(MemoryFeatures::default()),
        rollouts: Arc::new(crate::storage::memory::MemoryJournals::default()),
        loader: models.clone(),
        trainer: models,
        retraining: Arc::new(MemoryJournal::default()),
        counters: Default::default(),
        telemetry: Arc::new(()),
        erasures: Default::default(),
        feeds: Arc::new(()),
        alerts: Default::default(),
    });
    let per_prediction = runtime.block_on(async move {
        clock.begin_life();
        let here = actix::Arbiter::current();
        let threads = Threads { features: here.clone(), logging: here.clone(), control: here, one: true };
        let declared = Declared { number: 1, catalog: Arc::new(project::catalog()), settings: LiveSettings::default() };
        let system = System::start_on(deps.clone(), declared, &threads, Vec::new());
        let cell = Cell::new(system.clone());
        while !system.ready() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let now = deps.clock.now();
        cell.ingest((0..20).map(|i| order(i, now)).collect()).await.expect("the events are taken");
        let ask = async |n: u64| {
            for _ in 0..n {
                let generation = cell.generation();
                let answer = cell.predict(&generation, asked(), Duration::from_secs(1)).await.expect("an answer");
                assert!(answer.logged);
            }
            tokio::time::sleep(Duration::from_millis(50)).await; // the group is written: its cost belongs here
        };
        ask(100).await;
        meter::begin();
        ask(MEASURED).await;
        let counted = meter::seen().calls / MEASURED;
        system.stop().await.expect("an orderly stop");
        counted
    });
    assert!(per_prediction > 0, "the meter is the allocator of this test");
    assert!(per_prediction <= MOST_PER_PREDICTION, "{per_prediction} allocations for a prediction");
}
