//! The program as a child process, HTTP to it, and throw-away projects.

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{park_timeout, spawn};
use std::time::{Duration, Instant};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_understudy");
pub const SOURCE: &str = env!("CARGO_MANIFEST_DIR");
/// Longest wait for a start, an answer or a training job: far above what any of them takes.
const PATIENCE: Duration = Duration::from_secs(120);
/// Pause between two looks at something that is not ready.
const LOOK: Duration = Duration::from_millis(10);

/// A running `understudy serve`; killed (as by `kill -9`) when dropped.
pub struct Server {
    child: Child,
    pub url: String,
    agent: ureq::Agent,
    lines: std::sync::Mutex<Receiver<String>>,
}

impl Server {
    /// Serves a project on a free port; `set` are overrides such as `clock.source=stream`.
    pub fn start(project: &Path, set: &[&str]) -> Server {
        Self::started(program(&["serve", "--project"]), project, set)
    }

    /// The same, in a process that may have only so many files open.
    pub fn start_limited(project: &Path, set: &[&str], files: u32) -> Server {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {files}; exec \"$@\""), "sh", PROGRAM, "serve", "--project"]);
        Self::started(command, project, set)
    }

    /// The same, with more in its environment.
    pub fn start_with(project: &Path, set: &[&str], environment: &[(&str, &str)]) -> Server {
        let mut command = program(&["serve", "--project"]);
        command.envs(environment.iter().copied());
        Self::started(command, project, set)
    }

    /// The same, with a fault planted at a point of an actor.
    pub fn start_faulty(project: &Path, set: &[&str], fault: &str) -> Server {
        Self::start_with(project, set, &[("UNDERSTUDY_FAULT", fault)])
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("the process is there");
    }

    /// Waits for its end: exit code, and the lines of its log that nobody read.
    pub fn end(mut self) -> (i32, Vec<String>) {
        let mut lines = Vec::new();
        while let Ok(line) = self.lines.get_mut().expect("lines").recv_timeout(PATIENCE) {
            lines.push(line);
        }
        let status = self.child.wait().expect("a child");
        (status.code().unwrap_or(-1), lines)
    }

    /// A POST that may meet a server which has ended: then `None`.
    pub fn try_post(&self, path: &str, body: &Value) -> Option<u16> {
        let sent = self.agent.post(format!("{}{path}", self.url)).content_type("application/json");
        sent.send(body.to_string().as_bytes()).ok().map(|got| got.status().as_u16())
    }

    fn started(mut command: Command, project: &Path, set: &[&str]) -> Server {
        command.arg(project).args(["--set", "server.port=0", "--set", "log.level=warn"]);
        for s in set {
            command.args(["--set", s]);
        }
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let lines = follow(child.stderr.take().expect("stderr is piped"));
        let mut seen = Vec::new();
        let url = loop {
            match lines.recv_timeout(PATIENCE) {
                Ok(line) => match line.strip_prefix("serving on ") {
                    Some(rest) => {
                        break rest.split_whitespace().next().expect("an address").to_owned();
                    }
                    None => seen.push(line),
                },
                Err(e) => panic!("the server did not start ({e}):\n{}", seen.join("\n")),
            }
        };
        Server { child, url, agent: agent(), lines: lines.into() }
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn get(&self, path: &str) -> (u16, Value) {
        answer(self.agent.get(format!("{}{path}", self.url)).call())
    }

    /// A GET with one more header, or another one.
    pub fn get_with(&self, path: &str, header: &str, value: &str) -> (u16, Value) {
        answer(self.agent.get(format!("{}{path}", self.url)).header(header, value).call())
    }

    /// The same server, asked with an API key.
    pub fn with_key<'a>(&'a self, key: Option<&'a str>) -> Keyed<'a> {
        Keyed { server: self, key: key.map(|k| format!("Bearer {k}")) }
    }

    /// A GET that must succeed.
    pub fn ok(&self, path: &str) -> Value {
        let (status, body) = self.get(path);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    pub fn text(&self, path: &str, accept: &str) -> String {
        let sent = self.agent.get(format!("{}{path}", self.url)).header("accept", accept).call();
        let mut got = sent.unwrap_or_else(|e| panic!("{path}: {e}"));
        got.body_mut().with_config().limit(1 << 30).read_to_string().expect("a text")
    }

    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let sent = self.agent.post(format!("{}{path}", self.url)).content_type("application/json");
        answer(sent.send(body.to_string().as_bytes()))
    }

    /// A POST with one more header.
    pub fn post_with(&self, path: &str, header: &str, value: &str, body: &Value) -> (u16, Value) {
        let sent = self.agent.post(format!("{}{path}", self.url)).header(header, value);
        answer(sent.content_type("application/json").send(body.to_string().as_bytes()))
    }

    /// A body of any kind.
    pub fn post_bytes(&self, path: &str, kind: &str, body: &[u8]) -> (u16, Value) {
        answer(self.agent.post(format!("{}{path}", self.url)).content_type(kind).send(body))
    }

    /// Lines of JSON; `None` when the server died meanwhile.
    pub fn lines(&self, path: &str, body: &str) -> Option<(u16, Value)> {
        let sent = self.agent.post(format!("{}{path}", self.url)).content_type("application/x-ndjson");
        let mut got = sent.send(body.as_bytes()).ok()?;
        let text = got.body_mut().read_to_string().ok()?;
        Some((got.status().as_u16(), serde_json::from_str(&text).ok()?))
    }

    /// Trains and waits; the finished job.
    pub fn train(&self, model: &str) -> Value {
        let (status, job) = self.post(&format!("/v1/models/{model}/train"), &serde_json::json!({}));
        assert_eq!(status, 202, "{job}");
        let path = format!("/v1/jobs/{}", job["job"]);
        let job = until("the training job ends", || {
            let job = self.ok(&path);
            matches!(job["state"].as_str(), Some("registered" | "failed")).then_some(job)
        });
        assert_eq!(job["state"], "registered", "{job}");
        job
    }

    /// Every logged prediction in order of id, without the times it took.
    pub fn predictions(&self) -> Vec<Value> {
        let mut after = "0".repeat(26);
        let mut all: Vec<Value> = Vec::new();
        loop {
            let page = self.text(&format!("/v1/predictions?limit=10000&after={after}"), "application/x-ndjson");
            let before = all.len();
            all.extend(page.lines().map(|l| {
                let mut v: Value = serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"));
                v.as_object_mut().expect("a record").remove("timing");
                v
            }));
            match all.last() {
                Some(last) if all.len() > before => after = last["id"].as_str().expect("an id").to_owned(),
                _ => return all,
            }
        }
    }
}

/// Requests with an API key.
pub struct Keyed<'a> {
    server: &'a Server,
    key: Option<String>,
}

impl Keyed<'_> {
    pub fn get(&self, path: &str) -> (u16, Value) {
        let asked = self.server.agent.get(format!("{}{path}", self.server.url));
        answer(match &self.key {
            Some(key) => asked.header("authorization", key).call(),
            None => asked.call(),
        })
    }

    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let sent = self.server.agent.post(format!("{}{path}", self.server.url)).content_type("application/json");
        let sent = match &self.key {
            Some(key) => sent.header("authorization", key),
            None => sent,
        };
        answer(sent.send(body.to_string().as_bytes()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The program with an environment of its own.
pub fn program(args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    for (name, _) in std::env::vars().filter(|(n, _)| n.starts_with("UNDERSTUDY")) {
        command.env_remove(name);
    }
    command.args(args).stdin(Stdio::null());
    command
}

/// Exit code, stdout and stderr of a command that ends.
pub fn run(args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = program(args).output().expect("the program starts");
    let text = |b: Vec<u8>| String::from_utf8(b).expect("UTF-8");
    (status.code().unwrap_or(-1), text(stdout), text(stderr))
}

/// Looks again and again until something is there; panics after a long time.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Some(found) = look() {
            return found;
        }
        park_timeout(LOOK);
    }
    panic!("waited {PATIENCE:?} until {what}");
}

/// Copies the settings of a folder, without its data.
pub fn copy_project(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name");
        if path.is_dir() && name != "data" {
            copy_project(&path, &to.join(name));
        } else if path.extension().is_some_and(|e| e == "toml") {
            std::fs::copy(&path, to.join(name)).expect("a copy");
        }
    }
}

/// Replaces text in a file; it must be there.
pub fn edit(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    assert!(text.contains(from), "{} has no `{from}`", file.display());
    std::fs::write(file, text.replace(from, to)).expect("written");
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
    config.timeout_global(Some(PATIENCE)).build().new_agent()
}

fn answer(sent: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> (u16, Value) {
    let mut got = sent.expect("the server answers");
    let text = got.body_mut().with_config().limit(1 << 30).read_to_string().expect("a text");
    (got.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// Lines as they come; reading never stops, so that the child never blocks on a full pipe.
fn follow(from: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (send, lines) = channel();
    spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let _ = send.send(line);
        }
    });
    lines
}
