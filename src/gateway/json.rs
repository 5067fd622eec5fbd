//! Strict JSON: bounded depth and size, no duplicate keys, errors with a position.

use super::error::Fault;
use serde::de::{self, DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::marker::PhantomData;
use understudy_domain::entity::EntityIds;
use understudy_domain::value::Value;

/// Levels of nesting; nothing we accept needs more than six.
pub const MAX_DEPTH: usize = 64;
/// Members of one object; bounds the time that a hostile body can take.
pub const MAX_MEMBERS: usize = 1024;
/// Length of event, request and entity ids, in bytes.
pub const MAX_ID_BYTES: usize = 256;

/// Parses a whole body, which must be an object.
pub fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Err(Fault::bad("malformed_json", "the body is empty; expected JSON"));
    }
    depth(body)?;
    serde_json::from_slice::<Object<T>>(body).map(|o| o.0).map_err(|e| fault(&e))
}

/// An object: derived structs alone would also take an array of their fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object<T>(pub T);

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(de::value::MapAccessDeserializer::new(map)).map(Object)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_map(ObjectVisitor(PhantomData))
    }
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

/// For `#[serde(default, deserialize_with = "present")]`: may be absent, may not be null.
pub fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<Option<T>, D::Error> {
    T::deserialize(d).map(Some)
}

/// An object without duplicate keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Unique<V>(pub BTreeMap<String, V>);

impl<V> Default for Unique<V> {
    fn default() -> Self {
        Unique(BTreeMap::new())
    }
}

struct UniqueVisitor<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for UniqueVisitor<V> {
    type Value = Unique<V>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique<V>, A::Error> {
        let mut out = BTreeMap::new();
        while let Some(key) = map.next_key::<String>()? {
            if out.len() == MAX_MEMBERS {
                return Err(de::Error::custom(format_args!("an object with more than {MAX_MEMBERS} members")));
            }
            match out.entry(key) {
                Entry::Occupied(e) => return Err(de::Error::custom(format_args!("duplicate key `{}`", e.key()))),
                Entry::Vacant(e) => e.insert(map.next_value()?),
            };
        }
        Ok(Unique(out))
    }
}

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Unique<V> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_map(UniqueVisitor(PhantomData))
    }
}

/// Scalars by name: context of a request, properties of an event.
pub type Scalars = Unique<Value>;

/// An id of 1 to [`MAX_ID_BYTES`] bytes; text.
#[derive(Clone, Debug, PartialEq)]
pub struct Id(pub String);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let id = String::deserialize(d)?;
        checked_id(&id).map_err(de::Error::custom)?;
        Ok(Id(id))
    }
}

pub fn checked_id(id: &str) -> Result<(), String> {
    match id.len() {
        1..=MAX_ID_BYTES => Ok(()),
        n => Err(format!("an id of {n} bytes; expected 1 to {MAX_ID_BYTES}")),
    }
}

/// One entity id: text or an integer; null is a null key.
struct EntityId(Option<String>);
struct EntityIdVisitor;

impl Visitor<'_> for EntityIdVisitor {
    type Value = EntityId;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an entity id: text, an integer or null")
    }
    fn visit_unit<E>(self) -> Result<EntityId, E> {
        Ok(EntityId(None))
    }
    fn visit_i64<E>(self, v: i64) -> Result<EntityId, E> {
        Ok(EntityId(Some(v.to_string())))
    }
    fn visit_u64<E>(self, v: u64) -> Result<EntityId, E> {
        Ok(EntityId(Some(v.to_string())))
    }
    fn visit_str<E: de::Error>(self, v: &str) -> Result<EntityId, E> {
        checked_id(v).map_err(E::custom)?;
        Ok(EntityId(Some(v.to_owned())))
    }
    fn visit_string<E: de::Error>(self, v: String) -> Result<EntityId, E> {
        checked_id(&v).map_err(E::custom)?;
        Ok(EntityId(Some(v)))
    }
}

impl<'de> Deserialize<'de> for EntityId {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(EntityIdVisitor)
    }
}

/// Entity ids by key name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entities(pub EntityIds);

impl<'de> Deserialize<'de> for Entities {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let ids = Unique::<EntityId>::deserialize(d)?.0;
        Ok(Entities(ids.into_iter().map(|(k, v)| (k, v.0)).collect()))
    }
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
