//! The state machine of one model's loop. `on` takes what happened and gives what to journal and what to do; it has
//! already applied the entries to itself. State is the fold of the journal, so a restart reads it back.

mod evaluate;
mod state;

pub use evaluate::{Decision, Evaluation, Evidence, Known, evaluate};
pub use state::{Attempt, Champion, Entry, Job, JobState, Reason};

use super::spec::{Candidate, Mode, Promotion, RetrainingSpec};
use crate::time::Timestamp;
use state::State;
use std::collections::VecDeque;

/// Times a job is run at most: once, and once more after an interruption or a failure.
const ATTEMPTS: u32 = 2;

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// An evaluation is due.
    Due(Box<Evidence>),
    /// A person wants a job now, whatever the score says; these candidates, or those of the settings.
    Asked {
        candidates: Vec<Candidate>,
        champion: Known,
    },
    /// The trainer is done with a job: each candidate with its verdict, and the version of the one that passed.
    Judged {
        job: u64,
        attempts: Vec<Attempt>,
        data: String,
        winner: Option<(Candidate, String)>,
    },
    /// The job could not be done.
    Failed {
        job: u64,
        why: String,
    },
    /// A person's word on a challenger that waits.
    Approved {
        job: u64,
    },
    Declined {
        job: u64,
    },
    /// The challenger serves everybody.
    Promoted {
        job: u64,
    },
    /// It could not be brought in, or its rollout refused it.
    NotPromoted {
        job: u64,
        why: String,
    },
    /// The process was started; whatever ran does not run any more.
    Restarted,
}

/// What to do once the entries are durable.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make the job's candidates, judge them, register the one that passed.
    Train(Job),
    /// Bring a registered version in.
    Promote { job: u64, version: String, how: Promotion },
    /// Something a person has to see.
    Alert(Alarm),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Alarm {
    /// A version promoted a moment ago is asked to be replaced again: the cause is upstream.
    Loop(String),
    /// Several jobs failed in a row; no more starts by itself.
    Circuit(String),
    /// A challenger passed and waits for a person.
    Waiting(String),
}

#[derive(Clone, Debug)]
pub struct Machine {
    spec: RetrainingSpec,
    state: State,
}

impl Machine {
    /// `journal` is what earlier calls asked to record, in order.
    pub fn new<'e>(spec: RetrainingSpec, journal: impl IntoIterator<Item = &'e Entry>) -> Machine {
        let mut state = State::default();
        journal.into_iter().for_each(|e| state.apply(e));
        Machine { spec, state }
    }

    pub fn spec(&self) -> &RetrainingSpec {
        &self.spec
    }

    /// New settings from here on; what was done stays.
    pub fn follow(&mut self, spec: RetrainingSpec) {
        self.spec = spec;
    }

    /// The next evaluation, given the time now: at whole multiples of `every`. A model that was never evaluated
    /// begins with the next one.
    pub fn due(&self, now: Timestamp) -> Timestamp {
        let from = self.state.evaluations.back().map_or(now, |e| e.at);
        from.floor(self.spec.every) + self.spec.every
    }

    pub fn jobs(&self) -> impl DoubleEndedIterator<Item = &Job> {
        self.state.jobs.values()
    }

    pub fn job(&self, id: u64) -> Option<&Job> {
        self.state.jobs.get(&id)
    }

    pub fn champion(&self) -> Option<&Champion> {
        self.state.champion.as_ref()
    }

    /// The last evaluations, oldest first.
    pub fn evaluations(&self) -> &VecDeque<Evaluation> {
        &self.state.evaluations
    }

    /// Why no job may be asked for now.
    pub fn busy(&self) -> Option<String> {
        let job = self.state.jobs.values().rev().find(|j| j.state.is_open())?;
        Some(format!("job {} is {}", job.id, job.state.name()))
    }

    pub fn on(&mut self, event: Event, now: Timestamp) -> (Vec<Entry>, Vec<Action>) {
        let mut step = Step { machine: self, now, entries: Vec::new(), actions: Vec::new() };
        match event {
            Event::Due(evidence) => step.due(&evidence),
            Event::Asked { candidates, champion } => step.asked(candidates, &champion),
            Event::Judged { job, attempts, data, winner } => step.judged(job, attempts, data, winner),
            Event::Failed { job, why } => step.failed(job, why),
            Event::Approved { job } => step.approved(job),
            Event::Declined { job } => step.refused(job, "declined by a person".into()),
            Event::Promoted { job } => step.promoted(job),
            Event::NotPromoted { job, why } => step.refused(job, why),
            Event::Restarted => step.restarted(),
        }
        (step.entries, step.actions)
    }
}

/// One call of `on`: what it records and asks for.
struct Step<'m> {
    machine: &'m mut Machine,
    now: Timestamp,
    entries: Vec<Entry>,
    actions: Vec<Action>,
}

impl Step<'_> {
    fn record(&mut self, entry: Entry) {
        self.machine.state.apply(&entry);
        self.entries.push(entry);
    }

    fn know(&mut self, known: &Known) {
        let state = &self.machine.state;
        if state.champion.as_ref().is_none_or(|c| c.version != known.version) {
            let champion = Champion {
                version: known.version.clone(),
                since: known.since,
                cut: known.cut,
                reference: known.reference,
                by_job: None,
            };
            self.record(Entry::Champion(champion));
        }
    }

    fn due(&mut self, evidence: &Evidence) {
        self.settle_rollout(evidence);
        self.know(&evidence.known);
        let spec = &self.machine.spec;
        let evaluation = evaluate(spec, &self.machine.state, evidence, self.now);
        let decision = evaluation.decision.clone();
        self.record(Entry::Evaluated(Box::new(evaluation)));
        match decision {
            Decision::Start { reason, kind } => self.start(reason, kind, self.machine.spec.candidates.clone()),
            Decision::Loop => self.actions.push(Action::Alert(Alarm::Loop(format!(
                "{} came in at {} and is asked to be replaced again; look for the cause in its data",
                evidence.known.version,
                self.machine.state.champion.as_ref().map_or(self.now, |c| c.since)
            )))),
            _ => {}
        }
    }

    /// A challenger in its rollout is in when it serves everybody, and refused when the rollout is over without that.
    fn settle_rollout(&mut self, evidence: &Evidence) {
        let job = self.machine.state.jobs.values().rev().find(|j| j.state == JobState::Passed).cloned();
        let Some((job, version)) = job.and_then(|j| j.version.clone().map(|v| (j.id, v))) else { return };
        if evidence.known.version == version {
            self.promoted(job);
        } else if evidence.rollout.is_none() && self.machine.spec.promotion == Promotion::Rollout {
            self.refused(job, "its rollout ended without promoting it".into());
        }
    }

    fn start(&mut self, reason: Reason, kind: super::GateKind, candidates: Vec<Candidate>) {
        let state = &self.machine.state;
        let Some(champion) = &state.champion else { return };
        let id = state.jobs.last_key_value().map_or(1, |(id, _)| id + 1);
        let gate = self.machine.spec.gate;
        let job = Job::new(id, reason, kind, gate, candidates, champion.version.clone(), self.now);
        self.record(Entry::Started(Box::new(job.clone())));
        self.actions.push(Action::Train(job));
    }

    fn asked(&mut self, candidates: Vec<Candidate>, champion: &Known) {
        if self.machine.busy().is_some() {
            return;
        }
        self.know(champion);
        let candidates = if candidates.is_empty() { self.machine.spec.candidates.clone() } else { candidates };
        self.start(Reason::Asked, super::GateKind::Improve, candidates);
    }

    fn judged(&mut self, id: u64, attempts: Vec<Attempt>, data: String, winner: Option<(Candidate, String)>) {
        if self.machine.job(id).is_none_or(|j| j.state != JobState::Running) {
            return;
        }
        self.record(Entry::Judged { job: id, at: self.now, attempts, data, winner: winner.clone() });
        let Some((_, version)) = winner else { return };
        if self.machine.spec.mode == Mode::Act {
            self.bring_in(id, version);
        } else {
            self.record(Entry::Waiting { job: id });
            let text = format!("{version} of job {id} passed its gate and waits for a word");
            self.actions.push(Action::Alert(Alarm::Waiting(text)));
        }
    }

    fn bring_in(&mut self, job: u64, version: String) {
        self.actions.push(Action::Promote { job, version, how: self.machine.spec.promotion });
    }

    fn failed(&mut self, id: u64, why: String) {
        let Some(job) = self.machine.job(id).filter(|j| j.state == JobState::Running).cloned() else { return };
        if job.run < ATTEMPTS {
            self.again(job, why);
            return;
        }
        self.record(Entry::Failed { job: id, at: self.now, why });
        let failed = self.machine.state.failed;
        if failed == super::guard::CIRCUIT {
            let text =
                format!("{failed} training jobs failed in a row; none starts by itself until one asked for succeeds");
            self.actions.push(Action::Alert(Alarm::Circuit(text)));
        }
    }

    fn again(&mut self, job: Job, why: String) {
        self.record(Entry::Interrupted { job: job.id, at: self.now, why });
        if let Some(job) = self.machine.job(job.id).cloned() {
            self.actions.push(Action::Train(job));
        }
    }

    fn approved(&mut self, id: u64) {
        let waiting = self.machine.job(id).filter(|j| j.state == JobState::Waiting);
        let Some(version) = waiting.and_then(|j| j.version.clone()) else { return };
        self.record(Entry::Approved { job: id, at: self.now });
        self.bring_in(id, version);
    }

    fn promoted(&mut self, id: u64) {
        let Some(champion) =
            self.machine.job(id).filter(|j| j.state == JobState::Passed).and_then(|j| j.champion_of(self.now))
        else {
            return;
        };
        self.record(Entry::Promoted { job: id, at: self.now });
        self.record(Entry::Champion(champion));
    }

    fn refused(&mut self, id: u64, why: String) {
        if self.machine.job(id).is_some_and(|j| matches!(j.state, JobState::Passed | JobState::Waiting)) {
            self.record(Entry::Refused { job: id, at: self.now, why });
        }
    }

    fn restarted(&mut self) {
        let Some(job) = self.machine.state.jobs.values().rev().find(|j| j.state.is_open()).cloned() else { return };
        match (&job.state, &job.version) {
            (JobState::Running, _) if job.run < ATTEMPTS => self.again(job, "the process ended while it ran".into()),
            (JobState::Running, _) => {
                self.record(Entry::Failed {
                    job: job.id,
                    at: self.now,
                    why: "the process ended twice while it ran".into(),
                });
            }
            // What passed and was not seen to serve: bringing it in again changes nothing if it does.
            (JobState::Passed, Some(version)) => self.bring_in(job.id, version.clone()),
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
