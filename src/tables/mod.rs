//! Recorded data as events: tables by a project's `recording.toml`, or lines of JSON.
//! A recording is an iterator in the order in which the events were learnt.

mod column;
mod ndjson;
mod recording;
mod spec;

pub use ndjson::{Lines, open_events};
pub use recording::{Recording, open_recording, open_recording_file};
pub use spec::{DemoRollout, DemoSpec, IdSpec, Made, RecordingSpec, TableSpec, TemplateSpec, TimeSpec, WhenSpec};

use understudy_domain::event::Event;
use understudy_domain::time::Timestamp;

/// An event and the instant at which it was learnt (ingest time).
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    pub at: Timestamp,
    pub event: Event,
}

#[cfg(test)]
mod tests;
