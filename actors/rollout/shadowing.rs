//! A shadow phase after a restart: counts from the journal, pairs and what came since from the logs.

use super::Life;
use crate::deps::Deps;
use crate::ports::StoreError;
use crate::shadow::{ShadowTap, shadow_id};
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use understudy_domain::prediction::{OutcomeTarget, PredictionId, PredictionRecord, ServedArm};
use understudy_domain::rollout::{Input, JournalEntry, Rollout, ShadowReport, State};
use understudy_domain::time::Timestamp;

/// Where a shadow phase stood.
pub(super) struct Resumes {
    reported: ShadowReport,
    /// When the phase began, and the first time that is not in the report.
    began: Timestamp,
    from: Timestamp,
}

impl Resumes {
    /// `None` if no copies are made in this state.
    pub fn of(rollout: &Rollout, entries: &[JournalEntry]) -> Option<Resumes> {
        if rollout.state() != State::Shadow {
            return None;
        }
        let now = |e: &&JournalEntry| e.step == rollout.step() && e.state == State::Shadow;
        let began = entries.iter().find(now)?.at;
        let report = |e: &JournalEntry| match &e.input {
            Some(Input::Shadow { step, report }) if *step == rollout.step() => Some((report.clone(), e.at)),
            _ => None,
        };
        // The request at whose time the phase began was answered before it.
        let nothing = || (ShadowReport::default(), Timestamp(began.0 + 1));
        let (reported, from) = entries.iter().rev().find_map(report).unwrap_or_else(nothing);
        Some(Resumes { reported, began, from })
    }

    /// Gives the tap what was known. A candidate with other inputs begins anew: those of its copies are not in the log.
    pub fn go_on(self, deps: &Deps, life: &Life, tap: &ShadowTap) -> Result<(), StoreError> {
        let start = life.rollout.started_as();
        let champion = deps.loader.manifest(&start.model, &start.champion).map_err(StoreError::Io)?;
        if !tap.same_inputs(&champion.signature) {
            return Ok(());
        }
        let (mut copied, mut answers) = (Vec::new(), HashMap::new());
        let first = PredictionId::new(Timestamp(self.began.0 + 1), 0);
        deps.predictions.scan(Some(&start.model), first, &mut |record| {
            match record.placement.arm {
                ServedArm::Shadow if record.version == start.challenger => {
                    answers.insert(record.id, record.score);
                }
                ServedArm::Baseline if record.time > self.began && tap.takes(&record, &life.tally.unit(&record)) => {
                    copied.push(record);
                }
                _ => {}
            }
            ControlFlow::Continue(())
        })?;
        let (before, since): (Vec<_>, Vec<_>) = copied.into_iter().partition(|r| r.time < self.from);
        let answered = |r: PredictionRecord| answers.get(&shadow_id(&r, &start.challenger)).map(|score| (r, *score));
        let pairs: Vec<_> = before.into_iter().filter_map(answered).collect();
        tap.resume(&self.reported, &pairs, since.into_iter().map(Arc::new).collect());
        outcomes(deps, &start.model, &pairs, tap)
    }
}

/// What is known of these pairs by now.
fn outcomes(deps: &Deps, model: &str, pairs: &[(PredictionRecord, f64)], tap: &ShadowTap) -> Result<(), StoreError> {
    let ids: HashSet<PredictionId> = pairs.iter().map(|(r, _)| r.id).collect();
    let by_request: HashMap<&str, PredictionId> =
        pairs.iter().filter_map(|(r, _)| Some((r.request_id.as_deref()?, r.id))).collect();
    deps.outcomes.scan(0, &mut |o| {
        let id = match &o.target {
            OutcomeTarget::PredictionId(id) => ids.get(id).copied(),
            OutcomeTarget::RequestId(request) => by_request.get(request.as_str()).copied(),
        };
        if let Some(id) = id.filter(|_| o.model == model) {
            tap.on_outcome(id, o.label);
        }
        ControlFlow::Continue(())
    })
}
