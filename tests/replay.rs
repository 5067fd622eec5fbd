//! A recorded stream gives the same answers at any batch size, and after any number of deaths.

use crate::flights::{self, MODEL, january, send, serve, train_at, try_send};
use crate::golden;
use std::thread::{park_timeout, scope};
use std::time::Instant;

#[test]
fn batch_size_changes_nothing() {
    let (large, small) = (flights::reference(), flights::replay(50));
    assert!(large.predictions.len() > 5_000, "{}", large.predictions.len());
    assert_eq!(large.predictions.len(), small.predictions.len());
    for (a, b) in large.predictions.iter().zip(&small.predictions) {
        assert_eq!(a.to_string(), b.to_string());
    }
    assert_eq!(large.monitor.to_string(), small.monitor.to_string());
}

/// Lines of one batch; large enough to die in.
const BATCH: usize = 1000;
/// Deaths, each somewhat later within its batch.
const DEATHS: u32 = 6;

#[test]
fn deaths_in_the_middle_of_a_batch_change_nothing() {
    let project = flights::project();
    let mut server = serve(project.path());
    let (before, after) = january().split_at(train_at());
    for lines in before.chunks(BATCH) {
        send(&server, lines);
    }
    server.train(MODEL);
    let batches: Vec<_> = after.chunks(BATCH).collect();
    let mut usual = None;
    let mut deaths = 0;
    for (i, lines) in batches.iter().enumerate() {
        let due = i > 0 && i % (batches.len() / (DEATHS as usize + 1)).max(1) == 0 && deaths < DEATHS;
        if due {
            deaths += 1;
            let pause = usual.expect("a batch was timed") * deaths / (DEATHS + 1);
            scope(|s| {
                let client = server.url.clone();
                let posting = s.spawn(move || post(&client, lines));
                // Any moment must be survived; different ones are tried.
                park_timeout(pause);
                server.kill();
                let _ = posting.join();
            });
            server = serve(project.path());
            // A client that does not know what arrived begins a little earlier.
            send(&server, batches[i - 1]);
        }
        let started = Instant::now();
        try_send(&server, lines).expect("the server lives");
        usual = Some(started.elapsed());
    }
    assert_eq!(deaths, DEATHS);
    let again = send(&server, batches[batches.len() - 1]);
    assert_eq!(again["accepted"], 0, "{again}");
    let (here, there) = (flights::served(&server), flights::reference());
    golden::check(&here.predictions, &golden::inputs());
    assert_eq!(here.predictions.len(), there.predictions.len());
    for (a, b) in here.predictions.iter().zip(&there.predictions) {
        assert_eq!((&a["id"], &a["vector"], &a["score"]), (&b["id"], &b["vector"], &b["score"]));
    }
    assert_eq!(here.monitor["total"]["quality"], there.monitor["total"]["quality"]);
}

/// Posts without caring for an answer.
fn post(url: &str, lines: &[(understudy_domain::time::Timestamp, String)]) {
    let body: String = lines.iter().flat_map(|(_, l)| [l.as_str(), "\n"]).collect();
    let _ = ureq::post(format!("{url}/v1/replay")).content_type("application/x-ndjson").send(body.as_bytes());
}
