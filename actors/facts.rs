//! What the design assumes of actix 0.13, each assumption as a test: an upgrade that changes one is seen here.

use crate::api::Refusal;
use crate::guard::{Vitals, guarded};
use actix::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use understudy_domain::time::Timestamp;

#[derive(Default)]
struct Seen {
    restarts: AtomicUsize,
    ticks: AtomicUsize,
}

struct Probe {
    seen: Arc<Seen>,
    vitals: Arc<Vitals>,
    timer: bool,
}

#[derive(Message)]
#[rtype(result = "Result<u32, Refusal>")]
enum Do {
    Answer(u32),
    Stop,
    PanicGuarded,
}

#[derive(Message)]
#[rtype(result = "()")]
struct PanicRaw;

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
        self.vitals.restarted(Timestamp(0));
    }
}

impl Handler<Do> for Probe {
    type Result = Result<u32, Refusal>;
    fn handle(&mut self, m: Do, ctx: &mut Self::Context) -> Self::Result {
        let vitals = self.vitals.clone();
        guarded(self, ctx, &vitals, |_, ctx| match m {
            Do::Answer(n) => Ok(n),
            Do::Stop => {
                ctx.stop();
                Ok(0)
            }
            Do::PanicGuarded => panic!("planted"),
        })
    }
}

impl Handler<PanicRaw> for Probe {
    type Result = ();
    fn handle(&mut self, _: PanicRaw, _: &mut Self::Context) {
        panic!("planted, without a guard");
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
    let (seen, vitals) = (Arc::new(Seen::default()), Vitals::new("probe"));
    vitals.set_ready(true, "");
    let probe = Probe { seen: seen.clone(), vitals: vitals.clone(), timer: true };
    (Supervisor::start(move |_| probe), seen, vitals)
}

#[actix::test]
async fn a_stopped_actor_restarts_and_keeps_its_address() {
    let (addr, seen, _) = start();
    addr.send(Do::Stop).await.unwrap().unwrap();
    assert_eq!(addr.send(Do::Answer(7)).await.unwrap(), Ok(7));
    assert_eq!(seen.restarts.load(Relaxed), 1);
}

#[actix::test]
async fn a_guarded_panic_answers_the_caller_and_restarts_the_actor() {
    let (addr, seen, vitals) = start();
    assert!(matches!(addr.send(Do::PanicGuarded).await.unwrap(), Err(Refusal::Internal { .. })));
    assert_eq!(addr.send(Do::Answer(1)).await.unwrap(), Ok(1));
    assert_eq!((seen.restarts.load(Relaxed), vitals.health().panics, vitals.health().restarts), (1, 1, 1));
}

#[actix::test]
async fn a_panic_without_the_guard_ends_the_actor_for_good() {
    let (addr, seen, _) = start();
    assert_eq!(addr.send(PanicRaw).await, Err(MailboxError::Closed));
    assert!(addr.send(Do::Answer(1)).await.is_err());
    assert_eq!((seen.restarts.load(Relaxed), addr.connected()), (0, false));
}

#[actix::test]
async fn six_panics_in_a_minute_are_a_restart_loop_and_not_ready() {
    let (addr, _, vitals) = start();
    for _ in 0..6 {
        let _ = addr.send(Do::PanicGuarded).await;
        vitals.set_ready(true, "");
    }
    assert_eq!(addr.send(Do::Answer(1)).await.unwrap(), Ok(1));
    assert!(!vitals.health().ready);
    assert!(vitals.health().detail.contains("restart loop"));
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
        assert_eq!(send.await.unwrap(), Ok(n as u32));
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
    addr.send(Do::Answer(0)).await.unwrap().unwrap();
    tokio::time::advance(Duration::from_millis(1001)).await;
    while seen.ticks.load(Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    addr.send(Do::Stop).await.unwrap().unwrap();
    addr.send(Do::Answer(0)).await.unwrap().unwrap();
    let before = seen.ticks.load(Relaxed);
    for _ in 0..5 {
        tokio::time::advance(Duration::from_secs(2)).await;
        addr.send(Do::Answer(0)).await.unwrap().unwrap();
    }
    assert_eq!(seen.ticks.load(Relaxed), before, "`started` must re-arm what it needs");
}
