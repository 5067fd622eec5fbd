//! Records of every sort, the same for the same arguments: for damage campaigns and tests.

use understudy_domain::event::{Event, LoggedEvent};
use understudy_domain::features::EntityState;
use understudy_domain::prediction::*;
use understudy_domain::time::Timestamp;
use understudy_domain::value::Value;

/// Text that does not compress, the same for the same arguments.
fn noise(seed: u64, len: usize) -> String {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        char::from(33 + (x >> 32) as u8 % 90)
    };
    (0..len).map(|_| next()).collect()
}

/// An event with a text of `size` bytes.
pub fn event(seq: u64, size: usize) -> LoggedEvent {
    let event = Event {
        id: format!("e{seq}"),
        kind: "flight.departed".into(),
        time: Timestamp(1_365_000_000_000_000 + seq as i64),
        entities: [("carrier".into(), Some("UA".into())), ("origin".into(), None)].into(),
        properties: [("note".into(), Value::text(&noise(seq, size))), ("delay".into(), Value::Float(4.5))].into(),
    };
    LoggedEvent { seq, ingested: Timestamp(7), late: seq.is_multiple_of(2), event }
}

/// A prediction with an id of this time and entropy.
pub fn prediction(millis: u64, entropy: u64, model: &str) -> PredictionRecord {
    let time = Timestamp(millis as i64 * 1000);
    PredictionRecord {
        id: PredictionId::new(time, entropy as u128),
        model: model.into(),
        version: "3".into(),
        feature_set: "fs".into(),
        epoch: 4,
        placement: Placement::default(),
        request_id: Some(format!("r{entropy}")),
        time,
        entities: [("carrier".into(), Some("UA".into()))].into(),
        context: [("hour".into(), Value::Int(12))].into(),
        vector: vec![Value::Float(0.25), Value::Null, Value::Bool(true), Value::text("JFK")],
        ages: vec![Some(60), None],
        score: 0.75,
        label: "late".into(),
        confidence: 0.75,
        verdict: Verdict::Flagged,
        findings: vec![Finding {
            rule: "schema.range".into(),
            feature: Some("delay".into()),
            value: Value::Int(-1),
            expected: "between 0 and 200".into(),
            policy: Policy::Default,
        }],
        timing: Timing { total_us: 9, ..Timing::default() },
    }
}

pub fn outcome(i: u64) -> OutcomeRecord {
    let target = match i % 2 {
        0 => OutcomeTarget::PredictionId(PredictionId(i as u128)),
        _ => OutcomeTarget::RequestId(format!("r{i}")),
    };
    OutcomeRecord {
        model: "m".into(),
        target,
        label: [Some(true), Some(false), None][i as usize % 3],
        time: Timestamp(i as i64),
        revision: 1,
    }
}

/// A state that remembers `n` sequence numbers that do not compress.
pub fn state(n: u64) -> EntityState {
    let recent: Vec<u64> = (0..n).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
    let json = serde_json::json!({"entity": 1, "series": [], "seen": {"floor": 7, "recent": recent}});
    serde_json::from_value(json).expect("a state")
}
