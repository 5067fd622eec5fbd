//! What the journal says: jobs, the champion, the last evaluations. State is the fold of the entries.

use super::super::gate::{GateKind, Verdict};
use super::super::score::Reference;
use super::super::spec::Candidate;
use super::Evaluation;
use crate::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Kept in memory; the journal has all.
const EVALUATIONS: usize = 500;
const JOBS: usize = 200;

/// The version that serves, and how good it was when it came in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Champion {
    pub version: String,
    pub since: Timestamp,
    /// Time of the newest row its weights were trained on.
    pub cut: Timestamp,
    pub reference: Option<Reference>,
    /// The job of this loop that made it.
    pub by_job: Option<u64>,
}

/// Why a job was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    Score,
    Monthly,
    Asked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    Running,
    /// Passed; waits for a person.
    Waiting,
    /// Passed; being brought in.
    Passed,
    Promoted,
    Refused,
    Failed,
}

impl JobState {
    pub fn name(self) -> &'static str {
        match self {
            JobState::Running => "running",
            JobState::Waiting => "waiting",
            JobState::Passed => "passed",
            JobState::Promoted => "promoted",
            JobState::Refused => "refused",
            JobState::Failed => "failed",
        }
    }

    pub fn is_open(self) -> bool {
        matches!(self, JobState::Running | JobState::Waiting | JobState::Passed)
    }
}

/// One candidate of a job, and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    pub candidate: Candidate,
    /// Rows it was fitted on, and the time of the newest.
    pub rows: u64,
    pub until: Timestamp,
    /// Time of the newest row behind its weights.
    pub cut: Timestamp,
    /// `None` if it could not be made, or was not judged.
    pub verdict: Option<Verdict>,
    /// In words.
    pub line: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    pub id: u64,
    pub reason: Reason,
    pub kind: GateKind,
    /// Whether challengers are judged.
    pub gate: bool,
    pub candidates: Vec<Candidate>,
    /// The version to beat.
    pub champion: String,
    /// Nothing learnt after it is used: a job that is run again sees the same data.
    pub until: Timestamp,
    /// 1, or 2 after an interruption.
    pub run: u32,
    pub state: JobState,
    pub attempts: Vec<Attempt>,
    /// Hash of the rows it was made and judged on.
    pub data: String,
    pub winner: Option<Candidate>,
    pub version: Option<String>,
    pub finished: Option<Timestamp>,
    /// Why it was refused, failed or interrupted.
    pub why: String,
}

impl Job {
    pub(super) fn new(
        id: u64,
        reason: Reason,
        kind: GateKind,
        gate: bool,
        candidates: Vec<Candidate>,
        champion: String,
        until: Timestamp,
    ) -> Job {
        Job {
            id,
            reason,
            kind,
            gate,
            candidates,
            champion,
            until,
            run: 1,
            state: JobState::Running,
            attempts: Vec::new(),
            data: String::new(),
            winner: None,
            version: None,
            finished: None,
            why: String::new(),
        }
    }

    /// The champion that its winner is, once it serves.
    pub(super) fn champion_of(&self, since: Timestamp) -> Option<Champion> {
        let attempt = self.attempts.iter().find(|a| Some(a.candidate) == self.winner)?;
        let reference = attempt.verdict.as_ref().map(|v| Reference {
            loss: v.challenger_loss,
            wrong: Some(v.challenger_wrong),
            rows: v.rows,
        });
        Some(Champion { version: self.version.clone()?, since, cut: attempt.cut, reference, by_job: Some(self.id) })
    }
}

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    /// Another version serves.
    Champion(Champion),
    Evaluated(Box<Evaluation>),
    Started(Box<Job>),
    /// It ran when the process ended, or failed; it is run once more.
    Interrupted {
        job: u64,
        at: Timestamp,
        why: String,
    },
    Judged {
        job: u64,
        at: Timestamp,
        attempts: Vec<Attempt>,
        data: String,
        winner: Option<(Candidate, String)>,
    },
    Waiting {
        job: u64,
    },
    Approved {
        job: u64,
        at: Timestamp,
    },
    Promoted {
        job: u64,
        at: Timestamp,
    },
    Refused {
        job: u64,
        at: Timestamp,
        why: String,
    },
    Failed {
        job: u64,
        at: Timestamp,
        why: String,
    },
}

#[derive(Clone, Debug, Default)]
pub struct State {
    pub(super) champion: Option<Champion>,
    pub(super) evaluations: VecDeque<Evaluation>,
    pub(super) jobs: BTreeMap<u64, Job>,
    /// Refused challengers, and failed jobs, in a row.
    pub(super) refused: u32,
    pub(super) failed: u32,
    pub(super) finished: Option<Timestamp>,
    pub(super) promoted: Option<Timestamp>,
    /// Evaluations above the threshold, newest last, since the last job started.
    pub(super) above: VecDeque<bool>,
}

impl State {
    pub(super) fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Champion(c) => {
                self.champion = Some(c.clone());
                self.above.clear();
            }
            Entry::Evaluated(e) => {
                self.above.push_back(e.above);
                self.evaluations.push_back((**e).clone());
                while self.evaluations.len() > EVALUATIONS {
                    self.evaluations.pop_front();
                    self.above.truncate(EVALUATIONS);
                }
            }
            Entry::Started(job) => {
                self.above.clear();
                self.jobs.insert(job.id, (**job).clone());
                while self.jobs.len() > JOBS {
                    self.jobs.pop_first();
                }
            }
            Entry::Interrupted { job, why, .. } => {
                self.change(*job, |j| {
                    j.run += 1;
                    j.why.clone_from(why);
                });
            }
            Entry::Judged { job, at, attempts, data, winner } => {
                self.judged(*job, *at, attempts, data, winner.as_ref())
            }
            Entry::Waiting { job } => self.change(*job, |j| j.state = JobState::Waiting),
            Entry::Approved { job, .. } => self.change(*job, |j| j.state = JobState::Passed),
            Entry::Promoted { job, at } => {
                self.change(*job, |j| (j.state, j.finished) = (JobState::Promoted, Some(*at)));
                (self.refused, self.finished, self.promoted) = (0, Some(*at), Some(*at));
            }
            Entry::Refused { job, at, why } => {
                self.change(*job, |j| {
                    (j.state, j.finished) = (JobState::Refused, Some(*at));
                    j.why.clone_from(why);
                });
                (self.refused, self.finished) = (self.refused + 1, Some(*at));
            }
            Entry::Failed { job, at, why } => {
                self.change(*job, |j| {
                    (j.state, j.finished) = (JobState::Failed, Some(*at));
                    j.why.clone_from(why);
                });
                (self.failed, self.finished) = (self.failed + 1, Some(*at));
            }
        }
    }

    fn judged(
        &mut self,
        job: u64,
        at: Timestamp,
        attempts: &[Attempt],
        data: &str,
        winner: Option<&(Candidate, String)>,
    ) {
        self.failed = 0;
        if winner.is_none() {
            (self.refused, self.finished) = (self.refused + 1, Some(at));
        }
        self.change(job, |j| {
            j.attempts = attempts.to_vec();
            data.clone_into(&mut j.data);
            j.why.clear();
            match winner {
                Some((candidate, version)) => {
                    (j.winner, j.version) = (Some(*candidate), Some(version.clone()));
                    j.state = JobState::Passed;
                }
                None => {
                    (j.state, j.finished) = (JobState::Refused, Some(at));
                    j.why = "no candidate passed".into();
                }
            }
        });
    }

    fn change(&mut self, job: u64, change: impl FnOnce(&mut Job)) {
        if let Some(job) = self.jobs.get_mut(&job) {
            change(job);
        }
    }

    /// Jobs started within `span` before `now`.
    pub(super) fn started_within(&self, now: Timestamp, span: Span) -> u32 {
        self.jobs.values().filter(|j| j.until > now - span).count() as u32
    }
}
