//! From definitions as written to a `Plan`: names become indices, every mistake is found at once.

use super::check::{self, At, numeric, word};
use super::identity;
use super::plan::{
    EntityType, EventDef, FeatureMeta, FeatureSource, Feed, Place, Plan, Route, SeriesDef, Source, WindowDef,
};
use crate::expr::Program;
use crate::problem::{Problem, closest};
use crate::project::{Aggregate, FeatureFile, FeatureSpec, ViewSpec};
use crate::time::Span;
use crate::value::ValueType;
use std::collections::{BTreeMap, BTreeSet, HashMap};

type SeriesKey = (usize, String, Span, Vec<usize>, Source);

/// A plan in the making. `compile_request` adds what comes from the request.
pub(super) struct Builder<'s> {
    pub spec: &'s FeatureFile,
    problems: Vec<Problem>,
    pub features: Vec<FeatureMeta>,
    /// Name to the key it was declared at.
    declared: BTreeMap<&'s str, String>,
    entities: Vec<EntityType>,
    events: BTreeMap<&'s str, EventDef>,
    /// (event, CEL source) to program index; `None` if it did not compile.
    programs: HashMap<(&'s str, &'s str), Option<usize>>,
    series: BTreeMap<SeriesKey, usize>,
}

impl Plan {
    /// Compiles all definitions of a project.
    ///
    /// # Errors
    /// Every problem found; `key` is the dotted key in the file.
    pub fn compile(spec: &FeatureFile) -> Result<Plan, Vec<Problem>> {
        let mut b = Builder {
            spec,
            problems: Vec::new(),
            features: Vec::new(),
            declared: BTreeMap::new(),
            entities: Vec::new(),
            events: BTreeMap::new(),
            programs: HashMap::new(),
            series: BTreeMap::new(),
        };
        b.entity_types();
        b.event_types();
        for (name, view) in &spec.views {
            b.view(name, view);
        }
        let contexts = b.contexts();
        let expressions = b.expressions();
        if !b.problems.is_empty() {
            return Err(b.problems);
        }
        let mut keys: BTreeSet<String> = b.entities.iter().flat_map(|e| e.keys.iter().cloned()).collect();
        keys.extend(spec.entities.values().flat_map(|e| e.keys.iter().cloned()));
        keys.extend(spec.events.values().flat_map(|e| e.entities.iter().cloned()));
        keys.extend(spec.context.values().filter_map(|c| c.entity_key.clone()));
        let mut plan = Plan {
            id: identity::of_all(spec),
            state_id: identity::of_state(spec),
            meanings: BTreeMap::new(),
            by_name: b.features.iter().enumerate().map(|(i, f)| (f.name.clone(), i)).collect(),
            fields: contexts.iter().filter_map(|c| c.field().map(str::to_string)).collect(),
            features: b.features,
            entities: b.entities,
            events: b.events.into_iter().map(|(k, v)| (k.to_string(), v)).collect(),
            contexts,
            expressions,
            keys,
        };
        plan.meanings = identity::of_each(spec, &plan);
        Ok(plan)
    }
}

fn did_you_mean<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>, otherwise: &str) -> String {
    closest(wanted, known).map_or_else(|| otherwise.to_string(), |k| format!("did you mean `{k}`?"))
}

impl<'s> Builder<'s> {
    pub fn at(&mut self, key: impl Into<String>) -> At<'_> {
        At { key: key.into(), problems: &mut self.problems }
    }

    /// The types that views use; one that is not listed has one key of its own name.
    fn entity_types(&mut self) {
        for (name, e) in &self.spec.entities {
            let different: BTreeSet<&String> = e.keys.iter().collect();
            if e.keys.is_empty() || different.len() != e.keys.len() {
                let key = format!("entities.{name}.keys");
                self.at(key).say(
                    "",
                    "an entity has one or more different keys",
                    format!("such as `keys = [\"{name}\"]`"),
                );
            }
        }
        let used: BTreeSet<&String> = self.spec.views.values().map(|v| &v.entity).collect();
        for name in used {
            let keys = self.spec.entities.get(name).map_or_else(|| vec![name.clone()], |e| e.keys.clone());
            self.entities.push(EntityType { name: name.clone(), keys, series: Vec::new(), windows: Vec::new() });
        }
    }

    fn event_types(&mut self) {
        for (name, e) in &self.spec.events {
            let properties = e.properties.iter().map(|(n, t)| (n.clone(), *t)).collect();
            let def = EventDef { properties, entities: e.entities.clone(), programs: Vec::new(), routes: Vec::new() };
            self.events.insert(name, def);
        }
    }

    /// Claims a feature name; a second claim is a problem.
    pub fn claim(&mut self, name: &'s str, key: &str) {
        match self.declared.get(name) {
            Some(first) => {
                let text = format!("there is a feature `{name}` already, at `{first}`");
                self.at(key).say(
                    "",
                    text,
                    "feature names are unique across views, context and expressions; rename one",
                );
            }
            None => {
                self.declared.insert(name, key.to_string());
            }
        }
    }

    fn view(&mut self, name: &'s str, view: &'s ViewSpec) {
        let key = format!("views.{name}");
        if view.features.is_empty() {
            self.at(&key).say("features", "the view has no features", "declare at least one, or remove the view");
        }
        if view.ttl.is_some_and(|t| t <= Span::ZERO) {
            self.at(&key).say("ttl", "the ttl must be longer than zero", "");
        }
        let Some(event) = self.spec.events.get(&view.event) else {
            let known = self.spec.events.keys().map(String::as_str);
            let hint = did_you_mean(&view.event, known, "declare it under `events`");
            self.at(&key).say("event", format!("there is no event type `{}`", view.event), hint);
            for f in view.features.keys() {
                self.claim(f, &format!("{key}.features.{f}"));
            }
            return;
        };
        let entity = self.entities.iter().position(|e| e.name == view.entity).unwrap_or_default();
        let missing: Vec<String> = self.entities[entity]
            .keys
            .iter()
            .filter(|k| !event.entities.is_empty() && !event.entities.contains(k))
            .cloned()
            .collect();
        if !missing.is_empty() {
            let text = format!(
                "`{}` events do not carry the key `{}` of entity `{}`",
                view.event,
                missing.join("`, `"),
                view.entity
            );
            let known = self.spec.entities.keys().map(String::as_str).filter(|k| *k != view.entity);
            let fallback =
                format!("carried are: {}; add it to `events.{}.entities`", event.entities.join(", "), view.event);
            let hint = did_you_mean(&view.entity, known.chain(event.entities.iter().map(String::as_str)), &fallback);
            self.at(&key).say("entity", text, hint);
        }
        let filter = view.filter.as_deref().map(|cel| self.program(&view.event, cel, &format!("{key}.where")));
        for (f, spec) in &view.features {
            self.windowed((name, view, entity), f, spec, filter);
        }
    }

    /// A predicate over the event's properties; `None` if it does not compile (said once per place).
    fn program(&mut self, event: &'s str, cel: &'s str, key: &str) -> Option<usize> {
        if let Some(Some(known)) = self.programs.get(&(event, cel)) {
            return Some(*known);
        }
        let def = self.events.get_mut(event)?;
        let made = match Program::compile(cel, &def.properties, Some(ValueType::Bool)) {
            Ok(p) => {
                def.programs.push(p);
                Some(def.programs.len() - 1)
            }
            Err(e) => {
                self.problems.push(Problem::new(key, e.message, e.hint));
                None
            }
        };
        self.programs.insert((event, cel), made);
        made
    }

    fn windowed(
        &mut self,
        (view_name, view, entity): (&'s str, &'s ViewSpec, usize),
        name: &'s str,
        f: &'s FeatureSpec,
        view_filter: Option<Option<usize>>,
    ) {
        let key = format!("views.{view_name}.features.{name}");
        self.claim(name, &key);
        let before = self.problems.len();
        check::window(&mut self.at(&key), f);
        let mut property = None;
        if let Some(p) = &f.property {
            let known = &self.events[view.event.as_str()].properties;
            property = known.iter().position(|(n, _)| n == p).map(|i| (i, known[i].1));
            match property {
                None => {
                    let hint = did_you_mean(
                        p,
                        known.iter().map(|(n, _)| n.as_str()),
                        "declare it under the event's `properties`",
                    );
                    self.at(&key).say("property", format!("`{}` events have no property `{p}`", view.event), hint);
                }
                Some((_, ValueType::Category)) if numeric(f.aggregate) => {
                    let text = format!("`{}` needs numbers, but `{p}` is a category", word(f.aggregate));
                    self.at(&key).say(
                        "property",
                        text,
                        "use count, distinct, first or last, or share with a predicate",
                    );
                }
                Some(_) => {}
            }
        }
        let kind = check::kind(f.aggregate, property.map(|p| p.1));
        check::checks(&mut self.at(&key), kind, &f.check);
        let own = f.filter.as_deref().map(|cel| self.program(&view.event, cel, &format!("{key}.where")));
        let mut source = property.map_or(Source::Event, |(i, _)| Source::Property(i));
        if let Some(cel) = f.predicate.as_deref().filter(|_| f.aggregate == Aggregate::Share) {
            match self.program(&view.event, cel, &format!("{key}.predicate")) {
                Some(p) => source = Source::Program(p),
                None => return,
            }
        }
        if self.problems.len() > before {
            return;
        }
        let mut filters: Vec<usize> = [view_filter, own].into_iter().flatten().flatten().collect();
        filters.sort_unstable();
        filters.dedup();
        let series = self.series(entity, &view.event, f, filters, source);
        let def = &mut self.entities[entity];
        def.series[series].windows.push(def.windows.len());
        def.windows.push(WindowDef {
            series,
            aggregate: f.aggregate,
            window: f.window,
            hop: f.hop,
            q: f.q.unwrap_or(0.5),
            unit: f.unit.unwrap_or(Span::seconds(1)),
            half_life: f.half_life.unwrap_or(Span::seconds(1)),
            ttl: view.ttl,
        });
        self.features.push(FeatureMeta {
            name: name.to_string(),
            kind,
            nullable: f.check.nullable.unwrap_or(true),
            checks: f.check.clone(),
            source: FeatureSource::View,
            view: Some(view_name.to_string()),
            ttl: view.ttl,
            place: Place::Window { entity, index: def.windows.len() - 1 },
        });
    }

    /// The series that holds these facts; made at first use.
    fn series(&mut self, entity: usize, event: &'s str, f: &FeatureSpec, filters: Vec<usize>, source: Source) -> usize {
        let key = (entity, event.to_string(), f.hop, filters.clone(), source);
        let def = &mut self.entities[entity];
        let index = *self.series.entry(key).or_insert_with(|| {
            def.series.push(SeriesDef {
                hop: f.hop,
                window: f.window,
                distinct: false,
                sketch: false,
                windows: Vec::new(),
            });
            let index = def.series.len() - 1;
            if let Some(e) = self.events.get_mut(event) {
                let feed = Feed { series: index, filters, value: source };
                match e.routes.iter_mut().find(|r| r.entity == entity) {
                    Some(r) => r.feeds.push(feed),
                    None => e.routes.push(Route { entity, feeds: vec![feed] }),
                }
            }
            index
        });
        let s = &mut def.series[index];
        s.window = s.window.max(f.window);
        s.distinct |= f.aggregate == Aggregate::Distinct;
        s.sketch |= f.aggregate == Aggregate::Quantile;
        index
    }
}
