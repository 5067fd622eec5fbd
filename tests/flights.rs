//! The example project as the tests use it: one small model, and the recording in lines.

use crate::support::{SOURCE, Server, copy_project, edit};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;
use understudy_domain::time::Timestamp;

pub const MODEL: &str = "delay-logistic";
/// The stream is replayed up to here; by then a model has served for half a month.
pub const END: &str = "2013-02-01T00:00:00Z";
/// When the model is trained.
pub const TRAIN: &str = "2013-01-15T00:00:00Z";

pub fn example() -> PathBuf {
    Path::new(SOURCE).join("examples/flights")
}

/// A copy with the logistic model alone, trained briefly.
pub fn project() -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    copy_project(&example(), dir.path());
    std::fs::remove_file(dir.path().join("models/delay-mlp.toml")).expect("removed");
    edit(&dir.path().join("models/delay-logistic.toml"), "max_epochs = 30", "max_epochs = 2");
    dir
}

pub fn serve(project: &Path) -> Server {
    Server::start(project, &["clock.source=stream", "storage.durability=process"])
}

pub fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// The first month: when each event was learnt, and its line.
pub fn january() -> &'static [(Timestamp, String)] {
    static LINES: OnceLock<Vec<(Timestamp, String)>> = OnceLock::new();
    LINES.get_or_init(|| {
        let all = understudy::tables::open_recording(&example()).expect("the recording opens");
        let lines = all.map(|r| r.expect("a line")).take_while(|r| r.at < time(END));
        lines.map(|r| (r.at, serde_json::to_string(&r.event).expect("JSON"))).collect()
    })
}

/// Index of the first line learnt at or after the training.
pub fn train_at() -> usize {
    january().partition_point(|(at, _)| *at < time(TRAIN))
}

/// Sends lines; the answer must account for each.
pub fn send(server: &Server, lines: &[(Timestamp, String)]) -> Value {
    try_send(server, lines).expect("the server lives")
}

pub fn try_send(server: &Server, lines: &[(Timestamp, String)]) -> Option<Value> {
    let body: String = lines.iter().flat_map(|(_, l)| [l.as_str(), "\n"]).collect();
    let (status, answer) = server.lines("/v1/replay", &body)?;
    assert_eq!(status, 200, "{answer}");
    let count = |key: &str| answer[key].as_u64().expect("a count");
    assert_eq!(count("accepted") + count("duplicates"), lines.len() as u64, "{answer}");
    Some(answer)
}

/// What a whole run leaves: the export and the monitor's report.
pub struct Served {
    pub predictions: Vec<Value>,
    pub monitor: Value,
}

/// Replays the month in batches and trains in the middle.
pub fn replay(batch: usize) -> Served {
    let project = project();
    let server = serve(project.path());
    let (before, after) = january().split_at(train_at());
    for lines in before.chunks(batch) {
        send(&server, lines);
    }
    server.train(MODEL);
    for lines in after.chunks(batch) {
        send(&server, lines);
    }
    served(&server)
}

/// The run that others are compared with.
pub fn reference() -> &'static Served {
    static RUN: OnceLock<Served> = OnceLock::new();
    RUN.get_or_init(|| replay(700))
}

pub fn served(server: &Server) -> Served {
    let mut monitor = server.ok(&format!("/v1/models/{MODEL}/monitor"));
    let without = |w: &mut Value| w.as_object_mut().expect("a window").remove("timing");
    monitor["windows"].as_array_mut().expect("windows").iter_mut().for_each(|w| drop(without(w)));
    without(&mut monitor["total"]);
    Served { predictions: server.predictions(), monitor }
}
