//! Drift: whether what a model sees and says still looks like what it was trained on.
//!
//! Values are counted in fixed fine bins of the reference (mergeable, constant size). A window is compared with the
//! reference by the population stability index without its sampling bias, and with a two-sample chi-square test on
//! the same bins, with the false discovery rate held over all features; a level needs effect and significance, in
//! two of three windows. Too few rows are a state of their own, never "no drift".

mod bins;
mod case;
mod compare;
mod detector;
mod explain;
mod judge;
mod mix;
pub(crate) mod recent;
mod reference;
mod report;
mod special;
mod watch;

pub use bins::{Binning, MISSING};
pub use case::DriftCase;
pub use compare::{Bar, Comparison, compare};
pub use detector::{EDetector, upper_rate};
pub use explain::{histograms, sentence};
pub use judge::{Level, persistent, significant};
pub use reference::{Column, Reference, SCORE, Sampled};
pub use report::{Against, DriftReport, FeatureDrift, State, WindowDrift};
pub use watch::Watch;

#[cfg(test)]
mod tests;
