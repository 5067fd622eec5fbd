//! The ports in memory: for tests and for `storage = "memory"`. Same rules as on disk.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;
use understudy_actors::ports::{
    Commit, EventLog, FeatureStore, JoinStore, OutcomeLog, PredictionLog, RolloutJournal, StoreError,
};
use understudy_actors::prediction_logger::JoinSnapshot;
use understudy_actors::rollout::JournalLine;
use understudy_domain::entity::EntityHash;
use understudy_domain::event::LoggedEvent;
use understudy_domain::features::EntityState;
use understudy_domain::prediction::{OutcomeRecord, PredictionId, PredictionRecord};

/// How many records a scan copies before it lets go of the lock.
const PAGE: usize = 256;

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

fn done(result: Result<(), StoreError>) -> Commit {
    let (tx, rx) = oneshot::channel();
    let _ = tx.send(result);
    rx
}

fn visit_pages<T: Clone>(
    all: &Mutex<Vec<T>>,
    mut at: usize,
    visit: &mut dyn FnMut(T) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    loop {
        let page: Vec<T> = lock(all).iter().skip(at).take(PAGE).cloned().collect();
        if page.is_empty() {
            return Ok(());
        }
        at += page.len();
        for r in page {
            if visit(r).is_break() {
                return Ok(());
            }
        }
    }
}

/// Events by position: `seq` is the index plus one.
#[derive(Default)]
pub struct MemoryEvents(Mutex<Vec<LoggedEvent>>);

impl EventLog for MemoryEvents {
    fn last_seq(&self) -> u64 {
        lock(&self.0).len() as u64
    }
    fn append(&self, events: Vec<LoggedEvent>) -> Commit {
        let mut all = lock(&self.0);
        let gap = events.iter().zip(all.len() as u64 + 1..).find(|(e, want)| e.seq != *want);
        if let Some((e, want)) = gap {
            return done(Err(super::gap(e.seq, want)));
        }
        all.extend(events);
        done(Ok(()))
    }
    fn scan(&self, from: u64, visit: &mut dyn FnMut(LoggedEvent) -> ControlFlow<()>) -> Result<(), StoreError> {
        visit_pages(&self.0, from.saturating_sub(1) as usize, visit)
    }
}

#[derive(Default)]
struct Predictions {
    by_id: BTreeMap<PredictionId, Arc<PredictionRecord>>,
    /// As they came.
    order: Vec<PredictionId>,
}

#[derive(Default)]
pub struct MemoryPredictions(Mutex<Predictions>);

impl PredictionLog for MemoryPredictions {
    fn append(&self, records: Vec<Arc<PredictionRecord>>) -> Commit {
        let mut all = lock(&self.0);
        for r in records {
            all.order.push(r.id);
            all.by_id.entry(r.id).or_insert(r);
        }
        done(Ok(()))
    }
    fn get(&self, id: PredictionId) -> Result<Option<PredictionRecord>, StoreError> {
        Ok(lock(&self.0).by_id.get(&id).map(|r| PredictionRecord::clone(r)))
    }
    fn newest(&self, model: Option<&str>, limit: usize) -> Result<Vec<PredictionRecord>, StoreError> {
        let all = lock(&self.0);
        Ok(all
            .by_id
            .values()
            .rev()
            .filter(|r| model.is_none_or(|m| m == r.model))
            .take(limit)
            .map(|r| PredictionRecord::clone(r))
            .collect())
    }
    fn scan(
        &self,
        model: Option<&str>,
        from: PredictionId,
        visit: &mut dyn FnMut(PredictionRecord) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut next = Some(from);
        while let Some(from) = next {
            let page: Vec<_> =
                lock(&self.0).by_id.range(from..).take(PAGE).map(|(_, r)| PredictionRecord::clone(r)).collect();
            next = page.last().and_then(|r| r.id.0.checked_add(1)).map(PredictionId);
            for r in page {
                if model.is_none_or(|m| m == r.model) && visit(r).is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
    fn position(&self) -> u64 {
        lock(&self.0).order.len() as u64
    }
    fn scan_after(
        &self,
        position: u64,
        visit: &mut dyn FnMut(PredictionRecord) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let all = lock(&self.0);
        let after = all.order.iter().skip(position as usize).filter_map(|id| all.by_id.get(id));
        let after: Vec<_> = after.map(|r| PredictionRecord::clone(r)).collect();
        drop(all);
        let _ = after.into_iter().try_for_each(visit);
        Ok(())
    }
}

/// Kept as bytes, as a file would.
#[derive(Default)]
pub struct MemoryJoins(Mutex<Option<Vec<u8>>>);

impl JoinStore for MemoryJoins {
    fn save(&self, snapshot: &JoinSnapshot) -> Result<(), StoreError> {
        *lock(&self.0) = Some(super::codec::encode_file(snapshot)?);
        Ok(())
    }
    fn load(&self) -> Result<Option<JoinSnapshot>, StoreError> {
        lock(&self.0).as_deref().map(|bytes| Ok(super::codec::decode_file(bytes)?)).transpose()
    }
}

#[derive(Default)]
pub struct MemoryOutcomes(Mutex<Vec<OutcomeRecord>>);

impl OutcomeLog for MemoryOutcomes {
    fn append(&self, records: Vec<OutcomeRecord>) -> Commit {
        lock(&self.0).extend(records);
        done(Ok(()))
    }
    fn position(&self) -> u64 {
        lock(&self.0).len() as u64
    }
    fn scan(&self, from: u64, visit: &mut dyn FnMut(OutcomeRecord) -> ControlFlow<()>) -> Result<(), StoreError> {
        visit_pages(&self.0, from as usize, visit)
    }
}

#[derive(Default)]
struct States {
    layout: Option<String>,
    watermarks: HashMap<usize, u64>,
    entities: HashMap<(usize, EntityHash), EntityState>,
}

#[derive(Default)]
pub struct MemoryFeatures(Mutex<States>);

impl FeatureStore for MemoryFeatures {
    fn save(&self, shard: usize, watermark: u64, entities: Vec<(EntityHash, EntityState)>) -> Result<(), StoreError> {
        let mut s = lock(&self.0);
        s.watermarks.insert(shard, watermark);
        s.entities.extend(entities.into_iter().map(|(e, state)| ((shard, e), state)));
        Ok(())
    }
    fn load(&self, shard: usize, entity: EntityHash) -> Result<Option<EntityState>, StoreError> {
        Ok(lock(&self.0).entities.get(&(shard, entity)).cloned())
    }
    fn watermark(&self, shard: usize) -> Result<u64, StoreError> {
        Ok(lock(&self.0).watermarks.get(&shard).copied().unwrap_or(0))
    }
    fn layout(&self) -> Result<Option<String>, StoreError> {
        Ok(lock(&self.0).layout.clone())
    }
    fn forget(&self, shard: usize, entities: &[EntityHash]) -> Result<(), StoreError> {
        lock(&self.0).entities.retain(|(s, e), _| *s != shard || !entities.contains(e));
        Ok(())
    }
    fn reset(&self, layout: &str) -> Result<(), StoreError> {
        *lock(&self.0) = States { layout: Some(layout.to_owned()), ..States::default() };
        Ok(())
    }
    fn beside(&self, _: &str) -> Result<Arc<dyn FeatureStore>, StoreError> {
        Ok(Arc::new(MemoryFeatures::default()))
    }
}

/// Journals of rollouts; all models' together.
#[derive(Default)]
pub struct MemoryJournals(Mutex<BTreeMap<String, Vec<JournalLine>>>);

impl RolloutJournal for MemoryJournals {
    fn list(&self, model: &str) -> Result<Vec<String>, StoreError> {
        let number = |id: &str| id.strip_prefix(model)?.strip_prefix('-')?.parse::<u64>().ok();
        let mut numbers: Vec<u64> = lock(&self.0).keys().filter_map(|id| number(id)).collect();
        numbers.sort_unstable();
        Ok(numbers.into_iter().map(|n| format!("{model}-{n}")).collect())
    }
    fn append(&self, id: &str, lines: &[JournalLine]) -> Result<(), StoreError> {
        lock(&self.0).entry(id.to_owned()).or_default().extend_from_slice(lines);
        Ok(())
    }
    fn read(&self, id: &str) -> Result<Vec<JournalLine>, StoreError> {
        Ok(lock(&self.0).get(id).cloned().unwrap_or_default())
    }
}
