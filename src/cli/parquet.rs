//! The prediction log of one model as Parquet: a row per prediction, a column per feature.

use super::client::{Client, encode};
use super::error::{CliError, Result, at_path};
use super::log::{Range, each_in};
use super::output::{count, json, line, note};
use super::target::Context;
use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::Result as Written;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;
use serde::Deserialize;
use serde_json::Value as Json;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use understudy_domain::model::SignatureFeature;
use understudy_domain::prediction::PredictionRecord;
use understudy_domain::value::{Value, ValueType};

/// Rows that are in memory at once, whatever the length of the log: some 30 MB at 50 columns.
const GROUP_ROWS: usize = 1 << 16;

/// What every model's file has, in this order, before its features.
const FIXED: [(&str, Kind, bool); 11] = [
    ("id", Kind::Text, false),
    ("model", Kind::Text, false),
    ("version", Kind::Text, false),
    ("feature_set", Kind::Text, false),
    ("epoch", Kind::Int, false),
    ("request_id", Kind::Text, true),
    ("time", Kind::Time, false),
    ("score", Kind::Double, false),
    ("label", Kind::Text, false),
    ("confidence", Kind::Double, false),
    ("verdict", Kind::Text, false),
];

/// Writes the predictions of a model to `to`, which is replaced in one step when all are written.
pub fn export(ctx: &Context, model: &str, range: Range, to: &Path) -> Result {
    if to.exists() && !to.is_file() {
        return Err(CliError::usage(format!("--to {} is no regular file", to.display()))
            .hint("Parquet is written beside the file and renamed; name a new or an existing file"));
    }
    let server = ctx.server()?;
    let features = features(&server.client, model)?;
    let mut partial = to.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    let file = File::create(partial).map_err(at_path(partial, "write"))?;
    let rows = write(&server.client, model, range, &features, file, partial).inspect_err(|_| {
        let _ = std::fs::remove_file(partial);
    })?;
    std::fs::rename(partial, to).map_err(at_path(to, "write"))?;
    if ctx.json {
        json(&serde_json::json!({ "model": model, "rows": rows, "file": to }));
    } else {
        line(&format!("{}: {} predictions of {model}", to.display(), count(rows)));
    }
    server.finish()
}

/// The inputs of the version that serves: the columns.
fn features(client: &Client, model: &str) -> Result<Vec<SignatureFeature>> {
    let shown = client.get(&format!("/v1/models/{}", encode(model)))?;
    Vec::deserialize(&shown["signature"]["features"]).map_err(|_| {
        CliError::new(format!("{model} has no version that serves, so its columns are unknown"))
            .hint(format!("train it first: `understudy train {model}`"))
    })
}

fn write(
    client: &Client,
    model: &str,
    range: Range,
    features: &[SignatureFeature],
    file: File,
    path: &Path,
) -> Result<u64> {
    let failed = |e| CliError::new(format!("cannot write {}: {e}", path.display())).hint("is there space on the disk?");
    let mut out = Export::new(BufWriter::new(file), features, GROUP_ROWS).map_err(failed)?;
    let mut places = HashMap::new();
    each_in(client, Some(model), range, |json| {
        let r = PredictionRecord::deserialize(json)
            .map_err(|e| CliError::new(format!("the server sent a prediction of another form: {e}: {json}")))?;
        if !places.contains_key(&r.version) {
            places.insert(r.version.clone(), places_of(client, &r, features)?);
        }
        out.add(&r, &places[&r.version]).map_err(failed)?;
        Ok(true)
    })?;
    out.finish().map_err(failed)
}

/// Where the vectors of this record's version hold each column's feature. Versions need not have
/// the same inputs: they are matched by name, and what one does not have is null.
fn places_of(client: &Client, r: &PredictionRecord, features: &[SignatureFeature]) -> Result<Vec<Option<usize>>> {
    let answer = client.get(&format!("/v1/predictions/{}", encode(&r.id.to_string())))?;
    let names: Vec<&str> = answer["features"].as_object().into_iter().flatten().map(|(k, _)| k.as_str()).collect();
    if names.len() != r.vector.len() {
        note(&format!(
            "note: the inputs of {} {} are no longer known; its feature columns are null",
            r.model, r.version
        ));
        return Ok(vec![None; features.len()]);
    }
    let other: Vec<_> = names.iter().filter(|n| !features.iter().any(|f| f.name == **n)).copied().collect();
    if !other.is_empty() {
        note(&format!("note: inputs only of {} {} get no column: {}", r.model, r.version, other.join(", ")));
    }
    Ok(places(&names, features))
}

fn places(names: &[&str], features: &[SignatureFeature]) -> Vec<Option<usize>> {
    features.iter().map(|f| names.iter().position(|n| *n == f.name)).collect()
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Text,
    Int,
    /// Microseconds since 1970, UTC.
    Time,
    Double,
}

/// The values of one column in the row group that is being filled; a null has a level and no value.
struct Column {
    cells: Cells,
    levels: Option<Vec<i16>>,
}

enum Cells {
    Text(Vec<ByteArray>),
    Int(Vec<i64>),
    Double(Vec<f64>),
}

impl Column {
    fn new(kind: Kind, nullable: bool) -> Self {
        let cells = match kind {
            Kind::Text => Cells::Text(Vec::new()),
            Kind::Int | Kind::Time => Cells::Int(Vec::new()),
            Kind::Double => Cells::Double(Vec::new()),
        };
        Column { cells, levels: nullable.then(Vec::new) }
    }

    /// A value of another kind than the column's is null: a version had this feature with another type.
    fn push(&mut self, value: &Value) {
        let stored = match (&mut self.cells, value) {
            (_, Value::Null) => false,
            (Cells::Text(to), Value::Text(t)) => push(to, Some(ByteArray::from(t.as_bytes().to_vec()))),
            (Cells::Text(_), _) => false,
            (Cells::Int(to), Value::Int(i)) => push(to, Some(*i)),
            (Cells::Int(_), _) => false,
            (Cells::Double(to), v) => push(to, v.as_f64()),
        };
        if let Some(levels) = &mut self.levels {
            levels.push(i16::from(stored));
        }
    }
}

fn push<T>(to: &mut Vec<T>, value: Option<T>) -> bool {
    let there = value.is_some();
    to.extend(value);
    there
}

fn field(name: &str, kind: Kind, nullable: bool) -> Written<Type> {
    let (physical, logical) = match kind {
        Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        Kind::Int => (Physical::INT64, None),
        Kind::Time => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MICROS))),
        Kind::Double => (Physical::DOUBLE, None),
    };
    let repetition = if nullable { Repetition::OPTIONAL } else { Repetition::REQUIRED };
    Type::primitive_type_builder(name, physical).with_logical_type(logical).with_repetition(repetition).build()
}

/// A file that is being written, one row group at a time.
struct Export<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    columns: Vec<Column>,
    group_rows: usize,
    waiting: usize,
    rows: u64,
}

impl<W: Write + Send> Export<W> {
    fn new(out: W, features: &[SignatureFeature], group_rows: usize) -> Written<Self> {
        let mut fields = Vec::new();
        let mut columns = Vec::new();
        for (name, kind, nullable) in FIXED {
            fields.push(Arc::new(field(name, kind, nullable)?));
            columns.push(Column::new(kind, nullable));
        }
        for f in features {
            let kind = if f.kind == ValueType::Category { Kind::Text } else { Kind::Double };
            // Two columns of one name cannot be told apart.
            let name = if FIXED.iter().any(|c| c.0 == f.name) { format!("feature_{}", f.name) } else { f.name.clone() };
            fields.push(Arc::new(field(&name, kind, true)?));
            columns.push(Column::new(kind, true));
        }
        let schema = Type::group_type_builder("prediction").with_fields(fields).build()?;
        // Per row group, not per page: what the writer keeps until the end stays small.
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            .set_column_dictionary_enabled("id".into(), false)
            .build();
        let writer = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties))?;
        Ok(Export { writer, columns, group_rows, waiting: 0, rows: 0 })
    }

    /// `places`: for each feature column its index in the record's vector.
    fn add(&mut self, r: &PredictionRecord, places: &[Option<usize>]) -> Written<()> {
        let text = Value::text;
        let fixed: [Value; FIXED.len()] = [
            text(&r.id.to_string()),
            text(&r.model),
            text(&r.version),
            text(&r.feature_set),
            Value::Int(i64::try_from(r.epoch).unwrap_or(i64::MAX)),
            r.request_id.as_deref().map_or(Value::Null, text),
            Value::Int(r.time.0),
            Value::Float(r.score),
            text(&r.label),
            Value::Float(r.confidence),
            // The word that the API says.
            text(serde_json::to_value(r.verdict).ok().as_ref().and_then(Json::as_str).unwrap_or_default()),
        ];
        let features = places.iter().map(|p| p.and_then(|i| r.vector.get(i)).unwrap_or(&Value::Null));
        for (column, value) in self.columns.iter_mut().zip(fixed.iter().chain(features)) {
            column.push(value);
        }
        self.waiting += 1;
        if self.waiting == self.group_rows { self.flush() } else { Ok(()) }
    }

    /// Writes the waiting rows as one row group.
    fn flush(&mut self) -> Written<()> {
        let mut group = self.writer.next_row_group()?;
        for column in &mut self.columns {
            let mut to = group.next_column()?.expect("the schema has a column for each of ours");
            let levels = column.levels.as_deref();
            match &mut column.cells {
                Cells::Text(v) => {
                    to.typed::<ByteArrayType>().write_batch(v, levels, None)?;
                    v.clear();
                }
                Cells::Int(v) => {
                    to.typed::<Int64Type>().write_batch(v, levels, None)?;
                    v.clear();
                }
                Cells::Double(v) => {
                    to.typed::<DoubleType>().write_batch(v, levels, None)?;
                    v.clear();
                }
            }
            column.levels.iter_mut().for_each(Vec::clear);
            to.close()?;
        }
        group.close()?;
        self.rows += self.waiting as u64;
        self.waiting = 0;
        Ok(())
    }

    /// The number of rows in the finished file.
    fn finish(mut self) -> Written<u64> {
        if self.waiting > 0 {
            self.flush()?;
        }
        self.writer.close()?;
        Ok(self.rows)
    }
}

#[cfg(test)]
#[path = "parquet_tests.rs"]
mod tests;
