//! One seed: lives of the system, steps of traffic and faults, checks after each.

use super::check;
use super::clock::SimClock;
use super::dice::Dice;
use super::disk::Disk;
use super::ledger::Ledger;
use super::project::{self, MODEL, SimModels};
use super::trace::Trace;
use super::traffic::{self, Call, Callers};
use crate::storage::journal::MemoryJournal;
use std::cell::{Cell as Slot, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use understudy_actors::admission::AdmissionLimits;
use understudy_actors::api::{Answer, PredictCommand};
use understudy_actors::blocking::Blocking;
use understudy_actors::cell::Cell;
use understudy_actors::deps::{ActorSettings, Deps, LiveSettings};
use understudy_actors::fault::{self, Armed, POINTS};
use understudy_actors::generation::Declared;
use understudy_actors::ports::{Clock, ModelLoader};
use understudy_actors::system::{System, Threads};
use understudy_domain::time::{DAY, MINUTE, SECOND};
use understudy_domain::value::Value;

/// What may be planted besides the points of the actors and the disk.
pub const OTHER_FAULTS: &[&str] =
    &["models.load", "models.train", "clock.back", "clock.forward", "process.crash", "process.stop"];

/// How far the clock goes back in a run, all jumps together, in microseconds: features keep an hour of grace.
const MAX_BACK: u64 = 59 * MINUTE as u64;
/// The system is ready again by then, after whatever happened.
const READY: Duration = Duration::from_secs(60);
/// A restart budget is whole again after so long.
const REST: Duration = Duration::from_secs(61);

thread_local! {
    static ENTROPY: Slot<u64> = const { Slot::new(0) };
}

/// Ids of predictions whose request brought none: a sequence of the run.
fn entropy() -> u128 {
    let mut dice = Dice::new(ENTROPY.replace(ENTROPY.get() + 1), 5);
    u128::from(dice.next()) << 64 | u128::from(dice.next())
}

/// How a seed ended.
#[derive(Clone, Debug)]
pub struct Run {
    pub seed: u64,
    pub steps: u64,
    /// Of everything that happened, in order.
    pub hash: u64,
    pub failure: Option<Failure>,
    /// Faults that happened, by name.
    pub fired: BTreeMap<&'static str, u64>,
    /// Calls by what became of them.
    pub calls: BTreeMap<&'static str, u64>,
}

#[derive(Clone, Debug)]
pub struct Failure {
    pub step: u64,
    pub reason: String,
    /// The last lines of the trace.
    pub trace: Vec<String>,
}

/// What outlives the simulated process.
pub(super) struct World {
    pub(super) disk: Disk,
    clock: Arc<SimClock>,
    pub(super) models: Arc<SimModels>,
    settings: ActorSettings,
    live: LiveSettings,
    callers: Callers,
    ledger: Rc<RefCell<Ledger>>,
    pub(super) trace: Rc<RefCell<Trace>>,
    pub(super) dice: Dice,
    pub(super) armed: Armed,
    fired: BTreeMap<&'static str, u64>,
    pub(super) step: u64,
    /// Times the clock went forward, and how far back it may still go.
    jumps: u64,
    back: u64,
    /// The clock is a recorded stream's.
    stream: bool,
    /// Reported as lost by lives that ended.
    lost: u64,
}

/// How a life ends.
enum End {
    /// No steps are left.
    Done,
    Crash,
    Stop,
}

/// Runs one seed on this thread.
pub fn run(seed: u64) -> Run {
    ENTROPY.set(seed.wrapping_mul(1 << 32));
    let mut dice = Dice::new(seed, 1);
    let live = LiveSettings {
        shards: dice.between(1, 3) as usize,
        max_entities: *dice.pick(&[3, 9, 1000]),
        admission: AdmissionLimits {
            max_in_flight: *dice.pick(&[3, 8, 1024]),
            max_wait: Duration::from_millis(*dice.pick(&[0, 100])),
        },
        log_queue: *dice.pick(&[2, 1024]),
        log_sync: dice.percent(60),
        ..LiveSettings::default()
    };
    let settings = ActorSettings {
        snapshot_every: *dice.pick(&[5, 40, 10_000]),
        blocking: Blocking::Inline,
        entropy,
        ..ActorSettings::default()
    };
    let mut world = World {
        disk: Disk::new(Dice::new(seed, 2)),
        clock: Arc::default(),
        models: Arc::default(),
        settings,
        live,
        callers: Callers::new(Dice::new(seed, 3)),
        ledger: Rc::default(),
        trace: Rc::default(),
        dice,
        armed: fault::plan(Vec::new()),
        fired: BTreeMap::new(),
        step: 0,
        jumps: 0,
        back: MAX_BACK,
        stream: false,
        lost: 0,
    };
    world.stream = world.dice.percent(20);
    if world.stream {
        world.clock.set_stream();
    }
    world.ledger.borrow_mut().sync = world.live.log_sync;
    world.note(format!("{:?}, snapshot every {}", world.live, world.settings.snapshot_every));
    world.models.register();
    let steps = world.dice.between(6, 14);
    let result = world.lives(steps);
    world.finish(seed, result.err())
}

impl World {
    fn lives(&mut self, steps: u64) -> Result<(), String> {
        while self.step < steps {
            self.life(Some(steps))?;
        }
        // The last one: no faults, and all that was promised is there.
        self.life(None)
    }

    fn finish(self, seed: u64, failure: Option<String>) -> Run {
        let seen = self.armed.seen();
        let mut fired = self.fired;
        fired.extend(self.disk.fired());
        fired.extend(self.models.fired.lock().map(|f| f.clone()).unwrap_or_default());
        fired.extend(POINTS.iter().zip(&seen.fired).filter(|(_, n)| **n > 0).map(|(p, n)| (*p, *n)));
        let trace = self.trace.borrow();
        let failure = failure.map(|reason| Failure { step: self.step, reason, trace: trace.last() });
        let calls = self.ledger.borrow().counts.clone();
        Run { seed, steps: self.step, hash: trace.hash(), failure, fired, calls }
    }

    pub(super) fn note(&self, line: String) {
        self.trace.borrow_mut().note(line);
    }

    fn fire(&mut self, name: &'static str) {
        *self.fired.entry(name).or_default() += 1;
        self.note(format!("fault: {name}"));
    }

    /// One life of the process: start, steps, and an end of some kind.
    fn life(&mut self, steps: Option<u64>) -> Result<(), String> {
        self.ledger.borrow_mut().life += 1;
        let runtime = actix::System::with_tokio_rt(|| {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_all().start_paused(true).build().expect("a runtime of one thread")
        });
        let deps = Arc::new(Deps {
            settings: self.settings.clone(),
            clock: self.clock.clone(),
            wall: self.clock.clone(),
            events: self.disk.events(),
            predictions: self.disk.predictions(),
            outcomes: self.disk.outcomes(),
            joins: self.disk.joins(),
            features: self.disk.features(),
            rollouts: Arc::new(crate::storage::memory::MemoryJournals::default()),
            loader: self.models.clone(),
            trainer: self.models.clone(),
            retraining: Arc::new(MemoryJournal::default()),
            counters: Default::default(),
            telemetry: Arc::new(()),
            erasures: Default::default(),
            feeds: Arc::new(()),
            alerts: Default::default(),
        });
        let end = runtime.block_on(async {
            self.clock.begin_life();
            self.heal();
            if steps.is_some() {
                self.plant_at_start();
            }
            let here = actix::Arbiter::current();
            let threads = Threads { features: here.clone(), logging: here.clone(), control: here, one: true };
            let declared = Declared { number: 1, catalog: Arc::new(project::catalog()), settings: self.live.clone() };
            let system = System::start_on(deps.clone(), declared, &threads, Vec::new());
            let cells = [Cell::new(system.clone()), Cell::new(system.clone())];
            let end = self.live(&system, &cells, steps).await;
            if matches!(end, Ok(End::Stop | End::Done))
                && let Err(e) = system.stop().await
            {
                return Err(format!("an orderly stop failed: {e:?}"));
            }
            self.clock.end_life();
            end
        });
        drop(runtime);
        self.note_disk();
        let end = end?;
        if !matches!(end, End::Crash) {
            self.disk.close();
        }
        match end {
            End::Done => self.promises(u64::MAX),
            End::Stop => self.promises(self.lost + deps.counters.log_dropped.load(Relaxed)),
            End::Crash => {
                self.disk.crash();
                self.note("the process is gone".into());
                // What was answered and not yet written when it died is what an asynchronous log may lose.
                if !self.live.log_sync {
                    let log = self.disk.durable_predictions();
                    let mut ledger = self.ledger.borrow_mut();
                    let gone: Vec<_> = ledger.answered.keys().filter(|id| !log.contains_key(id)).copied().collect();
                    ledger.excused.extend(gone);
                }
                Ok(())
            }
        }?;
        self.lost += deps.counters.log_dropped.load(Relaxed);
        Ok(())
    }

    async fn live(&mut self, system: &Arc<System>, cells: &[Cell; 2], steps: Option<u64>) -> Result<End, String> {
        self.settle(system).await?;
        self.heal();
        while let Some(steps) = steps {
            if self.step >= steps {
                return Ok(End::Stop);
            }
            self.step += 1;
            let crash = self.plant();
            let traffic = self.traffic(system, cells);
            match crash {
                None => traffic.await?,
                Some(after) => {
                    if let Ok(ended) = tokio::time::timeout(after, traffic).await {
                        ended?;
                    }
                    self.fire("process.crash");
                    return Ok(End::Crash);
                }
            }
            self.heal();
            self.settle(system).await?;
            check::at_rest(system)?;
            self.probe(&cells[(self.step % 2) as usize]).await?;
            // The snapshots of a rest may fail too.
            self.plant_at_rest();
            tokio::time::sleep(REST).await;
            self.heal();
            self.settle(system).await?;
            self.promises(self.lost + system.deps.counters.log_dropped.load(Relaxed))?;
            self.note(format!("step {} ends", self.step));
            if self.dice.percent(8) {
                self.fire("process.stop");
                return Ok(End::Stop);
            }
        }
        self.probe(&cells[0]).await?;
        self.probe(&cells[1]).await?;
        let report = cells[0].monitor(MODEL, None, None).await.map_err(|e| format!("no report at the end: {e:?}"))?;
        check::monitor(&report, &self.disk)?;
        Ok(End::Done)
    }

    /// A burst of calls with seeded pauses between them, through both cells at once.
    async fn traffic(&mut self, system: &Arc<System>, cells: &[Cell; 2]) -> Result<(), String> {
        let mut calls = Vec::new();
        for _ in 0..self.dice.between(1, 14) {
            match self.dice.below(100) {
                0 if !self.stream => {
                    let back = self.dice.below(self.back);
                    self.back -= back;
                    self.clock.jump(-(back as i64));
                    self.fire("clock.back");
                }
                1 if !self.stream => {
                    let forward = self.dice.below(DAY as u64) as i64;
                    self.clock.jump(forward);
                    self.jumps += 1;
                    self.fire("clock.forward");
                }
                _ => {}
            }
            let now = self.clock.now();
            let call = if self.stream { self.callers.stream_call(now) } else { self.callers.call(now) };
            // One program replays, through one connection, and waits for each answer.
            let (one, cell) = (matches!(call, Call::Replay(_)), cells[self.dice.below(2) as usize].clone());
            let made = traffic::make(call, cell, self.ledger.clone(), self.trace.clone());
            if one {
                made.await;
            } else {
                calls.push(actix::spawn(made));
            }
            match self.dice.below(4) {
                0 => tokio::time::sleep(Duration::from_millis(self.dice.below(30))).await,
                1 => tokio::task::yield_now().await,
                _ => {}
            }
            check::bounds(system)?;
            self.note_disk();
        }
        for call in calls {
            call.await.map_err(|e| format!("a caller ended: {e}"))?;
        }
        self.broken()
    }

    fn broken(&self) -> Result<(), String> {
        self.ledger.borrow_mut().broken.take().map_or(Ok(()), Err)
    }

    fn note_disk(&self) {
        self.disk.notes().into_iter().for_each(|line| self.note(line));
    }

    /// Waits until every actor is ready and nothing is under way.
    async fn settle(&mut self, system: &Arc<System>) -> Result<(), String> {
        let started = tokio::time::Instant::now();
        let mut quiet = 0;
        while quiet < 3 {
            if started.elapsed() > READY {
                let down: Vec<_> = system.health().into_iter().filter(|h| !h.ready).collect();
                return Err(format!("not ready after {} s: {down:?}", READY.as_secs()));
            }
            quiet = if system.ready() && self.disk.idle() { quiet + 1 } else { 0 };
            tokio::time::sleep(Duration::from_millis(7)).await;
            self.note_disk();
        }
        Ok(())
    }

    fn promises(&self, lost: u64) -> Result<(), String> {
        let ledger = self.ledger.borrow();
        let log = self.disk.durable_events();
        check::events(&log, &ledger)?;
        if self.stream {
            check::replayed(&log, &self.disk, &ledger)?;
        }
        check::predictions(&self.disk, &ledger, lost)?;
        check::outcomes(&self.disk, &ledger, self.jumps)
    }

    /// The system lives: it answers, from the right version, with features that are what their definition says.
    async fn probe(&mut self, cell: &Cell) -> Result<(), String> {
        let log = self.disk.durable_events();
        for i in 0..5u64 {
            let entities = BTreeMap::from([
                ("user".to_owned(), Some(format!("u{}", (self.step * 5 + i) % 12))),
                ("shop".to_owned(), Some(format!("s{i}"))),
            ]);
            let command = PredictCommand {
                model: MODEL.into(),
                entities,
                context: BTreeMap::from([("basket".to_owned(), Value::Float(10.0))]),
                ..PredictCommand::default()
            };
            let answer = cell.predict(&cell.generation(), command, Duration::from_secs(5)).await;
            let answer: Answer = answer.map_err(|e| format!("a well system does not answer: {e:?}"))?;
            check::features(&answer, &log)?;
            check::route(&answer, &self.models.versions(MODEL)?, self.models.ledger(MODEL)?.changes)?;
            if answer.logged {
                self.ledger.borrow_mut().answered.insert(answer.record.id, answer.record);
            }
        }
        // In asynchronous mode the log follows.
        tokio::time::sleep(Duration::from_micros(SECOND as u64)).await;
        Ok(())
    }
}
