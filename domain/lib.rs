//! Pure decisions and data of Understudy.
//!
//! Nothing here does I/O or reads time, environment or randomness: `now`, seeds
//! and ids are arguments, so the same inputs give the same outputs anywhere.

pub mod admission;
pub mod alert;
pub mod backfill;
pub mod batching;
pub mod blame;
pub mod calibrate;
pub mod catalog;
pub mod dedupe;
pub mod drift;
pub mod encode;
pub mod entity;
pub mod erasure;
pub mod event;
pub mod evidence;
pub mod expr;
pub mod features;
pub mod feed;
pub mod fixed_hash;
pub mod join;
pub mod metrics;
pub mod model;
pub mod monitor;
pub mod prediction;
pub mod problem;
pub mod profile;
pub mod project;
pub mod registry;
pub mod residency;
pub mod restart;
pub mod retraining;
pub mod rollout;
pub mod route;
pub mod time;
pub mod trace;
pub mod trees;
pub mod validate;
pub mod value;
