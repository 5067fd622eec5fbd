//! **Owns** the window state of its share of the entities (hash of the entity key).
//! **Receives** `FoldEvents` from the event logger, in order of seq; `LoadEntity` for cold entities; `SaveSnapshot`.
//! **Sends** nothing; it publishes its table under a mutex that only it writes, because a crossing to another
//! thread costs more than the microseconds of a read (two crossings halve the throughput of the whole gateway).
//! **On failure** the caller gets `internal`; a poisoned table refuses reads until it is rebuilt. Nothing is lost.
//! **On restart** the state is its last snapshot plus the event log after the snapshot's sequence number, plus
//! what was folded and is still on its way to the log.

mod catch_up;
mod forget;
mod layout;
mod rebuild;

pub use catch_up::{CatchUp, SetMaxEntities};
pub use forget::ForgetEntities;
pub use layout::{Layout, Scan, layout_id};
pub(crate) use rebuild::{Rebuilding, Rebuilt};

use crate::api::Refusal;
use crate::deps::Deps;
use crate::event_logger::RETRY;
use crate::fault_point;
use crate::guard::Vitals;
use crate::ports::StoreError;
use crate::start_pass::StartPass;
use actix::prelude::*;
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
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
/// Between two looks whether it is.
const DURABLE_LOOK: Duration = Duration::from_millis(1);

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

/// Memory is short, or no longer: keep four fifths of the entities that are in memory, or again as many as
/// the settings allow. What leaves memory is saved, and read back when it is asked for.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ShrinkState {
    pub shrink: bool,
}

/// Entities of a shard that are kept however short memory is.
const MIN_ENTITIES: usize = 1000;

pub struct FeatureShard {
    index: usize,
    layout: Layout,
    deps: Arc<Deps>,
    vitals: Arc<Vitals>,
    table: SharedTable,
    /// Where the first table comes from, if the process has just started.
    start: Option<Arc<StartPass>>,
    /// Evicted or snapshotted, and not on disk yet.
    unsaved: BTreeMap<EntityHash, EntityState>,
    /// Erased, and on disk until the save in progress is over: not read from there.
    forgotten: HashSet<EntityHash>,
    /// Batches that the log may not hold yet, in order: a table that is made again needs them.
    tail: VecDeque<Arc<Vec<LoggedEvent>>>,
    folded: u64,
    /// Rebuilds so far: a snapshot taken before one must not be saved after it, its numbers may mean other events.
    life: u64,
    /// Held by the snapshot that is being saved.
    saving: Arc<tokio::sync::Mutex<()>>,
}

impl FeatureShard {
    pub(crate) fn new(
        index: usize,
        layout: Layout,
        deps: Arc<Deps>,
        vitals: Arc<Vitals>,
        table: SharedTable,
        start: Option<Arc<StartPass>>,
    ) -> Self {
        refuse_reads(&table);
        let (unsaved, forgotten, tail) = (BTreeMap::new(), HashSet::new(), VecDeque::new());
        let (folded, life, saving) = (0, 0, Arc::default());
        FeatureShard { index, layout, deps, vitals, table, start, unsaved, forgotten, tail, folded, life, saving }
    }

    /// Makes the table again; reads are refused until it is complete.
    fn rebuild(&mut self, ctx: &mut Context<Self>) {
        self.vitals.set_ready(false, "rebuilding from snapshot and log");
        refuse_reads(&self.table);
        self.life += 1;
        fault_point!("feature_shard.started");
        match self.recover() {
            Ok(()) => self.vitals.set_ready(true, ""),
            Err(e) => {
                self.vitals.set_ready(false, e.to_string());
                ctx.run_later(RETRY, |shard, ctx| shard.rebuild(ctx));
            }
        }
    }

    /// Last snapshot plus the log after it, into a fresh table.
    fn recover(&mut self) -> Result<(), StoreError> {
        let Rebuilt { table, unsaved } = match self.start.take().and_then(|pass| pass.table(self.index)) {
            Some(made) => made,
            None => self.read_log()?,
        };
        self.unsaved = unsaved;
        *self.table.lock().unwrap_or_else(PoisonError::into_inner) = table;
        self.table.clear_poison();
        Ok(())
    }

    fn read_log(&self) -> Result<Rebuilt, StoreError> {
        prepare(&self.deps, &self.layout)?;
        let mut made = Rebuilding::new(&self.layout, self.index)?;
        let scan = self.layout.scan.clone();
        self.deps.events.scan(made.from(), &mut |e| {
            made.apply(&e);
            if e.seq.is_multiple_of(1024) {
                scan.seq.fetch_max(e.seq, Relaxed);
            }
            if scan.stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if scan.stop.load(Relaxed) {
            return Err(StoreError::Closed);
        }
        // Once more what the log has by now: applying an event again changes nothing.
        let erased = self.deps.erasures.now();
        for e in self.tail.iter().flat_map(|batch| batch.iter()) {
            match erased.reaches(e) {
                false => made.apply(e),
                true => {
                    let mut e = e.clone();
                    erased.blank(&mut e);
                    made.apply(&e);
                }
            }
        }
        made.finish()
    }

    fn fold(&mut self, batch: &Arc<Vec<LoggedEvent>>) -> Result<(), Refusal> {
        let durable = self.deps.events.last_seq();
        while self.tail.front().is_some_and(|b| b.last().is_none_or(|e| e.seq <= durable)) {
            self.tail.pop_front();
        }
        self.tail.push_back(batch.clone());
        fault_point!("feature_shard.fold");
        let mut table = self.table.lock().map_err(|_| poisoned())?;
        let (index, store, unsaved) = (self.index, &self.layout.store, &mut self.unsaved);
        let forgotten = &self.forgotten;
        let mut failed = None;
        for e in batch.iter() {
            fault_point!("feature_shard.folding");
            table.apply(e, &mut |h| {
                unsaved.remove(&h).or_else(|| {
                    if forgotten.contains(&h) {
                        return None;
                    }
                    store.load(index, h).unwrap_or_else(|e| {
                        failed = Some(e);
                        None
                    })
                })
            });
        }
        unsaved.extend(table.take_evicted());
        self.folded += batch.len() as u64;
        // Folded without what is on disk: the state is not certain any more.
        failed.map_or(Ok(()), |e| Err(storage(e)))
    }

    fn snapshot(&mut self) -> Result<(u64, Vec<(EntityHash, EntityState)>), Refusal> {
        let mut table = self.table.lock().map_err(|_| poisoned())?;
        // By what came, not by the clock alone: one that was wrong and is set back must not have closed open windows.
        let now = self.deps.clock.now().min(table.newest());
        table.expire(now);
        self.unsaved.extend(table.take_evicted());
        self.unsaved.extend(table.snapshot_dirty());
        self.folded = 0;
        Ok((table.watermark(), self.unsaved.iter().map(|(h, s)| (*h, s.clone())).collect()))
    }
}

/// Saved state of other definitions, or ahead of the log, is dropped whole before any shard reads it: what a
/// shard does not save again must not be found later.
pub(crate) fn prepare(deps: &Deps, layout: &Layout) -> Result<(), StoreError> {
    let wanted = layout.id();
    let same = layout.store.layout()?.as_ref() == Some(&wanted);
    let mut newest = 0;
    for shard in 0..layout.shards {
        newest = newest.max(layout.store.watermark(shard)?);
    }
    let last = deps.events.last_seq();
    if same && newest <= last {
        return Ok(());
    }
    if newest > last {
        tracing::warn!(newest, last, "snapshots are ahead of the event log; rebuilding from the log alone");
    }
    layout.store.reset(&wanted)
}

fn poisoned() -> Refusal {
    Refusal::Unavailable { code: "features_rebuilding", detail: "feature state is being rebuilt; try again".into() }
}

/// A poisoned table refuses reads; the owner clears that when the table is whole.
fn refuse_reads(table: &SharedTable) {
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let _held = table.lock().unwrap_or_else(PoisonError::into_inner);
        resume_unwind(Box::new("the table is being rebuilt"))
    }));
}

impl Actor for FeatureShard {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(SNAPSHOT_INTERVAL, |_, ctx| ctx.notify(KeepHouse));
        self.rebuild(ctx);
    }
}

impl Supervised for FeatureShard {}

impl Handler<FoldEvents> for FeatureShard {
    type Result = ();

    fn handle(&mut self, m: FoldEvents, ctx: &mut Self::Context) {
        let result = self.fold(&m.events);
        if result.is_err() && self.vitals.is_ready() {
            self.rebuild(ctx);
        }
        if self.folded >= self.deps.settings.snapshot_every {
            self.folded = 0;
            ctx.notify(KeepHouse);
        }
        let _ = m.done.send(result);
    }
}

impl Handler<LoadEntity> for FeatureShard {
    type Result = Result<bool, Refusal>;

    fn handle(&mut self, m: LoadEntity, _: &mut Self::Context) -> Self::Result {
        fault_point!("feature_shard.load");
        let mut table = self.table.lock().map_err(|_| poisoned())?;
        let state = match self.unsaved.get(&m.entity) {
            Some(state) => Some(state.clone()),
            None if self.forgotten.contains(&m.entity) => None,
            None => self.layout.store.load(self.index, m.entity).map_err(storage)?,
        };
        let Some(state) = state else { return Ok(false) };
        self.deps.counters.cold_loads.fetch_add(1, Relaxed);
        // One that is in memory already stays here: there it counts as saved, and it is not.
        if table.insert(m.entity, state) {
            self.unsaved.remove(&m.entity);
        }
        self.unsaved.extend(table.take_evicted());
        Ok(true)
    }
}

impl Handler<SaveSnapshot> for FeatureShard {
    type Result = ResponseActFuture<Self, Result<u64, Refusal>>;

    fn handle(&mut self, _: SaveSnapshot, _: &mut Self::Context) -> Self::Result {
        // One at a time, to its very end: of two, the older one could be written last and stay.
        let one = self.saving.clone().lock_owned();
        let taken = one.into_actor(self).map(|one, shard, _| {
            fault_point!("feature_shard.snapshot");
            (one, shard.snapshot(), shard.life)
        });
        let durable = taken.then(|(one, taken, life), shard, _| {
            let deps = shard.deps.clone();
            let wait = async move {
                let (watermark, states) = taken?;
                durable_up_to(&deps, watermark).await.map_err(storage)?;
                Ok((watermark, states))
            };
            wait.into_actor(shard).map(move |ready, _, _| (one, ready, life))
        });
        let saved = durable.then(|(one, ready, life), shard, _| {
            let (layout, index, now) = (shard.layout.clone(), shard.index, shard.life);
            let blocking = shard.deps.settings.blocking;
            let save = async move {
                let (watermark, states): (u64, Vec<_>) = ready?;
                if now != life {
                    return Err(poisoned());
                }
                let kept = states.clone();
                let work = move || {
                    let _one = one;
                    save(&layout, index, watermark, states)
                };
                let done = blocking.run(work).await.map_err(|detail| Refusal::Internal { detail })?;
                done.map(|()| (watermark, kept)).map_err(storage)
            };
            save.into_actor(shard)
        });
        Box::pin(saved.map(|result, shard, _| {
            fault_point!("feature_shard.saved");
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

fn storage(e: StoreError) -> Refusal {
    Refusal::Unavailable { code: "storage_unavailable", detail: e.to_string() }
}

/// State must never be ahead of the log on disk: the log may lose its unacknowledged tail, state may not keep it.
async fn durable_up_to(deps: &Deps, watermark: u64) -> Result<(), StoreError> {
    let started = tokio::time::Instant::now();
    while deps.events.last_seq() < watermark {
        if started.elapsed() > DURABLE_WAIT {
            return Err(StoreError::Io("the event log is not durable up to the snapshot".into()));
        }
        tokio::time::sleep(DURABLE_LOOK).await; // a log tells its position and sends no word of it
    }
    Ok(())
}

fn save(
    layout: &Layout,
    shard: usize,
    watermark: u64,
    states: Vec<(EntityHash, EntityState)>,
) -> Result<(), StoreError> {
    if layout.store.layout()? != Some(layout.id()) {
        return Err(StoreError::Io("the stored state belongs to other features now".into()));
    }
    layout.store.save(shard, watermark, states)
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
        // What the log does not hold now was never written: the event logger waited for it.
        self.tail.clear();
        self.rebuild(ctx);
    }
}

impl Handler<ShrinkState> for FeatureShard {
    type Result = ();

    fn handle(&mut self, m: ShrinkState, ctx: &mut Self::Context) {
        let configured = self.layout.max_entities.div_ceil(self.layout.shards.max(1));
        // A poisoned table is being rebuilt: it will be small.
        let Ok(mut table) = self.table.lock() else { return };
        let most = if m.shrink { (table.entities() * 4 / 5).max(MIN_ENTITIES) } else { configured };
        table.limit_entities(most.min(configured));
        self.unsaved.extend(table.take_evicted());
        if m.shrink {
            ctx.notify(KeepHouse);
        }
    }
}
