//! The machine: state, what each input does to it, and how a journal brings it back.

use super::criteria::{Criterion, Limits, Segment};
use super::decision::{Decision, Reason, Verdict};
use super::input::{Action, AlertKind, Fault, Input, JournalEntry, Reaction, Refused, ShadowReport, Start};
use super::settings::Mode;
use super::share::Share;
use super::state::State;
use super::verdict::NON_FINITE;
use crate::evidence::{Grid, HardEvidence, Mixture, Side, threshold};
use crate::problem::Problem;
use crate::time::{Span, Timestamp};
use std::collections::{BTreeSet, VecDeque};

/// One rollout. Cheap to clone: an owner may try an input on a copy and keep it once the journal has the entry.
#[derive(Clone, Debug)]
pub struct Rollout {
    pub(super) start: Start,
    pub(super) criteria: Vec<Criterion>,
    pub(super) limits: Limits,
    pub(super) state: State,
    /// Grows with each change of state.
    pub(super) step: u64,
    /// Number of the next journal entry.
    seq: u64,
    pub(super) share: Share,
    /// Since evidence began; the last one is running.
    pub(super) segments: Vec<Segment>,
    next_segment: u32,
    /// Observed time in the stage, and since the first share.
    pub(super) in_stage: Span,
    /// Observed time in the stage, or since both arms failed in it.
    pub(super) calm: Span,
    pub(super) both_failed: bool,
    pub(super) elapsed: Span,
    pub(super) last_seen: Timestamp,
    /// Per criterion: largest certifying log e-value so far.
    pub(super) better_max: Vec<f64>,
    pub(super) crashes: VecDeque<Timestamp>,
    pub(super) non_finite: u64,
    /// A person was asked to let it go on.
    pub(super) waiting: bool,
    /// Told in this stage already.
    pub(super) alerted: BTreeSet<AlertKind>,
    pub(super) last: Option<Decision>,
}

/// Where a replayed journal says something else than the machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    pub seq: u64,
    pub message: String,
}

/// Crashes within this time are an incident.
const CRASHES: usize = 3;
const CRASH_TIME: Span = Span::seconds(60);

impl Rollout {
    /// Refuses settings that cannot work; see [`super::RolloutSettings::check`].
    pub fn start(start: Start, now: Timestamp) -> Result<(Rollout, Reaction), Vec<Problem>> {
        let mut problems = start.settings.check();
        if start.frozen.len() != start.settings.latency.len() {
            let message = format!(
                "{} latency criteria, but {} quantiles of the baseline",
                start.settings.latency.len(),
                start.frozen.len()
            );
            problems.push(Problem::new("latency", message, "measure each quantile over the hour before the start"));
        }
        if start.champion == start.challenger && start.id.is_empty() {
            problems.push(Problem::new("id", "a rollout needs an id", ""));
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut rollout = Rollout::new(start.clone(), now);
        let actions = vec![Action::Load { step: rollout.step, version: start.challenger.clone() }];
        let entry = rollout.entry(Some(start), None, None, now);
        Ok((rollout, Reaction { entry: Some(entry), actions }))
    }

    fn new(start: Start, now: Timestamp) -> Rollout {
        let criteria = Criterion::all(&start.settings);
        Rollout {
            limits: Limits::new(start.settings.error_limit, start.settings.error_limit),
            better_max: vec![0.0; criteria.len()],
            criteria,
            start,
            state: State::Loading,
            step: 0,
            seq: 0,
            share: Share::ZERO,
            segments: Vec::new(),
            next_segment: 0,
            in_stage: Span::ZERO,
            calm: Span::ZERO,
            both_failed: false,
            elapsed: Span::ZERO,
            last_seen: now,
            crashes: VecDeque::new(),
            non_finite: 0,
            waiting: false,
            alerted: BTreeSet::new(),
            last: None,
        }
    }

    pub fn state(&self) -> State {
        self.state
    }
    pub fn step(&self) -> u64 {
        self.step
    }
    pub fn share(&self) -> Share {
        self.share
    }
    /// Of the running segment.
    pub fn segment(&self) -> Option<u32> {
        self.segments.last().map(|s| s.counts.segment)
    }
    pub fn started_as(&self) -> &Start {
        &self.start
    }
    /// The last evaluation.
    pub fn decision(&self) -> Option<&Decision> {
        self.last.as_ref()
    }
    /// A person is to approve before it goes on.
    pub fn waits_for_approval(&self) -> bool {
        self.waiting
    }

    /// Takes one input. `Err` only for commands; then nothing has changed.
    pub fn on(&mut self, input: Input, now: Timestamp) -> Result<Reaction, Refused> {
        let before = (self.step, self.last.clone().filter(|_| !matches!(input, Input::Tick(_))));
        let actions = match &input {
            Input::Loaded { step } => self.on_loaded(*step),
            Input::LoadFailed { reason } => self.on_load_failed(reason, now),
            Input::Warmed { step } => self.on_warmed(*step, now),
            Input::WarmupFailed { step, reason } => self.on_warmup_failed(*step, reason, now),
            Input::Shadow { step, report } => self.on_shadow(*step, report, now),
            Input::Tick(tick) => self.on_tick(tick, now),
            Input::HardIncident { canary, baseline } => self.on_hard_incident(*canary, *baseline, now),
            Input::CanaryFault(fault) => self.on_fault(fault, now),
            Input::Restarted { evidence_lost } => self.on_restart(*evidence_lost, now),
            Input::Abort { .. } | Input::PromoteNow { .. } | Input::Approve { .. } | Input::Retry { .. } => {
                Some(self.on_command(&input, now)?)
            }
        };
        let Some(actions) = actions else { return Ok(Reaction { entry: None, actions: Vec::new() }) };
        let ticked = matches!(input, Input::Tick(_));
        let decision = self.last.clone().filter(|d| ticked || self.step != before.0 || before.1.as_ref() != Some(d));
        let entry = self.entry(None, Some(input), decision, now);
        Ok(Reaction { entry: Some(entry), actions })
    }

    fn entry(
        &mut self,
        start: Option<Start>,
        input: Option<Input>,
        decision: Option<Decision>,
        at: Timestamp,
    ) -> JournalEntry {
        self.seq += 1;
        let (state, step, share) = (self.state, self.step, self.share);
        JournalEntry { seq: self.seq - 1, at, start, input, state, step, share, decision }
    }

    /// The rollout that wrote these entries, with every verdict recomputed and compared.
    pub fn replay(entries: &[JournalEntry]) -> Result<Rollout, Difference> {
        let differs = |seq: u64, message: String| Difference { seq, message };
        let first = entries.first().ok_or_else(|| differs(0, "the journal is empty".into()))?;
        let start = first.start.clone().ok_or_else(|| differs(first.seq, "the first entry has no start".into()))?;
        let (mut rollout, reaction) = Rollout::start(start, first.at).map_err(|problems| {
            differs(first.seq, problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; "))
        })?;
        compare(first, reaction.entry.as_ref())?;
        for recorded in &entries[1..] {
            let input = recorded.input.clone();
            let input = input.ok_or_else(|| differs(recorded.seq, "an entry without input".into()))?;
            let reaction = rollout.on(input, recorded.at).map_err(|r| differs(recorded.seq, r.to_string()))?;
            compare(recorded, reaction.entry.as_ref())?;
        }
        Ok(rollout)
    }

    /// What must be so in this state, to be performed after a start of the process; all may be repeated. The
    /// challenger's version must be in memory before it is warmed, shadows or serves.
    pub fn standing_actions(&self) -> Vec<Action> {
        let (step, version) = (self.step, self.start.challenger.clone());
        match self.state {
            State::Loading => vec![Action::Load { step, version }],
            State::Warming => vec![Action::Warm { step, version }],
            State::Shadow => vec![Action::StartShadow { step, version, share: self.start.settings.shadow_share }],
            State::Stage(_) | State::Holding => vec![self.set_share()],
            State::Promoted => self.promotion(),
            State::RolledBack | State::Inconclusive | State::Incident => vec![self.set_share()],
        }
    }

    fn on_loaded(&mut self, step: u64) -> Option<Vec<Action>> {
        if self.state != State::Loading || step != self.step {
            return None;
        }
        self.enter(State::Warming);
        Some(vec![Action::Warm { step: self.step, version: self.start.challenger.clone() }])
    }

    fn on_load_failed(&mut self, reason: &str, now: Timestamp) -> Option<Vec<Action>> {
        let text = format!("version `{}` could not be loaded: {reason}", self.start.challenger);
        (!self.state.ended()).then(|| self.incident(Reason::LoadFailed, text, now))
    }

    fn on_warmed(&mut self, step: u64, now: Timestamp) -> Option<Vec<Action>> {
        if self.state != State::Warming || step != self.step {
            return None;
        }
        if self.start.settings.shadow_answers == 0 {
            return Some(self.enter_stage(0, now));
        }
        self.enter(State::Shadow);
        self.last_seen = now;
        let (version, share) = (self.start.challenger.clone(), self.start.settings.shadow_share);
        Some(vec![Action::StartShadow { step: self.step, version, share }])
    }

    fn on_warmup_failed(&mut self, step: u64, reason: &str, now: Timestamp) -> Option<Vec<Action>> {
        let mine = self.state == State::Warming && step == self.step;
        let text = format!("version `{}` failed its golden requests: {reason}", self.start.challenger);
        mine.then(|| self.incident(Reason::WarmupFailed, text, now))
    }

    fn on_shadow(&mut self, step: u64, r: &ShadowReport, now: Timestamp) -> Option<Vec<Action>> {
        if self.state != State::Shadow || step != self.step {
            return None;
        }
        self.observe(now);
        let s = &self.start.settings;
        if r.contract_violations > 0 || r.non_finite >= NON_FINITE {
            let text =
                format!("{} shadow outputs of the wrong shape, {} not finite", r.contract_violations, r.non_finite);
            return Some(self.incident(Reason::Shadow, text, now));
        }
        let (needed, answers) = (threshold(s.alpha_rollback), r.answers);
        let rejects = |limit, bad: u64| {
            let test = Mixture::of_rate(limit, Side::Above, Grid::Wide);
            test.log_e(bad.min(answers), answers - bad.min(answers)) >= needed
        };
        if rejects(s.error_limit, r.errors) {
            let text = format!("{} of {answers} shadow answers are errors, more than {}", r.errors, s.error_limit);
            return Some(self.roll_back(Reason::Shadow, text, now));
        }
        if s.shadow_disagreement.is_some_and(|most| rejects(most, r.disagreements)) {
            let text =
                format!("{} of {answers} shadow answers have another label than the champion's", r.disagreements);
            return Some(self.roll_back(Reason::Shadow, text, now));
        }
        if answers >= s.shadow_answers {
            let mut actions = vec![Action::StopShadow];
            actions.extend(self.enter_stage(0, now));
            return Some(actions);
        }
        if self.in_stage >= s.max_duration {
            let text = format!("{answers} of {} shadow answers after {}", s.shadow_answers, s.max_duration);
            return Some(self.inconclusive(text, now));
        }
        Some(Vec::new())
    }

    fn on_hard_incident(&mut self, canary: HardEvidence, base: HardEvidence, now: Timestamp) -> Option<Vec<Action>> {
        let alpha = self.start.settings.alpha_incident;
        if !self.state.serving() || !canary.rejects(alpha) {
            return None;
        }
        let text = format!("{} of {} canary answers are bad", canary.bad, canary.answers);
        if base.rejects(alpha) {
            let text = format!("{text}, and {} of {} of the baseline's: both arms fail", base.bad, base.answers);
            (self.calm, self.both_failed) = (Span::ZERO, true);
            self.record(Verdict::Hold, Reason::BothArmsFail, text.clone());
            let mut actions = vec![Action::ResetHardIncident];
            actions.extend(self.alert(AlertKind::BothArmsFail, text));
            return Some(actions);
        }
        if self.start.settings.mode == Mode::Advise {
            self.record(Verdict::Incident, Reason::BadAnswers, text.clone());
            let mut actions = vec![Action::ResetHardIncident];
            actions.extend(self.alert(AlertKind::Incident, text));
            return Some(actions);
        }
        Some(self.incident(Reason::BadAnswers, text, now))
    }

    fn on_fault(&mut self, fault: &Fault, now: Timestamp) -> Option<Vec<Action>> {
        if !self.state.serving() && self.state != State::Shadow {
            return None;
        }
        let (because, text) = match fault {
            Fault::Contract { detail } => (Reason::Contract, format!("an output breaks the contract: {detail}")),
            Fault::NonFinite => {
                self.non_finite += 1;
                if self.non_finite < NON_FINITE {
                    return Some(Vec::new());
                }
                (Reason::NonFinite, format!("{} outputs that are not finite", self.non_finite))
            }
            Fault::Crash { detail } => {
                self.crashes.retain(|t| now - *t < CRASH_TIME);
                self.crashes.push_back(now);
                if self.crashes.len() < CRASHES {
                    return Some(Vec::new());
                }
                (Reason::Crashes, format!("{CRASHES} crashes within {CRASH_TIME}, the last: {detail}"))
            }
        };
        if self.start.settings.mode == Mode::Advise && self.state.serving() {
            self.record(Verdict::Incident, because, text.clone());
            return Some(self.alert(AlertKind::Incident, text).into_iter().collect());
        }
        Some(self.incident(because, text, now))
    }

    fn on_restart(&mut self, evidence_lost: bool, now: Timestamp) -> Option<Vec<Action>> {
        // Nothing was observed while the process was down.
        self.last_seen = now;
        if evidence_lost && self.state.serving() {
            self.forget_evidence();
            (self.in_stage, self.calm) = (Span::ZERO, Span::ZERO);
            self.open_segment();
            let text = format!("{} begins anew: its counts were lost with the process", self.state);
            self.record(Verdict::Hold, Reason::Restart, text);
        }
        Some(self.standing_actions())
    }

    pub(super) fn open_segment(&mut self) {
        self.segments.push(Segment::new(self.next_segment, self.share, &self.criteria));
        self.next_segment += 1;
    }

    pub(super) fn forget_evidence(&mut self) {
        self.segments.clear();
        self.better_max.fill(0.0);
    }
}

fn compare(recorded: &JournalEntry, computed: Option<&JournalEntry>) -> Result<(), Difference> {
    if computed == Some(recorded) {
        return Ok(());
    }
    let verdict = |e: &JournalEntry| e.decision.as_ref().map(|d| (d.verdict, d.reason.clone()));
    let message = match computed {
        None => "the journal has an entry for an input that changes nothing".to_owned(),
        Some(c) if (c.state, c.step, c.share) != (recorded.state, recorded.step, recorded.share) => format!(
            "recorded is {} at step {} with {}, computed {} at step {} with {}",
            recorded.state, recorded.step, recorded.share, c.state, c.step, c.share
        ),
        Some(c) if verdict(c) != verdict(recorded) => {
            format!("recorded is {:?}, computed {:?}", verdict(recorded), verdict(c))
        }
        Some(_) => "the recorded evidence is not what its counts give".to_owned(),
    };
    Err(Difference { seq: recorded.seq, message })
}
