//! Erased entities as all actors see them: the tombstones in force, and the logs as they are with them.
//! Everything that reads a log reads it through these, so nothing has to remember to leave somebody out.

use crate::ports::{Commit, EventLog, OutcomeLog, PredictionLog, StoreError};
use arc_swap::ArcSwap;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use understudy_domain::entity::EntityHash;
use understudy_domain::erasure::{Erased, Tombstone};
use understudy_domain::event::{LoggedEvent, Trace};
use understudy_domain::prediction::{OutcomeRecord, PredictionId, PredictionRecord};

/// A tombstone whose states may not all be dropped yet.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Pending {
    pub mark: u128,
    pub states: BTreeSet<EntityHash>,
}

/// Keeps the tombstones. When it returns, all of them are durable.
pub trait TombstoneJournal: Send + Sync {
    fn write(&self, erased: &Erased, pending: &[Pending]) -> Result<(), StoreError>;
}

/// Keeps nothing.
impl TombstoneJournal for () {
    fn write(&self, _: &Erased, _: &[Pending]) -> Result<(), StoreError> {
        Ok(())
    }
}

/// The tombstones in force.
pub struct Erasures {
    erased: ArcSwap<Erased>,
    pending: Mutex<Vec<Pending>>,
    journal: Box<dyn TombstoneJournal>,
    unfiltered: Option<Logs>,
}

/// The logs as they are on disk.
type Logs = (Arc<dyn EventLog>, Arc<dyn PredictionLog>);

impl Default for Erasures {
    fn default() -> Self {
        Erasures::new(Erased::default(), Vec::new(), Box::new(()))
    }
}

impl Erasures {
    pub fn new(erased: Erased, pending: Vec<Pending>, journal: Box<dyn TombstoneJournal>) -> Self {
        Erasures { erased: ArcSwap::from_pointee(erased), pending: Mutex::new(pending), journal, unfiltered: None }
    }

    /// Knows the logs behind the filters: to tell what is still in them.
    pub fn over(self, events: Arc<dyn EventLog>, predictions: Arc<dyn PredictionLog>) -> Self {
        Erasures { unfiltered: Some((events, predictions)), ..self }
    }

    pub fn unfiltered(&self) -> Option<Logs> {
        self.unfiltered.clone()
    }

    pub fn now(&self) -> Arc<Erased> {
        self.erased.load_full()
    }

    /// What an interrupted erasure has still to drop.
    pub fn pending(&self) -> Vec<Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes the tombstone durable, then in force. Returns every state that goes with it, also those of an earlier
    /// attempt that did not get to its end.
    pub fn begin(&self, t: Tombstone, states: &[EntityHash]) -> Result<Vec<EntityHash>, StoreError> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let mut erased = Erased::clone(&self.erased.load());
        let mut next = pending.clone();
        let mark = t.mark;
        erased.add(t);
        if !next.iter().any(|p| p.mark == mark) {
            next.push(Pending { mark, states: BTreeSet::new() });
        }
        let mut all = Vec::new();
        for p in next.iter_mut().filter(|p| p.mark == mark) {
            p.states.extend(states);
            all.extend(&p.states);
        }
        self.journal.write(&erased, &next)?;
        *pending = next;
        self.erased.store(Arc::new(erased));
        Ok(all)
    }

    /// All states of the entity are gone.
    pub fn finish(&self, mark: u128) -> Result<(), StoreError> {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let next: Vec<Pending> = pending.iter().filter(|p| p.mark != mark).cloned().collect();
        self.journal.write(&self.erased.load(), &next)?;
        *pending = next;
        Ok(())
    }
}

/// A log as it is with the tombstones.
pub struct Filtered<L: ?Sized> {
    pub log: Arc<L>,
    pub erasures: Arc<Erasures>,
}

impl EventLog for Filtered<dyn EventLog> {
    fn last_seq(&self) -> u64 {
        self.log.last_seq()
    }
    fn accepting(&self) -> Result<(), StoreError> {
        self.log.accepting()
    }
    fn append(&self, events: Vec<LoggedEvent>) -> Commit {
        self.log.append(events)
    }
    fn scan(&self, from: u64, visit: &mut dyn FnMut(LoggedEvent) -> ControlFlow<()>) -> Result<(), StoreError> {
        let erased = self.erasures.now();
        if erased.is_empty() {
            return self.log.scan(from, visit);
        }
        self.log.scan(from, &mut |mut e| {
            erased.blank(&mut e);
            visit(e)
        })
    }
    /// Hashes of what was sent, so that a repeat is known until the log is compacted.
    fn skim(&self, from: u64, until: u64, visit: &mut dyn FnMut(Trace)) -> Result<(), StoreError> {
        self.log.skim(from, until, visit)
    }
}

impl PredictionLog for Filtered<dyn PredictionLog> {
    fn accepting(&self) -> Result<(), StoreError> {
        self.log.accepting()
    }
    fn append(&self, records: Vec<Arc<PredictionRecord>>) -> Commit {
        self.log.append(records)
    }
    fn get(&self, id: PredictionId) -> Result<Option<PredictionRecord>, StoreError> {
        Ok(self.log.get(id)?.filter(|r| !self.erasures.now().hides(r)))
    }
    fn newest(&self, model: Option<&str>, limit: usize) -> Result<Vec<PredictionRecord>, StoreError> {
        let erased = self.erasures.now();
        let mut asked = limit;
        loop {
            let mut found = self.log.newest(model, asked)?;
            let all = found.len() < asked;
            found.retain(|r| !erased.hides(r));
            if all || found.len() >= limit {
                found.truncate(limit);
                return Ok(found);
            }
            asked = asked.saturating_mul(2).max(limit + 64);
        }
    }
    fn scan(
        &self,
        model: Option<&str>,
        from: PredictionId,
        visit: &mut dyn FnMut(PredictionRecord) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let erased = self.erasures.now();
        self.log.scan(model, from, &mut |r| if erased.hides(&r) { ControlFlow::Continue(()) } else { visit(r) })
    }
    fn position(&self) -> u64 {
        self.log.position()
    }
    fn scan_after(
        &self,
        position: u64,
        visit: &mut dyn FnMut(PredictionRecord) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let erased = self.erasures.now();
        self.log.scan_after(position, &mut |r| if erased.hides(&r) { ControlFlow::Continue(()) } else { visit(r) })
    }
}

impl OutcomeLog for Filtered<dyn OutcomeLog> {
    fn accepting(&self) -> Result<(), StoreError> {
        self.log.accepting()
    }
    fn append(&self, records: Vec<OutcomeRecord>) -> Commit {
        self.log.append(records)
    }
    fn position(&self) -> u64 {
        self.log.position()
    }
    fn scan(&self, from: u64, visit: &mut dyn FnMut(OutcomeRecord) -> ControlFlow<()>) -> Result<(), StoreError> {
        self.log.scan(from, &mut |o| if o.is_erased() { ControlFlow::Continue(()) } else { visit(o) })
    }
}
