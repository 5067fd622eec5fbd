//! What callers were told: the promises that the checkers hold the system to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use understudy_domain::event::Event;
use understudy_domain::prediction::{OutcomeRecord, PredictionId, PredictionRecord};

#[derive(Default)]
pub struct Ledger {
    /// Acknowledged events by id: the number that was told and the body that was sent.
    pub events: BTreeMap<String, (u64, Event)>,
    /// Every body ever sent under an id, acknowledged or not.
    pub sent: BTreeMap<String, Vec<Event>>,
    /// Answers that said `logged: true`.
    pub answered: BTreeMap<PredictionId, Arc<PredictionRecord>>,
    /// The answer to each request id, and to which life of the system it was given.
    pub by_request: BTreeMap<String, (u64, PredictionId)>,
    /// Answers lost in a crash before they were on disk (asynchronous mode only).
    pub excused: BTreeSet<PredictionId>,
    /// Requests of a replayed stream whose prediction was told.
    pub replayed: BTreeSet<String>,
    /// Nothing answered may be lost.
    pub sync: bool,
    /// Outcomes acknowledged as kept.
    pub outcomes: Vec<OutcomeRecord>,
    /// Lives of the system so far.
    pub life: u64,
    /// Calls by what became of them.
    pub counts: BTreeMap<&'static str, u64>,
    /// The first promise that an answer itself broke.
    pub broken: Option<String>,
}

impl Ledger {
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub fn broke(&mut self, why: String) {
        self.broken.get_or_insert(why);
    }
}
