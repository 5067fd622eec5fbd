//! One TOML file: read, parsed into a type, and errors placed on their line.

use super::toml_syntax;
use serde::de::DeserializeOwned;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use understudy_domain::problem::{Problem, closest};

/// Size of one project file.
const MAX_BYTES: usize = 1 << 20;
/// Dots in one key, and brackets inside of each other.
const MAX_LEVELS: usize = 64;
/// Tables that any file may open, and bytes for each one more: a table takes the parser a kilobyte.
const FREE_TABLES: usize = 400;
const BYTES_PER_TABLE: usize = 24;

/// The text of a file and the name it goes by in messages.
#[derive(Clone, Debug)]
pub struct TomlFile {
    pub name: String,
    pub text: String,
}

impl TomlFile {
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        TomlFile { name: name.into(), text: text.into() }
    }

    pub fn read(path: &Path) -> Result<Self, Problem> {
        let name = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(TomlFile { name, text }),
            Err(e) => Err(Problem {
                file: name,
                ..Problem::new("", format!("cannot be read: {e}"), "check the path and its permissions")
            }),
        }
    }

    /// The whole file as `T`.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        self.bounded()?;
        toml::from_str(&self.text).map_err(|e| self.problem(&e))
    }

    /// Refuses what no project needs, and what would take the parser of trees a hundred bytes for each of its own.
    fn bounded(&self) -> Result<(), Problem> {
        let wrong = |at: usize, what: String, hint: &str| {
            Err(Problem { file: self.name.clone(), line: self.line_of(at), ..Problem::new("", what, hint) })
        };
        if self.text.len() > MAX_BYTES {
            return wrong(0, format!("the file has more than {MAX_BYTES} bytes"), "split it into several files");
        }
        let (bytes, mut at) = (self.text.as_bytes(), 0);
        let (mut dots, mut brackets) = (0, 0usize);
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'.' => dots += 1,
                b'[' | b'{' => (dots, brackets) = (0, brackets + 1),
                b']' | b'}' => (dots, brackets) = (0, brackets.saturating_sub(1)),
                b'=' | b',' | b'\n' => dots = 0,
                _ => {}
            }
            if dots > MAX_LEVELS || brackets > MAX_LEVELS {
                return wrong(at, format!("nested deeper than {MAX_LEVELS} levels"), "no setting lies deeper than six");
            }
            at += token(&bytes[at..]);
        }
        let syntax = toml_syntax::of(&self.text);
        if let Some((message, at)) = syntax.error {
            return wrong(at.unwrap_or(0), message, "");
        }
        let most = FREE_TABLES + self.text.len() / BYTES_PER_TABLE;
        if syntax.tables > most {
            let hint = format!(
                "{FREE_TABLES}, and one for every {BYTES_PER_TABLE} bytes; split the file, or write lists and values"
            );
            return wrong(0, format!("{} tables in {} bytes", syntax.tables, self.text.len()), &hint);
        }
        Ok(())
    }

    /// The tree with its places, of a file within bounds.
    fn tree(&self) -> Option<Spanned<DeTable<'_>>> {
        self.bounded().ok()?;
        DeTable::parse(&self.text).ok()
    }

    /// A problem of the parser: unknown keys get the nearest allowed one as a hint.
    fn problem(&self, e: &toml::de::Error) -> Problem {
        let start = e.span().map(|s| s.start);
        let key = start.and_then(|at| self.key_at(at)).unwrap_or_default();
        let (message, hint) = explain(e.message());
        let line = start.map_or(0, |at| self.line_of(at));
        Problem { file: self.name.clone(), line, ..Problem::new(key, message, hint) }
    }

    /// Adds file and line to a problem that has only a dotted key.
    pub fn place(&self, mut p: Problem) -> Problem {
        if p.file.is_empty() {
            p.file = self.name.clone();
            p.line = self.locate(&p.key).unwrap_or(0);
        }
        p
    }

    /// The 1-based line of a dotted key, or of the longest part of it that is in the file.
    pub fn locate(&self, key: &str) -> Option<usize> {
        let root = self.tree()?;
        let mut found = None;
        descend(root.get_ref(), key, &mut found);
        found.map(|at| self.line_of(at))
    }

    /// Whether the file has exactly this dotted key.
    pub fn has(&self, key: &str) -> bool {
        let mut found = None;
        self.tree().is_some_and(|root| descend(root.get_ref(), key, &mut found))
    }

    /// The dotted key whose name or value begins at or encloses a byte offset.
    fn key_at(&self, at: usize) -> Option<String> {
        let root = self.tree()?;
        let mut best = None;
        enclosing(root.get_ref(), at, "", &mut best);
        best
    }

    fn line_of(&self, at: usize) -> usize {
        1 + self.text.as_bytes()[..at.min(self.text.len())].iter().filter(|b| **b == b'\n').count()
    }
}

/// Length of the comment, the text in quotes or the byte that `rest` begins with. A text that is not closed ends with
/// its line, or the file.
fn token(rest: &[u8]) -> usize {
    let until = |from: usize, ends: &[u8]| {
        rest.get(from..).and_then(|r| r.iter().position(|b| ends.contains(b))).map_or(rest.len(), |n| from + n)
    };
    match rest {
        [b'"', b'"', b'"', ..] | [b'\'', b'\'', b'\'', ..] => {
            rest[3..].windows(3).position(|w| w == &rest[..3]).map_or(rest.len(), |n| n + 6)
        }
        [b'"', ..] => {
            let mut end = until(1, b"\"\\\n");
            while rest.get(end) == Some(&b'\\') {
                end = until(end + 2, b"\"\\\n");
            }
            end + 1
        }
        [b'\'', ..] => until(1, b"'\n") + 1,
        [b'#', ..] => until(1, b"\n"),
        _ => 1,
    }
}

/// Follows `key` down; names may hold dots, so every split is tried. True if all of it was found.
fn descend(table: &DeTable<'_>, key: &str, found: &mut Option<usize>) -> bool {
    let cuts = key.match_indices('.').map(|(i, _)| i).chain([key.len()]);
    for cut in cuts {
        let Some((name, value)) = table.iter().find(|(k, _)| k.get_ref().as_ref() == &key[..cut]) else { continue };
        *found = Some(name.span().start);
        if cut == key.len() || descend_value(value, &key[cut + 1..], found) {
            return true;
        }
    }
    false
}

fn descend_value(value: &Spanned<DeValue<'_>>, rest: &str, found: &mut Option<usize>) -> bool {
    match value.get_ref() {
        DeValue::Table(t) => descend(t, rest, found),
        DeValue::Array(items) => {
            let (head, tail) = rest.split_once('.').unwrap_or((rest, ""));
            let Some(item) = head.parse().ok().and_then(|i: usize| items.get(i)) else { return false };
            *found = Some(item.span().start);
            tail.is_empty() || descend_value(item, tail, found)
        }
        _ => false,
    }
}

fn enclosing(table: &DeTable<'_>, at: usize, prefix: &str, best: &mut Option<String>) {
    for (name, value) in table {
        let dotted =
            if prefix.is_empty() { name.get_ref().to_string() } else { format!("{prefix}.{}", name.get_ref()) };
        if name.span().contains(&at) || value.span().contains(&at) {
            *best = Some(dotted.clone());
        }
        if let DeValue::Table(t) = value.get_ref() {
            enclosing(t, at, &dotted, best);
        }
    }
}

/// Serde's words in ours.
fn explain(message: &str) -> (String, String) {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let what = if message.starts_with("unknown field") {
        "key"
    } else if message.starts_with("unknown variant") {
        "value"
    } else if let (Some(rest), [name]) = (message.strip_prefix("missing field"), &quoted[..]) {
        let _ = rest;
        return (format!("the key `{name}` is missing"), format!("add `{name} = …`"));
    } else {
        return (message.to_string(), String::new());
    };
    let Some((wrong, allowed)) = quoted.split_first() else { return (message.to_string(), String::new()) };
    let list = format!("allowed here: {}", allowed.join(", "));
    let hint = match closest(wrong, allowed.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? {list}"),
        None => list,
    };
    (format!("unknown {what} `{wrong}`"), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_project_needs_is_refused_before_it_is_parsed() {
        let parse = |text: String| TomlFile::new("f.toml", text).parse::<toml::Table>();
        let deep = parse(format!("a = 1\n{}b = 1", "a.".repeat(65))).unwrap_err();
        assert_eq!((deep.line, &*deep.message), (2, "nested deeper than 64 levels"));
        assert!(parse(format!("a = {}", "[".repeat(100_000))).unwrap_err().message.contains("64 levels"));
        assert!(parse(format!("a = \"{}\"", "x".repeat(MAX_BYTES))).unwrap_err().message.contains("bytes"));
        // Brackets and dots in texts and comments are none.
        let quiet =
            ["# [0, 1) ...", r#"b = "[ \"[ ......""#, "c = '[[..'", "d = \"\"\"\n[\"[.\n\"\"\"", "e = '''['['''"];
        let text: String = (0..100).map(|n| format!("[t{n}]\n{}\n", quiet.join("\n"))).collect();
        assert_eq!(parse(text).unwrap().len(), 100);
        for cut in ["\"", "\"\\", "'", "\"\"\"", "#", "\"a\\\n"] {
            let _ = parse(cut.into());
        }
    }

    #[test]
    fn small_tables_without_end_cost_no_tree() {
        let meter = |text: String| {
            let file = TomlFile::new("f.toml", text);
            let (parsed, took) = crate::simulate::meter::measure(|| file.parse::<toml::Table>());
            assert!(took.peak > 0, "the meter is the allocator of this test");
            assert!(took.peak < 64 * file.text.len() as u64, "{} for {} bytes", took.peak, file.text.len());
            parsed.unwrap_err()
        };
        // Broken: the parser of trees would go on behind the first error and keep what it finds.
        for part in ["{.0 } }, ", "{ buc10.0 } }, ", ".0 = { ", "{b=1},"] {
            assert!(meter(format!("a = 1\nt = [\"x\", {{ {}", part.repeat(4_000))).line >= 2);
        }
        let sound = meter(format!("t = [{}]", "{b=1},".repeat(10_000)));
        assert_eq!((sound.line, &*sound.message), (1, "10000 tables in 60006 bytes"));
        assert!(meter(format!("[t]\n{}", (0..6_000).map(|n| format!("{n}.a=1\n")).collect::<String>())).line == 1);
    }
}
