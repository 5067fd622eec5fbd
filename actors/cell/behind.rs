//! The events behind a logged prediction: for each entity and age among its features, the newest event, found in the
//! event log by its time of arrival.

use super::Cell;
use crate::api::{Behind, Refusal};
use crate::ports::{EventLog, StoreError};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};
use understudy_domain::event::LoggedEvent;
use understudy_domain::features::Plan;
use understudy_domain::prediction::PredictionRecord;
use understudy_domain::time::{Span, Timestamp};

/// Events looked through for one entity, from the arrival of what is sought: a late event arrives after others.
const MAX_EVENTS: usize = 20_000;
/// All of a prediction's events are looked for this long; what is not found by then says so.
const BUDGET: Duration = Duration::from_millis(700);

impl Cell {
    /// `names` are the features of the record's vector, in order. Only if the definitions that made it are still in force.
    pub async fn behind(&self, record: &PredictionRecord, names: Vec<String>) -> Result<Vec<Behind>, Refusal> {
        let plan = self.generation().catalog.plan.clone();
        if plan.id() != record.feature_set || names.len() != record.vector.len() {
            return Ok(Vec::new());
        }
        let (record, events) = (record.clone(), self.deps().events.clone());
        self.read(move || {
            let until = Instant::now() + BUDGET;
            let mut all = groups(&plan, &record, &names);
            for (entity, behind) in &mut all {
                if Instant::now() < until {
                    find(&*events, &plan, &record, *entity, behind)?;
                }
            }
            Ok(all.into_iter().map(|(_, behind)| behind).collect())
        })
        .await
    }
}

/// Features that share an entity and the age of their newest event.
fn groups(plan: &Plan, record: &PredictionRecord, names: &[String]) -> Vec<(usize, Behind)> {
    let mut groups: BTreeMap<(usize, u32), Vec<String>> = BTreeMap::new();
    for (name, age) in names.iter().zip(&record.ages) {
        if let (Some(age), Some(entity)) = (age, plan.feature(name).and_then(|f| f.entity())) {
            groups.entry((entity, *age)).or_default().push(name.clone());
        }
    }
    let made = groups.into_iter().map(|((entity, age_s), features)| {
        let keys = plan.entity_keys(entity).iter();
        let id = keys.filter_map(|k| record.entities.get(k).cloned().flatten()).collect();
        let name = plan.entity_types().nth(entity).unwrap_or_default().to_owned();
        (entity, Behind { entity: name, id, age_s, features, event: None })
    });
    made.collect()
}

fn find(
    events: &dyn EventLog,
    plan: &Plan,
    record: &PredictionRecord,
    entity: usize,
    behind: &mut Behind,
) -> Result<(), StoreError> {
    let wanted = plan.entity_hashes(&record.entities)[entity];
    // Ages are whole seconds, rounded down.
    let newest = record.time - Span::seconds(i64::from(behind.age_s));
    let oldest = newest - Span::seconds(1);
    let from = first_arrived(events, oldest)?;
    let mut left = MAX_EVENTS;
    events.scan(from, &mut |e| {
        left -= 1;
        let time = e.event.time;
        let passed = behind.event.is_some() && e.ingested > newest;
        if passed || left == 0 || e.ingested > record.time {
            return ControlFlow::Break(());
        }
        if time > oldest && time <= newest && !e.late && plan.entity_hashes(&e.event.entities)[entity] == wanted {
            behind.event = Some(e);
        }
        ControlFlow::Continue(())
    })
}

/// Position of the first event that arrived at `time` or later, by bisection: arrivals are in order.
fn first_arrived(events: &dyn EventLog, time: Timestamp) -> Result<u64, StoreError> {
    let (mut low, mut high) = (1, events.last_seq() + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let mut found: Option<LoggedEvent> = None;
        events.scan(middle, &mut |e| {
            found = Some(e);
            ControlFlow::Break(())
        })?;
        match found {
            Some(e) if e.ingested < time => low = e.seq.max(middle) + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}
