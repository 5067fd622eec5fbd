//! Open connections: how many one address may have, and none that does nothing for long.
//!
//! actix-web times the first head of a connection and the pause between requests, but not the head of a later
//! request nor a client that does not read its answer. So each connection notes when its last request ended, and
//! a sweep shuts down those that have been at nothing for too long; the worker reads the end and drops them.

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::HttpRequest;
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use std::any::Any;
use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

/// Between two sweeps.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// `since` of a connection with a request in work.
const BUSY: u64 = u64::MAX;

/// Open connections; shared by all workers.
pub struct Connections {
    born: Instant,
    by_address: Mutex<HashMap<IpAddr, usize>>,
    all: Mutex<Vec<Weak<Connection>>>,
    open: AtomicU64,
    refused: AtomicU64,
    swept: AtomicU64,
}

/// One connection; its drop, with the connection's data, counts it out.
pub struct Connection {
    all: Arc<Connections>,
    address: Option<IpAddr>,
    /// A second descriptor of the socket, to shut it down with.
    socket: OwnedFd,
    /// Milliseconds after `born` at which the last request ended, or the connection began.
    since: AtomicU64,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.all.open.fetch_sub(1, Relaxed);
        let Some(address) = self.address else { return };
        let mut by_address = self.all.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(n) = by_address.get_mut(&address) {
            *n -= 1;
            if *n == 0 {
                by_address.remove(&address);
            }
        }
    }
}

/// A request in work on a connection.
pub struct InWork(Option<Arc<Connection>>);

impl InWork {
    pub fn on(http: &HttpRequest) -> InWork {
        let connection = http.conn_data::<Arc<Connection>>().cloned();
        if let Some(c) = &connection {
            c.since.store(BUSY, Relaxed);
        }
        InWork(connection)
    }
}

impl Drop for InWork {
    fn drop(&mut self) {
        if let Some(c) = &self.0 {
            c.since.store(c.all.now(), Relaxed);
        }
    }
}

impl Default for Connections {
    fn default() -> Self {
        Connections {
            born: Instant::now(),
            by_address: Mutex::default(),
            all: Mutex::default(),
            open: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            swept: AtomicU64::new(0),
        }
    }
}

impl Connections {
    fn now(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(0)
    }

    /// Open now; since the start: closed because their address had too many, and because they did nothing.
    pub fn counts(&self) -> (u64, u64, u64) {
        (self.open.load(Relaxed), self.refused.load(Relaxed), self.swept.load(Relaxed))
    }

    /// To be called for each accepted connection. `most` is per address; 0 is no limit.
    pub fn accept(self: &Arc<Self>, io: &dyn Any, data: &mut Extensions, most: usize) {
        let Some(stream) = tcp(io) else { return };
        let Ok(socket) = stream.as_fd().try_clone_to_owned() else {
            // No descriptor is left for us: then there is none for this connection either.
            let _ = rustix::net::shutdown(stream, rustix::net::Shutdown::Both);
            return;
        };
        self.open.fetch_add(1, Relaxed);
        let address = stream.peer_addr().ok().map(|a| a.ip()).filter(|_| most > 0);
        if let Some(address) = address {
            let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
            let n = by_address.entry(address).or_insert(0);
            *n += 1;
            if *n > most {
                self.refused.fetch_add(1, Relaxed);
                let _ = rustix::net::shutdown(stream, rustix::net::Shutdown::Both);
            }
        }
        let connection = Arc::new(Connection { all: self.clone(), address, socket, since: AtomicU64::new(self.now()) });
        self.all.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&connection));
        data.insert(connection);
    }

    /// Shuts down what has been at nothing for longer than `idle`.
    fn sweep(&self, idle: Duration) {
        let (now, idle) = (self.now(), u64::try_from(idle.as_millis()).unwrap_or(u64::MAX));
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let mut closed = Vec::new();
        all.retain(|weak| {
            let Some(connection) = weak.upgrade() else { return false };
            let since = connection.since.load(Relaxed);
            if since != BUSY && now.saturating_sub(since) > idle {
                self.swept.fetch_add(1, Relaxed);
                let _ = rustix::net::shutdown(&connection.socket, rustix::net::Shutdown::Both);
                closed.push(connection);
                return false;
            }
            true
        });
    }

    /// Sweeps until the runtime ends.
    pub async fn keep_sweeping(self: Arc<Self>, idle: Duration) {
        let mut ticks = actix_web::rt::time::interval(SWEEP_EVERY.min(idle));
        loop {
            ticks.tick().await;
            self.sweep(idle);
        }
    }
}

fn tcp(io: &dyn Any) -> Option<&TcpStream> {
    io.downcast_ref::<TcpStream>().or_else(|| Some(io.downcast_ref::<TlsStream<TcpStream>>()?.get_ref().0))
}

/// Lets the process open as many files as it may, and returns how many that is: connections are files.
pub fn raise_file_limit() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: now.maximum, maximum: now.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => now.maximum.or(now.current).unwrap_or(u64::MAX),
        Err(_) => now.current.unwrap_or(1024),
    }
}
