//! Server processes over copies of the same data, under load in turns: what else runs on the machine hits all alike.

use super::load::{Requests, Slice};
use super::process::{self, Process};
use super::{WARM_UP, address, cpu, load};
use crate::cli::error::{CliError, Result};
use crate::cli::features::Scratch;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// One of the servers.
pub struct Side {
    pub server: Process,
    pub address: SocketAddr,
    pub slice: Slice,
    wall_s: f64,
    cpu_s: f64,
}

impl Side {
    /// A server of the project in `dir` over a copy of its data.
    pub fn start(dir: &Path, data: &Scratch, set: &[String], environment: &[(&str, &str)]) -> Result<Side> {
        let from = dir.join("data");
        if from.is_dir() {
            crate::storage::copy_dir(&from, &data.0).map_err(|e| CliError::new(e.to_string()))?;
        }
        let set = [&[format!("storage.dir={}", data.0.display())], set].concat();
        let server = process::start_with(dir, &set, environment)?;
        let address = address(&server.url)?;
        Ok(Side { server, address, slice: Slice::empty(), wall_s: 0.0, cpu_s: 0.0 })
    }

    pub fn turn(&mut self, requests: &Arc<dyn Requests>, connections: usize, time: Duration) {
        let before = cpu::of_process_s(self.server.pid());
        let slice = load::run(self.address, requests, connections, time, 0);
        self.cpu_s += cpu::of_process_s(self.server.pid()) - before;
        self.wall_s += slice.wall.as_secs_f64();
        self.slice.add(&slice);
    }

    /// Unmeasured load.
    pub fn warm_up(&mut self, requests: &Arc<dyn Requests>, connections: usize) {
        self.turn(requests, connections, WARM_UP);
        (self.slice, self.wall_s, self.cpu_s) = (Slice::empty(), 0.0, 0.0);
    }

    pub fn per_s(&self) -> f64 {
        self.slice.latencies.count() as f64 / self.wall_s.max(1e-9)
    }

    /// CPU time of the server's process for one answer, in microseconds.
    pub fn cpu_us(&self) -> f64 {
        self.cpu_s * 1e6 / (self.slice.latencies.count().max(1)) as f64
    }
}
