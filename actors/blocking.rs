//! Where work that blocks runs: on the runtime's blocking pool, or inline on the one thread of a simulation.

use crate::guard::panic_text;
use std::panic::{AssertUnwindSafe, catch_unwind};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Blocking {
    #[default]
    Pool,
    /// At once and on this thread, so that one seed gives one order of everything.
    Inline,
}

impl Blocking {
    /// The result of `work`, or the text of its panic.
    pub async fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
        let caught = move || catch_unwind(AssertUnwindSafe(work)).map_err(|panic| panic_text(&*panic));
        match self {
            Blocking::Pool => tokio::task::spawn_blocking(caught).await.map_err(|e| e.to_string())?,
            Blocking::Inline => {
                tokio::task::yield_now().await;
                caught()
            }
        }
    }
}
