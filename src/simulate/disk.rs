//! Storage that forgets what it did not sync, and fails when told to: the memory store behind a slow writer.
//!
//! A log writes in groups, in order, after a while; only then is anything durable. A crash keeps a prefix of what
//! was on its way. The kinds of failure are those that a real disk has; each one has its name in `FAULTS`.

use super::dice::Dice;
use crate::storage::memory::{MemoryEvents, MemoryFeatures, MemoryJoins, MemoryOutcomes, MemoryPredictions};
use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use understudy_actors::ports::*;
use understudy_domain::entity::EntityHash;
use understudy_domain::event::LoggedEvent;
use understudy_domain::features::EntityState;
use understudy_domain::prediction::{OutcomeRecord, PredictionId, PredictionRecord};

/// What may be planted on the disk.
pub const FAULTS: &[&str] = &[
    "events.write",
    "events.sync",
    "events.full",
    "events.slow",
    "events.read",
    "predictions.write",
    "predictions.sync",
    "predictions.full",
    "predictions.slow",
    "predictions.read",
    "outcomes.write",
    "outcomes.sync",
    "outcomes.full",
    "outcomes.slow",
    "outcomes.read",
    "features.save",
    "features.read",
];

type Reply = oneshot::Sender<Result<(), StoreError>>;

/// Appends on their way to one log.
struct Queue<T> {
    waiting: VecDeque<(Vec<T>, Reply)>,
    writing: bool,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Queue { waiting: VecDeque::new(), writing: false }
    }
}

struct State {
    dice: Dice,
    /// Faults to come: name and how many operations still fail.
    planted: BTreeMap<&'static str, u64>,
    fired: BTreeMap<&'static str, u64>,
    notes: Vec<String>,
}

struct Shared(Mutex<State>);

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the planted fault of this name happens now.
    fn fires(&self, name: &str) -> bool {
        let mut state = self.lock();
        let Some((name, left)) = state.planted.iter_mut().find(|(n, left)| **n == name && **left > 0) else {
            return false;
        };
        let name = *name;
        *left -= 1;
        *state.fired.entry(name).or_default() += 1;
        state.notes.push(format!("disk: {name}"));
        true
    }

    fn read(&self, name: &str) -> Result<(), StoreError> {
        if self.fires(name) { Err(StoreError::Io("planted: read error".into())) } else { Ok(()) }
    }
}

/// One log with its writer. `L` is the memory log that holds what is durable.
pub struct SlowLog<L, T> {
    name: &'static str,
    durable: L,
    queue: Mutex<Queue<T>>,
    shared: Arc<Shared>,
    put: fn(&L, Vec<T>) -> Commit,
}

impl<L, T> SlowLog<L, T>
where
    L: Send + Sync + 'static,
    T: Clone + Send + 'static,
{
    fn new(name: &'static str, durable: L, put: fn(&L, Vec<T>) -> Commit, shared: &Arc<Shared>) -> Arc<Self> {
        Arc::new(SlowLog { name, durable, queue: Mutex::default(), shared: shared.clone(), put })
    }

    fn queue(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fault(&self, kind: &str) -> bool {
        self.shared.fires(&format!("{}.{kind}", self.name))
    }

    /// Makes records durable; the memory logs answer at once.
    fn write(&self, records: Vec<T>) -> Result<(), StoreError> {
        (self.put)(&self.durable, records).try_recv().unwrap_or(Err(StoreError::Closed))
    }

    fn enqueue(self: &Arc<Self>, records: Vec<T>) -> Commit {
        let (reply, commit) = oneshot::channel();
        let mut queue = self.queue();
        queue.waiting.push_back((records, reply));
        if !std::mem::replace(&mut queue.writing, true) {
            let log = self.clone();
            actix::spawn(async move { while log.write_next().await {} });
        }
        commit
    }

    /// Writes one group: what waits when the disk gets to it.
    async fn write_next(&self) -> bool {
        let slow = self.fault("slow");
        let ms = {
            let mut state = self.shared.lock();
            if slow { state.dice.between(1_000, 8_000) } else { state.dice.below(6) }
        };
        tokio::time::sleep(Duration::from_millis(ms)).await;
        let group: Vec<_> = {
            let mut queue = self.queue();
            if queue.waiting.is_empty() {
                queue.writing = false;
                return false;
            }
            queue.waiting.drain(..).collect()
        };
        // A barrier writes nothing, so nothing of it can fail.
        let empty = group.iter().all(|(records, _)| records.is_empty());
        let failure = match () {
            () if empty => None,
            () if self.fault("write") => Some((0, StoreError::Io("planted: write error".into()))),
            () if self.fault("full") => Some((0, StoreError::DiskFull("planted: no space left".into()))),
            // The data may be there or not, up to some append.
            () if self.fault("sync") => {
                let kept = self.shared.lock().dice.below(group.len() as u64 + 1);
                Some((kept as usize, StoreError::Io("planted: sync error".into())))
            }
            () => None,
        };
        let (n, mut results) = (group.len(), Vec::new());
        for (i, (records, reply)) in group.into_iter().enumerate() {
            let result = match &failure {
                None => self.write(records),
                Some((kept, why)) => {
                    if i < *kept {
                        let _ = self.write(records);
                    }
                    Err(why.clone())
                }
            };
            results.push((result, reply));
        }
        let failed = results.iter().filter(|(r, _)| r.is_err()).count();
        self.shared.lock().notes.push(format!("disk: {} group of {n} appends, {failed} failed", self.name));
        for (result, reply) in results {
            let _ = reply.send(result);
        }
        true
    }

    /// The process dies: a prefix of what was on its way reached the disk.
    fn crash(&self) {
        let mut queue = self.queue();
        let kept = self.shared.lock().dice.below(queue.waiting.len() as u64 + 1);
        for (i, (records, _)) in queue.waiting.drain(..).enumerate() {
            if (i as u64) < kept {
                let _ = self.write(records);
            }
        }
        queue.writing = false;
    }

    /// An orderly end writes what is queued.
    fn close(&self) {
        let mut queue = self.queue();
        for (records, _) in queue.waiting.drain(..) {
            let _ = self.write(records);
        }
        queue.writing = false;
    }

    fn idle(&self) -> bool {
        !self.queue().writing
    }
}

/// The port that a log implements is on the handle, because writing needs a counted reference.
pub struct Handle<L, T>(Arc<SlowLog<L, T>>);

impl EventLog for Handle<MemoryEvents, LoggedEvent> {
    fn last_seq(&self) -> u64 {
        self.0.durable.last_seq()
    }
    fn append(&self, events: Vec<LoggedEvent>) -> Commit {
        self.0.enqueue(events)
    }
    fn scan(&self, from: u64, visit: &mut dyn FnMut(LoggedEvent) -> ControlFlow<()>) -> Result<(), StoreError> {
        self.0.shared.read("events.read")?;
        self.0.durable.scan(from, visit)
    }
}

impl PredictionLog for Handle<MemoryPredictions, Arc<PredictionRecord>> {
    fn append(&self, records: Vec<Arc<PredictionRecord>>) -> Commit {
        self.0.enqueue(records)
    }
    fn get(&self, id: PredictionId) -> Result<Option<PredictionRecord>, StoreError> {
        self.0.shared.read("predictions.read")?;
        self.0.durable.get(id)
    }
    fn newest(&self, model: Option<&str>, limit: usize) -> Result<Vec<PredictionRecord>, StoreError> {
        self.0.shared.read("predictions.read")?;
        self.0.durable.newest(model, limit)
    }
    fn scan(
        &self,
        model: Option<&str>,
        from: PredictionId,
        visit: &mut dyn FnMut(PredictionRecord) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.0.shared.read("predictions.read")?;
        self.0.durable.scan(model, from, visit)
    }
    fn position(&self) -> u64 {
        self.0.durable.position()
    }
    fn scan_after(
        &self,
        position: u64,
        visit: &mut dyn FnMut(PredictionRecord) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        self.0.shared.read("predictions.read")?;
        self.0.durable.scan_after(position, visit)
    }
}

impl OutcomeLog for Handle<MemoryOutcomes, OutcomeRecord> {
    fn append(&self, records: Vec<OutcomeRecord>) -> Commit {
        self.0.enqueue(records)
    }
    fn position(&self) -> u64 {
        self.0.durable.position()
    }
    fn scan(&self, from: u64, visit: &mut dyn FnMut(OutcomeRecord) -> ControlFlow<()>) -> Result<(), StoreError> {
        self.0.shared.read("outcomes.read")?;
        self.0.durable.scan(from, visit)
    }
}

/// Saved entity states; a save is durable when it returns.
pub struct SimFeatures {
    durable: MemoryFeatures,
    shared: Arc<Shared>,
}

impl FeatureStore for SimFeatures {
    fn save(&self, shard: usize, watermark: u64, entities: Vec<(EntityHash, EntityState)>) -> Result<(), StoreError> {
        if self.shared.fires("features.save") {
            return Err(StoreError::Io("planted: save error".into()));
        }
        self.durable.save(shard, watermark, entities)
    }
    fn load(&self, shard: usize, entity: EntityHash) -> Result<Option<EntityState>, StoreError> {
        self.shared.read("features.read")?;
        self.durable.load(shard, entity)
    }
    fn watermark(&self, shard: usize) -> Result<u64, StoreError> {
        self.shared.read("features.read")?;
        self.durable.watermark(shard)
    }
    fn layout(&self) -> Result<Option<String>, StoreError> {
        self.durable.layout()
    }
    fn forget(&self, shard: usize, entities: &[EntityHash]) -> Result<(), StoreError> {
        self.durable.forget(shard, entities)
    }
    fn reset(&self, layout: &str) -> Result<(), StoreError> {
        self.durable.reset(layout)
    }
}

/// Everything that survives a crash of the simulated process.
pub struct Disk {
    events: Arc<SlowLog<MemoryEvents, LoggedEvent>>,
    predictions: Arc<SlowLog<MemoryPredictions, Arc<PredictionRecord>>>,
    outcomes: Arc<SlowLog<MemoryOutcomes, OutcomeRecord>>,
    joins: Arc<MemoryJoins>,
    features: Arc<SimFeatures>,
    shared: Arc<Shared>,
}

impl Disk {
    pub fn new(dice: Dice) -> Disk {
        let state = State { dice, planted: BTreeMap::new(), fired: BTreeMap::new(), notes: Vec::new() };
        let shared = Arc::new(Shared(Mutex::new(state)));
        Disk {
            events: SlowLog::new("events", MemoryEvents::default(), EventLog::append, &shared),
            predictions: SlowLog::new("predictions", MemoryPredictions::default(), PredictionLog::append, &shared),
            outcomes: SlowLog::new("outcomes", MemoryOutcomes::default(), OutcomeLog::append, &shared),
            joins: Arc::default(),
            features: Arc::new(SimFeatures { durable: MemoryFeatures::default(), shared: shared.clone() }),
            shared,
        }
    }

    pub fn events(&self) -> Arc<dyn EventLog> {
        Arc::new(Handle(self.events.clone()))
    }
    pub fn predictions(&self) -> Arc<dyn PredictionLog> {
        Arc::new(Handle(self.predictions.clone()))
    }
    pub fn outcomes(&self) -> Arc<dyn OutcomeLog> {
        Arc::new(Handle(self.outcomes.clone()))
    }
    pub fn joins(&self) -> Arc<dyn JoinStore> {
        self.joins.clone()
    }
    pub fn features(&self) -> Arc<dyn FeatureStore> {
        self.features.clone()
    }

    /// The next `times` operations of this kind fail.
    pub fn plant(&self, name: &'static str, times: u64) {
        self.shared.lock().planted.insert(name, times);
    }

    /// The disk is well again; what was planted and did not happen will not.
    pub fn heal(&self) {
        self.shared.lock().planted.clear();
    }

    pub fn crash(&self) {
        self.events.crash();
        self.predictions.crash();
        self.outcomes.crash();
    }

    pub fn close(&self) {
        self.events.close();
        self.predictions.close();
        self.outcomes.close();
    }

    /// Nothing is on its way to the disk.
    pub fn idle(&self) -> bool {
        self.events.idle() && self.predictions.idle() && self.outcomes.idle()
    }

    pub fn fired(&self) -> BTreeMap<&'static str, u64> {
        self.shared.lock().fired.clone()
    }

    /// What happened since the last call.
    pub fn notes(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.lock().notes)
    }

    pub fn durable_events(&self) -> Vec<LoggedEvent> {
        let mut all = Vec::new();
        let _ = self.events.durable.scan(1, &mut |e| {
            all.push(e);
            ControlFlow::Continue(())
        });
        all
    }

    pub fn durable_predictions(&self) -> BTreeMap<PredictionId, PredictionRecord> {
        let mut all = BTreeMap::new();
        let _ = self.predictions.durable.scan(None, PredictionId(0), &mut |r| {
            all.insert(r.id, r);
            ControlFlow::Continue(())
        });
        all
    }

    pub fn durable_outcomes(&self) -> Vec<OutcomeRecord> {
        let mut all = Vec::new();
        let _ = self.outcomes.durable.scan(0, &mut |o| {
            all.push(o);
            ControlFlow::Continue(())
        });
        all
    }
}
