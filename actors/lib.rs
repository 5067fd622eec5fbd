//! Concurrency of Understudy: supervised actors that pass messages.
//!
//! Decisions live in `understudy-domain`; disks, models and HTTP live behind the traits of [`ports`].

pub mod admission;
pub mod alerter;
pub mod api;
pub mod blocking;
pub mod cell;
pub mod config;
pub mod config_watcher;
pub mod counters;
pub mod deps;
pub mod erasure;
pub mod event_logger;
pub mod fault;
pub mod feature_set;
pub mod feature_shard;
pub mod feed_monitor;
pub mod generation;
pub mod guard;
pub mod model_host;
pub mod model_instance;
pub mod model_pool;
pub mod model_thread;
pub mod monitor;
pub mod ports;
pub mod prediction_logger;
pub mod reconfigure;
pub mod residents;
pub mod retraining;
pub mod rollout;
pub mod router;
pub mod shadow;
mod start_pass;
pub mod supervise;
pub mod system;
pub mod trainer;

#[cfg(test)]
mod facts;
