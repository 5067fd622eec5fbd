//! One reading of the event log for all that need it when the process starts: the duplicate index, and the table
//! of every shard. Not an actor; whoever starts first reads for all.
//!
//! **Owns** what it made, until each one has fetched its own, once. A restarted actor reads for itself.
//! **On failure** nothing is kept, and every actor reads for itself: its health tells what is wrong.
//!
//! Events that the snapshots of all shards hold are not made at all, only what tells their repeats is read.
//! Memory is bounded by the batches on their way: a few for each shard.

use crate::blocking::Blocking;
use crate::deps::Deps;
use crate::feature_shard::{Layout, Rebuilding, Rebuilt, prepare};
use crate::ports::StoreError;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use understudy_domain::dedupe::{Recent, Seen};
use understudy_domain::event::{LoggedEvent, Trace};
use understudy_domain::time::Span;

/// Events handed to the shards at a time.
const BATCH: usize = 1024;
/// Batches that wait for a shard before reading waits.
const AHEAD: usize = 8;

pub(crate) struct StartPass {
    deps: Arc<Deps>,
    layout: Layout,
    dedupe_window: Span,
    found: Mutex<Found>,
}

enum Found {
    Unread,
    Read {
        index: Option<Index>,
        tables: Vec<Option<Rebuilt>>,
    },
    /// It failed.
    Nothing,
}

/// Ids of the events up to `until`.
pub(crate) struct Index {
    pub seen: Recent<Seen>,
    pub until: u64,
}

impl Index {
    /// Without any event yet. Nothing older than what fits need be read.
    pub fn new(deps: &Deps, window: Span) -> Index {
        let most = deps.settings.dedupe_max_ids;
        Index { seen: Recent::new(window, most), until: deps.events.last_seq().saturating_sub(most as u64) }
    }

    pub fn add(&mut self, t: Trace) {
        if t.seq > self.until {
            self.seen.insert(t.id, Seen { seq: t.seq, fingerprint: t.fingerprint }, t.ingested);
            self.until = t.seq;
        }
    }

    /// Reads on, up to and including `until`.
    pub fn read(&mut self, deps: &Deps, until: u64) -> Result<(), StoreError> {
        if until > self.until {
            self.seen.reserve(usize::try_from(until - self.until).unwrap_or(usize::MAX));
            deps.events.skim(self.until + 1, until, &mut |t| self.add(t))?;
            self.until = until;
        }
        Ok(())
    }
}

impl StartPass {
    pub fn new(deps: Arc<Deps>, layout: Layout, dedupe_window: Span) -> Arc<StartPass> {
        Arc::new(StartPass { deps, layout, dedupe_window, found: Mutex::new(Found::Unread) })
    }

    /// The table of a shard; `None` if it was fetched before, or the log could not be read.
    pub fn table(&self, shard: usize) -> Option<Rebuilt> {
        self.fetch(|_, tables| tables.get_mut(shard)?.take())
    }

    /// The duplicate index; `None` as above.
    pub fn index(&self) -> Option<Index> {
        self.fetch(|index, _| index.take())
    }

    fn fetch<T>(&self, take: impl FnOnce(&mut Option<Index>, &mut Vec<Option<Rebuilt>>) -> Option<T>) -> Option<T> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*found, Found::Unread) {
            // Should it panic, the actor is restarted and reads for itself.
            *found = Found::Nothing;
            match self.read() {
                Ok((index, tables)) => {
                    *found = Found::Read { index: Some(index), tables: tables.into_iter().map(Some).collect() };
                }
                Err(e) => tracing::warn!(%e, "the event log could not be read for all at once"),
            }
        }
        match &mut *found {
            Found::Read { index, tables } => take(index, tables),
            _ => None,
        }
    }

    fn read(&self) -> Result<(Index, Vec<Rebuilt>), StoreError> {
        prepare(&self.deps, &self.layout)?;
        let shards = (0..self.layout.shards).map(|i| Rebuilding::new(&self.layout, i));
        let mut shards = shards.collect::<Result<Vec<_>, _>>()?;
        let mut index = Index::new(&self.deps, self.dedupe_window);
        let from = shards.iter().map(Rebuilding::from).min().unwrap_or(1);
        let last = self.deps.events.last_seq();
        // Events that were blanked have other ids; the log knows what was sent.
        let blanked = !self.deps.erasures.now().is_empty();
        index.read(&self.deps, if blanked { last } else { (from - 1).min(last) })?;
        match self.deps.settings.blocking {
            Blocking::Inline => self.scan(from, &mut index, &mut |batch| {
                shards.iter_mut().for_each(|shard| batch.iter().for_each(|e| shard.apply(e)));
            })?,
            Blocking::Pool => shards = self.scan_beside(from, &mut index, shards)?,
        }
        if self.layout.scan.stop.load(Relaxed) {
            return Err(StoreError::Closed);
        }
        let tables = shards.into_iter().map(Rebuilding::finish).collect::<Result<_, _>>()?;
        Ok((index, tables))
    }

    /// The events from `from` on, in batches, and into the index.
    fn scan(
        &self,
        from: u64,
        index: &mut Index,
        give: &mut dyn FnMut(Arc<Vec<LoggedEvent>>),
    ) -> Result<(), StoreError> {
        let scan = &self.layout.scan;
        let mut batch = Vec::with_capacity(BATCH);
        self.deps.events.scan(from, &mut |e| {
            if e.seq > index.until {
                index.add(e.trace());
            }
            batch.push(e);
            if batch.len() == BATCH {
                let full = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
                scan.seq.fetch_max(full.last().map_or(0, |e| e.seq), Relaxed);
                give(Arc::new(full));
            }
            if scan.stop.load(Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        give(Arc::new(batch));
        Ok(())
    }

    /// The same with a thread for each shard, so that folding goes on beside reading.
    fn scan_beside(
        &self,
        from: u64,
        index: &mut Index,
        shards: Vec<Rebuilding>,
    ) -> Result<Vec<Rebuilding>, StoreError> {
        type Queue = SyncSender<Arc<Vec<LoggedEvent>>>;
        std::thread::scope(|scope| {
            let fold = |mut shard: Rebuilding, batches: Receiver<Arc<Vec<LoggedEvent>>>| {
                batches.iter().for_each(|batch| batch.iter().for_each(|e| shard.apply(e)));
                shard
            };
            let (queues, folding): (Vec<Queue>, Vec<_>) = shards
                .into_iter()
                .map(|shard| {
                    let (queue, batches) = sync_channel(AHEAD);
                    (queue, scope.spawn(move || fold(shard, batches)))
                })
                .unzip();
            let scanned = self.scan(from, index, &mut |batch| {
                // A shard that panicked takes nothing more; that is told below.
                queues.iter().for_each(|queue| drop(queue.send(batch.clone())));
            });
            drop(queues);
            let folded = folding.into_iter().map(|thread| {
                thread.join().map_err(|_| StoreError::Io("folding the event log panicked; the log says where".into()))
            });
            let folded = folded.collect::<Result<Vec<_>, _>>();
            scanned.and(folded)
        })
    }
}
