//! A model that hangs until it is let go: callers, other callers, threads.

use super::*;
use crate::api::ModelFault;
use crate::counters::Counters;
use crate::guard::Escalation;
use crate::model_host::{Blame, ModelRun};
use crate::ports::ModelRuntime;
use crate::supervise;
use std::sync::{Condvar, Mutex};
use std::time::Duration;
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

fn start(runtime: Arc<dyn ModelRuntime>, run: ModelRun) -> (Addr<ModelInstance>, Arc<Counters>) {
    let counters = Arc::<Counters>::default();
    let blame = Blame { model: "m".into(), version: "v1".into(), counters: counters.clone() };
    let vitals = Vitals::new("model", Escalation::default());
    let host = Arc::new(ModelHost::new(blame, runtime, run));
    (supervise::start(ModelInstance::new(vitals.clone(), host), vitals), counters)
}

fn faults(counters: &Counters) -> Vec<(String, u64)> {
    counters.model_faults.read().into_iter().map(|(labels, n)| (labels[2].clone(), n)).collect()
}

/// For so long one waits for an answer that may never come.
async fn ask(addr: &Addr<ModelInstance>, value: Value) -> Option<Result<f64, Refusal>> {
    tokio::time::timeout(Duration::from_millis(300), answer(addr, value)).await.ok()
}

async fn answer(addr: &Addr<ModelInstance>, value: Value) -> Result<f64, Refusal> {
    predict(addr, vec![vec![value]]).await.map(|scored| scored.scores[0])
}

#[actix::test]
async fn a_call_that_hangs_holds_up_nobody_and_its_thread_is_replaced() {
    let runtime = Arc::new(Hanging::default());
    // By default: it does not say that its time is bounded.
    let run = ModelRun { hang: Duration::from_millis(50), ..ModelRun::default() };
    let (addr, counters) = start(runtime.clone(), run);
    for n in 1..=crate::model_thread::MAX_ABANDONED as u64 {
        assert_eq!(ask(&addr, Value::Null).await, None, "no answer: the caller's deadline ends it");
        // The one thread is replaced within the limit; others are answered.
        let mut answer = None;
        while answer.is_none() {
            answer = ask(&addr, Value::Int(1)).await;
        }
        assert_eq!(answer, Some(Ok(0.5)));
        assert_eq!(faults(&counters), [("hang".to_owned(), n)]);
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
    let (addr, counters) = start(Arc::new(Panics), ModelRun { threads: 2, ..ModelRun::default() });
    assert!(matches!(answer(&addr, Value::Null).await, Err(Refusal::Model { fault: ModelFault::Panic, .. })));
    assert_eq!(answer(&addr, Value::Int(1)).await, Ok(0.25));
    assert_eq!(faults(&counters), [("panic".to_owned(), 1)]);
}

/// Answers what its first feature says; batches are noted, and wait at the door.
#[derive(Default)]
struct Echo {
    door: Hanging,
    batches: Mutex<Vec<usize>>,
    bounded: bool,
}

impl ModelRuntime for Echo {
    fn manifest(&self) -> &Manifest {
        unreachable!("an instance does not ask for it")
    }
    fn profile(&self) -> &ReferenceProfile {
        unreachable!("an instance does not ask for it")
    }
    fn predict(&self, rows: &[&[Value]]) -> Result<Vec<f64>, String> {
        self.batches.lock().unwrap().push(rows.len());
        let _ = self.door.predict(&rows[..1])?;
        let score = |row: &&[Value]| match row[0] {
            Value::Float(f) => f,
            _ => 0.5,
        };
        let few = rows.len() - usize::from(rows.iter().any(|r| r[0] == Value::Bool(true)));
        Ok(rows[..few].iter().map(score).collect())
    }
    fn bytes(&self) -> usize {
        0
    }
    fn bounded(&self) -> bool {
        self.bounded
    }
}

#[actix::test]
async fn what_waits_is_one_batch_what_nobody_waits_for_is_left_out() {
    let runtime = Arc::new(Echo::default());
    let (addr, counters) = start(runtime.clone(), ModelRun { threads: 1, ..ModelRun::default() });
    // The thread is busy with one call, which is not kept waiting for company.
    let busy = actix::spawn({
        let addr = addr.clone();
        async move { predict(&addr, vec![vec![Value::Null]]).await }
    });
    while runtime.batches.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    // Ten more wait; three of them are given up before their turn.
    let ask = |f: f64| {
        let addr = addr.clone();
        actix::spawn(async move { predict(&addr, vec![vec![Value::Float(f)]]).await.map(|s| s.scores[0]) })
    };
    let mut waiting: Vec<_> = (0..10).map(|i| ask(f64::from(i) / 10.0)).collect();
    for _ in 0..100 {
        tokio::task::yield_now().await; // all are in the queue: one thread runs them and the instance
    }
    for gone in waiting.drain(..3) {
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
    }
    *runtime.door.open.lock().unwrap() = true;
    runtime.door.opened.notify_all();
    assert!(busy.await.unwrap().is_ok());
    for (i, answer) in waiting.into_iter().enumerate() {
        assert_eq!(answer.await.unwrap(), Ok((i + 3) as f64 / 10.0), "each gets its own score");
    }
    assert_eq!(*runtime.batches.lock().unwrap(), [1, 7]);
    assert_eq!(faults(&counters), []);
}

#[actix::test]
async fn a_score_that_is_none_is_never_passed_on_and_is_its_callers_alone() {
    for run in [ModelRun::default(), ModelRun { threads: 1, ..ModelRun::default() }] {
        let runtime = Arc::new(Echo { bounded: true, ..Echo::default() });
        *runtime.door.open.lock().unwrap() = true;
        let (addr, counters) = start(runtime, run);
        let table = [
            (Value::Float(f64::NAN), ModelFault::NotFinite),
            (Value::Float(f64::INFINITY), ModelFault::NotFinite),
            (Value::Float(1.5), ModelFault::Shape),
            (Value::Bool(true), ModelFault::Shape),
        ];
        let all = table.iter().map(|(value, _)| value.clone()).chain([Value::Float(0.25)]);
        // All at once, so that on a thread they are one batch.
        let asked: Vec<_> = all
            .map(|v| {
                actix::spawn({
                    let addr = addr.clone();
                    async move { predict(&addr, vec![vec![v]]).await.map(|s| s.scores[0]) }
                })
            })
            .collect();
        let mut answers = Vec::new();
        for one in asked {
            answers.push(one.await.unwrap());
        }
        for ((value, fault), answer) in table.iter().zip(&answers) {
            let refused = answer.as_ref().unwrap_err();
            assert!(matches!(refused, Refusal::Model { fault: f, .. } if f == fault), "{value:?}: {refused:?}");
            assert_eq!(crate::cell::refusal_code(refused), "model_contract");
        }
        assert_eq!(answers[4], Ok(0.25));
        assert_eq!(faults(&counters), [("not_finite".to_owned(), 2), ("shape".to_owned(), 2)]);
    }
}

#[actix::test]
async fn a_model_that_becomes_slow_leaves_the_worker() {
    struct Slow;
    impl ModelRuntime for Slow {
        fn manifest(&self) -> &Manifest {
            unreachable!("an instance does not ask for it")
        }
        fn profile(&self) -> &ReferenceProfile {
            unreachable!("an instance does not ask for it")
        }
        fn predict(&self, rows: &[&[Value]]) -> Result<Vec<f64>, String> {
            let begun = std::time::Instant::now();
            while begun.elapsed() < Duration::from_micros(50) {
                std::hint::spin_loop();
            }
            Ok(vec![0.5; rows.len()])
        }
        fn bytes(&self) -> usize {
            0
        }
        fn bounded(&self) -> bool {
            true
        }
    }
    let place = |run| {
        let blame = Blame { model: "m".into(), version: "v1".into(), counters: Arc::default() };
        let host = ModelHost::new(blame, Arc::new(Slow), run);
        let calls =
            (0..20).take_while(|_| matches!(host.predict(vec![vec![]]), Ok(crate::model_host::Scoring::Done(_))));
        (calls.count(), host.on_threads())
    };
    let slow = ModelRun { slow: Duration::from_micros(20), ..ModelRun::default() };
    assert_eq!(place(slow), (8, true));
    assert_eq!(place(slow.inline()), (20, false), "a simulation has one thread");
}
