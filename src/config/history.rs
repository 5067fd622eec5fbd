//! The history of a project's changes, in one file beside the logs: a line that names the format and has the checksum
//! of the rest, then one change a line. Written whole and atomically; bounded.

use super::files::replace;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use understudy_actors::config::{Change, Files, Verdict};

const FORMAT: &str = "understudy config history 1";
/// Changes kept, and how many of them with the contents of their files.
const KEEP: usize = 500;
const KEEP_FILES: usize = 50;

pub struct History {
    path: PathBuf,
    changes: Vec<Change>,
}

fn checksum(body: &str) -> String {
    Sha256::digest(body.as_bytes()).iter().take(8).map(|b| format!("{b:02x}")).collect()
}

fn parse(text: &str) -> Result<Vec<Change>, String> {
    let (head, body) = text.split_once('\n').ok_or("it has no first line")?;
    let sum = head.strip_prefix(FORMAT).ok_or_else(|| format!("its first line is not `{FORMAT} ...`"))?;
    if sum.trim() != checksum(body) {
        return Err("its checksum is wrong".into());
    }
    body.lines().map(|line| serde_json::from_str(line).map_err(|e| e.to_string())).collect()
}

impl History {
    /// A file that cannot be read is put aside, and the history begins anew.
    pub fn open(data: &Path) -> History {
        let path = data.join("config-history");
        let changes = match std::fs::read_to_string(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(e.to_string()),
            Ok(text) => parse(&text),
        };
        let changes = changes.unwrap_or_else(|why| {
            let aside = path.with_extension("damaged");
            tracing::error!(file = %path.display(), why, aside = %aside.display(), "the history of the configuration is damaged; put aside, beginning anew");
            let _ = std::fs::rename(&path, &aside);
            Vec::new()
        });
        History { path, changes }
    }

    /// Oldest first.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Number and files of the last generation that was applied.
    pub fn last_applied(&self) -> Option<(u64, &Files)> {
        self.changes.iter().rev().find_map(|c| Some((c.generation, c.files.as_ref()?)))
    }

    /// The last change, if the process ended while it was being applied.
    pub fn cut_off(&self) -> Option<&Change> {
        self.changes.last().filter(|c| c.verdict == Verdict::Applying)
    }

    /// Highest number ever given.
    pub fn newest(&self) -> u64 {
        self.changes.iter().map(|c| c.generation).max().unwrap_or(0)
    }

    /// Durable when it returns. Takes the place of a last entry that is being applied.
    pub fn record(&mut self, change: Change) -> Result<(), String> {
        let mut changes = self.changes.clone();
        if changes.last().is_some_and(|c| c.verdict == Verdict::Applying) {
            changes.pop();
        }
        changes.push(change);
        let surplus = changes.len().saturating_sub(KEEP);
        changes.drain(..surplus);
        let mut with_files = 0;
        for change in changes.iter_mut().rev().filter(|c| c.files.is_some()) {
            with_files += 1;
            if with_files > KEEP_FILES {
                change.files = None;
            }
        }
        let lines = changes.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>();
        let mut body = lines.map_err(|e| e.to_string())?.join("\n");
        body.push('\n');
        let text = format!("{FORMAT} {}\n{body}", checksum(&body));
        replace(&self.path, text.as_bytes()).map_err(|e| format!("{}: {e}", self.path.display()))?;
        self.changes = changes;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use understudy_domain::time::Timestamp;

    fn change(generation: u64, verdict: Verdict) -> Change {
        Change {
            generation,
            time: Timestamp(generation as i64),
            by: "file".into(),
            hash: format!("h{generation}"),
            verdict,
            changes: Vec::new(),
            problems: Vec::new(),
            at_next_start: Vec::new(),
            files: (verdict == Verdict::Applied).then(Files::default),
        }
    }

    #[test]
    fn it_is_read_back_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let mut history = History::open(dir.path());
        for n in 1..=(KEEP as u64 + 10) {
            history.record(change(n, Verdict::Applied)).unwrap();
        }
        let again = History::open(dir.path());
        assert_eq!(again.changes(), history.changes());
        assert_eq!((again.changes().len(), again.newest()), (KEEP, KEEP as u64 + 10));
        assert_eq!(again.changes().iter().filter(|c| c.files.is_some()).count(), KEEP_FILES);
        assert_eq!(again.last_applied().unwrap().0, KEEP as u64 + 10);
    }

    #[test]
    fn a_change_that_was_cut_off_is_seen_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let mut history = History::open(dir.path());
        history.record(change(1, Verdict::Applied)).unwrap();
        history.record(change(2, Verdict::Applying)).unwrap();
        let mut again = History::open(dir.path());
        assert_eq!(again.cut_off().unwrap().generation, 2);
        assert_eq!(again.last_applied().unwrap().0, 1);
        again.record(change(2, Verdict::Applied)).unwrap();
        assert_eq!((again.changes().len(), again.cut_off()), (2, None));
    }

    #[test]
    fn every_damaged_byte_is_found() {
        let dir = tempfile::tempdir().unwrap();
        History::open(dir.path()).record(change(1, Verdict::Applied)).unwrap();
        let path = dir.path().join("config-history");
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let text = String::from_utf8_lossy(&bad);
            assert!(parse(&text).is_err(), "byte {at}");
        }
        std::fs::write(&path, &good[..good.len() / 2]).unwrap();
        assert!(History::open(dir.path()).changes().is_empty());
        assert!(path.with_extension("damaged").exists() && !path.exists());
    }
}
