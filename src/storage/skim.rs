//! What the duplicate index needs of a block of events, read without making the events: the bytes of a record are
//! walked over, not taken in. The layout is that of `codec` (fixed-width little-endian integers).

use super::codec::{self, CodecError};
use understudy_domain::event::{LoggedEvent, Trace};
use understudy_domain::fixed_hash;
use understudy_domain::time::Timestamp;

/// The traces of a framed block.
pub fn block(key: &[u8], frame: &[u8]) -> Result<Vec<Trace>, CodecError> {
    let body = codec::unframe::<LoggedEvent>(key, frame)?;
    let mut at = Cursor(&body);
    let traces = at.block();
    match traces {
        Some(traces) if at.0.is_empty() => Ok(traces),
        _ => Err(CodecError::Corrupt("an event of another shape".into())),
    }
}

/// What is left of a body.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, n: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(usize::try_from(n).ok()?)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.array::<1>()? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let n = self.u64()?;
        self.take(n)
    }

    fn block(&mut self) -> Option<Vec<Trace>> {
        let n = self.u64()?;
        // The count alone reserves nothing: it is checked by what follows.
        let mut traces = Vec::new();
        for _ in 0..n {
            traces.push(self.trace()?);
        }
        Some(traces)
    }

    fn trace(&mut self) -> Option<Trace> {
        let seq = self.u64()?;
        let ingested = Timestamp(i64::from_le_bytes(self.array()?));
        self.flag()?;
        let id = fixed_hash::of_parts([self.text()?]);
        let content = self.0;
        self.content()?;
        let fingerprint = fixed_hash::of_bytes(&content[..content.len() - self.0.len()]);
        Some(Trace { seq, ingested, id, fingerprint })
    }

    /// Kind, time, entities, properties: as `Event::content` writes them.
    fn content(&mut self) -> Option<()> {
        self.text()?;
        self.u64()?;
        for _ in 0..self.u64()? {
            self.text()?;
            if self.flag()? {
                self.text()?;
            }
        }
        for _ in 0..self.u64()? {
            self.text()?;
            match u32::from_le_bytes(self.array()?) {
                0 => {}
                1 => drop(self.flag()?),
                2 | 3 => drop(self.u64()?),
                4 => drop(self.text()?),
                _ => return None,
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use understudy_domain::event::Event;
    use understudy_domain::value::Value;

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            (-1e300..1e300).prop_map(Value::Float),
            ".{0,40}".prop_map(|t| Value::text(&t)),
        ]
    }

    fn event() -> impl Strategy<Value = LoggedEvent> {
        let ids = prop::collection::btree_map(".{0,8}", prop::option::of(".{0,12}"), 0..4);
        let properties = prop::collection::btree_map(".{0,8}", value(), 0..6);
        (any::<u64>(), any::<i64>(), any::<bool>(), (".{0,20}", ".{0,9}", any::<i64>()), ids, properties).prop_map(
            |(seq, ingested, late, (id, kind, time), entities, properties)| LoggedEvent {
                seq,
                ingested: Timestamp(ingested),
                late,
                event: Event { id, kind, time: Timestamp(time), entities, properties },
            },
        )
    }

    proptest! {
        #[test]
        fn a_trace_read_over_a_record_is_that_of_the_event(events in prop::collection::vec(event(), 0..20)) {
            let body = codec::runs(&events).unwrap().into_iter().map(|(_, body)| body).next();
            let frame = codec::frame::<LoggedEvent>(b"key", &body.unwrap_or_else(|| vec![0; 8])).unwrap();
            let traces: Vec<Trace> = events.iter().map(LoggedEvent::trace).collect();
            prop_assert_eq!(block(b"key", &frame).unwrap(), traces);
        }

        #[test]
        fn bytes_that_are_no_events_are_refused_or_read_and_never_make_it_panic(
            body in prop::collection::vec(prop_oneof![3 => Just(0u8), 1 => any::<u8>()], 0..300)
        ) {
            let frame = codec::frame::<LoggedEvent>(b"key", &body).unwrap();
            let whole = codec::decode_block::<LoggedEvent>(b"key", &frame);
            if let Ok(events) = whole {
                let traces: Vec<Trace> = events.iter().map(LoggedEvent::trace).collect();
                prop_assert_eq!(block(b"key", &frame).unwrap(), traces);
            } else {
                let _ = block(b"key", &frame);
            }
        }
    }
}
