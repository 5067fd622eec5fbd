//! Events: facts that happened to entities at a time.

use crate::entity::EntityIds;
use crate::fixed_hash;
use crate::time::Timestamp;
use crate::value::Value;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A fact. The same shape on a line of NDJSON, in a CloudEvent and in the log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// The caller's id; a second event with this id is a duplicate.
    pub id: String,
    #[serde(rename = "type")]
    pub kind: String,
    /// When it happened (event time).
    pub time: Timestamp,
    #[serde(default)]
    pub entities: EntityIds,
    #[serde(default)]
    pub properties: BTreeMap<String, Value>,
}

/// An event as the log holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoggedEvent {
    /// Position in the event log; the order of arrival, and the tie-break of equal times.
    pub seq: u64,
    /// When we learnt it, by the system's clock.
    pub ingested: Timestamp,
    /// Beyond the lateness bound: kept, never folded into features.
    pub late: bool,
    pub event: Event,
}

impl Event {
    /// Fixed hash of the id: the key of the duplicate index.
    pub fn id_hash(&self) -> u128 {
        fixed_hash::of_parts([self.id.as_bytes()])
    }

    /// Fixed hash of everything but the id: two events with one id and different fingerprints conflict.
    pub fn fingerprint(&self) -> u64 {
        let body = serde_json::to_vec(&(&self.kind, self.time, &self.entities, &self.properties))
            .expect("an event of scalars always serialises");
        fixed_hash::of_parts([&body[..]]) as u64
    }
}

/// What became of one event of an ingest call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum IngestOutcome {
    /// Durable, and folded into features unless `late`.
    Accepted { seq: u64, late: bool },
    /// This id was here before, with the same content; nothing changed.
    Duplicate { seq: u64 },
    /// This id was here before, with other content; nothing changed.
    Conflict { seq: u64 },
    /// Not accepted; nothing changed.
    Rejected { code: String, detail: String },
}
