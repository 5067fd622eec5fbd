//! Fault points: named places in the actors where a simulation or a test plants a panic or a hang.
//!
//! Compiled in always and inert until armed: then and only then is more done than one relaxed load of a
//! static. A simulation arms its own thread ([`plan`]); a process is armed by the operator's environment
//! ([`arm_process`]), which is how the real program is tested.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Every fault point. A name that is used and not listed here does not compile.
pub const POINTS: &[&str] = &[
    "event_logger.started",
    "event_logger.ingest",
    "event_logger.numbered",
    "event_logger.sent",
    "event_logger.commit_held",
    "event_logger.known",
    "feature_shard.started",
    "feature_shard.fold",
    "feature_shard.folding",
    "feature_shard.load",
    "feature_shard.snapshot",
    "feature_shard.saved",
    "prediction_logger.started",
    "prediction_logger.log",
    "prediction_logger.joined",
    "prediction_logger.write",
    "prediction_logger.outcomes",
    "prediction_logger.posted",
    "prediction_logger.flush",
    "prediction_logger.save",
    "monitor.served",
    "monitor.refused",
    "monitor.outcome",
    "monitor.expired",
    "monitor.report",
    "model_pool.started",
    "model_pool.join",
    "model_pool.acquire",
    "model_pool.loaded",
    "model_pool.activate",
    "model_pool.publish",
    "model_pool.route",
    "rollout.started",
    "rollout.facts",
    "rollout.tick",
    "rollout.journalled",
    "rollout.command",
    "model_pool.alias",
    "model_pool.evict",
    "router.started",
    "router.route",
    "router.load",
    "router.hosted",
    "router.apply",
    "model_instance.predict",
    "model_thread.predict",
    "trainer.enqueue",
    "trainer.train",
    "trainer.finished",
];

/// Places in `POINTS`, found when the macro is compiled.
pub const fn index(name: &str) -> usize {
    let mut i = 0;
    while i < POINTS.len() {
        if same(POINTS[i].as_bytes(), name.as_bytes()) {
            return i;
        }
        i += 1;
    }
    panic!("this fault point is not in fault::POINTS")
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// A place where a planted fault may happen: `fault_point!("feature_shard.fold")`.
#[macro_export]
macro_rules! fault_point {
    ($name:literal) => {
        if $crate::fault::armed() {
            const POINT: usize = $crate::fault::index($name);
            $crate::fault::reach(POINT);
        }
    };
}

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A panic, without the hook's message: it was planned.
    Panic,
    /// The thread stands still for so long.
    Hang(Duration),
}

/// One planted fault: at the `skip + 1`th visit and at `times - 1` more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    pub point: usize,
    pub action: Action,
    pub skip: u64,
    pub times: u64,
}

/// What is planted on this thread, and how often each point was visited.
#[derive(Clone, Debug)]
pub struct Plan {
    pub orders: Vec<Order>,
    /// Visits by point.
    pub visits: Vec<u64>,
    /// Planted faults that happened, by point.
    pub fired: Vec<u64>,
}

impl Default for Plan {
    fn default() -> Self {
        Plan { orders: Vec::new(), visits: vec![0; POINTS.len()], fired: vec![0; POINTS.len()] }
    }
}

impl Plan {
    fn visit(&mut self, point: usize) -> Option<Action> {
        self.visits[point] += 1;
        let order = self.orders.iter_mut().find(|o| o.point == point && o.times > 0)?;
        if order.skip > 0 {
            order.skip -= 1;
            return None;
        }
        order.times -= 1;
        self.fired[point] += 1;
        Some(order.action)
    }
}

/// Plans in force anywhere in the process.
static ARMED: AtomicUsize = AtomicUsize::new(0);
static PROCESS: Mutex<Option<Plan>> = Mutex::new(None);

thread_local! {
    static PLAN: RefCell<Option<Plan>> = const { RefCell::new(None) };
}

#[inline(always)]
pub fn armed() -> bool {
    ARMED.load(Relaxed) != 0
}

/// Only called while a plan is in force.
#[cold]
pub fn reach(point: usize) {
    let here = PLAN.with_borrow_mut(|plan| plan.as_mut().map(|p| p.visit(point)));
    let action = here.unwrap_or_else(|| {
        PROCESS.lock().unwrap_or_else(PoisonError::into_inner).as_mut().and_then(|plan| plan.visit(point))
    });
    match action {
        None => {}
        Some(Action::Panic) => std::panic::resume_unwind(Box::new(format!("planted at {}", POINTS[point]))),
        Some(Action::Hang(time)) => std::thread::sleep(time), // the planted fault itself
    }
}

/// A plan on this thread until it is dropped.
pub struct Armed(());

/// Arms this thread; one plan at a time.
pub fn plan(orders: Vec<Order>) -> Armed {
    PLAN.set(Some(Plan { orders, ..Plan::default() }));
    ARMED.fetch_add(1, Relaxed);
    Armed(())
}

impl Armed {
    /// Replaces what is planted; the counts go on.
    pub fn plant(&self, orders: Vec<Order>) {
        PLAN.with_borrow_mut(|plan| plan.get_or_insert_default().orders = orders);
    }

    /// Visits and faults so far.
    pub fn seen(&self) -> Plan {
        PLAN.with_borrow(|plan| plan.clone().unwrap_or_default())
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        PLAN.set(None);
        ARMED.fetch_sub(1, Relaxed);
    }
}

/// Arms the whole process by a text such as `event_logger.ingest:panic:6` or
/// `model_instance.predict:hang_ms=60000:1`: point, action, and how often (1 if not said).
pub fn arm_process(text: &str) -> Result<(), String> {
    let order = parse(text)?;
    *PROCESS.lock().unwrap_or_else(PoisonError::into_inner) = Some(Plan { orders: vec![order], ..Plan::default() });
    ARMED.fetch_add(1, Relaxed);
    Ok(())
}

fn parse(text: &str) -> Result<Order, String> {
    let wrong =
        |what: String| format!("fault `{text}`: {what}; expected POINT:panic[:TIMES] or POINT:hang_ms=N[:TIMES]");
    let mut parts = text.split(':');
    let name = parts.next().unwrap_or_default();
    let point =
        POINTS.iter().position(|p| *p == name).ok_or_else(|| wrong(format!("no fault point is named `{name}`")))?;
    let action = match parts.next() {
        Some("panic") => Action::Panic,
        Some(hang) => {
            let ms = hang.strip_prefix("hang_ms=").and_then(|n| n.parse().ok());
            Action::Hang(Duration::from_millis(ms.ok_or_else(|| wrong(format!("no action is named `{hang}`")))?))
        }
        None => return Err(wrong("no action".into())),
    };
    let times = match parts.next() {
        None => 1,
        Some(n) => n.parse().map_err(|_| wrong(format!("`{n}` is no count")))?,
    };
    if parts.next().is_some() {
        return Err(wrong("too many parts".into()));
    }
    Ok(Order { point, action, skip: 0, times })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn visit() -> bool {
        catch_unwind(AssertUnwindSafe(|| fault_point!("monitor.report"))).is_err()
    }

    #[test]
    fn a_planted_panic_happens_at_its_visit_and_on_its_thread_only() {
        assert!(!visit(), "inert");
        let order = Order { point: index("monitor.report"), action: Action::Panic, skip: 2, times: 2 };
        let armed = plan(vec![order]);
        assert_eq!((0..6).map(|_| visit()).collect::<Vec<_>>(), [false, false, true, true, false, false]);
        assert!(!std::thread::spawn(visit).join().unwrap(), "another thread has no plan");
        let seen = armed.seen();
        assert_eq!((seen.visits[order.point], seen.fired[order.point]), (6, 2));
        drop(armed);
        assert!(!visit());
    }

    #[test]
    fn texts() {
        let order = |times, action| Order { point: index("router.route"), action, skip: 0, times };
        for (text, want) in [
            ("router.route:panic", order(1, Action::Panic)),
            ("router.route:panic:7", order(7, Action::Panic)),
            ("router.route:hang_ms=250:2", order(2, Action::Hang(Duration::from_millis(250)))),
        ] {
            assert_eq!(parse(text), Ok(want), "{text}");
        }
        for wrong in
            ["", "router", "router.route", "router.route:stop", "router.route:panic:x", "router.route:panic:1:2"]
        {
            assert!(parse(wrong).unwrap_err().contains("expected POINT"), "{wrong}");
        }
    }
}
