//! Rules of the source that the compiler does not check.

use crate::support::SOURCE;
use std::path::{Path, PathBuf};

/// A file says one thing; longer ones must be named here.
const MAX_LINES: usize = 450;
const LONGER: [&str; 0] = [];

/// Every Rust file below a folder, with its text.
fn sources(folder: &str) -> Vec<(String, String)> {
    fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).expect("a folder") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true if path.file_name().is_some_and(|n| n != "target") => walk(&path, out),
                false if path.extension().is_some_and(|e| e == "rs") => out.push(path),
                _ => {}
            }
        }
    }
    let root = Path::new(SOURCE);
    let mut paths = Vec::new();
    walk(&root.join(folder), &mut paths);
    paths.sort();
    assert!(!paths.is_empty(), "{folder} has no sources");
    let name = |p: &Path| p.strip_prefix(root).expect("below the root").display().to_string();
    paths.iter().map(|p| (name(p), std::fs::read_to_string(p).expect("UTF-8"))).collect()
}

/// Lines of code (not of comments) that name one of `words` as whole words.
fn naming(files: &[(String, String)], words: &[&str]) -> Vec<String> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let names = |line: &str, word: &str| {
        line.match_indices(word).any(|(at, _)| {
            !line[..at].chars().next_back().is_some_and(part)
                && !line[at + word.len()..].chars().next().is_some_and(part)
        })
    };
    let mut found = Vec::new();
    for (file, text) in files {
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            found.extend(words.iter().filter(|w| names(code, w)).map(|w| format!("{file}:{}: {w}", number + 1)));
        }
    }
    found
}

fn none(found: Vec<String>, why: &str) {
    assert!(found.is_empty(), "{why}:\n{}", found.join("\n"));
}

#[test]
fn the_domain_is_pure() {
    let impure = ["std::fs", "std::net", "std::env", "SystemTime", "Instant", "rand", "tokio"];
    none(naming(&sources("domain"), &impure), "the domain does no I/O and reads no clock, environment or randomness");
}

#[test]
fn actors_do_not_know_what_implements_their_ports() {
    let concrete = ["sled", "candle_core", "candle_nn", "candle", "actix_web", "std::fs", "std::net"];
    none(naming(&sources("actors"), &concrete), "the actors own ports; src implements them");
}

#[test]
fn bincode_stands_in_one_file() {
    let mut files = sources("src");
    files.retain(|(name, _)| name != "src/storage/codec.rs");
    none(naming(&files, &["bincode"]), "record bodies have one codec");
}

#[test]
fn files_are_short_and_finished() {
    // Put together here, so that this file does not name itself.
    let unfinished =
        [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["to", "do!("].concat(), ["unimple", "mented!("].concat()];
    let mut wrong = Vec::new();
    for (name, text) in ["src", "actors", "domain", "tests"].into_iter().flat_map(sources) {
        let lines = text.lines().count();
        if lines > MAX_LINES && !LONGER.contains(&name.as_str()) {
            wrong.push(format!("{name}: {lines} lines, at most {MAX_LINES}"));
        }
        wrong.extend(unfinished.iter().filter(|w| text.contains(*w)).map(|w| format!("{name}: {w}")));
        if !name.ends_with("tests.rs") && !text.starts_with("//!") {
            wrong.push(format!("{name}: no header that says what it is for"));
        }
    }
    none(wrong, "one file, one thing, finished");
}

#[test]
fn words_are_found_whole_and_only_in_code() {
    let files = [("a.rs".to_owned(), "use std::fs;\n// std::fs\nlet operand = rand();".to_owned())];
    assert_eq!(naming(&files, &["std::fs", "rand"]), ["a.rs:1: std::fs", "a.rs:3: rand"]);
}
