//! Which version serves a unit: 10,000 slots per model, chosen by a fixed hash that anyone can compute.
//!
//! `slot = XXH3-64(seed 0, salt bytes, 0x1f, unit bytes) mod 10,000`. Test vectors (salt, unit, slot):
//! ("delay", "UA", 9008), ("delay", "", 4588), ("", "user-1", 5843), ("exp-2", "Zürich", 9575).

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use xxhash_rust::xxh3::Xxh3;

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
    pub slot: u16,
    pub epoch: u64,
}

/// The slots of one model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Runs", into = "Runs")]
pub struct ModelRoute {
    pub salt: String,
    /// The first is the baseline.
    pub versions: Vec<String>,
    slots: Vec<u16>,
}

/// `count` slots in a row that one version serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// First slot.
    pub from: u16,
    /// Slot after the last.
    pub until: u16,
    pub version: String,
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
        Some(Assignment { version: &route.versions[index], index, slot, epoch: self.epoch })
    }
}

impl ModelRoute {
    /// Everything to one version.
    pub fn single(salt: &str, version: &str) -> Self {
        ModelRoute { salt: salt.into(), versions: vec![version.into()], slots: vec![0; SLOTS] }
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
        Ok(ModelRoute { salt: self.salt.clone(), versions, slots })
    }

    /// Basis points that each version serves, in order of `versions`.
    pub fn shares(&self) -> Vec<(&str, u32)> {
        let mut counts = vec![0; self.versions.len()];
        for i in &self.slots {
            counts[usize::from(*i)] += 1;
        }
        self.versions.iter().map(String::as_str).zip(counts).collect()
    }

    /// The resolved table.
    pub fn ranges(&self) -> Vec<Range> {
        let mut from = 0u16;
        self.slots
            .chunk_by(|a, b| a == b)
            .map(|run| {
                let until = from + run.len() as u16;
                let version = self.versions[usize::from(run[0])].clone();
                Range { from: std::mem::replace(&mut from, until), until, version }
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
    ranges: Vec<Range>,
}

impl From<ModelRoute> for Runs {
    fn from(r: ModelRoute) -> Self {
        let ranges = r.ranges();
        Runs { salt: r.salt, versions: r.versions, ranges }
    }
}

impl TryFrom<Runs> for ModelRoute {
    type Error = String;
    fn try_from(r: Runs) -> Result<Self, String> {
        let mut slots = Vec::with_capacity(SLOTS);
        for range in &r.ranges {
            let i = r.versions.iter().position(|v| *v == range.version);
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
        Ok(ModelRoute { salt: r.salt, versions: r.versions, slots })
    }
}

#[cfg(test)]
mod tests;
