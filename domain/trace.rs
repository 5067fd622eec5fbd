//! Where a request belongs in a distributed trace: the W3C `traceparent` header, and which traces are kept.
//!
//! Format: <https://www.w3.org/TR/trace-context/>, version 00. A context is plain data, so it can travel in any message.

use serde::{Deserialize, Serialize};

/// A trace, and the span that new spans hang below.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceContext {
    pub trace_id: u128,
    pub span_id: u64,
    /// Somebody keeps this trace, so spans are worth making.
    pub sampled: bool,
}

impl TraceContext {
    /// Reads a `traceparent`; `None` if it is malformed, for then the specification asks for a new trace.
    pub fn parse(header: &str) -> Option<TraceContext> {
        let bytes = header.as_bytes();
        let dashes = [2, 35, 52].iter().all(|i| bytes.get(*i) == Some(&b'-'));
        // Version 00 ends here; a later one may go on after another dash.
        let whole = bytes.len() == 55 || (bytes.len() > 55 && bytes[55] == b'-' && !header.starts_with("00"));
        let hex = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
        if !dashes || !whole || !bytes.iter().take(55).enumerate().all(|(i, b)| [2, 35, 52].contains(&i) || hex(b)) {
            return None;
        }
        let (version, flags) = (&header[..2], u8::from_str_radix(&header[53..55], 16).ok()?);
        let trace_id = u128::from_str_radix(&header[3..35], 16).ok()?;
        let span_id = u64::from_str_radix(&header[36..52], 16).ok()?;
        let valid = version != "ff" && trace_id != 0 && span_id != 0;
        valid.then_some(TraceContext { trace_id, span_id, sampled: flags & 1 == 1 })
    }

    /// The `traceparent` that whoever we call is sent.
    pub fn header(&self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

/// Which traces are kept when they begin; the standard samplers by their standard names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampler {
    /// What the caller decided is kept to.
    pub parent_based: bool,
    /// Share of new traces that are kept, 0..=1.
    pub ratio: f64,
}

impl Sampler {
    /// `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`.
    pub fn parse(name: &str, argument: Option<&str>) -> Result<Sampler, String> {
        let ratio = || match argument.map(|a| (a, a.parse::<f64>())) {
            None => Ok(1.0),
            Some((_, Ok(r))) if (0.0..=1.0).contains(&r) => Ok(r),
            Some((a, _)) => Err(format!("OTEL_TRACES_SAMPLER_ARG is `{a}`; expected a share from 0 to 1")),
        };
        let (parent_based, base) = match name.strip_prefix("parentbased_") {
            Some(base) => (true, base),
            None => (false, name),
        };
        let ratio = match base {
            "always_on" => 1.0,
            "always_off" => 0.0,
            "traceidratio" => ratio()?,
            _ => {
                return Err(format!(
                    "OTEL_TRACES_SAMPLER is `{name}`; expected always_on, always_off or traceidratio, alone or after `parentbased_`"
                ));
            }
        };
        Ok(Sampler { parent_based, ratio })
    }

    /// Whether to keep a trace that came with `parent`, or that begins here with `trace_id`.
    ///
    /// The lower 63 bits decide, as other tracers do it, so that all services of a trace keep the same ones.
    pub fn keeps(&self, parent: Option<TraceContext>, trace_id: u128) -> bool {
        match parent {
            Some(parent) if self.parent_based => parent.sampled,
            _ => self.ratio >= 1.0 || (((trace_id as u64) >> 1) as f64) < self.ratio * (1u64 << 63) as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn headers_that_are_good_and_that_are_not() {
        let context = TraceContext::parse(PARENT).unwrap();
        assert_eq!((context.span_id, context.sampled), (0xb7ad_6b71_6920_3331, true));
        assert_eq!(context.header(), PARENT);
        let long = format!("{PARENT}-more");
        let table = [
            ("", false),
            (&PARENT[..54], false),
            (&*long, false),
            (&*long.replacen("00", "01", 1), true),
            (&*PARENT.replacen("00", "ff", 1), false),
            (&*PARENT.to_uppercase(), false),
            ("00-00000000000000000000000000000000-b7ad6b7169203331-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", false),
            ("00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333\u{e9}-1", false),
        ];
        for (header, good) in table {
            assert_eq!(TraceContext::parse(header).is_some(), good, "{header}");
        }
    }

    #[test]
    fn samplers_by_name() {
        let parent = |sampled| Some(TraceContext { trace_id: 1, span_id: 1, sampled });
        let ratio = Sampler::parse("parentbased_traceidratio", Some("0.25")).unwrap();
        assert!(ratio.keeps(parent(true), 1) && !ratio.keeps(parent(false), 1));
        let kept = (0..10_000u128).filter(|i| ratio.keeps(None, i.wrapping_mul(0x9e37_79b9_7f4a_7c15))).count();
        assert!((2_300..2_700).contains(&kept), "{kept}");
        let on = Sampler::parse("always_on", None).unwrap();
        assert!(on.keeps(parent(false), u128::MAX));
        assert!(!Sampler::parse("parentbased_always_off", None).unwrap().keeps(None, 0));
        for (name, argument) in [("sometimes", None), ("traceidratio", Some("2")), ("traceidratio", Some("x"))] {
            assert!(Sampler::parse(name, argument).unwrap_err().contains("expected"));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,80}") {
            let _ = TraceContext::parse(&text);
        }

        #[test]
        fn what_is_written_is_read(trace_id in 1u128.., span_id in 1u64.., sampled: bool) {
            let context = TraceContext { trace_id, span_id, sampled };
            prop_assert_eq!(TraceContext::parse(&context.header()), Some(context));
        }
    }
}
