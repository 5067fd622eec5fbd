//! Memory of the process: read now and then, and what follows from it.

use std::fs::read_to_string;
use std::sync::Arc;
use std::time::{Duration, Instant};
use understudy_actors::system::System;
use understudy_domain::admission::{MemoryLadder, Rung};
use understudy_domain::alert::{Resolved, Signal};

/// Between two readings: at 1 GB/s of growth, 2 % of a cap of 5 GB.
const EVERY: Duration = Duration::from_millis(100);

/// Between two rounds of shrinking: the first must have had its effect.
const SHRINK_EVERY: Duration = Duration::from_secs(2);

/// Resident memory in bytes, of which the kernel kills a process when there is too much.
pub fn resident() -> Option<u64> {
    let pages: u64 = read_to_string("/proc/self/statm").ok()?.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// The limit of this container (cgroup v2, then v1), if it has one.
pub fn container_limit() -> Option<u64> {
    let files = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit = files.iter().find_map(|f| read_to_string(f).ok()?.trim().parse::<u64>().ok())?;
    // cgroup v1 says "none" with a number near 2^63.
    (limit < 1 << 60).then_some(limit)
}

/// The cap that is in force: the setting, or the container's limit; 0 is none.
pub fn cap(setting: u64) -> u64 {
    if setting > 0 { setting } else { container_limit().unwrap_or(0) }
}

/// Watches until the runtime ends. `cap` is in bytes; without one there is nothing to watch.
pub async fn watch(system: Arc<System>, cap: u64) {
    if cap == 0 {
        return;
    }
    let mut ladder = MemoryLadder::default();
    let mut shrunk: Option<Instant> = None;
    let mut ticks = tokio::time::interval(EVERY);
    loop {
        ticks.tick().await;
        let Some(used) = resident() else { return };
        let before = ladder.rung();
        let rung = ladder.on_reading(used, cap);
        if rung != before {
            tracing::warn!(from = before.name(), to = rung.name(), used, cap, "memory");
            system.admission.set_rung(rung);
            let alerts = &system.deps.alerts;
            match rung {
                Rung::Normal => alerts.resolve(Resolved::memory()),
                _ => alerts.raise(Signal::memory(rung.name(), used, cap, system.deps.clock.now())),
            }
        }
        let short = rung >= Rung::ShrinkCaches;
        if short && shrunk.is_none_or(|at| at.elapsed() >= SHRINK_EVERY) {
            system.shrink(true);
            shrunk = Some(Instant::now());
        } else if rung == Rung::Normal && shrunk.take().is_some() {
            system.shrink(false);
        }
    }
}
