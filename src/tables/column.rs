//! A table in memory by columns: compact, because a recording keeps its tables while it is read.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use understudy_domain::problem::{Problem, closest};
use understudy_domain::value::{Value, ValueType};

/// One column. Null is `i64::MIN`, NaN or `u32::MAX`: no column can hold those as values.
pub(super) enum Column {
    Int(Vec<i64>),
    Float(Vec<f64>),
    /// Codes into the distinct texts.
    Text(Vec<u32>, Vec<Arc<str>>),
}

pub(super) struct Table {
    pub file: String,
    pub rows: u32,
    names: Vec<String>,
    columns: Vec<Column>,
}

impl Column {
    pub fn is_null(&self, row: u32) -> bool {
        let row = row as usize;
        match self {
            Column::Int(v) => v[row] == i64::MIN,
            Column::Float(v) => v[row].is_nan(),
            Column::Text(v, _) => v[row] == u32::MAX,
        }
    }

    pub fn value(&self, row: u32) -> Value {
        if self.is_null(row) {
            return Value::Null;
        }
        match self {
            Column::Int(v) => Value::Int(v[row as usize]),
            Column::Float(v) => Value::Float(v[row as usize]),
            Column::Text(v, texts) => Value::Text(texts[v[row as usize] as usize].clone()),
        }
    }

    /// The id of an entity: the value as text.
    pub fn id(&self, row: u32) -> Option<String> {
        match self.value(row) {
            Value::Null => None,
            Value::Text(t) => Some(t.to_string()),
            other => Some(other.to_string()),
        }
    }

    /// The value as an integer; None if null or no integer column.
    pub fn int(&self, row: u32) -> Option<i64> {
        match self {
            Column::Int(v) => Some(v[row as usize]).filter(|x| *x != i64::MIN),
            _ => None,
        }
    }
}

/// An integer as we would write it ourselves: `007` and `+7` are codes, not numbers.
fn integer(s: &str) -> Option<i64> {
    let digits = s.strip_prefix('-').unwrap_or(s);
    let canonical = s == "0" || (!digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit()));
    if canonical { s.parse().ok().filter(|x| *x != i64::MIN) } else { None }
}

fn float(s: &str) -> Option<f64> {
    let digits = s.strip_prefix('-').unwrap_or(s).as_bytes();
    let code = digits.len() > 1 && digits[0] == b'0' && digits[1].is_ascii_digit();
    if code { None } else { s.parse().ok().filter(|x: &f64| x.is_finite()) }
}

fn widen(kind: ValueType, field: &str) -> ValueType {
    match kind {
        _ if field.is_empty() => kind,
        ValueType::Int if integer(field).is_some() => ValueType::Int,
        ValueType::Int | ValueType::Float if float(field).is_some() => ValueType::Float,
        _ => ValueType::Category,
    }
}

impl Table {
    /// Reads CSV. Columns are int, float or text by what they hold unless `types` says otherwise.
    pub fn parse(file: &str, bytes: &[u8], types: &BTreeMap<String, ValueType>) -> Result<Table, Problem> {
        let text = std::str::from_utf8(bytes).map_err(|e| {
            let line = 1 + bytes[..e.valid_up_to()].iter().filter(|b| **b == b'\n').count();
            in_file(file, line, "the table is not UTF-8", "save it as UTF-8")
        })?;
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let broken = |e: csv::Error| {
            let line = e.position().map_or(0, |p| p.line() as usize);
            in_file(file, line, format!("broken CSV: {e}"), "every line needs as many fields as the header")
        };
        let names: Vec<String> = reader.headers().map_err(broken)?.iter().map(String::from).collect();
        if let Some(unknown) = types.keys().find(|t| !names.contains(t)) {
            return Err(no_column(file, &names, unknown));
        }
        let start = reader.position().clone();
        let mut kinds: Vec<ValueType> = names.iter().map(|n| types.get(n).copied().unwrap_or(ValueType::Int)).collect();
        let free: Vec<usize> = (0..names.len()).filter(|i| !types.contains_key(&names[*i])).collect();
        let mut record = csv::StringRecord::new();
        let mut rows = 0u32;
        while reader.read_record(&mut record).map_err(broken)? {
            rows = rows.checked_add(1).ok_or_else(|| in_file(file, 0, "over 4 billion rows", "split the table"))?;
            for &i in &free {
                kinds[i] = widen(kinds[i], &record[i]);
            }
        }
        let mut columns: Vec<Column> = kinds
            .iter()
            .map(|k| match k {
                ValueType::Int => Column::Int(Vec::with_capacity(rows as usize)),
                ValueType::Float => Column::Float(Vec::with_capacity(rows as usize)),
                ValueType::Bool | ValueType::Category => Column::Text(Vec::with_capacity(rows as usize), Vec::new()),
            })
            .collect();
        let mut codes: Vec<HashMap<Arc<str>, u32>> = vec![HashMap::new(); names.len()];
        let mut reader =
            csv::ReaderBuilder::new().has_headers(false).from_reader(&text.as_bytes()[start.byte() as usize..]);
        let mut at = 0;
        while reader.read_record(&mut record).map_err(broken)? {
            for (i, field) in record.iter().enumerate() {
                let refused = |what: &str| {
                    let message = format!("row {at}: `{field}` in column `{}` is no {what}", names[i]);
                    in_file(file, 0, message, "correct the field, or the column's entry in `types`")
                };
                match &mut columns[i] {
                    Column::Int(v) if field.is_empty() => v.push(i64::MIN),
                    Column::Int(v) => v.push(integer(field).ok_or_else(|| refused("integer"))?),
                    Column::Float(v) if field.is_empty() => v.push(f64::NAN),
                    Column::Float(v) => v.push(float(field).ok_or_else(|| refused("number"))?),
                    Column::Text(v, _) if field.is_empty() => v.push(u32::MAX),
                    Column::Text(v, texts) => v.push(match codes[i].get(field) {
                        Some(code) => *code,
                        None => {
                            let text: Arc<str> = Arc::from(field);
                            let code = texts.len() as u32;
                            texts.push(text.clone());
                            codes[i].insert(text, code);
                            code
                        }
                    }),
                }
            }
            at += 1;
        }
        Ok(Table { file: file.into(), rows, names, columns })
    }

    /// Index of a column by name.
    pub fn find(&self, name: &str) -> Result<usize, Problem> {
        self.names.iter().position(|n| n == name).ok_or_else(|| no_column(&self.file, &self.names, name))
    }

    pub fn name(&self, column: usize) -> &str {
        &self.names[column]
    }

    pub fn column(&self, column: usize) -> &Column {
        &self.columns[column]
    }
}

pub(super) fn in_file(file: &str, line: usize, message: impl Into<String>, hint: impl Into<String>) -> Problem {
    Problem { file: file.into(), line, ..Problem::new("", message, hint) }
}

fn no_column(file: &str, names: &[String], wanted: &str) -> Problem {
    let hint = match closest(wanted, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("its columns are {}", names.join(", ")),
    };
    Problem::new("", format!("`{file}` has no column `{wanted}`"), hint)
}
