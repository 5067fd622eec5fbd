//! The file of keys: JSON, only the owner may read it, replaced as a whole.

use super::key::{Key, Scope, new_key, unhex};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use understudy_domain::time::{Span, Timestamp};

/// Active keys of one client: one in use, one to replace it.
const ACTIVE_PER_CLIENT: usize = 2;
const VERSION: u32 = 1;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    keys: Vec<Key>,
}

/// Why the file was not read or changed: what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFileError {
    pub what: String,
    pub hint: String,
}

fn error(what: impl Into<String>, hint: impl Into<String>) -> KeyFileError {
    KeyFileError { what: what.into(), hint: hint.into() }
}

/// Where keys are kept; nothing is held in memory between calls.
#[derive(Clone, Debug)]
pub struct KeyFile {
    path: PathBuf,
}

impl KeyFile {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        KeyFile { path: path.into() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The keys; none if there is no file. A file that others may read, or that is not sound, is an error.
    pub fn read(&self) -> Result<Vec<Key>, KeyFileError> {
        let shown = self.path.display();
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(error(format!("cannot read {shown}: {e}"), "check its owner and permissions")),
        };
        let mode = fs::metadata(&self.path).map(|m| m.permissions().mode() & 0o777).unwrap_or(0o600);
        if mode & 0o077 != 0 {
            return Err(error(format!("{shown} may be read by others (mode {mode:o})"), format!("chmod 600 {shown}")));
        }
        let broken = |why: String| error(format!("{shown} is not a file of keys: {why}"), "restore it from a backup");
        let stored: Stored = serde_json::from_str(&text).map_err(|e| broken(e.to_string()))?;
        if stored.version != VERSION {
            return Err(broken(format!("version {}, this program knows {VERSION}", stored.version)));
        }
        let mut ids = HashSet::new();
        for key in &stored.keys {
            if unhex(&key.sha256).is_none() || key.scopes.is_empty() || !ids.insert(&key.id) {
                return Err(broken(format!("key `{}` has no digest, no scope, or an id twice", key.id)));
            }
        }
        Ok(stored.keys)
    }

    /// Makes a key; the whole of it is returned here and kept nowhere.
    pub fn create(
        &self,
        client: &str,
        scopes: &[Scope],
        models: &[String],
        expires: Option<Timestamp>,
        requests_per_s: Option<u32>,
        now: Timestamp,
    ) -> Result<(Key, String), KeyFileError> {
        if scopes.is_empty() {
            return Err(error("a key needs at least one scope", "give --scope serve, ingest, read or admin"));
        }
        let mut scopes = scopes.to_vec();
        scopes.sort();
        scopes.dedup();
        self.change(|keys| {
            let active = keys.iter().filter(|k| k.client == client && k.active(now)).count();
            if active >= ACTIVE_PER_CLIENT {
                return Err(error(
                    format!("`{client}` has {active} active keys"),
                    "revoke one first: `understudy keys list`, `understudy keys revoke ID`",
                ));
            }
            let new = new_key().map_err(|e| error(format!("no random numbers: {e}"), ""))?;
            let key = Key {
                id: new.id,
                client: client.to_owned(),
                sha256: new.sha256,
                scopes,
                models: models.to_vec(),
                created: now,
                expires,
                revoked: None,
                requests_per_s,
            };
            keys.push(key.clone());
            Ok((key, new.token))
        })
    }

    /// Ends a key at once; the key before and after.
    pub fn revoke(&self, id: &str, now: Timestamp) -> Result<(Key, Key), KeyFileError> {
        self.change(|keys| {
            let key = found(keys, id)?;
            let before = key.clone();
            key.revoked = Some(key.revoked.unwrap_or(now));
            Ok((before, key.clone()))
        })
    }

    /// A new key of the same kind for the same client; the old one ends after `overlap`.
    /// The old key as it was, the new one, and the whole of the new one.
    pub fn rotate(&self, id: &str, overlap: Span, now: Timestamp) -> Result<(Key, Key, String), KeyFileError> {
        let old = self.read()?.into_iter().find(|k| k.id == id).ok_or_else(|| unknown(id))?;
        if !old.active(now) {
            return Err(error(format!("key `{id}` is not active"), "make a new one: `understudy keys create`"));
        }
        let lifetime = old.expires.map(|t| now + (t - old.created));
        let (new, token) = self.create(&old.client, &old.scopes, &old.models, lifetime, old.requests_per_s, now)?;
        self.change(|keys| {
            let key = found(keys, id)?;
            let end = now + overlap;
            key.expires = Some(key.expires.map_or(end, |t| t.min(end)));
            Ok(())
        })?;
        Ok((old, new, token))
    }

    /// Reads, changes and replaces the file under a lock of its own.
    fn change<T>(&self, change: impl FnOnce(&mut Vec<Key>) -> Result<T, KeyFileError>) -> Result<T, KeyFileError> {
        let failed = |what: &'static str| {
            let shown = self.path.display().to_string();
            move |e: std::io::Error| {
                error(format!("cannot {what} {shown}: {e}"), "check the folder and its permissions")
            }
        };
        let lock = self.path.with_extension("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(lock);
        let lock = lock.map_err(failed("lock"))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|e| failed("lock")(e.into()))?;
        let mut keys = self.read()?;
        let result = change(&mut keys)?;
        let text = serde_json::to_vec_pretty(&Stored { version: VERSION, keys }).expect("keys are plain data");
        let next = self.path.with_extension("new");
        let write = || {
            let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&next)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&next, &self.path)?;
            let folder = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            File::open(folder)?.sync_all()
        };
        write().map_err(failed("write"))?;
        Ok(result)
    }
}

fn unknown(id: &str) -> KeyFileError {
    error(format!("there is no key `{id}`"), "`understudy keys list` shows them")
}

fn found<'a>(keys: &'a mut [Key], id: &str) -> Result<&'a mut Key, KeyFileError> {
    keys.iter_mut().find(|k| k.id == id).ok_or_else(|| unknown(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn create(file: &KeyFile, client: &str) -> Result<(Key, String), KeyFileError> {
        file.create(client, &[Scope::Serve], &[], None, None, NOW)
    }

    #[test]
    fn keys_are_made_replaced_and_ended() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::new(dir.path().join("keys.json"));
        assert_eq!(file.read().unwrap(), []);
        let (key, token) = create(&file, "shop").unwrap();
        assert_eq!(file.read().unwrap(), std::slice::from_ref(&key));
        assert!(!fs::read_to_string(file.path()).unwrap().contains(&token[22..]), "no secret is kept");
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);

        let (old, new, _) = file.rotate(&key.id, Span::hours(1), NOW).unwrap();
        assert_eq!((old.id, new.client.as_str(), &new.scopes), (key.id.clone(), "shop", &key.scopes));
        let both = file.read().unwrap();
        assert!(both.iter().all(|k| k.active(NOW)) && both.len() == 2);
        assert!(!both[0].active(NOW + Span::hours(1)) && both[1].active(NOW + Span::hours(1)));
        assert!(create(&file, "shop").unwrap_err().what.contains("2 active keys"));
        assert!(create(&file, "other").is_ok());

        file.revoke(&new.id, NOW).unwrap();
        assert!(!file.read().unwrap()[1].active(NOW));
        assert!(create(&file, "shop").is_ok());
        assert!(file.revoke("nobody", NOW).is_err() && file.rotate(&new.id, Span::hours(1), NOW).is_err());
    }

    #[test]
    fn a_file_that_is_not_sound_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile::new(dir.path().join("keys.json"));
        let (key, _) = create(&file, "shop").unwrap();
        let twice = serde_json::json!({"version": 1, "keys": [key, key]}).to_string();
        for broken in ["", "{", r#"{"version": 9, "keys": []}"#, &twice] {
            fs::write(file.path(), broken).unwrap();
            assert!(file.read().is_err(), "{broken}");
            assert!(create(&file, "x").is_err(), "and is not overwritten");
            assert_eq!(fs::read_to_string(file.path()).unwrap(), broken);
        }
        fs::write(file.path(), r#"{"version": 1, "keys": []}"#).unwrap();
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(file.read().unwrap_err().hint.starts_with("chmod 600"));
    }
}
