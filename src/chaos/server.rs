//! The program as a child process, and HTTP to it.

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// A start that takes longer has failed.
const START: Duration = Duration::from_secs(120);
const ANSWER: Duration = Duration::from_secs(60);

/// A running `understudy serve` on a free port; killed when dropped.
pub struct Server {
    child: Child,
    pub url: String,
    /// From the start of the process until it was ready.
    pub ready_after: Duration,
}

impl Server {
    /// Starts `program serve` with settings and environment.
    pub fn start(
        program: &Path,
        project: &Path,
        set: &[&str],
        environment: &[(String, String)],
    ) -> Result<Server, String> {
        let started = Instant::now();
        let mut command = Command::new(program);
        for (name, _) in std::env::vars().filter(|(n, _)| n.starts_with("UNDERSTUDY")) {
            command.env_remove(name);
        }
        command.args(["serve", "--project"]).arg(project).args(["--set", "server.port=0", "--set", "log.level=warn"]);
        for s in set {
            command.args(["--set", s]);
        }
        command.envs(environment.iter().cloned()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| format!("{} does not start: {e}", program.display()))?;
        let stderr = child.stderr.take().ok_or("the server's stderr is not there")?;
        let (send, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        let mut seen = Vec::new();
        loop {
            match lines.recv_timeout(START.saturating_sub(started.elapsed())) {
                Ok(line) => match line.strip_prefix("serving on ").and_then(|l| l.split_whitespace().next()) {
                    Some(url) => return Ok(Server { child, url: url.to_owned(), ready_after: started.elapsed() }),
                    None => seen.push(line),
                },
                Err(e) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    let why = if e == RecvTimeoutError::Timeout { "was not ready in time" } else { "ended" };
                    return Err(format!("the server {why}:\n{}", seen.join("\n")));
                }
            }
        }
    }

    /// As by SIGTERM: an orderly end.
    pub fn stop(mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let _ = self.child.wait();
        }
    }

    /// As by `kill -9`.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One connection's client.
pub struct Client {
    agent: ureq::Agent,
    url: String,
}

impl Client {
    pub fn new(url: &str) -> Client {
        let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
        Client { agent: config.timeout_global(Some(ANSWER)).build().new_agent(), url: url.to_owned() }
    }

    /// Status and body; an error when no answer came.
    pub fn post(&self, path: &str, kind: &str, body: &str) -> Result<(u16, Value), String> {
        let sent = self.agent.post(format!("{}{path}", self.url)).content_type(kind).send(body.as_bytes());
        answer(sent)
    }

    pub fn json(&self, path: &str, body: &Value) -> Result<(u16, Value), String> {
        self.post(path, "application/json", &body.to_string())
    }

    pub fn lines(&self, path: &str, body: &str) -> Result<(u16, Value), String> {
        self.post(path, "application/x-ndjson", body)
    }

    pub fn get(&self, path: &str) -> Result<(u16, Value), String> {
        answer(self.agent.get(format!("{}{path}", self.url)).call())
    }
}

fn answer(sent: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<(u16, Value), String> {
    let mut got = sent.map_err(|e| e.to_string())?;
    let text = got.body_mut().with_config().limit(1 << 30).read_to_string().map_err(|e| e.to_string())?;
    Ok((got.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text))))
}
