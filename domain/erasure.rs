//! Tombstones of erased entities: which events and predictions they reach, and what is left of those.
//!
//! A tombstone reaches every event up to its sequence number and every prediction up to its time that names the entity.
//! It holds a salted hash instead of the id. What comes later is a new entity's.
//!
//! What is left of an event: its place in the log, type, time, and the ids of the *other* entities it names, with the
//! properties their features are folded from. So it goes on counting for those: their aggregates say nothing about who
//! is gone, and features made from the log again equal those in memory. Its own id and each text property that holds the
//! erased id are blanked; an event that names nobody else loses all properties. It gives no training row and no label.
//! Of a prediction nothing is left: its vector is about the one erased, whoever else is named.

use crate::entity::{EntityHash, EntityIds};
use crate::event::{Event, LoggedEvent};
use crate::features::Plan;
use crate::fixed_hash;
use crate::prediction::{OutcomeRecord, OutcomeTarget, PredictionRecord};
use crate::time::Timestamp;
use crate::value::Value;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// Begins the id of an event that was blanked.
const ERASED: &str = "erased:";
/// Shorter ids than this may stand in a longer text by chance; they are looked for as the whole text only.
const TELLING: usize = 4;

/// One erased entity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tombstone {
    /// Type of the entity.
    pub entity: String,
    /// The keys that name one.
    pub keys: Vec<String>,
    /// [`Erased::mark`] of its ids.
    pub mark: u128,
    /// Events up to here are reached.
    pub seq: u64,
    /// Predictions for requests up to this event time are reached.
    pub time: Timestamp,
}

/// All tombstones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    salt: u128,
    by_keys: BTreeMap<Vec<String>, HashMap<u128, Tombstone>>,
}

/// What must be dropped with an entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    pub keys: Vec<String>,
    /// Indices of the entity types whose states go: its own, and those that are named by its keys and others (a
    /// passenger on a route is the passenger's too).
    pub types: Vec<usize>,
}

/// Why an entity of a type cannot be erased.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoReach {
    UnknownType,
    /// It shares some of its keys with this type: blanking them would take events from entities nobody asked to erase.
    SharedKeys {
        with: String,
    },
}

impl Reach {
    /// # Errors
    /// No such type, or one whose ids are partly those of another type.
    pub fn of(plan: &Plan, entity: &str) -> Result<Reach, NoReach> {
        let names: Vec<&str> = plan.entity_types().collect();
        let own = names.iter().position(|n| *n == entity).ok_or(NoReach::UnknownType)?;
        let keys = plan.entity_keys(own).to_vec();
        let mut types = Vec::new();
        for (i, name) in names.iter().enumerate() {
            let theirs = plan.entity_keys(i);
            if keys.iter().all(|k| theirs.contains(k)) {
                types.push(i);
            } else if keys.iter().any(|k| theirs.contains(k)) {
                return Err(NoReach::SharedKeys { with: (*name).to_owned() });
            }
        }
        Ok(Reach { keys, types })
    }

    /// The states that an event of these ids was folded into and that go with the entity.
    pub fn states(&self, plan: &Plan, ids: &EntityIds) -> Vec<EntityHash> {
        let hashes = plan.entity_hashes(ids);
        self.types.iter().filter_map(|t| hashes[*t]).collect()
    }
}

impl Erased {
    /// `salt` is drawn once per store and kept with the tombstones.
    pub fn new(salt: u128, tombstones: impl IntoIterator<Item = Tombstone>) -> Self {
        let mut all = Erased { salt, by_keys: BTreeMap::new() };
        tombstones.into_iter().for_each(|t| all.add(t));
        all
    }

    pub fn salt(&self) -> u128 {
        self.salt
    }

    pub fn is_empty(&self) -> bool {
        self.by_keys.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Tombstone> {
        self.by_keys.values().flat_map(HashMap::values)
    }

    /// Salted hash of keys and ids, in the order of the keys: stands for the entity where its id may not.
    pub fn mark(&self, keys: &[String], ids: &[&str]) -> u128 {
        let salt = self.salt.to_le_bytes();
        let texts = keys.iter().map(String::as_bytes).chain(ids.iter().map(|id| id.as_bytes()));
        fixed_hash::of_parts(std::iter::once(&salt[..]).chain(texts))
    }

    /// A second tombstone of an entity reaches what came since the first, too.
    pub fn add(&mut self, t: Tombstone) {
        let of_keys = self.by_keys.entry(t.keys.clone()).or_default();
        match of_keys.get_mut(&t.mark) {
            Some(before) => {
                before.seq = before.seq.max(t.seq);
                before.time = before.time.max(t.time);
            }
            None => {
                of_keys.insert(t.mark, t);
            }
        }
    }

    /// The tombstones of what these ids name.
    fn named<'a>(&'a self, ids: &'a EntityIds) -> impl Iterator<Item = &'a Tombstone> {
        self.by_keys.iter().filter_map(|(keys, marks)| {
            let parts: Option<Vec<&str>> = keys.iter().map(|k| ids.get(k)?.as_deref()).collect();
            marks.get(&self.mark(keys, &parts?))
        })
    }

    /// Whether the event names somebody erased after it.
    pub fn reaches(&self, e: &LoggedEvent) -> bool {
        self.named(&e.event.entities).any(|t| e.seq <= t.seq)
    }

    /// Takes from the event what a tombstone reaches; whether there was anything.
    pub fn blank(&self, e: &mut LoggedEvent) -> bool {
        let seq = e.seq;
        let named = self.named(&e.event.entities).filter(|t| seq <= t.seq);
        let keys: Vec<String> = named.flat_map(|t| &t.keys).cloned().collect();
        if keys.is_empty() {
            return false;
        }
        let event = &mut e.event;
        let mut ids = Vec::new();
        for key in keys {
            ids.extend(event.entities.get_mut(&key).and_then(Option::take));
        }
        if !event.is_erased() {
            let salt = self.salt.to_le_bytes();
            event.id = format!("{ERASED}{:032x}", fixed_hash::of_parts([&salt[..], event.id.as_bytes()]));
        }
        if event.entities.values().all(Option::is_none) {
            event.properties.clear();
        }
        for value in event.properties.values_mut() {
            let tells = |id: &String| matches!(value, Value::Text(t) if holds(t, id));
            if ids.iter().any(tells) {
                *value = Value::Null;
            }
        }
        true
    }

    /// Whether nobody may see the prediction any more.
    pub fn hides(&self, p: &PredictionRecord) -> bool {
        p.is_erased() || self.named(&p.entities).any(|t| p.time <= t.time)
    }
}

/// Whether a text tells the id.
fn holds(text: &str, id: &str) -> bool {
    if id.len() < TELLING { text == id } else { text.contains(id) }
}

impl Event {
    /// Blanked: it counts for who is left in it, and stands for no request.
    pub fn is_erased(&self) -> bool {
        self.id.starts_with(ERASED)
    }
}

impl PredictionRecord {
    /// A record that only keeps the place of one that was erased.
    pub fn is_erased(&self) -> bool {
        self.version.is_empty()
    }

    /// Leaves id, model and time: what finds the record's block.
    pub fn erase(&mut self) {
        let (id, model, time) = (self.id, std::mem::take(&mut self.model), self.time);
        *self = PredictionRecord {
            id,
            model,
            time,
            version: String::new(),
            feature_set: String::new(),
            epoch: 0,
            placement: Default::default(),
            request_id: None,
            entities: EntityIds::new(),
            context: BTreeMap::new(),
            vector: Vec::new(),
            ages: Vec::new(),
            score: 0.0,
            label: String::new(),
            confidence: 0.0,
            verdict: Default::default(),
            findings: Vec::new(),
            timing: Default::default(),
        };
    }
}

impl OutcomeRecord {
    /// A record that only keeps the place of one that was erased.
    pub fn is_erased(&self) -> bool {
        self.model.is_empty()
    }

    /// Leaves its time.
    pub fn erase(&mut self) {
        let target = OutcomeTarget::RequestId(String::new());
        *self = OutcomeRecord { model: String::new(), target, label: None, time: self.time, revision: 0 };
    }
}

#[cfg(test)]
mod tests;
