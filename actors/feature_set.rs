//! The shards that fold events by one set of definitions, and their published tables. A change of what window
//! state depends on starts another set beside the serving one; it serves once it has caught up with the log.

use crate::api::Refusal;
use crate::deps::Deps;
use crate::event_logger::AttachSet;
use crate::feature_shard::{FeatureShard, Layout, SharedTable};
use crate::guard::{Escalation, Vitals};
use crate::start_pass::StartPass;
use crate::supervise;
use crate::system::System;
use actix::prelude::*;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Between two looks at how far a set has come.
const LOOK: Duration = Duration::from_millis(10);

/// Numbers of sets in this process.
static SETS: AtomicU64 = AtomicU64::new(0);

pub struct FeatureSet {
    pub id: u64,
    pub layout: Layout,
    pub shards: Vec<Addr<FeatureShard>>,
    /// Each is written by its shard alone and read by every cell.
    pub tables: Vec<SharedTable>,
    pub(crate) vitals: Vec<Arc<Vitals>>,
    /// A thread of its own, if it was made beside another set; ends with it.
    thread: Option<Arbiter>,
}

impl FeatureSet {
    /// Starts one shard for each share of the layout on `thread`; `pass` reads the log for all of them.
    pub(crate) fn start(
        layout: Layout,
        deps: &Arc<Deps>,
        escalation: &Escalation,
        thread: &ArbiterHandle,
        own: Option<Arbiter>,
        pass: Option<&Arc<StartPass>>,
    ) -> FeatureSet {
        let tables: Vec<SharedTable> =
            (0..layout.shards).map(|i| Arc::new(Mutex::new(layout.empty_table(i)))).collect();
        let mut vitals = Vec::new();
        let shards = tables
            .iter()
            .enumerate()
            .map(|(i, table)| {
                let health = Vitals::new(format!("feature_shard/{i}"), escalation.clone());
                vitals.push(health.clone());
                let shard =
                    FeatureShard::new(i, layout.clone(), deps.clone(), health.clone(), table.clone(), pass.cloned());
                supervise::start_on(thread, shard, health)
            })
            .collect();
        FeatureSet { id: SETS.fetch_add(1, Relaxed), layout, shards, tables, vitals, thread: own }
    }

    /// Reads the whole log, then joins the event logger's batches. When this returns, every acknowledged event is in
    /// this set's tables, and every later one will be before it is acknowledged.
    pub(crate) async fn catch_up(&self, system: &System) -> Result<(), Refusal> {
        self.wait_until_ready().await?;
        let attach = AttachSet { id: self.id, shards: self.shards.clone() };
        system.events.send(attach).await.map_err(|e| Refusal::Internal { detail: e.to_string() })??;
        self.wait_until_ready().await
    }

    async fn wait_until_ready(&self) -> Result<(), Refusal> {
        while !self.vitals.iter().all(|v| v.health().ready) {
            if self.layout.scan.stop.load(Relaxed) {
                return Err(superseded());
            }
            tokio::time::sleep(LOOK).await; // shards read the log; its length is not known here
        }
        if self.layout.scan.stop.load(Relaxed) { Err(superseded()) } else { Ok(()) }
    }
}

impl Drop for FeatureSet {
    fn drop(&mut self) {
        self.layout.scan.stop.store(true, Relaxed);
        if let Some(thread) = &self.thread {
            thread.stop();
        }
    }
}

fn superseded() -> Refusal {
    Refusal::Conflict { code: "superseded", detail: "a newer change of the project took its place".into() }
}
