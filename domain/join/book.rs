//! The joiner's state for one model.

use super::{Change, Expiry, JoinCounts, Joined, PARKED_FOR, PredictionRef};
use crate::prediction::{OutcomeStatus, PredictionId};
use crate::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What an outcome names; request ids by hash, which takes less memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Key {
    Id(PredictionId),
    Request(u128),
}

/// A label, or `None` for a void, with its revision.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Word {
    label: Option<bool>,
    revision: u32,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum State {
    Pending,
    Settled(Word),
    Expired,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Entry {
    time: Timestamp,
    score: f64,
    request: Option<u128>,
    version: u16,
    state: State,
    /// Its expiry has passed, and it is in `past`.
    past: bool,
}

#[derive(Debug)]
pub(super) struct Book {
    model: Arc<str>,
    expires_after: Span,
    max: usize,
    pub(super) counts: JoinCounts,
    /// Entries refer to a version by position.
    versions: Vec<Arc<str>>,
    entries: BTreeMap<PredictionId, Entry>,
    by_request: BTreeMap<u128, PredictionId>,
    /// Entries before their expiry, and then until they are dropped.
    living: BTreeSet<(Timestamp, PredictionId)>,
    past: BTreeSet<(Timestamp, PredictionId)>,
    parked: BTreeMap<Key, (Timestamp, Word)>,
    parked_since: BTreeSet<(Timestamp, Key)>,
}

/// A book as it is saved: what can be told from the entries is left out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Saved {
    model: Arc<str>,
    expires_after: Span,
    max: usize,
    counts: JoinCounts,
    versions: Vec<Arc<str>>,
    entries: Vec<(PredictionId, Entry)>,
    parked: Vec<(Key, Timestamp, Word)>,
}

impl From<&Book> for Saved {
    fn from(b: &Book) -> Saved {
        Saved {
            model: b.model.clone(),
            expires_after: b.expires_after,
            max: b.max,
            counts: b.counts,
            versions: b.versions.clone(),
            entries: b.entries.iter().map(|(id, e)| (*id, *e)).collect(),
            parked: b.parked.iter().map(|(key, (since, word))| (*key, *since, *word)).collect(),
        }
    }
}

impl From<Saved> for Book {
    fn from(s: Saved) -> Book {
        let mut book = Book { counts: s.counts, versions: s.versions, ..Book::new(&s.model, s.expires_after, s.max) };
        for (id, entry) in &s.entries {
            let order = if entry.past { &mut book.past } else { &mut book.living };
            order.insert((entry.time, *id));
            // Of several with one request id the newest counts; ids are in order of time.
            if let Some(r) = entry.request {
                book.by_request.insert(r, *id);
            }
        }
        book.entries = s.entries.into_iter().collect();
        for (key, since, word) in s.parked {
            book.parked.insert(key, (since, word));
            book.parked_since.insert((since, key));
        }
        book
    }
}

impl Book {
    pub(super) fn remembered(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn remembers(&self, id: PredictionId) -> bool {
        self.entries.contains_key(&id)
    }

    pub(super) fn model(&self) -> &str {
        &self.model
    }

    /// Takes over changed settings.
    pub(super) fn follow(&mut self, expires_after: Span, max: usize) {
        (self.expires_after, self.max) = (expires_after, max);
        self.keep_within_bound();
    }

    pub(super) fn new(model: &str, expires_after: Span, max: usize) -> Self {
        Book {
            model: Arc::from(model),
            expires_after,
            max,
            counts: JoinCounts::default(),
            versions: Vec::new(),
            entries: BTreeMap::new(),
            by_request: BTreeMap::new(),
            living: BTreeSet::new(),
            past: BTreeSet::new(),
            parked: BTreeMap::new(),
            parked_since: BTreeSet::new(),
        }
    }

    pub(super) fn on_prediction(&mut self, p: &PredictionRef, request: Option<u128>, now: Timestamp) -> Option<Joined> {
        if self.entries.contains_key(&p.id) {
            return None;
        }
        let version = self.version(&p.version);
        let entry = Entry { time: p.time, score: p.score, request, version, state: State::Pending, past: false };
        self.entries.insert(p.id, entry);
        self.living.insert((p.time, p.id));
        if let Some(r) = request {
            self.by_request.insert(r, p.id);
        }
        self.counts.pending += 1;
        let mut waiting: Vec<Word> = [Some(Key::Id(p.id)), request.map(Key::Request)]
            .into_iter()
            .flatten()
            .filter_map(|key| self.unpark(key, now))
            .collect();
        // Parked under both names: the later revision counts, the other one is answered by it.
        waiting.sort_by_key(|w| std::cmp::Reverse(w.revision));
        let mut joined = None;
        for word in waiting {
            joined = joined.or(self.settle(p.id, word).1);
        }
        self.keep_within_bound();
        joined
    }

    pub(super) fn on_outcome(
        &mut self,
        key: Key,
        label: Option<bool>,
        revision: u32,
        now: Timestamp,
    ) -> (OutcomeStatus, Option<Joined>) {
        let word = Word { label, revision };
        let id = match key {
            Key::Id(id) => Some(id),
            // One that is past its second term is forgotten, whether a tick has dropped it yet or not.
            Key::Request(r) => self.by_request.get(&r).copied().filter(|id| {
                let twice = |e: &Entry| e.time + self.expires_after + self.expires_after;
                self.entries.get(id).is_some_and(|e| twice(e) > now)
            }),
        };
        let time = id.and_then(|id| match self.entries.get(&id) {
            Some(e) => Some(e.time),
            // Its own id tells the time of a prediction that is forgotten.
            None => {
                let time = Timestamp(i64::try_from(id.millis()).unwrap_or(i64::MAX).saturating_mul(1000));
                (time + self.expires_after <= now).then_some(time)
            }
        });
        match (id, time) {
            (_, Some(time)) if time + self.expires_after <= now => {
                self.counts.late += 1;
                (OutcomeStatus::Expired, None)
            }
            (Some(id), Some(_)) => self.settle(id, word),
            _ => (self.park(key, word, now), None),
        }
    }

    pub(super) fn tick(&mut self, now: Timestamp, expired: &mut Vec<Expiry>) {
        while let Some((time, id)) = self.living.first().copied().filter(|(t, _)| *t + self.expires_after <= now) {
            self.living.remove(&(time, id));
            self.past.insert((time, id));
            let Some(e) = self.entries.get_mut(&id) else { continue };
            e.past = true;
            if matches!(e.state, State::Pending) {
                e.state = State::Expired;
                self.counts.pending -= 1;
                self.counts.expired += 1;
                expired.push(Expiry { model: self.model.clone(), id, time });
            }
        }
        while let Some(old) =
            self.past.first().copied().filter(|(t, _)| *t + self.expires_after + self.expires_after <= now)
        {
            self.past.remove(&old);
            self.drop_entry(old.1);
        }
        while let Some((since, key)) = self.parked_since.first().copied().filter(|(t, _)| *t + PARKED_FOR <= now) {
            self.parked_since.remove(&(since, key));
            self.parked.remove(&key);
            self.counts.parked -= 1;
            self.counts.orphaned += 1;
        }
    }

    /// Applies an outcome to a prediction on record.
    fn settle(&mut self, id: PredictionId, word: Word) -> (OutcomeStatus, Option<Joined>) {
        let c = &mut self.counts;
        let Some(e) = self.entries.get_mut(&id) else { return (OutcomeStatus::Expired, None) };
        let (status, change) = match (&e.state, word.label) {
            (State::Expired, _) => {
                c.late += 1;
                return (OutcomeStatus::Expired, None);
            }
            (State::Pending, Some(label)) => {
                c.pending -= 1;
                c.matured += 1;
                (OutcomeStatus::Matured, Change::Matured { label })
            }
            (State::Pending, None) => {
                c.pending -= 1;
                c.voided += 1;
                (OutcomeStatus::Voided, Change::Voided { was: None })
            }
            (State::Settled(old), new) if old.label == new => {
                c.duplicates += 1;
                let revision = old.revision.max(word.revision);
                e.state = State::Settled(Word { label: new, revision });
                return (OutcomeStatus::Duplicate, None);
            }
            (State::Settled(old), _) if word.revision <= old.revision => {
                c.conflicts += 1;
                return (OutcomeStatus::Conflict, None);
            }
            (State::Settled(old), Some(to)) => {
                c.amended += 1;
                (OutcomeStatus::Amended, Change::Amended { from: old.label, to })
            }
            (State::Settled(old), None) => {
                c.voided += 1;
                (OutcomeStatus::Voided, Change::Voided { was: old.label })
            }
        };
        e.state = State::Settled(word);
        let joined = Joined {
            model: self.model.clone(),
            version: self.versions[usize::from(e.version)].clone(),
            id,
            time: e.time,
            score: e.score,
            change,
        };
        (status, Some(joined))
    }

    fn park(&mut self, key: Key, word: Word, now: Timestamp) -> OutcomeStatus {
        self.unpark_if_over(key, now);
        if let Some((_, old)) = self.parked.get_mut(&key) {
            if old.label == word.label {
                old.revision = old.revision.max(word.revision);
                self.counts.duplicates += 1;
                return OutcomeStatus::Duplicate;
            }
            if word.revision <= old.revision {
                self.counts.conflicts += 1;
                return OutcomeStatus::Conflict;
            }
            *old = word;
            return OutcomeStatus::Parked;
        }
        self.parked.insert(key, (now, word));
        self.parked_since.insert((now, key));
        self.counts.parked += 1;
        while self.parked.len() > self.max
            && let Some((_, oldest)) = self.parked_since.pop_first()
        {
            self.parked.remove(&oldest);
            self.counts.parked -= 1;
            self.counts.forgotten += 1;
        }
        OutcomeStatus::Parked
    }

    fn unpark(&mut self, key: Key, now: Timestamp) -> Option<Word> {
        self.unpark_if_over(key, now);
        let (since, word) = self.parked.remove(&key)?;
        self.parked_since.remove(&(since, key));
        self.counts.parked -= 1;
        Some(word)
    }

    /// An outcome whose time is up is orphaned even if no tick came in between.
    fn unpark_if_over(&mut self, key: Key, now: Timestamp) {
        if let Some((since, _)) = self.parked.get(&key).copied()
            && since + PARKED_FOR <= now
        {
            self.parked.remove(&key);
            self.parked_since.remove(&(since, key));
            self.counts.parked -= 1;
            self.counts.orphaned += 1;
        }
    }

    fn keep_within_bound(&mut self) {
        while self.entries.len() > self.max
            && let Some((_, oldest)) = self.past.pop_first().or_else(|| self.living.pop_first())
        {
            self.drop_entry(oldest);
            self.counts.forgotten += 1;
        }
    }

    fn drop_entry(&mut self, id: PredictionId) {
        let Some(e) = self.entries.remove(&id) else { return };
        if matches!(e.state, State::Pending) {
            self.counts.pending -= 1;
        }
        if let Some(r) = e.request
            && self.by_request.get(&r) == Some(&id)
        {
            self.by_request.remove(&r);
        }
    }

    fn version(&mut self, name: &str) -> u16 {
        let known = self.versions.iter().position(|v| &**v == name);
        let i = known.unwrap_or_else(|| {
            self.versions.push(Arc::from(name));
            self.versions.len() - 1
        });
        u16::try_from(i).unwrap_or(u16::MAX)
    }
}
