//! The faults, each a change of the recorded events.

use crate::tables::Recorded;
use std::collections::BTreeMap;
use understudy_domain::event::Event;
use understudy_domain::time::Span;
use understudy_domain::value::Value;

/// One way in which data go wrong.
pub struct Fault {
    pub name: &'static str,
    pub what: &'static str,
    change: Change,
}

enum Change {
    /// Of each event; true keeps it.
    Each(fn(&mut Recorded) -> bool),
    /// Each event comes a second time, changed like this.
    Twice(fn(&mut Recorded) -> bool),
    /// Values stay those of the first event of the type and entity.
    Frozen(&'static str, &'static str),
}

use Change::{Each, Frozen, Twice};

impl Fault {
    /// The stream with the fault in it.
    pub fn apply(&self, events: &[Recorded]) -> Vec<Recorded> {
        let mut first: BTreeMap<Option<String>, BTreeMap<String, Value>> = BTreeMap::new();
        let mut out = Vec::with_capacity(events.len());
        for original in events {
            let mut event = original.clone();
            match &self.change {
                Each(change) => {
                    if change(&mut event) {
                        out.push(event);
                    }
                }
                Twice(change) => {
                    let again = change(&mut event);
                    out.push(original.clone());
                    if again {
                        out.push(event);
                    }
                }
                Frozen(kind, entity) => {
                    if event.event.kind == *kind {
                        let key = event.event.entities.get(*entity).cloned().flatten();
                        event.event.properties =
                            first.entry(key).or_insert_with(|| event.event.properties.clone()).clone();
                    }
                    out.push(event);
                }
            }
        }
        out
    }
}

const DEPARTED: &str = "flight_departed";
const ARRIVED: &str = "flight_arrived";
const SCHEDULED: &str = "flight_scheduled";
const WEATHER: &str = "weather_observed";

fn entity<'a>(e: &'a Event, key: &str) -> &'a str {
    e.entities.get(key).and_then(Option::as_deref).unwrap_or_default()
}

/// Changes a number of events of one type; an integer stays one.
fn number(r: &mut Recorded, kind: &str, name: &str, change: impl Fn(f64) -> f64) {
    if r.event.kind == kind
        && let Some(v) = r.event.properties.get_mut(name)
        && let Some(x) = v.as_f64()
    {
        let changed = change(x);
        *v = if matches!(v, Value::Int(_)) { Value::Int(changed.round() as i64) } else { Value::Float(changed) };
    }
}

fn set(r: &mut Recorded, kind: &str, name: &str, value: Value) {
    if r.event.kind == kind {
        r.event.properties.insert(name.into(), value);
    }
}

/// A tenth of the events, picked by the digits of their ids.
fn tenth(e: &Event) -> u64 {
    e.id_hash() as u64 % 10
}

fn rename(r: &mut Recorded, key: &str, change: impl Fn(&str) -> Option<String>) {
    if let Some(Some(id)) = r.event.entities.get_mut(key) {
        match change(id) {
            Some(new) => *id = new,
            None => {
                r.event.entities.insert(key.into(), None);
            }
        }
    }
}

fn with(mut change: impl FnMut(&mut Recorded), r: &mut Recorded) -> bool {
    change(r);
    true
}

pub const FAULTS: &[Fault] = &[
    Fault {
        name: "unit_one_carrier",
        what: "one carrier sends departure delays in seconds",
        change: Each(|r| {
            with(
                |r| {
                    if entity(&r.event, "carrier") == "UA" {
                        number(r, DEPARTED, "dep_delay", |x| x * 60.0)
                    }
                },
                r,
            )
        }),
    },
    Fault {
        name: "unit_hours",
        what: "arrival delays come in hours",
        change: Each(|r| with(|r| number(r, ARRIVED, "arr_delay", |x| x / 60.0), r)),
    },
    Fault {
        name: "unit_kilometres",
        what: "distances come in kilometres",
        change: Each(|r| with(|r| number(r, SCHEDULED, "distance", |x| x * 1.609), r)),
    },
    Fault {
        name: "unit_one_station",
        what: "one airport sends degrees Celsius",
        change: Each(|r| {
            with(
                |r| {
                    if entity(&r.event, "origin") == "LGA" {
                        number(r, WEATHER, "temp", |x| (x - 32.0) / 1.8)
                    }
                },
                r,
            )
        }),
    },
    Fault {
        name: "unit_pascal",
        what: "pressure comes in pascal",
        change: Each(|r| with(|r| number(r, WEATHER, "pressure", |x| x * 100.0), r)),
    },
    Fault {
        name: "null_burst",
        what: "a third of the departure delays are null",
        change: Each(|r| {
            with(
                |r| {
                    if tenth(&r.event) < 3 {
                        set(r, DEPARTED, "dep_delay", Value::Null)
                    }
                },
                r,
            )
        }),
    },
    Fault {
        name: "null_field",
        what: "temperature is null everywhere",
        change: Each(|r| with(|r| set(r, WEATHER, "temp", Value::Null), r)),
    },
    Fault {
        name: "missing_tail",
        what: "tail numbers are missing",
        change: Each(|r| with(|r| rename(r, "tail", |_| None), r)),
    },
    Fault { name: "stalled_feed", what: "the weather feed stops", change: Each(|r| r.event.kind != WEATHER) },
    Fault {
        name: "stalled_carrier",
        what: "one carrier's departures and arrivals stop",
        change: Each(|r| {
            !(entity(&r.event, "carrier") == "DL" && [DEPARTED, ARRIVED].contains(&r.event.kind.as_str()))
        }),
    },
    Fault {
        name: "lost_half",
        what: "half of JFK's departures are lost",
        change: Each(|r| !(r.event.kind == DEPARTED && entity(&r.event, "origin") == "JFK" && tenth(&r.event) < 5)),
    },
    Fault {
        name: "delayed_feed",
        what: "departures are learnt six hours late",
        change: Each(|r| {
            with(
                |r| {
                    if r.event.kind == DEPARTED {
                        r.at = r.at + Span::hours(6)
                    }
                },
                r,
            )
        }),
    },
    Fault {
        name: "frozen_sensor",
        what: "each airport's weather repeats its first reading",
        change: Frozen(WEATHER, "origin"),
    },
    Fault {
        name: "constant_feature",
        what: "every distance is 1000",
        change: Each(|r| with(|r| number(r, SCHEDULED, "distance", |_| 1000.0), r)),
    },
    Fault {
        name: "swapped_fields",
        what: "temperature and wind speed are exchanged",
        change: Each(|r| {
            with(
                |r| {
                    if r.event.kind == WEATHER {
                        let p = &mut r.event.properties;
                        let (t, w) = (p.remove("temp").unwrap_or_default(), p.remove("wind_speed").unwrap_or_default());
                        p.insert("temp".into(), w);
                        p.insert("wind_speed".into(), t);
                    }
                },
                r,
            )
        }),
    },
    Fault {
        name: "zone_ahead",
        what: "weather times are five hours ahead",
        change: Each(|r| {
            with(
                |r| {
                    if r.event.kind == WEATHER {
                        r.event.time = r.event.time + Span::hours(5)
                    }
                },
                r,
            )
        }),
    },
    Fault {
        name: "zone_behind",
        what: "departure times are four hours behind",
        change: Each(|r| {
            with(
                |r| {
                    if r.event.kind == DEPARTED {
                        r.event.time = r.event.time - Span::hours(4)
                    }
                },
                r,
            )
        }),
    },
    Fault {
        name: "clock_skew",
        what: "the clock of the arrivals is 45 minutes fast",
        change: Each(|r| {
            with(
                |r| {
                    if r.event.kind == ARRIVED {
                        r.event.time = r.event.time + Span::seconds(2700)
                    }
                },
                r,
            )
        }),
    },
    Fault {
        name: "hour_of_twelve",
        what: "the scheduled hour is of a twelve-hour clock",
        change: Each(|r| with(|r| number(r, SCHEDULED, "sched_hour", |x| x % 12.0), r)),
    },
    Fault {
        name: "weekday_from_one",
        what: "weekdays are counted from one",
        change: Each(|r| with(|r| number(r, SCHEDULED, "sched_dow", |x| x + 1.0), r)),
    },
    Fault {
        name: "category_renamed",
        what: "one carrier has another code",
        change: Each(|r| with(|r| rename(r, "carrier", |c| Some(if c == "UA" { "UAL" } else { c }.to_string())), r)),
    },
    Fault {
        name: "category_case",
        what: "airports come in lower case",
        change: Each(|r| with(|r| rename(r, "origin", |o| Some(o.to_lowercase())), r)),
    },
    Fault {
        name: "truncated_ids",
        what: "tail numbers lose their last two characters",
        change: Each(|r| with(|r| rename(r, "tail", |t| Some(t[..t.len().saturating_sub(2).max(1)].to_string())), r)),
    },
    Fault { name: "duplicates", what: "every departure is sent twice", change: Twice(|r| r.event.kind == DEPARTED) },
    Fault {
        name: "duplicates_new_ids",
        what: "every departure is sent twice, with another id",
        change: Twice(|r| {
            r.event.id.push('b');
            r.event.kind == DEPARTED
        }),
    },
    Fault {
        name: "sentinel",
        what: "a tenth of the arrival delays are -999",
        change: Each(|r| {
            with(
                |r| {
                    if tenth(&r.event) == 0 {
                        number(r, ARRIVED, "arr_delay", |_| -999.0)
                    }
                },
                r,
            )
        }),
    },
    Fault {
        name: "sign_flip",
        what: "departure delays have the wrong sign",
        change: Each(|r| with(|r| number(r, DEPARTED, "dep_delay", |x| -x), r)),
    },
    Fault {
        name: "rounded",
        what: "departure delays are rounded to quarters of an hour",
        change: Each(|r| with(|r| number(r, DEPARTED, "dep_delay", |x| (x / 15.0).round() * 15.0), r)),
    },
    Fault {
        name: "capped",
        what: "arrival delays are cut at 15 minutes",
        change: Each(|r| with(|r| number(r, ARRIVED, "arr_delay", |x| x.min(15.0)), r)),
    },
    Fault {
        name: "text_numbers",
        what: "departure delays are text",
        change: Each(|r| {
            with(
                |r| {
                    if r.event.kind == DEPARTED
                        && let Some(v) = r.event.properties.get("dep_delay").cloned()
                    {
                        r.event.properties.insert("dep_delay".into(), Value::text(&v.to_string()));
                    }
                },
                r,
            )
        }),
    },
    Fault {
        name: "field_renamed",
        what: "`dep_delay` is called `departure_delay`",
        change: Each(|r| {
            with(
                |r| {
                    if r.event.kind == DEPARTED
                        && let Some(v) = r.event.properties.remove("dep_delay")
                    {
                        r.event.properties.insert("departure_delay".into(), v);
                    }
                },
                r,
            )
        }),
    },
];
