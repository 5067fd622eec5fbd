//! **Owns** the book of alerts and silences, and its journal.
//! **Receives** `RaiseAlert` and `ResolveAlert` from whoever notices something, `SilenceAlerts`, `EndSilence`, `EndAlert`,
//! `TestAlert` and `GetAlerts` from the cells.
//! **Sends** what is to be told to the sinks, which never block.
//! **On failure** alerts of the message at hand are lost until their source speaks again; a journal that cannot be written
//! stops no alert (the full disk is one), but a silence is refused.
//! **On restart** the journal: open alerts and silences are there again, and nobody is told twice.

use crate::api::Refusal;
use crate::deps::Deps;
use crate::guard::Vitals;
use crate::ports::{AlertJournal, AlertSink, SinkStatus, StoreError};
use crate::prediction_logger::unavailable;
use actix::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use understudy_domain::alert::{Alert, AlertBook, Entry, Event, Now, Resolved, Severity, Signal, Silence, Told};
use understudy_domain::time::{Span, Timestamp};

/// How often time is looked at: silences that end, alerts whose time is over.
const LOOK: Duration = Duration::from_secs(5);
/// An alert that stays open is told again after this.
const REMIND: Span = Span::hours(4);

/// Where whoever notices something says so. Telling never waits, and is lost while nobody listens.
pub struct Alerts {
    alerter: OnceLock<Addr<Alerter>>,
    journal: Arc<dyn AlertJournal>,
    sinks: Vec<Arc<dyn AlertSink>>,
    /// Open alerts by severity: info, warning, critical.
    open: [AtomicU64; 3],
}

impl Default for Alerts {
    fn default() -> Self {
        Alerts::new(Arc::new(()), Vec::new())
    }
}

impl Alerts {
    pub fn new(journal: Arc<dyn AlertJournal>, sinks: Vec<Arc<dyn AlertSink>>) -> Self {
        Alerts { alerter: OnceLock::new(), journal, sinks, open: Default::default() }
    }

    pub(crate) fn listen(&self, alerter: Addr<Alerter>) {
        let _ = self.alerter.set(alerter);
    }

    pub fn raise(&self, signal: Signal) {
        if let Some(alerter) = self.alerter.get() {
            alerter.do_send(RaiseAlert(Box::new(signal)));
        }
    }

    pub fn resolve(&self, resolved: Resolved) {
        if let Some(alerter) = self.alerter.get() {
            alerter.do_send(ResolveAlert(resolved));
        }
    }

    /// Open alerts, by severity.
    pub fn open(&self) -> [(Severity, u64); 3] {
        let n = |s: Severity| (s, self.open[s as usize].load(Relaxed));
        [n(Severity::Info), n(Severity::Warning), n(Severity::Critical)]
    }

    pub fn sinks(&self) -> Vec<SinkStatus> {
        self.sinks.iter().map(|s| s.status()).collect()
    }
}

/// Something is wrong.
#[derive(Message)]
#[rtype(result = "()")]
pub struct RaiseAlert(pub Box<Signal>);

/// Something is over.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ResolveAlert(pub Resolved);

/// Nobody is told of alerts that match, for so long; replies when it is durable.
#[derive(Message)]
#[rtype(result = "Result<Silence, Refusal>")]
pub struct SilenceAlerts {
    pub matches: BTreeMap<String, String>,
    pub lasting: Span,
    pub by: String,
    pub comment: String,
}

#[derive(Message)]
#[rtype(result = "Result<Silence, Refusal>")]
pub struct EndSilence {
    pub id: String,
}

/// A person says that an alert is over.
#[derive(Message)]
#[rtype(result = "Result<Alert, Refusal>")]
pub struct EndAlert {
    pub id: String,
}

/// An alert that begins and ends at once, to see that it arrives; replies with it.
#[derive(Message)]
#[rtype(result = "Result<Alert, Refusal>")]
pub struct TestAlert {
    pub by: String,
}

#[derive(Message)]
#[rtype(result = "Result<AlertReport, Refusal>")]
pub struct GetAlerts;

/// An alert, and the silence that keeps it from being told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ShownAlert {
    #[serde(flatten)]
    pub alert: Alert,
    pub silenced_by: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AlertReport {
    /// Open ones, the most severe first.
    pub alerts: Vec<ShownAlert>,
    /// Those that are over, newest first.
    pub resolved: Vec<Alert>,
    pub silences: Vec<Silence>,
    pub sinks: Vec<SinkStatus>,
}

pub struct Alerter {
    deps: Arc<Deps>,
    vitals: Arc<Vitals>,
    alerts: Arc<Alerts>,
    book: AlertBook,
    /// When each open alert was last told, by the wall clock.
    told: BTreeMap<String, Timestamp>,
}

impl Alerter {
    pub fn new(deps: Arc<Deps>, vitals: Arc<Vitals>) -> Self {
        let alerts = deps.alerts.clone();
        Alerter { deps, vitals, alerts, book: AlertBook::default(), told: BTreeMap::new() }
    }

    fn now(&self) -> Now {
        Now { clock: self.deps.clock.now(), wall: self.deps.wall.now() }
    }

    /// Tells, then journals: an alert must not wait for a disk that may be what it is about.
    fn on(&mut self, event: Event) -> impl Future<Output = Result<(), StoreError>> + use<> {
        let now = self.now();
        let (entries, told) = self.book.on(event, now);
        // As told, so that a restart does not tell again.
        let current = |entry: Entry| match entry {
            Entry::Alert(a) => {
                let told = self.book.open().into_iter().find(|o| o.id == a.id).cloned();
                Entry::Alert(Box::new(told.unwrap_or(*a)))
            }
            other => other,
        };
        let mut entries: Vec<Entry> = entries.into_iter().map(current).collect();
        for alert in told.iter().flat_map(|t| &t.alerts).filter(|a| a.is_open()) {
            // Told when its silence ended: its entry is older.
            if !entries.iter().any(|e| matches!(e, Entry::Alert(a) if a.id == alert.id)) {
                entries.push(Entry::Alert(Box::new(alert.clone())));
            }
        }
        self.tell(told, now);
        self.publish();
        let (journal, blocking) = (self.alerts.journal.clone(), self.deps.settings.blocking);
        async move {
            if entries.is_empty() {
                return Ok(());
            }
            let written = blocking.run(move || journal.append(&entries)).await;
            written.unwrap_or_else(|panic| Err(StoreError::Io(panic)))
        }
    }

    fn tell(&mut self, told: Vec<Told>, now: Now) {
        for t in told {
            for alert in &t.alerts {
                match alert.is_open() {
                    true => drop(self.told.insert(alert.id.clone(), now.wall)),
                    false => drop(self.told.remove(&alert.id)),
                }
                self.deps.counters.alerts.add(&[&t.name, if alert.is_open() { "firing" } else { "resolved" }], 1);
            }
            for sink in &self.alerts.sinks {
                sink.offer(&t);
            }
        }
    }

    fn publish(&self) {
        let mut open = [0; 3];
        self.book.open().iter().for_each(|a| open[a.signal.severity as usize] += 1);
        self.alerts.open.iter().zip(open).for_each(|(cell, n)| cell.store(n, Relaxed));
        let says: Vec<String> = self.book.open().iter().map(|a| a.signal.summary.clone()).take(5).collect();
        self.vitals.set_ready(true, says.join("; "));
    }

    /// What follows of an event that nobody waits for. One after the other, so that the journal is in order.
    fn take(&mut self, event: Event, ctx: &mut Context<Self>) {
        let written = self.on(event);
        ctx.wait(written.into_actor(self).map(|written, _, _| {
            if let Err(e) = written {
                tracing::warn!(%e, "an alert could not be journalled; after a restart it is told again");
            }
        }));
    }
}

impl Actor for Alerter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let (journal, blocking) = (self.alerts.journal.clone(), self.deps.settings.blocking);
        let read = async move { blocking.run(move || journal.read()).await };
        ctx.wait(read.into_actor(self).map(|read, it, _| {
            match read.unwrap_or_else(|panic| Err(StoreError::Io(panic))) {
                Ok(entries) => {
                    let now = it.now();
                    it.book = AlertBook::read(entries, now);
                    it.told = it.book.open().iter().map(|a| (a.id.clone(), now.wall)).collect();
                }
                Err(e) => tracing::error!(%e, "the journal of alerts cannot be read; open ones are told again"),
            }
            it.publish();
        }));
        ctx.run_interval(LOOK, |it, ctx| {
            it.take(Event::Tick, ctx);
            let (now, told) = (it.now(), it.told.clone());
            let due = |a: &Alert| told.get(&a.id).is_some_and(|at| *at + REMIND <= now.wall);
            let again = it.book.reminders(due, now);
            it.tell(again, now);
        });
    }
}

impl Supervised for Alerter {}

impl Handler<RaiseAlert> for Alerter {
    type Result = ();

    fn handle(&mut self, m: RaiseAlert, ctx: &mut Self::Context) {
        self.take(Event::Raised(*m.0), ctx);
    }
}

impl Handler<ResolveAlert> for Alerter {
    type Result = ();

    fn handle(&mut self, m: ResolveAlert, ctx: &mut Self::Context) {
        self.take(Event::Cleared(m.0), ctx);
    }
}

impl Handler<SilenceAlerts> for Alerter {
    type Result = ResponseFuture<Result<Silence, Refusal>>;

    fn handle(&mut self, m: SilenceAlerts, _: &mut Self::Context) -> Self::Result {
        let invalid = |detail: String| Refusal::Invalid { code: "invalid_silence", detail };
        let checked = if m.matches.is_empty() {
            Err(invalid("it matches nothing: name a label, such as alertname, severity, feed or model".into()))
        } else if m.lasting <= Span::ZERO || m.lasting > AlertBook::LONGEST_SILENCE {
            Err(invalid(format!("{} is no length of a silence: up to {}", m.lasting, AlertBook::LONGEST_SILENCE)))
        } else {
            Ok(())
        };
        let wall = self.deps.wall.now();
        let id = ulid::Ulid::from_parts(wall.millis(), (self.deps.settings.entropy)()).to_string();
        let silence =
            Silence { id, matches: m.matches, created: wall, until: wall + m.lasting, by: m.by, comment: m.comment };
        let written = checked.map(|()| self.on(Event::Silenced(silence.clone())));
        Box::pin(async move {
            written?.await.map_err(unavailable)?;
            Ok(silence)
        })
    }
}

impl Handler<EndSilence> for Alerter {
    type Result = ResponseFuture<Result<Silence, Refusal>>;

    fn handle(&mut self, m: EndSilence, _: &mut Self::Context) -> Self::Result {
        let found = self.book.silences().iter().find(|s| s.id == m.id).cloned();
        let written = found.map(|silence| (silence, self.on(Event::Unsilenced { id: m.id.clone() })));
        Box::pin(async move {
            let Some((silence, written)) = written else {
                let detail = format!("no silence `{}` runs; see /v1/alerts", m.id);
                return Err(Refusal::NotFound { code: "unknown_silence", detail });
            };
            written.await.map_err(unavailable)?;
            Ok(silence)
        })
    }
}

impl Handler<EndAlert> for Alerter {
    type Result = ResponseFuture<Result<Alert, Refusal>>;

    fn handle(&mut self, m: EndAlert, _: &mut Self::Context) -> Self::Result {
        let written = self.on(Event::Ended { id: m.id.clone() });
        let ended = self.book.over().find(|a| a.id == m.id).cloned();
        Box::pin(async move {
            written.await.map_err(unavailable)?;
            ended.ok_or_else(|| Refusal::NotFound {
                code: "unknown_alert",
                detail: format!("no alert `{}` is open; see /v1/alerts", m.id),
            })
        })
    }
}

impl Handler<TestAlert> for Alerter {
    type Result = ResponseFuture<Result<Alert, Refusal>>;

    fn handle(&mut self, m: TestAlert, _: &mut Self::Context) -> Self::Result {
        let begun = self.on(Event::Raised(Signal::test(&m.by, self.now().clock)));
        let ended = self.on(Event::Cleared(Resolved::test()));
        let test = self.book.over().find(|a| a.signal.cause == "test").cloned();
        Box::pin(async move {
            // That it cannot be written is no reason not to see that it arrives.
            let _ = (begun.await, ended.await);
            test.ok_or_else(|| Refusal::Internal { detail: "the test left no alert behind".into() })
        })
    }
}

impl Handler<GetAlerts> for Alerter {
    type Result = Result<AlertReport, Refusal>;

    fn handle(&mut self, _: GetAlerts, _: &mut Self::Context) -> Self::Result {
        let now = self.now();
        let shown =
            |a: &Alert| ShownAlert { silenced_by: self.book.silenced(a, now).map(|s| s.id.clone()), alert: a.clone() };
        Ok(AlertReport {
            alerts: self.book.open().into_iter().map(shown).collect(),
            resolved: self.book.over().cloned().collect(),
            silences: self.book.silences().to_vec(),
            sinks: self.alerts.sinks(),
        })
    }
}
