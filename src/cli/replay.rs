//! `replay` and `events import`: a stream of lines in batches, with a tally of what became of them.

use super::args::{Pace, ReplayArgs, Speed};
use super::client::Client;
use super::error::{CliError, Result};
use super::source::{self, Line, Lines};
use super::target::Context;
use super::{output, table};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::{Duration, Instant};
use understudy_domain::time::Timestamp;

/// Shorter pauses are not worth a request of their own.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
/// Rejected lines that are kept as examples.
const EXAMPLES: usize = 5;

/// What became of the lines sent so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Tally {
    pub lines: u64,
    pub accepted: u64,
    pub late: u64,
    pub duplicates: u64,
    pub rejected: u64,
    pub predictions: u64,
    /// Refused predictions by code.
    pub refused: BTreeMap<String, u64>,
    /// The first rejected lines, in words.
    pub examples: Vec<String>,
}

/// The answer to one batch; unknown fields are left to newer programs.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BatchAnswer {
    lines: u64,
    accepted: u64,
    late: u64,
    duplicates: u64,
    rejected: Value,
    predictions: u64,
    refused: BTreeMap<String, u64>,
    results: Vec<Value>,
}

impl Tally {
    fn add(&mut self, sent: u64, answer: BatchAnswer) {
        self.lines += if answer.lines > 0 { answer.lines } else { sent };
        self.accepted += answer.accepted;
        self.late += answer.late + answer.results.iter().filter(|r| r["late"] == Value::Bool(true)).count() as u64;
        self.duplicates += answer.duplicates;
        self.predictions += answer.predictions;
        for (code, n) in answer.refused {
            *self.refused.entry(code).or_default() += n;
        }
        let bad: Vec<Value> = match answer.rejected {
            Value::Array(list) => {
                self.rejected += list.len() as u64;
                list
            }
            Value::Number(n) => {
                self.rejected += n.as_u64().unwrap_or(0);
                let refused = |r: &Value| matches!(r["status"].as_str(), Some("rejected" | "conflict"));
                answer.results.into_iter().filter(refused).collect()
            }
            _ => Vec::new(),
        };
        for r in bad.into_iter().take(EXAMPLES.saturating_sub(self.examples.len())) {
            let of = |k: &str| r.get(k).filter(|v| !v.is_null()).map(output::cell).unwrap_or_default();
            self.examples.push(format!("{} {}: {}", of("id"), of("code"), of("detail")).trim().to_string());
        }
    }

    /// An error when lines were rejected: the program's exit code tells.
    pub fn verdict(&self) -> Result {
        if self.rejected == 0 {
            return Ok(());
        }
        let mut details = self.examples.clone();
        let more = self.rejected - details.len() as u64;
        if more > 0 {
            details.push(format!("... and {} more", output::count(more)));
        }
        let message = format!("{} of {} lines were rejected", output::count(self.rejected), output::count(self.lines));
        Err(CliError::new(message).details(details).hint("all other lines were taken; mend these and send them again"))
    }

    fn rows(&self) -> Vec<Vec<String>> {
        let mut rows: Vec<Vec<String>> = [
            ("lines", self.lines),
            ("accepted", self.accepted),
            ("late", self.late),
            ("duplicates", self.duplicates),
            ("rejected", self.rejected),
            ("predictions", self.predictions),
        ]
        .into_iter()
        .map(|(what, n)| vec![what.to_string(), output::count(n)])
        .collect();
        rows.extend(self.refused.iter().map(|(code, n)| vec![format!("refused: {code}"), output::count(*n)]));
        rows
    }
}

/// Sends lines in batches to one route, at a pace.
pub struct Sender<'a> {
    client: &'a Client,
    route: &'static str,
    batch: usize,
    speed: Speed,
    body: String,
    held: usize,
    /// Where real time and event time started.
    origin: Option<(Instant, Timestamp)>,
    pub tally: Tally,
}

impl<'a> Sender<'a> {
    pub fn new(client: &'a Client, route: &'static str, pace: &Pace) -> Self {
        let batch = pace.batch as usize;
        Sender {
            client,
            route,
            batch,
            speed: pace.speed,
            body: String::new(),
            held: 0,
            origin: None,
            tally: Tally::default(),
        }
    }

    /// Takes one line; sends when the batch is full. True when something was sent.
    pub fn push(&mut self, line: &Line) -> Result<bool> {
        if let Speed::Times(factor) = self.speed {
            let (start, first) = *self.origin.get_or_insert_with(|| (Instant::now(), line.at));
            let due = start + Duration::from_secs_f64(((line.at - first).as_secs_f64() / factor).max(0.0));
            let wait = due.saturating_duration_since(Instant::now());
            if wait >= SHORTEST_PAUSE {
                // What is due before the pause must arrive before it.
                self.flush()?;
                std::thread::sleep(wait); // the recording's own pace, asked for by --speed
            }
        }
        self.body.push_str(&line.json);
        self.body.push('\n');
        self.held += 1;
        if self.held < self.batch {
            return Ok(false);
        }
        self.flush()?;
        Ok(true)
    }

    /// Sends what is held back.
    pub fn flush(&mut self) -> Result {
        if self.held == 0 {
            return Ok(());
        }
        let answer = self.client.post_bytes(self.route, "application/x-ndjson", self.body.as_bytes())?;
        let answer = serde_json::from_value(answer)
            .map_err(|e| CliError::new(format!("{} answered in an unknown shape: {e}", self.route)))?;
        self.tally.add(self.held as u64, answer);
        self.body.clear();
        self.held = 0;
        Ok(())
    }
}

/// A spinner with counts on stderr; hidden when that is no terminal.
pub fn progress(quiet: bool) -> ProgressBar {
    if quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {human_pos} lines  {per_sec}  {msg}");
    ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
}

pub fn run(ctx: &Context, args: &ReplayArgs) -> Result {
    if let Some(mode) = args.retrain {
        return super::demo::mended(ctx, mode, &args.pace);
    }
    let lines = match &args.events {
        Some(path) => source::file(path)?,
        None => source::recording(&ctx.project_dir())?,
    };
    send_all(ctx, lines, "/v1/replay", &args.pace)
}

pub fn import(ctx: &Context, file: &std::path::Path, batch: u32) -> Result {
    send_all(ctx, source::file(file)?, "/v1/events", &Pace { batch, speed: Speed::Max })
}

fn send_all(ctx: &Context, lines: Lines, route: &'static str, pace: &Pace) -> Result {
    let server = ctx.server()?;
    let mut sender = Sender::new(&server.client, route, pace);
    let bar = progress(ctx.quiet);
    let started = Instant::now();
    for line in lines {
        let line = line?;
        if sender.push(&line)? {
            bar.set_position(sender.tally.lines);
            bar.set_message(line.at.to_string());
        }
    }
    sender.flush()?;
    bar.finish_and_clear();
    let tally = sender.tally;
    let seconds = started.elapsed().as_secs_f64();
    if ctx.json {
        let mut v = serde_json::to_value(&tally).expect("counts serialise");
        v["wall_s"] = seconds.into();
        output::json(&v);
    } else {
        output::put(&table::table(&["what", "count"], &["count"], tally.rows()));
        ctx.note(&format!("{seconds:.1} s, {:.0} lines/s", tally.lines as f64 / seconds.max(1e-9)));
    }
    server.finish()?;
    tally.verdict()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_shapes_of_answers_add_up() {
        let mut t = Tally::default();
        let replay = json!({"lines": 3, "accepted": 2, "late": 1, "duplicates": 0, "predictions": 2,
            "rejected": [{"id": "x", "code": "unknown_event_type", "detail": "no `foo`"}], "refused": {"no_version": 4}});
        t.add(3, serde_json::from_value(replay).unwrap());
        let ingest = json!({"accepted": 1, "duplicates": 1, "rejected": 1, "results": [
            {"status": "accepted", "seq": 1, "late": true}, {"status": "duplicate", "seq": 1},
            {"status": "rejected", "code": "bad", "detail": "why"}]});
        t.add(3, serde_json::from_value(ingest).unwrap());
        assert_eq!((t.lines, t.accepted, t.late, t.duplicates, t.rejected, t.predictions), (6, 3, 2, 1, 2, 2));
        assert_eq!(t.examples, ["x unknown_event_type: no `foo`", "bad: why"]);
        assert_eq!(t.refused["no_version"], 4);
        let e = t.verdict().unwrap_err();
        assert_eq!(e.message, "2 of 6 lines were rejected");
        assert_eq!(e.exit, super::super::error::FAILED);
    }

    #[test]
    fn few_examples_and_the_rest_as_a_number() {
        let mut t = Tally::default();
        let bad: Vec<_> = (0..1300).map(|i| json!({"id": i.to_string(), "code": "c", "detail": "d"})).collect();
        t.add(1300, serde_json::from_value(json!({"lines": 1300, "rejected": bad})).unwrap());
        let e = t.verdict().unwrap_err();
        assert_eq!(e.details.len(), EXAMPLES + 1);
        assert_eq!(e.details[EXAMPLES], "... and 1,295 more");
    }

    #[test]
    fn nothing_rejected_is_success() {
        assert_eq!(Tally::default().verdict(), Ok(()));
    }
}
