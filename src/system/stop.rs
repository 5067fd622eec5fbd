//! How the server waits until it is ready, and how it ends: drain, finish, save, close; never longer than a limit.

use super::signals::Stop;
use crate::storage::Store;
use actix_web::dev::ServerHandle;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use understudy_actors::cell::refusal_code;
use understudy_actors::system::System;

/// A server answers `/readyz` by then, or the start has failed; recovery reads the log, whose length is not known.
const START_POLL: Duration = Duration::from_millis(5);
/// Flush of the logs and snapshots of the features.
const SAVE_WITHIN: Duration = Duration::from_secs(8);
/// Requests in flight of a system that was given up.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(5);

/// Exit code of a server that an actor's restart loop ended (`EX_SOFTWARE` of sysexits.h).
pub const GIVEN_UP: u8 = 70;

/// Why the server ends.
pub enum End {
    Asked(Stop),
    /// An actor failed more often than its budget allows; which one, and how.
    GivenUp(String),
}

/// Why the end was not a clean one.
#[derive(Debug)]
pub struct Unclean {
    pub why: String,
    pub exit: u8,
}

impl From<String> for Unclean {
    fn from(why: String) -> Self {
        Unclean { why, exit: 1 }
    }
}

/// Waits until every actor is ready; or how it ends before.
pub async fn until_ready(
    system: &System,
    workers: usize,
    mut until: Pin<&mut impl Future<Output = Stop>>,
) -> Result<(), End> {
    // A worker's cell starts on its own thread: until all are there, health does not speak of all.
    while system.cells() < workers || !system.ready() {
        tokio::select! {
            stop = &mut until => return Err(End::Asked(stop)),
            why = system.given_up() => return Err(End::GivenUp(why)),
            () = tokio::time::sleep(START_POLL) => {}
        }
    }
    Ok(())
}

pub async fn until_end(system: &System, until: Pin<&mut impl Future<Output = Stop>>) -> End {
    tokio::select! {
        stop = until => End::Asked(stop),
        why = system.given_up() => End::GivenUp(why),
    }
}

/// Ends everything in order. No accepted request is dropped, unless the system was given up and cannot answer.
pub async fn end(
    end: End,
    system: &Arc<System>,
    handle: ServerHandle,
    store: &Store,
    drain: Duration,
) -> Result<(), Unclean> {
    system.drain();
    match &end {
        End::Asked(Stop::Drain) => {
            tracing::info!(drain_s = drain.as_secs_f64(), "stopping: not ready from now on, still serving");
            tokio::time::sleep(drain).await; // a wait by definition: others have to see that we are not ready
        }
        End::Asked(Stop::Now) => {}
        End::GivenUp(why) => tracing::error!("giving up: {why}"),
    }
    tracing::info!("stopping: no new requests, finishing those in flight");
    match &end {
        End::Asked(_) => handle.stop(true).await,
        End::GivenUp(_) => drop(tokio::time::timeout(GIVEN_UP_WITHIN, handle.stop(true)).await),
    }
    let saved = tokio::time::timeout(SAVE_WITHIN, system.stop()).await;
    store.close();
    match (end, saved) {
        (End::GivenUp(why), _) => Err(Unclean { why, exit: GIVEN_UP }),
        (_, Ok(Ok(()))) => Ok(()),
        (_, Ok(Err(e))) => Err(unsaved(refusal_code(&e)).into()),
        (_, Err(_)) => Err(unsaved("the disk takes too long").into()),
    }
}

fn unsaved(why: &str) -> String {
    format!("not everything could be saved ({why}); the event log has it all and is read at the next start")
}
