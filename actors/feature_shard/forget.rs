//! States of erased entities are dropped: from memory at once, from disk when no save is on its way that has them.

use super::{FeatureShard, storage};
use crate::api::Refusal;
use actix::prelude::*;
use understudy_domain::entity::EntityHash;

/// Drop these states; those of other shards are left out. Replies with how many there were, when none is on disk.
#[derive(Message)]
#[rtype(result = "Result<u64, Refusal>")]
pub struct ForgetEntities {
    pub entities: Vec<EntityHash>,
}

impl FeatureShard {
    /// Out of memory; which ones were there.
    fn drop_from_memory(&mut self, entities: &[EntityHash]) -> Vec<bool> {
        // A poisoned table is being made again, out of a log that leaves them out.
        let mut table = self.table.lock().ok();
        let mut drop = |e: &EntityHash| {
            let unsaved = self.unsaved.remove(e).is_some();
            table.as_mut().is_some_and(|t| t.forget(*e)) || unsaved
        };
        entities.iter().map(&mut drop).collect()
    }
}

impl Handler<ForgetEntities> for FeatureShard {
    type Result = ResponseActFuture<Self, Result<u64, Refusal>>;

    fn handle(&mut self, m: ForgetEntities, _: &mut Self::Context) -> Self::Result {
        let (shards, index, life) = (self.layout.shards, self.index, self.life);
        let ours: Vec<EntityHash> = m.entities.into_iter().filter(|e| e.shard(shards) == index).collect();
        let hot = self.drop_from_memory(&ours);
        self.forgotten.extend(&ours);
        // A save in progress may hold them: it ends first, the next one begins after this.
        let alone = self.saving.clone().lock_owned().into_actor(self);
        Box::pin(alone.then(move |one, shard, _| {
            if shard.life != life {
                shard.drop_from_memory(&ours);
            }
            let (store, blocking) = (shard.layout.store.clone(), shard.deps.settings.blocking);
            let forget = async move {
                let _one = one;
                let work = move || {
                    let mut found = 0;
                    for (e, hot) in ours.iter().zip(hot) {
                        found += u64::from(hot || store.load(index, *e)?.is_some());
                    }
                    if !ours.is_empty() {
                        store.forget(index, &ours)?;
                    }
                    Ok((found, ours))
                };
                blocking.run(work).await.map_err(|detail| Refusal::Internal { detail })?.map_err(storage)
            };
            forget.into_actor(shard).map(|result: Result<(u64, Vec<EntityHash>), Refusal>, shard, _| {
                let (found, gone) = result?;
                for e in &gone {
                    shard.forgotten.remove(e);
                }
                Ok(found)
            })
        }))
    }
}
