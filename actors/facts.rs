//! What the design assumes of actix 0.13, each assumption as a test: an upgrade that changes one is seen here.

use crate::guard::{Escalation, Vitals};
use crate::supervise;
use actix::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};

#[derive(Default)]
struct Seen {
    restarts: AtomicUsize,
    ticks: AtomicUsize,
}

struct Probe {
    seen: Arc<Seen>,
    timer: bool,
}

#[derive(Message)]
#[rtype(result = "u32")]
enum Do {
    Answer(u32),
    Stop,
    /// In the handler.
    Panic,
    /// In a future that the handler spawned, and in a timer: no caller waits for these.
    PanicLater,
    PanicInTimer,
}

/// Waits for `open`, then answers how many of its kind were let in before.
#[derive(Message)]
#[rtype(result = "usize")]
struct Interleave {
    open: Arc<Notify>,
    counter: Arc<AtomicUsize>,
}

impl Actor for Probe {
    type Context = Context<Self>;
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(2);
        if std::mem::take(&mut self.timer) {
            ctx.run_interval(Duration::from_secs(1), |probe, _| {
                probe.seen.ticks.fetch_add(1, Relaxed);
            });
        }
    }
}

impl Supervised for Probe {
    fn restarting(&mut self, _: &mut Self::Context) {
        self.seen.restarts.fetch_add(1, Relaxed);
    }
}

impl Handler<Do> for Probe {
    type Result = MessageResult<Do>;
    fn handle(&mut self, m: Do, ctx: &mut Self::Context) -> Self::Result {
        match m {
            Do::Answer(n) => return MessageResult(n),
            Do::Stop => ctx.stop(),
            Do::Panic => panic!("planted"),
            Do::PanicLater => {
                ctx.spawn(async {}.into_actor(self).map(|(), _, _| panic!("planted in a completion")));
            }
            Do::PanicInTimer => {
                ctx.run_later(Duration::from_millis(1), |_, _| panic!("planted in a timer"));
            }
        }
        MessageResult(0)
    }
}

impl Handler<Interleave> for Probe {
    type Result = ResponseFuture<usize>;
    fn handle(&mut self, m: Interleave, _: &mut Self::Context) -> Self::Result {
        Box::pin(async move {
            let before = m.counter.fetch_add(1, Relaxed);
            m.open.notified().await;
            before
        })
    }
}

fn start() -> (Addr<Probe>, Arc<Seen>, Arc<Vitals>) {
    let (seen, vitals) = (Arc::new(Seen::default()), Vitals::new("probe", Escalation::default()));
    vitals.set_ready(true, "");
    let probe = Probe { seen: seen.clone(), timer: true };
    (supervise::start(probe, vitals.clone()), seen, vitals)
}

#[actix::test]
async fn a_stopped_actor_restarts_and_keeps_its_address() {
    let (addr, seen, _) = start();
    addr.send(Do::Stop).await.unwrap();
    assert_eq!(addr.send(Do::Answer(7)).await, Ok(7));
    assert_eq!(seen.restarts.load(Relaxed), 1);
}

#[actix::test]
async fn a_panic_anywhere_restarts_the_actor_and_its_address_goes_on() {
    for (how, answer) in [
        (Do::Panic, Err(MailboxError::Closed)), // the caller of what failed is told
        (Do::PanicLater, Ok(0)),
        (Do::PanicInTimer, Ok(0)),
    ] {
        let (addr, seen, vitals) = start();
        let queued = (addr.send(how), addr.send(Do::Answer(1)));
        assert_eq!(queued.0.await, answer);
        assert_eq!(queued.1.await, Ok(1), "what waited in the mailbox is answered");
        while seen.restarts.load(Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(addr.send(Do::Answer(2)).await, Ok(2));
        assert_eq!((seen.restarts.load(Relaxed), vitals.health().panics, vitals.health().restarts), (1, 1, 1));
    }
}

#[actix::test]
async fn with_the_supervisor_of_actix_a_panic_ends_the_actor_for_good() {
    let seen = Arc::new(Seen::default());
    let probe = Probe { seen: seen.clone(), timer: false };
    let addr = Supervisor::start(move |_| probe);
    assert_eq!(addr.send(Do::Panic).await, Err(MailboxError::Closed));
    assert!(addr.send(Do::Answer(1)).await.is_err());
    assert_eq!((seen.restarts.load(Relaxed), addr.connected()), (0, false));
}

#[actix::test]
async fn six_panics_in_a_minute_are_a_restart_loop_and_the_actor_stays_down() {
    tokio::time::pause();
    let escalation = Escalation::default();
    let vitals = Vitals::new("probe", escalation.clone());
    vitals.set_ready(true, "");
    let addr = supervise::start(Probe { seen: Arc::default(), timer: false }, vitals.clone());
    for _ in 0..5 {
        let _ = addr.send(Do::Panic).await;
        assert_eq!(addr.send(Do::Answer(1)).await, Ok(1));
    }
    // A minute later the budget is whole again.
    tokio::time::advance(Duration::from_secs(61)).await;
    for _ in 0..5 {
        let _ = addr.send(Do::Panic).await;
        assert_eq!(addr.send(Do::Answer(1)).await, Ok(1));
    }
    let _ = addr.send(Do::Panic).await;
    assert!(addr.send(Do::Answer(1)).await.is_err());
    assert!(!vitals.health().ready);
    let why = escalation.raised().await;
    assert!(why.contains("restart loop: probe failed more than 5 times in 1m") && why.contains("planted"), "{why}");
}

#[actix::test]
async fn mailbox_capacity_is_no_bound() {
    let (addr, ..) = start();
    // Capacity is 2; neither send nor do_send refuses, so admission has to be ours.
    let sends: Vec<_> = (0..1000).map(|n| addr.send(Do::Answer(n))).collect();
    for n in 0..1000 {
        addr.do_send(Do::Answer(n));
    }
    for (n, send) in sends.into_iter().enumerate() {
        assert_eq!(send.await.unwrap(), n as u32);
    }
}

#[actix::test]
async fn messages_of_one_sender_arrive_in_order() {
    #[derive(Message)]
    #[rtype(result = "()")]
    struct Note(u32, Option<oneshot::Sender<Vec<u32>>>);
    struct Notes(Vec<u32>);
    impl Actor for Notes {
        type Context = Context<Self>;
    }
    impl Handler<Note> for Notes {
        type Result = ();
        fn handle(&mut self, m: Note, _: &mut Self::Context) {
            self.0.push(m.0);
            if let Some(done) = m.1 {
                let _ = done.send(std::mem::take(&mut self.0));
            }
        }
    }
    let addr = Notes(Vec::new()).start();
    let (done, noted) = oneshot::channel();
    (0..5000).for_each(|n| addr.do_send(Note(n, None)));
    addr.do_send(Note(5000, Some(done)));
    assert_eq!(noted.await.unwrap(), (0..=5000).collect::<Vec<_>>());
}

#[actix::test]
async fn async_handlers_interleave() {
    let (addr, ..) = start();
    let (open, counter) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let ask = || addr.send(Interleave { open: open.clone(), counter: counter.clone() });
    let (first, second) = (actix::spawn(ask()), actix::spawn(ask()));
    while counter.load(Relaxed) < 2 {
        tokio::task::yield_now().await;
    }
    // Both are past their first statement though neither has finished.
    open.notify_waiters();
    let mut answers = [first.await.unwrap().unwrap(), second.await.unwrap().unwrap()];
    answers.sort_unstable();
    assert_eq!(answers, [0, 1]);
}

#[actix::test]
async fn timers_do_not_survive_a_restart() {
    tokio::time::pause();
    let (addr, seen, _) = start();
    addr.send(Do::Answer(0)).await.unwrap();
    tokio::time::advance(Duration::from_millis(1001)).await;
    while seen.ticks.load(Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    addr.send(Do::Stop).await.unwrap();
    addr.send(Do::Answer(0)).await.unwrap();
    let before = seen.ticks.load(Relaxed);
    for _ in 0..5 {
        tokio::time::advance(Duration::from_secs(2)).await;
        addr.send(Do::Answer(0)).await.unwrap();
    }
    assert_eq!(seen.ticks.load(Relaxed), before, "`started` must re-arm what it needs");
}
