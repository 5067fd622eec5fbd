//! (to be written)
use serde::{Deserialize, Serialize};

/// The state of one entity, as saved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EntityState {}
