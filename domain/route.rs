//! Which version serves a unit: 10,000 slots per model, chosen by a fixed hash that anyone can compute.
//!
//! `slot = XXH3-64(seed 0, salt bytes, 0x1f, unit bytes) mod 10,000`. Test vectors (salt, unit, slot):
//! ("delay", "UA", 9008), ("delay", "", 4588), ("", "user-1", 5843), ("exp-2", "Zürich", 9575).

use crate::prediction::{Placement, ServedArm};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// Slots per model; one slot is one basis point of the traffic.
pub const SLOTS: usize = 10_000;

/// The slot of a unit under a model's salt.
pub fn slot(salt: &str, unit: &str) -> u16 {
    let mut h = Xxh3::new();
    h.update(salt.as_bytes());
    h.update(&[0x1f]);
    h.update(unit.as_bytes());
    (h.digest() % SLOTS as u64) as u16
}

/// Tells units apart where they are counted.
pub fn unit_hash(unit: &str) -> u64 {
    xxh3_64(unit.as_bytes())
}

/// Routes of all models, swapped as a whole; `epoch` grows with each change and is logged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTable {
    pub epoch: u64,
    pub models: BTreeMap<String, ModelRoute>,
}

/// Who serves one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignment<'a> {
    pub version: &'a str,
    /// Position of the version in `ModelRoute::versions`.
    pub index: usize,
    pub placement: Placement,
    pub epoch: u64,
}

/// The slots of one model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Runs", into = "Runs")]
pub struct ModelRoute {
    pub salt: String,
    /// The first is the baseline.
    pub versions: Vec<String>,
    /// Of the rollout that set the shares; logged with each prediction.
    pub segment: Option<u32>,
    slots: Vec<u16>,
    /// Slots of each version.
    weights: Vec<u16>,
}

/// `count` slots in a row that one version serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// First slot.
    pub from: u16,
    /// Slot after the last.
    pub until: u16,
    pub version: String,
    /// Position among the versions; the baseline is 0.
    #[serde(default, skip_serializing_if = "baseline")]
    pub index: u16,
}

fn baseline(index: &u16) -> bool {
    *index == 0
}

impl RouteTable {
    /// A table of one model whose version gets everything.
    pub fn single(model: &str, version: &str) -> Self {
        Self::champions(1, [(model.to_string(), version.to_string())])
    }

    /// Each model's champion gets everything; the model's name is the salt.
    pub fn champions(epoch: u64, champions: impl IntoIterator<Item = (String, String)>) -> Self {
        let models = champions.into_iter().map(|(m, v)| (m.clone(), ModelRoute::single(&m, &v))).collect();
        RouteTable { epoch, models }
    }

    /// A table of one model with shares; see [`ModelRoute::weighted`].
    pub fn weighted(model: &str, salt: &str, shares: &[(&str, u32)], known: &[&str]) -> Result<Self, String> {
        let route = ModelRoute::weighted(salt, shares, known).map_err(|e| format!("routes of `{model}`: {e}"))?;
        Ok(RouteTable { epoch: 1, models: BTreeMap::from([(model.to_string(), route)]) })
    }

    /// The next table: `model` routed as given, all others as they are.
    pub fn with(&self, model: &str, route: ModelRoute) -> Self {
        let mut next = self.clone();
        next.epoch += 1;
        next.models.insert(model.to_string(), route);
        next
    }

    /// The version that serves `unit`; `None` if the model has no route.
    pub fn assign(&self, model: &str, unit: &str) -> Option<Assignment<'_>> {
        let route = self.models.get(model)?;
        let slot = slot(&route.salt, unit);
        let index = usize::from(route.slots[usize::from(slot)]);
        let arm = if index == 0 { ServedArm::Baseline } else { ServedArm::Canary };
        let placement = Placement { arm, slot, weight: route.weights[index], segment: route.segment, instead: false };
        Some(Assignment { version: &route.versions[index], index, placement, epoch: self.epoch })
    }
}

impl ModelRoute {
    /// Everything to one version.
    pub fn single(salt: &str, version: &str) -> Self {
        ModelRoute::new(salt.into(), vec![version.into()], None, vec![0; SLOTS])
    }

    fn new(salt: String, versions: Vec<String>, segment: Option<u32>, slots: Vec<u16>) -> Self {
        let mut weights = vec![0; versions.len()];
        slots.iter().for_each(|i| weights[usize::from(*i)] += 1);
        ModelRoute { salt, versions, segment, slots, weights }
    }

    /// The same, as a segment of a rollout.
    pub fn in_segment(mut self, segment: u32) -> Self {
        self.segment = Some(segment);
        self
    }

    /// Where a unit is put by this route alone.
    pub fn index_of(&self, unit: &str) -> usize {
        usize::from(self.slots[usize::from(slot(&self.salt, unit))])
    }

    /// `canary` gets `share` slots and `baseline` the rest; both may be one version, tested against itself. Where `before`
    /// is the same rollout's route, units that are in the canary stay there as long as its share does not shrink.
    pub fn rollout(before: Option<&ModelRoute>, salt: &str, arms: (&str, &str), share: u32) -> Result<Self, String> {
        if share as usize > SLOTS {
            return Err(format!("{share} slots; at most {SLOTS} (100 %) can be given out"));
        }
        let versions = vec![arms.0.to_owned(), arms.1.to_owned()];
        let before = before.filter(|b| b.salt == salt && b.versions == versions);
        let mut slots = vec![0u16; SLOTS];
        let mut left = share;
        let held = |slot: &usize| before.is_some_and(|b| b.slots[*slot] == 1);
        for slot in (0..SLOTS).filter(held).chain((0..SLOTS).filter(|s| !held(s))) {
            if left == 0 {
                break;
            }
            left -= 1;
            slots[slot] = 1;
        }
        Ok(ModelRoute::new(salt.to_owned(), versions, None, slots))
    }

    /// Shares in basis points, one range of slots after another from slot 0. The first version is
    /// the baseline: whatever its share says, it gets all slots that the others leave.
    ///
    /// Refuses shares that add up to more than 10,000, a version named twice, and one not in `known`.
    pub fn weighted(salt: &str, shares: &[(&str, u32)], known: &[&str]) -> Result<Self, String> {
        let baseline = shares.first().ok_or("no version is named; name at least the baseline")?.0;
        ModelRoute::single(salt, baseline).reweighted(shares, known)
    }

    /// The same routes with new shares, moving as few units as possible: a version whose share
    /// grows keeps all its slots and takes more from the baseline, one that shrinks gives its
    /// highest slots back to the baseline. Refuses what [`ModelRoute::weighted`] refuses.
    pub fn reweighted(&self, shares: &[(&str, u32)], known: &[&str]) -> Result<Self, String> {
        check(shares, known)?;
        let mut wanted: Vec<usize> = shares.iter().map(|(_, share)| *share as usize).collect();
        let new_index: Vec<usize> =
            self.versions.iter().map(|old| shares.iter().position(|(v, _)| v == old).unwrap_or(0)).collect();
        let mut slots = vec![0u16; SLOTS];
        for (slot, old) in slots.iter_mut().zip(&self.slots) {
            let i = new_index[usize::from(*old)];
            if i > 0 && wanted[i] > 0 {
                wanted[i] -= 1;
                *slot = i as u16;
            }
        }
        let mut free: Vec<usize> = (0..SLOTS).rev().filter(|s| slots[*s] == 0).collect();
        for (i, missing) in wanted.iter().enumerate().skip(1) {
            for _ in 0..*missing {
                // There are enough: the shares add up to at most all slots.
                let Some(s) = free.pop() else { break };
                slots[s] = i as u16;
            }
        }
        let versions = shares.iter().map(|(v, _)| v.to_string()).collect();
        Ok(ModelRoute::new(self.salt.clone(), versions, self.segment, slots))
    }

    /// Basis points that each version serves, in order of `versions`.
    pub fn shares(&self) -> Vec<(&str, u32)> {
        self.versions.iter().map(String::as_str).zip(self.weights.iter().map(|w| u32::from(*w))).collect()
    }

    /// The resolved table.
    pub fn ranges(&self) -> Vec<Range> {
        let mut from = 0u16;
        self.slots
            .chunk_by(|a, b| a == b)
            .map(|run| {
                let until = from + run.len() as u16;
                let version = self.versions[usize::from(run[0])].clone();
                Range { from: std::mem::replace(&mut from, until), until, version, index: run[0] }
            })
            .collect()
    }
}

fn check(shares: &[(&str, u32)], known: &[&str]) -> Result<(), String> {
    if shares.is_empty() {
        return Err("no version is named; name at least the baseline".into());
    }
    for (i, (version, _)) in shares.iter().enumerate() {
        if !known.contains(version) {
            return Err(format!("version `{version}` is not loaded; loaded are: {}", known.join(", ")));
        }
        if shares[..i].iter().any(|(v, _)| v == version) {
            return Err(format!("version `{version}` is named twice; add its shares up"));
        }
    }
    let sum: u64 = shares.iter().map(|(_, s)| u64::from(*s)).sum();
    if sum > SLOTS as u64 {
        return Err(format!("shares add up to {sum} basis points; at most {SLOTS} (100 %) can be given out"));
    }
    Ok(())
}

/// How a route is written: runs instead of 10,000 entries.
#[derive(Serialize, Deserialize)]
struct Runs {
    salt: String,
    versions: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    segment: Option<u32>,
    ranges: Vec<Range>,
}

impl From<ModelRoute> for Runs {
    fn from(r: ModelRoute) -> Self {
        let ranges = r.ranges();
        Runs { salt: r.salt, versions: r.versions, segment: r.segment, ranges }
    }
}

impl TryFrom<Runs> for ModelRoute {
    type Error = String;
    fn try_from(r: Runs) -> Result<Self, String> {
        let mut slots = Vec::with_capacity(SLOTS);
        for range in &r.ranges {
            // Two arms may be one version; tables from before there was an index have none of those.
            let given = usize::from(range.index);
            let named = |i: &usize| r.versions.get(*i) == Some(&range.version);
            let i = Some(given).filter(named).or_else(|| r.versions.iter().position(|v| *v == range.version));
            let i = i.ok_or_else(|| format!("range of `{}`, which is not among the versions", range.version))?;
            if usize::from(range.from) != slots.len() || range.until <= range.from || usize::from(range.until) > SLOTS {
                return Err(format!(
                    "range {}..{} does not continue at slot {}; ranges follow each other from 0 to {SLOTS}",
                    range.from,
                    range.until,
                    slots.len()
                ));
            }
            slots.resize(usize::from(range.until), i as u16);
        }
        if slots.len() != SLOTS {
            return Err(format!("ranges end at slot {}; they must cover all {SLOTS}", slots.len()));
        }
        Ok(ModelRoute::new(r.salt, r.versions, r.segment, slots))
    }
}

#[cfg(test)]
mod tests;
