//! Concurrency of Understudy: supervised actors that pass messages.
//!
//! Decisions live in `understudy-domain`; disks, models and HTTP live behind the traits of [`ports`].

pub mod api;
pub mod cell;
pub mod ports;
