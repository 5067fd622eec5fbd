//! `keys` and `audit`: the project's file of API keys, and the record of who changed what.

use super::args::{AuditCommand, KeysCommand};
use super::error::{CliError, Result, at_path};
use super::output::{cell, json, put};
use super::table;
use super::target::{Context, known_project};
use crate::config::Project;
use crate::security::audit::{self, Audit, Record};
use crate::security::{Key, KeyFile, KeyFileError};
use crate::system::WallClock;
use serde_json::{Value, json};
use std::path::PathBuf;
use understudy_actors::ports::Clock;

/// Exit code of a log that does not verify.
const DAMAGED: u8 = 3;

impl From<KeyFileError> for CliError {
    fn from(e: KeyFileError) -> Self {
        CliError::new(e.what).hint(e.hint)
    }
}

/// The files of this project that the commands work on; a running server takes changes up by itself.
struct Files {
    keys: KeyFile,
    audit: PathBuf,
}

fn files(ctx: &Context) -> Result<Files> {
    if ctx.url.is_some() {
        return Err(CliError::usage("keys and the audit log are files of the project, not of a server")
            .hint("run this where the project is, without --url"));
    }
    let dir = ctx.project_dir();
    known_project(&dir)?;
    let project = Project::load(&dir, &[]).map_err(|p| CliError::from(p[0].clone()))?;
    let settings = &project.settings;
    Ok(Files {
        keys: KeyFile::new(project.dir.join(&settings.auth.keys_file)),
        audit: project.dir.join(&settings.storage.dir).join("audit.log"),
    })
}

impl Files {
    /// Keys are changed only where that can be put on record.
    fn record(&self, action: &str, key: &Key, before: Option<&Key>) -> Result {
        let shown = |k: &Key| shown(k, WallClock.now());
        let record = Record {
            seq: 0,
            time: WallClock.now(),
            who: std::env::var("USER").unwrap_or_else(|_| format!("uid {}", rustix::process::getuid().as_raw())),
            from: "command line".into(),
            action: action.into(),
            target: key.id.clone(),
            before: before.map_or(Value::Null, shown),
            after: shown(key),
        };
        Audit::new(&self.audit).append(record).map_err(at_path(&self.audit, "write"))?;
        Ok(())
    }
}

pub fn run(ctx: &Context, command: &KeysCommand) -> Result {
    let files = files(ctx)?;
    let now = WallClock.now();
    match command {
        KeysCommand::Create { client, scopes, models, expires, rate } => {
            let expires = expires.map(|span| now + span);
            let (key, token) = files.keys.create(client, scopes, models, expires, *rate, now)?;
            files.record("key.create", &key, None)?;
            tell(ctx, &key, &token);
        }
        KeysCommand::List => {
            let list: Vec<Value> = files.keys.read()?.iter().map(|k| shown(k, now)).collect();
            if ctx.json {
                json(&json!({ "keys": list }));
            } else {
                put(&rows(&list, &["id", "client", "state", "scopes", "models", "created", "expires"]));
            }
        }
        KeysCommand::Revoke { id } => {
            let (before, after) = files.keys.revoke(id, now)?;
            files.record("key.revoke", &after, Some(&before))?;
            if ctx.json {
                json(&shown(&after, now));
            } else {
                ctx.note(&format!(
                    "key {id} of {} is revoked; a running server refuses it within a second",
                    after.client
                ));
            }
        }
        KeysCommand::Rotate { id, overlap } => {
            let (old, new, token) = files.keys.rotate(id, *overlap, now)?;
            files.record("key.rotate", &new, Some(&old))?;
            ctx.note(&format!("key {id} goes on to be good until {}", now + *overlap));
            tell(ctx, &new, &token);
        }
    }
    Ok(())
}

fn rows(list: &[Value], columns: &[&str]) -> String {
    let row = |v: &Value| columns.iter().map(|c| cell(&v[*c])).collect();
    table::table(columns, &[], list.iter().map(row).collect())
}

/// The only time that the whole key is seen.
fn tell(ctx: &Context, key: &Key, token: &str) {
    if ctx.json {
        let mut out = shown(key, key.created);
        out["key"] = token.into();
        json(&out);
    } else {
        put(&format!("{token}\n"));
        ctx.note(&format!("key {} of {}: this is the only time that it is shown", key.id, key.client));
    }
}

fn shown(key: &Key, now: understudy_domain::time::Timestamp) -> Value {
    let state = match (key.revoked.is_some(), key.active(now)) {
        (true, _) => "revoked",
        (_, true) => "active",
        _ => "expired",
    };
    let scopes: Vec<&str> = key.scopes.iter().map(|s| s.name()).collect();
    json!({
        "id": key.id, "client": key.client, "state": state, "scopes": scopes, "models": key.models,
        "created": key.created, "expires": key.expires, "requests_per_s": key.requests_per_s,
    })
}

pub fn audit(ctx: &Context, command: &AuditCommand) -> Result {
    let files = files(ctx)?;
    let path = &files.audit;
    if !path.exists() {
        return Err(CliError::new(format!("there is no audit log yet ({})", path.display()))
            .hint("it begins with the first change: a key, a training, an erasure"));
    }
    match command {
        AuditCommand::Verify => {
            let report = audit::verify(path, &mut |_| {}).map_err(at_path(path, "read"))?;
            let out = serde_json::to_value(&report).expect("a report is plain data");
            if ctx.json {
                json(&out);
            } else {
                put(&table::pairs(&out));
            }
            match &report.broken_at {
                None => Ok(()),
                Some(why) => Err(CliError {
                    exit: DAMAGED,
                    ..CliError::new(format!("the audit log was changed or is damaged: {why}"))
                        .hint("keep the file as it is; compare it with a backup")
                }),
            }
        }
        AuditCommand::Show { n } => {
            let mut records = std::collections::VecDeque::new();
            let mut keep = |r: Record| {
                records.push_back(serde_json::to_value(r).expect("a record is plain data"));
                if records.len() > *n as usize {
                    records.pop_front();
                }
            };
            audit::verify(path, &mut keep).map_err(at_path(path, "read"))?;
            let records: Vec<Value> = records.into();
            if ctx.json {
                json(&json!({ "records": records }));
            } else {
                put(&rows(&records, &["seq", "time", "who", "from", "action", "target"]));
            }
            Ok(())
        }
    }
}
