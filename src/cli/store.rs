//! `store`: a stopped server's data directory, offline. A running server's is refused, with its pid and host.

use super::args::StoreCommand;
use super::error::{CliError, FINDINGS, Result, at_path};
use super::output::{count, json, line, put};
use super::target::Context;
use crate::storage::probe::{PARTS, probe};
use crate::storage::transfer::{self, Moved};
use crate::storage::{self, OpenError, StoreOptions};
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(Serialize)]
struct Part {
    part: &'static str,
    records: usize,
    findings: Vec<String>,
}

#[derive(Serialize)]
struct Verified {
    dir: PathBuf,
    clean: bool,
    parts: Vec<Part>,
}

pub fn run(ctx: &Context, command: &StoreCommand) -> Result {
    match command {
        StoreCommand::Verify { dir, scratch } => verify(ctx, &data(dir)?, scratch.as_deref()),
        StoreCommand::Export { dir, to } => moved(ctx, transfer::export(&data(dir)?, options(dir), to), "exported"),
        StoreCommand::Import { dir, from } => moved(ctx, transfer::import(from, dir, &options(dir)), "imported"),
        StoreCommand::Compact { dir } => {
            let data = data(dir)?;
            let before = size(&data);
            moved(ctx, transfer::compact(&data, &options(dir)), "compacted")?;
            ctx.note(&format!("{} bytes on disk before, {} now", count(before), count(size(&data))));
            Ok(())
        }
        StoreCommand::Snapshot { dir, to } => {
            transfer::snapshot(&data(dir)?, to).map_err(refused)?;
            line(&format!("copied to {}", to.display()));
            Ok(())
        }
    }
}

/// The data directory that was named, or that of the project that was named.
fn data(dir: &Path) -> Result<PathBuf> {
    let data = match dir.join("understudy.toml").is_file() {
        true => dir.join(super::config::load(dir)?.settings.storage.dir),
        false => dir.to_owned(),
    };
    if PARTS.iter().any(|p| data.join(p).is_dir()) {
        return Ok(data);
    }
    Err(CliError::new(format!("{} holds no logs", data.display())).hint("name the data directory, or its project"))
}

fn options(dir: &Path) -> StoreOptions {
    let defaults = StoreOptions { free_floor: 0, ..StoreOptions::default() };
    match super::config::load(dir) {
        Ok(p) => StoreOptions { segment_bytes: p.settings.storage.segment_bytes, ..defaults },
        Err(_) => defaults,
    }
}

fn verify(ctx: &Context, data: &Path, scratch: Option<&Path>) -> Result {
    let held = storage::hold(data).map_err(refused)?;
    let scratch = scratch.map_or_else(|| data.join(format!("verify-{}", std::process::id())), Path::to_path_buf);
    let result = parts(data, &scratch);
    if scratch.exists() {
        std::fs::remove_dir_all(&scratch).map_err(at_path(&scratch, "remove"))?;
    }
    drop(held);
    let parts = result?;
    let clean = parts.iter().all(|p| p.findings.is_empty());
    let n: usize = parts.iter().map(|p| p.findings.len()).sum();
    if ctx.json {
        json(&Verified { dir: data.to_owned(), clean, parts });
    } else {
        for p in &parts {
            put(&format!("{:12} {:>14} records  {} findings\n", p.part, count(p.records as u64), p.findings.len()));
            put(&p.findings.iter().map(|f| format!("    {f}\n")).collect::<String>());
        }
    }
    if clean {
        return Ok(());
    }
    let e = CliError::new(format!("{n} findings in {}; every other record is intact and is served", data.display()))
        .hint("docs/operations.md, \"A damaged store\", says what each means");
    Err(CliError { exit: FINDINGS, ..e })
}

/// Opens and reads a copy of each part: the engine writes when it opens, above all on damaged data.
fn parts(data: &Path, scratch: &Path) -> Result<Vec<Part>> {
    let mut all = Vec::new();
    for part in PARTS.into_iter().filter(|p| data.join(p).exists()) {
        storage::copy_part(data, part, scratch).map_err(|e| refused(e.into()))?;
        let options = StoreOptions { free_floor: 0, ..StoreOptions::default() };
        let (records, findings) = match probe(scratch, part, &options) {
            Ok(p) => (p.served.len(), p.findings),
            Err(e) => (0, vec![e.to_string()]),
        };
        let copy = scratch.display().to_string();
        let findings = findings.into_iter().map(|f| f.replace(&copy, &data.display().to_string())).collect();
        std::fs::remove_dir_all(scratch).map_err(at_path(scratch, "remove"))?;
        all.push(Part { part, records, findings });
    }
    Ok(all)
}

fn moved(ctx: &Context, result: std::result::Result<Moved, OpenError>, word: &str) -> Result {
    let moved = result.map_err(refused)?;
    if ctx.json {
        json(&moved);
    } else {
        line(&format!("{word} {} blocks, {} bytes", count(moved.blocks), count(moved.bytes)));
    }
    if moved.findings.is_empty() {
        return Ok(());
    }
    let e = CliError::new("damaged blocks are left out of it; a compaction changed nothing");
    Err(CliError { exit: FINDINGS, ..e.details(moved.findings) })
}

fn size(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|e| if e.path().is_dir() { size(&e.path()) } else { e.metadata().map_or(0, |m| m.len()) }).sum()
}

fn refused(e: OpenError) -> CliError {
    CliError::new(e.to_string())
}
