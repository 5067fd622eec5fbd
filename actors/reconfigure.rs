//! Replaces the generation in force by the next one: first everything that it needs is made ready beside what
//! serves, then one store makes it the current one.

use crate::api::Refusal;
use crate::config::Compiled;
use crate::event_logger::DetachSets;
use crate::feature_set::FeatureSet;
use crate::feature_shard::{Layout, Scan, SetMaxEntities};
use crate::generation::{Declared, Generation, bind};
use crate::guard::Vitals;
use crate::model_pool::{AcquireModel, FollowProject, LoadedModel};
use crate::monitor::Monitor;
use crate::ports::FeatureStore;
use crate::prediction_logger::FollowOutcomes;
use crate::supervise;
use crate::system::System;
use actix::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How often, and with what pause, a store in use is asked for.
const STORE_TRIES: u32 = 100;
const STORE_WAIT: Duration = Duration::from_millis(50);

/// What the next generation needs and the present one does not have.
pub(crate) struct Prepared {
    features: Arc<FeatureSet>,
    /// Those still in memory are bound before their first request; none is kept there for it.
    champions: Vec<Weak<LoadedModel>>,
}

fn gone(e: MailboxError) -> Vec<String> {
    vec![format!("a part of the system is being restarted ({e}); try again")]
}

/// Every version that serves must be able to serve on, or the change is refused and says which cannot. One after the
/// other: more may serve than fit in memory at once.
async fn champions(system: &System, next: &Compiled) -> Result<Vec<Weak<LoadedModel>>, Vec<String>> {
    let (mut serve, mut problems) = (Vec::new(), Vec::new());
    for status in system.models() {
        let (Some(version), true) = (status.champion, next.catalog.models.contains_key(&status.model)) else {
            continue;
        };
        let acquire = AcquireModel { model: Arc::from(status.model.as_str()), version: version.clone() };
        match system.pool.send(acquire).await.map_err(gone)? {
            Ok(loaded) => {
                problems.extend(check(system, next, &loaded));
                serve.push(Arc::downgrade(&loaded));
            }
            // It cannot serve now either: no reason to keep the project as it is.
            Err(e) => tracing::warn!(model = status.model, version, ?e, "the version could not be loaded"),
        }
    }
    if problems.is_empty() { Ok(serve) } else { Err(problems) }
}

/// Why a version could not serve on.
fn check(system: &System, next: &Compiled, loaded: &LoadedModel) -> Vec<String> {
    let now = system.generation();
    let plan = &next.catalog.models[&*loaded.model];
    if let Err(why) = bind(&next.catalog, plan, loaded) {
        return vec![why];
    }
    // Versions that do not carry the meaning of their features: compared with what they are served now.
    let changed = |name: &str| {
        let (old, new) = (now.catalog.plan.meaning(name), next.catalog.plan.meaning(name));
        old.is_some() && old != new
    };
    let other = loaded.signature.features.iter().filter(|f| changed(&f.name));
    other
        .map(|feature| {
            format!(
                "`{}` {} needs `{}` as it is defined now: give the new definition another name",
                loaded.model, loaded.version, feature.name
            )
        })
        .collect()
}

/// Makes everything ready; `scan` shows how far, and gives it up.
pub(crate) async fn prepare(system: &System, next: &Compiled, scan: Arc<Scan>) -> Result<Prepared, Vec<String>> {
    let champions = champions(system, next).await?;
    let now = system.generation();
    let layout = &now.features.layout;
    let same = layout.plan.state_id() == next.catalog.plan.state_id() && layout.shards == next.settings.shards;
    let features = if same {
        now.features.clone()
    } else {
        let mut layout = Layout {
            plan: next.catalog.plan.clone(),
            shards: next.settings.shards,
            max_entities: next.settings.max_entities,
            store: layout.store.clone(),
            scan,
        };
        layout.store = store_for(system, &layout.id()).await?;
        // A thread of its own: reading the log must not hold up the events of the present.
        let own = (!system.threads.shared()).then(Arbiter::new);
        let thread = own.as_ref().map_or(system.threads.features.clone(), Arbiter::handle);
        let set = Arc::new(FeatureSet::start(layout, &system.deps, &system.escalation, &thread, own, None));
        if let Err(e) = set.catch_up(system).await {
            give_up(system);
            return Err(vec![refused(&e)]);
        }
        set
    };
    Ok(Prepared { features, champions })
}

/// A store of this layout alone. One that a set before the last used is free once its last request has ended.
async fn store_for(system: &System, layout: &str) -> Result<Arc<dyn FeatureStore>, Vec<String>> {
    let own = system.deps.features.clone();
    let serves = Arc::ptr_eq(&system.generation().features.layout.store, &own);
    if !serves && own.layout().is_ok_and(|l| l.is_none_or(|l| l == layout)) {
        return Ok(own);
    }
    let mut tries = 0;
    loop {
        let (own, wanted) = (own.clone(), layout.to_owned());
        let opened = system.deps.settings.blocking.run(move || own.beside(&wanted)).await;
        match opened.map_err(|panic| vec![panic])? {
            Ok(store) => return Ok(store),
            Err(e) if tries == STORE_TRIES => return Err(vec![e.to_string()]),
            Err(_) => tries += 1,
        }
        tokio::time::sleep(STORE_WAIT).await; // the last request of an old generation ends by itself
    }
}

fn refused(e: &Refusal) -> String {
    match e {
        Refusal::Conflict { detail, .. } | Refusal::Unavailable { detail, .. } | Refusal::Internal { detail } => {
            detail.clone()
        }
        other => format!("{other:?}"),
    }
}

/// No shards but those that serve get events any more.
pub(crate) fn give_up(system: &System) {
    system.events.do_send(DetachSets { keep: system.generation().features.id });
}

/// The swap. Nothing of it can fail but the loss of an actor.
pub(crate) async fn publish(system: &System, number: u64, next: &Compiled, ready: Prepared) -> Result<(), Vec<String>> {
    let now = system.generation();
    let models: Vec<Arc<str>> = next.catalog.models.keys().map(|m| Arc::from(m.as_str())).collect();
    // Added models have their routes before the first request for them.
    let both = now.models().map(|m| m.name.clone()).chain(models.iter().cloned()).collect();
    system.pool.send(FollowProject { models: both }).await.map_err(gone)?.map_err(|e| vec![e])?;
    let mut monitors: BTreeMap<String, Addr<Monitor>> = BTreeMap::new();
    for (name, plan) in &next.catalog.models {
        let kept = now.served(name).filter(|served| {
            let (old, new) = (&served.plan.spec, &plan.spec);
            let matures = |o: &understudy_domain::project::OutcomeSpec| o.matures_after;
            old.monitor == new.monitor
                && old.features == new.features
                && old.outcome.as_ref().map(matures) == new.outcome.as_ref().map(matures)
        });
        let monitor = match kept {
            Some(served) => served.monitor.clone(),
            None => {
                let actor = format!("monitor/{name}");
                system.unregister(|known| known == actor);
                let vitals = Vitals::new(actor, system.escalation.clone());
                system.register(vitals.clone());
                let monitor = Monitor::new(plan.clone(), system.deps.clone(), vitals.clone());
                supervise::start_on(&system.threads.logging, monitor, vitals)
            }
        };
        monitors.insert(name.clone(), monitor);
    }
    let resized =
        Arc::ptr_eq(&now.features, &ready.features) && now.settings.max_entities != next.settings.max_entities;
    let declared = Declared { number, catalog: next.catalog.clone(), settings: next.settings.clone() };
    let generation = Generation::new(declared, ready.features, &monitors);
    for champion in ready.champions.iter().filter_map(Weak::upgrade) {
        let _ = generation.bind(&champion); // worked out before the first request needs it
    }
    let features = generation.features.clone();
    system.current.store(Arc::new(generation));
    // Everything from here on follows the swap; no request depends on its order.
    system.admission.apply(next.settings.admission);
    system.events.do_send(DetachSets { keep: features.id });
    system.logger.do_send(FollowOutcomes);
    if resized {
        for shard in &features.shards {
            shard.do_send(SetMaxEntities(next.settings.max_entities));
        }
    }
    for model in now.models().filter(|m| !next.catalog.models.contains_key(&*m.name)) {
        let actor = format!("monitor/{}", model.name);
        system.unregister(|known| known == actor);
    }
    system.pool.send(FollowProject { models }).await.map_err(gone)?.map_err(|e| vec![e])
}
