//! What an event goes through, on one thread: the checks, features, rules and watches that serve.

use crate::tables::Recorded;
use std::collections::BTreeMap;
use std::sync::Arc;
use understudy_domain::catalog::{Catalog, ModelPlan};
use understudy_domain::dedupe::{Recent, Seen};
use understudy_domain::drift::{Against, Level, Watch, WindowDrift};
use understudy_domain::event::{Event, LoggedEvent};
use understudy_domain::features::{FeatureTable, Lookup};
use understudy_domain::feed::{DataIncident, FeedFinding, FeedWatch};
use understudy_domain::profile::ReferenceProfile;
use understudy_domain::time::{Span, Timestamp};
use understudy_domain::validate::{Reference, Rules};
use understudy_domain::value::Value;

const VERSION: &str = "v1";
/// Source of the alarms about what the model sees.
pub const FEATURES: &str = "features";
/// Event ids remembered.
const MAX_IDS: usize = 4_000_000;

/// A monitor's word.
#[derive(Clone, Debug)]
pub struct Alarm {
    pub start: Timestamp,
    pub end: Timestamp,
    pub level: Level,
    /// `features`, or the event type.
    pub source: String,
    /// The feature, or the column of the feed.
    pub name: String,
    pub effect: f64,
    pub explanation: String,
}

#[derive(Clone)]
pub struct Pipeline {
    catalog: Arc<Catalog>,
    model: Arc<ModelPlan>,
    rules: Arc<Rules>,
    reference: Option<Arc<Reference>>,
    rows: Vec<(Timestamp, Vec<Value>)>,
    reference_rows: u64,
    table: FeatureTable,
    seen: Recent<Seen>,
    seq: u64,
    clock: Timestamp,
    swept: Timestamp,
    max_future: Span,
    lateness: Span,
    watch: Watch,
    feed: FeedWatch,
    pub alarms: Vec<Alarm>,
    /// By day and check: hits, and the first.
    pub hits: BTreeMap<(Timestamp, String), (u64, Timestamp)>,
}

impl Pipeline {
    /// For the first model that a recorded event is a request of.
    ///
    /// # Errors
    /// No model of the project has a `[request]`.
    pub fn new(catalog: Arc<Catalog>, max_future: Span, lateness: Span, dedupe: Span) -> Result<Pipeline, String> {
        let model = catalog
            .models
            .values()
            .find(|m| m.spec.request.is_some())
            .cloned()
            .ok_or("no model of the project has a [request]: no recorded event asks for a prediction")?;
        let rules =
            Rules::compile(&model.signature, &model.checks, &catalog.rules, &model.spec.name, &model.spec.profile)
                .map_err(|p| p.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
        Ok(Pipeline {
            table: FeatureTable::new(catalog.plan.clone(), 0, 1, usize::MAX),
            watch: Watch::new(&model.spec.name, model.spec.drift.clone()),
            feed: FeedWatch::new(catalog.feed_settings()),
            rules: Arc::new(rules),
            catalog,
            model,
            reference: None,
            rows: Vec::new(),
            reference_rows: 0,
            seen: Recent::new(dedupe, MAX_IDS),
            seq: 0,
            clock: Timestamp::MIN,
            swept: Timestamp::MIN,
            max_future,
            lateness,
            alarms: Vec::new(),
            hits: BTreeMap::new(),
        })
    }

    pub fn now(&self) -> Timestamp {
        self.clock
    }

    pub fn reference_rows(&self) -> u64 {
        self.reference_rows
    }

    /// What is or was wrong with the feeds.
    pub fn incidents(&self) -> &[DataIncident] {
        self.feed.incidents()
    }

    /// Alarms and hits so far are history.
    pub fn forget_findings(&mut self) {
        self.alarms.clear();
        self.hits.clear();
    }

    /// Makes the reference of the rows so far.
    ///
    /// # Errors
    /// There were none.
    pub fn learn(&mut self) -> Result<(), String> {
        let rows = std::mem::take(&mut self.rows);
        if rows.is_empty() {
            return Err("the recording has no request before the end of the training data".into());
        }
        let vectors: Vec<&[Value]> = rows.iter().map(|(_, v)| v.as_slice()).collect();
        let times: Vec<Timestamp> = rows.iter().map(|(t, _)| *t).collect();
        let signature = &self.model.signature;
        let profile = ReferenceProfile::build(signature, vectors.iter().copied(), &[]).with_drift(
            signature,
            &times,
            &vectors,
            &[],
            &self.model.spec.drift,
        );
        self.reference = Some(Arc::new(self.rules.prepare(&profile)));
        self.reference_rows = profile.rows;
        self.watch.follow(VERSION, profile.drift.map(Arc::new));
        self.forget_findings();
        Ok(())
    }

    /// Takes the next event of the stream.
    pub fn push(&mut self, recorded: &Recorded) {
        self.clock = self.clock.max(recorded.at);
        let event = &recorded.event;
        if let Err(code) = self.refused(event) {
            self.hit(format!("refused: {code}"));
            let found = self.feed.on_refused(&event.kind, code, self.clock);
            self.feed_alarms(found);
            return;
        }
        self.seq += 1;
        let fingerprint = event.fingerprint();
        self.seen.insert(event.id_hash(), Seen { seq: self.seq, fingerprint }, self.clock);
        let late = self.clock - event.time > self.lateness;
        if late {
            self.hit("late, not folded".into());
        }
        let logged = LoggedEvent { seq: self.seq, ingested: self.clock, late, event: event.clone() };
        if self.model.spec.request.as_ref().is_some_and(|r| r.event == event.kind) {
            self.request(event);
        }
        self.table.apply(&logged, &mut |_| None);
        let found = self.feed.on_event(&logged);
        self.feed_alarms(found);
        if self.swept == Timestamp::MIN || self.clock - self.swept >= Span::days(1) {
            self.table.expire(self.clock);
            self.swept = self.clock;
        }
    }

    fn refused(&self, event: &Event) -> Result<(), &'static str> {
        if self.catalog.plan.check_event(event).is_err() {
            return Err("not as declared");
        }
        if let Some(seen) = self.seen.get(event.id_hash()) {
            return Err(if seen.fingerprint == event.fingerprint() { "duplicate" } else { "conflict" });
        }
        if event.time > self.clock + self.max_future { Err("in the future") } else { Ok(()) }
    }

    /// The vector of a request, checked and counted as when it is served.
    fn request(&mut self, event: &Event) {
        let plan = &self.model.vector;
        let hashes = self.catalog.plan.entity_hashes(&event.entities);
        let mut vector = plan.blank();
        for group in plan.groups() {
            let Some(hash) = hashes[group.entity] else { continue };
            if self.table.read(hash, group, event.time, &mut vector) == Lookup::Cold {
                self.table.absent(group, &mut vector);
            }
        }
        plan.finish(&event.properties, &event.entities, &mut vector);
        let Some(reference) = self.reference.clone() else {
            self.rows.push((event.time, vector.values));
            return;
        };
        for finding in self.rules.check(&mut vector.values, Some(&reference)).findings {
            // A tail is rare by definition, not wrong: that many are is for the windows to say.
            if finding.rule != "profile.tail" {
                self.hit(format!("{} {}", finding.rule, finding.feature.unwrap_or_default()));
            }
        }
        self.watch.count(VERSION, event.time, &vector.values, None);
        for judged in self.watch.advance(event.time) {
            self.drift_alarms(&judged);
        }
    }

    fn hit(&mut self, check: String) {
        let now = self.clock;
        let hits = self.hits.entry((now.floor(Span::days(1)), check)).or_insert((0, now));
        hits.0 += 1;
    }

    /// What changed at once, and holds; slow drift is no fault.
    fn drift_alarms(&mut self, judged: &WindowDrift) {
        for f in judged.features.iter().filter(|f| f.against == Against::Recent && f.level >= Level::Warn) {
            self.alarms.push(Alarm {
                start: judged.start,
                end: judged.end,
                level: f.level,
                source: FEATURES.into(),
                name: f.feature.clone(),
                effect: f.psi - f.floor,
                explanation: f.explanation.clone(),
            });
        }
    }

    fn feed_alarms(&mut self, found: Vec<FeedFinding>) {
        for f in found {
            self.alarms.push(Alarm {
                start: f.start,
                end: f.end,
                level: f.level,
                name: format!("{}.{}", f.kind, f.column),
                source: f.kind,
                effect: f.effect,
                explanation: f.explanation,
            });
        }
    }
}
