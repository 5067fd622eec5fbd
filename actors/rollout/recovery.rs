//! Back from the journal and the logs.

use super::shadowing::Resumes;
use super::{JournalLine, Life, RolloutController, RolloutStatus, Running};
use crate::api::Refusal;
use crate::deps::Deps;
use crate::generation::Served;
use crate::model_pool::SetRoute;
use crate::ports::{ModelLoader, RolloutJournal, StoreError};
use crate::prediction_logger::unavailable;
use actix::prelude::*;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use understudy_domain::prediction::{OutcomeTarget, PredictionId, PredictionRecord};
use understudy_domain::rollout::{
    Arm, Counting, FailedAnswer, Input, JournalEntry, LatencySource, Mode, Rollout, SegmentCounts, Start, Tally, Unit,
};
use understudy_domain::time::Timestamp;

/// Median of an answer of a version that declares none, in microseconds; see [`LatencySource::Modelled`].
const UNDECLARED_US: u32 = 200;

/// A journal's lines, apart.
pub(super) struct Read {
    pub entries: Vec<JournalEntry>,
    pub failed: Vec<FailedAnswer>,
}

pub(super) fn apart(lines: &[JournalLine]) -> Read {
    Read {
        entries: lines.iter().filter_map(|l| l.entry.clone()).collect(),
        failed: lines.iter().filter_map(|l| l.failed.clone()).collect(),
    }
}

impl Read {
    /// When the attempt that runs began: the start, or the last retry.
    pub fn since(&self) -> Option<Timestamp> {
        let retry = |e: &&JournalEntry| matches!(e.input, Some(Input::Retry { .. }));
        self.entries.iter().rev().find(retry).or(self.entries.first()).map(|e| e.at)
    }

    /// Counts as the last entries have them.
    fn counts(&self) -> Vec<SegmentCounts> {
        let mut last: Vec<SegmentCounts> = Vec::new();
        for entry in &self.entries {
            let Some(Input::Tick(tick)) = &entry.input else { continue };
            for counts in &tick.segments {
                match last.iter_mut().find(|s| s.segment == counts.segment) {
                    Some(known) => known.clone_from(counts),
                    None => last.push(counts.clone()),
                }
            }
        }
        last
    }

    /// Boundary of the last evaluation.
    fn ticked(&self) -> Option<Timestamp> {
        let evaluated = |e: &&JournalEntry| matches!(e.input, Some(Input::Tick(_) | Input::Shadow { .. }));
        self.entries.iter().rev().find(evaluated).map(|e| e.at)
    }
}

/// What counting needs to know of the model.
pub(super) fn counting(deps: &Deps, served: &Served, start: &Start) -> Counting {
    let spec = &served.plan.spec;
    let declared = |version: &str| {
        let manifest = deps.loader.manifest(&start.model, version).ok();
        f64::from(manifest.and_then(|m| m.declared_latency_us).unwrap_or(UNDECLARED_US))
    };
    let latency = if deps.clock.is_stream() {
        LatencySource::Modelled { baseline_us: declared(&start.champion), canary_us: declared(&start.challenger) }
    } else {
        LatencySource::Measured
    };
    Counting {
        unit: spec.unit.clone(),
        threshold: spec.threshold,
        absence_is_negative: spec.outcome.as_ref().is_some_and(|o| o.absence_means_negative),
        latency,
    }
}

pub(super) fn running(served: &Served, start: &Start, fallback: bool) -> Running {
    let arms = (start.champion.clone(), start.challenger.clone());
    let s = &start.settings;
    let mut running = Running::new(served.name.clone(), start.id.clone(), arms);
    running.by_request = s.unit == Unit::Request;
    running.fallback = fallback;
    running.stops_at_once = s.mode != Mode::Advise;
    running.alpha_incident = s.alpha_incident;
    running
}

/// Everything of a rollout that the logs hold, in the order of the requests' ids.
pub(super) struct Logged {
    pub records: Vec<PredictionRecord>,
    /// With the event time of each.
    pub outcomes: Vec<(PredictionId, Option<bool>, Timestamp)>,
}

pub(super) fn logged(deps: &Deps, model: &str, since: Timestamp) -> Result<Logged, StoreError> {
    let mut records = Vec::new();
    deps.predictions.scan(Some(model), PredictionId::new(since, 0), &mut |mut r| {
        if r.placement.segment.is_some() {
            // Not counted, and most of its size.
            (r.vector, r.ages) = (Vec::new(), Vec::new());
            records.push(r);
        }
        ControlFlow::Continue(())
    })?;
    let by_request: HashMap<&str, PredictionId> =
        records.iter().filter_map(|r| Some((r.request_id.as_deref()?, r.id))).collect();
    let mut outcomes = Vec::new();
    deps.outcomes.scan(0, &mut |o| {
        if o.model == model {
            let id = match &o.target {
                OutcomeTarget::PredictionId(id) => Some(*id),
                OutcomeTarget::RequestId(request) => by_request.get(request.as_str()).copied(),
            };
            outcomes.extend(id.map(|id| (id, o.label, o.time)));
        }
        ControlFlow::Continue(())
    })?;
    Ok(Logged { records, outcomes })
}

impl RolloutController {
    pub(super) fn recover(&mut self, ctx: &mut Context<Self>) {
        self.vitals.set_ready(false, "reading the journals of rollouts");
        match self.read_back() {
            Ok(()) => {
                self.publish();
                self.vitals.set_ready(true, "");
                self.act(ctx);
            }
            Err(why) => self.retry_recovery(why, ctx),
        }
    }

    fn read_back(&mut self) -> Result<(), String> {
        self.lives.clear();
        self.due.clear();
        let generation = self.current.load_full();
        for served in generation.models() {
            let text = |e: StoreError| format!("rollouts of `{}`: {e}", served.name);
            let Some(id) = self.deps.rollouts.list(&served.name).map_err(text)?.pop() else { continue };
            let read = apart(&self.deps.rollouts.read(&id).map_err(text)?);
            if read.entries.is_empty() {
                continue;
            }
            match Rollout::replay(&read.entries) {
                Ok(rollout) => self.revive(served, rollout, &read).map_err(text)?,
                Err(difference) => {
                    // Written by another version of the rules, or changed. Nobody may be left in a canary unwatched.
                    tracing::error!(rollout = id, seq = difference.seq, "{}: it is ended", difference.message);
                    self.pool.do_send(SetRoute { model: served.name.clone(), route: None });
                }
            }
        }
        Ok(())
    }

    fn revive(&mut self, served: &Served, rollout: Rollout, read: &Read) -> Result<(), StoreError> {
        let start = rollout.started_as().clone();
        let started = read.entries.first().map_or(Timestamp::MIN, |e| e.at);
        let last = read.entries.last().map_or(started, |e| e.at);
        let running = running(served, &start, served.plan.spec.rollout.fallback);
        let mut tally = Tally::new(&start, counting(&self.deps, served, &start));
        let (ended, stream) = (rollout.state().ended(), self.deps.clock.is_stream());
        if !ended {
            self.recount(&mut tally, &running, read)?;
        }
        let ticked = read.ticked().unwrap_or(last);
        let life = Life {
            tally,
            running: Arc::new(running),
            tap: None,
            resumes: Resumes::of(&rollout, &read.entries),
            compared: None,
            failed: Vec::new(),
            alerts: Vec::new(),
            started,
            last,
            ticked,
            rollout,
        };
        let (name, standing) = (served.name.clone(), life.rollout.standing_actions());
        self.lives.insert(name.clone(), life);
        if ended {
            // Only if the process ended before its last actions: later changes of the registry are not undone.
            if self.deps.loader.ledger(&name).is_ok_and(|l| l.route.is_some_and(|r| r.salt == start.id)) {
                self.plan_actions(&name, standing, last);
            }
        } else if stream {
            // No time has passed.
            self.plan_actions(&name, standing, last);
        } else {
            let now = self.deps.clock.now().max(last);
            if let Err(e) = self.feed(&name, Input::Restarted { evidence_lost: false }, now) {
                return Err(StoreError::Io(format!("{e:?}")));
            }
        }
        Ok(())
    }

    fn recount(&self, tally: &mut Tally, running: &Running, read: &Read) -> Result<(), StoreError> {
        let Some(since) = read.since() else { return Ok(()) };
        let logged = logged(&self.deps, &running.model, since)?;
        let (ticked, now) = (read.ticked().unwrap_or(since), self.deps.clock.now());
        let mut failed = read.failed.iter().filter(|f| f.at >= since).peekable();
        for record in &logged.records {
            while let Some(f) = failed.next_if(|f| f.id < record.id) {
                tally.begin(f.segment);
                tally.on_failed(f);
                running.on_answer(f.arm, true);
            }
            tally.on_recovered(record, record.time >= ticked);
            if let Some(arm) = Tally::arm(record).filter(|_| record.time <= now) {
                running.on_answer(arm, false);
            }
        }
        for f in failed {
            tally.begin(f.segment);
            tally.on_failed(f);
            running.on_answer(f.arm, true);
        }
        for (id, label, at) in logged.outcomes {
            tally.on_outcome(id, label, at);
        }
        tally.mature(ticked);
        tally.set_reported(read.counts());
        Ok(())
    }
}

/// A rollout that is over: its last state, from its journal.
pub(super) fn past(journal: &dyn RolloutJournal, id: &str) -> Result<RolloutStatus, Refusal> {
    let read = apart(&journal.read(id).map_err(unavailable)?);
    let corrupt = |e: String| unavailable(StoreError::Corrupt(format!("rollout `{id}`: {e}")));
    let rollout = Rollout::replay(&read.entries).map_err(|d| corrupt(d.message))?;
    let start = rollout.started_as().clone();
    let segments = read.counts();
    let life = Life {
        tally: Tally::new(&start, Counting::default()),
        running: Arc::new(Running::new(Arc::from(start.model.as_str()), start.id.clone(), Default::default())),
        tap: None,
        resumes: None,
        compared: None,
        failed: Vec::new(),
        alerts: Vec::new(),
        started: read.entries.first().map_or(Timestamp::MIN, |e| e.at),
        last: read.entries.last().map_or(Timestamp::MIN, |e| e.at),
        ticked: Timestamp::MIN,
        rollout,
    };
    Ok(RolloutStatus { segments, ..life.status() })
}

/// Which arm a version is of, for people.
pub(super) fn arm_name(arm: Arm) -> &'static str {
    match arm {
        Arm::Baseline => "baseline",
        Arm::Canary => "canary",
    }
}

pub(super) fn versions(loader: &dyn ModelLoader, model: &str) -> Result<Vec<String>, Refusal> {
    loader.versions(model).map_err(|detail| Refusal::Unavailable { code: "registry_unavailable", detail })
}
