//! The training set out of the event log, through the very code that serves.
//!
//! Events are pushed in order of `seq`. At a request event the vector is computed as of its time from the
//! events before it, and only then is the event itself folded in. What was not known by `until` is not seen.

use crate::event::LoggedEvent;
use crate::expr::Program;
use crate::features::{FeatureTable, Lookup, Plan, Vector, VectorPlan};
use crate::problem::{Problem, closest};
use crate::project::OutcomeSpec;
use crate::time::{Span, Timestamp};
use crate::value::{Value, ValueType};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Stream time between two sweeps for data that no window reaches any more.
const SWEEP: Span = Span::days(1);

/// One request with what its features were and what became of it.
#[derive(Clone, Debug, PartialEq)]
pub struct BackfillRow {
    pub request_id: String,
    pub time: Timestamp,
    pub vector: Vec<Value>,
    pub ages: Vec<Option<u32>>,
    /// `None` if no outcome was known by `until`.
    pub label: Option<bool>,
}

/// How the label is read from outcome events.
struct Labels {
    event: String,
    /// Property that holds the request id.
    request: String,
    label: Program,
    void: Option<String>,
}

/// A pass over the event log for one model.
pub struct Backfill {
    plan: Arc<Plan>,
    vector: VectorPlan,
    table: FeatureTable,
    request_event: String,
    labels: Option<Labels>,
    from: Option<Timestamp>,
    until: Timestamp,
    wanted: Option<BTreeSet<String>>,
    before: Option<Timestamp>,
    rows: Vec<BackfillRow>,
    /// Label by request id; `None` voids the request.
    outcomes: HashMap<String, Option<bool>>,
    swept: Option<Timestamp>,
}

impl Labels {
    fn new(plan: &Plan, spec: &OutcomeSpec) -> Result<Option<Self>, Vec<Problem>> {
        let (Some(event), Some(request), Some(label)) = (&spec.event, &spec.request_property, &spec.label) else {
            let given = [spec.event.is_some(), spec.request_property.is_some(), spec.label.is_some()];
            if given.iter().any(|g| *g) {
                let hint = "outcomes read from events need `event`, `request_property` and `label`";
                return Err(vec![Problem::new("outcome", "the outcome is only half described", hint)]);
            }
            return Ok(None);
        };
        let Some(properties) = plan.event_properties(event) else {
            let text = format!("there is no event type `{event}`");
            return Err(vec![Problem::new("outcome.event", text, "declare it under `events` in features/*.toml")]);
        };
        let mut problems = Vec::new();
        let void = spec.void_event.as_ref();
        let carriers = [("outcome.request_property", Some(event)), ("outcome.void_event", void)];
        for (key, event) in carriers.into_iter().filter_map(|(k, e)| Some((k, e?))) {
            match plan.event_properties(event) {
                None => problems.push(Problem::new(key, format!("there is no event type `{event}`"), "")),
                Some(known) if !known.iter().any(|(n, t)| n == request && *t == ValueType::Category) => {
                    let hint = closest(request, known.iter().map(|(n, _)| n.as_str())).map_or_else(
                        || format!("declare `{request} = \"category\"` there"),
                        |k| format!("did you mean `{k}`?"),
                    );
                    problems.push(Problem::new(key, format!("`{event}` has no text property `{request}`"), hint));
                }
                Some(_) => {}
            }
        }
        match Program::compile(label, properties, Some(ValueType::Bool)) {
            Ok(label) if problems.is_empty() => {
                Ok(Some(Labels { event: event.clone(), request: request.clone(), label, void: void.cloned() }))
            }
            Ok(_) => Err(problems),
            Err(e) => {
                problems.push(Problem::new("outcome.label", e.message, e.hint));
                Err(problems)
            }
        }
    }

    /// The request that the event is about, and its label (`None` voids it).
    fn read(&self, plan: &Plan, e: &LoggedEvent) -> Option<(String, Option<bool>)> {
        let request = e.event.properties.get(&self.request)?.as_str()?.to_string();
        if self.void.as_ref() == Some(&e.event.kind) {
            return Some((request, None));
        }
        if self.event != e.event.kind {
            return None;
        }
        match self.label.eval(&plan.event_values(&e.event)?) {
            Value::Bool(label) => Some((request, Some(label))),
            _ => None,
        }
    }
}

impl Backfill {
    /// A pass that makes a row of each event of type `request_event` at or after `from`, with what was
    /// ingested at or before `until`. Without `outcome` no row has a label.
    ///
    /// # Errors
    /// The request event or the outcome does not agree with the declared events.
    pub fn new(
        plan: Arc<Plan>,
        vector: VectorPlan,
        request_event: &str,
        outcome: Option<&OutcomeSpec>,
        from: Option<Timestamp>,
        until: Timestamp,
    ) -> Result<Self, Vec<Problem>> {
        if plan.event_properties(request_event).is_none() {
            let text = format!("there is no event type `{request_event}`");
            return Err(vec![Problem::new("request.event", text, "declare it under `events` in features/*.toml")]);
        }
        let labels = outcome.map_or(Ok(None), |o| Labels::new(&plan, o))?;
        Ok(Backfill {
            table: FeatureTable::new(Arc::clone(&plan), 0, 1, usize::MAX),
            plan,
            vector,
            request_event: request_event.to_string(),
            labels,
            from,
            until,
            wanted: None,
            before: None,
            rows: Vec::new(),
            outcomes: HashMap::new(),
            swept: None,
        })
    }

    /// Rows for these request ids only: to verify logged vectors.
    pub fn only(mut self, requests: BTreeSet<String>) -> Self {
        self.wanted = Some(requests);
        self
    }

    /// Rows only for requests before this instant.
    pub fn before(mut self, end: Timestamp) -> Self {
        self.before = Some(end);
        self
    }

    /// Takes the next event of the log, in order of `seq`.
    pub fn push(&mut self, e: &LoggedEvent) {
        if e.ingested > self.until {
            return;
        }
        let stands = !e.event.is_erased();
        if stands && e.event.kind == self.request_event && self.wants(e) {
            let v = self.vector_of(e);
            self.rows.push(BackfillRow {
                request_id: e.event.id.clone(),
                time: e.event.time,
                vector: v.values,
                ages: v.ages,
                label: None,
            });
        }
        if stands && let Some((request, label)) = self.labels.as_ref().and_then(|l| l.read(&self.plan, e)) {
            // What was voided stays void; otherwise the later word counts.
            let known = self.outcomes.entry(request).or_insert(label);
            if known.is_some() {
                *known = label;
            }
        }
        self.table.apply(e, &mut |_| None);
        if self.swept.is_none_or(|s| e.ingested - s >= SWEEP) {
            self.table.expire(e.ingested);
            self.swept = Some(e.ingested);
        }
    }

    fn wants(&self, e: &LoggedEvent) -> bool {
        self.from.is_none_or(|f| e.event.time >= f)
            && self.before.is_none_or(|end| e.event.time < end)
            && self.wanted.as_ref().is_none_or(|w| w.contains(&e.event.id))
    }

    /// The vector as of the request's time, from the events before it.
    fn vector_of(&mut self, e: &LoggedEvent) -> Vector {
        let hashes = self.plan.entity_hashes(&e.event.entities);
        let mut v = self.vector.blank();
        for group in self.vector.groups() {
            let Some(hash) = hashes[group.entity] else { continue };
            if self.table.read(hash, group, e.event.time, &mut v) == Lookup::Cold {
                self.table.absent(group, &mut v); // nothing is ever evicted here
            }
        }
        self.vector.finish(&e.event.properties, &e.event.entities, &mut v);
        v
    }

    /// All rows in order of arrival, without the void ones.
    pub fn finish(self) -> Vec<BackfillRow> {
        let Backfill { rows, outcomes, .. } = self;
        rows.into_iter()
            .filter_map(|mut row| {
                if let Some(outcome) = outcomes.get(&row.request_id) {
                    row.label = Some((*outcome)?);
                }
                Some(row)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests;
