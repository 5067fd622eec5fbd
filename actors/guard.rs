//! What is known of each actor's health, its restart budget, and what happens when that is spent.

use crate::api::ActorHealth;
use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;
use tokio::time::Instant;
use understudy_domain::restart::{AfterFailure, MAX_RESTARTS, PERIOD, RestartBudget};
use understudy_domain::time::Timestamp;

/// Says once, to whoever runs the system, that an actor cannot be kept up and why.
#[derive(Clone)]
pub struct Escalation(watch::Sender<Option<String>>);

impl Default for Escalation {
    fn default() -> Self {
        Escalation(watch::Sender::new(None))
    }
}

impl Escalation {
    fn raise(&self, why: String) {
        self.0.send_if_modified(|first| first.is_none().then(|| *first = Some(why)).is_some());
    }

    /// Resolves with the reason when the first actor is given up.
    pub async fn raised(&self) -> String {
        let mut told = self.0.subscribe();
        let why = told.wait_for(Option::is_some).await.map(|why| (*why).clone());
        why.ok().flatten().unwrap_or_default()
    }
}

/// Health of one actor; shared with whoever reports it.
pub struct Vitals {
    name: String,
    panics: AtomicU64,
    restarts: AtomicU64,
    ready: AtomicBool,
    escalated: AtomicBool,
    escalation: Escalation,
    /// Restart budgets count people's time: this clock neither jumps nor goes back.
    born: Instant,
    budget: Mutex<RestartBudget>,
    detail: Mutex<String>,
}

impl Vitals {
    pub fn new(name: impl Into<String>, escalation: Escalation) -> Arc<Self> {
        Arc::new(Vitals {
            name: name.into(),
            panics: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            ready: AtomicBool::new(false),
            escalated: AtomicBool::new(false),
            escalation,
            born: Instant::now(),
            budget: Mutex::new(RestartBudget::default()),
            detail: Mutex::new(String::new()),
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The actor is up, or its state is being rebuilt, or could not be.
    pub fn set_ready(&self, ready: bool, detail: impl Into<String>) {
        *self.detail.lock().unwrap_or_else(PoisonError::into_inner) = detail.into();
        self.ready.store(ready, Relaxed);
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Relaxed)
    }

    /// Counts a restart against the budget; false when it is spent and the actor must stay down.
    pub(crate) fn may_restart(&self) -> bool {
        self.restarts.fetch_add(1, Relaxed);
        let now = Timestamp(i64::try_from(self.born.elapsed().as_micros()).unwrap_or(i64::MAX));
        let verdict = self.budget.lock().unwrap_or_else(PoisonError::into_inner).on_failure(now);
        if verdict == AfterFailure::Restart {
            return true;
        }
        self.escalated.store(true, Relaxed);
        let why = format!(
            "restart loop: {} failed more than {MAX_RESTARTS} times in {PERIOD}; {}",
            self.name,
            self.detail.lock().unwrap_or_else(PoisonError::into_inner)
        );
        tracing::error!(actor = %self.name, "{why}");
        self.escalation.raise(why);
        false
    }

    pub fn health(&self) -> ActorHealth {
        let escalated = self.escalated.load(Relaxed);
        let detail = self.detail.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ActorHealth {
            actor: self.name.clone(),
            ready: self.ready.load(Relaxed) && !escalated,
            restarts: self.restarts.load(Relaxed),
            panics: self.panics.load(Relaxed),
            detail: if escalated { format!("restart loop; {detail}") } else { detail },
        }
    }

    pub(crate) fn panicked(&self, panic: &(dyn Any + Send)) {
        let what = panic_text(panic);
        self.panics.fetch_add(1, Relaxed);
        self.set_ready(false, format!("restarting after a panic: {what}"));
        tracing::error!(actor = %self.name, what, "panic in an actor; restarting it");
    }
}

pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|s| s.to_string())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without text".into())
}
