//! Model versions on disk, the candle runtime that serves them, and the built-in trainer.

pub(crate) mod artefact;
pub(crate) mod bundle;
pub(crate) mod candle;
mod fused;
mod member;
mod network;
pub(crate) mod random;
mod registry;
pub(crate) mod train;
mod warm_up;

pub use registry::Registry;

#[cfg(test)]
mod registry_tests;
#[cfg(test)]
mod tests;
