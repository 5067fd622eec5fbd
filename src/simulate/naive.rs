//! The features of the simulated project by their definition: a walk over all events, no state, no shared code
//! with the engine. Windows are (t - w, t] in event time; folds go in order of (time, seq).

use understudy_domain::event::LoggedEvent;
use understudy_domain::time::{HOUR, Timestamp};
use understudy_domain::value::Value;

/// The entity features of a request, in the order of the model's inputs (without the context field).
pub fn vector(log: &[LoggedEvent], user: Option<&str>, shop: Option<&str>, t: Timestamp) -> Vec<Value> {
    let of_user = Orders::of(log, "user", user, t);
    let of_shop = Orders::of(log, "shop", shop, t);
    let known = |id: Option<&str>, v: Value| if id.is_some() { v } else { Value::Null };
    let kinds = |orders: &[&Order<'_>]| {
        let mut kinds: Vec<&str> = orders.iter().filter_map(|o| o.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds.len() as i64
    };
    let amounts = |hours| of_shop.within(hours).iter().filter_map(|o| o.amount).collect::<Vec<f64>>();
    vec![
        known(user, Value::Int(of_user.within(1).len() as i64)),
        known(user, Value::Float(of_user.within(24).iter().filter_map(|o| o.amount).sum())),
        known(user, Value::Int(kinds(&of_user.within(24)))),
        of_user.within(2).iter().filter_map(|o| o.kind).next_back().map_or(Value::Null, Value::text),
        known(shop, Value::Int(amounts(2).iter().filter(|a| **a > 50.0).count() as i64)),
        match amounts(2) {
            a if a.is_empty() => Value::Null,
            a => Value::Float(a.iter().sum::<f64>() / a.len() as f64),
        },
        amounts(24).into_iter().reduce(f64::max).map_or(Value::Null, Value::Float),
    ]
}

struct Order<'a> {
    time: Timestamp,
    seq: u64,
    amount: Option<f64>,
    kind: Option<&'a str>,
}

struct Orders<'a> {
    t: Timestamp,
    all: Vec<Order<'a>>,
}

impl<'a> Orders<'a> {
    fn of(log: &'a [LoggedEvent], key: &str, id: Option<&str>, t: Timestamp) -> Self {
        let mut all: Vec<Order<'a>> = log
            .iter()
            .filter(|e| !e.late && e.event.kind == "order" && id.is_some())
            .filter(|e| e.event.entities.get(key).and_then(Option::as_deref) == id)
            .map(|e| Order {
                time: e.event.time,
                seq: e.seq,
                amount: e.event.properties.get("amount").and_then(Value::as_f64),
                kind: e.event.properties.get("kind").and_then(Value::as_str),
            })
            .collect();
        all.sort_by_key(|o| (o.time, o.seq));
        Orders { t, all }
    }

    fn within(&self, hours: i64) -> Vec<&Order<'a>> {
        self.all.iter().filter(|o| o.time.0 > self.t.0 - hours * HOUR && o.time <= self.t).collect()
    }
}
