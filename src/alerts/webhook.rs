//! The webhook: signed bodies from a thread of its own, retried for a while. Nothing waits for it: what a full queue
//! cannot take is counted and forgotten.
//!
//! Signature: `X-Understudy-Signature: t=SECONDS,v1=HEX`, where HEX is HMAC-SHA256 with the secret over
//! `SECONDS.BODY`. A receiver recomputes it and refuses times that are far from its own clock.

use super::payload;
use crate::cli::client::{trusting, untrusting};
use crate::config::Project;
use crate::security::hex;
use crate::system::WallClock;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use understudy_actors::ports::{AlertSink, Clock, SinkStatus};
use understudy_domain::alert::Told;

/// Wait before the second attempt; doubled for each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Where certificates of public authorities lie, if no file is named.
const SYSTEM_BUNDLES: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];
/// A shorter secret is guessed.
const MIN_SECRET: usize = 16;

pub struct WebhookOptions {
    pub url: String,
    pub secret: Vec<u8>,
    /// One attempt, from the first byte to the last.
    pub timeout: Duration,
    /// Bodies that wait.
    pub queue: usize,
    pub attempts: u32,
    /// PEM file of trusted certificates; the system's bundle if empty.
    pub ca_file: String,
    /// How this server is named in what is sent.
    pub own_url: String,
}

impl WebhookOptions {
    /// # Errors
    /// A setting and what to do about it.
    pub fn of(project: &Project) -> Result<WebhookOptions, (String, String)> {
        let s = &project.settings.alerts;
        let wrong = |what: String, hint: &str| Err((what, hint.to_owned()));
        if !s.webhook.starts_with("https://") && !is_local(&s.webhook) {
            let hint = "use an https:// address, or http:// with 127.0.0.1, [::1] or localhost";
            return wrong(format!("alerts.webhook = \"{}\" would send alerts in the clear", s.webhook), hint);
        }
        let hint = "write at least 16 random bytes into it: `openssl rand -hex 32 > alerts.secret`";
        if s.secret_file.is_empty() {
            return wrong("alerts.secret_file is not set, and bodies are always signed".into(), hint);
        }
        let file = project.dir.join(&s.secret_file);
        let secret = match std::fs::read(&file) {
            Ok(bytes) => bytes.trim_ascii().to_vec(),
            Err(e) => return wrong(format!("alerts.secret_file {}: {e}", file.display()), hint),
        };
        if secret.len() < MIN_SECRET {
            return wrong(format!("alerts.secret_file {} holds {} bytes", file.display(), secret.len()), hint);
        }
        let server = &project.settings.server;
        let own_url = match s.external_url.is_empty() {
            true => format!("http://{}:{}", server.bind, server.port),
            false => s.external_url.trim_end_matches('/').to_owned(),
        };
        Ok(WebhookOptions {
            url: s.webhook.clone(),
            secret,
            timeout: s.timeout.std(),
            queue: s.queue,
            attempts: s.attempts,
            ca_file: s.ca_file.clone(),
            own_url,
        })
    }
}

/// Plain HTTP to this machine leaves no network.
fn is_local(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    matches!(host, "127.0.0.1" | "localhost" | "::1")
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<String>,
    /// One is being sent.
    sending: bool,
    stopped: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    delivered: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    last_error: Mutex<String>,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for so long, or until the end; false at the end.
    fn pause(&self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        let mut queue = self.queue();
        while !queue.stopped {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            queue = self.changed.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        false
    }
}

/// The sink; its thread ends with it.
pub struct Webhook {
    shared: Arc<Shared>,
    capacity: usize,
    own_url: String,
}

impl Webhook {
    /// # Errors
    /// The certificates cannot be read, or no thread could be started.
    pub fn start(options: WebhookOptions) -> Result<Webhook, (String, String)> {
        let tls = match options.url.starts_with("https://") {
            false => untrusting(),
            true => {
                let system = || SYSTEM_BUNDLES.into_iter().find(|f| Path::new(f).exists()).unwrap_or(SYSTEM_BUNDLES[0]);
                let file = if options.ca_file.is_empty() { system() } else { &options.ca_file };
                let hint = "alerts.ca_file names a PEM file of certificates that the receiver's must come from";
                trusting(file).map_err(|e| (format!("{file}: {e}"), hint.to_owned()))?
            }
        };
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(options.timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .tls_config(tls)
            .build()
            .into();
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            changed: Condvar::new(),
            delivered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            last_error: Mutex::default(),
        });
        let (capacity, own_url) = (options.queue, options.own_url.clone());
        let work = shared.clone();
        let thread = std::thread::Builder::new().name("alerts".into()).spawn(move || run(&work, &agent, &options));
        thread.map_err(|e| (format!("no thread for the webhook: {e}"), String::new()))?;
        Ok(Webhook { shared, capacity, own_url })
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.shared.queue().stopped = true;
        self.shared.changed.notify_all();
    }
}

fn run(shared: &Shared, agent: &ureq::Agent, options: &WebhookOptions) {
    loop {
        let body = {
            let mut queue = shared.queue();
            queue.sending = false;
            loop {
                if queue.stopped {
                    return;
                }
                if let Some(body) = queue.waiting.pop_front() {
                    queue.sending = true;
                    break body;
                }
                queue = shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
        };
        deliver(shared, agent, options, &body);
    }
}

fn deliver(shared: &Shared, agent: &ureq::Agent, options: &WebhookOptions, body: &str) {
    let mut wait = FIRST_WAIT;
    for attempt in 1..=options.attempts.max(1) {
        let error = match send(agent, options, body) {
            Ok(()) => {
                shared.delivered.fetch_add(1, Relaxed);
                shared.last_error.lock().unwrap_or_else(PoisonError::into_inner).clear();
                return;
            }
            Err(e) => e,
        };
        *shared.last_error.lock().unwrap_or_else(PoisonError::into_inner) = error.to_string();
        // What the receiver refuses it will refuse again.
        let refused = matches!(error, Failed::Refused(_));
        if refused || attempt == options.attempts.max(1) {
            tracing::error!(url = options.url, attempt, %error, "an alert could not be delivered");
            break;
        }
        if !shared.pause(wait) {
            return;
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
    shared.failed.fetch_add(1, Relaxed);
}

enum Failed {
    /// Worth another attempt.
    Now(String),
    Refused(u16),
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failed::Now(why) => f.write_str(why),
            Failed::Refused(status) => write!(f, "the receiver refuses it: {status}"),
        }
    }
}

fn send(agent: &ureq::Agent, options: &WebhookOptions, body: &str) -> Result<(), Failed> {
    let seconds = WallClock.now().millis() / 1000;
    let sent = agent
        .post(&options.url)
        .content_type("application/json")
        .header("user-agent", concat!("understudy/", env!("CARGO_PKG_VERSION")))
        .header("x-understudy-signature", signature(&options.secret, seconds, body))
        .send(body.as_bytes());
    match sent.map(|answer| answer.status().as_u16()) {
        Ok(200..=299) => Ok(()),
        Ok(status @ (400..=407 | 409..=428 | 300..=399)) => Err(Failed::Refused(status)),
        Ok(status) => Err(Failed::Now(format!("the receiver answers {status}"))),
        Err(e) => Err(Failed::Now(e.to_string())),
    }
}

/// The value of the signature header.
fn signature(secret: &[u8], seconds: u64, body: &str) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    let tag = ring::hmac::sign(&key, format!("{seconds}.{body}").as_bytes());
    format!("t={seconds},v1={}", hex(tag.as_ref()))
}

impl AlertSink for Webhook {
    fn offer(&self, told: &Told) {
        for body in payload::bodies(told, &self.own_url) {
            let mut queue = self.shared.queue();
            if queue.waiting.len() >= self.capacity {
                self.shared.dropped.fetch_add(1, Relaxed);
                continue;
            }
            queue.waiting.push_back(body);
            drop(queue);
            self.shared.changed.notify_all();
        }
    }

    fn status(&self) -> SinkStatus {
        let s = &self.shared;
        let queued = {
            let queue = s.queue();
            queue.waiting.len() as u64 + u64::from(queue.sending)
        };
        SinkStatus {
            name: "webhook".into(),
            delivered: s.delivered.load(Relaxed),
            failed: s.failed.load(Relaxed),
            dropped: s.dropped.load(Relaxed),
            queued,
            last_error: s.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_hmac_of_time_and_body() {
        // echo -n '1700000000.{}' | openssl dgst -sha256 -hmac 0123456789abcdef
        let got = signature(b"0123456789abcdef", 1_700_000_000, "{}");
        assert_eq!(got, "t=1700000000,v1=e4f8e2ecae2295b2ddb2f0b5584c8275e226c0ebe9b3b819e70156bb67122e3e");
        // RFC 4231, test case 2, through the same library.
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"Jefe");
        let tag = ring::hmac::sign(&key, b"what do ya want for nothing?");
        assert_eq!(hex(tag.as_ref()), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[test]
    fn plain_http_stays_on_this_machine() {
        for (url, local) in [
            ("http://127.0.0.1:9093/hook", true),
            ("http://localhost/hook", true),
            ("http://[::1]:80/", true),
            ("http://127.0.0.1.evil.example/", false),
            ("http://10.0.0.1/", false),
            ("https://127.0.0.1/", false),
        ] {
            assert_eq!(is_local(url), local, "{url}");
        }
    }

    #[test]
    fn a_full_queue_drops_and_counts_and_nothing_waits() {
        // Nobody listens there: a port that was free a moment ago.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let hook = Webhook::start(WebhookOptions {
            url: format!("http://{free}/"),
            secret: vec![7; 32],
            timeout: Duration::from_millis(200),
            queue: 4,
            attempts: 1000,
            ca_file: String::new(),
            own_url: "http://x".into(),
        })
        .unwrap_or_else(|e| panic!("{e:?}"));
        let started = Instant::now();
        for _ in 0..50 {
            hook.offer(&Told { name: "Test".into(), alerts: Vec::new() });
        }
        assert!(started.elapsed() < Duration::from_secs(1));
        let s = hook.status();
        assert!(s.dropped >= 45 && s.queued <= 5 && s.delivered == 0, "{s:?}");
    }
}
