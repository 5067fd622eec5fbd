//! Events as lines of JSON (`.ndjson`, `.jsonl`, each also with `.zst`), in file order.

use super::Recorded;
use super::column::in_file;
use super::recording::{open_maybe_zstd, unreadable};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use understudy_domain::entity::EntityIds;
use understudy_domain::event::Event;
use understudy_domain::problem::Problem;
use understudy_domain::time::Timestamp;
use understudy_domain::value::Value;

/// Longest line, in bytes: a guard against files that are not line by line.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// An event's own shape and the instant it was learnt.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    time: Timestamp,
    #[serde(default)]
    entities: EntityIds,
    #[serde(default)]
    properties: BTreeMap<String, Value>,
    at: Option<Timestamp>,
}

/// The events of a file of JSON lines. Ends after the first error.
pub struct Lines {
    file: String,
    reader: Option<BufReader<Box<dyn Read + Send>>>,
    number: usize,
    line: Vec<u8>,
}

/// Opens a file of events, one JSON object a line; `at` on a line is its ingest time (its `time` if not said).
pub fn open_events(path: &Path) -> Result<Lines, Problem> {
    let file = path.display().to_string();
    let name = file.strip_suffix(".zst").unwrap_or(&file);
    if !name.ends_with(".ndjson") && !name.ends_with(".jsonl") {
        let hint = "name it .ndjson or .jsonl (optionally .zst); tables need a recording.toml";
        return Err(in_file(&file, 0, "not a file of JSON lines by its name", hint));
    }
    let reader = BufReader::with_capacity(1 << 16, open_maybe_zstd(path)?);
    Ok(Lines { file, reader: Some(reader), number: 0, line: Vec::new() })
}

impl Lines {
    fn read(&mut self) -> Result<Option<Recorded>, Problem> {
        let Some(reader) = &mut self.reader else { return Ok(None) };
        loop {
            self.line.clear();
            let n = reader
                .by_ref()
                .take(MAX_LINE_BYTES + 1)
                .read_until(b'\n', &mut self.line)
                .map_err(|e| unreadable(Path::new(&self.file), e))?;
            if n == 0 {
                return Ok(None);
            }
            self.number += 1;
            if n as u64 > MAX_LINE_BYTES {
                return Err(in_file(
                    &self.file,
                    self.number,
                    "the line is longer than 1 MiB",
                    "one JSON object a line",
                ));
            }
            if self.line.trim_ascii().is_empty() {
                continue;
            }
            let l: Line = serde_json::from_slice(&self.line).map_err(|e| {
                let hint = r#"a line is {"id": …, "type": …, "time": …, "entities": {…}, "properties": {…}}"#;
                in_file(&self.file, self.number, format!("not an event: {e}"), hint)
            })?;
            let event = Event { id: l.id, kind: l.kind, time: l.time, entities: l.entities, properties: l.properties };
            return Ok(Some(Recorded { at: l.at.unwrap_or(event.time), event }));
        }
    }
}

impl Iterator for Lines {
    type Item = Result<Recorded, Problem>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.read().transpose();
        if !matches!(next, Some(Ok(_))) {
            self.reader = None;
        }
        next
    }
}
