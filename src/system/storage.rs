//! The store as the running system sees it: its health beside that of the actors, and retention.

use crate::storage::Store;
use crate::storage::retention::{Keep, Policy};
use std::sync::Arc;
use std::time::{Duration, Instant};
use understudy_actors::generation::Generation;
use understudy_actors::guard::{Escalation, Vitals};
use understudy_actors::ports::StoreError;
use understudy_actors::system::System;
use understudy_domain::alert::{Resolved, Signal};
use understudy_domain::time::Span;

/// Time between two looks at the store's health.
const LOOK: Duration = Duration::from_millis(500);
/// Time between two looks at what may be deleted.
const RETENTION: Duration = Duration::from_secs(60);

/// What the settings and the project in force say must be kept.
fn policy(g: &Generation) -> Policy {
    let keep =
        |age: Span, bytes: u64| Keep { age: (age > Span::ZERO).then_some(age), bytes: (bytes > 0).then_some(bytes) };
    let expiry = g.catalog.models.values().filter_map(|m| m.spec.outcome.as_ref().map(|o| o.expires_after));
    let window = Span(g.catalog.plan.max_window().0.saturating_add(g.settings.lateness.0));
    Policy {
        events: keep(g.settings.retention.events_age, g.settings.retention.events_bytes),
        predictions: keep(g.settings.retention.predictions_age, g.settings.retention.predictions_bytes),
        outcomes: keep(g.settings.retention.outcomes_age, g.settings.retention.outcomes_bytes),
        events_needed: window.max(g.settings.dedupe_window),
        joins_needed: expiry.max().unwrap_or(Span::ZERO),
    }
}

/// Sequence number up to which saved feature state holds every event.
fn saved(g: &Generation) -> Result<u64, StoreError> {
    let layout = &g.features.layout;
    if layout.store.layout()? != Some(layout.id()) {
        return Ok(0);
    }
    let mut lowest = u64::MAX;
    for shard in 0..layout.shards {
        lowest = lowest.min(layout.store.watermark(shard)?);
    }
    Ok(lowest)
}

fn retain(system: &System, store: &Store) {
    let g = system.generation();
    let policy = policy(&g);
    if policy.is_for_ever() {
        return;
    }
    match saved(&g).and_then(|saved| store.retain(&policy, saved, system.deps.clock.now())) {
        Ok(dropped) if dropped.is_empty() => {}
        Ok(dropped) => tracing::info!(segments = dropped.join(" "), "retention deleted"),
        Err(e) => tracing::warn!(%e, "retention could not delete; it is tried again in a minute"),
    }
}

/// Says in `/readyz?verbose` how the store is, and lets retention delete; for as long as the system runs.
///
/// A full or failing disk does not make the server unready: predictions go on.
pub async fn watch(system: Arc<System>, store: Arc<Store>) {
    let vitals = Vitals::new("storage", Escalation::default());
    system.register(vitals.clone());
    let opened: Vec<String> = store.report().warnings.iter().map(ToString::to_string).collect();
    let mut last: Option<Instant> = None;
    let mut closed = false;
    loop {
        let mut says: Vec<String> = store.accepting().err().map(|e| e.to_string()).into_iter().collect();
        if let Some(why) = says.first() {
            if !closed {
                system.deps.alerts.raise(Signal::storage(why, system.deps.clock.now()));
            }
            closed = true;
        } else if std::mem::take(&mut closed) {
            system.deps.alerts.resolve(Resolved::storage());
        }
        says.extend(opened.iter().cloned());
        says.extend(store.health().findings);
        vitals.set_ready(true, says.join("; "));
        if last.is_none_or(|t| t.elapsed() >= RETENTION) && system.ready() {
            last = Some(Instant::now());
            let (system, store) = (system.clone(), store.clone());
            let _ = tokio::task::spawn_blocking(move || retain(&system, &store)).await;
        }
        tokio::time::sleep(LOOK).await; // the store's state changes on other threads; a look is cheap
    }
}
