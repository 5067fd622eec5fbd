//! Group commit: one thread per log owns the writing. It takes what is queued (it never waits for
//! more), writes it as blocks, makes it durable, moves the watermark, then answers the callers.

use super::log::{Layout, LogFiles};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::sync::oneshot;
use understudy_actors::ports::{Commit, StoreError};

/// Records of one commit, unless a single append brings more.
const GROUP: usize = 1024;

/// Counters of one log since it was opened.
#[derive(Default)]
pub struct Counters {
    pub commits: AtomicU64,
    pub records: AtomicU64,
    pub bytes: AtomicU64,
    pub failures: AtomicU64,
    pub last_commit_us: AtomicU64,
}

/// A reading of `Counters`, and the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterStats {
    pub commits: u64,
    pub records: u64,
    /// Bytes given to the engine, after compression.
    pub bytes: u64,
    /// Groups that were not made durable; their callers got the error.
    pub failures: u64,
    /// Duration of the last commit in microseconds.
    pub last_commit_us: u64,
    /// Records waiting now.
    pub queued: u64,
}

type Reply = oneshot::Sender<Result<(), StoreError>>;

struct Append<T: Layout> {
    records: Vec<T::Item>,
    reply: Reply,
}

pub struct Writer<T: Layout> {
    tx: Mutex<Option<mpsc::Sender<Append<T>>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    queued: Arc<AtomicUsize>,
    limit: usize,
    counters: Arc<Counters>,
}

impl<T: Layout> Writer<T> {
    pub fn start(files: Arc<LogFiles<T>>, limit: usize) -> Result<Self, StoreError> {
        let (tx, rx) = mpsc::channel();
        let (queued, counters) = (Arc::new(AtomicUsize::new(0)), Arc::new(Counters::default()));
        let (q, c) = (queued.clone(), counters.clone());
        let thread = std::thread::Builder::new()
            .name(format!("log-{}", T::NAME))
            .spawn(move || run(&files, &rx, &q, &c))
            .map_err(|e| StoreError::Io(format!("no thread for the {} log: {e}", T::NAME)))?;
        Ok(Writer { tx: Mutex::new(Some(tx)), thread: Mutex::new(Some(thread)), queued, limit, counters })
    }

    pub fn append(&self, records: Vec<T::Item>) -> Commit {
        let (reply, commit) = oneshot::channel();
        let n = records.len();
        // An append larger than the whole queue may still pass when nothing waits.
        let room = self.queued.fetch_update(Relaxed, Relaxed, |q| (q == 0 || q + n <= self.limit).then_some(q + n));
        if room.is_err() {
            let _ = reply.send(Err(StoreError::Full));
            return commit;
        }
        let tx = self.tx.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = match &*tx {
            Some(tx) => tx.send(Append { records, reply }).err().map(|e| e.0.reply),
            None => Some(reply),
        };
        if let Some(reply) = refused {
            self.queued.fetch_sub(n, Relaxed);
            let _ = reply.send(Err(StoreError::Closed));
        }
        commit
    }

    pub fn stats(&self) -> WriterStats {
        let c = &self.counters;
        WriterStats {
            commits: c.commits.load(Relaxed),
            records: c.records.load(Relaxed),
            bytes: c.bytes.load(Relaxed),
            failures: c.failures.load(Relaxed),
            last_commit_us: c.last_commit_us.load(Relaxed),
            queued: self.queued.load(Relaxed) as u64,
        }
    }

    /// Refuses new appends, commits what is queued, and joins the thread.
    pub fn close(&self) {
        self.tx.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

fn run<T: Layout>(files: &LogFiles<T>, rx: &mpsc::Receiver<Append<T>>, queued: &AtomicUsize, counters: &Counters) {
    while let Ok(first) = rx.recv() {
        let (mut records, mut replies) = (Vec::new(), Vec::new());
        let mut next = Some(first);
        let mut taken = 0;
        // One append that breaks the log's order is refused alone; the rest of the group goes on.
        while let Some(Append { records: more, reply }) = next {
            taken += more.len();
            match T::check(&more, files.position() + records.len() as u64) {
                Ok(()) => {
                    records.extend(more);
                    replies.push(reply);
                }
                Err(e) => drop(reply.send(Err(e))),
            }
            next = if taken < GROUP { rx.try_recv().ok() } else { None };
        }
        let started = Instant::now();
        let n = records.len() as u64;
        let result = if n == 0 { Ok(0) } else { files.commit(records) };
        counters.last_commit_us.store(started.elapsed().as_micros() as u64, Relaxed);
        match &result {
            Ok(bytes) if n > 0 => {
                counters.commits.fetch_add(1, Relaxed);
                counters.records.fetch_add(n, Relaxed);
                counters.bytes.fetch_add(*bytes, Relaxed);
            }
            Ok(_) => {}
            Err(_) => drop(counters.failures.fetch_add(1, Relaxed)),
        }
        queued.fetch_sub(taken, Relaxed);
        let result = result.map(|_| ());
        for reply in replies {
            let _ = reply.send(result.clone());
        }
    }
}
