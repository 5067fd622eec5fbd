//! Where alerts go: the log, and a webhook in the format of Prometheus Alertmanager.

mod log;
mod payload;
mod webhook;

pub use log::LogSink;
pub use webhook::{Webhook, WebhookOptions};

use crate::config::Project;
use std::sync::Arc;
use understudy_actors::ports::AlertSink;

/// The sinks of the settings.
///
/// # Errors
/// What is wrong with a setting, and the remedy.
pub fn sinks(project: &Project) -> Result<Vec<Arc<dyn AlertSink>>, (String, String)> {
    let settings = &project.settings.alerts;
    let mut sinks: Vec<Arc<dyn AlertSink>> = vec![Arc::new(LogSink::default())];
    if !settings.webhook.is_empty() {
        sinks.push(Arc::new(Webhook::start(WebhookOptions::of(project)?)?));
    }
    Ok(sinks)
}
