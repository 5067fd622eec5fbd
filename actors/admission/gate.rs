//! The gate of one worker thread.
//!
//! A worker runs everything ready in one pass over its tasks. If a pass gets long, what came last waits long,
//! and so does every refusal. So a pass may start only [`PASS_BUDGET`] of new work; the rest waits in a queue of
//! ours, in order of importance and arrival. How long one more would wait is what the first in the queue has
//! waited already: measured, not estimated, so a machine that is busy with something else is no reason to refuse
//! (queueing delay as the signal, as in CoDel, RFC 8289, and Breakwater, OSDI 2020). That tells late, by one wait:
//! while a queue stands, its length over the rate at which it drains (Little's law) tells at once. A request whose wait would
//! be too long for its deadline, or longer than the settings allow, is refused at once.

use super::{Admission, Shed, micros};
use crate::api::Refusal;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use understudy_domain::admission::{Class, Rung};

/// New work that one pass over the worker's tasks may start. Bounds how long a refusal can take.
const PASS_BUDGET: Duration = Duration::from_millis(2);
/// Passes are watched at least this far apart while they are short: watching costs a task switch.
const WATCH_EVERY: Duration = Duration::from_millis(1);
/// When nothing can be let in because other workers hold everything, look again after this.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// Started in any pass, however long a request seems to take: most of a pass may be other people's time.
const LEAST: usize = 8;
/// The rate at which a queue drains is that of the last one to two spans of this length.
const DRAIN_SPAN: Duration = Duration::from_millis(20);
/// Weight of one pass in the mean time of a request.
const COST_WEIGHT: f64 = 0.1;

type Release = Result<Ticket, Shed>;

struct Waiting {
    model: Option<usize>,
    since: Instant,
    /// Latest time at which starting still makes sense.
    until: Instant,
    /// Its model has all that one model may have: others go before it.
    held: bool,
    go: oneshot::Sender<Release>,
}

/// How fast the queue drained, since it was last empty.
#[derive(Clone, Copy)]
struct Drain {
    since: Instant,
    released: u32,
    /// The span before: start and releases.
    before: Option<(Instant, u32)>,
}

impl Drain {
    fn add(self, now: Instant, released: u32) -> Drain {
        if now - self.since >= DRAIN_SPAN {
            return Drain { since: now, released, before: Some((self.since, self.released)) };
        }
        Drain { released: self.released + released, ..self }
    }

    /// How long `waiting` requests take; `None` while too little was seen.
    fn wait(self, now: Instant, waiting: usize) -> Option<Duration> {
        let (since, released) = self.before.map_or((self.since, self.released), |(s, n)| (s, n + self.released));
        let watched = now - since;
        let known = watched >= DRAIN_SPAN && released > 0;
        known.then(|| watched.mul_f64(waiting as f64 / f64::from(released)))
    }
}

/// One per worker; not `Send`.
pub struct Gate {
    admission: Arc<Admission>,
    /// Start of the pass that is being watched.
    pass: Cell<Option<Instant>>,
    /// Requests that this pass has started.
    started: Cell<u32>,
    watch_from: Cell<Instant>,
    /// Worker time of one request while the worker is busy, in microseconds.
    cost_us: Cell<f64>,
    drain: Cell<Option<Drain>>,
    queues: RefCell<[VecDeque<Waiting>; Class::ALL.len()]>,
    wake: Notify,
}

/// A request in work; its drop gives the place back.
pub struct Ticket {
    gate: Rc<Gate>,
    class: Class,
    model: Option<usize>,
    since: Instant,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let now = Instant::now();
        self.gate.admission.give_back(self.class, self.model, now - self.since, now);
        if self.gate.admission.waiting.load(Relaxed) > 0 {
            self.gate.wake.notify_one();
        }
    }
}

impl Gate {
    /// Must be made on the worker's thread; its pacer runs there for as long as the gate exists.
    pub fn new(admission: Arc<Admission>) -> Rc<Gate> {
        let gate = Rc::new(Gate {
            admission,
            pass: Cell::new(None),
            started: Cell::new(0),
            watch_from: Cell::new(Instant::now()),
            cost_us: Cell::new(0.0),
            drain: Cell::new(None),
            queues: RefCell::default(),
            wake: Notify::new(),
        });
        actix::spawn(pace(gate.clone()));
        gate
    }

    pub fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// The place of a model in the counts; `None` for a name that no model has.
    pub fn model(&self, name: &str) -> Option<usize> {
        self.admission.models.iter().position(|(n, _)| **n == *name)
    }

    /// Whether any request may have to be refused: somebody waits, or memory is short. Costs two loads.
    pub fn is_pressed(&self) -> bool {
        self.admission.waiting.load(Relaxed) > 0 || self.admission.rung() != Rung::Normal
    }

    /// Whether a request would be refused now; costs some loads. For before its body is read.
    pub fn refuses(&self, class: Class, left: Duration) -> Option<Refusal> {
        self.why_not(class, left).map(|why| self.refusal(class, why))
    }

    fn why_not(&self, class: Class, left: Duration) -> Option<Shed> {
        let admission = &*self.admission;
        let rung = admission.rung();
        if rung != Rung::Normal && rung.refuses(class) {
            return Some(Shed::Memory);
        }
        let wait = self.wait(class);
        if wait > admission.max_wait() {
            return Some(Shed::Overloaded);
        }
        // With nothing of its class in work, one is let in: an old estimate could never be proved wrong else.
        let lane = &admission.lanes[class as usize];
        let expected = wait + Duration::from_micros(lane.expected_us.load(Relaxed));
        (expected > left && lane.in_flight.load(Relaxed) > 0).then_some(Shed::Deadline)
    }

    /// How long one more request of this class would wait: as long as the first of those before it has, or as it
    /// takes to let all of them in.
    fn wait(&self, class: Class) -> Duration {
        if self.admission.waiting.load(Relaxed) == 0 {
            return Duration::ZERO;
        }
        let queues = self.queues.borrow();
        let mut before = queues[..=class as usize].iter().flatten().filter(|w| !w.held).map(|w| w.since);
        let Some(mut first) = before.next() else { return Duration::ZERO };
        let mut waiting = 1;
        for since in before {
            waiting += 1;
            first = first.min(since);
        }
        let now = Instant::now();
        let drained = self.drain.get().and_then(|drain| drain.wait(now, waiting));
        (now - first).max(drained.unwrap_or(Duration::ZERO))
    }

    fn refusal(&self, class: Class, why: Shed) -> Refusal {
        self.admission.refusal(class, why, self.wait(class))
    }

    /// Lets a request in, at once or when its turn comes, or refuses it. `left` is what its deadline leaves.
    pub async fn enter(self: &Rc<Self>, class: Class, model: Option<usize>, left: Duration) -> Result<Ticket, Refusal> {
        if let Some(why) = self.why_not(class, left) {
            return Err(self.refusal(class, why));
        }
        let now = Instant::now();
        if !self.pass_is_full(now) && self.queues.borrow()[..=class as usize].iter().all(VecDeque::is_empty) {
            // A limit learnt from latency is often too small for a moment: a few answers later there is room.
            if self.admission.take(class, model).is_ok() {
                self.started.set(self.started.get() + 1);
                return Ok(self.ticket(class, model, now));
            }
        }
        // Whoever is in may wait twice as long: refusing those who have waited already costs most and serves nobody.
        self.queue(class, model, now, now + left.min(2 * self.admission.max_wait())).await
    }

    /// Watches a pass now and then, and all of them while they are long.
    fn pass_is_full(&self, now: Instant) -> bool {
        match self.pass.get() {
            Some(start) => now - start >= PASS_BUDGET,
            None => {
                if now >= self.watch_from.get() {
                    self.pass.set(Some(now));
                    self.started.set(0);
                    self.wake.notify_one();
                }
                false
            }
        }
    }

    async fn queue(
        self: &Rc<Self>,
        class: Class,
        model: Option<usize>,
        since: Instant,
        until: Instant,
    ) -> Result<Ticket, Refusal> {
        /// Counts out whoever stops waiting, also a caller that has gone.
        struct Counted<'a>(&'a Admission);
        impl Drop for Counted<'_> {
            fn drop(&mut self) {
                self.0.waiting.fetch_sub(1, Relaxed);
            }
        }
        let (go, released) = oneshot::channel();
        self.queues.borrow_mut()[class as usize].push_back(Waiting { model, since, until, held: false, go });
        self.admission.waiting.fetch_add(1, Relaxed);
        let counted = Counted(&self.admission);
        self.wake.notify_one();
        let released = released.await;
        drop(counted);
        match released {
            Ok(Ok(ticket)) => Ok(ticket),
            Ok(Err(why)) => Err(self.refusal(class, why)),
            Err(_) => Err(self.refusal(class, Shed::Overloaded)),
        }
    }

    fn ticket(self: &Rc<Self>, class: Class, model: Option<usize>, since: Instant) -> Ticket {
        Ticket { gate: self.clone(), class, model, since }
    }

    /// Ends a watched pass: learns what a request costs.
    fn end_pass(&self, now: Instant) {
        let Some(start) = self.pass.take() else { return };
        let (length, started) = (now - start, self.started.replace(0));
        if started > 0 {
            let cost = micros(length) as f64 / f64::from(started);
            let old = self.cost_us.get();
            self.cost_us.set(if old == 0.0 { cost } else { old + COST_WEIGHT * (cost - old) });
        }
        self.watch_from.set(if length * 2 >= PASS_BUDGET { now } else { now + WATCH_EVERY });
    }

    /// Lets in what one pass may start, the most important first; how many. Drops who waited too long.
    fn release(self: &Rc<Self>, now: Instant) -> usize {
        let may_start = ((micros(PASS_BUDGET) as f64 / self.cost_us.get().max(1.0)) as usize).max(LEAST);
        let mut released = 0;
        let mut queues = self.queues.borrow_mut();
        for class in Class::ALL {
            let queue = &mut queues[class as usize];
            let mut at = 0;
            while released < may_start
                && let Some(next) = queue.get_mut(at)
            {
                if next.go.is_closed() || next.until <= now {
                    let why = if next.held { Shed::Model } else { Shed::Overloaded };
                    let _ = queue.remove(at).expect("just seen").go.send(Err(why));
                    continue;
                }
                match self.admission.take(class, next.model) {
                    Err(Shed::Model) => {
                        next.held = true;
                        at += 1;
                        continue;
                    }
                    Err(_) => break,
                    Ok(()) => {}
                }
                let Waiting { model, go, .. } = queue.remove(at).expect("just seen");
                // Sent as it is: if nobody receives it, its drop gives the place back.
                if go.send(Ok(self.ticket(class, model, now))).is_ok() {
                    released += 1;
                }
            }
            queue.retain(|w| !w.go.is_closed());
            // Deadlines differ, so any place in the queue can run out.
            while let Some(late) = queue.iter().position(|w| w.until <= now) {
                let late = queue.remove(late).expect("just found");
                let _ = late.go.send(Err(if late.held { Shed::Model } else { Shed::Overloaded }));
            }
        }
        if released > 0 {
            let drain = self.drain.get().unwrap_or(Drain { since: now, released: 0, before: None });
            self.drain.set(Some(drain.add(now, released as u32)));
            self.pass.set(Some(now));
            self.started.set(released as u32);
        }
        released
    }

    fn has_waiting(&self) -> bool {
        self.queues.borrow().iter().any(|q| !q.is_empty())
    }
}

/// Runs behind all that is ready when it is woken: that is the end of a pass.
async fn pace(gate: Rc<Gate>) {
    loop {
        gate.wake.notified().await;
        loop {
            tokio::task::yield_now().await;
            let now = Instant::now();
            gate.end_pass(now);
            if !gate.has_waiting() {
                gate.drain.set(None);
                break;
            }
            if gate.release(now) == 0 && gate.has_waiting() {
                tokio::time::sleep(LOOK_AGAIN).await; // places are with other workers, whose answers wake nobody here
            }
        }
    }
}
