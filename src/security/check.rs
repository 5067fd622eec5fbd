//! The check of every request: which key, is it good for this route and this model, is it within its rate.

use super::audit::{Audit, Record};
use super::key::{Key, Scope, digest, new_key, same, split, unhex};
use super::key_file::{KeyFile, KeyFileError};
use crate::config::{Settings, TlsMode};
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};
use understudy_domain::admission::{Rate, take};
use understudy_domain::time::Timestamp;

/// Between two looks at the file of keys.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Who asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Somebody on this machine, while no keys are in use.
    Local,
    /// The id of a key.
    Key(Arc<str>),
    /// Nobody in particular: the route is open to all.
    Anyone,
}

impl Caller {
    pub fn name(&self) -> &str {
        match self {
            Caller::Local => "local",
            Caller::Key(id) => id,
            Caller::Anyone => "anyone",
        }
    }
}

/// Why a request was not let through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// 401: no key, or none that is good.
    Unauthorized { code: &'static str, detail: &'static str },
    /// 403: the key is good, but not for this.
    Forbidden { code: &'static str, detail: String },
    /// 429.
    TooMany { retry_after: Duration },
}

/// A key as it is looked up.
struct Loaded {
    key: Key,
    digest: [u8; 32],
    id: Arc<str>,
    rate: Option<Rate>,
    /// State of the bucket; survives a change of the file.
    bucket: Arc<AtomicU64>,
}

type Table = HashMap<String, Arc<Loaded>>;

/// Shared by all workers.
pub struct Security {
    /// Once keys are in use they stay in use until the next start: a file that disappears opens nothing.
    required: std::sync::atomic::AtomicBool,
    table: ArcSwap<Table>,
    file: KeyFile,
    /// The key of the program itself, when it runs a server for one command.
    own: Option<Arc<Loaded>>,
    per_s: u32,
    allowed_hosts: Vec<String>,
    born: Instant,
    denied: [AtomicU64; 3],
    pub audit: Audit,
}

impl Security {
    /// `now` is the wall clock. Fails if the file of keys is there and not sound.
    pub fn open(project: &Path, data: &Path, settings: &Settings) -> Result<Security, KeyFileError> {
        let file = KeyFile::new(project.join(&settings.auth.keys_file));
        let keys = file.read()?;
        let hosts = settings.auth.allowed_hosts.split(',').map(str::trim).filter(|h| !h.is_empty());
        let security = Security {
            required: (!keys.is_empty() || !settings.server.bind.is_loopback()).into(),
            table: ArcSwap::from_pointee(Table::new()),
            file,
            own: None,
            per_s: settings.auth.requests_per_s,
            allowed_hosts: hosts.map(str::to_ascii_lowercase).collect(),
            born: Instant::now(),
            denied: Default::default(),
            audit: Audit::new(data.join("audit.log")),
        };
        security.load(keys);
        Ok(security)
    }

    /// A key that only this process knows, for the commands that start a server of their own.
    pub fn with_own_key(mut self) -> std::io::Result<(Security, String)> {
        let new = new_key()?;
        let key = Key {
            id: new.id,
            client: "this process".into(),
            sha256: new.sha256,
            scopes: Scope::ALL.to_vec(),
            models: Vec::new(),
            created: Timestamp(0),
            expires: None,
            revoked: None,
            requests_per_s: None,
        };
        let digest = unhex(&key.sha256).unwrap_or_default();
        let id = Arc::from(key.id.as_str());
        self.own = Some(Arc::new(Loaded { key, digest, id, rate: None, bucket: Arc::default() }));
        Ok((self, new.token))
    }

    pub fn required(&self) -> bool {
        self.required.load(Relaxed)
    }

    /// Requests refused since the start: without a good key, with one that is not good for it, over the rate.
    pub fn denied(&self) -> [u64; 3] {
        std::array::from_fn(|i| self.denied[i].load(Relaxed))
    }

    /// Keys in the table that is in force.
    pub fn keys(&self) -> usize {
        self.table.load().len()
    }

    fn load(&self, keys: Vec<Key>) {
        let before = self.table.load();
        let mut table = Table::new();
        for key in keys {
            let Some(digest) = unhex(&key.sha256) else { continue };
            let per_s = key.requests_per_s.unwrap_or(self.per_s);
            // A second's worth at once.
            let rate = (per_s > 0).then(|| Rate { per_s: f64::from(per_s), burst: f64::from(per_s) });
            let bucket = before.get(&key.id).map(|l| l.bucket.clone()).unwrap_or_default();
            table.insert(key.id.clone(), Arc::new(Loaded { id: Arc::from(&*key.id), digest, rate, bucket, key }));
        }
        if !table.is_empty() {
            self.required.store(true, Relaxed);
        }
        self.table.store(Arc::new(table));
    }

    /// Takes changes of the file into use, until the runtime ends. A file that is not sound changes nothing.
    pub async fn keep_keys_fresh(self: Arc<Self>) {
        let seen = |file: &KeyFile| {
            let meta = std::fs::metadata(file.path()).ok()?;
            let inode = std::os::unix::fs::MetadataExt::ino(&meta);
            Some((meta.modified().ok()?, meta.len(), inode))
        };
        let mut last: Option<(SystemTime, u64, u64)> = None;
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        loop {
            ticks.tick().await;
            let now = seen(&self.file);
            if now == last {
                continue;
            }
            last = now;
            match self.file.read() {
                Ok(keys) if keys.is_empty() && self.keys() > 0 => {
                    tracing::error!(file = %self.file.path().display(), "the keys are gone; the last ones stay in force");
                }
                Ok(keys) => self.load(keys),
                Err(e) => {
                    tracing::error!(what = %e.what, hint = %e.hint, "the keys were not read; the last ones stay in force")
                }
            }
        }
    }

    /// Whether a request with this `Authorization` may do what needs `scope` (`None`: open to all).
    pub fn check(
        &self,
        authorization: Option<&str>,
        scope: Option<Scope>,
        model: Option<&str>,
        now: Timestamp,
    ) -> Result<Caller, Denied> {
        let Some(scope) = scope else { return Ok(Caller::Anyone) };
        if !self.required() {
            return Ok(Caller::Local);
        }
        let result = self.with_key(authorization, scope, model, now);
        if let Err(denied) = &result {
            let at = match denied {
                Denied::Unauthorized { .. } => 0,
                Denied::Forbidden { .. } => 1,
                Denied::TooMany { .. } => 2,
            };
            self.denied[at].fetch_add(1, Relaxed);
        }
        result
    }

    fn with_key(
        &self,
        authorization: Option<&str>,
        scope: Scope,
        model: Option<&str>,
        now: Timestamp,
    ) -> Result<Caller, Denied> {
        let unauthorized = |code, detail| Denied::Unauthorized { code, detail };
        let token = authorization.and_then(|a| a.strip_prefix("Bearer ").or_else(|| a.strip_prefix("bearer ")));
        let token = token.ok_or(unauthorized("no_key", "send the key as `Authorization: Bearer us_live_...`"))?;
        let wrong = unauthorized("unknown_key", "this key is not known here");
        let (id, secret) = split(token.trim()).ok_or(wrong.clone())?;
        let table = self.table.load();
        let own = self.own.as_ref().filter(|own| *own.id == *id);
        // An unknown id costs the same as a wrong secret.
        let loaded = own.or_else(|| table.get(id));
        let expected = loaded.map_or([0; 32], |l| l.digest);
        if !same(&digest(secret), &expected) {
            return Err(wrong);
        }
        let loaded = loaded.ok_or(wrong)?;
        let key = &loaded.key;
        if key.revoked.is_some() {
            return Err(unauthorized("key_revoked", "this key was revoked"));
        }
        if !key.active(now) {
            return Err(unauthorized("key_expired", "this key has expired"));
        }
        if !key.scopes.contains(&scope) {
            let has: Vec<&str> = key.scopes.iter().map(|s| s.name()).collect();
            let detail = format!("this needs the scope `{scope}`; the key has {}", has.join(", "));
            return Err(Denied::Forbidden { code: "scope_missing", detail });
        }
        if !key.models.is_empty() && !model.is_some_and(|m| key.models.iter().any(|k| k == m)) {
            let detail = format!("this key is only good for requests to {}", key.models.join(", "));
            return Err(Denied::Forbidden { code: "model_not_allowed", detail });
        }
        if let Some(rate) = loaded.rate {
            self.spend(rate, &loaded.bucket)?;
        }
        Ok(Caller::Key(loaded.id.clone()))
    }

    fn spend(&self, rate: Rate, bucket: &AtomicU64) -> Result<(), Denied> {
        let now = u64::try_from(self.born.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut state = bucket.load(Relaxed);
        loop {
            let next =
                take(rate, state, now).map_err(|ns| Denied::TooMany { retry_after: Duration::from_nanos(ns) })?;
            match bucket.compare_exchange_weak(state, next, Relaxed, Relaxed) {
                Ok(_) => return Ok(()),
                Err(other) => state = other,
            }
        }
    }

    /// While no keys are in use: a page of some other site, in a browser on this machine, must not reach us. Such
    /// a request names the site as its `Host` (DNS rebinding) or as its `Origin`.
    pub fn check_local(&self, host: Option<&str>, origin: Option<&str>) -> Result<(), Denied> {
        if self.required() {
            return Ok(());
        }
        let forbidden = |code, what: &str, value: &str| {
            let detail = format!("{what} `{value}` is not this machine; name it in auth.allowed_hosts, or use keys");
            Err(Denied::Forbidden { code, detail })
        };
        if let Some(host) = host.filter(|h| !self.is_ours(h)) {
            return forbidden("host_not_allowed", "Host", host);
        }
        match origin {
            Some(origin) if !self.is_ours(origin.split_once("://").map_or(origin, |(_, host)| host)) => {
                forbidden("origin_not_allowed", "Origin", origin)
            }
            _ => Ok(()),
        }
    }

    fn is_ours(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[').and_then(|h| h.split_once(']')) {
            Some((v6, _)) => v6,
            None => host.split(':').next().unwrap_or_default(),
        };
        name.eq_ignore_ascii_case("localhost")
            || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            || self.allowed_hosts.iter().any(|h| h.eq_ignore_ascii_case(name))
    }

    /// Puts a change into the audit log; an error of the log is told, the change stands.
    pub fn record(&self, record: Record) {
        if let Err(e) = self.audit.append(record) {
            tracing::error!(%e, "the audit log could not be written");
        }
    }
}

/// Why a server with these settings must not listen; `None` if it may.
pub fn must_not_listen(settings: &Settings, keys: usize) -> Option<String> {
    let bind = settings.server.bind;
    if bind.is_loopback() {
        return None;
    }
    let mut missing = Vec::new();
    if keys == 0 {
        missing.push("there are no API keys (make one with `understudy keys create CLIENT --scope serve`)");
    }
    if settings.tls.mode == TlsMode::Off {
        missing.push(
            "there is no TLS (set tls.mode = \"files\" with tls.cert and tls.key, or say tls.mode = \
             \"terminated-elsewhere\" if a proxy in front does it)",
        );
    }
    (!missing.is_empty())
        .then(|| format!("server.bind is {bind}, so other machines can reach it, but {}", missing.join(" and ")))
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
