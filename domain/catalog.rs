//! A project, compiled: what every request, event and training job runs on.

use crate::event::Event;
use crate::expr::Program;
use crate::features::{Plan, VectorPlan};
use crate::model::{Signature, SignatureFeature};
use crate::prediction::{OutcomeRecord, OutcomeTarget};
use crate::problem::{Problem, closest};
use crate::project::{Checks, DriftSpec, FeatureFile, ModelSpec, RuleSpec};
use crate::validate::Rules;
use crate::value::{Value, ValueType};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Immutable; replaced as a whole when the project changes.
pub struct Catalog {
    pub plan: Arc<Plan>,
    pub models: BTreeMap<String, Arc<ModelPlan>>,
    pub rules: BTreeMap<String, RuleSpec>,
    /// Event type -> models whose request it is.
    requests: HashMap<String, Vec<Arc<ModelPlan>>>,
    /// Event type -> how outcomes are read from it.
    outcomes: HashMap<String, Vec<OutcomeReader>>,
}

/// One model's part of the catalog.
pub struct ModelPlan {
    pub spec: ModelSpec,
    pub vector: VectorPlan,
    pub signature: Arc<Signature>,
    pub checks: Vec<Checks>,
    /// Event types that each feature is made of; those of the request itself are of its event, if it has one.
    pub feeds: BTreeMap<String, Vec<String>>,
}

struct OutcomeReader {
    model: String,
    request_property: String,
    /// `None`: the event voids the request.
    label: Option<(Vec<String>, Program)>,
}

impl Catalog {
    pub fn compile(
        features: &FeatureFile,
        models: &[ModelSpec],
        rules: &BTreeMap<String, RuleSpec>,
    ) -> Result<Catalog, Vec<Problem>> {
        let plan = Arc::new(Plan::compile(features)?);
        let mut problems = Vec::new();
        let mut catalog = Catalog {
            plan: plan.clone(),
            models: BTreeMap::new(),
            rules: rules.clone(),
            requests: HashMap::new(),
            outcomes: HashMap::new(),
        };
        for spec in models {
            match ModelPlan::compile(&plan, spec, rules) {
                Ok(model) => {
                    let model = Arc::new(model);
                    if let Some(request) = &spec.request {
                        known_event(
                            features,
                            &request.event,
                            &format!("models.{}.request.event", spec.name),
                            &mut problems,
                        );
                        catalog.requests.entry(request.event.clone()).or_default().push(model.clone());
                    }
                    catalog.models.insert(spec.name.clone(), model);
                }
                Err(found) => problems.extend(found),
            }
            catalog.read_outcomes(features, spec, &mut problems);
        }
        for (name, rule) in rules {
            for model in rule.models.iter().filter(|m| !models.iter().any(|s| &s.name == *m)) {
                problems.push(Problem::new(
                    format!("rules.{name}.models"),
                    format!("no model is named `{model}`"),
                    did_you_mean(model, models.iter().map(|m| m.name.as_str())),
                ));
            }
        }
        if problems.is_empty() { Ok(catalog) } else { Err(problems) }
    }

    /// Settings of the watch over the feeds: the drift settings of the first model, by name, that a recorded or live
    /// event is a request of; else of the first model; else the defaults.
    pub fn feed_settings(&self) -> DriftSpec {
        let mut by_request = self.models.values().filter(|m| m.spec.request.is_some());
        let first = by_request.next().or_else(|| self.models.values().next());
        first.map(|m| m.spec.drift.clone()).unwrap_or_default()
    }

    fn read_outcomes(&mut self, features: &FeatureFile, spec: &ModelSpec, problems: &mut Vec<Problem>) {
        let Some(outcome) = &spec.outcome else { return };
        let key = |k: &str| format!("models.{}.outcome.{k}", spec.name);
        if outcome.event.is_none() && outcome.void_event.is_none() {
            return;
        }
        let Some(property) = &outcome.request_property else {
            problems.push(Problem::new(
                key("request_property"),
                "missing: which property of the outcome event holds the request id?",
                "add `request_property = \"...\"`",
            ));
            return;
        };
        if let Some(event) = &outcome.event {
            known_event(features, event, &key("event"), problems);
            let fields = event_fields(features, event);
            match &outcome.label {
                None => problems.push(Problem::new(
                    key("label"),
                    "missing: what in the outcome event is the positive label?",
                    "add a CEL expression such as `label = \"arr_delay > 15\"`",
                )),
                Some(source) => match Program::compile(source, &fields, Some(ValueType::Bool)) {
                    Ok(program) => self.outcomes.entry(event.clone()).or_default().push(OutcomeReader {
                        model: spec.name.clone(),
                        request_property: property.clone(),
                        label: Some((fields.into_iter().map(|(n, _)| n).collect(), program)),
                    }),
                    Err(e) => problems.push(Problem::new(key("label"), e.message, e.hint)),
                },
            }
        }
        if let Some(event) = &outcome.void_event {
            known_event(features, event, &key("void_event"), problems);
            self.outcomes.entry(event.clone()).or_default().push(OutcomeReader {
                model: spec.name.clone(),
                request_property: property.clone(),
                label: None,
            });
        }
    }

    pub fn model(&self, name: &str) -> Option<&Arc<ModelPlan>> {
        self.models.get(name)
    }

    /// Models for which an event of this type is a request.
    pub fn requested_by(&self, event_type: &str) -> &[Arc<ModelPlan>] {
        self.requests.get(event_type).map_or(&[], Vec::as_slice)
    }

    /// The outcomes that an event brings.
    pub fn outcomes_of(&self, event: &Event) -> Vec<OutcomeRecord> {
        let Some(readers) = self.outcomes.get(&event.kind) else { return Vec::new() };
        readers.iter().filter_map(|r| r.read(event)).collect()
    }
}

impl OutcomeReader {
    fn read(&self, event: &Event) -> Option<OutcomeRecord> {
        let request = event.properties.get(&self.request_property)?.as_str()?;
        let label = match &self.label {
            None => None,
            Some((names, program)) => {
                let values: Vec<Value> =
                    names.iter().map(|n| event.properties.get(n).cloned().unwrap_or_default()).collect();
                match program.eval(&values) {
                    Value::Bool(b) => Some(b),
                    _ => return None,
                }
            }
        };
        Some(OutcomeRecord {
            model: self.model.clone(),
            target: OutcomeTarget::RequestId(request.to_owned()),
            label,
            time: event.time,
            revision: 0,
        })
    }
}

impl ModelPlan {
    fn compile(plan: &Plan, spec: &ModelSpec, rules: &BTreeMap<String, RuleSpec>) -> Result<Self, Vec<Problem>> {
        let in_model = |mut p: Problem| {
            p.key = format!("models.{}.{}", spec.name, p.key);
            p
        };
        let vector = plan.vector(&spec.features).map_err(|ps| ps.into_iter().map(in_model).collect::<Vec<_>>())?;
        let mut features = Vec::new();
        let mut checks = Vec::new();
        for name in &spec.features {
            let meta = plan.feature(name).expect("the vector plan found it");
            features.push(SignatureFeature { name: name.clone(), kind: meta.kind, nullable: meta.nullable });
            checks.push(meta.checks.clone());
        }
        let signature = Arc::new(Signature {
            features,
            positive_label: spec.positive_label.clone(),
            negative_label: spec.negative_label.clone(),
        });
        Rules::compile(&signature, &checks, rules, &spec.name, &spec.profile)?;
        let feeds = |name: &String| {
            let (mut events, of_request) = plan.sources(name);
            events.extend(spec.request.iter().filter(|_| of_request).map(|r| r.event.clone()));
            (name.clone(), events.into_iter().collect())
        };
        let feeds = spec.features.iter().map(feeds).collect();
        Ok(ModelPlan { spec: spec.clone(), vector, signature, checks, feeds })
    }
}

fn event_fields(features: &FeatureFile, event: &str) -> Vec<(String, ValueType)> {
    features.events.get(event).map(|e| e.properties.iter().map(|(n, t)| (n.clone(), *t)).collect()).unwrap_or_default()
}

fn known_event(features: &FeatureFile, event: &str, key: &str, problems: &mut Vec<Problem>) {
    if !features.events.contains_key(event) {
        problems.push(Problem::new(
            key,
            format!("no event type is named `{event}`"),
            did_you_mean(event, features.events.keys().map(String::as_str)),
        ));
    }
}

fn did_you_mean<'a>(wanted: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match closest(wanted, known.clone()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => format!("known: {}", known.collect::<Vec<_>>().join(", ")),
    }
}
