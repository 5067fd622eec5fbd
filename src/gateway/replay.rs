//! `POST /v1/replay`: a recorded stream, line by line in its own order.

use super::call::{Call, ndjson, ok};
use super::error::Fault;
use super::event_forms;
use super::events::{RefusedAt, split};
use actix_web::HttpResponse;
use serde::Serialize;
use std::collections::BTreeMap;
use understudy_actors::api::ReplayedLine;
use understudy_domain::event::IngestOutcome;

#[derive(Debug, Default, Serialize)]
struct Summary {
    lines: usize,
    accepted: usize,
    /// Of the accepted.
    late: usize,
    duplicates: usize,
    rejected: Vec<RejectedLine>,
    predictions: usize,
    /// Predictions not served, by code.
    refused: BTreeMap<String, usize>,
}

#[derive(Debug, Serialize)]
struct RejectedLine {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    code: String,
    detail: String,
}

/// A line as `?detail=true` shows it.
#[derive(Serialize)]
#[serde(untagged)]
enum Detail {
    Line(ReplayedLine),
    Unread { ingest: IngestOutcome },
}

pub async fn replay(call: &Call) -> Result<HttpResponse, Fault> {
    call.require_json()?;
    let detail = call.query(&["detail"])?.flag("detail")?;
    let read = event_forms::lines(&call.body, call.limits().max_events)?;
    if read.is_empty() {
        return Err(Fault::bad("malformed_json", "the body is empty; expected lines of events"));
    }
    let (events, refused) = split(read);
    let cell = call.cell()?;
    if !cell.clock_is_stream() {
        let detail = "replay moves the clock: start the server with clock.source = \"stream\"";
        return Err(Fault::conflict("clock_not_stream", detail));
    }
    // Without a time limit: a replay is a batch job of its caller's size.
    let lines = cell.replay(events).await?;
    if detail { ndjson(in_place(lines, refused)) } else { Ok(ok(&summary(&lines, refused))) }
}

fn in_place(lines: Vec<ReplayedLine>, refused: Vec<RefusedAt>) -> Vec<Detail> {
    let mut out: Vec<Detail> = lines.into_iter().map(Detail::Line).collect();
    for (at, fault) in refused {
        let ingest = IngestOutcome::Rejected { code: fault.code.into_owned(), detail: fault.detail };
        out.insert(at.min(out.len()), Detail::Unread { ingest });
    }
    out
}

fn summary(lines: &[ReplayedLine], refused: Vec<RefusedAt>) -> Summary {
    let mut s = Summary { lines: lines.len() + refused.len(), ..Summary::default() };
    let unread =
        refused.into_iter().map(|(_, f)| RejectedLine { id: None, code: f.code.into_owned(), detail: f.detail });
    s.rejected.extend(unread);
    for line in lines {
        match &line.ingest {
            IngestOutcome::Accepted { late, .. } => {
                s.accepted += 1;
                s.late += usize::from(*late);
            }
            IngestOutcome::Duplicate { .. } => s.duplicates += 1,
            IngestOutcome::Conflict { seq } => s.rejected.push(RejectedLine {
                id: Some(line.id.clone()),
                code: "event_conflict".into(),
                detail: format!("other content is on record as number {seq}"),
            }),
            IngestOutcome::Rejected { code, detail } => {
                s.rejected.push(RejectedLine { id: Some(line.id.clone()), code: code.clone(), detail: detail.clone() });
            }
        }
        for p in &line.predictions {
            match &p.refused {
                Some(code) => *s.refused.entry(code.clone()).or_default() += 1,
                None => s.predictions += 1,
            }
        }
    }
    s
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_actors::api::ReplayedPrediction;

    #[test]
    fn a_summary_counts_everything_once() {
        let line = |id: &str, ingest, refused: &[Option<&str>]| ReplayedLine {
            id: id.into(),
            ingest,
            predictions: refused
                .iter()
                .map(|r| ReplayedPrediction { model: "m".into(), id: None, score: None, refused: r.map(str::to_owned) })
                .collect(),
        };
        let lines = [
            line("a", IngestOutcome::Accepted { seq: 1, late: false }, &[None]),
            line("b", IngestOutcome::Accepted { seq: 2, late: true }, &[Some("no_version"), None]),
            line("c", IngestOutcome::Duplicate { seq: 1 }, &[Some("no_version")]),
            line("d", IngestOutcome::Conflict { seq: 1 }, &[]),
        ];
        let s = summary(&lines, vec![(0, Fault::bad("malformed_json", "at line 1"))]);
        assert_eq!((s.lines, s.accepted, s.late, s.duplicates, s.rejected.len(), s.predictions), (5, 2, 1, 1, 2, 2));
        assert_eq!(s.refused["no_version"], 2);
        let detail =
            serde_json::to_value(in_place(lines.to_vec(), vec![(0, Fault::bad("malformed_json", "x"))])).unwrap();
        assert_eq!(detail[0]["ingest"]["code"], "malformed_json");
        assert_eq!(detail[1]["id"], "a");
    }
}
