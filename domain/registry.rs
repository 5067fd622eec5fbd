//! What is decided about a model's registered versions: the names that lead to one, and which are out of use.
//! Kept as one value per model, so that it is changed and stored as a whole.

use crate::route::ModelRoute;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The alias whose version answers where no rollout says otherwise.
pub const CHAMPION: &str = "champion";
/// The version that was champion before: kept by the program, what a rollback returns to.
pub const PREVIOUS: &str = "previous";

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionLedger {
    /// Changes so far: it only grows.
    #[serde(default)]
    pub changes: u64,
    /// Alias to version.
    #[serde(default)]
    pub aliases: BTreeMap<String, String>,
    #[serde(default)]
    pub archived: BTreeSet<String>,
    /// Where a rollout sends requests; without one the champion gets them all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<ModelRoute>,
}

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LedgerRefusal {
    UnknownVersion {
        version: String,
        known: Vec<String>,
    },
    Archived {
        version: String,
    },
    /// Not a name that an alias may have.
    AliasName {
        alias: String,
    },
    UnknownAlias {
        alias: String,
    },
    /// Something leads to the version.
    InUse {
        version: String,
        by: String,
    },
}

impl fmt::Display for LedgerRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownVersion { version, known } => {
                write!(f, "there is no version `{version}`; there are: {}", known.join(", "))
            }
            Self::Archived { version } => write!(f, "version `{version}` is archived: it can be looked at, not used"),
            Self::AliasName { alias } => write!(
                f,
                "`{alias}` cannot be an alias: use 1..63 lower-case letters, digits, `.`, `_`, `-`, beginning with a \
                 letter; not `{PREVIOUS}`, which the program keeps, and nothing like `v1`, which is a version"
            ),
            Self::UnknownAlias { alias } => write!(f, "no version is named `{alias}`"),
            Self::InUse { version, by } => write!(f, "version `{version}` is in use: {by}"),
        }
    }
}

/// Names that an alias may have; a version's own name is none.
pub fn valid_alias(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let version = name.strip_prefix('v').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    (1..=63).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(plain)
        && name != PREVIOUS
        && !version
}

impl VersionLedger {
    /// The version that answers: the alias, or the newest of `versions` (oldest first) where no alias was ever set.
    pub fn champion(&self, versions: &[String]) -> Option<String> {
        match self.aliases.get(CHAMPION) {
            Some(version) => Some(version.clone()),
            None if self.aliases.is_empty() => versions.iter().rev().find(|v| !self.archived.contains(*v)).cloned(),
            None => None,
        }
    }

    /// Whether a name leads to the version.
    pub fn named(&self, version: &str) -> bool {
        self.aliases.values().any(|v| v == version)
    }

    /// The names that lead to a version.
    pub fn names(&self, version: &str) -> Vec<String> {
        self.aliases.iter().filter(|(_, v)| *v == version).map(|(alias, _)| alias.clone()).collect()
    }

    /// With the champion written down, so that a version registered later does not become it by being the newest.
    pub fn settled(&self, versions: &[String]) -> VersionLedger {
        let mut next = self.clone();
        if let (None, Some(champion)) = (self.aliases.get(CHAMPION), self.champion(versions)) {
            next.aliases.insert(CHAMPION.into(), champion);
            next.changes += 1;
        }
        next
    }

    /// `alias` leads to `version` from now on. A new champion leaves the old one as [`PREVIOUS`]; a model's first alias
    /// writes its champion down, and where there is none, the version becomes it too: somebody must answer.
    pub fn with_alias(&self, alias: &str, version: &str, versions: &[String]) -> Result<VersionLedger, LedgerRefusal> {
        if !valid_alias(alias) {
            return Err(LedgerRefusal::AliasName { alias: alias.into() });
        }
        self.usable(version, versions)?;
        let others: Vec<String> = versions.iter().filter(|v| *v != version).cloned().collect();
        let before = self.aliases.get(CHAMPION).cloned().or_else(|| self.champion(&others));
        let mut next = self.clone();
        next.aliases.insert(alias.into(), version.into());
        if alias != CHAMPION {
            next.aliases.entry(CHAMPION.into()).or_insert_with(|| before.unwrap_or_else(|| version.into()));
        } else if let Some(before) = before.filter(|b| b != version) {
            next.aliases.insert(PREVIOUS.into(), before);
        }
        if next.aliases != self.aliases {
            next.changes += 1;
        }
        Ok(next)
    }

    /// The name leads nowhere any more. Refused for the champion: a model without one answers nobody.
    pub fn without_alias(&self, alias: &str) -> Result<VersionLedger, LedgerRefusal> {
        let Some(version) = self.aliases.get(alias) else {
            return Err(LedgerRefusal::UnknownAlias { alias: alias.into() });
        };
        if alias == CHAMPION {
            let by = "the champion answers; give the alias to another version instead".into();
            return Err(LedgerRefusal::InUse { version: version.clone(), by });
        }
        let mut next = self.clone();
        next.aliases.remove(alias);
        next.changes += 1;
        Ok(next)
    }

    /// Requests go this way from now on; `None` is back to the champion.
    pub fn with_route(&self, route: Option<ModelRoute>, versions: &[String]) -> Result<VersionLedger, LedgerRefusal> {
        for version in route.iter().flat_map(|r| &r.versions) {
            self.usable(version, versions)?;
        }
        let mut next = self.clone();
        if next.route != route {
            next.route = route;
            next.changes += 1;
        }
        Ok(next)
    }

    /// Out of use for good: its files stay and can be looked at. `routed` are the versions that routes lead to.
    pub fn with_archived(
        &self,
        version: &str,
        versions: &[String],
        routed: &[String],
    ) -> Result<VersionLedger, LedgerRefusal> {
        self.usable(version, versions)?;
        let in_use = |by: String| Err(LedgerRefusal::InUse { version: version.into(), by });
        let names = self.names(version);
        if !names.is_empty() {
            return in_use(format!("it is {}; give the alias to another version or remove it", names.join(", ")));
        }
        if self.champion(versions).as_deref() == Some(version) {
            return in_use("it is the champion; make another version that first".into());
        }
        if routed.iter().any(|r| r == version) {
            return in_use("a route leads to it; end its rollout first".into());
        }
        let mut next = self.clone();
        next.archived.insert(version.into());
        next.changes += 1;
        Ok(next)
    }

    fn usable(&self, version: &str, versions: &[String]) -> Result<(), LedgerRefusal> {
        if !versions.iter().any(|v| v == version) {
            return Err(LedgerRefusal::UnknownVersion { version: version.into(), known: versions.to_vec() });
        }
        match self.archived.contains(version) {
            true => Err(LedgerRefusal::Archived { version: version.into() }),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
