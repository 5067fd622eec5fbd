//! One change, from files to a generation in force or a reason why not.

use super::InForce;
use crate::config::*;
use crate::feature_shard::Scan;
use crate::reconfigure;
use crate::system::System;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// From files to a new generation; a change that says what became of them, and what is in force if they are.
#[allow(clippy::too_many_arguments)] // one step of the watcher, written as a function so that it can await
pub(super) async fn apply(
    system: &Arc<System>,
    source: Arc<dyn ConfigSource>,
    number: u64,
    old: &InForce,
    started: &BTreeMap<String, String>,
    files: Files,
    undo: Option<Files>,
    change: Change,
    scan: Arc<Scan>,
) -> (Change, Option<(Files, Compiled)>) {
    let blocking = system.deps.settings.blocking;
    let refuse = |change: Change, problems: Vec<String>| {
        let verdict = if scan.stop.load(Relaxed) { Verdict::Superseded } else { Verdict::Refused };
        let refused = Change { verdict, problems, files: None, ..change };
        let _ = source.record(refused.clone());
        if let Some(undo) = &undo
            && let Err(e) = source.write(undo)
        {
            tracing::error!(e, "the files of the project could not be put back");
        }
        (refused, None)
    };
    let compile = {
        let (source, files) = (source.clone(), files.clone());
        blocking.run(move || source.compile(&files)).await
    };
    let compiled = match compile.unwrap_or_else(|panic| Err(vec![panic])) {
        Ok(compiled) => compiled,
        Err(problems) => return refuse(change, problems),
    };
    let changes = diff(&old.compiled.values, &compiled.values, |key| source.effect(key));
    if changes.is_empty() {
        return (Change { verdict: Verdict::Unchanged, ..change }, Some((files, compiled)));
    }
    let waits = diff(started, &compiled.values, |key| source.effect(key));
    let at_next_start = waits.into_iter().filter(|c| c.effect == Effect::Restart).map(|c| c.key).collect();
    let change = Change { changes, at_next_start, ..change };
    let ready = match reconfigure::prepare(system, &compiled, scan.clone()).await {
        Ok(ready) => ready,
        Err(problems) => return refuse(change, problems),
    };
    // The journal first: a crash from here until the last line is found at the next start.
    if let Err(e) = source.record(Change { generation: number, ..change.clone() }) {
        return refuse(change, vec![format!("the history could not be written: {e}")]);
    }
    if let Err(problems) = reconfigure::publish(system, number, &compiled, ready).await {
        reconfigure::give_up(system);
        return refuse(change, problems);
    }
    source.apply(&compiled);
    let time = system.deps.wall.now();
    let applied = Change { generation: number, time, verdict: Verdict::Applied, files: Some(files.clone()), ..change };
    if let Err(e) = source.record(applied.clone()) {
        tracing::error!(e, "the generation is in force, but the history could not be written");
    }
    (Change { files: None, ..applied }, Some((files, compiled)))
}
