//! The counts of one window.

use super::latency::Latency;
use super::report::{FeatureAge, FeatureNulls, OutcomeCounts, Scores, TimingReport, Unseen, WindowReport};
use crate::join::Change;
use crate::metrics::{Fixed, Quality, bin_of};
use crate::prediction::{PredictionRecord, Verdict};
use crate::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const SCORE_BINS: usize = 20;
/// Different names counted apart; clients must not be able to grow a window without limit.
const MAX_NAMES: usize = 64;
const MAX_VERSIONS: usize = 16;
const OTHER: &str = "other";
/// The finding of a category that training never saw.
const UNSEEN: &str = "profile.unseen";

/// Values by name, bounded: names beyond the bound share `other`.
type Named<T> = BTreeMap<String, T>;

fn named<'a, T: Default>(map: &'a mut Named<T>, name: &str, max: usize) -> &'a mut T {
    let name = if map.contains_key(name) || map.len() < max { name } else { OTHER };
    if !map.contains_key(name) {
        map.insert(name.to_string(), T::default());
    }
    map.get_mut(name).expect("inserted above")
}

impl Unseen {
    fn add(&mut self, o: Unseen) {
        self.first = if self.rows == 0 { o.first } else { self.first.min(o.first) };
        self.rows += o.rows;
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Window {
    served: u64,
    errors: Named<u64>,
    verdicts: [u64; 5],
    findings: Named<u64>,
    nulls: Vec<u64>,
    breaches: Named<u64>,
    unseen: Named<Unseen>,
    /// Seconds, by feature; a sketch of constant size each.
    ages: Vec<Latency>,
    scored: u64,
    score_sum: Fixed,
    scores: [u64; SCORE_BINS],
    labels: Named<u64>,
    versions: Named<u64>,
    pub(super) outcomes: OutcomeCounts,
    quality: Quality,
    by_version: Named<Quality>,
    /// features, validate, route, model, total.
    timing: [Latency; 5],
}

const VERDICTS: [(Verdict, &str); 5] = [
    (Verdict::Valid, "valid"),
    (Verdict::Flagged, "flagged"),
    (Verdict::Defaulted, "defaulted"),
    (Verdict::Fallback, "fallback"),
    (Verdict::Rejected, "rejected"),
];

impl Window {
    pub(super) fn served(&mut self, r: &PredictionRecord, features: usize) {
        self.served += 1;
        self.verdicts[r.verdict as usize] += 1;
        for f in &r.findings {
            *named(&mut self.findings, &f.rule, MAX_NAMES) += 1;
            let Some(feature) = &f.feature else { continue };
            *named(&mut self.breaches, &format!("{} {feature}", f.rule), MAX_NAMES) += 1;
            if f.rule == UNSEEN {
                let seen = named(&mut self.unseen, &format!("{feature}={}", f.value), MAX_NAMES);
                seen.add(Unseen { rows: 1, first: r.time });
            }
        }
        self.nulls.resize(features, 0);
        for (count, value) in self.nulls.iter_mut().zip(&r.vector) {
            *count += u64::from(value.is_null());
        }
        self.ages.resize_with(features, Latency::default);
        for (sketch, age) in self.ages.iter_mut().zip(&r.ages) {
            if let Some(age) = age {
                sketch.add(*age);
            }
        }
        let t = &r.timing;
        for (latency, us) in
            self.timing.iter_mut().zip([t.features_us, t.validate_us, t.route_us, t.model_us, t.total_us])
        {
            latency.add(us);
        }
        // A rejected request has no answer to speak of.
        if r.verdict != Verdict::Rejected && !r.score.is_nan() {
            let score = r.score.clamp(0.0, 1.0);
            self.scored += 1;
            self.score_sum.add(score);
            self.scores[bin_of(score, SCORE_BINS)] += 1;
            *named(&mut self.labels, &r.label, MAX_NAMES) += 1;
            *named(&mut self.versions, &r.version, MAX_VERSIONS) += 1;
        }
    }

    pub(super) fn error(&mut self, code: &str) {
        *named(&mut self.errors, code, MAX_NAMES) += 1;
    }

    pub(super) fn joined(&mut self, version: &str, score: f64, change: Change) {
        let version = named(&mut self.by_version, version, MAX_VERSIONS);
        let (old, new) = match change {
            Change::Matured { label } => (None, Some(label)),
            Change::Amended { from, to } => (from, Some(to)),
            Change::Voided { was } => (was, None),
        };
        for q in [&mut self.quality, version] {
            if let Some(label) = old {
                q.remove(score, label);
            }
            if let Some(label) = new {
                q.add(score, label);
            }
        }
        let o = &mut self.outcomes;
        match change {
            Change::Matured { .. } => o.matured += 1,
            Change::Amended { from: Some(_), .. } => o.amended += 1,
            Change::Amended { from: None, .. } => {
                o.amended += 1;
                o.voided = o.voided.saturating_sub(1);
                o.matured += 1;
            }
            Change::Voided { was: None } => o.voided += 1,
            Change::Voided { was: Some(_) } => {
                o.amended += 1;
                o.matured = o.matured.saturating_sub(1);
                o.voided += 1;
            }
        }
    }

    pub(super) fn merge(&mut self, o: &Window) {
        self.served += o.served;
        for (mine, theirs, max) in [
            (&mut self.errors, &o.errors, MAX_NAMES),
            (&mut self.findings, &o.findings, MAX_NAMES),
            (&mut self.breaches, &o.breaches, MAX_NAMES),
            (&mut self.labels, &o.labels, MAX_NAMES),
            (&mut self.versions, &o.versions, MAX_VERSIONS),
        ] {
            for (name, n) in theirs {
                *named(mine, name, max) += n;
            }
        }
        for (name, unseen) in &o.unseen {
            named(&mut self.unseen, name, MAX_NAMES).add(*unseen);
        }
        self.ages.resize_with(self.ages.len().max(o.ages.len()), Latency::default);
        self.ages.iter_mut().zip(&o.ages).for_each(|(a, b)| a.merge(b));
        self.nulls.resize(self.nulls.len().max(o.nulls.len()), 0);
        for (a, b) in self.nulls.iter_mut().zip(&o.nulls).chain(self.verdicts.iter_mut().zip(&o.verdicts)) {
            *a += b;
        }
        for (a, b) in self.scores.iter_mut().zip(&o.scores) {
            *a += b;
        }
        self.scored += o.scored;
        self.score_sum.merge(o.score_sum);
        self.outcomes.matured += o.outcomes.matured;
        self.outcomes.voided += o.outcomes.voided;
        self.outcomes.expired += o.outcomes.expired;
        self.outcomes.amended += o.outcomes.amended;
        self.quality.merge(&o.quality);
        for (version, q) in &o.by_version {
            named(&mut self.by_version, version, MAX_VERSIONS).merge(q);
        }
        for (a, b) in self.timing.iter_mut().zip(&o.timing) {
            a.merge(b);
        }
    }

    pub(super) fn report(
        &self,
        start: Timestamp,
        end: Timestamp,
        span: Span,
        mature: bool,
        features: &[String],
    ) -> WindowReport {
        let per = |x: f64, n: f64| if n > 0.0 { x / n } else { 0.0 };
        let requests = self.served + self.errors.values().sum::<u64>();
        let known = self.quality.n() > 0;
        let [a, b, c, d, e] = &self.timing;
        WindowReport {
            start,
            end,
            mature,
            requests,
            rate_per_s: per(requests as f64, span.as_secs_f64()),
            errors: self.errors.clone(),
            verdicts: VERDICTS.iter().map(|(v, name)| (name.to_string(), self.verdicts[*v as usize])).collect(),
            findings: self.findings.clone(),
            nulls: features
                .iter()
                .zip(self.nulls.iter().copied().chain(std::iter::repeat(0)))
                .map(|(f, nulls)| FeatureNulls {
                    feature: f.clone(),
                    nulls,
                    share: per(nulls as f64, self.served as f64),
                })
                .collect(),
            breaches: self.breaches.clone(),
            unseen: self.unseen.clone(),
            freshness: features
                .iter()
                .zip(&self.ages)
                .map(|(f, ages)| (f, ages.summary()))
                .filter(|(_, s)| s.n > 0)
                .map(|(f, s)| FeatureAge {
                    feature: f.clone(),
                    n: s.n,
                    p50_s: s.p50_us,
                    p99_s: s.p99_us,
                    max_s: s.max_us,
                })
                .collect(),
            scores: Scores {
                n: self.scored,
                mean: per(self.score_sum.value(), self.scored as f64),
                histogram: self.scores.to_vec(),
            },
            labels: self.labels.clone(),
            versions: self.versions.clone(),
            outcomes: self.outcomes,
            quality: known.then(|| self.quality.summary()),
            reliability: if known { self.quality.reliability() } else { Vec::new() },
            quality_by_version: self
                .by_version
                .iter()
                .filter(|(_, q)| q.n() > 0)
                .map(|(v, q)| (v.clone(), q.summary()))
                .collect(),
            timing: Some(TimingReport {
                features: a.summary(),
                validate: b.summary(),
                route: c.summary(),
                model: d.summary(),
                total: e.summary(),
            }),
        }
    }
}
