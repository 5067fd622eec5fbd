//! Tables that fit a terminal of 80 columns.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, LineStyle, Table, TableStyle};
use serde_json::Value;

/// What every terminal shows without wrapping.
pub const WIDTH: u16 = 80;
/// Widest first column that is never wrapped: a prediction id and some.
const UNBROKEN: u16 = 36;

/// A table with these headers. Columns named in `right` are aligned to the right.
pub fn table(headers: &[&str], right: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut t = Table::new();
    t.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─').junction('─')));
    t.set_content_arrangement(ContentArrangement::Dynamic);
    t.set_width(WIDTH);
    t.set_header(headers.iter().copied());
    for row in rows {
        t.add_row(row);
    }
    // Names and ids are copied from the first column: they stay in one piece where that fits.
    if t.column_max_content_widths().first().is_some_and(|w| *w <= UNBROKEN)
        && let Some(c) = t.column_mut(0)
    {
        c.set_constraint(ColumnConstraint::ContentWidth);
    }
    for (i, h) in headers.iter().enumerate() {
        if right.contains(h)
            && let Some(c) = t.column_mut(i)
        {
            c.set_cell_alignment(CellAlignment::Right);
        }
    }
    t.lines().map(|l| l.trim_end().to_string() + "\n").collect()
}

/// A JSON object as two columns; nested objects become dotted keys.
pub fn pairs(value: &Value) -> String {
    let mut rows = Vec::new();
    flatten("", value, &mut rows);
    table(&["key", "value"], &[], rows)
}

fn flatten(prefix: &str, value: &Value, rows: &mut Vec<Vec<String>>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (k, v) in map {
                let key = if prefix.is_empty() { k.clone() } else { format!("{prefix}.{k}") };
                flatten(&key, v, rows);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (i, v) in items.iter().enumerate() {
                flatten(&format!("{prefix}[{i}]"), v, rows);
            }
        }
        other => rows.push(vec![prefix.to_string(), super::output::cell(other)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_cells_wrap_inside_80_columns() {
        let long = "x".repeat(300);
        let text = table(&["id", "what", "n"], &["n"], vec![vec!["SF000608".into(), long, "1,300".into()]]);
        assert!(text.lines().count() > 4, "{text}");
        for l in text.lines() {
            assert!(l.chars().count() <= usize::from(WIDTH), "{} columns: {l}", l.chars().count());
        }
    }

    #[test]
    fn many_columns_stay_inside_80_columns() {
        let headers = ["window", "requests", "share", "score", "auc", "log loss", "brier", "ece", "p50", "p99"];
        let row = vec!["2013-04-01T00:00:00Z".to_string(); headers.len()];
        for l in table(&headers, &[], vec![row]).lines() {
            assert!(l.chars().count() <= usize::from(WIDTH), "{l}");
        }
    }

    #[test]
    fn nested_objects_become_dotted_keys() {
        let v = serde_json::json!({"a": {"b": 1, "c": [1, 2]}, "d": [{"e": null}]});
        let text = pairs(&v);
        for (key, value) in [("a.b", "1"), ("a.c", "1 2"), ("d[0].e", "-")] {
            let l = text.lines().find(|l| l.contains(key)).unwrap_or_else(|| panic!("{key} is missing:\n{text}"));
            assert!(l.trim_end().ends_with(value), "{l}");
        }
    }
}
