//! The forms that events come in: our own JSON, NDJSON, arrays, and CloudEvents
//! (binary, structured, batch).

use super::call::{Call, percent_decoded};
use super::error::Fault;
use super::json::{self as strict, Entities, Id, Object, Scalars};
use actix_web::http::header::HeaderMap;
use serde::Deserialize;
use understudy_domain::event::Event;
use understudy_domain::time::Timestamp;

/// What a body held. Of many, each stands for itself.
#[derive(Debug)]
pub enum Read {
    One(Event),
    Many(Vec<Result<Event, Fault>>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    id: Id,
    #[serde(rename = "type")]
    kind: String,
    time: Timestamp,
    #[serde(default)]
    entities: Entities,
    #[serde(default)]
    properties: Scalars,
}

/// What `data` of a CloudEvent holds.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Data {
    #[serde(default)]
    entities: Entities,
    #[serde(default)]
    properties: Scalars,
}

/// Attributes that we do not use (`source`, `subject`, extensions) are allowed, as the specification asks.
#[derive(Deserialize)]
struct Structured {
    specversion: String,
    id: Id,
    #[serde(rename = "type")]
    kind: String,
    time: Timestamp,
    #[serde(default)]
    data: Object<Data>,
}

pub fn own(text: &[u8]) -> Result<Event, Fault> {
    let Object(e): Object<Own> = serde_json::from_slice(text).map_err(|e| strict::fault(&e))?;
    Ok(Event { id: e.id.0, kind: e.kind, time: e.time, entities: e.entities.0, properties: e.properties.0 })
}

pub fn structured(text: &[u8]) -> Result<Event, Fault> {
    let Object(e): Object<Structured> = serde_json::from_slice(text).map_err(|e| strict::fault(&e))?;
    version(&e.specversion)?;
    Ok(event(e.id.0, e.kind, e.time, e.data.0))
}

fn event(id: String, kind: String, time: Timestamp, data: Data) -> Event {
    Event { id, kind, time, entities: data.entities.0, properties: data.properties.0 }
}

fn version(v: &str) -> Result<(), Fault> {
    match v {
        "1.0" => Ok(()),
        _ => Err(Fault::bad("invalid_cloudevent", format!("specversion `{v}`; expected 1.0"))),
    }
}

/// Our own form; a CloudEvent that came as plain JSON is recognised by its `specversion`.
fn either(text: &[u8]) -> Result<Event, Fault> {
    own(text).or_else(|fault| match structured(text) {
        Ok(event) => Ok(event),
        Err(other) if text.windows(13).any(|w| w == b"\"specversion\"") => Err(other),
        Err(_) => Err(fault),
    })
}

/// Attributes in `ce-` headers, `data` in the body.
pub fn binary(headers: &HeaderMap, body: &[u8]) -> Result<Event, Fault> {
    let attribute = |name: &str| -> Result<String, Fault> {
        let missing = || Fault::bad("invalid_cloudevent", format!("header `{name}` is missing or not text"));
        let value = headers.get(name).ok_or_else(missing)?;
        percent_decoded(value.as_bytes()).ok_or_else(missing)
    };
    version(&attribute("ce-specversion")?)?;
    let id = attribute("ce-id")?;
    strict::checked_id(&id).map_err(|e| Fault::bad("invalid_cloudevent", format!("ce-id: {e}")))?;
    let time = attribute("ce-time")?.parse().map_err(|e| Fault::bad("invalid_cloudevent", format!("ce-time: {e}")))?;
    let data = if body.trim_ascii().is_empty() { Data::default() } else { strict::parse(body)? };
    Ok(event(id, attribute("ce-type")?, time, data))
}

/// Nothing shorter is an event: it has an id, a type and a time.
const SHORTEST: usize = 48;
/// So many parts that are too short are answered one by one, each with its place. More is not a body of events, and
/// the answer would be a hundred times as long as what was asked.
const MOST_STUBS: usize = 500;

/// Refuses more parts than a request may have, before any of them is made anything of.
fn bounded<'a>(parts: impl Iterator<Item = &'a [u8]>, most: usize) -> Result<(), Fault> {
    let (mut n, mut stubs) = (0, 0);
    for part in parts {
        n += 1;
        stubs += usize::from(part.len() < SHORTEST);
    }
    if n > most {
        return Err(too_many(n, most));
    }
    if stubs > MOST_STUBS {
        let detail =
            format!("{stubs} of {n} parts are too short to be events; expected {{\"id\", \"type\", \"time\"}} in each");
        return Err(Fault::bad("malformed_json", detail));
    }
    Ok(())
}

pub fn too_many(n: usize, most: usize) -> Fault {
    Fault::too_large("too_many_events", format!("{n} events; at most {most} in one request"))
}

/// Lines of our own form, at most `most`. Blank lines count but are no events.
pub fn lines(body: &[u8], most: usize) -> Result<Vec<Result<Event, Fault>>, Fault> {
    let filled = || body.split(|b| *b == b'\n').enumerate().filter(|(_, l)| !l.trim_ascii().is_empty());
    bounded(filled().map(|(_, line)| line), most)?;
    Ok(filled().map(|(at, line)| either(line).map_err(|f| located(f, at + 1))).collect())
}

/// Errors of a line say "line 1" of their own text: name the line of the body instead.
fn located(fault: Fault, line: usize) -> Fault {
    let detail = match fault.detail.split_once(" at line 1 column ") {
        Some((what, column)) => format!("{what} at line {line} column {column}"),
        None => format!("{} at line {line}", fault.detail),
    };
    Fault { detail, ..fault }
}

fn array(body: &[u8], form: fn(&[u8]) -> Result<Event, Fault>, most: usize) -> Result<Read, Fault> {
    let place =
        |(i, text): (usize, &[u8])| form(text).map_err(|f| Fault { detail: format!("event {i}: {}", f.detail), ..f });
    let elements = strict::elements(body)?;
    bounded(elements.iter().copied(), most)?;
    Ok(Read::Many(elements.into_iter().enumerate().map(place).collect()))
}

pub fn read(call: &Call) -> Result<Read, Fault> {
    parse(&call.content_type(), call.http.headers(), &call.body, call.limits().max_events)
}

/// A body of at most `most` events.
pub fn parse(content_type: &str, headers: &HeaderMap, body: &[u8], most: usize) -> Result<Read, Fault> {
    let text = body.trim_ascii();
    match content_type {
        "application/cloudevents+json" => structured(text).map(Read::One),
        "application/cloudevents-batch+json" => array(text, structured, most),
        "application/x-ndjson" | "application/jsonl" => lines(body, most).map(Read::Many),
        _ if headers.contains_key("ce-id") || headers.contains_key("ce-specversion") => {
            binary(headers, body).map(Read::One)
        }
        _ if text.is_empty() => Err(Fault::bad("malformed_json", "the body is empty; expected an event")),
        _ if text.starts_with(b"[") => array(text, either, most),
        // Several lines of which the first is a whole document: NDJSON without saying so.
        _ if text.split(|b| *b == b'\n').next().is_some_and(|l| l.len() < text.len() && whole(l)) => {
            lines(body, most).map(Read::Many)
        }
        _ => either(text).map(Read::One),
    }
}

fn whole(line: &[u8]) -> bool {
    line.trim_ascii_start().starts_with(b"{") && serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::{HeaderName, HeaderValue};

    const ONE: &str = r#"{"id":"1","type":"flight.departed","time":"2013-01-01T05:15:00Z","entities":{"carrier":"UA","n":7},"properties":{"delay":2.5,"late":false,"x":null}}"#;
    const CE: &str = r#"{"specversion":"1.0","id":"1","source":"/nyc","type":"flight.departed","time":"2013-01-01T05:15:00Z","subject":"UA","myext":"y","datacontenttype":"application/json","data":{"entities":{"carrier":"UA","n":7},"properties":{"delay":2.5,"late":false,"x":null}}}"#;

    fn read(content_type: &str, body: &str) -> Result<Read, Fault> {
        parse(content_type, &HeaderMap::new(), body.as_bytes(), 1000)
    }

    #[test]
    fn every_form_gives_the_same_event() {
        let event = own(ONE.as_bytes()).unwrap();
        assert_eq!(event.entities["n"].as_deref(), Some("7"));
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("ce-specversion", "1.0"),
            ("ce-id", "%31"),
            ("ce-type", "flight.departed"),
            ("ce-time", "2013-01-01T05:15:00Z"),
            ("ce-source", "/nyc"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let data = br#"{"entities":{"carrier":"UA","n":7},"properties":{"delay":2.5,"late":false,"x":null}}"#;
        let pretty = ONE.replace(",\"", ",\n\"");
        let ones = [
            read("", ONE),
            read("application/json", &pretty),
            read("application/json", CE),
            read("application/cloudevents+json", CE),
            parse("application/json", &headers, data, 1),
        ];
        for one in ones {
            assert!(matches!(one.unwrap(), Read::One(e) if e == event));
        }
        let many = [
            read("application/x-ndjson", ONE),
            read("", &format!("{ONE}\n\n{ONE}\r\n")),
            read("application/json", &format!("[{ONE},{ONE}]")),
            read("application/cloudevents-batch+json", &format!("[{CE}]")),
        ];
        for many in many {
            let Read::Many(events) = many.unwrap() else { panic!("many") };
            assert!(!events.is_empty() && events.into_iter().all(|e| e.unwrap() == event));
        }
    }

    #[test]
    fn a_bad_line_is_located_and_spoils_nothing() {
        let body = format!("{ONE}\n{{\"id\":\"2\"}}\n\nnonsense\n{ONE}");
        let Read::Many(events) = read("", &body).unwrap() else { panic!("many") };
        assert_eq!(events.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, false, true]);
        let said = |i: usize| events[i].as_ref().unwrap_err().detail.clone();
        assert!(said(1).contains("missing field `type` at line 2 column 10"), "{}", said(1));
        assert!(said(2).contains("at line 4 column"), "{}", said(2));
        let Read::Many(events) = read("", &format!("[{ONE},{{}}]")).unwrap() else { panic!("many") };
        assert!(events[1].as_ref().unwrap_err().detail.starts_with("event 1: missing field `id`"));
    }

    #[test]
    fn what_a_request_may_not_hold_is_refused_before_it_is_read() {
        let many = vec![ONE; 1001].join("\n");
        let array = format!("[{}]", vec![ONE; 1001].join(","));
        for body in [&many, &array] {
            let refused = read("", body).unwrap_err();
            assert_eq!((refused.status.as_u16(), &*refused.code), (413, "too_many_events"));
        }
        for (content_type, stubs) in
            [("application/x-ndjson", "1\n".repeat(MOST_STUBS + 1)), ("", format!("[{}1]", "1,".repeat(MOST_STUBS)))]
        {
            let refused = read(content_type, &stubs).unwrap_err();
            assert!(refused.status == 400 && refused.detail.starts_with("501 of 501 parts"), "{}", refused.detail);
        }
        let Read::Many(few) = read("application/x-ndjson", &"1\n".repeat(MOST_STUBS)).unwrap() else { panic!("many") };
        assert!(few.len() == MOST_STUBS && few.iter().all(Result::is_err));
        let shortest = r#"{"id":"a","type":"t","time":"2020-01-01T00:00:00Z"}"#;
        assert!(own(shortest.as_bytes()).is_ok() && shortest.len() >= SHORTEST);
    }

    #[test]
    fn refused_events() {
        let long = ONE.replace("\"id\":\"1\"", &format!("\"id\":\"{}\"", "x".repeat(257)));
        let table = [
            ("", "", "empty"),
            ("", &long, "257 bytes"),
            ("", &ONE.replace("\"id\":\"1\"", "\"id\":1"), "expected a string"),
            ("", &ONE.replace("}}", "},\"extra\":1}"), "unknown field `extra`"),
            ("", &ONE.replace("2013-01-01T05:15:00Z", "2013-01-01"), "RFC 3339"),
            ("", &ONE.replace("\"n\":7", "\"carrier\":\"AA\""), "duplicate key `carrier`"),
            ("", &ONE.replace("2.5", "1e999"), "out of range"),
            ("", &ONE.replace("2.5", "{\"deep\":1}"), "expected a scalar"),
            ("application/cloudevents+json", &CE.replace("\"1.0\"", "\"0.3\""), "specversion `0.3`"),
            ("application/cloudevents+json", ONE, "specversion"),
            ("application/json", &CE.replace("\"time\"", "\"tim\""), "missing field `time`"),
            ("application/cloudevents-batch+json", CE, "`[`"),
        ];
        for (content_type, body, said) in table {
            let e = read(content_type, body).unwrap_err();
            assert!(e.status == 400 && e.detail.contains(said), "{body}: {}", e.detail);
        }
    }
}
