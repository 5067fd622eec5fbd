//! **Owns** the window state of its share of the entities (hash of the entity key).
//! **Receives** `FoldEvents` from the event logger, in order of seq; `LoadEntity` for cold entities; `SaveSnapshot`.
//! **Sends** nothing; it publishes its table under a mutex that only it writes, because a crossing to another
//! thread costs more than the microseconds of a read (two crossings halve the throughput of the whole gateway).
//! **On failure** the caller gets `internal`; a poisoned table refuses reads until it is rebuilt. Nothing is lost.
//! **On restart** the state is its last snapshot plus the event log after the snapshot's sequence number.

use crate::api::Refusal;
use crate::deps::Deps;
use crate::guard::{Vitals, guarded};
use crate::ports::StoreError;
use actix::prelude::*;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use understudy_domain::entity::EntityHash;
use understudy_domain::event::LoggedEvent;
use understudy_domain::features::{EntityState, FeatureTable};

/// A snapshot waits this long for the log to become durable up to its watermark, then tries again later.
const DURABLE_WAIT: Duration = Duration::from_secs(5);
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(30);

pub type SharedTable = Arc<Mutex<FeatureTable>>;
pub type Done<T> = oneshot::Sender<Result<T, Refusal>>;

/// Fold events into the state; replies when they can be read.
#[derive(Message)]
#[rtype(result = "()")]
pub struct FoldEvents {
    pub events: Arc<Vec<LoggedEvent>>,
    pub done: Done<()>,
}

/// Bring a cold entity's state back into memory; false if the store has none.
#[derive(Message)]
#[rtype(result = "Result<bool, Refusal>")]
pub struct LoadEntity {
    pub entity: EntityHash,
}

/// Save what changed since the last snapshot; replies with the watermark.
#[derive(Message)]
#[rtype(result = "Result<u64, Refusal>")]
pub struct SaveSnapshot;

/// Drop the state and recover it from the snapshot and the log.
#[derive(Message)]
#[rtype(result = "()")]
pub struct RebuildState;

#[derive(Message)]
#[rtype(result = "()")]
struct KeepHouse;

pub struct FeatureShard {
    index: usize,
    deps: Arc<Deps>,
    vitals: Arc<Vitals>,
    table: SharedTable,
    /// Evicted or snapshotted, and not on disk yet.
    unsaved: BTreeMap<EntityHash, EntityState>,
    folded: u64,
}

pub fn empty_table(index: usize, deps: &Deps) -> FeatureTable {
    let s = &deps.settings;
    FeatureTable::new(deps.catalog.plan.clone(), index, s.shards, (s.max_entities / s.shards).max(1))
}

impl FeatureShard {
    pub fn new(index: usize, deps: Arc<Deps>, vitals: Arc<Vitals>, table: SharedTable) -> Self {
        FeatureShard { index, deps, vitals, table, unsaved: BTreeMap::new(), folded: 0 }
    }

    /// Last snapshot plus the log after it, into a fresh table.
    fn recover(&mut self) -> Result<(), StoreError> {
        let layout = layout(&self.deps);
        let mut table = empty_table(self.index, &self.deps);
        let stored = self.deps.features.layout()? == Some(layout);
        let mut watermark = if stored { self.deps.features.watermark(self.index)? } else { 0 };
        if watermark > self.deps.events.last_seq() {
            tracing::warn!(
                shard = self.index,
                watermark,
                "snapshot is ahead of the log; rebuilding from the log alone"
            );
            watermark = 0;
        }
        table.set_may_be_cold(watermark > 0);
        table.resume(watermark);
        let (index, store) = (self.index, self.deps.features.clone());
        let mut failed = None;
        let mut unsaved = BTreeMap::new();
        self.deps.events.scan(watermark + 1, &mut |e| {
            table.apply(&e, &mut |h| {
                unsaved.remove(&h).or_else(|| {
                    if watermark == 0 {
                        return None;
                    }
                    store.load(index, h).unwrap_or_else(|e| {
                        failed = Some(e);
                        None
                    })
                })
            });
            unsaved.extend(table.take_evicted());
            ControlFlow::Continue(())
        })?;
        if let Some(e) = failed {
            return Err(e);
        }
        self.unsaved = unsaved;
        *self.table.lock().unwrap_or_else(PoisonError::into_inner) = table;
        self.table.clear_poison();
        Ok(())
    }

    fn fold(&mut self, events: &[LoggedEvent]) -> Result<(), Refusal> {
        let mut table = self.table.lock().map_err(|_| poisoned())?;
        let (index, store, unsaved) = (self.index, &self.deps.features, &mut self.unsaved);
        let mut failed = None;
        for e in events {
            table.apply(e, &mut |h| {
                unsaved.remove(&h).or_else(|| {
                    store.load(index, h).unwrap_or_else(|e| {
                        failed = Some(e);
                        None
                    })
                })
            });
        }
        unsaved.extend(table.take_evicted());
        self.folded += events.len() as u64;
        match failed {
            None => Ok(()),
            // The state was folded without what is on disk: it is not certain any more.
            Some(e) => panic!("cold state could not be read: {e}"),
        }
    }

    fn snapshot(&mut self) -> Result<(u64, Vec<(EntityHash, EntityState)>), Refusal> {
        let mut table = self.table.lock().map_err(|_| poisoned())?;
        table.expire(self.deps.clock.now());
        self.unsaved.extend(table.take_evicted());
        self.unsaved.extend(table.snapshot_dirty());
        self.folded = 0;
        Ok((table.watermark(), self.unsaved.iter().map(|(h, s)| (*h, s.clone())).collect()))
    }
}

/// What saved state belongs to: other features or another number of shards start from the log.
pub fn layout(deps: &Deps) -> String {
    format!("{}/{}", deps.catalog.plan.id(), deps.settings.shards)
}

fn poisoned() -> Refusal {
    Refusal::Unavailable { code: "features_rebuilding", detail: "feature state is being rebuilt; try again".into() }
}

impl Actor for FeatureShard {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(1024);
        match self.recover() {
            Ok(()) => self.vitals.set_ready(true, ""),
            Err(e) => self.vitals.set_ready(false, e.to_string()),
        }
        ctx.run_interval(SNAPSHOT_INTERVAL, |_, ctx| ctx.notify(KeepHouse));
    }
}

impl Supervised for FeatureShard {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.vitals.restarted(self.deps.wall.now());
    }
}

impl Handler<FoldEvents> for FeatureShard {
    type Result = ();

    fn handle(&mut self, m: FoldEvents, ctx: &mut Self::Context) {
        let vitals = self.vitals.clone();
        let result = guarded(self, ctx, &vitals, |shard, ctx| {
            shard.fold(&m.events)?;
            if shard.folded >= shard.deps.settings.snapshot_every {
                shard.folded = 0;
                ctx.notify(KeepHouse);
            }
            Ok(())
        });
        let _ = m.done.send(result);
    }
}

impl Handler<LoadEntity> for FeatureShard {
    type Result = Result<bool, Refusal>;

    fn handle(&mut self, m: LoadEntity, ctx: &mut Self::Context) -> Self::Result {
        let vitals = self.vitals.clone();
        guarded(self, ctx, &vitals, |shard, _| {
            let state = match shard.unsaved.remove(&m.entity) {
                Some(state) => Some(state),
                None => shard
                    .deps
                    .features
                    .load(shard.index, m.entity)
                    .map_err(|e| Refusal::Unavailable { code: "storage_unavailable", detail: e.to_string() })?,
            };
            let Some(state) = state else { return Ok(false) };
            shard.deps.counters.cold_loads.fetch_add(1, Relaxed);
            let mut table = shard.table.lock().map_err(|_| poisoned())?;
            table.insert(m.entity, state);
            shard.unsaved.extend(table.take_evicted());
            Ok(true)
        })
    }
}

impl Handler<SaveSnapshot> for FeatureShard {
    type Result = ResponseActFuture<Self, Result<u64, Refusal>>;

    fn handle(&mut self, _: SaveSnapshot, ctx: &mut Self::Context) -> Self::Result {
        let vitals = self.vitals.clone();
        let taken = guarded(self, ctx, &vitals, |shard, _| shard.snapshot());
        let (deps, index) = (self.deps.clone(), self.index);
        let saved = async move {
            let (watermark, states) = taken?;
            let kept = states.clone();
            tokio::task::spawn_blocking(move || save_when_durable(&deps, index, watermark, states))
                .await
                .map_err(|e| Refusal::Internal { detail: e.to_string() })?
                .map(|()| (watermark, kept))
                .map_err(|e| Refusal::Unavailable { code: "storage_unavailable", detail: e.to_string() })
        };
        Box::pin(saved.into_actor(self).map(|result, shard, _| {
            let (watermark, saved) = result?;
            // Evicted again with newer state while the save ran: that one still has to be written.
            for (key, state) in saved {
                if shard.unsaved.get(&key) == Some(&state) {
                    shard.unsaved.remove(&key);
                }
            }
            Ok(watermark)
        }))
    }
}

/// State must never be ahead of the log on disk: the log may lose its unacknowledged tail, state may not keep it.
fn save_when_durable(
    deps: &Deps,
    shard: usize,
    watermark: u64,
    states: Vec<(EntityHash, EntityState)>,
) -> Result<(), StoreError> {
    let started = std::time::Instant::now();
    while deps.events.last_seq() < watermark {
        if started.elapsed() > DURABLE_WAIT {
            return Err(StoreError::Io("the event log is not durable up to the snapshot".into()));
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    let layout = layout(deps);
    if deps.features.layout()? != Some(layout.clone()) {
        deps.features.reset(&layout)?;
    }
    deps.features.save(shard, watermark, states)
}

impl Handler<KeepHouse> for FeatureShard {
    type Result = ();

    fn handle(&mut self, _: KeepHouse, ctx: &mut Self::Context) {
        let shard = self.index;
        ctx.address()
            .send(SaveSnapshot)
            .into_actor(self)
            .map(move |r, _, _| {
                if let Ok(Err(e)) = r {
                    tracing::warn!(shard, ?e, "snapshot not saved; the event log still has it all");
                }
            })
            .spawn(ctx);
    }
}

impl Handler<RebuildState> for FeatureShard {
    type Result = ();

    fn handle(&mut self, _: RebuildState, ctx: &mut Self::Context) {
        self.vitals.set_ready(false, "rebuilding from snapshot and log");
        ctx.stop();
    }
}
