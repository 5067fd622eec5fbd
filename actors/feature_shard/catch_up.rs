//! What only shards get that were built beside others, or whose bounds change while they serve.

use super::{FeatureShard, durable_up_to, poisoned, storage};
use crate::api::Refusal;
use actix::prelude::*;
use std::ops::ControlFlow;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Fold what the log holds after the table's own watermark, up to here, before anything else. Sent to shards that
/// were built beside the serving ones, just before they get every batch.
#[derive(Message)]
#[rtype(result = "Result<(), Refusal>")]
pub struct CatchUp {
    pub until: u64,
}

/// Other bounds of memory, from now on: entities over all shards.
#[derive(Message)]
#[rtype(result = "()")]
pub struct SetMaxEntities(pub usize);

impl FeatureShard {
    /// The log after the table's watermark, in batches.
    fn fold_from_log(&mut self, until: u64) -> Result<(), Refusal> {
        let from = self.table.lock().map_err(|_| poisoned())?.watermark() + 1;
        let mut batch = Vec::new();
        let mut batches = Vec::new();
        self.deps
            .events
            .scan(from, &mut |e| {
                if e.seq > until {
                    return ControlFlow::Break(());
                }
                batch.push(e);
                if batch.len() == 1024 {
                    batches.push(std::mem::take(&mut batch));
                }
                ControlFlow::Continue(())
            })
            .map_err(storage)?;
        batches.push(batch);
        batches.into_iter().try_for_each(|batch| self.fold(&Arc::new(batch)))
    }
}

impl Handler<CatchUp> for FeatureShard {
    type Result = ResponseActFuture<Self, Result<(), Refusal>>;

    fn handle(&mut self, m: CatchUp, ctx: &mut Self::Context) -> Self::Result {
        let (done, caught_up) = oneshot::channel();
        let deps = self.deps.clone();
        let durable = async move { durable_up_to(&deps, m.until).await };
        // Batches that come meanwhile wait: tiles take events in the order of the log only.
        ctx.wait(durable.into_actor(self).map(move |ready, shard, _| {
            let folded = ready.map_err(storage).and_then(|()| shard.fold_from_log(m.until));
            let _ = done.send(folded);
        }));
        Box::pin(async move { caught_up.await.unwrap_or_else(|_| Err(poisoned())) }.into_actor(self))
    }
}

impl Handler<SetMaxEntities> for FeatureShard {
    type Result = ();

    fn handle(&mut self, m: SetMaxEntities, _: &mut Self::Context) {
        self.layout.max_entities = m.0;
        let Ok(mut table) = self.table.lock() else { return };
        table.limit_entities(m.0.div_ceil(self.layout.shards.max(1)).max(1));
        self.unsaved.extend(table.take_evicted());
    }
}
