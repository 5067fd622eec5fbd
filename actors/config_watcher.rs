//! **Owns** the history of the project's changes, the change that is being applied, and the last error.
//! **Receives** its own tick (once a second it looks at the files), `Reload` from cells and signals, `Revert` and
//! `GetConfig` from cells.
//! **Sends** what [`reconfigure`](crate::reconfigure) sends: new shards, routes and monitors, then the swap.
//! **On failure** the generation in force stays; a change that was being applied when the process died is not tried
//! again: the next start uses the last one applied, and says so.
//! **On restart** the history is read again; a change in the making is given up.

mod apply;
mod questions;

use crate::api::Refusal;
use crate::config::*;
use crate::feature_shard::Scan;
use crate::guard::Vitals;
use crate::supervise;
use crate::system::System;
use actix::prelude::*;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::oneshot;

/// Between two looks at the files: a watch by the kernel would miss changes on network and bind mounts.
pub const LOOK: Duration = Duration::from_secs(1);
/// Entries of the history that are answered.
const SHOWN: usize = 500;

/// Look at the files now; replies when the change is applied or refused.
#[derive(Message)]
#[rtype(result = "Result<Change, Refusal>")]
pub struct Reload {
    /// Who asks.
    pub by: String,
}

/// Make the files those of an earlier generation, and apply them as a new one.
#[derive(Message)]
#[rtype(result = "Result<Change, Refusal>")]
pub struct Revert {
    pub to: u64,
    pub by: String,
}

#[derive(Message)]
#[rtype(result = "Result<ConfigStatus, Refusal>")]
pub struct GetConfig;

/// Newest first, without the contents of files.
#[derive(Message)]
#[rtype(result = "Result<Vec<Change>, Refusal>")]
pub struct GetHistory;

/// An applied generation's files, or what is different between two generations.
#[derive(Message)]
#[rtype(result = "Result<Vec<KeyChange>, Refusal>")]
pub struct DiffGenerations {
    pub from: u64,
    pub to: u64,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Look;

type Waiter = oneshot::Sender<Result<Change, Refusal>>;

struct Job {
    by: String,
    files: Files,
    /// Files to put back if this is refused: of a revert.
    undo: Option<Files>,
    waiters: Vec<Waiter>,
}

/// What is known of the project as it was started or last applied.
#[derive(Clone)]
pub struct InForce {
    pub files: Files,
    pub compiled: Compiled,
    /// The start did not use the files but the last applied ones, and why.
    pub instead: Option<Change>,
}

pub struct ConfigWatcher {
    system: Weak<System>,
    source: Arc<dyn ConfigSource>,
    vitals: Arc<Vitals>,
    /// Values at the start, for keys that wait for the next one.
    started: BTreeMap<String, String>,
    now: InForce,
    since: understudy_domain::time::Timestamp,
    /// Hash that was looked at last, applied or refused: it is not looked at again.
    seen: String,
    running: Option<Arc<Scan>>,
    queue: VecDeque<Job>,
    last_error: Option<Change>,
}

impl System {
    /// Follows the files of the project that the system was started with.
    pub fn watch(self: &Arc<System>, source: Arc<dyn ConfigSource>, in_force: InForce) {
        let vitals = Vitals::new("config_watcher", self.escalation.clone());
        self.register(vitals.clone());
        let seen = in_force.instead.as_ref().map_or(&in_force.files.hash, |change| &change.hash).clone();
        let watcher = ConfigWatcher {
            system: Arc::downgrade(self),
            source,
            vitals: vitals.clone(),
            started: in_force.compiled.values.clone(),
            last_error: in_force.instead.clone(),
            now: in_force,
            since: self.deps.wall.now(),
            seen,
            running: None,
            queue: VecDeque::new(),
        };
        let watcher = supervise::start_on(&self.threads.control, watcher, vitals);
        let _ = self.watcher.set(watcher);
    }

    /// The address of the watcher; `None` where there are no files to watch.
    pub fn config(&self) -> Option<&Addr<ConfigWatcher>> {
        self.watcher.get()
    }
}

impl ConfigWatcher {
    /// Reads the files off this thread; a change becomes a job.
    fn look(&mut self, by: String, asked: Option<Waiter>, ctx: &mut Context<Self>) {
        let (source, blocking) = (self.source.clone(), self.blocking());
        let read = async move { blocking.run(move || source.read()).await.and_then(|r| r) };
        ctx.spawn(read.into_actor(self).map(move |files, watcher, ctx| match files {
            Err(e) => {
                let change = watcher.change(&by, &watcher.now.files, Verdict::Refused, Vec::new(), vec![e]);
                if asked.is_none() && watcher.last_error.as_ref().is_some_and(|l| l.problems == change.problems) {
                    return; // the same as a second ago
                }
                watcher.refused(&change);
                if let Some(asked) = asked {
                    let _ = asked.send(Ok(change));
                }
            }
            // Nobody asked, and these files were looked at before.
            Ok(files) if asked.is_none() && files.hash == watcher.seen => {}
            Ok(files) => watcher.push(Job { by, files, undo: None, waiters: asked.into_iter().collect() }, ctx),
        }));
    }

    fn blocking(&self) -> crate::blocking::Blocking {
        self.system.upgrade().map(|s| s.deps.settings.blocking).unwrap_or_default()
    }

    /// The newest change is the one that counts: it takes the place of what is being built or waits.
    fn push(&mut self, mut job: Job, ctx: &mut Context<Self>) {
        self.seen.clone_from(&job.files.hash);
        while let Some(mut earlier) = self.queue.pop_front() {
            job.waiters.append(&mut earlier.waiters);
        }
        self.queue.push_back(job);
        match &self.running {
            Some(scan) => scan.stop.store(true, Relaxed),
            None => self.next(ctx),
        }
    }

    fn next(&mut self, ctx: &mut Context<Self>) {
        let (Some(job), Some(system)) = (self.queue.pop_front(), self.system.upgrade()) else { return };
        let scan = Arc::new(Scan::default());
        self.running = Some(scan.clone());
        let (source, number, old) = (self.source.clone(), system.generation().number + 1, self.now.clone());
        let Job { by, files, undo, waiters } = job;
        let start = self.change(&by, &files, Verdict::Applying, Vec::new(), Vec::new());
        let started = self.started.clone();
        let work = async move { apply::apply(&system, source, number, &old, &started, files, undo, start, scan).await };
        ctx.spawn(work.into_actor(self).map(move |(change, compiled), watcher, ctx| {
            watcher.running = None;
            match (change.verdict, compiled) {
                (Verdict::Applied | Verdict::Unchanged, Some((files, compiled))) => {
                    watcher.now = InForce { files, compiled, instead: None };
                    watcher.last_error = None;
                    watcher.vitals.set_ready(true, "");
                    if change.verdict == Verdict::Applied {
                        watcher.since = change.time;
                    }
                    tracing::info!(
                        generation = change.generation,
                        by = change.by,
                        changes = change.changes.len(),
                        "configuration {:?}",
                        change.verdict
                    );
                }
                (Verdict::Superseded, _) => {}
                _ => watcher.refused(&change),
            }
            for waiter in waiters {
                let _ = waiter.send(Ok(change.clone()));
            }
            watcher.next(ctx);
        }));
    }

    /// The generation in force stays; who looks at the health sees why.
    fn refused(&mut self, change: &Change) {
        tracing::error!(
            by = change.by,
            generation = change.generation,
            problems = change.problems.join("; "),
            "the changed project was refused; the generation in force stays"
        );
        self.vitals.set_ready(true, format!("the changed project was refused: {}", change.problems.join("; ")));
        self.last_error = Some(change.clone());
    }

    fn change(
        &self,
        by: &str,
        files: &Files,
        verdict: Verdict,
        changes: Vec<KeyChange>,
        problems: Vec<String>,
    ) -> Change {
        let system = self.system.upgrade();
        Change {
            generation: system.as_ref().map_or(0, |s| s.generation().number),
            time: system.map_or(understudy_domain::time::Timestamp(0), |s| s.deps.wall.now()),
            by: by.to_owned(),
            hash: files.hash.clone(),
            verdict,
            changes,
            problems,
            at_next_start: Vec::new(),
            files: None,
        }
    }

    fn of_generation(&self, number: u64) -> Result<Files, Refusal> {
        self.source.history().into_iter().rev().find(|c| c.generation == number && c.files.is_some()).and_then(|c| c.files).ok_or_else(|| {
            Refusal::NotFound {
                code: "unknown_generation",
                detail: format!("the files of generation {number} are not in the history; `understudy config history` shows which are"),
            }
        })
    }
}

impl Actor for ConfigWatcher {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(LOOK, |_, ctx| ctx.notify(Look));
        let said = self.now.instead.as_ref().map(|c| c.problems.join("; ")).unwrap_or_default();
        self.vitals.set_ready(true, said);
    }
}

impl Supervised for ConfigWatcher {
    fn restarting(&mut self, _: &mut Self::Context) {
        if let Some(scan) = self.running.take() {
            scan.stop.store(true, Relaxed);
        }
        self.queue.clear();
        if let Some(system) = self.system.upgrade() {
            crate::reconfigure::give_up(&system);
        }
        // Looked at again: it may have been given up half way.
        self.seen.clear();
    }
}

impl Handler<Look> for ConfigWatcher {
    type Result = ();

    fn handle(&mut self, _: Look, ctx: &mut Self::Context) {
        self.look("file".into(), None, ctx);
    }
}

impl Handler<Reload> for ConfigWatcher {
    type Result = ResponseFuture<Result<Change, Refusal>>;

    fn handle(&mut self, m: Reload, ctx: &mut Self::Context) -> Self::Result {
        let (done, changed) = oneshot::channel();
        self.look(m.by, Some(done), ctx);
        Box::pin(async move { changed.await.unwrap_or_else(|_| Err(restarted())) })
    }
}

impl Handler<Revert> for ConfigWatcher {
    type Result = ResponseFuture<Result<Change, Refusal>>;

    fn handle(&mut self, m: Revert, ctx: &mut Self::Context) -> Self::Result {
        let files = match self.of_generation(m.to) {
            Ok(files) => files,
            Err(e) => return Box::pin(async move { Err(e) }),
        };
        let written = self.source.read().and_then(|before| self.source.write(&files).map(|()| before));
        let before = match written {
            Ok(before) => before,
            Err(e) => {
                let detail = format!("the files of the project could not be written: {e}");
                return Box::pin(async move { Err(Refusal::Unavailable { code: "project_not_writable", detail }) });
            }
        };
        let (done, changed) = oneshot::channel();
        let by = format!("revert {} ({})", m.to, m.by);
        self.push(Job { by, files, undo: Some(before), waiters: vec![done] }, ctx);
        Box::pin(async move { changed.await.unwrap_or_else(|_| Err(restarted())) })
    }
}

fn restarted() -> Refusal {
    Refusal::Internal { detail: "the config watcher was restarted; ask again".into() }
}
