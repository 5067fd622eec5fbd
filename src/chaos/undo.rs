//! A power cut: reads what the layer logged and takes back what was not synced before it.
//!
//! The data of a file are safe from its last `fsync` or `fdatasync` on; a name (created, renamed, removed) is
//! safe once its directory was synced. That is the strict reading of POSIX; real file systems keep more.

use super::Random;
use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{DirEntryExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Fixed part of a record.
const HEAD: usize = 37;
/// A disk writes sectors whole.
const SECTOR: usize = 512;

/// What a cut took back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    pub writes: u64,
    pub bytes: u64,
    pub names: u64,
}

#[derive(Debug)]
struct Record {
    kind: u8,
    a: PathBuf,
    b: PathBuf,
    inode: u64,
    offset: u64,
    size: u64,
    old: Vec<u8>,
    new: Vec<u8>,
}

impl Record {
    /// Changes the data of a file, not a name.
    fn is_data(&self) -> bool {
        matches!(self.kind, b'w' | b't')
    }
    fn is_name(&self) -> bool {
        matches!(self.kind, b'c' | b'm' | b'r' | b'u')
    }
    /// The directory that must be synced for the name to last.
    fn parent(&self) -> Option<&Path> {
        if self.kind == b'r' { self.b.parent() } else { self.a.parent() }
    }
}

/// The records; one that the kill cut off is not there, and its change was not made either.
fn parse(bytes: &[u8]) -> Vec<Record> {
    let (mut all, mut at) = (Vec::new(), 0);
    let number = |b: &[u8]| b.iter().rev().fold(0u64, |n, x| n << 8 | u64::from(*x));
    while let Some(head) = bytes.get(at..at + HEAD) {
        let lengths = [number(&head[1..3]), number(&head[3..5]), number(&head[29..33]), number(&head[33..37])];
        let mut from = at + HEAD;
        let mut parts = Vec::new();
        for n in lengths {
            let Some(part) = bytes.get(from..from + n as usize) else { return all };
            parts.push(part.to_vec());
            from += n as usize;
        }
        let path = |p: &[u8]| PathBuf::from(String::from_utf8_lossy(p).into_owned());
        let new = parts.pop().unwrap_or_default();
        let old = parts.pop().unwrap_or_default();
        all.push(Record {
            kind: head[0],
            a: path(&parts[0]),
            b: path(&parts[1]),
            inode: number(&head[5..13]),
            offset: number(&head[13..21]),
            size: number(&head[21..29]),
            old,
            new,
        });
        at = from;
    }
    all
}

/// Records that no later sync covers, in order.
fn unsynced(all: Vec<Record>) -> Vec<Record> {
    let (mut files, mut dirs) = (HashMap::new(), HashMap::new());
    for (i, r) in all.iter().enumerate() {
        match r.kind {
            b's' => drop(files.insert(r.inode, i)),
            b'd' => drop(dirs.insert(r.a.clone(), i)),
            _ => {}
        }
    }
    let kept = |(i, r): &(usize, Record)| {
        if r.is_data() {
            files.get(&r.inode).is_none_or(|s| s < i)
        } else {
            r.is_name() && r.parent().and_then(|p| dirs.get(p)).is_none_or(|s| s < i)
        }
    };
    all.into_iter().enumerate().filter(kept).map(|(_, r)| r).collect()
}

/// Every file below `dir`, and every one that the layer kept, by inode.
fn by_inode(log: &Path, dir: &Path) -> Result<HashMap<u64, PathBuf>, String> {
    fn walk(dir: &Path, out: &mut HashMap<u64, PathBuf>) -> std::io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                walk(&entry.path(), out)?;
            } else {
                out.insert(entry.ino(), entry.path());
            }
        }
        Ok(())
    }
    let mut out = HashMap::new();
    for path in kept(log)? {
        let meta = fs::metadata(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        out.insert(meta.ino(), path);
    }
    walk(dir, &mut out).map_err(|e| format!("{}: {e}", dir.display()))?;
    Ok(out)
}

/// Links that the layer made of files that were removed or replaced.
fn kept(log: &Path) -> Result<Vec<PathBuf>, String> {
    let (Some(dir), Some(name)) = (log.parent(), log.file_name()) else { return Ok(Vec::new()) };
    let start = format!("{}.", name.to_string_lossy());
    let entries = fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let mine = |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&start));
    Ok(entries.filter_map(|e| e.ok().map(|e| e.path())).filter(mine).collect())
}

/// Takes back what the log at `log` has about files below `dir` that was not synced.
pub fn cut(log: &Path, dir: &Path, mut some: Option<&mut Random>) -> Result<Cut, String> {
    let bytes = fs::read(log).map_err(|e| format!("{}: {e}", log.display()))?;
    let lost = unsynced(parse(&bytes));
    let paths = by_inode(log, dir)?;
    let mut cut = Cut::default();
    for r in lost.iter().rev().filter(|r| r.is_data()) {
        let Some(path) = paths.get(&r.inode) else { continue };
        take_back(path, r).map_err(|e| format!("{}: {e}", path.display()))?;
        cut.writes += 1;
        cut.bytes += r.new.len() as u64;
    }
    if let Some(random) = some.as_deref_mut() {
        for r in lost.iter().filter(|r| r.kind == b'w') {
            let Some(path) = paths.get(&r.inode) else { continue };
            // A third is lost, a third arrives, a third is torn at a sector.
            let n = match random.below(3) {
                0 => continue,
                1 => r.new.len(),
                _ => random.below(r.new.len() as u64 / SECTOR as u64 + 1) as usize * SECTOR,
            };
            let file = OpenOptions::new().write(true).open(path).map_err(|e| format!("{}: {e}", path.display()))?;
            file.write_all_at(&r.new[..n], r.offset).map_err(|e| format!("{}: {e}", path.display()))?;
        }
    }
    // Names last in order: a journal keeps the first few of them.
    let names: Vec<&Record> = lost.iter().filter(|r| r.is_name()).collect();
    let first = some.map_or(0, |random| random.below(names.len() as u64 + 1) as usize);
    for r in names[first..].iter().rev() {
        take_name_back(log, r).map_err(|e| format!("{}: {e}", r.a.display()))?;
        cut.names += 1;
    }
    Ok(cut)
}

fn take_back(path: &Path, r: &Record) -> std::io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.write_all_at(&r.old, r.offset)?;
    if r.kind == b't' || file.metadata()?.len() > r.size {
        file.set_len(r.size)?;
    }
    Ok(())
}

fn take_name_back(log: &Path, r: &Record) -> std::io::Result<()> {
    let saved = PathBuf::from(format!("{}.{}", log.display(), r.offset));
    match r.kind {
        b'c' if r.a.exists() => fs::remove_file(&r.a),
        b'm' if r.a.exists() => fs::remove_dir_all(&r.a),
        b'r' if r.b.exists() => {
            fs::rename(&r.b, &r.a)?;
            if r.offset > 0 { fs::hard_link(saved, &r.b) } else { Ok(()) }
        }
        b'u' if !r.a.exists() && r.a.parent().is_some_and(Path::exists) => fs::hard_link(saved, &r.a),
        _ => Ok(()),
    }
}

/// Removes the log and what was kept with it.
pub fn forget(log: &Path) -> Result<(), String> {
    for path in kept(log)?.into_iter().chain([log.to_owned()]) {
        if path.exists() {
            fs::remove_file(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, a: &str, b: &str, inode: u64) -> Record {
        let (old, new) = (Vec::new(), Vec::new());
        Record { kind, a: a.into(), b: b.into(), inode, offset: 0, size: 0, old, new }
    }

    #[test]
    fn a_sync_covers_what_came_before_it_in_the_same_file_or_directory() {
        let all = vec![
            record(b'c', "/d/x", "", 0),
            record(b'w', "/d/x", "", 7),
            record(b'w', "/d/y", "", 8),
            record(b's', "/d/x", "", 7),
            record(b'w', "/d/x", "", 7),
            record(b'd', "/d", "", 1),
            record(b'r', "/d/x", "/d/z", 0),
        ];
        let left: Vec<(u8, u64)> = unsynced(all).iter().map(|r| (r.kind, r.inode)).collect();
        assert_eq!(left, [(b'w', 8), (b'w', 7), (b'r', 0)]);
    }

    #[test]
    fn a_record_that_was_cut_off_is_not_read() {
        let mut head = [0u8; HEAD];
        head[0] = b'w';
        head[1] = 2;
        head[33] = 3;
        let whole = [&head[..], b"/x", b"new"].concat();
        let all = parse(&[&whole[..], &whole[..whole.len() - 1]].concat());
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].a.as_path(), &all[0].new[..]), (Path::new("/x"), &b"new"[..]));
    }
}
