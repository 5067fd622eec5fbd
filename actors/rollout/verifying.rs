//! Everything again: verdicts from the journal, counts from the logs.

use super::JournalLine;
use super::recovery::{Logged, apart, arm_name, counting, logged};
use crate::api::Refusal;
use crate::deps::Deps;
use crate::generation::Generation;
use crate::prediction_logger::unavailable;
use serde::Serialize;
use understudy_domain::rollout::{Arm, ArmCounts, Input, JournalEntry, Rollout, SegmentCounts, Start, Tally};
use understudy_domain::time::Timestamp;

/// What a recomputation found. `differences` is empty if everything is as it was recorded.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verification {
    pub id: String,
    pub entries: u64,
    /// Evaluations whose verdict, evidence and reason were computed again.
    pub verdicts: u64,
    /// Evaluations whose counts were added up again from the prediction and outcome logs.
    pub recounted: u64,
    /// Answers in the logs that were counted.
    pub answers: u64,
    pub differences: Vec<String>,
    pub same: bool,
}

/// Differences told; there may be many more.
const MAX_DIFFERENCES: usize = 20;
/// While the wall clock is the clock, an answer in flight at an evaluation is in the log and not in its counts; only the
/// last counts are compared, and may differ by so much.
const LIVE_SLACK: u64 = 64;

/// Blocking.
pub fn verify(deps: &Deps, generation: &Generation, id: &str, lines: &[JournalLine]) -> Result<Verification, Refusal> {
    let read = apart(lines);
    let mut v = Verification { id: id.to_owned(), entries: read.entries.len() as u64, ..Verification::default() };
    v.verdicts = read.entries.iter().filter(|e| e.decision.is_some()).count() as u64;
    if let Err(d) = Rollout::replay(&read.entries) {
        v.differences.push(format!("entry {}: {}", d.seq, d.message));
    }
    let start = read.entries.first().and_then(|e| e.start.clone());
    if let (Some(start), Some(since)) = (start, read.since()) {
        let served = generation.model(&start.model)?;
        let logs = logged(deps, &start.model, since).map_err(unavailable)?;
        let tally = Tally::new(&start, counting(deps, served, &start));
        let entries: Vec<&JournalEntry> = read.entries.iter().filter(|e| e.at >= since).collect();
        let mut recount = Recount {
            tally,
            logs,
            failed: read.failed.iter().filter(|f| f.at >= since).cloned().collect(),
            at: [0; 3],
        };
        recount.compare(&start, &entries, deps.clock.is_stream(), &mut v);
    }
    v.differences.truncate(MAX_DIFFERENCES);
    v.same = v.differences.is_empty();
    Ok(v)
}

struct Recount {
    tally: Tally,
    logs: Logged,
    failed: Vec<understudy_domain::rollout::FailedAnswer>,
    /// How far records, failures and outcomes are counted.
    at: [usize; 3],
}

impl Recount {
    /// Counts what happened before `until`, in order of the requests.
    fn advance(&mut self, until: Timestamp) {
        loop {
            let record = self.logs.records.get(self.at[0]).filter(|r| r.time < until);
            let failed = self.failed.get(self.at[1]).filter(|f| f.at < until);
            match (record, failed) {
                (Some(r), f) if f.is_none_or(|f| r.id <= f.id) => {
                    self.tally.on_recovered(r, false);
                    self.at[0] += 1;
                }
                (_, Some(f)) => {
                    self.tally.begin(f.segment);
                    self.tally.on_failed(f);
                    self.at[1] += 1;
                }
                _ => break,
            }
        }
        while let Some((id, label, at)) = self.logs.outcomes.get(self.at[2]).filter(|o| o.2 < until) {
            self.tally.on_outcome(*id, *label, *at);
            self.at[2] += 1;
        }
        self.tally.mature(until);
    }

    fn compare(&mut self, start: &Start, entries: &[&JournalEntry], exact: bool, v: &mut Verification) {
        self.logs.outcomes.sort_by_key(|o| o.2);
        let ticks: Vec<_> = entries
            .iter()
            .filter_map(|e| match &e.input {
                Some(Input::Tick(tick)) => Some((e.seq, e.at, tick)),
                _ => None,
            })
            .collect();
        let mut recorded: Vec<SegmentCounts> = Vec::new();
        for (i, (seq, at, tick)) in ticks.iter().enumerate() {
            for s in &tick.segments {
                recorded.retain(|r| r.segment != s.segment);
                recorded.push(s.clone());
            }
            if !exact && i + 1 < ticks.len() {
                continue;
            }
            self.advance(*at);
            for s in &recorded {
                // One that nobody was answered in yet.
                if self.tally.segments().iter().all(|t| t.segment != s.segment) {
                    self.tally.begin(s.segment);
                }
            }
            v.recounted += 1;
            for s in &recorded {
                let again = self.tally.segments().iter().find(|t| t.segment == s.segment);
                let again = again.cloned().unwrap_or_default();
                for (arm, was, is) in
                    [(Arm::Baseline, &s.baseline, &again.baseline), (Arm::Canary, &s.canary, &again.canary)]
                {
                    if !(was == is || !exact && near(was, is)) {
                        let arm = arm_name(arm);
                        v.differences.push(format!(
                            "entry {seq}: the {arm} of segment {} was recorded as {was:?}, the logs give {is:?}",
                            s.segment
                        ));
                    }
                }
            }
        }
        v.answers = self.tally.segments().iter().map(|s| s.baseline.answers + s.canary.answers).sum();
        let _ = start;
    }
}

fn near(a: &ArmCounts, b: &ArmCounts) -> bool {
    let near = |x: u64, y: u64| x.abs_diff(y) <= LIVE_SLACK.max(x / 100);
    near(a.answers, b.answers)
        && near(a.entities, b.entities)
        && near(a.bad, b.bad)
        && a.outcomes.iter().zip(&b.outcomes).all(|(x, y)| near(x.matured, y.matured) && near(x.events, y.events))
}
