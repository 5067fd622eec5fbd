//! The body of a block of predictions, version 3. Words that repeat (names, labels, entities, categories) are
//! written once per block and named by their number, and whole numbers take as few bytes as they need. Version 1
//! was the domain types as bincode writes them; this one costs as much to write and less to compress. Version 2 had no
//! placements.
//!
//! Body: `[length of the words u32 LE][words][rows]`; both are a count and then the items. Whole numbers are
//! LEB128, signed ones in zigzag; numbers with a fraction are 8 bytes LE; an optional number is 0 or itself + 1.

use super::codec::{self, CodecError};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;
use std::sync::Arc;
use understudy_domain::prediction::{Placement, PredictionId, PredictionRecord, ServedArm, Timing};
use understudy_domain::time::Timestamp;
use understudy_domain::value::Value;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// One pass over a short word; the standard hasher takes longer than the rest of the row.
#[derive(Default)]
struct WordHasher(u64);

impl Hasher for WordHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }
    fn write_u8(&mut self, _: u8) {} // what `str` adds behind its bytes
    fn finish(&self) -> u64 {
        self.0
    }
}

fn put(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn put_signed(out: &mut Vec<u8>, n: i64) {
    put(out, ((n << 1) ^ (n >> 63)) as u64);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A block while it is filled: its words, numbered in order of their first use, and its rows.
#[derive(Default)]
struct Block<'a> {
    numbers: HashMap<&'a str, u64, BuildHasherDefault<WordHasher>>,
    words: Vec<u8>,
    rows: Vec<u8>,
}

impl<'a> Block<'a> {
    fn word(&mut self, word: &'a str) -> u64 {
        let next = self.numbers.len() as u64;
        *self.numbers.entry(word).or_insert_with(|| {
            put_bytes(&mut self.words, word.as_bytes());
            next
        })
    }

    fn put_word(&mut self, word: &'a str) {
        let n = self.word(word);
        put(&mut self.rows, n);
    }

    fn put_value(&mut self, value: &'a Value) {
        match value {
            Value::Null => self.rows.push(0),
            Value::Bool(b) => self.rows.push(1 + u8::from(*b)),
            Value::Int(i) => {
                self.rows.push(3);
                put_signed(&mut self.rows, *i);
            }
            Value::Float(f) => {
                self.rows.push(4);
                self.rows.extend_from_slice(&f.to_le_bytes());
            }
            Value::Text(t) => {
                self.rows.push(5);
                self.put_word(t);
            }
        }
    }

    fn put_row(&mut self, r: &'a PredictionRecord) -> Result<(), CodecError> {
        self.rows.extend_from_slice(&r.id.0.to_le_bytes());
        for word in [&r.model, &r.version, &r.feature_set, &r.label] {
            self.put_word(word);
        }
        put(&mut self.rows, r.epoch);
        let p = &r.placement;
        self.rows.push(p.arm as u8 | u8::from(p.instead) << 4);
        put(&mut self.rows, p.slot.into());
        put(&mut self.rows, p.weight.into());
        put(&mut self.rows, p.segment.map_or(0, |s| u64::from(s) + 1));
        match &r.request_id {
            None => put(&mut self.rows, 0),
            Some(id) => {
                put(&mut self.rows, id.len() as u64 + 1);
                self.rows.extend_from_slice(id.as_bytes());
            }
        }
        put_signed(&mut self.rows, r.time.0);
        put(&mut self.rows, r.entities.len() as u64);
        for (key, id) in &r.entities {
            self.put_word(key);
            let id = id.as_deref().map_or(0, |id| self.word(id) + 1);
            put(&mut self.rows, id);
        }
        put(&mut self.rows, r.context.len() as u64);
        for (field, value) in &r.context {
            self.put_word(field);
            self.put_value(value);
        }
        put(&mut self.rows, r.vector.len() as u64);
        r.vector.iter().for_each(|v| self.put_value(v));
        put(&mut self.rows, r.ages.len() as u64);
        for age in &r.ages {
            put(&mut self.rows, age.map_or(0, |a| u64::from(a) + 1));
        }
        for x in [r.score, r.confidence] {
            self.rows.extend_from_slice(&x.to_le_bytes());
        }
        let t = &r.timing;
        for us in [t.parse_us, t.features_us, t.validate_us, t.route_us, t.model_us, t.total_us] {
            put(&mut self.rows, us.into());
        }
        // Rare, and of a shape of their own.
        let judged = codec::encode_part(&(r.verdict, &r.findings))?;
        put_bytes(&mut self.rows, &judged);
        Ok(())
    }

    fn body(self, count: usize) -> Result<Vec<u8>, CodecError> {
        let mut body = vec![0; 4];
        put(&mut body, self.numbers.len() as u64);
        body.extend_from_slice(&self.words);
        let length = u32::try_from(body.len() - 4).map_err(|_| CodecError::TooLarge("the words of a block".into()))?;
        body[..4].copy_from_slice(&length.to_le_bytes());
        put(&mut body, count as u64);
        body.extend_from_slice(&self.rows);
        Ok(body)
    }
}

/// Cuts records, which are in order of id, into blocks of about `BLOCK_BYTES`; `cut` may end one earlier (it
/// sees the block's first record and the next one). A larger record stands alone.
pub fn runs(
    records: &[Arc<PredictionRecord>],
    cut: impl Fn(&PredictionRecord, &PredictionRecord) -> bool,
) -> Result<Vec<codec::Run>, CodecError> {
    let (mut out, mut start) = (Vec::new(), 0);
    while start < records.len() {
        let (range, body) = block(records, start, &cut)?;
        start = range.end;
        out.push((range, body));
    }
    Ok(out)
}

fn block(
    records: &[Arc<PredictionRecord>],
    start: usize,
    cut: &impl Fn(&PredictionRecord, &PredictionRecord) -> bool,
) -> Result<(Range<usize>, Vec<u8>), CodecError> {
    let mut block = Block::default();
    let mut end = start;
    for record in &records[start..] {
        let size = block.rows.len() + block.words.len();
        if end > start && (size > codec::BLOCK_BYTES || cut(&records[start], record)) {
            break;
        }
        block.put_row(record)?;
        end += 1;
    }
    Ok((start..end, block.body(end - start)?))
}

fn corrupt(what: &str) -> CodecError {
    CodecError::Corrupt(what.to_owned())
}

/// What is left of a body.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn bytes(&mut self, n: usize) -> Result<&'b [u8], CodecError> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or_else(|| corrupt("the block is cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or_else(|| corrupt("the block is cut short"))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn number(&mut self) -> Result<u64, CodecError> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            n |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err(corrupt("a number without end"))
    }

    fn small(&mut self) -> Result<u32, CodecError> {
        u32::try_from(self.number()?).map_err(|_| corrupt("a number out of range"))
    }

    fn signed(&mut self) -> Result<i64, CodecError> {
        let n = self.number()?;
        Ok((n >> 1) as i64 ^ -((n & 1) as i64))
    }

    fn float(&mut self) -> Result<f64, CodecError> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    fn text(&mut self, length: u64) -> Result<&'b str, CodecError> {
        let bytes = self.bytes(usize::try_from(length).unwrap_or(usize::MAX))?;
        std::str::from_utf8(bytes).map_err(|_| corrupt("a word that is not UTF-8"))
    }

    /// A count of items, each of which takes a byte at least: no more is allocated than was read.
    fn count(&mut self) -> Result<usize, CodecError> {
        let n = self.number()?;
        usize::try_from(n).ok().filter(|n| *n <= self.0.len()).ok_or_else(|| corrupt("a count out of range"))
    }

    fn end(&self) -> Result<(), CodecError> {
        if self.0.is_empty() { Ok(()) } else { Err(corrupt("something follows the block")) }
    }
}

/// The records of a body of this version or the second.
pub fn read(version: u8, body: &[u8]) -> Result<Vec<PredictionRecord>, CodecError> {
    let mut rows = Reader(body);
    let length = u32::from_le_bytes(rows.array()?) as usize;
    let mut section = Reader(rows.bytes(length)?);
    let mut words = Vec::new();
    for _ in 0..section.count()? {
        let n = section.number()?;
        words.push(Arc::from(section.text(n)?));
    }
    section.end()?;
    let mut records = Vec::new();
    for _ in 0..rows.count()? {
        records.push(row(version, &mut rows, &words)?);
    }
    rows.end()?;
    Ok(records)
}

fn named(words: &[Arc<str>], n: u64) -> Result<&Arc<str>, CodecError> {
    usize::try_from(n).ok().and_then(|n| words.get(n)).ok_or_else(|| corrupt("a word that is not in the block"))
}

fn value(from: &mut Reader<'_>, words: &[Arc<str>]) -> Result<Value, CodecError> {
    Ok(match from.array()? {
        [0] => Value::Null,
        [b @ (1 | 2)] => Value::Bool(b == 2),
        [3] => Value::Int(from.signed()?),
        [4] => Value::Float(from.float()?),
        [5] => Value::Text(named(words, from.number()?)?.clone()),
        _ => return Err(corrupt("a value of no known type")),
    })
}

fn placement(from: &mut Reader<'_>) -> Result<Placement, CodecError> {
    let [first] = from.array()?;
    let arm = match first & 0x0f {
        0 => ServedArm::Baseline,
        1 => ServedArm::Canary,
        2 => ServedArm::Shadow,
        3 => ServedArm::Override,
        _ => return Err(corrupt("an arm of no known kind")),
    };
    let slots = |n: u32| u16::try_from(n).map_err(|_| corrupt("a slot out of range"));
    Ok(Placement {
        arm,
        instead: first & 0x10 != 0,
        slot: slots(from.small()?)?,
        weight: slots(from.small()?)?,
        segment: match from.number()? {
            0 => None,
            n => Some(u32::try_from(n - 1).map_err(|_| corrupt("a segment out of range"))?),
        },
    })
}

fn row(format: u8, from: &mut Reader<'_>, words: &[Arc<str>]) -> Result<PredictionRecord, CodecError> {
    let id = PredictionId(u128::from_le_bytes(from.array()?));
    let word = |from: &mut Reader<'_>| Ok::<_, CodecError>(named(words, from.number()?)?.to_string());
    let (model, version, feature_set, label) = (word(from)?, word(from)?, word(from)?, word(from)?);
    let epoch = from.number()?;
    let placement = if format < 3 { Placement::default() } else { placement(from)? };
    let request_id = match from.number()? {
        0 => None,
        n => Some(from.text(n - 1)?.to_owned()),
    };
    let time = Timestamp(from.signed()?);
    let entities = (0..from.count()?).map(|_| {
        let key = word(from)?;
        let id = match from.number()? {
            0 => None,
            n => Some(named(words, n - 1)?.to_string()),
        };
        Ok((key, id))
    });
    let entities = entities.collect::<Result<_, CodecError>>()?;
    let context = (0..from.count()?).map(|_| Ok((word(from)?, value(from, words)?)));
    let context = context.collect::<Result<_, CodecError>>()?;
    let vector = (0..from.count()?).map(|_| value(from, words)).collect::<Result<_, CodecError>>()?;
    let ages = (0..from.count()?).map(|_| match from.number()? {
        0 => Ok(None),
        n => u32::try_from(n - 1).map(Some).map_err(|_| corrupt("an age out of range")),
    });
    let ages = ages.collect::<Result<_, CodecError>>()?;
    let (score, confidence) = (from.float()?, from.float()?);
    let timing = Timing {
        parse_us: from.small()?,
        features_us: from.small()?,
        validate_us: from.small()?,
        route_us: from.small()?,
        model_us: from.small()?,
        total_us: from.small()?,
    };
    let n = from.count()?;
    let (verdict, findings) = codec::decode_part(from.bytes(n)?)?;
    Ok(PredictionRecord {
        id,
        model,
        version,
        feature_set,
        epoch,
        placement,
        request_id,
        time,
        entities,
        context,
        vector,
        ages,
        score,
        label,
        confidence,
        verdict,
        findings,
        timing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::sample::prediction;
    use proptest::prelude::*;

    fn records(n: u64) -> Vec<Arc<PredictionRecord>> {
        (0..n).map(|i| Arc::new(prediction(1_365_000_000_000 + i, i, "m"))).collect()
    }

    #[test]
    fn records_come_back_and_a_cut_block_is_an_error() {
        let records = records(300);
        let blocks = runs(&records, |_, _| false).unwrap();
        let read_all: Vec<_> = blocks.iter().flat_map(|(_, body)| read(3, body).unwrap()).collect();
        assert!(read_all.iter().eq(records.iter().map(|r| &**r)));
        let body = &blocks[0].1;
        for end in 0..body.len().min(4_000) {
            assert!(read(3, &body[..end]).is_err(), "cut at {end}");
        }
        assert!(read(3, &[&body[..], &[0]].concat()).is_err());
    }

    #[test]
    fn blocks_end_where_they_are_cut() {
        let blocks = runs(&records(10), |first, next| next.time.0 - first.time.0 > 3_000).unwrap();
        assert!(blocks.windows(2).all(|w| w[0].0.end == w[1].0.start) && blocks.last().unwrap().0.end == 10);
        assert_eq!(blocks.len(), 3);
    }

    proptest! {
        #[test]
        fn numbers_come_back(n in any::<u64>(), i in any::<i64>()) {
            let mut out = Vec::new();
            put(&mut out, n);
            put_signed(&mut out, i);
            let mut from = Reader(&out);
            prop_assert_eq!((from.number().unwrap(), from.signed().unwrap()), (n, i));
        }

        #[test]
        fn forged_bytes_are_an_error_or_records(at in 0usize..2_000, to in any::<u8>()) {
            let mut body = runs(&records(8), |_, _| false).unwrap().remove(0).1;
            let n = body.len();
            body[at % n] = to;
            let _ = read(3, &body);
        }
    }
}
