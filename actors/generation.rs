//! One immutable state of the configuration, and everything that was made from it.
//!
//! A request takes the current generation once, at its start, and uses nothing else until its answer: so every
//! answer is made by exactly one generation. A change makes a new one whole and swaps it in; the old one lives
//! as long as a request still holds it.

use crate::api::Refusal;
use crate::deps::LiveSettings;
use crate::feature_set::FeatureSet;
use crate::model_pool::LoadedModel;
use crate::monitor::Monitor;
use actix::Addr;
use arc_swap::ArcSwap;
use std::collections::BTreeMap;
use std::sync::Arc;
use understudy_domain::catalog::{Catalog, ModelPlan};
use understudy_domain::features::VectorPlan;
use understudy_domain::validate::{Reference, Rules};

/// What a project declares, compiled: the input of a generation.
#[derive(Clone)]
pub struct Declared {
    /// Grows by one with every change that is applied, over restarts too.
    pub number: u64,
    pub catalog: Arc<Catalog>,
    pub settings: LiveSettings,
}

/// The configuration in force, whole.
pub struct Generation {
    pub number: u64,
    pub catalog: Arc<Catalog>,
    pub settings: LiveSettings,
    pub features: Arc<FeatureSet>,
    models: BTreeMap<Arc<str>, Served>,
}

/// One model of a generation.
pub struct Served {
    pub name: Arc<str>,
    pub plan: Arc<ModelPlan>,
    pub monitor: Addr<Monitor>,
    /// Versions that have been asked for, and what this generation makes of them. Few; searched in order.
    bound: ArcSwap<Vec<(Arc<str>, Arc<Bound>)>>,
}

/// A version under one generation's definitions and rules.
pub struct Bound {
    /// Makes the vector of the version's own signature, which may be older than the model's declaration.
    pub vector: VectorPlan,
    pub rules: Rules,
    pub reference: Reference,
    pub fallback_score: f64,
}

/// The current generation. One load at the start of a request; stores come from the system alone.
pub type Current = Arc<ArcSwap<Generation>>;

impl Generation {
    pub fn new(declared: Declared, features: Arc<FeatureSet>, monitors: &BTreeMap<String, Addr<Monitor>>) -> Self {
        let Declared { number, catalog, settings } = declared;
        let models = catalog
            .models
            .iter()
            .filter_map(|(name, plan)| {
                let name: Arc<str> = Arc::from(name.as_str());
                let monitor = monitors.get(&*name)?.clone();
                let bound = ArcSwap::from_pointee(Vec::new());
                Some((name.clone(), Served { name, plan: plan.clone(), monitor, bound }))
            })
            .collect();
        Generation { number, catalog, settings, features, models }
    }

    pub fn served(&self, model: &str) -> Option<&Served> {
        self.models.get(model)
    }

    /// The model of a request, or which there are.
    pub fn model(&self, name: &str) -> Result<&Served, Refusal> {
        self.models.get(name).ok_or_else(|| Refusal::NotFound {
            code: "unknown_model",
            detail: format!(
                "no model is named `{name}`; there are: {}",
                self.models.keys().map(|n| &**n).collect::<Vec<_>>().join(", ")
            ),
        })
    }

    pub fn models(&self) -> impl Iterator<Item = &Served> {
        self.models.values()
    }

    /// What this generation makes of a loaded version; worked out once.
    pub fn bind(&self, loaded: &LoadedModel) -> Result<Arc<Bound>, Refusal> {
        let served = self.model(&loaded.model)?;
        if let Some((_, bound)) = served.bound.load().iter().find(|(v, _)| **v == *loaded.version) {
            return Ok(bound.clone());
        }
        let bound = Arc::new(
            bind(&self.catalog, &served.plan, loaded)
                .map_err(|detail| Refusal::Unavailable { code: "model_not_loadable", detail })?,
        );
        served.bound.rcu(|known| {
            let mut known = Vec::clone(known);
            known.push((loaded.version.clone(), bound.clone()));
            known
        });
        Ok(bound)
    }
}

/// A version's inputs, looked up in the catalog's definitions, and the rules over them; or why it cannot serve.
pub fn bind(catalog: &Catalog, plan: &ModelPlan, loaded: &LoadedModel) -> Result<Bound, String> {
    let signature = &loaded.signature;
    let names: Vec<String> = signature.features.iter().map(|f| f.name.clone()).collect();
    let who = format!("`{}` {}", loaded.model, loaded.version);
    let vector = catalog.plan.vector(&names).map_err(|problems| {
        let missing: Vec<String> = problems.iter().map(|p| p.message.clone()).collect();
        format!("{who} was trained on features that the project no longer has: {}", missing.join("; "))
    })?;
    let mut checks = Vec::with_capacity(names.len());
    for feature in &signature.features {
        let meta = catalog.plan.feature(&feature.name).expect("the vector plan found it");
        if (meta.kind, meta.nullable) != (feature.kind, feature.nullable) {
            return Err(format!(
                "{who} was trained on `{}` of another type: train it again or restore the feature",
                feature.name
            ));
        }
        if let (Some(then), Some(now)) =
            (loaded.runtime.manifest().meanings.get(&feature.name), catalog.plan.meaning(&feature.name))
            && then != now
        {
            return Err(format!(
                "{who} was trained on another definition of `{}`: give the new one another name, or restore it and \
                 train a version on the new one first",
                feature.name
            ));
        }
        checks.push(meta.checks.clone());
    }
    let rules = Rules::compile(signature, &checks, &catalog.rules, &loaded.model, &plan.spec.profile)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
    Ok(Bound {
        vector,
        reference: rules.prepare(loaded.runtime.profile()),
        rules,
        fallback_score: plan.spec.fallback_score.unwrap_or(loaded.base_rate),
    })
}
