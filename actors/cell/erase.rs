//! An entity is erased: first what there is of it is looked up, then the tombstone is durable and its states go.
//!
//! States that are named by its keys and others are known from the log only. It is read before, so that they go in
//! the same message as the tombstone, and what came meanwhile is read after.

use super::{Cell, mailbox};
use crate::api::Refusal;
use crate::event_logger::EraseEntity;
use crate::feature_shard::ForgetEntities;
use crate::feed_monitor::ForgetIds;
use crate::ports::{EventLog, PredictionLog, StoreError};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use understudy_domain::entity::{EntityHash, EntityIds};
use understudy_domain::erasure::{Erased, NoReach, Reach, Tombstone};
use understudy_domain::features::Plan;
use understudy_domain::prediction::PredictionId;
use understudy_domain::time::Timestamp;

/// What was found of an erased entity.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Erasure {
    pub entity: String,
    /// Salted hash that stands for the id from now on, in hexadecimal.
    pub mark: String,
    /// Events up to this number are erased.
    pub seq: u64,
    /// Predictions up to this time are erased.
    pub time: Timestamp,
    /// It was erased before, and perhaps came back since.
    pub again: bool,
    /// States dropped from memory and disk.
    pub states_dropped: u64,
    /// Hidden from every answer, and physically in the log until it is compacted.
    pub events_until_compaction: u64,
    pub predictions_until_compaction: u64,
}

/// What the log says of an entity.
#[derive(Default)]
struct Found {
    events: u64,
    states: BTreeSet<EntityHash>,
    last: u64,
}

fn look(log: &dyn EventLog, plan: &Plan, reach: &Reach, ids: &EntityIds, from: u64) -> Result<Found, StoreError> {
    let mut found = Found { last: from - 1, ..Found::default() };
    log.scan(from, &mut |e| {
        found.last = e.seq;
        if ids.iter().all(|(k, id)| e.event.entities.get(k) == Some(id)) {
            found.events += 1;
            found.states.extend(reach.states(plan, &e.event.entities));
        }
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

fn count(log: &dyn PredictionLog, erased: &Erased) -> Result<u64, StoreError> {
    let mut n = 0;
    log.scan(None, PredictionId(0), &mut |r| {
        n += u64::from(!r.is_erased() && erased.hides(&r));
        ControlFlow::Continue(())
    })?;
    Ok(n)
}

impl Cell {
    /// Erases all that is known of an entity up to now. `id` has one part per key of the type.
    pub async fn erase(&self, entity: &str, id: &[String]) -> Result<Erasure, Refusal> {
        let generation = self.generation();
        let plan = generation.catalog.plan.clone();
        let reach = Reach::of(&plan, entity).map_err(|e| no_reach(&plan, entity, &e))?;
        if reach.keys.len() != id.len() || id.iter().any(String::is_empty) {
            return Err(Refusal::Invalid {
                code: "invalid_entity_id",
                detail: format!(
                    "`{entity}` is named by {}: {} ids are needed",
                    reach.keys.join(", "),
                    reach.keys.len()
                ),
            });
        }
        let ids: EntityIds = reach.keys.iter().cloned().zip(id.iter().cloned().map(Some)).collect();
        let deps = self.system.deps.clone();
        let erasures = deps.erasures.clone();
        let as_read = || (deps.events.clone(), deps.predictions.clone());
        let (raw, raw_predictions) = erasures.unfiltered().unwrap_or_else(as_read);
        let parts: Vec<&str> = id.iter().map(String::as_str).collect();
        let mark = erasures.now().mark(&reach.keys, &parts);
        let again = erasures.now().iter().any(|t| t.mark == mark);

        let forget = ForgetIds { keys: reach.keys.clone(), ids: id.to_vec() };
        let (log, p, r, i) = (raw.clone(), plan.clone(), reach.clone(), ids.clone());
        let before = self.read(move || look(&*log, &p, &r, &i, 1)).await?;
        let mut states = before.states.clone();
        states.extend(reach.states(&plan, &ids));
        let (keys, entity) = (reach.keys.clone(), entity.to_owned());
        let asked = EraseEntity { entity, keys, mark, states: states.iter().copied().collect() };
        let (tombstone, mut dropped): (Tombstone, u64) = self.system.events.send(asked).await.map_err(mailbox)??;

        // What was on its way to the log when it was read.
        let settled = deps.events.append(Vec::new()).await;
        settled.unwrap_or(Err(StoreError::Closed)).map_err(crate::prediction_logger::unavailable)?;
        let (log, from) = (raw.clone(), before.last + 1);
        let after = self.read(move || look(&*log, &plan, &reach, &ids, from)).await?;
        let more: Vec<EntityHash> = after.states.difference(&states).copied().collect();
        if !more.is_empty() {
            for shard in &generation.features.shards {
                dropped += shard.send(ForgetEntities { entities: more.clone() }).await.map_err(mailbox)??;
            }
        }
        self.catch_up().await?;
        self.system.feeds.send(forget).await.map_err(mailbox)?.map_err(crate::prediction_logger::unavailable)?;
        let (log, erased) = (raw_predictions, Erased::new(erasures.now().salt(), [tombstone.clone()]));
        let predictions = self.read(move || count(&*log, &erased)).await?;
        self.read(move || erasures.finish(mark)).await?;
        Ok(Erasure {
            entity: tombstone.entity,
            mark: format!("{mark:032x}"),
            seq: tombstone.seq,
            time: tombstone.time,
            again,
            states_dropped: dropped,
            events_until_compaction: before.events + after.events,
            predictions_until_compaction: predictions,
        })
    }
}

fn no_reach(plan: &Plan, entity: &str, why: &NoReach) -> Refusal {
    match why {
        NoReach::UnknownType => Refusal::NotFound {
            code: "unknown_entity_type",
            detail: format!(
                "no entity type is named `{entity}`; the project has {}",
                plan.entity_types().collect::<Vec<_>>().join(", ")
            ),
        },
        NoReach::SharedKeys { with } => Refusal::Invalid {
            code: "entity_shares_keys",
            detail: format!(
                "an entity of `{entity}` is named by ids of `{with}` too, whose features would lose events nobody asked to \
                 erase; erase the entity of `{with}` that is meant"
            ),
        },
    }
}
