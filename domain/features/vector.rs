//! The vector of one model: which features go where, and the parts that no entity state is needed for.

use super::plan::{Place, Plan, coerce};
use super::transform::ContextDef;
use crate::entity::EntityIds;
use crate::expr::Program;
use crate::problem::{Problem, closest};
use crate::time::Span;
use crate::value::{Value, ValueType};
use std::collections::BTreeMap;

/// Feature values in slot order, while and after they are put together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vector {
    pub values: Vec<Value>,
    /// Seconds since the newest event behind the value; `None` for context features and empty windows.
    pub ages: Vec<Option<u32>>,
    /// Slots older than their view's ttl, ascending.
    pub stale: Vec<usize>,
}

impl Vector {
    fn blank(slots: usize) -> Self {
        Vector { values: vec![Value::Null; slots], ages: vec![None; slots], stale: Vec::new() }
    }

    pub(super) fn set(&mut self, slot: usize, value: Value, age: Option<u32>, ttl: Option<Span>) {
        self.values[slot] = value;
        self.ages[slot] = age;
        if let (Some(age), Some(ttl)) = (age, ttl)
            && i64::from(age) * crate::time::SECOND > ttl.0
        {
            self.stale.push(slot);
        }
    }

    /// Takes over the slots of `group` from a part that another shard filled.
    pub fn absorb(&mut self, group: &Group, part: &Vector) {
        for (_, slot, _) in &group.features {
            self.values[*slot] = part.values[*slot].clone();
            self.ages[*slot] = part.ages[*slot];
            if part.stale.contains(slot) {
                self.stale.push(*slot);
            }
        }
    }
}

/// The features of one entity type that a vector needs: one read of one entity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Entity type index, as in `Plan::entity_hashes`.
    pub entity: usize,
    /// (window index within the entity type, slot, ttl): the ttl is of these definitions, the window of any with
    /// the same state.
    pub(super) features: Vec<(usize, usize, Option<Span>)>,
}

#[derive(Clone)]
struct Step {
    program: Program,
    inputs: Vec<usize>,
    kind: ValueType,
    slot: usize,
}

/// How the vector of one model is put together: `blank`, a `FeatureTable::read` per group, `finish`.
#[derive(Clone)]
pub struct VectorPlan {
    names: Vec<String>,
    /// The names' slots, then hidden ones that only expressions read.
    slots: usize,
    groups: Vec<Group>,
    context: Vec<(ContextDef, usize)>,
    /// In an order in which each finds its inputs ready.
    steps: Vec<Step>,
}

/// Slots handed out while a plan is made; indexed by feature.
struct Slots<'p> {
    plan: &'p Plan,
    of: Vec<Option<usize>>,
    out: VectorPlan,
}

impl Slots<'_> {
    /// Gives the feature `slot`, or the next hidden one, and everything it needs.
    fn place(&mut self, feature: usize, slot: Option<usize>) -> usize {
        if let Some(known) = self.of[feature] {
            return known;
        }
        let slot = slot.unwrap_or_else(|| {
            self.out.slots += 1;
            self.out.slots - 1
        });
        self.of[feature] = Some(slot);
        slot
    }

    /// Adds the work for a feature that has its slot; inputs first.
    fn fill(&mut self, feature: usize, done: &mut [bool]) {
        if std::mem::replace(&mut done[feature], true) {
            return;
        }
        let slot = self.place(feature, None);
        match self.plan.features[feature].place {
            Place::Window { entity, index } => {
                let read = (index, slot, self.plan.entities[entity].windows[index].ttl);
                match self.out.groups.iter_mut().find(|g| g.entity == entity) {
                    Some(g) => g.features.push(read),
                    None => self.out.groups.push(Group { entity, features: vec![read] }),
                }
            }
            Place::Context(i) => self.out.context.push((self.plan.contexts[i].clone(), slot)),
            Place::Expression(i) => {
                let def = &self.plan.expressions[i];
                for input in &def.inputs {
                    self.fill(*input, done);
                }
                let inputs = def.inputs.iter().filter_map(|f| self.of[*f]).collect();
                self.out.steps.push(Step { program: def.program.clone(), inputs, kind: def.kind, slot });
            }
        }
    }
}

impl Plan {
    /// The plan for a model's inputs, in the model's order.
    ///
    /// # Errors
    /// One problem for each name that is no feature or comes twice.
    pub fn vector(&self, names: &[String]) -> Result<VectorPlan, Vec<Problem>> {
        let mut problems = Vec::new();
        let out = VectorPlan {
            names: names.to_vec(),
            slots: names.len(),
            groups: Vec::new(),
            context: Vec::new(),
            steps: Vec::new(),
        };
        let mut slots = Slots { plan: self, of: vec![None; self.features.len()], out };
        let mut wanted = Vec::with_capacity(names.len());
        for (slot, name) in names.iter().enumerate() {
            let Some(&feature) = self.by_name.get(name) else {
                let hint = closest(name, self.features.iter().map(|f| f.name.as_str()))
                    .map(|k| format!("did you mean `{k}`?"))
                    .unwrap_or_else(|| {
                        "declare it under `views`, `context` or `expressions` in features/*.toml".into()
                    });
                problems.push(Problem::new("features", format!("there is no feature `{name}`"), hint));
                continue;
            };
            if slots.of[feature].is_some() {
                problems.push(Problem::new("features", format!("`{name}` is listed twice"), "remove one of them"));
                continue;
            }
            slots.place(feature, Some(slot));
            wanted.push(feature);
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let mut done = vec![false; self.features.len()];
        for feature in wanted {
            slots.fill(feature, &mut done);
        }
        Ok(slots.out)
    }

    /// Entity type and window index of a feature that has a window.
    pub(super) fn window(&self, feature: &str) -> Option<(usize, usize)> {
        match self.feature(feature)?.place {
            Place::Window { entity, index } => Some((entity, index)),
            _ => None,
        }
    }
}

impl VectorPlan {
    /// Number of the model's inputs.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// All null, with room for hidden inputs; what a null entity key leaves.
    pub fn blank(&self) -> Vector {
        Vector::blank(self.slots)
    }

    /// Sets the context features, then the expressions, and cuts the vector to the model's inputs.
    /// An expression is as old as its newest input and stale if any input is.
    pub fn finish(&self, context: &BTreeMap<String, Value>, ids: &EntityIds, v: &mut Vector) {
        for (def, slot) in &self.context {
            v.values[*slot] = def.value(context, ids);
        }
        let mut args = Vec::new();
        for step in &self.steps {
            args.clear();
            args.extend(step.inputs.iter().map(|i| v.values[*i].clone()));
            v.values[step.slot] = coerce(step.program.eval(&args), step.kind);
            v.ages[step.slot] = step.inputs.iter().filter_map(|i| v.ages[*i]).min();
            if step.inputs.iter().any(|i| v.stale.contains(i)) {
                v.stale.push(step.slot);
            }
        }
        v.values.truncate(self.len());
        v.ages.truncate(self.len());
        v.stale.retain(|s| *s < self.len());
        v.stale.sort_unstable();
    }

    /// Context fields that no definition reads; likely misspelt.
    pub fn unknown_context<'a>(&self, plan: &Plan, context: &'a BTreeMap<String, Value>) -> Vec<&'a str> {
        plan.unknown_context(context)
    }
}
