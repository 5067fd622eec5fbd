//! Compiled features: what the definitions mean, with every name already turned into an index.
//! Made by `compile`; immutable afterwards.

use super::transform::ContextDef;
use crate::entity::{EntityHash, EntityIds};
use crate::event::Event;
use crate::expr::Program;
use crate::problem::closest;
use crate::project::{Aggregate, Checks};
use crate::time::Span;
use crate::value::{Value, ValueType};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Longest id of an event or entity, in bytes.
pub const MAX_ID_BYTES: usize = 256;

/// Where a feature's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureSource {
    /// A window over events of an entity.
    View,
    /// The request itself.
    Context,
    /// Other features.
    Expression,
}

/// What is known about a feature before any value of it.
#[derive(Clone, Debug)]
pub struct FeatureMeta {
    pub name: String,
    pub kind: ValueType,
    pub nullable: bool,
    pub checks: Checks,
    pub source: FeatureSource,
    /// The view it belongs to, and that view's ttl.
    pub view: Option<String>,
    pub ttl: Option<Span>,
    pub(super) place: Place,
}

impl FeatureMeta {
    /// Entity type index of a feature of a view.
    pub fn entity(&self) -> Option<usize> {
        match self.place {
            Place::Window { entity, .. } => Some(entity),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    Window { entity: usize, index: usize },
    Context(usize),
    Expression(usize),
}

/// An entity type that has features.
pub(super) struct EntityType {
    pub name: String,
    pub keys: Vec<String>,
    pub series: Vec<SeriesDef>,
    pub windows: Vec<WindowDef>,
}

/// One kind of points kept per entity; shared by all windows that read the same facts.
pub(super) struct SeriesDef {
    /// Zero: exact points. Otherwise tiles of this length.
    pub hop: Span,
    /// The longest window over it.
    pub window: Span,
    /// Tiles keep the set of values / a quantile sketch.
    pub distinct: bool,
    pub sketch: bool,
    /// Indices of the windows that read it.
    pub windows: Vec<usize>,
}

/// A windowed feature.
pub(super) struct WindowDef {
    pub series: usize,
    pub aggregate: Aggregate,
    pub window: Span,
    pub hop: Span,
    pub q: f64,
    pub unit: Span,
    pub half_life: Span,
    pub ttl: Option<Span>,
}

/// An event type, and which series its events feed.
pub(super) struct EventDef {
    pub properties: Vec<(String, ValueType)>,
    pub entities: Vec<String>,
    /// Filters and predicates over the properties, each evaluated once per event.
    pub programs: Vec<Program>,
    pub routes: Vec<Route>,
}

pub(super) struct Route {
    pub entity: usize,
    pub feeds: Vec<Feed>,
}

pub(super) struct Feed {
    pub series: usize,
    /// Programs that must all be true.
    pub filters: Vec<usize>,
    pub value: Source,
}

/// What becomes the value of a point.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// Nothing: the event itself counts.
    Event,
    Property(usize),
    Program(usize),
}

pub(super) struct ExpressionDef {
    pub kind: ValueType,
    /// Reads `inputs` in this order.
    pub program: Program,
    /// Indices into `Plan::features`.
    pub inputs: Vec<usize>,
}

/// All feature definitions of a project, compiled.
pub struct Plan {
    pub(super) id: String,
    pub(super) state_id: String,
    /// Feature to the hash of all that its value depends on.
    pub(super) meanings: BTreeMap<String, String>,
    pub(super) features: Vec<FeatureMeta>,
    pub(super) by_name: HashMap<String, usize>,
    pub(super) entities: Vec<EntityType>,
    pub(super) events: HashMap<String, EventDef>,
    pub(super) contexts: Vec<ContextDef>,
    pub(super) expressions: Vec<ExpressionDef>,
    /// Every entity key that a definition names.
    pub(super) keys: BTreeSet<String>,
    /// Every context field that a definition reads.
    pub(super) fields: BTreeSet<String>,
}

impl EntityType {
    /// `None` if any key is absent or null.
    pub fn hash(&self, ids: &EntityIds) -> Option<EntityHash> {
        if self.keys.iter().any(|k| !matches!(ids.get(k), Some(Some(_)))) {
            return None;
        }
        let parts = self.keys.iter().filter_map(|k| ids.get(k)?.as_deref());
        Some(EntityHash::new(&self.name, parts))
    }
}

impl EventDef {
    /// Property values in slot order (null if absent; an int is a float where a float is declared),
    /// and the results of all programs.
    pub fn facts(&self, e: &Event) -> (Vec<Value>, Vec<Value>) {
        let values = self.values(e);
        let results = self.programs.iter().map(|p| p.eval(&values)).collect();
        (values, results)
    }

    fn values(&self, e: &Event) -> Vec<Value> {
        let value = |name| e.properties.get(name).cloned().unwrap_or_default();
        self.properties.iter().map(|(name, kind): &(String, ValueType)| coerce(value(name), *kind)).collect()
    }
}

/// An int where a float is declared is that float, a whole float where an int is declared that int.
pub(super) fn coerce(v: Value, kind: ValueType) -> Value {
    match (v, kind) {
        (Value::Int(i), ValueType::Float) => Value::Float(i as f64),
        (Value::Float(f), ValueType::Int) if f.fract() == 0.0 && f.abs() < 9e15 => Value::Int(f as i64),
        (v, _) => v,
    }
}

impl Plan {
    /// Hash of what the state of entities depends on: plans that have it in common can share that state.
    pub fn state_id(&self) -> &str {
        &self.state_id
    }

    /// Hash of all that a feature's value depends on.
    pub fn meaning(&self, feature: &str) -> Option<&str> {
        self.meanings.get(feature).map(String::as_str)
    }

    /// The features that an expression reads.
    pub(super) fn inputs_of(&self, feature: &str) -> Option<Vec<&str>> {
        let Place::Expression(i) = self.feature(feature)?.place else { return None };
        Some(self.expressions[i].inputs.iter().map(|f| self.features[*f].name.as_str()).collect())
    }

    /// 16 hex digits: fixed hash of the definitions of the values. Checks and ttls are not part of it,
    /// so changing one neither drops state nor parts a model from its features.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Event types that a feature is made of, and whether the request itself has a part in it.
    pub fn sources(&self, name: &str) -> (BTreeSet<String>, bool) {
        let (mut events, mut request) = (BTreeSet::new(), false);
        let mut places: Vec<Place> = self.feature(name).map(|f| f.place).into_iter().collect();
        while let Some(place) = places.pop() {
            match place {
                Place::Window { entity, index } => {
                    let series = self.entities[entity].windows[index].series;
                    let reads = |r: &Route| r.entity == entity && r.feeds.iter().any(|f| f.series == series);
                    events
                        .extend(self.events.iter().filter(|(_, e)| e.routes.iter().any(reads)).map(|(k, _)| k.clone()));
                }
                Place::Context(_) => request = true,
                Place::Expression(i) => {
                    places.extend(self.expressions[i].inputs.iter().map(|input| self.features[*input].place));
                }
            }
        }
        (events, request)
    }

    pub fn feature(&self, name: &str) -> Option<&FeatureMeta> {
        self.by_name.get(name).map(|i| &self.features[*i])
    }

    /// Views first, then context, then expressions; each by name.
    pub fn features(&self) -> &[FeatureMeta] {
        &self.features
    }

    /// Names of the entity types that have features; positions are the entity type indices.
    pub fn entity_types(&self) -> impl Iterator<Item = &str> {
        self.entities.iter().map(|e| e.name.as_str())
    }

    /// The keys that together name an entity of this type.
    pub fn entity_keys(&self, entity: usize) -> &[String] {
        &self.entities[entity].keys
    }

    /// Where each entity type's state is for these ids, by entity type index; `None` for a null key.
    pub fn entity_hashes(&self, ids: &EntityIds) -> Vec<Option<EntityHash>> {
        self.entities.iter().map(|e| e.hash(ids)).collect()
    }

    /// The longest window of any feature; older events change nothing.
    pub fn max_window(&self) -> Span {
        let all = self.entities.iter().flat_map(|e| &e.series);
        all.map(|s| Span(s.window.0.saturating_add(s.hop.0))).max().unwrap_or(Span::ZERO)
    }

    /// The declared properties of an event type, in slot order.
    pub fn event_properties(&self, kind: &str) -> Option<&[(String, ValueType)]> {
        self.events.get(kind).map(|e| e.properties.as_slice())
    }

    /// The event's properties in slot order, as a program over `event_properties` reads them: null if
    /// absent, an int as a float where a float is declared. `None` if the type is not declared.
    pub fn event_values(&self, e: &Event) -> Option<Vec<Value>> {
        self.events.get(&e.kind).map(|def| def.values(e))
    }

    /// Whether the event is of a declared type and shape.
    ///
    /// # Errors
    /// (code, detail) of the first thing wrong: `bad_id`, `unknown_event_type`, `unknown_property`,
    /// `type_mismatch`, `unknown_entity_key`, `bad_entity_id`.
    pub fn check_event(&self, e: &Event) -> Result<(), (String, String)> {
        let refuse = |code: &str, detail: String| Err((code.to_string(), detail));
        if !(1..=MAX_ID_BYTES).contains(&e.id.len()) {
            return refuse("bad_id", format!("an event id has 1 to {MAX_ID_BYTES} bytes, this one {}", e.id.len()));
        }
        let Some(def) = self.events.get(&e.kind) else {
            let hint = did_you_mean(&e.kind, self.events.keys().map(String::as_str));
            return refuse("unknown_event_type", format!("no event type `{}` is declared{hint}", shorten(&e.kind)));
        };
        for (name, value) in &e.properties {
            let Ok(at) = def.properties.binary_search_by(|(n, _)| n.as_str().cmp(name)) else {
                let hint = did_you_mean(name, def.properties.iter().map(|(n, _)| n.as_str()));
                let text = format!("`{}` has no property `{}`{hint}", e.kind, shorten(name));
                return refuse("unknown_property", text);
            };
            let kind = def.properties[at].1;
            if !coerce(value.clone(), kind).fits(kind) {
                let want = format!("{kind:?}").to_lowercase();
                let text = format!("property `{name}` of `{}` is {want}, got {}", e.kind, value.type_name());
                return refuse("type_mismatch", text);
            }
        }
        for (key, id) in &e.entities {
            let known = if def.entities.is_empty() { self.keys.contains(key) } else { def.entities.contains(key) };
            if !known {
                let names: Vec<&str> = if def.entities.is_empty() {
                    self.keys.iter().map(String::as_str).collect()
                } else {
                    def.entities.iter().map(String::as_str).collect()
                };
                let hint = did_you_mean(key, names);
                let text = format!("`{}` carries no entity key `{}`{hint}", e.kind, shorten(key));
                return refuse("unknown_entity_key", text);
            }
            if id.as_ref().is_some_and(|id| !(1..=MAX_ID_BYTES).contains(&id.len())) {
                let text =
                    format!("the id of entity key `{key}` must have 1 to {MAX_ID_BYTES} bytes; send null if unknown");
                return refuse("bad_entity_id", text);
            }
        }
        Ok(())
    }

    /// Fields of the context that no definition reads; likely misspelt.
    pub fn unknown_context<'a>(&self, context: &'a BTreeMap<String, Value>) -> Vec<&'a str> {
        context.keys().map(String::as_str).filter(|k| !self.fields.contains(*k)).collect()
    }
}

fn did_you_mean<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    if wanted.len() > MAX_ID_BYTES {
        return String::new(); // the distance is quadratic; a stranger's long name is not worth it
    }
    closest(wanted, known).map(|k| format!("; did you mean `{k}`?")).unwrap_or_default()
}

/// Enough of a stranger's text to find it, no more.
fn shorten(s: &str) -> String {
    s.chars().take(64).collect()
}
