//! One tensor: JSON data flattened, or raw little-endian bytes decoded, into scalars.

use crate::gateway::error::Fault;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use understudy_domain::value::Value;

/// Elements of a JSON tensor in row-major order; nested arrays are flattened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Data(pub Vec<Value>);

enum Element {
    One(Value),
    Nested(Vec<Value>),
}
struct ElementVisitor;

impl<'de> Visitor<'de> for ElementVisitor {
    type Value = Element;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scalar or an array of them")
    }
    fn visit_unit<E>(self) -> Result<Element, E> {
        Ok(Element::One(Value::Null))
    }
    fn visit_bool<E>(self, v: bool) -> Result<Element, E> {
        Ok(Element::One(Value::Bool(v)))
    }
    fn visit_i64<E>(self, v: i64) -> Result<Element, E> {
        Ok(Element::One(Value::Int(v)))
    }
    fn visit_u64<E: de::Error>(self, v: u64) -> Result<Element, E> {
        i64::try_from(v).map(|i| Element::One(Value::Int(i))).map_err(|_| E::custom(too_large(v)))
    }
    fn visit_f64<E>(self, v: f64) -> Result<Element, E> {
        Ok(Element::One(Value::Float(v)))
    }
    fn visit_str<E>(self, v: &str) -> Result<Element, E> {
        Ok(Element::One(Value::text(v)))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Element, A::Error> {
        let mut out = Vec::new();
        while let Some(element) = seq.next_element()? {
            match element {
                Element::One(value) => out.push(value),
                Element::Nested(values) => out.extend(values),
            }
        }
        Ok(Element::Nested(out))
    }
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_any(ElementVisitor)
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        match Element::deserialize(d)? {
            Element::Nested(values) => Ok(Data(values)),
            Element::One(v) => Err(de::Error::custom(format_args!("`data` is {}; expected an array", v.type_name()))),
        }
    }
}

fn too_large(v: u64) -> String {
    format!("integer {v} is larger than {}", i64::MAX)
}

/// Bytes of one element; `None` for BYTES, whose elements carry their length.
pub fn width(datatype: &str) -> Result<Option<usize>, Fault> {
    Ok(Some(match datatype {
        "BOOL" | "INT8" | "UINT8" => 1,
        "INT16" | "UINT16" => 2,
        "INT32" | "UINT32" | "FP32" => 4,
        "INT64" | "UINT64" | "FP64" => 8,
        "BYTES" => return Ok(None),
        other => {
            let detail = format!("datatype `{other}`: expected BOOL, INT8..INT64, UINT8..UINT64, FP32, FP64 or BYTES");
            return Err(Fault::unprocessable("invalid_tensor", detail));
        }
    }))
}

/// Decodes a raw tensor of `count` elements that must use up all of `raw`.
pub fn decode(name: &str, datatype: &str, count: usize, raw: &[u8]) -> Result<Vec<Value>, Fault> {
    let wrong = |what: String| Fault::unprocessable("invalid_tensor", format!("input `{name}`: {what}"));
    let Some(width) = width(datatype)? else { return texts(count, raw).map_err(wrong) };
    if count.checked_mul(width) != Some(raw.len()) {
        return Err(wrong(format!("{} bytes; expected {count} {datatype} of {width} bytes each", raw.len())));
    }
    raw.chunks_exact(width).map(|c| number(datatype, c).map_err(wrong)).collect()
}

fn number(datatype: &str, c: &[u8]) -> Result<Value, String> {
    // The caller cut pieces of exactly the type's width.
    let mut wide = [0u8; 8];
    wide[..c.len()].copy_from_slice(c);
    let unsigned = u64::from_le_bytes(wide);
    let unused = 64 - 8 * c.len() as u32;
    let signed = (unsigned << unused) as i64 >> unused;
    Ok(match datatype {
        "BOOL" => match unsigned {
            0 | 1 => Value::Bool(unsigned == 1),
            other => return Err(format!("BOOL of {other}; expected 0 or 1")),
        },
        "FP32" => return float(f64::from(f32::from_bits(unsigned as u32))),
        "FP64" => return float(f64::from_bits(unsigned)),
        "INT8" | "INT16" | "INT32" | "INT64" => Value::Int(signed),
        _ => Value::Int(i64::try_from(unsigned).map_err(|_| too_large(unsigned))?),
    })
}

/// NaN is the missing value of numeric tensors.
fn float(f: f64) -> Result<Value, String> {
    match f {
        f if f.is_nan() => Ok(Value::Null),
        f if f.is_infinite() => Err("infinity is not a value".into()),
        f => Ok(Value::Float(f)),
    }
}

fn texts(count: usize, raw: &[u8]) -> Result<Vec<Value>, String> {
    let (mut out, mut rest) = (Vec::new(), raw);
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let text = after
            .get(..length)
            .ok_or_else(|| format!("element {} claims {length} bytes, but {} are left", out.len(), after.len()))?;
        let text = std::str::from_utf8(text).map_err(|_| format!("element {} is not UTF-8", out.len()))?;
        out.push(Value::text(text));
        rest = &after[length..];
    }
    if !rest.is_empty() {
        return Err(format!("{} bytes are left over; expected a 4-byte length", rest.len()));
    }
    if out.len() != count {
        return Err(format!("{} elements; expected {count}", out.len()));
    }
    Ok(out)
}
