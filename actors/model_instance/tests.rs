//! A model that hangs until it is let go: callers, other callers, threads.

use super::*;
use crate::guard::Escalation;
use crate::supervise;
use std::sync::{Condvar, Mutex};
use understudy_domain::model::Manifest;
use understudy_domain::profile::ReferenceProfile;

/// Hangs on rows that begin with null, while the door is shut.
#[derive(Default)]
struct Hanging {
    open: Mutex<bool>,
    opened: Condvar,
}

impl ModelRuntime for Hanging {
    fn manifest(&self) -> &Manifest {
        unreachable!("an instance does not ask for it")
    }
    fn profile(&self) -> &ReferenceProfile {
        unreachable!("an instance does not ask for it")
    }
    fn predict(&self, rows: &[&[Value]]) -> Result<Vec<f64>, String> {
        if rows[0][0].is_null() {
            let open = self.open.lock().unwrap();
            drop(self.opened.wait_while(open, |open| !*open).unwrap());
        }
        Ok(vec![0.5; rows.len()])
    }
    fn bytes(&self) -> usize {
        0
    }
}

async fn ask(addr: &Addr<ModelInstance>, value: Value) -> Option<Result<f64, Refusal>> {
    let asked = addr.send(Predict { rows: vec![vec![value]] });
    let answer = tokio::time::timeout(Duration::from_millis(300), asked).await.ok()?;
    Some(answer.expect("the instance is there").map(|scored| scored.scores[0]))
}

#[actix::test]
async fn a_call_that_hangs_holds_up_nobody_and_its_thread_is_replaced() {
    let runtime = Arc::new(Hanging::default());
    let vitals = Vitals::new("model", Escalation::default());
    let run = ModelRun { threads: 1, hang: Duration::from_millis(50) };
    let addr = supervise::start(ModelInstance::new(vitals.clone(), runtime.clone(), run), vitals.clone());
    for _ in 0..crate::model_thread::MAX_ABANDONED {
        assert_eq!(ask(&addr, Value::Null).await, None, "no answer: the caller's deadline ends it");
        // The one thread is replaced within the limit; others are answered.
        let mut answer = None;
        while answer.is_none() {
            answer = ask(&addr, Value::Int(1)).await;
        }
        assert_eq!(answer, Some(Ok(0.5)));
        assert!(vitals.health().ready);
    }
    // Once more, and it is an incident: no more threads for it, refusals at once.
    assert_eq!(ask(&addr, Value::Null).await, None);
    let mut last = None;
    while !matches!(last, Some(Err(Refusal::Unavailable { code: "model_hangs", .. }))) {
        last = ask(&addr, Value::Int(1)).await;
    }
    *runtime.open.lock().unwrap() = true;
    runtime.opened.notify_all();
}

#[actix::test]
async fn a_panic_on_a_model_thread_is_that_callers_alone() {
    struct Panics;
    impl ModelRuntime for Panics {
        fn manifest(&self) -> &Manifest {
            unreachable!("an instance does not ask for it")
        }
        fn profile(&self) -> &ReferenceProfile {
            unreachable!("an instance does not ask for it")
        }
        fn predict(&self, rows: &[&[Value]]) -> Result<Vec<f64>, String> {
            assert!(!rows[0][0].is_null(), "planted");
            Ok(vec![0.25])
        }
        fn bytes(&self) -> usize {
            0
        }
    }
    let vitals = Vitals::new("model", Escalation::default());
    let run = ModelRun { threads: 2, hang: Duration::from_secs(60) };
    let addr = supervise::start(ModelInstance::new(vitals.clone(), Arc::new(Panics), run), vitals.clone());
    assert!(matches!(ask(&addr, Value::Null).await, Some(Err(Refusal::Internal { .. }))));
    assert_eq!(ask(&addr, Value::Int(1)).await, Some(Ok(0.25)));
}
