//! Open-loop load: requests are due at fixed times, one millisecond apart, whatever became of those before. Latency counts from the
//! time at which a request was due, so a server that stalls is charged for everything that waited meanwhile
//! (no coordinated omission). One thread; a request for which no connection is free waits in the client.

use super::histogram::Histogram;
use super::load::{Requests, exchange};
use actix_web::rt;
use rt::net::TcpStream;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Requests become due in steps of this length: the timer's resolution.
const STEP: Duration = Duration::from_millis(1);
/// No answer for so long ends a connection as failed.
const STUCK: Duration = Duration::from_secs(10);

/// What became of the requests.
#[derive(Clone)]
pub struct Outcome {
    pub due: u64,
    /// Answered with success; from when they were due.
    pub accepted: Histogram,
    /// Of those, within the deadline.
    pub good: u64,
    /// Answered with 503 or 429; from when they were sent.
    pub refused: Histogram,
    /// Answered with 504: let in, and not answered in time.
    pub late: u64,
    /// Any other answer, and broken connections.
    pub failed: u64,
    /// Never sent: no connection was free before the deadline.
    pub unsent: u64,
    pub wall: Duration,
}

impl Outcome {
    fn new() -> Self {
        Outcome {
            due: 0,
            accepted: Histogram::new(),
            good: 0,
            refused: Histogram::new(),
            late: 0,
            failed: 0,
            unsent: 0,
            wall: Duration::ZERO,
        }
    }

    pub fn add(&mut self, o: &Outcome) {
        self.due += o.due;
        self.accepted.merge(&o.accepted);
        self.good += o.good;
        self.refused.merge(&o.refused);
        self.late += o.late;
        self.failed += o.failed;
        self.unsent += o.unsent;
        self.wall += o.wall;
    }

    pub fn good_per_s(&self) -> f64 {
        self.good as f64 / self.wall.as_secs_f64().max(1e-9)
    }
}

/// A load on kept connections.
pub struct Load {
    pub to: SocketAddr,
    pub requests: Arc<dyn Requests>,
    pub connections: usize,
    pub deadline: Duration,
}

struct Shared {
    load: Load,
    due: RefCell<VecDeque<Instant>>,
    wake: Notify,
    over: Cell<bool>,
    number: Cell<u64>,
    outcome: RefCell<Outcome>,
}

impl Load {
    /// `rate` requests per second for `time`. `stop` is asked after every quarter of a second, with what became
    /// of the requests so far in that quarter, and may end the load early.
    pub fn run(self, rate: f64, time: Duration, stop: &mut dyn FnMut(&Outcome) -> bool) -> Outcome {
        rt::System::new().block_on(async move {
            let connections = self.connections;
            let shared = Rc::new(Shared {
                load: self,
                due: RefCell::default(),
                wake: Notify::new(),
                over: Cell::new(false),
                number: Cell::new(0),
                outcome: RefCell::new(Outcome::new()),
            });
            let tasks: Vec<_> = (0..connections).map(|_| rt::spawn(connection(shared.clone()))).collect();
            let total = schedule(&shared, rate, time, stop).await;
            shared.over.set(true);
            shared.wake.notify_waiters();
            for task in tasks {
                let _ = task.await;
            }
            let mut total = total;
            total.add(&shared.outcome.replace(Outcome::new()));
            total
        })
    }
}

const QUARTER: Duration = Duration::from_millis(250);

async fn schedule(shared: &Rc<Shared>, rate: f64, time: Duration, stop: &mut dyn FnMut(&Outcome) -> bool) -> Outcome {
    let begun = Instant::now();
    let mut ticks = rt::time::interval(STEP);
    let (mut made, mut total, mut quarter) = (0u64, Outcome::new(), begun);
    loop {
        ticks.tick().await;
        let now = Instant::now();
        let elapsed = (now - begun).min(time);
        let wanted = (elapsed.as_secs_f64() * rate) as u64;
        {
            let mut due = shared.due.borrow_mut();
            while made < wanted {
                made += 1;
                due.push_back(now);
                shared.wake.notify_one();
            }
        }
        let ended = elapsed >= time;
        if ended || now - quarter >= QUARTER {
            let mut part = shared.outcome.replace(Outcome::new());
            part.wall = now - quarter;
            quarter = now;
            let enough = stop(&part);
            total.add(&part);
            if ended || enough {
                total.due = made;
                return total;
            }
        }
    }
}

async fn connection(shared: Rc<Shared>) {
    let mut stream: Option<TcpStream> = None;
    let (mut out, mut inbox) = (Vec::with_capacity(8192), Vec::with_capacity(65536));
    loop {
        let next = shared.due.borrow_mut().pop_front();
        let Some(due) = next else {
            if shared.over.get() {
                return;
            }
            shared.wake.notified().await;
            continue;
        };
        if due.elapsed() > shared.load.deadline {
            shared.outcome.borrow_mut().unsent += 1;
            continue;
        }
        out.clear();
        shared.load.requests.write(shared.number.replace(shared.number.get() + 1), &mut out);
        let sent = Instant::now();
        let answer = rt::time::timeout(STUCK, ask(&mut stream, shared.load.to, &out, &mut inbox)).await;
        let ns = |since: Instant| u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut outcome = shared.outcome.borrow_mut();
        match answer {
            Ok(Ok(200..=299)) => {
                outcome.accepted.record(ns(due));
                outcome.good += u64::from(due.elapsed() <= shared.load.deadline);
            }
            Ok(Ok(429 | 503)) => outcome.refused.record(ns(sent)),
            Ok(Ok(504)) => outcome.late += 1,
            Ok(Ok(_)) => outcome.failed += 1,
            Ok(Err(_)) | Err(_) => {
                outcome.failed += 1;
                stream = None;
            }
        }
    }
}

async fn ask(stream: &mut Option<TcpStream>, to: SocketAddr, out: &[u8], inbox: &mut Vec<u8>) -> std::io::Result<u16> {
    let open = match stream {
        Some(open) => open,
        None => {
            let fresh = TcpStream::connect(to).await?;
            fresh.set_nodelay(true)?;
            stream.insert(fresh)
        }
    };
    exchange(open, out, inbox).await
}
