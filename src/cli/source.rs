//! Where replayed lines come from: a file of events, stdin, or the project's recording.

use super::error::{CliError, Result, at_path};
use crate::tables::open_recording;
use serde::Deserialize;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use understudy_domain::time::Timestamp;

/// One event on its way to the server.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// When it was learnt: the order of the stream, and its pace.
    pub at: Timestamp,
    /// The event as JSON, without a newline.
    pub json: String,
}

pub type Lines = Box<dyn Iterator<Item = Result<Line>>>;

/// A file of events in the order they stand; `-` is stdin, `.zst` is decompressed.
pub fn file(path: &Path) -> Result<Lines> {
    let name = path.display().to_string();
    let raw: Box<dyn Read> = if name == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(File::open(path).map_err(at_path(path, "open"))?)
    };
    let plain: Box<dyn Read> = if name.ends_with(".zst") {
        Box::new(zstd::Decoder::new(raw).map_err(at_path(path, "decompress"))?)
    } else {
        raw
    };
    Ok(Box::new(parse(BufReader::with_capacity(1 << 17, plain), name)))
}

/// The recording that the project brings: its tables, or a file of events.
pub fn recording(project: &Path) -> Result<Lines> {
    if project.join("recording.toml").is_file() {
        let recording = open_recording(project)?;
        return Ok(Box::new(recording.map(|r| {
            let r = r?;
            let json = serde_json::to_string(&r.event).expect("an event of scalars always serialises");
            Ok(Line { at: r.at, json })
        })));
    }
    for name in ["events.ndjson.zst", "events.ndjson"] {
        let path = project.join(name);
        if path.is_file() {
            return file(&path);
        }
    }
    Err(CliError::new(format!("{} has no recording", project.display()))
        .hint("name a file of events with --events FILE, or describe the project's tables in recording.toml"))
}

/// Only what pacing needs; the server checks the rest.
#[derive(Deserialize)]
struct Head {
    time: Timestamp,
    at: Option<Timestamp>,
}

fn parse(reader: impl BufRead + 'static, name: String) -> impl Iterator<Item = Result<Line>> {
    reader.lines().enumerate().filter_map(move |(i, l)| {
        let at = |what: String| CliError::new(format!("{name}:{}: {what}", i + 1));
        let json = match l {
            Ok(l) if l.trim().is_empty() => return None,
            Ok(l) => l,
            Err(e) => return Some(Err(at(e.to_string()))),
        };
        Some(match serde_json::from_str::<Head>(&json) {
            Ok(Head { time, at: None }) => Ok(Line { at: time, json }),
            Ok(Head { at: Some(learnt), .. }) => without_at(&json).map(|json| Line { at: learnt, json }).map_err(|e| at(e.to_string())),
            Err(e) => Err(at(format!("not an event: {e}"))
                .hint(r#"a line is {"id": "...", "type": "...", "time": "2013-04-01T12:00:00Z", "entities": {}, "properties": {}}"#)),
        })
    })
}

/// `at` is the recording's; the server takes events.
fn without_at(json: &str) -> serde_json::Result<String> {
    let mut event: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json)?;
    event.shift_remove("at");
    serde_json::to_string(&event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_lines_are_skipped_and_wrong_ones_named() {
        let text = "{\"id\":\"a\",\"type\":\"t\",\"time\":\"2013-01-01T00:00:00Z\"}\n\n{\"id\":1}\n";
        let all: Vec<_> = parse(text.as_bytes(), "f.ndjson".into()).collect();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].as_ref().unwrap().at, "2013-01-01T00:00:00Z".parse().unwrap());
        let e = all[1].as_ref().unwrap_err();
        assert!(e.message.starts_with("f.ndjson:3: not an event"), "{e:?}");
    }

    #[test]
    fn the_time_of_arrival_paces_and_is_not_sent() {
        let text = r#"{"id":"a","type":"t","time":"2013-01-01T00:00:00Z","at":"2013-01-01T01:00:00Z"}"#;
        let line = parse(text.as_bytes(), "f".into()).next().unwrap().unwrap();
        assert_eq!(line.at, "2013-01-01T01:00:00Z".parse().unwrap());
        assert_eq!(line.json, r#"{"id":"a","type":"t","time":"2013-01-01T00:00:00Z"}"#);
    }

    #[test]
    fn compressed_files_are_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("e.ndjson.zst");
        let text = "{\"id\":\"a\",\"type\":\"t\",\"time\":\"2013-01-01T00:00:00Z\"}\n".repeat(3);
        std::fs::write(&path, zstd::encode_all(text.as_bytes(), 1).unwrap()).unwrap();
        assert_eq!(file(&path).unwrap().filter(Result::is_ok).count(), 3);
        assert!(file(&dir.path().join("none")).err().unwrap().hint.contains("path"));
    }
}
