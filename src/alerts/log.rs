//! Alerts as lines of the log.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use understudy_actors::ports::{AlertSink, SinkStatus};
use understudy_domain::alert::{Severity, Told};

#[derive(Default)]
pub struct LogSink(AtomicU64);

impl AlertSink for LogSink {
    fn offer(&self, told: &Told) {
        for a in &told.alerts {
            let (alert, name, cause, runbook) = (&*a.id, &*told.name, &*a.signal.cause, &*a.signal.runbook);
            let (since, summary) = (a.signal.since.to_string(), &*a.signal.summary);
            match (a.is_open(), a.signal.severity) {
                (false, _) => tracing::info!(alert, name, cause, since, "resolved: {summary}"),
                (true, Severity::Info) => tracing::info!(alert, name, cause, since, runbook, "alert: {summary}"),
                (true, Severity::Warning) => tracing::warn!(alert, name, cause, since, runbook, "alert: {summary}"),
                (true, Severity::Critical) => tracing::error!(alert, name, cause, since, runbook, "alert: {summary}"),
            }
        }
        self.0.fetch_add(1, Relaxed);
    }

    fn status(&self) -> SinkStatus {
        SinkStatus { name: "log".into(), delivered: self.0.load(Relaxed), ..SinkStatus::default() }
    }
}
