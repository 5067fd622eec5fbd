//! `POST /v1/events`: one event or many, in any of the forms of [`super::event_forms`].

use super::call::{Call, json};
use super::error::Fault;
use super::event_forms::{self, Read};
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use serde::Serialize;
use understudy_domain::event::{Event, IngestOutcome};

pub async fn ingest(call: &Call) -> Result<HttpResponse, Fault> {
    call.require_json()?;
    call.query(&[])?;
    match event_forms::read(call)? {
        Read::One(event) => {
            let results = call.within(call.cell()?.ingest(vec![event])).await?;
            single(results.into_iter().next().ok_or_else(|| Fault::internal("no result for the event"))?)
        }
        Read::Many(read) => {
            let (events, refused) = split(read);
            let results = match events.is_empty() {
                true => Vec::new(),
                false => call.within(call.cell()?.ingest(events)).await?,
            };
            let report = Report::new(merge(results, refused));
            let status = if report.accepted > 0 { StatusCode::ACCEPTED } else { StatusCode::OK };
            Ok(json(status, &report))
        }
    }
}

/// A refused event and its place among the others.
pub type RefusedAt = (usize, Fault);

/// Good events in order, and the bad ones with their places.
pub fn split(read: Vec<Result<Event, Fault>>) -> (Vec<Event>, Vec<RefusedAt>) {
    let (mut good, mut bad) = (Vec::with_capacity(read.len()), Vec::new());
    for (at, event) in read.into_iter().enumerate() {
        match event {
            Ok(event) => good.push(event),
            Err(fault) => bad.push((at, fault)),
        }
    }
    (good, bad)
}

/// Puts results back into the places that their events had.
fn merge(results: Vec<IngestOutcome>, refused: Vec<RefusedAt>) -> Vec<IngestOutcome> {
    let mut out = results;
    for (at, fault) in refused {
        let rejected = IngestOutcome::Rejected { code: fault.code.into_owned(), detail: fault.detail };
        out.insert(at.min(out.len()), rejected);
    }
    out
}

fn single(outcome: IngestOutcome) -> Result<HttpResponse, Fault> {
    let status = match &outcome {
        IngestOutcome::Accepted { .. } => StatusCode::ACCEPTED,
        IngestOutcome::Duplicate { .. } => StatusCode::OK,
        IngestOutcome::Conflict { seq } => {
            let detail = format!("an event with this id and other content is on record as number {seq}");
            return Err(Fault::conflict("event_conflict", detail));
        }
        IngestOutcome::Rejected { code, detail } => return Err(Fault::unprocessable(code.clone(), detail.clone())),
    };
    Ok(json(status, &Report::new(vec![outcome])))
}

#[derive(Debug, Serialize)]
struct Report {
    results: Vec<IngestOutcome>,
    accepted: usize,
    duplicates: usize,
    conflicts: usize,
    rejected: usize,
}

impl Report {
    fn new(results: Vec<IngestOutcome>) -> Self {
        let count = |is: fn(&IngestOutcome) -> bool| results.iter().filter(|r| is(r)).count();
        let accepted = count(|r| matches!(r, IngestOutcome::Accepted { .. }));
        let duplicates = count(|r| matches!(r, IngestOutcome::Duplicate { .. }));
        let conflicts = count(|r| matches!(r, IngestOutcome::Conflict { .. }));
        let rejected = count(|r| matches!(r, IngestOutcome::Rejected { .. }));
        Report { results, accepted, duplicates, conflicts, rejected }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_lines_keep_their_places() {
        let event = |id: &str| {
            Ok(event_forms::own(format!(r#"{{"id":"{id}","type":"t","time":"2020-01-01T00:00:00Z"}}"#).as_bytes())
                .unwrap())
        };
        let bad = |d: &str| Err(Fault::bad("malformed_json", d));
        let (events, refused) = split(vec![bad("0"), event("1"), event("2"), bad("3"), bad("4"), event("5")]);
        assert_eq!(events.iter().map(|e| &*e.id).collect::<Vec<_>>(), ["1", "2", "5"]);
        let accepted = (1..=3).map(|seq| IngestOutcome::Accepted { seq, late: false }).collect();
        let report = Report::new(merge(accepted, refused));
        assert_eq!((report.accepted, report.rejected), (3, 3));
        let shape: String = report
            .results
            .iter()
            .map(|r| if matches!(r, IngestOutcome::Accepted { .. }) { 'a' } else { 'r' })
            .collect();
        assert_eq!(shape, "raarra");
    }

    #[test]
    fn statuses_of_a_single_event() {
        assert_eq!(single(IngestOutcome::Accepted { seq: 1, late: true }).unwrap().status(), 202);
        assert_eq!(single(IngestOutcome::Duplicate { seq: 1 }).unwrap().status(), 200);
        assert_eq!(single(IngestOutcome::Conflict { seq: 1 }).unwrap_err().status, 409);
        let rejected = IngestOutcome::Rejected { code: "unknown_event_type".into(), detail: "x".into() };
        assert_eq!(single(rejected).unwrap_err().status, 422);
    }
}
