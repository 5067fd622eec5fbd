//! Every byte of a store flipped in turn, and every file cut at every byte: each case is opened and read as the
//! server does it, and either says what is wrong or serves every record as it was written.

use super::Findings;
use crate::storage::probe::{PARTS, Probe, probe};
use crate::storage::{Durability, Store, StoreOptions, sample};
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A file of the store: its part, its path below the store, its bytes.
struct Stored {
    part: &'static str,
    path: PathBuf,
    bytes: Vec<u8>,
}

/// The one file of a part that stands beside its directory.
const STATE_MARK: &str = "state.watermark";

fn options(bytes: u64) -> StoreOptions {
    StoreOptions {
        durability: Durability::Process,
        segment_bytes: bytes / 4,
        cache_bytes: 1 << 20,
        free_floor: 0,
        open_deadline: Duration::from_secs(20),
        ..StoreOptions::default()
    }
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> String {
    let path = path.display().to_string();
    move |e| format!("{path}: {e}")
}

/// Writes records of all sorts until the files hold about `bytes`.
fn fill(dir: &Path, bytes: u64) -> Result<(), String> {
    let store = Store::open(dir, options(bytes)).map_err(|e| e.to_string())?;
    let wait =
        |c: understudy_actors::ports::Commit| c.blocking_recv().map_err(|e| e.to_string())?.map_err(|e| e.to_string());
    let mut n = 0u64;
    while size(dir)? < bytes {
        let (events, predictions): (Vec<_>, Vec<_>) =
            (n * 20..(n + 1) * 20).map(|i| (sample::event(i + 1, 60), sample::prediction(i * 7, i, "m"))).unzip();
        wait(store.events().append(events))?;
        wait(store.predictions().append(predictions.into_iter().map(std::sync::Arc::new).collect()))?;
        wait(store.outcomes().append((n * 20..(n + 1) * 20).map(sample::outcome).collect()))?;
        if n.is_multiple_of(4) {
            let states = (0..4).map(|i| (understudy_domain::entity::EntityHash(n as u128 + i), sample::state(20)));
            store.features().save(0, n * 20, states.collect()).map_err(|e| e.to_string())?;
        }
        n += 1;
    }
    store.close();
    Ok(())
}

fn size(dir: &Path) -> Result<u64, String> {
    Ok(read(dir)?.iter().map(|f| f.bytes.len() as u64).sum())
}

fn read(root: &Path) -> Result<Vec<Stored>, String> {
    fn walk(root: &Path, dir: &Path, part: &'static str, out: &mut Vec<Stored>) -> Result<(), String> {
        for entry in fs::read_dir(dir).map_err(at(dir))? {
            let path = entry.map_err(at(dir))?.path();
            if path.is_dir() {
                walk(root, &path, part, out)?;
            } else {
                let bytes = fs::read(&path).map_err(at(&path))?;
                let path = path.strip_prefix(root).map_err(|e| e.to_string())?.to_owned();
                out.push(Stored { part, path, bytes });
            }
        }
        Ok(())
    }
    let mut out = Vec::new();
    for part in PARTS {
        walk(root, &root.join(part), part, &mut out)?;
    }
    let mark = root.join(STATE_MARK);
    out.push(Stored { part: "state", path: STATE_MARK.into(), bytes: fs::read(&mark).map_err(at(&mark))? });
    out.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(out)
}

/// Writes a part's files anew, one of them damaged.
fn lay_out(root: &Path, part: &str, files: &[Stored], damaged: usize, bytes: &[u8]) -> Result<(), String> {
    if root.exists() {
        fs::remove_dir_all(root).map_err(at(root))?;
    }
    for (i, file) in files.iter().enumerate().filter(|(_, f)| f.part == part) {
        let path = root.join(&file.path);
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).map_err(at(dir))?;
        }
        fs::write(&path, if i == damaged { bytes } else { &file.bytes }).map_err(at(&path))?;
    }
    Ok(())
}

/// Flips, then truncations, of every `every`-th byte.
fn case(file: &Stored, n: u64) -> (Vec<u8>, String) {
    let len = file.bytes.len() as u64;
    let i = (n % len) as usize;
    if n < len {
        let mut bytes = file.bytes.clone();
        bytes[i] ^= 1 << (i % 8);
        (bytes, format!("{} byte {i} flipped", file.path.display()))
    } else {
        (file.bytes[..i].to_vec(), format!("{} cut at {i}", file.path.display()))
    }
}

fn judge(good: &Probe, got: Result<Probe, String>, what: &str, found: &mut Findings) {
    let got = match got {
        Ok(got) => got,
        Err(_) => return found.found += 1,
    };
    let known: HashSet<u128> = good.served.iter().copied().collect();
    let mut seen = HashSet::new();
    for hash in &got.served {
        if !known.contains(hash) {
            found.wrong(what, || format!("{what}: a record was served that was never written"));
        } else if !seen.insert(hash) {
            found.duplicated(what, || format!("{what}: a record was served twice"));
        }
    }
    found.served += got.served.len() as u64;
    found.served_at_most += good.served.len() as u64;
    if !got.findings.is_empty() {
        found.found += 1;
    } else if got.served.len() == good.served.len() {
        found.harmless += 1;
    } else {
        found.lost(what, || format!("{what}: {} of {} records, and no word", got.served.len(), good.served.len()));
    }
}

/// Damages a store of about `bytes` in every `every`-th byte.
pub fn run(bytes: u64, every: u64, work: &Path, progress: &mut dyn FnMut(u64, &Findings)) -> Result<Findings, String> {
    // In memory if the machine has a place for it: a million opens write a lot.
    let memory = Path::new("/dev/shm").join(format!("understudy-flip-{}", std::process::id()));
    let work = if fs::create_dir(&memory).is_ok() { memory.clone() } else { work.to_owned() };
    let hook = std::panic::take_hook();
    // The engine asserts on damaged pages; every one of these panics is caught and counted as found.
    std::panic::set_hook(Box::new(|_| ()));
    let result = campaign(bytes, every, &work, progress);
    std::panic::set_hook(hook);
    let _ = fs::remove_dir_all(&memory);
    result
}

fn campaign(bytes: u64, every: u64, work: &Path, progress: &mut dyn FnMut(u64, &Findings)) -> Result<Findings, String> {
    let golden = work.join("golden");
    fill(&golden, bytes)?;
    let files = read(&golden)?;
    let options = options(bytes);
    let mut good = Vec::new();
    for part in PARTS {
        let p = probe(&golden, part, &options).map_err(|e| format!("{part}: {e}"))?;
        if !p.findings.is_empty() || p.served.is_empty() {
            return Err(format!("the undamaged {part} are not well: {:?}", p.findings));
        }
        good.push(p);
    }
    // Every case as (file, number of the case): flips and cuts of each file.
    let cases: Vec<(usize, u64)> = files
        .iter()
        .enumerate()
        .flat_map(|(f, file)| (0..2 * file.bytes.len() as u64).step_by(every as usize).map(move |n| (f, n)))
        .collect();
    let found = Findings { acknowledged: good.iter().map(|p| p.served.len() as u64).sum(), ..Findings::default() };
    let (found, next) = (Mutex::new(found), AtomicU64::new(0));
    let threads = std::thread::available_parallelism().map_or(2, usize::from) as u64;
    let one = |thread: u64| -> Result<(), String> {
        let root = work.join(format!("case-{thread}"));
        loop {
            let Some((f, n)) = cases.get(next.fetch_add(1, Relaxed) as usize).copied() else { return Ok(()) };
            let (damaged, what) = case(&files[f], n);
            let part = files[f].part;
            lay_out(&root, part, &files, f, &damaged)?;
            let started = Instant::now();
            let got = probe(&root, part, &options).map_err(|e| e.to_string());
            let took = started.elapsed().as_millis() as u64;
            let which = PARTS.iter().position(|p| *p == part).unwrap_or(0);
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            found.runs += 1;
            found.recovery_ms_max = found.recovery_ms_max.max(took);
            judge(&good[which], got, &what, &mut found);
        }
    };
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads).map(|t| scope.spawn(move || one(t))).collect();
        while all.iter().any(|t| !t.is_finished()) {
            std::thread::park_timeout(Duration::from_millis(20));
            let found = found.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if found.runs > 0 {
                progress(found.runs, &found);
            }
        }
        all.into_iter().try_for_each(|t| t.join().map_err(|_| "a thread panicked".to_owned())?)
    })?;
    Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
}
