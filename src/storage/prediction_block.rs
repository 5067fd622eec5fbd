//! The body of a block of predictions, version 2. Words that repeat (names, labels, entities, categories) are
//! written once per block and named by their number, and numbers take as few bytes as they need: a block holds
//! some four times the records of version 1, and costs half the time to write.
//!
//! Body: `[length of the words u32 LE][words][rows]`. Version 1 was the records as they stand.

use super::codec::{self, CodecError};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;
use std::sync::Arc;
use understudy_domain::prediction::{Finding, PredictionId, PredictionRecord, Timing, Verdict};
use understudy_domain::time::Timestamp;
use understudy_domain::value::Value;
use xxhash_rust::xxh3::xxh3_64_with_seed;

#[derive(Serialize, Deserialize)]
enum Cell {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Word(u32),
}

#[derive(Serialize, Deserialize)]
struct Row<'a> {
    id: u128,
    model: u32,
    version: u32,
    feature_set: u32,
    epoch: u64,
    request_id: Option<Cow<'a, str>>,
    time: i64,
    entities: Vec<(u32, Option<u32>)>,
    context: Vec<(u32, Cell)>,
    vector: Vec<Cell>,
    ages: Vec<Option<u32>>,
    score: f64,
    label: u32,
    confidence: f64,
    verdict: Verdict,
    findings: Cow<'a, [Finding]>,
    timing: Timing,
}

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

/// The words of one block, numbered in order of their first use.
#[derive(Default)]
struct Words<'a> {
    numbers: HashMap<&'a str, u32, BuildHasherDefault<WordHasher>>,
    list: Vec<&'a str>,
    bytes: usize,
}

impl<'a> Words<'a> {
    fn number(&mut self, word: &'a str) -> u32 {
        *self.numbers.entry(word).or_insert_with(|| {
            self.list.push(word);
            self.bytes += word.len() + 1;
            self.list.len() as u32 - 1
        })
    }

    fn cell(&mut self, value: &'a Value) -> Cell {
        match value {
            Value::Null => Cell::Null,
            Value::Bool(b) => Cell::Bool(*b),
            Value::Int(i) => Cell::Int(*i),
            Value::Float(f) => Cell::Float(*f),
            Value::Text(t) => Cell::Word(self.number(t)),
        }
    }

    fn row(&mut self, r: &'a PredictionRecord) -> Row<'a> {
        Row {
            id: r.id.0,
            model: self.number(&r.model),
            version: self.number(&r.version),
            feature_set: self.number(&r.feature_set),
            epoch: r.epoch,
            request_id: r.request_id.as_deref().map(Cow::Borrowed),
            time: r.time.0,
            entities: r.entities.iter().map(|(k, v)| (self.number(k), v.as_deref().map(|v| self.number(v)))).collect(),
            context: r.context.iter().map(|(k, v)| (self.number(k), self.cell(v))).collect(),
            vector: r.vector.iter().map(|v| self.cell(v)).collect(),
            ages: r.ages.clone(),
            score: r.score,
            label: self.number(&r.label),
            confidence: r.confidence,
            verdict: r.verdict,
            findings: Cow::Borrowed(&r.findings),
            timing: r.timing,
        }
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
    let mut words = Words::default();
    let mut rows = Vec::with_capacity(codec::BLOCK_BYTES + codec::BLOCK_BYTES / 16);
    let mut end = start;
    for record in &records[start..] {
        let size = rows.len() + words.bytes;
        if end > start && (size > codec::BLOCK_BYTES || cut(&records[start], record)) {
            break;
        }
        codec::write_compact(&words.row(record), &mut rows)?;
        end += 1;
    }
    let mut body = vec![0; 4];
    codec::write_compact(&words.list, &mut body)?;
    let length = u32::try_from(body.len() - 4).map_err(|_| CodecError::TooLarge("the words of a block".into()))?;
    body[..4].copy_from_slice(&length.to_le_bytes());
    codec::write_compact(&((end - start) as u64), &mut body)?;
    body.extend_from_slice(&rows);
    Ok((start..end, body))
}

/// The records of a body.
pub fn read(body: &[u8]) -> Result<Vec<PredictionRecord>, CodecError> {
    let corrupt = || CodecError::Corrupt("the block is cut short".into());
    let (length, rest) = body.split_first_chunk::<4>().ok_or_else(corrupt)?;
    let (words, rows) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(corrupt)?;
    let words: Vec<Arc<str>> = codec::read_compact(words)?;
    let rows: Vec<Row<'_>> = codec::read_compact(rows)?;
    rows.into_iter().map(|row| record(row, &words)).collect()
}

fn record(row: Row<'_>, words: &[Arc<str>]) -> Result<PredictionRecord, CodecError> {
    let word = |n: u32| {
        let found = words.get(n as usize);
        found.ok_or_else(|| CodecError::Corrupt(format!("word {n} of {}", words.len())))
    };
    let text = |n: u32| word(n).map(|w| w.to_string());
    let value = |cell: Cell| {
        Ok(match cell {
            Cell::Null => Value::Null,
            Cell::Bool(b) => Value::Bool(b),
            Cell::Int(i) => Value::Int(i),
            Cell::Float(f) => Value::Float(f),
            Cell::Word(n) => Value::Text(word(n)?.clone()),
        })
    };
    Ok(PredictionRecord {
        id: PredictionId(row.id),
        model: text(row.model)?,
        version: text(row.version)?,
        feature_set: text(row.feature_set)?,
        epoch: row.epoch,
        request_id: row.request_id.map(Cow::into_owned),
        time: Timestamp(row.time),
        entities: (row.entities.into_iter().map(|(k, v)| Ok((text(k)?, v.map(text).transpose()?))))
            .collect::<Result<_, CodecError>>()?,
        context: (row.context.into_iter().map(|(k, v)| Ok((text(k)?, value(v)?))))
            .collect::<Result<_, CodecError>>()?,
        vector: row.vector.into_iter().map(value).collect::<Result<_, CodecError>>()?,
        ages: row.ages,
        score: row.score,
        label: text(row.label)?,
        confidence: row.confidence,
        verdict: row.verdict,
        findings: row.findings.into_owned(),
        timing: row.timing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::tests::prediction;

    #[test]
    fn records_come_back_and_damage_is_an_error() {
        let records: Vec<_> = (0..300).map(|i| Arc::new(prediction(1_365_000_000_000 + i, i, "m"))).collect();
        let blocks = runs(&records, |_, _| false).unwrap();
        let read_all: Vec<_> = blocks.iter().flat_map(|(_, body)| read(body).unwrap()).collect();
        assert!(read_all.iter().eq(records.iter().map(|r| &**r)));
        let body = &blocks[0].1;
        for end in (0..body.len()).step_by(97) {
            assert!(read(&body[..end]).is_err(), "cut at {end}");
        }
        let mut forged = body.clone();
        forged[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(read(&forged).is_err());
    }

    #[test]
    fn blocks_end_where_they_are_cut() {
        let records: Vec<_> = (0..10).map(|i| Arc::new(prediction(i, 1, "m"))).collect();
        let blocks = runs(&records, |first, next| next.time.0 - first.time.0 > 3_000).unwrap();
        assert!(blocks.windows(2).all(|w| w[0].0.end == w[1].0.start) && blocks.last().unwrap().0.end == 10);
        assert!(blocks.len() > 1);
    }
}
