//! `doctor`: looks for what would go wrong, and says how to mend it.

use super::error::{CliError, Result};
use super::models;
use super::output::{json, put};
use super::target::{Context, configured_url};
use serde::Serialize;
use serde_json::Value;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

/// Less free space than this is a warning; below the store's own floor the server does not start.
const LITTLE_SPACE_BYTES: u64 = 8 << 30;
/// Open files: one per connection, log segment and model file.
const FILES_WANTED: u64 = 4096;
/// 2025-01-01: a clock before it is wrong, certificates and ids depend on it.
const EARLIEST_S: u64 = 1_735_689_600;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Level {
    Ok,
    Warning,
    Error,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Check {
    level: Level,
    check: &'static str,
    what: String,
    /// What to do; empty when all is well.
    remedy: String,
}

fn check(level: Level, check: &'static str, what: impl Into<String>, remedy: impl Into<String>) -> Check {
    Check { level, check, what: what.into(), remedy: remedy.into() }
}

pub fn run(ctx: &Context) -> Result {
    let project = ctx.project_dir();
    let mut all = vec![super::config::check(&project).map_or_else(
        |e| check(Level::Error, "project", [vec![e.message], e.details].concat().join("\n"), e.hint),
        |what| check(Level::Ok, "project", what, ""),
    )];
    let data = data_dir(&project);
    all.extend([writable(&data), filesystem(&data), free_space(&data), lock(&data)]);
    let running = ctx.configured(&project);
    all.push(port(&project, running.is_some()));
    all.extend([clock(), open_files()]);
    all.push(match &running {
        Some(client) => trained(models::all(client)),
        None => trained_on_disk(&project, &data),
    });
    if ctx.json {
        json(&all);
    } else {
        put(&all.iter().map(line).collect::<String>());
    }
    let errors = all.iter().filter(|c| c.level == Level::Error).count();
    if errors > 0 { Err(CliError::new(format!("{errors} of {} checks found an error", all.len()))) } else { Ok(()) }
}

/// A check in words; the remedy stands below it.
fn line(c: &Check) -> String {
    let what = c.what.replace('\n', "\n                       ");
    let mut text = format!("{:6} {:15} {what}\n", word(c.level), c.check);
    if !c.remedy.is_empty() {
        text.push_str(&format!("{:22} -> {}\n", "", c.remedy));
    }
    text
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Warning => "warn",
        Level::Error => "ERROR",
    }
}

/// `storage.dir`, relative to the project.
fn data_dir(project: &Path) -> PathBuf {
    let dir = super::config::load(project).map_or_else(|_| "data".into(), |p| p.settings.storage.dir);
    project.join(dir)
}

/// The directory itself, or the nearest parent that exists.
fn existing(dir: &Path) -> PathBuf {
    let here = |p: &&Path| p.exists();
    let found = dir.ancestors().find(here).filter(|p| !p.as_os_str().is_empty());
    found.unwrap_or(Path::new(".")).to_path_buf()
}

fn writable(data: &Path) -> Check {
    let dir = existing(data);
    let probe = dir.join(format!(".understudy-doctor-{}", std::process::id()));
    let wrote = std::fs::write(&probe, b"x");
    let _ = std::fs::remove_file(&probe);
    match wrote {
        Ok(()) => check(Level::Ok, "data directory", format!("{} is writable", data.display()), ""),
        Err(e) => check(
            Level::Error,
            "data directory",
            format!("{}: {e}", dir.display()),
            "change its owner, or set storage.dir",
        ),
    }
}

/// Type of the filesystem of a directory, by the longest mount point above it.
fn mounted(mounts: &str, dir: &Path) -> Option<String> {
    let entry = |l: &str| {
        let mut words = l.split(' ');
        let (point, kind) = (words.nth(1)?.replace("\\040", " "), words.next()?.to_string());
        dir.starts_with(&point).then_some((point.len(), kind))
    };
    // Of two mounts on one point the later hides the earlier; `max_by_key` keeps the last.
    mounts.lines().filter_map(entry).max_by_key(|(length, _)| *length).map(|(_, kind)| kind)
}

fn filesystem(data: &Path) -> Check {
    const NAME: &str = "filesystem";
    let dir = existing(data);
    let dir = dir.canonicalize().unwrap_or(dir);
    let Some(kind) = std::fs::read_to_string("/proc/mounts").ok().and_then(|m| mounted(&m, &dir)) else {
        return check(
            Level::Warning,
            NAME,
            "type unknown: /proc/mounts cannot be read",
            "make sure that it is a local disk",
        );
    };
    let elsewhere = "set storage.dir to a local ext4 or xfs directory";
    match kind.as_str() {
        "nfs" | "nfs4" | "cifs" | "smb3" | "fuse.sshfs" | "9p" => {
            check(Level::Error, NAME, format!("{kind}: locks and syncs over a network are not safe"), elsewhere)
        }
        "overlay" => check(
            Level::Warning,
            NAME,
            "overlay: a container's own layer, gone with the container",
            "mount a volume, or set storage.dir",
        ),
        "tmpfs" | "ramfs" => check(Level::Warning, NAME, format!("{kind}: memory, gone at the next boot"), elsewhere),
        "btrfs" | "zfs" | "bcachefs" => {
            check(Level::Warning, NAME, format!("{kind}: copy on write slows the log down"), elsewhere)
        }
        other => check(Level::Ok, NAME, other, ""),
    }
}

fn free_space(data: &Path) -> Check {
    const NAME: &str = "free space";
    match rustix::fs::statvfs(existing(data)) {
        Ok(s) => {
            let free = s.f_bavail * s.f_frsize;
            let text = format!("{:.1} GiB", free as f64 / f64::from(1 << 30));
            match free {
                f if f < crate::storage::StoreOptions::default().free_floor => {
                    check(Level::Error, NAME, text, "too little for the store to open: free some space")
                }
                f if f < LITTLE_SPACE_BYTES => check(Level::Warning, NAME, text, "a year of events may need more"),
                _ => check(Level::Ok, NAME, text, ""),
            }
        }
        Err(e) => check(Level::Warning, NAME, format!("unknown: {e}"), ""),
    }
}

fn lock(data: &Path) -> Check {
    const NAME: &str = "lock";
    let path = data.join(crate::storage::LOCK_FILE);
    let Ok(file) = std::fs::File::open(&path) else {
        return check(Level::Ok, NAME, "nobody uses the data directory", "");
    };
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => check(Level::Ok, NAME, "nobody uses the data directory", ""),
        Err(_) => {
            let holder = std::fs::read_to_string(&path).unwrap_or_default();
            let holder = holder.trim();
            let who = if holder.is_empty() { "another process".to_string() } else { holder.replace('\n', ", ") };
            check(Level::Warning, NAME, format!("held by {who}"), "fine if that is this project's server")
        }
    }
}

fn port(project: &Path, running: bool) -> Check {
    const NAME: &str = "port";
    let Some(url) = configured_url(project) else { return check(Level::Ok, NAME, "any free port will do", "") };
    if running {
        return check(Level::Ok, NAME, format!("this project's server answers at {url}"), "");
    }
    match TcpListener::bind(url.trim_start_matches("http://")) {
        Ok(_) => check(Level::Ok, NAME, format!("{url} is free"), ""),
        Err(e) => check(Level::Error, NAME, format!("{url}: {e}"), "stop what listens there, or set server.port"),
    }
}

fn clock() -> Check {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let text = understudy_domain::time::Timestamp(now as i64 * 1_000_000).to_string();
    match now {
        n if n < EARLIEST_S => check(Level::Error, "clock", text, "set the clock (timedatectl set-ntp true)"),
        _ => check(Level::Ok, "clock", text, ""),
    }
}

fn open_files() -> Check {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    match limit.current {
        Some(n) if n < FILES_WANTED => check(
            Level::Warning,
            "open files",
            format!("at most {n}"),
            format!("ulimit -n {FILES_WANTED}, or LimitNOFILE in the unit"),
        ),
        Some(n) => check(Level::Ok, "open files", format!("at most {n}"), ""),
        None => check(Level::Ok, "open files", "no limit", ""),
    }
}

fn trained(all: Result<Vec<Value>>) -> Check {
    let all = match all {
        Ok(all) => all,
        Err(e) => return check(Level::Error, "models", e.message, e.hint),
    };
    let without: Vec<String> = all.iter().filter(|m| m["champion"].is_null()).map(models::name).collect();
    verdict(all.len(), &without)
}

/// A model has a version when its directory under `models` of the data directory holds one.
fn trained_on_disk(project: &Path, data: &Path) -> Check {
    let all = super::config::load(project).map_or_else(|_| Vec::new(), |p| p.models);
    let names: Vec<String> = all.into_iter().map(|m| m.name).collect();
    let empty = |m: &&String| !std::fs::read_dir(data.join("models").join(m)).is_ok_and(|mut d| d.next().is_some());
    let without: Vec<String> = names.iter().filter(empty).cloned().collect();
    verdict(names.len(), &without)
}

fn verdict(all: usize, without: &[String]) -> Check {
    match (all, without) {
        (0, _) => check(Level::Warning, "models", "the project has none", "add one under models/"),
        (n, []) => check(Level::Ok, "models", format!("{n}, all with a version"), ""),
        (_, [first, ..]) => {
            let names = without.join(", ");
            check(Level::Warning, "models", format!("never trained: {names}"), format!("understudy train {first}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_longest_mount_point_counts() {
        let mounts = "overlay / overlay rw 0 0\n/dev/sda1 /srv ext4 rw 0 0\ntmpfs /srv/my\\040data tmpfs rw 0 0\n";
        assert_eq!(mounted(mounts, Path::new("/etc")).as_deref(), Some("overlay"));
        assert_eq!(mounted(mounts, Path::new("/srv/x")).as_deref(), Some("ext4"));
        assert_eq!(mounted(mounts, Path::new("/srv/my data/x")).as_deref(), Some("tmpfs"));
        assert_eq!(mounted("", Path::new("/")), None);
    }

    #[test]
    fn a_taken_port_is_an_error_and_a_free_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let text = format!("[server]\nport = {}\n", taken.local_addr().unwrap().port());
        std::fs::write(dir.path().join("understudy.toml"), text).unwrap();
        assert_eq!(port(dir.path(), false).level, Level::Error);
        assert_eq!(port(dir.path(), true).level, Level::Ok);
        drop(taken);
        assert_eq!(port(dir.path(), false).level, Level::Ok);
    }

    #[test]
    fn the_lock_names_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(lock(dir.path()).level, Level::Ok);
        std::fs::write(dir.path().join(crate::storage::LOCK_FILE), "pid 4711\n").unwrap();
        assert_eq!(lock(dir.path()).level, Level::Ok, "a lock file that nobody holds");
        let held = std::fs::File::open(dir.path().join(crate::storage::LOCK_FILE)).unwrap();
        rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
        let c = lock(dir.path());
        assert_eq!((c.level, c.what.as_str()), (Level::Warning, "held by pid 4711"));
    }

    #[test]
    fn untrained_models_are_named() {
        let c = trained(Ok(vec![json!({"model": "a", "champion": "v1"}), json!({"model": "b", "champion": null})]));
        assert_eq!(
            (c.level, c.what.as_str(), c.remedy.as_str()),
            (Level::Warning, "never trained: b", "understudy train b")
        );
    }
}
