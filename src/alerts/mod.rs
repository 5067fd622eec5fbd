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

#[cfg(test)]
mod tests {
    use understudy_domain::alert::Signal;
    use understudy_domain::drift::{Against, FeatureDrift, Level, State, WindowDrift};
    use understudy_domain::feed::DataIncident;
    use understudy_domain::time::{Span, Timestamp};

    #[test]
    fn every_alert_has_its_page() {
        let t = Timestamp(0);
        let incident = DataIncident {
            feed: "f".into(),
            since: t,
            opened: t,
            until: None,
            column: "c".into(),
            reason: "r".into(),
            effect: 1.0,
            findings: 1,
        };
        let drifted = FeatureDrift {
            feature: "x".into(),
            against: Against::Reference,
            level: Level::Alert,
            window_level: Level::Alert,
            psi: 1.0,
            floor: 0.0,
            p_value: 0.0,
            significant: true,
            missing_reference: 0.0,
            missing: 0.0,
            explanation: "x moved".into(),
            bars: Vec::new(),
        };
        let window = WindowDrift {
            version: "v1".into(),
            start: t,
            end: t + Span::days(1),
            rows: 900,
            state: State::Judged,
            level: Level::Alert,
            features: vec![drifted],
        };
        let quiet = WindowDrift { features: Vec::new(), ..window.clone() };
        let feeds = [("x".to_string(), vec!["f".to_string()])].into();
        assert_eq!(Signal::drift("m", &quiet, &feeds), None);
        let page = include_str!("../../docs/operations.md");
        let anchors: Vec<String> = page
            .lines()
            .filter_map(|l| l.strip_prefix("## "))
            .map(|h| h.to_lowercase().replace(' ', "-").replace(|c: char| !(c.is_alphanumeric() || c == '-'), ""))
            .collect();
        for signal in [
            Signal::feed(&incident),
            Signal::drift("m", &window, &feeds).expect("it drifts"),
            Signal::rollout("m", "r1", "incident", "wrong shapes", t),
            Signal::retraining("m", "three jobs failed", t),
            Signal::storage("no space", t),
            Signal::memory("shed_reads", 9, 10, t),
            Signal::test("ann", t),
        ] {
            let heading = signal.runbook.strip_prefix("docs/operations.md#").expect("a heading of that page");
            assert!(anchors.iter().any(|a| a == heading), "{}: no heading #{heading}", signal.name);
        }
    }
}
