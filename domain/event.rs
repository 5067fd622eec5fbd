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
        let mut content = Vec::with_capacity(512);
        self.content(&mut content);
        fixed_hash::of_bytes(&content)
    }

    /// Appends everything but the id as bytes: kind, time, entities, properties; texts and maps behind their length
    /// as u64, a present id behind a 1, a value behind its variant as u32, all little-endian. The event log's
    /// records hold the same bytes, so that it can tell the fingerprint without making the event.
    pub fn content(&self, out: &mut Vec<u8>) {
        let text = |out: &mut Vec<u8>, t: &str| {
            out.extend_from_slice(&(t.len() as u64).to_le_bytes());
            out.extend_from_slice(t.as_bytes());
        };
        text(out, &self.kind);
        out.extend_from_slice(&self.time.0.to_le_bytes());
        out.extend_from_slice(&(self.entities.len() as u64).to_le_bytes());
        for (key, id) in &self.entities {
            text(out, key);
            out.push(u8::from(id.is_some()));
            if let Some(id) = id {
                text(out, id);
            }
        }
        out.extend_from_slice(&(self.properties.len() as u64).to_le_bytes());
        for (name, value) in &self.properties {
            text(out, name);
            let variant = |n: u32| n.to_le_bytes();
            match value {
                Value::Null => out.extend_from_slice(&variant(0)),
                Value::Bool(b) => {
                    out.extend_from_slice(&variant(1));
                    out.push(u8::from(*b));
                }
                Value::Int(i) => {
                    out.extend_from_slice(&variant(2));
                    out.extend_from_slice(&i.to_le_bytes());
                }
                Value::Float(f) => {
                    out.extend_from_slice(&variant(3));
                    out.extend_from_slice(&f.to_le_bytes());
                }
                Value::Text(t) => {
                    out.extend_from_slice(&variant(4));
                    text(out, t);
                }
            }
        }
    }
}

/// What the duplicate index needs of a logged event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    pub seq: u64,
    pub ingested: Timestamp,
    /// `Event::id_hash`
    pub id: u128,
    /// `Event::fingerprint`
    pub fingerprint: u64,
}

impl LoggedEvent {
    pub fn trace(&self) -> Trace {
        let (id, fingerprint) = (self.event.id_hash(), self.event.fingerprint());
        Trace { seq: self.seq, ingested: self.ingested, id, fingerprint }
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
