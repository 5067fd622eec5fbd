//! A thread that looks after the open store: free space against the floor, and logs whose last commit failed. So a
//! full disk ends without a restart, moments after there is space again.

use super::health::Health;
use super::store::free_bytes;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use understudy_actors::ports::StoreError;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// Mends one log; true when it takes records.
pub type Mend = Box<dyn Fn() -> bool + Send>;

pub struct Keeper {
    stop: Mutex<Option<mpsc::Sender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Keeper {
    pub fn start(dir: PathBuf, floor: u64, health: Arc<Health>, logs: Vec<Mend>) -> Result<Keeper, StoreError> {
        let (stop, stopped) = mpsc::channel::<()>();
        look(&dir, floor, &health);
        let thread = std::thread::Builder::new()
            .name("store-keeper".into())
            .spawn(move || {
                while stopped.recv_timeout(LOOK) == Err(mpsc::RecvTimeoutError::Timeout) {
                    look(&dir, floor, &health);
                    if !health.is_low() {
                        for mend in &logs {
                            mend();
                        }
                    }
                }
            })
            .map_err(|e| StoreError::Io(format!("no thread for the store's keeper: {e}")))?;
        Ok(Keeper { stop: Mutex::new(Some(stop)), thread: Mutex::new(Some(thread)) })
    }

    pub fn stop(&self) {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

fn look(dir: &std::path::Path, floor: u64, health: &Health) {
    let Ok(free) = free_bytes(dir) else { return };
    // Some more than the floor before writing begins again, so that it does not go on and off.
    let wanted = if health.is_low() { floor.saturating_add(floor / 20) } else { floor };
    let low = free < wanted;
    if health.space(free, low) {
        match low {
            true => tracing::error!(
                free,
                floor,
                "little disk space: events and outcomes are refused (507), predictions go on unlogged"
            ),
            false => tracing::info!(free, floor, "enough disk space again: everything is taken"),
        }
    }
}
