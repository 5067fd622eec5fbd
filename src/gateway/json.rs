//! Strict JSON: bounded depth and size, no duplicate keys, errors with a position.

use super::error::Fault;
pub use super::shapes::{Entities, Id, Object, Scalars, Whole, checked_id, present};
use serde::de::{self, DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use std::collections::HashSet;
use std::fmt;

/// Levels of nesting; nothing we accept needs more than six.
pub const MAX_DEPTH: usize = 64;
/// Parses a whole body, which must be an object.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(Fault::bad("malformed_json", "the body is empty; expected JSON"));
    }
    depth(body)?;
    serde_json::from_slice::<Object<T>>(body).map(|o| o.0).map_err(|e| fault(&e))
}

/// A JSON error with its line and column.
pub fn fault(e: &serde_json::Error) -> Fault {
    Fault::bad(code(e), e.to_string())
}

/// `malformed_json`: not JSON; `invalid_body`: JSON of the wrong shape.
pub fn code(e: &serde_json::Error) -> &'static str {
    match e.classify() {
        Category::Data => "invalid_body",
        Category::Syntax | Category::Eof | Category::Io => "malformed_json",
    }
}

/// Refuses bodies nested deeper than [`MAX_DEPTH`], without recursion.
pub fn depth(body: &[u8]) -> Result<(), Fault> {
    // Nearly every body has too few brackets to be deep; counting them takes many bytes at a time.
    if body.iter().map(|b| usize::from(matches!(b, b'[' | b'{'))).sum::<usize>() <= MAX_DEPTH {
        return Ok(());
    }
    let (mut level, mut quoted, mut escaped) = (0usize, false, false);
    for (at, byte) in body.iter().enumerate() {
        if quoted {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => quoted = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => quoted = true,
            b'[' | b'{' => {
                level += 1;
                if level > MAX_DEPTH {
                    let detail = format!("nested deeper than {MAX_DEPTH} levels at byte {at}");
                    return Err(Fault::bad("malformed_json", detail));
                }
            }
            b']' | b'}' => level = level.saturating_sub(1),
            _ => {}
        }
    }
    Ok(())
}

/// Cuts a JSON array into its elements, so that one bad element does not spoil the others.
/// Checks the brackets only; each element still has to be parsed.
pub fn elements(body: &[u8]) -> Result<Vec<&[u8]>, Fault> {
    depth(body)?;
    let body = body.trim_ascii();
    let wrong = |what: &str| Fault::bad("malformed_json", format!("{what}; expected a JSON array"));
    let inner = body.strip_prefix(b"[").ok_or_else(|| wrong("the body does not start with `[`"))?;
    let (mut level, mut quoted, mut escaped, mut from) = (0usize, false, false, 0);
    let mut out = Vec::new();
    for (at, byte) in inner.iter().enumerate() {
        if quoted {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => quoted = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => quoted = true,
            b'[' | b'{' => level += 1,
            b',' if level == 0 => {
                out.push(inner[from..at].trim_ascii());
                from = at + 1;
            }
            b']' if level == 0 => {
                if at + 1 != inner.len() {
                    return Err(wrong(&format!("something follows the array at byte {}", at + 2)));
                }
                let last = inner[from..at].trim_ascii();
                if !(last.is_empty() && out.is_empty()) {
                    out.push(last);
                }
                return Ok(out);
            }
            b']' | b'}' => {
                level = level.checked_sub(1).ok_or_else(|| wrong(&format!("stray bracket at byte {}", at + 1)))?
            }
            _ => {}
        }
    }
    Err(wrong("the array is not closed"))
}

/// Checks a document of any shape for duplicate keys; for types whose maps do not check themselves.
pub fn no_duplicates(body: &[u8]) -> Result<(), Fault> {
    depth(body)?;
    serde_json::from_slice::<NoDuplicates>(body).map(|_| ()).map_err(|e| fault(&e))
}

struct NoDuplicates;
struct NoDuplicatesVisitor;

impl<'de> Visitor<'de> for NoDuplicatesVisitor {
    type Value = NoDuplicates;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<NoDuplicates, E> {
        Ok(NoDuplicates)
    }
    fn visit_bool<E>(self, _: bool) -> Result<NoDuplicates, E> {
        Ok(NoDuplicates)
    }
    fn visit_i64<E>(self, _: i64) -> Result<NoDuplicates, E> {
        Ok(NoDuplicates)
    }
    fn visit_u64<E>(self, _: u64) -> Result<NoDuplicates, E> {
        Ok(NoDuplicates)
    }
    fn visit_f64<E>(self, _: f64) -> Result<NoDuplicates, E> {
        Ok(NoDuplicates)
    }
    fn visit_str<E>(self, _: &str) -> Result<NoDuplicates, E> {
        Ok(NoDuplicates)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<NoDuplicates, A::Error> {
        while seq.next_element::<NoDuplicates>()?.is_some() {}
        Ok(NoDuplicates)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NoDuplicates, A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if let Some(key) = seen.replace(key) {
                map.next_value::<IgnoredAny>()?;
                return Err(de::Error::custom(format_args!("duplicate key `{key}`")));
            }
            map.next_value::<NoDuplicates>()?;
        }
        Ok(NoDuplicates)
    }
}

impl<'de> Deserialize<'de> for NoDuplicates {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(NoDuplicatesVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::super::shapes::MAX_MEMBERS;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hostile_documents() {
        let bomb = "[".repeat(100_000);
        assert!(parse::<Scalars>(bomb.as_bytes()).unwrap_err().detail.contains("64 levels at byte 64"));
        let bomb = format!("{{\"a\":{}", "{\"a\":".repeat(100));
        assert!(no_duplicates(bomb.as_bytes()).unwrap_err().detail.contains("64 levels"));
        let table = [
            ("", "empty"),
            ("   ", "empty"),
            ("{", "line 1 column 1"),
            ("{\"a\":1,\"a\":2}", "duplicate key `a` at line 1 column"),
            ("{\"a\":1e999}", "number out of range"),
            ("{\"a\":18446744073709551615}", "larger than"),
            ("{\"a\":NaN}", "expected value"),
            ("{\"a\":[1]}", "expected a scalar"),
            ("{\"a\":1} x", "trailing characters"),
            ("[]", "expected an object"),
            ("{\"\u{0}\":1}", "control character"),
        ];
        for (body, said) in table {
            let e = parse::<Scalars>(body.as_bytes()).unwrap_err();
            assert_eq!(e.status.as_u16(), 400, "{body}");
            assert!(e.detail.contains(said), "{body}: {}", e.detail);
        }
        assert!(parse::<Scalars>(b"{\"a\":\"\xff\"}").is_err());
        let many: String = (0..=MAX_MEMBERS).map(|i| format!("\"k{i}\":1,")).collect();
        let body = format!("{{{}\"z\":1}}", many);
        assert!(parse::<Scalars>(body.as_bytes()).unwrap_err().detail.contains("members"));
    }

    #[test]
    fn brackets_in_text_are_no_depth() {
        let body = format!("{{\"a\":\"{}\\\"[\"}}", "[".repeat(500));
        parse::<Scalars>(body.as_bytes()).unwrap();
    }

    #[test]
    fn entity_ids() {
        let long = format!("{{\"k\":\"{}\"}}", "x".repeat(257));
        for bad in ["{\"k\":\"\"}", "{\"k\":1.5}", "{\"k\":true}", "{\"k\":[]}", "{\"k\":1,\"k\":1}", long.as_str()] {
            assert!(parse::<Entities>(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(parse::<Entities>(b"{\"k\":436.0}").unwrap().0["k"].as_deref(), Some("436"));
        let ids = parse::<Entities>(b"{\"a\":\"UA\",\"b\":-7,\"c\":null,\"d\":18446744073709551615}").unwrap().0;
        assert_eq!(ids["a"].as_deref(), Some("UA"));
        assert_eq!(ids["b"].as_deref(), Some("-7"));
        assert_eq!(ids["c"], None);
        assert_eq!(ids["d"].as_deref(), Some("18446744073709551615"));
    }

    #[test]
    fn arrays_are_cut() {
        let cut = |s: &str| {
            elements(s.as_bytes())
                .map(|v| v.iter().map(|e| String::from_utf8_lossy(e).into_owned()).collect::<Vec<_>>())
        };
        assert_eq!(cut(" [] ").unwrap(), Vec::<String>::new());
        assert_eq!(cut("[1, {\"a\":[1,2]} ,\"],\"]").unwrap(), ["1", "{\"a\":[1,2]}", "\"],\""]);
        assert_eq!(cut("[1,]").unwrap(), ["1", ""]);
        for bad in ["", "{}", "[1", "[1] 2", "[}]", "[\"]"] {
            assert!(cut(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn duplicates_anywhere() {
        assert!(no_duplicates(b"{\"a\":[{\"b\":1,\"b\":1}]}").unwrap_err().detail.contains("`b`"));
        no_duplicates(b"{\"a\":[{\"b\":1},{\"b\":1.5}],\"c\":\"x\",\"d\":null,\"e\":true,\"f\":-1}").unwrap();
    }

    proptest! {
        #[test]
        fn nothing_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse::<Scalars>(&body);
            let _ = parse::<Entities>(&body);
            let _ = elements(&body);
            let _ = no_duplicates(&body);
        }
    }
}
