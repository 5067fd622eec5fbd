//! A server in a process of its own, on cores of its own where there are several: what the client does then
//! takes nothing from it.

use crate::cli::error::{CliError, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

pub struct Process {
    child: Child,
    pub url: String,
    /// Cores of the server; 0 if it shares them all with the client.
    pub cores: usize,
}

impl Drop for Process {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

impl Process {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// The last core is the client's, the others are the server's.
pub fn start(project: &Path) -> Result<Process> {
    start_with(project, &[], &[])
}

/// The same with settings and an environment.
pub fn start_with(project: &Path, set: &[String], environment: &[(&str, &str)]) -> Result<Process> {
    let failed = |e: &dyn std::fmt::Display| CliError::new(format!("cannot start a server: {e}"));
    let all = sched_getaffinity(None).map_err(|e| failed(&e))?;
    let usable: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|c| all.is_set(*c)).collect();
    let only = |cores: &[usize]| {
        let mut set = CpuSet::new();
        cores.iter().for_each(|c| set.set(*c));
        sched_setaffinity(None, &set)
    };
    let (client, server) = usable.split_last().ok_or_else(|| failed(&"no core"))?;
    if !server.is_empty() {
        only(server).map_err(|e| failed(&e))?;
    }
    let program = std::env::current_exe().map_err(|e| failed(&e))?;
    let mut command = Command::new(program);
    command.args(["serve", "--set", "server.port=0", "--set", "log.level=error", "--project"]).arg(project);
    command.args(set.iter().flat_map(|s| ["--set", s])).envs(environment.iter().copied());
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    if !server.is_empty() {
        only(&[*client]).map_err(|e| failed(&e))?;
    }
    let mut child = child.map_err(|e| failed(&e))?;
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines().map_while(std::io::Result::ok);
    let mut said = Vec::new();
    for line in lines.by_ref() {
        if let Some(rest) = line.strip_prefix("serving on ") {
            let url = rest.split_whitespace().next().unwrap_or_default().to_owned();
            // Read on, so that it never waits for a reader.
            std::thread::spawn(move || lines.for_each(drop));
            return Ok(Process { child, url, cores: server.len() });
        }
        said.push(line);
    }
    let _ = child.wait();
    Err(CliError::new("the server did not start").details(said).hint("if one is running for this project, stop it"))
}
