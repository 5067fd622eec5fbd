//! **Owns** the watch over the feeds: windows of every event type, findings, incidents.
//! **Receives** `EventsTaken` from the event logger; `GetFeeds`, `GetDataIncidents`, `ForgetIds` and `SaveFeeds`.
//! **Sends** alerts of incidents that open and close.
//! **On failure** events meanwhile are read from the log; what was refused meanwhile is not counted. Serving is untouched.
//! **On restart** the last checkpoint, and the events logged since.

use crate::alerter::Alerts;
use crate::api::Refusal;
use crate::deps::Deps;
use crate::generation::Current;
use crate::guard::Vitals;
use crate::ports::StoreError;
use actix::prelude::*;
use arc_swap::ArcSwap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use understudy_domain::alert::{Resolved, Signal};
use understudy_domain::event::LoggedEvent;
use understudy_domain::feed::{DataIncident, FeedFinding, FeedReport, FeedStatus, FeedWatch};
use understudy_domain::time::Timestamp;

/// Events between two checkpoints: what a restart counts again.
const CHECKPOINT_EVERY: u64 = 50_000;
/// Events on their way to this actor; further ones are left out and counted, so that a slow watch holds no memory.
const MAX_AHEAD: u64 = 200_000;
/// How often silence is looked for while the wall clock rules.
const LOOK: Duration = Duration::from_secs(60);

/// What became of a batch of events.
#[derive(Message)]
#[rtype(result = "()")]
pub struct EventsTaken {
    pub taken: Arc<Vec<LoggedEvent>>,
    /// Event type, and why it was not taken.
    pub refused: Vec<(String, String)>,
    /// When they were refused.
    pub now: Timestamp,
}

/// All feeds; findings of windows that begin in [from, until).
#[derive(Message)]
#[rtype(result = "Result<FeedReport, Refusal>")]
pub struct GetFeeds {
    pub from: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

/// Open incidents of feeds and those that were open in [from, until), oldest first. Answered after every batch that was
/// taken before it was asked.
#[derive(Message)]
#[rtype(result = "Vec<DataIncident>")]
pub struct GetDataIncidents {
    pub from: Timestamp,
    pub until: Timestamp,
}

/// An entity is erased: its ids leave what is kept, on disk too. `ids` in the order of `keys`.
#[derive(Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct ForgetIds {
    pub keys: Vec<String>,
    pub ids: Vec<String>,
}

/// The state becomes durable.
#[derive(Message)]
#[rtype(result = "Result<(), StoreError>")]
pub struct SaveFeeds;

/// What `/metrics` reads; this actor alone writes it.
#[derive(Default)]
pub struct FeedBoard {
    feeds: ArcSwap<Vec<FeedStatus>>,
    open: ArcSwap<Vec<DataIncident>>,
    /// Events on their way.
    ahead: AtomicU64,
    skipped: AtomicU64,
}

impl FeedBoard {
    pub fn feeds(&self) -> Arc<Vec<FeedStatus>> {
        self.feeds.load_full()
    }

    /// Incidents that are open.
    pub fn open(&self) -> Arc<Vec<DataIncident>> {
        self.open.load_full()
    }

    /// Events that were not counted because the watch was behind.
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Relaxed)
    }

    /// Whether a batch of `n` may go to the watch.
    pub(crate) fn admit(&self, n: u64) -> bool {
        if self.ahead.fetch_add(n, Relaxed) >= MAX_AHEAD {
            self.ahead.fetch_sub(n, Relaxed);
            self.skipped.fetch_add(n, Relaxed);
            return false;
        }
        true
    }
}

pub struct FeedMonitor {
    deps: Arc<Deps>,
    current: Current,
    vitals: Arc<Vitals>,
    board: Arc<FeedBoard>,
    alerts: Arc<Alerts>,
    watch: FeedWatch,
    /// The last event counted.
    seq: u64,
    since_checkpoint: u64,
    saving: bool,
    /// Windows judged when the board was last written.
    shown: u64,
}

impl FeedMonitor {
    pub fn new(deps: Arc<Deps>, current: Current, vitals: Arc<Vitals>, board: Arc<FeedBoard>) -> Self {
        let watch = FeedWatch::new(current.load().catalog.feed_settings());
        let alerts = deps.alerts.clone();
        FeedMonitor {
            deps,
            current,
            vitals,
            board,
            alerts,
            watch,
            seq: 0,
            since_checkpoint: 0,
            saving: false,
            shown: 0,
        }
    }

    fn recover(&mut self, ctx: &mut Context<Self>) {
        // It only watches: nothing waits for it to be back.
        self.vitals.set_ready(true, "reading what was counted before");
        let (deps, spec) = (self.deps.clone(), self.current.load().catalog.feed_settings());
        let blocking = self.deps.settings.blocking;
        let read = async move { blocking.run(move || recovered(&deps, FeedWatch::new(spec))).await };
        ctx.wait(read.into_actor(self).map(|read, it, _| {
            match read {
                Ok((watch, seq)) => (it.watch, it.seq) = (watch, seq),
                Err(panic) => tracing::error!(panic, "the watch over the feeds could not be read back; it begins anew"),
            }
            it.since_checkpoint = 0;
            it.publish();
        }));
    }

    fn count(&mut self, m: &EventsTaken) {
        let mut found = Vec::new();
        for e in m.taken.iter().filter(|e| e.seq > self.seq) {
            found.extend(self.watch.on_event(e));
        }
        self.seq = m.taken.last().map_or(self.seq, |e| e.seq.max(self.seq));
        for (kind, code) in &m.refused {
            found.extend(self.watch.on_refused(kind, code, m.now));
        }
        self.since_checkpoint += m.taken.len() as u64;
        self.judged(&found);
    }

    /// Windows were judged, or not.
    fn judged(&mut self, found: &[FeedFinding]) {
        for f in found {
            self.deps.counters.feed_findings.add(&[&f.kind, f.level.name()], 1);
        }
        let open: Vec<DataIncident> = self.watch.incidents().iter().filter(|i| i.is_open()).cloned().collect();
        let changed = open != **self.board.open.load();
        if changed {
            self.tell(&open);
        }
        let judged = self.watch.counts().get("windows").copied().unwrap_or(0);
        if changed || judged != self.shown {
            self.shown = judged;
            self.publish();
        }
    }

    /// Incidents that opened or closed since the board was written.
    fn tell(&self, open: &[DataIncident]) {
        let before = self.board.open.load_full();
        for i in open {
            let known = before.iter().find(|b| b.feed == i.feed && b.since == i.since);
            if known.is_none_or(|b| b.findings < i.findings) {
                self.alerts.raise(Signal::feed(i));
            }
            if known.is_none() {
                tracing::warn!(feed = i.feed, since = %i.since, "feed: {}", i.reason);
            }
        }
        for b in before.iter().filter(|b| !open.iter().any(|i| i.feed == b.feed)) {
            let ended = self.watch.incidents().iter().rev().find(|i| i.feed == b.feed && i.since == b.since);
            self.alerts.resolve(Resolved::feed(&b.feed, ended.and_then(|i| i.until)));
        }
    }

    fn publish(&self) {
        let open: Vec<DataIncident> = self.watch.incidents().iter().filter(|i| i.is_open()).cloned().collect();
        let says = open.iter().map(|i| format!("{} since {}: {}", i.feed, i.since, i.reason)).collect::<Vec<_>>();
        self.vitals.set_ready(true, says.join("; "));
        self.board.feeds.store(Arc::new(self.watch.statuses()));
        self.board.open.store(Arc::new(open));
    }

    fn save(&self) -> impl Future<Output = Result<(), StoreError>> + use<> {
        let (deps, watch, seq) = (self.deps.clone(), self.watch.clone(), self.seq);
        let saved = self.deps.settings.blocking.run(move || deps.feeds.save(seq, &watch));
        async move { saved.await.unwrap_or_else(|panic| Err(StoreError::Io(panic))) }
    }

    fn checkpoint(&mut self, ctx: &mut Context<Self>) {
        if self.saving || self.since_checkpoint < CHECKPOINT_EVERY {
            return;
        }
        (self.saving, self.since_checkpoint) = (true, 0);
        ctx.spawn(self.save().into_actor(self).map(|saved, it, _| {
            it.saving = false;
            if let Err(e) = saved {
                tracing::warn!(%e, "the watch over the feeds could not be saved; a restart reads more of the log");
            }
        }));
    }
}

/// The checkpoint and the events since; a fresh watch if there is none that can be used.
fn recovered(deps: &Deps, mut fresh: FeedWatch) -> (FeedWatch, u64) {
    let spec = fresh.spec().clone();
    let mut seq = 0;
    if !deps.settings.monitoring {
        return (fresh, seq);
    }
    match deps.feeds.load() {
        Ok(Some((saved, mut watch))) if saved <= deps.events.last_seq() => {
            watch.follow(spec);
            (fresh, seq) = (watch, saved);
        }
        Ok(_) => {}
        Err(e) => tracing::warn!(%e, "what was saved of the feeds cannot be read; the event log is read instead"),
    }
    let scanned = deps.events.scan(seq + 1, &mut |e| {
        fresh.on_event(&e);
        seq = e.seq;
        ControlFlow::Continue(())
    });
    if let Err(e) = scanned {
        tracing::warn!(%e, "the event log could not be read to its end for the watch over the feeds");
    }
    (fresh, seq)
}

impl Actor for FeedMonitor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.saving = false;
        self.recover(ctx);
        if !self.deps.clock.is_stream() {
            ctx.run_interval(LOOK, |it, _| {
                let found = it.watch.advance(it.deps.clock.now());
                it.judged(&found);
            });
        }
    }
}

impl Supervised for FeedMonitor {
    fn restarting(&mut self, _: &mut Self::Context) {
        // What was on its way is in the mailbox still, or lost with the batch that failed.
        self.board.ahead.store(0, Relaxed);
    }
}

impl Handler<EventsTaken> for FeedMonitor {
    type Result = ();

    fn handle(&mut self, m: EventsTaken, ctx: &mut Self::Context) {
        let n = (m.taken.len() + m.refused.len()) as u64;
        let _ = self.board.ahead.fetch_update(Relaxed, Relaxed, |ahead| Some(ahead.saturating_sub(n)));
        let spec = self.current.load().catalog.feed_settings();
        if spec != *self.watch.spec() {
            self.watch.follow(spec);
        }
        self.count(&m);
        self.checkpoint(ctx);
    }
}

impl Handler<GetFeeds> for FeedMonitor {
    type Result = Result<FeedReport, Refusal>;

    fn handle(&mut self, m: GetFeeds, _: &mut Self::Context) -> Self::Result {
        Ok(self.watch.report(m.from, m.until))
    }
}

impl Handler<GetDataIncidents> for FeedMonitor {
    type Result = MessageResult<GetDataIncidents>;

    fn handle(&mut self, m: GetDataIncidents, _: &mut Self::Context) -> Self::Result {
        let of = |i: &&DataIncident| i.is_open() || i.overlaps(m.from, m.until);
        MessageResult(self.watch.incidents().iter().filter(of).cloned().collect())
    }
}

impl Handler<ForgetIds> for FeedMonitor {
    type Result = ResponseFuture<Result<(), StoreError>>;

    fn handle(&mut self, m: ForgetIds, _: &mut Self::Context) -> Self::Result {
        self.watch.forget(&m.keys, &m.ids);
        self.publish();
        Box::pin(self.save())
    }
}

impl Handler<SaveFeeds> for FeedMonitor {
    type Result = ResponseFuture<Result<(), StoreError>>;

    fn handle(&mut self, _: SaveFeeds, _: &mut Self::Context) -> Self::Result {
        Box::pin(self.save())
    }
}
