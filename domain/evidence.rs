//! Evidence that stays valid however often one looks.
//!
//! An *e-value* against a null hypothesis is a number whose mean is at most 1 while the null is true; an *e-process* is a
//! sequence of them of which that holds at every time, chosen in whatever way. So the chance that it ever reaches
//! `1/alpha` is at most `alpha` (Ville 1939), and a controller may look after every event. Survey: Ramdas, Grünwald,
//! Vovk and Shafer, "Game-theoretic statistics and safe anytime-valid inference", Statistical Science 38:4 (2023).
//! All values here are natural logarithms, sums are log-sum-exp in `f64`, and everything is a pure function of counts.

mod bands;
mod hard;
mod interval;
mod mixture;

pub use bands::{distribution_band, quantile_band};
pub use hard::{HARD_NULL, HardEvidence, HardIncident};
pub use interval::{Interval, ratio_interval};
pub use mixture::{Grid, Mixture, Pooled, Side};

/// The chance that a bad event came from the canary, which has `share` of the traffic and a rate of bad events that is
/// `ratio` times the baseline's: `share ratio / (share ratio + 1 - share)`. Exact for any rates, also if they move with
/// time, as long as both arms see the same time (Lindon and Malek, "Anytime-valid inference for multinomial count
/// data", NeurIPS 2022).
pub fn theta(share: f64, ratio: f64) -> f64 {
    share * ratio / (share * ratio + 1.0 - share)
}

/// `ln(1/alpha)`: what a log e-value must reach.
pub fn threshold(alpha: f64) -> f64 {
    -alpha.ln()
}

#[cfg(test)]
mod tests;
