//! The shapes that strict JSON is read into: objects without duplicate keys, ids, entity ids.

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::marker::PhantomData;
use understudy_domain::entity::EntityIds;
use understudy_domain::value::Value;

/// Members of one object; bounds the time that a hostile body can take.
pub const MAX_MEMBERS: usize = 1024;
/// Length of event, request and entity ids, in bytes.
pub const MAX_ID_BYTES: usize = 256;

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
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Unique<V>, A::Error> {
        unique(map, |v| v).map(Unique)
    }
}

/// The members of an object, each made into what is wanted.
fn unique<'de, A: MapAccess<'de>, V: Deserialize<'de>, T>(
    mut map: A,
    make: impl Fn(V) -> T,
) -> Result<BTreeMap<String, T>, A::Error> {
    let mut out = BTreeMap::new();
    while let Some(key) = map.next_key::<String>()? {
        if out.len() == MAX_MEMBERS {
            return Err(de::Error::custom(format_args!("an object with more than {MAX_MEMBERS} members")));
        }
        match out.entry(key) {
            Entry::Occupied(e) => return Err(de::Error::custom(format_args!("duplicate key `{}`", e.key()))),
            Entry::Vacant(e) => e.insert(make(map.next_value()?)),
        };
    }
    Ok(out)
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

/// `7.0` is the integer 7, as in JSON Schema; exact below 2^53.
fn whole(v: f64) -> Option<i64> {
    (v.fract() == 0.0 && v.abs() < 9_007_199_254_740_992.0).then_some(v as i64)
}

/// A whole number from 0; `7` or `7.0`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Whole(pub u64);

struct WholeVisitor;

impl Visitor<'_> for WholeVisitor {
    type Value = Whole;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number from 0")
    }
    fn visit_u64<E>(self, v: u64) -> Result<Whole, E> {
        Ok(Whole(v))
    }
    fn visit_f64<E: de::Error>(self, v: f64) -> Result<Whole, E> {
        let whole = whole(v).and_then(|i| u64::try_from(i).ok());
        whole.map(Whole).ok_or_else(|| E::invalid_type(de::Unexpected::Float(v), &self))
    }
}

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(WholeVisitor)
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
    fn visit_f64<E: de::Error>(self, v: f64) -> Result<EntityId, E> {
        whole(v).map(|i| EntityId(Some(i.to_string()))).ok_or_else(|| E::invalid_type(de::Unexpected::Float(v), &self))
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

struct EntitiesVisitor;

impl<'de> Visitor<'de> for EntitiesVisitor {
    type Value = Entities;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Entities, A::Error> {
        unique(map, |id: EntityId| id.0).map(Entities)
    }
}

impl<'de> Deserialize<'de> for Entities {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_map(EntitiesVisitor)
    }
}
