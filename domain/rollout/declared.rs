//! `[rollout]` of a model's file.

use super::settings::RolloutSettings;
use serde::{Deserialize, Serialize};

/// How a model's challengers come in, if the command that starts one does not say otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutSpec {
    /// Where the canary fails to answer, the champion answers in its place; the failure counts all the same.
    pub fallback: bool,
    /// Names of API keys whose requests may choose their arm or version by header; `*` is everybody.
    pub override_keys: Vec<String>,
    pub settings: RolloutSettings,
}

impl Default for RolloutSpec {
    fn default() -> Self {
        RolloutSpec { fallback: true, override_keys: Vec::new(), settings: RolloutSettings::default() }
    }
}

impl RolloutSpec {
    pub fn may_override(&self, key: &str) -> bool {
        self.override_keys.iter().any(|k| k == "*" || k == key)
    }
}
