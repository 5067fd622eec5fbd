use super::*;
use futures::poll_once;
use std::rc::Rc;
use understudy_domain::admission::Rung;

/// Polls of futures by hand.
mod futures {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    pub fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }
}

const LONG: Duration = Duration::from_secs(5);

fn gate(max_in_flight: u64) -> Rc<Gate> {
    let limits = AdmissionLimits { max_in_flight, max_wait: Duration::from_millis(100) };
    Gate::new(Admission::new(limits, [Arc::from("a"), Arc::from("b")]))
}

async fn enter(gate: &Rc<Gate>, class: Class) -> Result<Ticket, Refusal> {
    gate.enter(class, None, LONG).await
}

fn code(refused: Result<Ticket, Refusal>) -> (&'static str, u64) {
    match refused {
        Err(Refusal::Shed { code, retry_after_ms, .. }) => (code, retry_after_ms),
        Err(other) => panic!("{other:?}"),
        Ok(_) => ("admitted", 0),
    }
}

#[actix::test]
async fn places_are_given_back() {
    tokio::time::pause();
    let gate = gate(100);
    let tickets = [enter(&gate, Class::Serve).await.unwrap(), enter(&gate, Class::Ingest).await.unwrap()];
    assert_eq!(gate.admission().depth(), (2, 0));
    drop(tickets);
    assert_eq!(gate.admission().depth(), (0, 0));
    let serve = &gate.admission().loads()[0];
    assert_eq!((serve.admitted, serve.in_flight, serve.limit), (1, 0, 100));
}

#[actix::test]
async fn lower_classes_are_kept_out_first_and_wait_no_longer_than_they_may() {
    tokio::time::pause();
    let gate = gate(20);
    let mut held = Vec::new();
    for (class, share) in [(Class::Shadow, 5), (Class::Read, 10), (Class::Ingest, 16), (Class::Serve, 20)] {
        while held.len() < share {
            held.push(enter(&gate, class).await.unwrap());
        }
        // The next of this class waits, and time passes only because nothing else can happen.
        let before = tokio::time::Instant::now();
        assert_eq!(code(enter(&gate, class).await), ("overloaded", MIN_RETRY_MS));
        let waited = before.elapsed();
        assert!(waited >= Duration::from_millis(200) && waited < Duration::from_millis(205), "{waited:?}");
        assert_eq!(gate.admission().depth(), (share as u64, 0));
    }
}

#[actix::test]
async fn who_waits_enters_by_importance_and_who_has_gone_does_not() {
    tokio::time::pause();
    let gate = gate(16);
    let mut held: Vec<Ticket> = Vec::new();
    while held.len() < 16 {
        held.push(enter(&gate, Class::Serve).await.unwrap());
    }
    let order = Rc::new(std::cell::RefCell::new(Vec::new()));
    let mut tasks = Vec::new();
    for (name, class) in [("ingest", Class::Ingest), ("first", Class::Serve), ("second", Class::Serve)] {
        let (gate, order) = (gate.clone(), order.clone());
        tasks.push(actix::spawn(async move {
            let ticket = enter(&gate, class).await;
            order.borrow_mut().push((name, ticket.is_ok()));
        }));
    }
    let mut gone = Box::pin(gate.enter(Class::Serve, None, LONG));
    tokio::task::yield_now().await;
    assert!(poll_once(gone.as_mut()).is_pending());
    assert_eq!(gate.admission().depth(), (16, 4));
    drop(gone);
    assert_eq!(gate.admission().depth(), (16, 3), "a caller that has gone waits no more");
    held.truncate(10); // also ingest has room then: 80 % of 16
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(*order.borrow(), [("first", true), ("second", true), ("ingest", true)]);
    drop(held);
    assert_eq!(gate.admission().depth(), (0, 0), "no place is lost");
}

#[actix::test]
async fn what_cannot_be_in_time_is_refused_at_once() {
    tokio::time::pause();
    let gate = gate(100);
    // Two requests of 40 ms, ended in two windows: the second window's end publishes the estimate.
    for _ in 0..2 {
        let ticket = enter(&gate, Class::Serve).await.unwrap();
        tokio::time::advance(Duration::from_millis(120)).await;
        drop(ticket);
    }
    let soon = Duration::from_millis(50);
    let before = tokio::time::Instant::now();
    let first = gate.enter(Class::Serve, None, soon).await;
    assert!(first.is_ok(), "with nothing in work the estimate is put to the test");
    assert_eq!(code(gate.enter(Class::Serve, None, soon).await).0, "deadline_unreachable");
    assert!(gate.refuses(Class::Serve, soon).is_some() && gate.refuses(Class::Serve, LONG).is_none());
    assert_eq!(before.elapsed(), Duration::ZERO);
    assert_eq!(gate.admission().loads()[0].shed[1], ("deadline_unreachable", 2));
}

#[actix::test]
async fn memory_pressure_refuses_from_the_bottom() {
    tokio::time::pause();
    let gate = gate(100);
    for (rung, admitted) in Rung::ALL.into_iter().zip([4, 3, 2, 2, 0]) {
        gate.admission().set_rung(rung);
        let mut n = 0;
        for class in Class::ALL {
            match code(enter(&gate, class).await) {
                ("admitted", _) => n += 1,
                other => assert_eq!(other, ("memory_pressure", 5000)),
            }
        }
        assert_eq!(n, admitted, "{rung:?}");
    }
}

#[actix::test]
async fn one_model_leaves_room_for_others() {
    tokio::time::pause();
    let gate = gate(20);
    let (a, b) = (gate.model("a"), gate.model("b"));
    assert!(a.is_some() && gate.model("c").is_none());
    let mut held = Vec::new();
    for _ in 0..15 {
        held.push(gate.enter(Class::Serve, a, LONG).await.unwrap());
    }
    assert_eq!(code(gate.enter(Class::Serve, a, LONG).await).0, "model_overloaded");
    assert!(gate.enter(Class::Serve, b, LONG).await.is_ok());
    assert_eq!(gate.admission().model_loads()[0], (Arc::from("a"), 15, 15));
}

#[actix::test]
async fn a_long_pass_makes_the_rest_wait_for_the_next() {
    let gate = gate(1000);
    let first = enter(&gate, Class::Serve).await.unwrap();
    // The worker is busy for longer than one pass may be.
    let start = std::time::Instant::now();
    while start.elapsed() < Duration::from_millis(3) {
        std::hint::spin_loop();
    }
    let mut second = Box::pin(gate.enter(Class::Serve, None, LONG));
    assert!(poll_once(second.as_mut()).is_pending());
    assert_eq!(gate.admission().depth(), (1, 1));
    assert!(second.await.is_ok(), "the next pass lets it in");
    drop(first);
    assert_eq!(gate.admission().depth(), (0, 0));
}

#[actix::test]
async fn a_full_model_waits_for_its_own_and_holds_up_nobody() {
    tokio::time::pause();
    let admission = Admission::new(
        AdmissionLimits { max_in_flight: 16, max_wait: Duration::from_millis(100) },
        ["a", "b"].map(Arc::from),
    );
    let gate = Gate::new(admission);
    let (a, b) = (gate.model("a"), gate.model("b"));
    let mut held = Vec::new();
    for _ in 0..12 {
        held.push(gate.enter(Class::Serve, a, LONG).await.unwrap());
    }
    let mut next = Box::pin(gate.enter(Class::Serve, a, LONG));
    assert!(poll_once(next.as_mut()).is_pending(), "a limit learnt from latency is no reason to refuse at once");
    assert!(gate.enter(Class::Serve, b, LONG).await.is_ok(), "the other model goes before it");
    held.pop();
    assert!(next.await.is_ok());
}

#[actix::test]
async fn in_a_flood_refusals_are_at_once_and_nobody_waits_in_vain() {
    tokio::time::pause();
    let gate = gate(20);
    // The oldest request ends each millisecond; three come.
    let work: Rc<std::cell::RefCell<std::collections::VecDeque<Ticket>>> = Rc::default();
    let waits: Rc<std::cell::RefCell<Vec<(bool, Duration)>>> = Rc::default();
    for _ in 0..2000 {
        for _ in 0..3 {
            let (gate, work, waits) = (gate.clone(), work.clone(), waits.clone());
            actix::spawn(async move {
                let came = tokio::time::Instant::now();
                let ticket = enter(&gate, Class::Serve).await;
                waits.borrow_mut().push((ticket.is_ok(), came.elapsed()));
                work.borrow_mut().extend(ticket.ok());
            });
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        drop(work.borrow_mut().pop_front());
    }
    let waits = waits.borrow();
    let served = waits.iter().filter(|(served, _)| *served).count();
    let refused: Vec<Duration> = waits.iter().filter(|(served, _)| !served).map(|(_, waited)| *waited).collect();
    let in_vain = refused.iter().filter(|waited| **waited > Duration::from_millis(5)).count();
    assert!(served > 1800, "{served} served, {} refused, {in_vain} of them after a wait", refused.len());
    assert!(in_vain * 50 < refused.len(), "{served} served, {} refused, {in_vain} of them after a wait", refused.len());
}
