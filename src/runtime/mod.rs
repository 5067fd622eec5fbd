//! Model versions on disk, the candle runtime that serves them, and the built-in trainer.

mod artefact;
mod candle;
mod fused;
mod member;
mod network;
mod random;
mod registry;
mod train;

pub use registry::Registry;

#[cfg(test)]
mod tests;
