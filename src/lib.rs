//! Understudy: the program around the actors: HTTP, storage, model runtimes, telemetry, wiring.

pub mod alerts;
pub mod chaos;
pub mod cli;
pub mod config;
pub mod faults;
pub mod gateway;
pub mod report;
pub mod runtime;
pub mod security;
pub mod simulate;
pub mod storage;
pub mod system;
pub mod tables;
pub mod telemetry;

/// Tests count allocations.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: simulate::meter::Metered<std::alloc::System> = simulate::meter::Metered(std::alloc::System);
