//! The guard around every handler, and what is known of each actor's health.
//!
//! actix restarts a supervised actor after `ctx.stop()`, never after a panic: a panic unwinds through the
//! arbiter and the mailbox is gone. So handlers run inside [`guarded`], which catches the unwind, counts
//! it and stops the context; the supervisor then calls `restarting`, which rebuilds the state.

use crate::api::{ActorHealth, Refusal};
use actix::{Actor, ActorContext, Context};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use understudy_domain::restart::{AfterFailure, RestartBudget};
use understudy_domain::time::Timestamp;

/// Health of one actor; shared with whoever reports it.
pub struct Vitals {
    name: String,
    panics: AtomicU64,
    restarts: AtomicU64,
    ready: AtomicBool,
    escalated: AtomicBool,
    budget: Mutex<RestartBudget>,
    detail: Mutex<String>,
}

impl Vitals {
    pub fn new(name: impl Into<String>) -> Arc<Self> {
        Arc::new(Vitals {
            name: name.into(),
            panics: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            ready: AtomicBool::new(false),
            escalated: AtomicBool::new(false),
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

    /// To be called from `Supervised::restarting`, with the wall clock: restart budgets protect
    /// people's time, not event time.
    pub fn restarted(&self, now: Timestamp) {
        self.restarts.fetch_add(1, Relaxed);
        let verdict = self.budget.lock().unwrap_or_else(PoisonError::into_inner).on_failure(now);
        if verdict == AfterFailure::Escalate {
            self.escalated.store(true, Relaxed);
            tracing::error!(actor = %self.name, "restart loop: the actor failed more often than its budget allows");
        }
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

    fn panicked(&self, what: &str) {
        self.panics.fetch_add(1, Relaxed);
        self.set_ready(false, format!("restarting after a panic: {what}"));
        tracing::error!(actor = %self.name, what, "panic in a handler; restarting the actor");
    }
}

/// Runs a handler body. A panic stops the context (so that the supervisor rebuilds the actor) and
/// becomes `Refusal::Internal` for the caller.
pub fn guarded<A, T>(
    actor: &mut A,
    ctx: &mut Context<A>,
    vitals: &Vitals,
    body: impl FnOnce(&mut A, &mut Context<A>) -> Result<T, Refusal>,
) -> Result<T, Refusal>
where
    A: Actor<Context = Context<A>>,
{
    match catch_unwind(AssertUnwindSafe(|| body(actor, ctx))) {
        Ok(result) => result,
        Err(panic) => {
            let what = panic_text(&*panic);
            vitals.panicked(&what);
            ctx.stop();
            Err(Refusal::Internal { detail: format!("{} failed and is being restarted", vitals.name()) })
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|s| s.to_string())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without text".into())
}
