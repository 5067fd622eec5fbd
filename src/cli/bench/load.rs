//! Closed-loop load: every connection always has exactly one request under way. The client is
//! raw HTTP/1.1 over kept connections, a few threads with many connections each, so that its own
//! share of the machine stays small; that share is measured and taken off.

use super::cpu;
use super::histogram::Histogram;
use actix_web::rt;
use rt::net::TcpStream;
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Threads of the client.
const THREADS: usize = 2;
/// No answer for so long ends a connection as failed.
const STUCK: Duration = Duration::from_secs(10);

/// What the connections send.
pub trait Requests: Send + Sync {
    /// Writes request number `n` of the whole run, head and body, into an empty buffer.
    fn write(&self, n: u64, into: &mut Vec<u8>);
}

/// Result of one slice of time.
pub struct Slice {
    pub latencies: Histogram,
    /// Answers with a status that is no success.
    pub refused: u64,
    /// Text of the first refused answer.
    pub example: String,
    /// Broken connections.
    pub failed: u64,
    pub wall: Duration,
    /// CPU time of the client's threads, in seconds.
    pub client_cpu_s: f64,
}

impl Slice {
    pub fn empty() -> Self {
        Slice {
            latencies: Histogram::new(),
            refused: 0,
            example: String::new(),
            failed: 0,
            wall: Duration::ZERO,
            client_cpu_s: 0.0,
        }
    }

    pub fn add(&mut self, o: &Slice) {
        self.latencies.merge(&o.latencies);
        self.refused += o.refused;
        self.failed += o.failed;
        if self.example.is_empty() {
            self.example.clone_from(&o.example);
        }
    }
}

/// Loads a server for `time`; `first` numbers the requests.
pub fn run(to: SocketAddr, requests: &Arc<dyn Requests>, connections: usize, time: Duration, first: u64) -> Slice {
    let started = Instant::now();
    let threads = THREADS.min(connections);
    let handles: Vec<_> = (0..threads)
        .map(|t| {
            let requests = requests.clone();
            let mine = connections / threads + usize::from(t < connections % threads);
            std::thread::spawn(move || {
                // Numbers interleave, so that threads never send the same one.
                let numbers = Numbers { next: Cell::new(first + t as u64), step: threads as u64 };
                let mut slice = rt::System::new().block_on(thread(to, requests, mine, started + time, numbers));
                slice.client_cpu_s = cpu::this_thread_s();
                slice
            })
        })
        .collect();
    let mut all = Slice::empty();
    for h in handles {
        match h.join() {
            Ok(s) => {
                all.add(&s);
                all.client_cpu_s += s.client_cpu_s;
            }
            Err(_) => all.failed += 1,
        }
    }
    all.wall = started.elapsed();
    all
}

/// Hands out request numbers to the connections of one thread.
struct Numbers {
    next: Cell<u64>,
    step: u64,
}

impl Numbers {
    fn take(&self) -> u64 {
        self.next.replace(self.next.get() + self.step)
    }
}

async fn thread(
    to: SocketAddr,
    requests: Arc<dyn Requests>,
    connections: usize,
    end: Instant,
    numbers: Numbers,
) -> Slice {
    let numbers = Rc::new(numbers);
    let tasks: Vec<_> = (0..connections)
        .map(|_| {
            let (requests, numbers) = (requests.clone(), numbers.clone());
            rt::spawn(async move {
                let mut slice = Slice::empty();
                if connection(to, &*requests, end, &numbers, &mut slice).await.is_err() {
                    slice.failed += 1;
                }
                slice
            })
        })
        .collect();
    let mut all = Slice::empty();
    for t in tasks {
        match t.await {
            Ok(s) => all.add(&s),
            Err(_) => all.failed += 1,
        }
    }
    all
}

async fn connection(
    to: SocketAddr,
    requests: &dyn Requests,
    end: Instant,
    numbers: &Numbers,
    slice: &mut Slice,
) -> std::io::Result<()> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let (mut out, mut inbox) = (Vec::with_capacity(4096), Vec::with_capacity(16384));
    while Instant::now() < end {
        out.clear();
        requests.write(numbers.take(), &mut out);
        let sent = Instant::now();
        let answer = rt::time::timeout(STUCK, exchange(&stream, &out, &mut inbox)).await;
        let status = answer.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
        if (200..300).contains(&status) {
            slice.latencies.record(u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX));
        } else {
            slice.refused += 1;
            if slice.example.is_empty() {
                slice.example = String::from_utf8_lossy(&inbox[head_end(&inbox).unwrap_or(0)..]).into_owned();
            }
        }
    }
    Ok(())
}

/// Sends one request and reads its whole answer; the status.
pub(super) async fn exchange(stream: &TcpStream, out: &[u8], inbox: &mut Vec<u8>) -> std::io::Result<u16> {
    let mut sent = 0;
    while sent < out.len() {
        stream.writable().await?;
        match stream.try_write(&out[sent..]) {
            Ok(n) => sent += n,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    }
    inbox.clear();
    let mut whole = None;
    loop {
        stream.readable().await?;
        let mut chunk = [0u8; 8192];
        match stream.try_read(&mut chunk) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => inbox.extend_from_slice(&chunk[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(e) => return Err(e),
        }
        if whole.is_none() {
            whole = answer_length(inbox)?;
        }
        if let Some((status, length)) = whole
            && inbox.len() >= length
        {
            return Ok(status);
        }
    }
}

fn head_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|p| p + 4)
}

/// Status and total length of an answer, once its head is complete.
fn answer_length(bytes: &[u8]) -> std::io::Result<Option<(u16, usize)>> {
    let Some(end) = head_end(bytes) else { return Ok(None) };
    let wrong = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_string());
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| wrong("the head is not text"))?;
    let status = head.get(9..12).and_then(|s| s.parse().ok()).ok_or_else(|| wrong("no status"))?;
    let length = head.lines().find_map(|l| {
        let (name, value) = l.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let body = length.ok_or_else(|| wrong("no content-length"))?;
    Ok(Some((status, end + body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_an_answer() {
        let head = b"HTTP/1.1 202 Accepted\r\ncontent-type: x\r\nContent-Length: 5\r\n\r\n";
        let got = answer_length(head).unwrap();
        assert_eq!(got, Some((202, head.len() + 5)));
        assert_eq!(answer_length(&head[..20]).unwrap(), None);
        assert!(answer_length(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(answer_length(b"nonsense\r\n\r\n").is_err());
    }
}
