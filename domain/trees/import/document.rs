//! The document that JSON and UBJSON share. Lists of numbers are kept as numbers, and the count of everything else
//! is bounded, so that a file needs memory in proportion to its length.

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::cell::Cell;
use std::fmt;

/// Values of a document that are no number in a list: 200 MB of memory at most.
const MAX_VALUES: usize = 4_000_000;
/// Lists and maps within one another.
pub const MAX_NESTING: usize = 32;

#[derive(Clone, Debug, PartialEq)]
pub enum Document {
    Nothing,
    Number(f64),
    Text(String),
    /// A list of nothing but numbers; also the empty list.
    Numbers(Vec<f64>),
    List(Vec<Document>),
    Map(Vec<(String, Document)>),
}

/// What may still be made.
pub struct Budget(Cell<usize>);

impl Budget {
    pub fn new() -> Budget {
        Budget(Cell::new(MAX_VALUES))
    }

    pub fn take(&self) -> Result<(), String> {
        let left = self.0.get().checked_sub(1).ok_or_else(|| format!("more than {MAX_VALUES} values"))?;
        self.0.set(left);
        Ok(())
    }
}

impl Document {
    /// The value under `path`, names with `.` between them.
    pub fn find(&self, path: &str) -> Option<&Document> {
        path.split('.').try_fold(self, |at, key| match at {
            Document::Map(entries) => entries.iter().find(|(k, _)| k == key).map(|(_, v)| v),
            _ => None,
        })
    }

    pub fn get(&self, path: &str) -> Result<&Document, String> {
        self.find(path).ok_or_else(|| format!("`{path}` is missing"))
    }

    pub fn text(&self, path: &str) -> Result<&str, String> {
        match self.get(path)? {
            Document::Text(t) => Ok(t),
            _ => Err(format!("`{path}` is no text")),
        }
    }

    pub fn numbers(&self, path: &str) -> Result<&[f64], String> {
        match self.get(path)? {
            Document::Numbers(n) => Ok(n),
            _ => Err(format!("`{path}` is no list of numbers")),
        }
    }

    pub fn list(&self, path: &str) -> Result<&[Document], String> {
        match self.get(path)? {
            Document::List(l) => Ok(l),
            Document::Numbers(n) if n.is_empty() => Ok(&[]),
            _ => Err(format!("`{path}` is no list")),
        }
    }

    /// A whole number, written as one or as text.
    pub fn whole(&self, path: &str) -> Result<usize, String> {
        let wrong = || format!("`{path}` is no whole number");
        match self.get(path)? {
            Document::Text(t) => t.parse().map_err(|_| wrong()),
            Document::Number(n) => whole(*n).ok_or_else(wrong),
            _ => Err(wrong()),
        }
    }
}

/// A list out of its items.
pub fn list(items: Vec<Document>) -> Document {
    if items.iter().all(|i| matches!(i, Document::Number(_))) {
        let number = |d: Document| if let Document::Number(n) = d { n } else { f64::NAN };
        return Document::Numbers(items.into_iter().map(number).collect());
    }
    Document::List(items)
}

pub fn whole(x: f64) -> Option<usize> {
    (x.fract() == 0.0 && (0.0..=2f64.powi(53)).contains(&x)).then_some(x as usize)
}

pub fn from_json(bytes: &[u8]) -> Result<Document, String> {
    let budget = Budget::new();
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let seed = Seed { budget: &budget, nesting: 0 };
    let document = seed.deserialize(&mut json).map_err(|e| format!("JSON: {e}"))?;
    json.end().map_err(|e| format!("JSON: {e}"))?;
    Ok(document)
}

#[derive(Clone, Copy)]
struct Seed<'b> {
    budget: &'b Budget,
    nesting: usize,
}

impl Seed<'_> {
    fn below(self) -> Self {
        Seed { nesting: self.nesting + 1, ..self }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Document;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Document, D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Document;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: Error>(self) -> Result<Document, E> {
        Ok(Document::Nothing)
    }

    fn visit_bool<E: Error>(self, v: bool) -> Result<Document, E> {
        Ok(Document::Number(f64::from(u8::from(v))))
    }

    fn visit_i64<E: Error>(self, v: i64) -> Result<Document, E> {
        Ok(Document::Number(v as f64))
    }

    fn visit_u64<E: Error>(self, v: u64) -> Result<Document, E> {
        Ok(Document::Number(v as f64))
    }

    fn visit_f64<E: Error>(self, v: f64) -> Result<Document, E> {
        Ok(Document::Number(v))
    }

    fn visit_str<E: Error>(self, v: &str) -> Result<Document, E> {
        self.budget.take().map_err(E::custom)?;
        Ok(Document::Text(v.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Document, A::Error> {
        self.budget.take().map_err(A::Error::custom)?;
        if self.nesting >= MAX_NESTING {
            return Err(A::Error::custom(format!("lists nest deeper than {MAX_NESTING}")));
        }
        let mut numbers = Vec::new();
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self.below())? {
            match item {
                Document::Number(n) if items.is_empty() => numbers.push(n),
                item => {
                    items.extend(std::mem::take(&mut numbers).into_iter().map(Document::Number));
                    self.budget.take().map_err(A::Error::custom)?;
                    items.push(item);
                }
            }
        }
        Ok(if items.is_empty() { Document::Numbers(numbers) } else { Document::List(items) })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document, A::Error> {
        if self.nesting >= MAX_NESTING {
            return Err(A::Error::custom(format!("maps nest deeper than {MAX_NESTING}")));
        }
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            self.budget.take().map_err(A::Error::custom)?;
            entries.push((key, map.next_value_seed(self.below())?));
        }
        Ok(Document::Map(entries))
    }
}
