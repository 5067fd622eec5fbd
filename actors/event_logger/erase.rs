//! A tombstone gets its place in the order of events.

use super::{EventLogger, lost, unavailable};
use crate::api::Refusal;
use crate::feature_shard::ForgetEntities;
use actix::prelude::*;
use understudy_domain::entity::EntityHash;
use understudy_domain::erasure::Tombstone;

/// A tombstone for what is known of an entity up to now. Replies when it is durable and the states are dropped.
#[derive(Message)]
#[rtype(result = "Result<(Tombstone, u64), Refusal>")]
pub struct EraseEntity {
    pub entity: String,
    pub keys: Vec<String>,
    pub mark: u128,
    pub states: Vec<EntityHash>,
}

impl Handler<EraseEntity> for EventLogger {
    type Result = ResponseFuture<Result<(Tombstone, u64), Refusal>>;

    /// Within one message: no event can come between the tombstone and the word to the shards.
    fn handle(&mut self, m: EraseEntity, _: &mut Self::Context) -> Self::Result {
        let EraseEntity { entity, keys, mark, states } = m;
        let time = self.deps.clock.now();
        let begun = self.state().map(|state| state.next_seq - 1).and_then(|seq| {
            let t = Tombstone { entity, keys, mark, seq, time };
            let states = self.deps.erasures.begin(t.clone(), &states).map_err(unavailable)?;
            Ok((t, states))
        });
        let sent = begun.map(|(t, states)| {
            let shards = self.sets.iter().flat_map(|(_, shards)| shards);
            (t, shards.map(|s| s.send(ForgetEntities { entities: states.clone() })).collect::<Vec<_>>())
        });
        Box::pin(async move {
            let (t, sent) = sent?;
            let mut found = 0;
            for shard in sent {
                found += shard.await.map_err(|_| lost("a feature shard"))??;
            }
            Ok((t, found))
        })
    }
}
