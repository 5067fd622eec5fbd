//! Content hashes of definitions: of all of them, of what window state depends on, and of each feature by itself.
//!
//! Checks never change a value and are in none of them.

use crate::features::plan::Plan;
use crate::fixed_hash;
use crate::project::{Checks, FeatureFile};
use serde::Serialize;
use std::collections::BTreeMap;

/// Changes whenever the meaning of the same definitions changes, so that saved state is not read wrongly.
const MEANING: &str = "features-1";

fn hash(value: &impl Serialize) -> String {
    let body = serde_json::to_vec(value).expect("definitions of scalars always serialise");
    format!("{:016x}", fixed_hash::of_parts([MEANING.as_bytes(), &body]) as u64)
}

fn without_checks(spec: &FeatureFile) -> FeatureFile {
    let mut bare = spec.clone();
    for view in bare.views.values_mut() {
        view.features.values_mut().for_each(|f| f.check = Checks::default());
    }
    bare.context.values_mut().for_each(|c| c.check = Checks::default());
    bare.expressions.values_mut().for_each(|e| e.check = Checks::default());
    bare
}

/// Of all definitions, without what does not change a value.
pub(super) fn of_all(spec: &FeatureFile) -> String {
    let mut bare = without_checks(spec);
    bare.views.values_mut().for_each(|view| view.ttl = None);
    hash(&bare)
}

/// Of what the state of entities is made by: another one is built from the event log.
pub(super) fn of_state(spec: &FeatureFile) -> String {
    let mut bare = without_checks(spec);
    bare.views.values_mut().for_each(|view| view.ttl = None);
    hash(&(&bare.entities, &bare.events, &bare.views))
}

/// Of each feature: all that its value depends on. An expression's includes those of its inputs.
pub(super) fn of_each(spec: &FeatureFile, plan: &Plan) -> BTreeMap<String, String> {
    let mut bare = without_checks(spec);
    bare.views.values_mut().for_each(|view| view.ttl = None);
    let mut out = BTreeMap::new();
    for view in bare.views.values() {
        // The property's type, not the event's others: an event may get more properties.
        let types = |property: &Option<String>| {
            property.as_ref().and_then(|p| bare.events.get(&view.event)?.properties.get(p).copied())
        };
        let keys = bare.entities.get(&view.entity).map(|e| &e.keys);
        for (name, feature) in &view.features {
            let all = (&view.entity, keys, &view.event, &view.filter, feature, types(&feature.property));
            out.insert(name.clone(), hash(&all));
        }
    }
    for (name, context) in &bare.context {
        out.insert(name.clone(), hash(context));
    }
    // Inputs come first: `expressions` are compiled in an order in which each finds its inputs ready, or in any;
    // as many passes as there are expressions settle every chain.
    let inputs: Vec<(&String, Vec<&str>)> =
        bare.expressions.keys().filter_map(|name| Some((name, plan.inputs_of(name)?))).collect();
    for _ in 0..inputs.len() {
        let before = out.len();
        for (name, inputs) in &inputs {
            let ids: Option<Vec<&String>> = inputs.iter().map(|i| out.get(*i)).collect();
            if let Some(ids) = ids
                && !out.contains_key(*name)
            {
                let id = hash(&(&bare.expressions[*name], ids));
                out.insert((*name).clone(), id);
            }
        }
        if out.len() == before {
            break;
        }
    }
    out
}
