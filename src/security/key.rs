//! API keys: `us_live_<id>_<secret>`. Only the SHA-256 of the secret is kept: it has 256 bits of entropy, so
//! nothing slower is needed.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use understudy_domain::time::Timestamp;

const PREFIX: &str = "us_live_";
/// Bytes of a key's public id.
const ID_BYTES: usize = 6;
/// Bytes of a secret: 256 bits.
const SECRET_BYTES: usize = 32;

/// What a key is good for; none includes another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Ask for predictions.
    Serve,
    /// Send events and outcomes.
    Ingest,
    /// Look at everything.
    Read,
    /// Change things: train, replay, erase.
    Admin,
}

impl Scope {
    pub const ALL: [Scope; 4] = [Scope::Serve, Scope::Ingest, Scope::Read, Scope::Admin];

    pub fn name(self) -> &'static str {
        match self {
            Scope::Serve => "serve",
            Scope::Ingest => "ingest",
            Scope::Read => "read",
            Scope::Admin => "admin",
        }
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let found = Scope::ALL.into_iter().find(|scope| scope.name() == s);
        found.ok_or_else(|| format!("`{s}` is no scope; there are serve, ingest, read and admin"))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is kept of a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Public: stands in logs and in the audit log.
    pub id: String,
    /// Whose it is; at most two active keys of a client, so that one can replace the other.
    pub client: String,
    /// SHA-256 of the secret, in hexadecimal digits.
    pub sha256: String,
    pub scopes: Vec<Scope>,
    /// The models that it may name; empty is all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    pub created: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Timestamp>,
    /// Requests per second; none is the setting `auth.requests_per_s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_s: Option<u32>,
}

impl Key {
    pub fn active(&self, now: Timestamp) -> bool {
        self.revoked.is_none() && self.expires.is_none_or(|t| now < t)
    }
}

/// Id, secret's digest, and the whole key, which is shown once and kept nowhere.
pub struct NewKey {
    pub id: String,
    pub sha256: String,
    pub token: String,
}

/// A new random key, from the operating system's generator.
pub fn new_key() -> std::io::Result<NewKey> {
    let (mut id, mut secret) = ([0u8; ID_BYTES], [0u8; SECRET_BYTES]);
    fill(&mut id)?;
    fill(&mut secret)?;
    let (id, secret) = (hex(&id), hex(&secret));
    Ok(NewKey { sha256: hex(&digest(&secret)), token: format!("{PREFIX}{id}_{secret}"), id })
}

fn fill(mut into: &mut [u8]) -> std::io::Result<()> {
    while !into.is_empty() {
        let n = rustix::rand::getrandom(&mut *into, rustix::rand::GetRandomFlags::empty())?;
        into = &mut into[n..];
    }
    Ok(())
}

/// Id and secret of a key as it is sent.
pub fn split(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.strip_prefix(PREFIX)?.split_once('_')?;
    let plain = |s: &str, bytes: usize| s.len() == 2 * bytes && s.bytes().all(|b| b.is_ascii_hexdigit());
    (plain(id, ID_BYTES) && plain(secret, SECRET_BYTES)).then_some((id, secret))
}

pub fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Takes the same time wherever the two differ.
pub fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let mut difference = 0u8;
    for (x, y) in a.iter().zip(b) {
        difference = std::hint::black_box(difference | (x ^ y));
    }
    difference == 0
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut out = [0u8; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_found_by_its_parts() {
        let (a, b) = (new_key().unwrap(), new_key().unwrap());
        assert_ne!((&a.id, &a.token), (&b.id, &b.token));
        let (id, secret) = split(&a.token).unwrap();
        assert_eq!(id, a.id);
        assert_eq!(unhex(&a.sha256), Some(digest(secret)));
        assert!(same(&digest(secret), &digest(secret)));
        assert!(!same(&digest(secret), &digest(split(&b.token).unwrap().1)));
        for wrong in ["", "us_live_", "us_live_a_b", "us_test_0_0", &a.token[..a.token.len() - 1]] {
            assert_eq!(split(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_key_ends_when_it_expires_or_is_revoked() {
        let key = |expires, revoked| Key {
            id: "a".into(),
            client: "c".into(),
            sha256: String::new(),
            scopes: vec![Scope::Serve],
            models: Vec::new(),
            created: Timestamp(0),
            expires,
            revoked,
            requests_per_s: None,
        };
        let t = Some(Timestamp(10));
        assert!(key(None, None).active(Timestamp(99)));
        assert!(key(t, None).active(Timestamp(9)) && !key(t, None).active(Timestamp(10)));
        assert!(!key(None, t).active(Timestamp(0)));
    }
}
