//! What may be asked about the configuration.

use super::{ConfigWatcher, DiffGenerations, GetConfig, GetHistory, SHOWN, restarted};
use crate::api::Refusal;
use crate::config::*;
use actix::prelude::*;
use std::sync::atomic::Ordering::Relaxed;

impl Handler<GetConfig> for ConfigWatcher {
    type Result = Result<ConfigStatus, Refusal>;

    fn handle(&mut self, _: GetConfig, _: &mut Self::Context) -> Self::Result {
        let system = self.system.upgrade().ok_or_else(restarted)?;
        let waits = diff(&self.started, &self.now.compiled.values, |key| self.source.effect(key));
        Ok(ConfigStatus {
            generation: system.generation().number,
            hash: self.now.files.hash.clone(),
            since: self.since,
            building: self
                .running
                .as_ref()
                .map(|scan| Building { read: scan.seq.load(Relaxed), of: system.deps.events.last_seq() }),
            last_error: self.last_error.clone(),
            at_next_start: waits.into_iter().filter(|c| c.effect == Effect::Restart).map(|c| c.key).collect(),
        })
    }
}

impl Handler<GetHistory> for ConfigWatcher {
    type Result = Result<Vec<Change>, Refusal>;

    fn handle(&mut self, _: GetHistory, _: &mut Self::Context) -> Self::Result {
        let all = self.source.history().into_iter().rev().take(SHOWN);
        Ok(all.map(|change| Change { files: None, ..change }).collect())
    }
}

impl Handler<DiffGenerations> for ConfigWatcher {
    type Result = Result<Vec<KeyChange>, Refusal>;

    fn handle(&mut self, m: DiffGenerations, _: &mut Self::Context) -> Self::Result {
        let values = |number| {
            let files = self.of_generation(number)?;
            self.source.compile(&files).map(|c| c.values).map_err(|problems| Refusal::Conflict {
                code: "generation_not_readable",
                detail: format!("generation {number} cannot be read by this program: {}", problems.join("; ")),
            })
        };
        Ok(diff(&values(m.from)?, &values(m.to)?, |key| self.source.effect(key)))
    }
}
