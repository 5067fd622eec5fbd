//! Faults planted in the recording while models are mended by themselves: who is blamed, and whether it was learnt.

use crate::cli::client::Client;
use crate::cli::error::{CliError, Result};
use crate::cli::source::{Line, Lines};
use crate::faults::{FAULTS, Fault};
use crate::tables::{Recorded, open_recording};
use serde_json::{Value, json};
use std::path::Path;
use understudy_domain::time::{Span, Timestamp};

/// How long a planted fault lasts.
const LASTS: Span = Span::days(7);
/// After its end, incidents that began in it may still be open, and evaluations look back this far.
const AFTER: Span = Span::days(14);

/// A fault of the catalogue, from an instant on.
#[derive(Clone)]
pub struct Planted {
    fault: &'static Fault,
    from: Timestamp,
}

impl Planted {
    /// `NAME@2013-08-05` or with a time.
    pub fn parse(text: &str) -> Result<Planted> {
        let wrong = |e: String| {
            CliError::usage(format!("--fault {text}: {e}"))
                .hint("NAME@2013-08-05; `understudy faults list` has the names")
        };
        let (name, from) = text.split_once('@').ok_or_else(|| wrong("a date is missing".into()))?;
        let fault =
            FAULTS.iter().find(|f| f.name == name).ok_or_else(|| wrong(format!("no fault is named `{name}`")))?;
        let from = if from.contains('T') { from.to_owned() } else { format!("{from}T00:00:00Z") };
        Ok(Planted { fault, from: from.parse().map_err(wrong)? })
    }

    fn until(&self) -> Timestamp {
        self.from + LASTS
    }
}

/// The project's recording with the faults in it, in order of arrival. The week of a fault is held in memory.
pub fn recording(project: &Path, planted: &[Planted]) -> Result<Lines> {
    if !project.join("recording.toml").is_file() {
        return Err(CliError::usage("--fault needs a project with a recording.toml"));
    }
    let mut planted = planted.to_vec();
    planted.sort_by_key(|p| p.from);
    if let Some(pair) = planted.windows(2).find(|p| p[1].from < p[0].until()) {
        return Err(CliError::usage(format!(
            "`{}` begins before `{}` has ended",
            pair[1].fault.name, pair[0].fault.name
        )));
    }
    let stream = Stream {
        events: Box::new(open_recording(project)?.map(|r| r.map_err(Into::into))),
        planted: planted.into(),
        week: Vec::new(),
        ready: Vec::new().into_iter(),
    };
    Ok(Box::new(stream.map(|r| {
        let r = r?;
        let json = serde_json::to_string(&r.event).expect("an event of scalars always serialises");
        Ok(Line { at: r.at, json })
    })))
}

struct Stream {
    events: Box<dyn Iterator<Item = Result<Recorded>>>,
    planted: std::collections::VecDeque<Planted>,
    /// Of the fault that is on.
    week: Vec<Recorded>,
    ready: std::vec::IntoIter<Recorded>,
}

impl Stream {
    /// The week of the fault that is on, changed.
    fn change(&mut self) {
        if let Some(over) = self.planted.pop_front() {
            let mut changed = over.fault.apply(&std::mem::take(&mut self.week));
            changed.sort_by_key(|r| r.at); // stable: what came together stays in order
            self.ready = changed.into_iter();
        }
    }
}

impl Iterator for Stream {
    type Item = Result<Recorded>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(r) = self.ready.next() {
                return Some(Ok(r));
            }
            let Some(next) = self.events.next() else {
                if self.week.is_empty() {
                    return None;
                }
                self.change();
                continue;
            };
            let next = match next {
                Ok(next) => next,
                Err(e) => return Some(Err(e)),
            };
            match self.planted.front() {
                Some(p) if next.at >= p.until() => {
                    self.change();
                    let mut ready: Vec<Recorded> = std::mem::take(&mut self.ready).collect();
                    ready.push(next);
                    self.ready = ready.into_iter();
                }
                Some(p) if next.at >= p.from => self.week.push(next),
                _ => return Some(Ok(next)),
            }
        }
    }
}

/// For each fault: the incidents of feeds that it brought, the loops' evaluations that asked for a job and were held by
/// an incident, and the jobs that ran meanwhile.
pub fn report(client: &Client, planted: &[Planted], loops: &[Value]) -> Result<Vec<Value>> {
    let feeds = client.get("/v1/feeds")?;
    let time = |v: &Value| v.as_str().and_then(|t| t.parse::<Timestamp>().ok());
    let of_period = |v: &Value, from: Timestamp, until: Timestamp| time(v).is_some_and(|t| t >= from && t < until);
    let items = |v: &Value, key: &str| v[key].as_array().cloned().unwrap_or_default();
    planted
        .iter()
        .map(|p| {
            let (from, until) = (p.from, p.until());
            let incidents: Vec<Value> = items(&feeds, "incidents")
                .into_iter()
                .filter(|i| of_period(&i["since"], from - Span::days(1), until))
                .map(|i| json!({"feed": i["feed"], "column": i["column"], "since": i["since"], "opened": i["opened"], "until": i["until"], "reason": i["reason"]}))
                .collect();
            let (mut held, mut jobs) = (0, Vec::new());
            // A calendar asks nobody.
            for l in loops.iter().filter(|l| l["settings"]["trigger"] == "score") {
                for e in items(l, "evaluations").iter().filter(|e| of_period(&e["at"], from, until + AFTER)) {
                    let no = |g: &Value| g["name"] == "incident" && g["holds"] == false;
                    held += u64::from(e["guards"].as_array().is_some_and(|g| g.iter().any(no)));
                }
                let of_loop = l["model"].clone();
                jobs.extend(items(l, "jobs").into_iter().filter(|j| of_period(&j["until"], from, until + AFTER)).map(
                    |j| json!({"model": of_loop, "id": j["id"], "until": j["until"], "state": j["state"]}),
                ));
            }
            Ok(json!({"fault": p.fault.name, "what": p.fault.what, "from": from, "until": until, "incidents": incidents,
                "evaluations_held": held, "jobs": jobs}))
        })
        .collect()
}

/// The same in lines of 80 columns at most, but for reasons.
pub fn print(report: &[Value]) -> String {
    let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
    let day = |v: &Value| text(v).chars().take(10).collect::<String>();
    let mut out = String::new();
    for r in report {
        out += &format!(
            "planted {} {} .. {}: {}\n",
            text(&r["fault"]),
            day(&r["from"]),
            day(&r["until"]),
            text(&r["what"])
        );
        for i in r["incidents"].as_array().into_iter().flatten() {
            out += &format!("  {} feed {}: {}\n", day(&i["opened"]), text(&i["feed"]), text(&i["reason"]));
        }
        let jobs = r["jobs"].as_array().map_or(0, Vec::len);
        out += &format!(
            "  {} evaluations held by incidents of the data, {jobs} jobs in the week and the two after it\n",
            r["evaluations_held"]
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_domain::event::Event;

    #[test]
    fn a_fault_is_in_its_week_and_nowhere_else() {
        let start: Timestamp = "2013-08-01T00:00:00Z".parse().unwrap();
        let event = |day: i64, kind: &str| {
            let at = start + Span::days(day);
            let (entities, properties) = (Default::default(), Default::default());
            Recorded {
                at,
                event: Event { id: format!("{kind}{day}"), kind: kind.into(), time: at, entities, properties },
            }
        };
        let all: Vec<Recorded> =
            (0..30).flat_map(|d| [event(d, "weather_observed"), event(d, "flight_scheduled")]).collect();
        let planted = ["stalled_feed@2013-08-05", "stalled_feed@2013-08-20T00:00:00Z"];
        let planted: Vec<Planted> = planted.iter().map(|p| Planted::parse(p).unwrap()).collect();
        let events = Box::new(all.clone().into_iter().map(Ok));
        let stream = Stream { events, planted: planted.into(), week: Vec::new(), ready: Vec::new().into_iter() };
        let got: Vec<Recorded> = stream.map(Result::unwrap).collect();
        let lost = |d: i64| (4..11).contains(&d) || (19..26).contains(&d);
        let expected: Vec<&Recorded> = all
            .iter()
            .filter(|r| r.event.kind != "weather_observed" || !lost((r.at - start).0 / Span::days(1).0))
            .collect();
        assert_eq!(
            got.iter().map(|r| &r.event.id).collect::<Vec<_>>(),
            expected.iter().map(|r| &r.event.id).collect::<Vec<_>>()
        );
        for wrong in ["stalled_feed", "none@2013-08-05", "stalled_feed@August"] {
            assert!(Planted::parse(wrong).is_err(), "{wrong}");
        }
    }
}
