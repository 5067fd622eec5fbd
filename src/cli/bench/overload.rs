//! `bench overload`: what a server does with more than it can do, and with clients that are slow on purpose.

use super::bodies;
use super::load::{self, Requests};
use super::open_loop::{Load, Outcome};
use super::process;
use crate::cli::args::OverloadArgs;
use crate::cli::client::{Client, encode};
use crate::cli::error::{CliError, Result};
use crate::cli::output::{json, put};
use crate::cli::target::Context;
use crate::cli::{models, table};
use serde_json::{Value, json};
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Connections that find out the most that the server answers: enough to keep it busy, too few to overload it.
const PEAK_CONNECTIONS: usize = 16;
/// Share of the peak that is an ordinary load.
const ORDINARY: f64 = 0.5;
/// Quarters of a second that must be good in a row for the server to be called back to normal.
const CALM: usize = 4;
/// Longest wait for that.
const PATIENCE: Duration = Duration::from_secs(30);

struct Target {
    to: SocketAddr,
    requests: Arc<dyn Requests>,
    connections: usize,
    deadline: Duration,
}

impl Target {
    fn run(&self, rate: f64, time: Duration, stop: &mut dyn FnMut(&Outcome) -> bool) -> Outcome {
        let load = Load {
            to: self.to,
            requests: self.requests.clone(),
            connections: self.connections,
            deadline: self.deadline,
        };
        load.run(rate.max(1.0), time, stop)
    }
}

/// The same requests in turn, with a deadline.
struct Batches(Vec<Vec<u8>>);

impl Requests for Batches {
    fn write(&self, n: u64, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.0[(n % self.0.len() as u64) as usize]);
    }
}

fn batches(path: &str, bodies: &[Value], instances: usize, deadline_ms: u32) -> Batches {
    let whole = |chunk: usize| {
        let body = match instances {
            1 => bodies[chunk % bodies.len()].to_string(),
            n => {
                let rows: Vec<&Value> = (0..n).map(|i| &bodies[(chunk * n + i) % bodies.len()]).collect();
                json!({ "instances": rows }).to_string()
            }
        };
        let mut out = Vec::new();
        let key = bodies::key_header();
        let _ = write!(
            out,
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nx-deadline-ms: {deadline_ms}\r\n\
             {key}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        out
    };
    Batches((0..bodies.len().div_ceil(instances).clamp(1, 256)).map(whole).collect())
}

pub fn run(ctx: &Context, args: &OverloadArgs) -> Result {
    if !args.factor.is_finite() || args.factor <= 0.0 {
        return Err(CliError::usage("--factor must be a number above 0"));
    }
    let server = match &ctx.url {
        Some(_) => None,
        None => Some(process::start(&ctx.project_dir())?),
    };
    let url = server.as_ref().map(|s| s.url.clone()).or_else(|| ctx.url.clone()).unwrap_or_default();
    let client = Client::new(&url)?;
    let model = match &args.model {
        Some(m) => m.clone(),
        None => {
            models::all(&client)?.first().map(models::name).ok_or_else(|| CliError::new("the project has no model"))?
        }
    };
    let bodies = bodies::predictions(ctx, &client, &model)?;
    let path = format!("/v1/models/{}/predict", encode(&model));
    // The first request loads the model, which may take longer than it may wait; what is wrong otherwise is said.
    let begun = Instant::now();
    while let Err(e) = client.post(&path, &bodies[0]) {
        if begun.elapsed() > PATIENCE {
            return Err(e);
        }
    }
    let target = Target {
        to: super::address(&url)?,
        requests: Arc::new(batches(&path, &bodies, args.instances as usize, args.deadline_ms)),
        connections: args.connections as usize,
        deadline: Duration::from_millis(args.deadline_ms.into()),
    };
    let peak = peak(&target, Duration::from_secs(u64::from(args.seconds).div_ceil(4).clamp(1, 10)));
    let mut result = match args.slow_clients {
        Some(n) => slow(&target, peak, n as usize, Duration::from_secs(args.seconds.into())),
        None => overload(&target, peak, args),
    };
    result["instances"] = args.instances.into();
    result["peak_requests_per_s"] = round(peak);
    result["server_cores"] = server.as_ref().map_or(Value::Null, |s| s.cores.into());
    if ctx.json {
        json(&result);
    } else {
        put(&table::pairs(&result));
    }
    Ok(())
}

/// The most that is answered: closed loop, every connection has one request under way.
fn peak(target: &Target, time: Duration) -> f64 {
    load::run(target.to, &target.requests, PEAK_CONNECTIONS, time / 4, 0);
    let slice = load::run(target.to, &target.requests, PEAK_CONNECTIONS, time, 0);
    slice.latencies.count() as f64 / slice.wall.as_secs_f64().max(1e-9)
}

fn overload(target: &Target, peak: f64, args: &OverloadArgs) -> Value {
    let time = Duration::from_secs(args.seconds.into());
    let ordinary = target.run(peak * ORDINARY, (time / 4).min(Duration::from_secs(10)), &mut |_| false);
    let normal_us = ordinary.accepted.quantile_us(0.99).unwrap_or(0.0);
    let over = target.run(peak * args.factor, time, &mut |_| false);
    let ended = Instant::now();
    let (mut calm, mut back) = (0, None);
    target.run(peak * ORDINARY, PATIENCE, &mut |quarter| {
        let p99 = quarter.accepted.quantile_us(0.99).unwrap_or(f64::MAX);
        let good = quarter.refused.count() + quarter.late + quarter.failed == 0 && p99 <= (2.0 * normal_us).max(5000.0);
        calm = if good { calm + 1 } else { 0 };
        if calm == CALM {
            // Normal since the first of the good quarters.
            back = Some((ended.elapsed().as_secs_f64() - 0.25 * CALM as f64).max(0.0));
        }
        calm == CALM
    });
    let ms = |us: Option<f64>| us.map_or(Value::Null, |us| round2(us / 1000.0));
    json!({
        "bench": "overload", "factor": args.factor, "seconds": args.seconds, "deadline_ms": args.deadline_ms,
        "goodput_requests_per_s": round(over.good_per_s()),
        "goodput_of_peak": round2(over.good_per_s() / peak.max(1e-9)),
        "accepted": over.accepted.count(), "accepted_p50_ms": ms(over.accepted.quantile_us(0.5)),
        "accepted_p99_ms": ms(over.accepted.quantile_us(0.99)),
        "refused": over.refused.count(), "refused_p50_ms": ms(over.refused.quantile_us(0.5)),
        "refused_p99_ms": ms(over.refused.quantile_us(0.99)),
        "late": over.late, "failed": over.failed, "unsent": over.unsent, "due": over.due,
        "ordinary_p99_ms": ms(Some(normal_us)), "back_to_normal_s": back.map_or(Value::Null, round2),
    })
}

/// Rounds without and with the slow ones.
const ROUNDS: u32 = 3;

fn slow(target: &Target, peak: f64, n: usize, time: Duration) -> Value {
    let (mut without, mut with) = (None::<Outcome>, None::<Outcome>);
    let mut open = 0;
    let add = |to: &mut Option<Outcome>, o: Outcome| match to {
        Some(all) => all.add(&o),
        None => *to = Some(o),
    };
    for _ in 0..ROUNDS {
        add(&mut without, target.run(peak * ORDINARY, time / (2 * ROUNDS), &mut |_| false));
        let slow = Slow::start(target.to, n);
        add(&mut with, target.run(peak * ORDINARY, time / (2 * ROUNDS), &mut |_| false));
        open = slow.stop();
    }
    let shown = |o: &Option<Outcome>| {
        let o = o.as_ref().expect("at least one round");
        let ms = |q: f64| o.accepted.quantile_us(q).map_or(Value::Null, |us| round2(us / 1000.0));
        json!({ "p50_ms": ms(0.5), "p99_ms": ms(0.99), "answered": o.accepted.count(),
            "refused": o.refused.count(), "failed": o.failed + o.late })
    };
    let p99 = |o: &Option<Outcome>| o.as_ref().and_then(|o| o.accepted.quantile_us(0.99)).unwrap_or(f64::NAN);
    json!({
        "bench": "slow_clients", "slow_clients": n, "slow_connections_open": open, "seconds": time.as_secs(),
        "without": shown(&without), "with": shown(&with), "p99_ratio": round2(p99(&with) / p99(&without)),
    })
}

/// Connections that send one byte of a head each second, and come again when they are closed.
struct Slow {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<usize>,
}

impl Slow {
    fn start(to: SocketAddr, n: usize) -> Slow {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, (ready, is_ready)) = (stop.clone(), std::sync::mpsc::channel());
        let thread = std::thread::spawn(move || {
            let head = b"GET /livez HTTP/1.1\r\nhost: localhost\r\nx-slow: ";
            let open = |_| Some((TcpStream::connect(to).ok()?, 0usize));
            let mut all: Vec<Option<(TcpStream, usize)>> = (0..n).map(open).collect();
            let _ = ready.send(());
            while !stopped.load(Relaxed) {
                let begun = Instant::now();
                // Spread over the second, as so many clients would be.
                for (i, slow) in all.iter_mut().enumerate() {
                    let sent = slow.as_mut().is_some_and(|(stream, at)| {
                        let byte = head.get(*at).copied().unwrap_or(b'x');
                        *at += 1;
                        stream.write_all(&[byte]).is_ok()
                    });
                    if !sent {
                        *slow = open(i);
                    }
                    let due = Duration::from_secs_f64((i + 1) as f64 / n as f64);
                    if i % 20 == 0 && begun.elapsed() < due && !stopped.load(Relaxed) {
                        std::thread::park_timeout(due - begun.elapsed().min(due));
                    }
                }
            }
            all.iter().flatten().count()
        });
        let _ = is_ready.recv();
        Slow { stop, thread }
    }

    fn stop(self) -> usize {
        self.stop.store(true, Relaxed);
        self.thread.thread().unpark();
        self.thread.join().unwrap_or(0)
    }
}

fn round(v: f64) -> Value {
    json!(v.round())
}

fn round2(v: f64) -> Value {
    json!((v * 1000.0).round() / 1000.0)
}
