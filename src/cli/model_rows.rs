//! Rows for a model out of a file: CSV with a header, or one JSON object a line as in `golden.jsonl`.

use super::error::{CliError, Result, at_path};
use std::path::Path;
use understudy_domain::model::Signature;
use understudy_domain::value::{Value, ValueType};

/// More are not held in memory.
const MAX_ROWS: usize = 1_000_000;

#[derive(Debug, Default, PartialEq)]
pub struct Rows {
    pub vectors: Vec<Vec<Value>>,
    /// As many numbers as each answer has; empty where the file has none.
    pub expected: Vec<Vec<f64>>,
}

/// Reads `path`; with a signature CSV columns are found by name, without one all but the expected are the row.
pub fn read(path: &Path, signature: Option<&Signature>) -> Result<Rows> {
    let text = std::fs::read_to_string(path).map_err(at_path(path, "read"))?;
    let csv = path.extension().is_some_and(|e| e == "csv");
    let rows = if csv { from_csv(&text, signature) } else { from_lines(&text) };
    let rows = rows.map_err(|e| CliError::new(format!("{}: {e}", path.display())))?;
    match rows.vectors.len() {
        0 => Err(CliError::new(format!("{}: there are no rows", path.display()))),
        n if n > MAX_ROWS => Err(CliError::new(format!("{}: {n} rows; at most {MAX_ROWS} are taken", path.display()))),
        _ => Ok(rows),
    }
}

fn is_expected(name: &str) -> bool {
    name == "expected" || name == "score" || name.strip_prefix("expected_").is_some_and(|n| n.parse::<u32>().is_ok())
}

fn from_csv(text: &str, signature: Option<&Signature>) -> std::result::Result<Rows, String> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().map_err(|e| e.to_string())?.clone();
    let expected: Vec<usize> = (0..header.len()).filter(|i| is_expected(&header[*i])).collect();
    let columns: Vec<(usize, Option<ValueType>)> = match signature {
        None => (0..header.len()).filter(|i| !is_expected(&header[*i])).map(|i| (i, None)).collect(),
        Some(signature) => {
            let find = |name: &str| header.iter().position(|h| h == name);
            let column = |f: &understudy_domain::model::SignatureFeature| {
                find(&f.name).map(|i| (i, Some(f.kind))).ok_or_else(|| format!("there is no column `{}`", f.name))
            };
            signature.features.iter().map(column).collect::<std::result::Result<_, _>>()?
        }
    };
    let mut rows = Rows::default();
    for (n, record) in reader.records().enumerate() {
        let record = record.map_err(|e| e.to_string())?;
        let at = |i: usize, e: String| format!("row {}, column `{}`: {e}", n + 1, &header[i]);
        let vector = columns.iter().map(|(i, kind)| value(&record[*i], *kind).map_err(|e| at(*i, e)));
        rows.vectors.push(vector.collect::<std::result::Result<_, _>>()?);
        let number = |i: &usize| record[*i].parse().map_err(|_| at(*i, format!("{:?} is no number", &record[*i])));
        if !expected.is_empty() {
            rows.expected.push(expected.iter().map(number).collect::<std::result::Result<_, _>>()?);
        }
    }
    Ok(rows)
}

fn value(text: &str, kind: Option<ValueType>) -> std::result::Result<Value, String> {
    if text.is_empty() || ["nan", "null", "none"].contains(&text.to_ascii_lowercase().as_str()) {
        return Ok(Value::Null);
    }
    match (kind, text.to_ascii_lowercase().as_str()) {
        (Some(ValueType::Category), _) => return Ok(text.into()),
        (Some(ValueType::Bool), "true" | "1" | "1.0") => return Ok(Value::Bool(true)),
        (Some(ValueType::Bool), "false" | "0" | "0.0") => return Ok(Value::Bool(false)),
        _ => {}
    }
    let number: Option<f64> = text.parse().ok().filter(|x: &f64| x.is_finite());
    number.map(Value::Float).ok_or_else(|| format!("{text:?} is no finite number"))
}

/// `{"vector": [..], "score": 0.5}`; `row` and `expected`, a number or a list, are the same.
fn from_lines(text: &str) -> std::result::Result<Rows, String> {
    let mut rows = Rows::default();
    for (n, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
        let at = |e: &dyn std::fmt::Display| format!("line {}: {e}", n + 1);
        let mut object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).map_err(|e| at(&e))?;
        let mut take = |a: &str, b: &str| object.remove(a).or_else(|| object.remove(b));
        let vector = take("vector", "row").ok_or_else(|| at(&"`vector` is missing"))?;
        rows.vectors.push(serde_json::from_value(vector).map_err(|e| at(&e))?);
        match take("expected", "score") {
            None => {}
            Some(list @ serde_json::Value::Array(_)) => {
                rows.expected.push(serde_json::from_value(list).map_err(|e| at(&e))?);
            }
            Some(number) => rows.expected.push(vec![number.as_f64().ok_or_else(|| at(&"`expected` is no number"))?]),
        }
    }
    if !rows.expected.is_empty() && rows.expected.len() != rows.vectors.len() {
        return Err("some rows have no `expected`".into());
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_columns_are_found_by_name_or_taken_in_order() {
        let text = "b,expected,a\nx,0.5,1\n,1,nan\n";
        let kinds = [("a", ValueType::Float), ("b", ValueType::Category)];
        let feature = |(name, kind): (&str, ValueType)| understudy_domain::model::SignatureFeature {
            name: name.into(),
            kind,
            nullable: true,
        };
        let signature = Signature {
            features: kinds.map(feature).into(),
            positive_label: "yes".into(),
            negative_label: "no".into(),
        };
        let rows = from_csv(text, Some(&signature)).unwrap();
        assert_eq!(rows.vectors, [vec![Value::Float(1.0), "x".into()], vec![Value::Null, Value::Null]]);
        assert_eq!(rows.expected, [[0.5], [1.0]]);
        assert!(from_csv(text, None).unwrap_err().contains("row 1, column `b`: \"x\" is no finite number"));
        let plain = from_csv("u,expected_0,expected_1\n2,0.25,0.75\n", None).unwrap();
        assert_eq!((plain.vectors, plain.expected), (vec![vec![Value::Float(2.0)]], vec![vec![0.25, 0.75]]));
        assert!(from_csv("a\n1\n", Some(&signature)).unwrap_err().contains("no column `b`"));
    }

    #[test]
    fn lines_are_golden_requests() {
        let rows =
            from_lines("{\"vector\":[1,null,\"x\"],\"score\":0.5}\n\n{\"row\":[2],\"expected\":[1,2]}\n").unwrap();
        assert_eq!(rows.vectors, [vec![Value::Int(1), Value::Null, "x".into()], vec![Value::Int(2)]]);
        assert_eq!(rows.expected, [vec![0.5], vec![1.0, 2.0]]);
        assert!(from_lines("{\"vector\":[1]}\n{\"vector\":[1],\"score\":1}").unwrap_err().contains("no `expected`"));
        assert!(from_lines("{\"score\":1}").unwrap_err().contains("line 1: `vector` is missing"));
    }
}
