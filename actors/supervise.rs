//! The supervisor of every actor: a panic anywhere in it (handler, timer, completion, start) becomes a restart.
//!
//! actix's own supervisor restarts after `ctx.stop()` and never after a panic: the unwind ends the task and
//! the mailbox with it. This one polls the actor's context inside `catch_unwind`, so no handler needs a guard:
//! the caller of the message that failed gets a closed reply (`internal`), later messages wait in the mailbox,
//! futures and timers of the old life are dropped, and `restarting` rebuilds the state. More restarts than the
//! budget allows escalate: the actor stays down and the system ends.

use crate::guard::Vitals;
use actix::dev::{ContextFut, channel};
use actix::prelude::*;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};

/// Mailbox capacity that wakes senders early; no bound (see `facts.rs`), admission is the cell's.
const MAILBOX: usize = 1024;

struct Watched<A: Actor<Context = Context<A>> + Supervised> {
    actor: ContextFut<A, Context<A>>,
    vitals: Arc<Vitals>,
}

/// Starts the actor on the current thread.
pub fn start<A>(actor: A, vitals: Arc<Vitals>) -> Addr<A>
where
    A: Actor<Context = Context<A>> + Supervised,
{
    let ctx = Context::new();
    let addr = ctx.address();
    actix::spawn(Watched { actor: ctx.into_future(actor), vitals });
    addr
}

/// Starts the actor on the arbiter's thread.
pub fn start_on<A>(arbiter: &ArbiterHandle, actor: A, vitals: Arc<Vitals>) -> Addr<A>
where
    A: Actor<Context = Context<A>> + Supervised + Send,
{
    let (tx, rx) = channel::channel(MAILBOX);
    arbiter.spawn_fn(move || {
        actix::spawn(Watched { actor: Context::with_receiver(rx).into_future(actor), vitals });
    });
    Addr::new(tx)
}

impl<A: Actor<Context = Context<A>> + Supervised> Future for Watched<A> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut this.actor).poll(cx))) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(())) => {}
                Err(panic) => this.vitals.panicked(&*panic),
            }
            loop {
                if !this.vitals.may_restart() {
                    return Poll::Ready(());
                }
                match catch_unwind(AssertUnwindSafe(|| this.actor.restart())) {
                    Ok(true) => break,
                    Ok(false) => return Poll::Ready(()), // nobody has its address
                    Err(panic) => this.vitals.panicked(&*panic),
                }
            }
        }
    }
}
