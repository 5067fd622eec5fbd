//! Blocks written anew without what was erased: for compaction and export. Records keep their places, so positions and
//! the order of blocks stay as they were.

use super::codec;
use super::log::{Framed, Layout};
use std::collections::HashSet;
use understudy_actors::ports::StoreError;
use understudy_domain::erasure::Erased;
use understudy_domain::event::LoggedEvent;
use understudy_domain::prediction::{OutcomeRecord, OutcomeTarget, PredictionRecord};

/// The tombstones, and which predictions were met that they reach: their outcomes go too.
pub struct Redactor {
    erased: Erased,
    gone: HashSet<(String, OutcomeTarget)>,
}

/// A record that can be taken out of its block.
pub trait Redact: Layout + Sized {
    /// Whether anything was taken.
    fn redact(&mut self, by: &mut Redactor) -> bool;
}

impl Redact for LoggedEvent {
    fn redact(&mut self, by: &mut Redactor) -> bool {
        by.erased.blank(self)
    }
}

impl Redact for PredictionRecord {
    fn redact(&mut self, by: &mut Redactor) -> bool {
        if !by.erased.hides(self) {
            return false;
        }
        by.gone.insert((self.model.clone(), OutcomeTarget::PredictionId(self.id)));
        if let Some(request) = self.request_id.take() {
            by.gone.insert((self.model.clone(), OutcomeTarget::RequestId(request)));
        }
        let there = !self.is_erased();
        self.erase();
        there
    }
}

impl Redact for OutcomeRecord {
    fn redact(&mut self, by: &mut Redactor) -> bool {
        let reached = !self.is_erased() && by.gone.contains(&(self.model.clone(), self.target.clone()));
        if reached {
            self.erase();
        }
        reached
    }
}

impl Redactor {
    pub fn new(erased: Erased) -> Self {
        Redactor { erased, gone: HashSet::new() }
    }

    /// The block without what was erased; `None` if nothing of it was. Predictions must come before outcomes.
    pub fn block<T: Redact>(&mut self, key: &[u8], frame: &[u8]) -> Result<Option<Vec<Framed>>, StoreError>
    where
        T::Item: From<T>,
    {
        if self.erased.is_empty() {
            return Ok(None);
        }
        let Some(first) = T::position(key) else { return Ok(None) };
        let mut records = codec::decode_block::<T>(key, frame)?;
        let mut changed = false;
        for r in &mut records {
            changed |= r.redact(self);
        }
        if !changed {
            return Ok(None);
        }
        Ok(Some(T::blocks(records.into_iter().map(T::Item::from).collect(), first - 1)?))
    }
}
