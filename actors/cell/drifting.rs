//! Where drift comes from: the monitor's windows, the feeds' incidents and the project's changes, put before the rule.

use super::{Cell, mailbox};
use crate::api::{DriftExplanation, Refusal};
use crate::config::{Change, Verdict};
use crate::config_watcher::GetHistory;
use crate::feed_monitor::GetDataIncidents;
use crate::generation::Generation;
use crate::monitor::GetDriftCase;
use std::collections::BTreeSet;
use understudy_domain::blame::{Case, Changed, FeedTrace, Subject, blame, verdict};
use understudy_domain::drift::{Against, DriftCase, SCORE};
use understudy_domain::time::Timestamp;

impl Cell {
    /// The newest drift of a feature (or of the score), in a sentence and both histograms, and who is to blame.
    pub async fn explain_drift(
        &self,
        model: &str,
        feature: &str,
        until: Option<Timestamp>,
    ) -> Result<DriftExplanation, Refusal> {
        let generation = self.generation();
        let served = generation.model(model)?;
        let names: Vec<&str> = served.plan.signature.features.iter().map(|f| f.name.as_str()).collect();
        if feature != SCORE && !names.contains(&feature) {
            return Err(Refusal::NotFound {
                code: "unknown_feature",
                detail: format!("`{model}` has no feature `{feature}`; it has {}, and {SCORE}", names.join(", ")),
            });
        }
        self.catch_up().await?;
        let asked = GetDriftCase { feature: feature.to_owned(), until };
        let case = served.monitor.send(asked).await.map_err(mailbox)??.ok_or_else(|| Refusal::NotFound {
            code: "not_judged",
            detail: format!("no window of `{feature}` has been judged yet; `drift show {model}` tells where it stands"),
        })?;
        // The score is made of all that the features are made of.
        let read = served.plan.feeds.iter().filter(|(name, _)| feature == SCORE || *name == feature);
        let reads: BTreeSet<String> = read.flat_map(|(_, events)| events.clone()).collect();
        let from = case.since - case.window;
        let incidents = self.system.feeds.send(GetDataIncidents { from, until: case.end }).await.map_err(mailbox)?;
        let of = |incident: understudy_domain::feed::DataIncident| {
            let read = reads.contains(&incident.feed);
            FeedTrace { incident, read }
        };
        let facts = Case {
            subject: if feature == SCORE { Subject::Model } else { Subject::Feature },
            since: case.since,
            until: case.end,
            window: case.window,
            against_training: case.drift.against == Against::Reference,
            feeds: incidents.into_iter().map(of).collect(),
            definitions: self.definitions(&generation, feature, &case).await,
            versions: case.versions.clone(),
            mix: case.mix.clone(),
        };
        let suspects = blame(&facts);
        Ok(DriftExplanation {
            model: model.to_owned(),
            feature: feature.to_owned(),
            verdict: verdict(&suspects),
            suspects,
            reads: reads.into_iter().collect(),
            case,
        })
    }

    /// What was changed in the project since a window before it began. While a recorded stream is the clock nothing can
    /// be said: people change things at another time.
    async fn definitions(&self, generation: &Generation, feature: &str, case: &DriftCase) -> Vec<Changed> {
        if self.clock_is_stream() {
            return Vec::new();
        }
        let history: Vec<Change> = self.configuration(GetHistory).await.unwrap_or_default();
        let view = generation.catalog.plan.feature(feature).and_then(|f| f.view.clone());
        let direct = |key: &str| {
            let parts: Vec<&str> = key.split('.').collect();
            parts.contains(&feature) || view.as_deref().is_some_and(|v| parts.contains(&v))
        };
        let recent = history.iter().filter(|c| c.verdict == Verdict::Applied && c.time >= case.since - case.window);
        let told = |c: &Change| {
            let about: Vec<&str> = c.changes.iter().map(|k| k.key.as_str()).filter(|k| direct(k)).collect();
            let keys = match about.is_empty() {
                true => c.changes.iter().map(|k| k.key.as_str()).take(3).collect(),
                false => about.clone(),
            };
            Changed {
                at: c.time,
                what: format!("generation {}: {}", c.generation, keys.join(", ")),
                direct: !about.is_empty(),
            }
        };
        recent.map(told).collect()
    }
}
