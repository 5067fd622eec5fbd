//! Seeded callers: what is sent, and what is written down of the answer.

use super::dice::Dice;
use super::ledger::Ledger;
use super::project::MODEL;
use super::trace::Trace;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;
use understudy_actors::api::{PredictCommand, Refusal, ReplayedPrediction};
use understudy_actors::cell::{Cell, refusal_code};
use understudy_domain::admission::Class;
use understudy_domain::event::{Event, IngestOutcome};
use understudy_domain::prediction::{OutcomeRecord, OutcomeStatus, OutcomeTarget};
use understudy_domain::time::{HOUR, MINUTE, SECOND, Timestamp};
use understudy_domain::value::Value;

const USERS: u64 = 12;
const SHOPS: u64 = 5;
/// A request is answered or refused by then.
const DEADLINE: Duration = Duration::from_secs(5);
/// A call that has no answer of any kind after so long hangs.
const PATIENCE: Duration = Duration::from_secs(120);

/// One call to the system.
#[derive(Clone, Debug)]
pub enum Call {
    Ingest(Vec<Event>),
    /// Lines of a recorded stream; sent again until they are taken.
    Replay(Vec<Event>),
    Predict(PredictCommand),
    /// A caller that goes away after so many milliseconds.
    Abandon(PredictCommand, u64),
    Outcomes(Vec<OutcomeRecord>),
    Report,
    Explain(String),
    Train,
    Look,
}

/// What the callers of a run have in mind.
pub struct Callers {
    dice: Dice,
    next: u64,
    requests: Vec<String>,
    /// Bodies that may be sent again.
    events: Vec<Event>,
    posted: Vec<OutcomeRecord>,
}

impl Callers {
    pub fn new(dice: Dice) -> Callers {
        Callers { dice, next: 0, requests: Vec::new(), events: Vec::new(), posted: Vec::new() }
    }

    fn id(&mut self, prefix: &str) -> String {
        self.next += 1;
        format!("{prefix}{}", self.next)
    }

    /// What a replayed stream meets: its own lines, in order, and people who look.
    pub fn stream_call(&mut self, now: Timestamp) -> Call {
        match self.dice.below(10) {
            0..7 => {
                let (n, mut at) = (self.dice.between(1, 8), now.0);
                let lines = (0..n).map(|_| {
                    at += self.dice.below(4 * MINUTE as u64) as i64;
                    let mut event = self.event(Timestamp(at));
                    event.time = Timestamp(at - self.dice.below(20 * SECOND as u64) as i64);
                    event
                });
                Call::Replay(lines.collect())
            }
            7 => Call::Report,
            8 => Call::Explain(format!("u{}", self.dice.below(USERS))),
            _ => Call::Look,
        }
    }

    pub fn call(&mut self, now: Timestamp) -> Call {
        match self.dice.below(100) {
            0..40 => {
                let n = self.dice.between(1, 6);
                Call::Ingest((0..n).map(|_| self.event(now)).collect())
            }
            40..75 => Call::Predict(self.request()),
            75..78 => {
                let command = self.request();
                Call::Abandon(command, self.dice.below(8))
            }
            78..90 => {
                let n = self.dice.between(1, 3);
                Call::Outcomes((0..n).map(|_| self.outcome(now)).collect())
            }
            90..93 => Call::Report,
            93..96 => Call::Explain(format!("u{}", self.dice.below(USERS))),
            96..98 => Call::Train,
            _ => Call::Look,
        }
    }

    fn entities(&mut self) -> BTreeMap<String, Option<String>> {
        let mut ids = BTreeMap::new();
        if !self.dice.percent(3) {
            ids.insert("user".to_owned(), Some(format!("u{}", self.dice.below(USERS))));
        }
        if !self.dice.percent(10) {
            ids.insert("shop".to_owned(), Some(format!("s{}", self.dice.below(SHOPS))));
        }
        ids
    }

    /// In order, late, in the future, again, the same id with another body, an outcome, or not allowed.
    fn event(&mut self, now: Timestamp) -> Event {
        let (kind, old) = (self.dice.below(100), self.dice.below(self.events.len() as u64) as usize);
        if kind < 12
            && let Some(again) = self.events.get(old)
        {
            return again.clone();
        }
        if kind < 16
            && let Some(other) = self.events.get(old)
        {
            let mut other = other.clone();
            other.time = Timestamp(other.time.0 - 1);
            return other;
        }
        let back = match self.dice.below(10) {
            0..6 => self.dice.below(2 * SECOND as u64) as i64,
            6..8 => self.dice.below(50 * MINUTE as u64) as i64,
            8 => HOUR + self.dice.below(HOUR as u64) as i64,
            _ => -(self.dice.below(10 * MINUTE as u64) as i64),
        };
        let mut event = Event {
            id: self.id("e"),
            kind: "order".into(),
            time: Timestamp(now.0 - back),
            entities: self.entities(),
            properties: BTreeMap::new(),
        };
        if kind < 26
            && let Some(request) = self.some_request()
        {
            event.kind = "result".into();
            event.entities.retain(|k, _| k == "user");
            event.properties.insert("request".into(), Value::text(&request));
            event.properties.insert("bad".into(), Value::Bool(self.dice.percent(50)));
        } else if kind < 36 {
            event.kind = "ask".into();
            event.properties.insert("basket".into(), Value::Float(self.dice.below(300) as f64));
            self.requests.push(event.id.clone());
        } else {
            event.properties.insert("amount".into(), Value::Float(self.dice.below(100) as f64));
            event.properties.insert("kind".into(), Value::text(["a", "b", "c", "d"][self.dice.below(4) as usize]));
        }
        if kind >= 98 {
            event.properties.insert("unknown".into(), Value::Int(1));
        }
        self.events.push(event.clone());
        event
    }

    fn some_request(&mut self) -> Option<String> {
        (!self.requests.is_empty()).then(|| self.dice.pick(&self.requests).clone())
    }

    fn request(&mut self) -> PredictCommand {
        let request_id = match self.dice.below(10) {
            0 | 1 => None,
            2 => self.some_request(),
            _ => Some(self.id("r")),
        };
        let known = request_id.as_ref().is_some_and(|r| self.requests.contains(r));
        if let Some(id) = request_id.as_ref().filter(|_| !known) {
            self.requests.push(id.clone());
        }
        // A repeated request asks the same: everything follows from its id.
        let mut own = match &request_id {
            Some(id) => Dice::new(id[1..].parse().unwrap_or(0), u64::from(id.as_bytes()[0])),
            None => Dice::new(self.dice.next(), 78),
        };
        std::mem::swap(&mut own, &mut self.dice);
        let mut entities = self.entities();
        if self.dice.percent(10) {
            entities.insert("user".into(), Some(format!("nobody{}", self.dice.below(3))));
        }
        let basket = match self.dice.below(20) {
            0 => -1.0,
            1 => 950.0,
            _ => self.dice.below(300) as f64,
        };
        std::mem::swap(&mut own, &mut self.dice);
        PredictCommand {
            model: MODEL.into(),
            request_id,
            entities,
            context: BTreeMap::from([("basket".to_owned(), Value::Float(basket))]),
            ..PredictCommand::default()
        }
    }

    /// Of a known request or of one that comes later; again; conflicting; a later revision; a void.
    fn outcome(&mut self, now: Timestamp) -> OutcomeRecord {
        if self.dice.percent(20) && !self.posted.is_empty() {
            let mut again = self.dice.pick(&self.posted).clone();
            match self.dice.below(3) {
                0 => again.label = again.label.map(|l| !l),
                1 => (again.revision, again.label) = (again.revision + 1, Some(self.dice.percent(50))),
                _ => {}
            }
            return again;
        }
        let request = match self.dice.percent(25) {
            true => format!("r{}", self.next + self.dice.between(1, 5)),
            false => self.some_request().unwrap_or_else(|| "r1".into()),
        };
        let label = (!self.dice.percent(10)).then(|| self.dice.percent(50));
        let target = OutcomeTarget::RequestId(request);
        let outcome = OutcomeRecord { model: MODEL.into(), target, label, time: now, revision: 0 };
        self.posted.push(outcome.clone());
        outcome
    }
}

/// Makes the call and writes down what was promised.
pub async fn make(call: Call, cell: Cell, ledger: Rc<RefCell<Ledger>>, trace: Rc<RefCell<Trace>>) {
    let said = format!("{call:?}");
    let Ok(answer) = tokio::time::timeout(PATIENCE, answer(call, &cell, &ledger)).await else {
        return ledger.borrow_mut().broke(format!("no answer after {} s: {said}", PATIENCE.as_secs()));
    };
    trace.borrow_mut().note(format!("{said} -> {answer}"));
}

async fn answer(call: Call, cell: &Cell, ledger: &Rc<RefCell<Ledger>>) -> String {
    let class = match &call {
        Call::Predict(_) | Call::Abandon(..) => Class::Serve,
        Call::Ingest(_) | Call::Replay(_) | Call::Outcomes(_) => Class::Ingest,
        Call::Report | Call::Explain(_) | Call::Train | Call::Look => Class::Read,
    };
    // As the gateway does: nothing is done for a request that was not let in.
    let gate = cell.gate();
    let model = if class == Class::Serve { gate.model(MODEL) } else { None };
    let _ticket = match gate.enter(class, model, DEADLINE).await {
        Ok(ticket) => ticket,
        Err(e) => return refused(&e, ledger),
    };
    match call {
        Call::Ingest(events) => ingest(events, cell, ledger).await,
        Call::Replay(lines) => replay(lines, cell, ledger).await,
        Call::Predict(command) => predict(command, cell, ledger).await,
        Call::Abandon(command, ms) => {
            let generation = cell.generation();
            let asked = cell.predict(&generation, command, DEADLINE);
            let _ = tokio::time::timeout(Duration::from_millis(ms), asked).await;
            ledger.borrow_mut().count("abandoned");
            "abandoned".into()
        }
        Call::Outcomes(outcomes) => post(outcomes, cell, ledger).await,
        Call::Report => match cell.monitor(MODEL, None, None).await {
            Ok(report) => format!("{} requests", report.total.requests),
            Err(e) => refused(&e, ledger),
        },
        Call::Explain(user) => {
            let ids = BTreeMap::from([("user".to_owned(), Some(user))]);
            match cell.explain("orders_1h", &ids, None).await {
                Ok(found) => format!("{:?}", found.value),
                Err(e) => refused(&e, ledger),
            }
        }
        Call::Train => match cell.train(MODEL).await {
            Ok(job) => format!("job {}", job.job),
            Err(e) => refused(&e, ledger),
        },
        Call::Look => match cell.predictions(Some(MODEL.into()), None, 20).await {
            Ok(found) => format!("{} predictions", found.len()),
            Err(e) => refused(&e, ledger),
        },
    }
}

fn refused(refusal: &Refusal, ledger: &Rc<RefCell<Ledger>>) -> String {
    let code = refusal_code(refusal);
    ledger.borrow_mut().count(code);
    code.to_owned()
}

async fn ingest(events: Vec<Event>, cell: &Cell, ledger: &Rc<RefCell<Ledger>>) -> String {
    for e in &events {
        ledger.borrow_mut().sent.entry(e.id.clone()).or_default().push(e.clone());
    }
    let results = match cell.ingest(events.clone()).await {
        Ok(results) => results,
        Err(e) => return refused(&e, ledger),
    };
    let mut ledger = ledger.borrow_mut();
    for (event, result) in events.into_iter().zip(&results) {
        let seq = match result {
            IngestOutcome::Accepted { seq, .. } => {
                ledger.count("accepted");
                *seq
            }
            IngestOutcome::Duplicate { seq } => {
                ledger.count("duplicate");
                *seq
            }
            IngestOutcome::Conflict { .. } => {
                ledger.count("conflict");
                if ledger.sent[&event.id].iter().all(|sent| *sent == event) {
                    ledger.broke(format!("event {} was never sent with another body and is a conflict", event.id));
                }
                continue;
            }
            IngestOutcome::Rejected { .. } => {
                ledger.count("rejected");
                continue;
            }
        };
        let id = event.id.clone();
        match ledger.events.get(&id) {
            Some((told, body)) if *told != seq || *body != event => {
                let why = format!("event {id} was acknowledged as {told} and then as {seq}, or with another body");
                ledger.broke(why);
            }
            Some(_) => {}
            None => drop(ledger.events.insert(id, (seq, event))),
        }
    }
    format!("{results:?}")
}

async fn replay(lines: Vec<Event>, cell: &Cell, ledger: &Rc<RefCell<Ledger>>) -> String {
    for e in &lines {
        ledger.borrow_mut().sent.entry(e.id.clone()).or_default().push(e.clone());
    }
    let mut refusals = Vec::new();
    let told = loop {
        match cell.replay(lines.clone()).await {
            Ok(told) => break told,
            Err(e) => refusals.push(refused(&e, ledger)),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let mut ledger = ledger.borrow_mut();
    for (event, line) in lines.into_iter().zip(&told) {
        let answered = |p: &ReplayedPrediction| p.id.is_some();
        if let IngestOutcome::Accepted { seq, .. } | IngestOutcome::Duplicate { seq } = line.ingest {
            ledger.count("replayed");
            if line.predictions.iter().any(answered) {
                ledger.replayed.insert(event.id.clone());
            }
            ledger.events.entry(event.id.clone()).or_insert((seq, event));
        }
    }
    format!("{refusals:?} {told:?}")
}

async fn predict(command: PredictCommand, cell: &Cell, ledger: &Rc<RefCell<Ledger>>) -> String {
    let request = command.request_id.clone();
    let answer = match cell.predict(&cell.generation(), command, DEADLINE).await {
        Ok(answer) => answer,
        Err(e) => return refused(&e, ledger),
    };
    let mut ledger = ledger.borrow_mut();
    let id = answer.record.id;
    let life = ledger.life;
    if answer.repeated {
        ledger.count("repeated");
        let first = request.as_ref().and_then(|r| ledger.by_request.get(r)).copied();
        // The first answer may have gone to a caller that was gone by then.
        if first.is_some_and(|(l, first)| l == life && first != id) {
            ledger.broke(format!("request {request:?} was answered as {first:?} and again as {id}"));
        }
    } else {
        ledger.count("answered");
    }
    if let Some(request) = request {
        ledger.by_request.insert(request, (life, id));
    }
    if answer.logged {
        ledger.answered.insert(id, answer.record.clone());
    } else {
        ledger.count("not_logged");
    }
    let r = &answer.record;
    format!(
        "{id} {} {} {:?} {:?} logged {} repeated {}",
        r.version, r.score, r.verdict, r.vector, answer.logged, answer.repeated
    )
}

async fn post(outcomes: Vec<OutcomeRecord>, cell: &Cell, ledger: &Rc<RefCell<Ledger>>) -> String {
    let results = match cell.outcomes(outcomes.clone()).await {
        Ok(results) => results,
        Err(e) => return refused(&e, ledger),
    };
    let mut ledger = ledger.borrow_mut();
    for (outcome, result) in outcomes.into_iter().zip(&results) {
        match result {
            Ok(OutcomeStatus::Matured | OutcomeStatus::Amended | OutcomeStatus::Voided | OutcomeStatus::Parked) => {
                ledger.count("outcome_kept");
                ledger.outcomes.push(outcome);
            }
            Ok(OutcomeStatus::Duplicate) => ledger.count("outcome_duplicate"),
            Ok(OutcomeStatus::Conflict) => ledger.count("outcome_conflict"),
            Ok(OutcomeStatus::Expired) => ledger.count("outcome_expired"),
            Err(_) => ledger.count("outcome_refused"),
        }
    }
    format!("{results:?}")
}
