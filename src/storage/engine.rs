//! The engine (sled) behind errors that say what they mean: opened in a guarded thread, panics caught, errors of the
//! machine kept apart from damage, and made durable by more than its own flush.

use super::codec::CodecError;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use understudy_actors::ports::StoreError;

/// How long a reopening waits for readers to let go of the old handle.
const HANDLE_WAIT: Duration = Duration::from_secs(5);
/// How the reason of an open that hangs begins.
pub const NOT_OPEN: &str = "not open after";

/// Turns a panic inside sled (it asserts on damaged pages) into an error.
pub fn guarded<R>(what: impl FnOnce() -> Result<R, StoreError>) -> Result<R, StoreError> {
    catch_unwind(AssertUnwindSafe(what))
        .unwrap_or_else(|_| Err(StoreError::Corrupt("the database engine panicked on damaged data".into())))
}

/// What an error of the engine says about the data. An error of the operating system says nothing about them
/// (no more files, no permission, a failing disk): what was stored may be well, so nothing is set aside.
pub fn engine(e: sled::Error) -> StoreError {
    match &e {
        sled::Error::Io(io) => classify(io, e.to_string()),
        _ => StoreError::Corrupt(e.to_string()),
    }
}

fn classify(e: &std::io::Error, text: String) -> StoreError {
    use std::io::ErrorKind::*;
    match e.kind() {
        StorageFull | QuotaExceeded => StoreError::DiskFull(text),
        // A file that is cut off or is no file any more: the content is wrong, not the machine.
        UnexpectedEof | InvalidData | IsADirectory | NotADirectory => StoreError::Corrupt(text),
        // The engine reports damaged content as errors without a number.
        Other | InvalidInput if e.raw_os_error().is_none() && !held_elsewhere(&text) => {
            // Errors that it keeps for later lose their number but not their text.
            if text.contains("code: ") { StoreError::Io(text) } else { StoreError::Corrupt(text) }
        }
        _ => StoreError::Io(text),
    }
}

/// The engine's own lock is held by a handle that is about to be dropped.
fn held_elsewhere(text: &str) -> bool {
    text.contains("could not acquire lock")
}

pub fn io(path: &Path, e: std::io::Error) -> StoreError {
    let text = format!("{}: {e}", path.display());
    match e.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => StoreError::DiskFull(text),
        _ => StoreError::Io(text),
    }
}

impl From<CodecError> for StoreError {
    fn from(e: CodecError) -> Self {
        match e {
            CodecError::Corrupt(_) => StoreError::Corrupt(e.to_string()),
            CodecError::Newer { .. } => StoreError::Newer(e.to_string()),
            e => StoreError::Io(e.to_string()),
        }
    }
}

/// Opens one sled directory in a thread of its own: it may panic on damage, or hang.
pub fn open_sled(path: &Path, cache: u64, deadline: Duration) -> Result<sled::Db, StoreError> {
    let started = Instant::now();
    loop {
        match open_once(path, cache, deadline) {
            // A reader that still has the old handle keeps it for a page at most.
            Err(StoreError::Io(e)) if held_elsewhere(&e) && started.elapsed() < HANDLE_WAIT.min(deadline) => {
                std::thread::park_timeout(Duration::from_millis(2));
            }
            result => return result,
        }
    }
}

fn open_once(path: &Path, cache: u64, deadline: Duration) -> Result<sled::Db, StoreError> {
    let (tx, rx) = mpsc::channel();
    let owned = path.to_owned();
    let work = move || {
        let opened = guarded(|| {
            // Flushing is the writer's business: the background flusher only logs its errors.
            let config = sled::Config::new().path(&owned).flush_every_ms(None).cache_capacity(cache);
            let db = config.open().map_err(engine)?;
            settle(&owned)?;
            Ok(db)
        });
        let _ = tx.send(opened);
    };
    std::thread::Builder::new()
        .name("store-open".into())
        .spawn(work)
        .map_err(|e| StoreError::Io(format!("{}: no thread to open it: {e}", path.display())))?;
    rx.recv_timeout(deadline)
        .unwrap_or_else(|_| Err(StoreError::Corrupt(format!("{NOT_OPEN} {} s", deadline.as_secs_f32()))))
}

/// Makes what the engine wrote at open durable before anything is built on it: it syncs neither its settings nor the
/// names of its snapshots, and an old snapshot beside a log that has moved on is taken for damage.
fn settle(path: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(path).map_err(|e| io(path, e))? {
        let file = entry.map_err(|e| io(path, e))?.path();
        if file.is_file() {
            fs::File::open(&file).and_then(|f| f.sync_all()).map_err(|e| io(&file, e))?;
        }
    }
    sync_dir(path)
}

pub fn sync_dir(path: &Path) -> Result<(), StoreError> {
    fs::File::open(path).and_then(|d| d.sync_all()).map_err(|e| io(path, e))
}

/// `flush`, and with `power` also `fdatasync`, which sled's flush is not.
pub fn make_durable(db: &sled::Db, path: &Path, power: bool) -> Result<(), StoreError> {
    db.flush().map_err(engine)?;
    if power {
        let file = path.join("db");
        fs::File::open(&file).and_then(|f| f.sync_data()).map_err(|e| io(&file, e))?;
    }
    Ok(())
}
