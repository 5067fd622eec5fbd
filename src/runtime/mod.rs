//! Model versions on disk, the candle runtime that serves them, and the built-in trainer.

pub(crate) mod artefact;
pub(crate) mod candle;
mod fused;
mod member;
mod network;
pub(crate) mod random;
mod registry;
pub(crate) mod train;

pub use registry::Registry;

#[cfg(test)]
mod tests;
