//! A token bucket in one number.

/// Requests per second on average, and how many may come at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    pub per_s: f64,
    pub burst: f64,
}

/// Takes one token. `state` is the theoretical arrival time in nanoseconds (0 for a full bucket), `now` counts
/// on the same clock. `Ok` is the new state; `Err` is how many nanoseconds to wait for a token.
///
/// Generic cell rate algorithm (ITU-T I.371), the same as a token bucket of size `burst` that fills at `per_s`.
pub fn take(rate: Rate, state: u64, now: u64) -> Result<u64, u64> {
    let interval = (1e9 / rate.per_s.max(1e-6)) as u64;
    let room = (interval as f64 * (rate.burst.max(1.0) - 1.0)) as u64;
    let arrival = state.max(now);
    match arrival.saturating_sub(now) {
        ahead if ahead > room => Err(ahead - room),
        _ => Ok(arrival.saturating_add(interval)),
    }
}
