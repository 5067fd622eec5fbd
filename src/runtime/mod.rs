//! Model versions on disk, the runtimes that serve them (candle, trees), and the built-in trainer.

pub mod artefact;
pub(crate) mod bundle;
pub(crate) mod candle;
mod challenge;
pub(crate) mod folder;
mod fused;
mod member;
mod network;
#[cfg(feature = "onnx")]
mod onnx;
pub(crate) mod random;
mod registry;
pub(crate) mod train;
mod trees;
pub mod variant;
mod warm_up;

pub use registry::Registry;

#[cfg(test)]
mod registry_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trees_tests;
