//! Printing: a reader that goes away (`| head`) ends the program quietly.

use serde::Serialize;
use std::io::Write;

/// Writes to stdout; a closed pipe ends the program with success, as other tools do.
pub fn put(text: &str) {
    let mut out = std::io::stdout().lock();
    if let Err(e) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        gone(&e);
    }
}

pub fn line(text: &str) {
    put(&format!("{text}\n"));
}

pub fn json(value: &impl Serialize) {
    let text = serde_json::to_string_pretty(value).expect("what we print has text keys and finite numbers");
    line(&text);
}

/// Says something that is no part of the result.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn gone(e: &std::io::Error) -> ! {
    if e.kind() == std::io::ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    note(&format!("error: cannot write to stdout: {e}"));
    std::process::exit(i32::from(super::error::FAILED));
}

/// Text for a person of a JSON value in a table cell.
pub fn cell(v: &serde_json::Value) -> String {
    use serde_json::Value;
    match v {
        Value::Null => "-".into(),
        Value::String(s) => s.clone(),
        Value::Number(n) => match n.as_f64() {
            Some(f) if n.is_f64() => number(f),
            _ => n.to_string(),
        },
        Value::Array(a) => a.iter().map(cell).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// A number with as many digits as help: 0.7461, 12.35, 1300.
pub fn number(f: f64) -> String {
    let digits = match f.abs() {
        a if a >= 1000.0 || f.fract() == 0.0 => 0,
        a if a >= 10.0 => 2,
        _ => 4,
    };
    format!("{f:.digits$}")
}

/// 249447 as `249,447`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}
