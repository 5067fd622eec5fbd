//! Names of versions, versions out of use, and versions that come from outside: changes of the registry, one at a time,
//! written before they take effect.

use super::{ActivateVersion, Key, ModelPool, gone, loads::on_trial};
use crate::api::Refusal;
use crate::fault_point;
use crate::ports::RegisterError;
use actix::prelude::*;
use std::sync::Arc;
use understudy_domain::catalog::Catalog;
use understudy_domain::model::Manifest;
use understudy_domain::registry::{CHAMPION, LedgerRefusal, VersionLedger};

/// Give a name to a version, or take it away. A version that cannot be loaded gets none.
#[derive(Message)]
#[rtype(result = "Result<AliasChanged, Refusal>")]
pub struct SetAlias {
    pub model: Arc<str>,
    pub alias: String,
    /// `None` takes the name away.
    pub version: Option<String>,
}

/// What a name led to before, and the epoch of the routes now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AliasChanged {
    pub before: Option<String>,
    pub epoch: u64,
}

/// Take a version out of use for good. Refused while a name or a route leads to it.
#[derive(Message)]
#[rtype(result = "Result<u64, Refusal>")]
pub struct ArchiveVersion {
    pub model: Arc<str>,
    pub version: String,
}

/// Take in a version that was made elsewhere; it is checked whole, and answers nobody until a name or route leads to it
/// (the first version of a model is its champion).
#[derive(Message)]
#[rtype(result = "Result<Registered, Refusal>")]
pub struct RegisterVersion {
    pub bundle: Vec<u8>,
}

#[derive(Clone, Debug)]
pub struct Registered {
    pub manifest: Manifest,
    /// It is the model's first version, and answers from now on.
    pub champion: bool,
    pub epoch: u64,
}

fn unavailable(detail: String) -> Refusal {
    Refusal::Unavailable { code: "registry_unavailable", detail }
}

pub(super) fn refused(model: &str, refusal: LedgerRefusal) -> Refusal {
    let detail = format!("`{model}`: {refusal}");
    match refusal {
        LedgerRefusal::UnknownVersion { .. } => Refusal::NotFound { code: "unknown_version", detail },
        LedgerRefusal::UnknownAlias { .. } => Refusal::NotFound { code: "unknown_alias", detail },
        LedgerRefusal::AliasName { .. } => Refusal::Invalid { code: "invalid_alias", detail },
        LedgerRefusal::Archived { .. } => Refusal::Conflict { code: "version_archived", detail },
        LedgerRefusal::InUse { .. } => Refusal::Conflict { code: "version_in_use", detail },
    }
}

impl ModelPool {
    /// The registry as it is now; kept, so that what is decided next is decided on it.
    pub(super) fn read_registry(&mut self, model: &Arc<str>) -> Result<(VersionLedger, Vec<String>), Refusal> {
        self.current.load().model(model)?;
        let versions = self.deps.loader.versions(model).map_err(unavailable)?;
        let ledger = match self.state.ledgers.get(model) {
            Some(ledger) => ledger.clone(),
            None => self.deps.loader.ledger(model).map_err(unavailable)?,
        };
        self.state.versions.insert(model.clone(), versions.clone());
        Ok((ledger, versions))
    }

    /// Written, then in force.
    pub(super) fn decide(&mut self, model: &Arc<str>, ledger: VersionLedger) -> Result<u64, Refusal> {
        if self.state.ledgers.get(model) != Some(&ledger) {
            self.deps.loader.save_ledger(model, &ledger).map_err(unavailable)?;
            fault_point!("model_pool.alias");
            self.state.ledgers.insert(model.clone(), ledger);
        }
        fault_point!("model_pool.publish");
        self.publish_routes();
        Ok(self.state.table.epoch)
    }

    fn name(&mut self, model: &Arc<str>, alias: &str, version: Option<&str>) -> Result<AliasChanged, Refusal> {
        let (ledger, versions) = self.read_registry(model)?;
        let before = match alias {
            CHAMPION => ledger.champion(&versions),
            _ => ledger.aliases.get(alias).cloned(),
        };
        let next = match version {
            Some(version) => ledger.with_alias(alias, version, &versions),
            None => ledger.without_alias(alias),
        };
        let epoch = self.decide(model, next.map_err(|e| refused(model, e))?)?;
        Ok(AliasChanged { before, epoch })
    }

    fn archive(&mut self, model: &Arc<str>, version: &str) -> Result<u64, Refusal> {
        let (ledger, versions) = self.read_registry(model)?;
        let routed = self.state.table.models.get(&**model).map(|r| r.versions.clone()).unwrap_or_default();
        let next = ledger.with_archived(version, &versions, &routed).map_err(|e| refused(model, e))?;
        let epoch = self.decide(model, next)?;
        let key: Key = (model.clone(), version.to_owned());
        self.retire(|k, _| *k == key);
        Ok(epoch)
    }

    /// Loads the version, so that what cannot be loaded gets no name; then names it.
    fn load_and_name(
        &mut self,
        model: Arc<str>,
        alias: String,
        version: String,
        ctx: &mut Context<Self>,
    ) -> ResponseActFuture<Self, Result<AliasChanged, Refusal>> {
        let key = (model.clone(), version.clone());
        self.forgive(&key);
        let waiting = self.acquire(key, ctx);
        Box::pin(async move { waiting.await.unwrap_or_else(|_| Err(gone())) }.into_actor(self).map(
            move |loaded, pool, _| {
                let _kept = loaded?;
                pool.name(&model, &alias, Some(&version))
            },
        ))
    }
}

impl Handler<ActivateVersion> for ModelPool {
    type Result = ResponseActFuture<Self, Result<u64, Refusal>>;

    fn handle(&mut self, m: ActivateVersion, ctx: &mut Self::Context) -> Self::Result {
        fault_point!("model_pool.activate");
        let named = self.load_and_name(m.model, CHAMPION.to_owned(), m.version, ctx);
        Box::pin(named.map(|changed, _, _| changed.map(|c| c.epoch)))
    }
}

impl Handler<SetAlias> for ModelPool {
    type Result = ResponseActFuture<Self, Result<AliasChanged, Refusal>>;

    fn handle(&mut self, m: SetAlias, ctx: &mut Self::Context) -> Self::Result {
        fault_point!("model_pool.activate");
        match m.version {
            Some(version) => self.load_and_name(m.model, m.alias, version, ctx),
            None => {
                let changed = self.name(&m.model, &m.alias, None);
                Box::pin(async move { changed }.into_actor(self))
            }
        }
    }
}

impl Handler<ArchiveVersion> for ModelPool {
    type Result = Result<u64, Refusal>;

    fn handle(&mut self, m: ArchiveVersion, _: &mut Self::Context) -> Self::Result {
        self.archive(&m.model, &m.version)
    }
}

impl Handler<RegisterVersion> for ModelPool {
    type Result = ResponseActFuture<Self, Result<Registered, Refusal>>;

    fn handle(&mut self, m: RegisterVersion, _: &mut Self::Context) -> Self::Result {
        let (deps, generation) = (self.deps.clone(), self.current.load_full());
        let blocking = deps.settings.blocking;
        let work = async move {
            let registered = blocking.run(move || {
                let accept = |runtime: &Arc<dyn crate::ports::ModelRuntime>| {
                    let loaded = on_trial(&deps, runtime.clone());
                    serves(&generation.catalog, &loaded)?;
                    // The one that answers must not change because a newer one is there.
                    let versions = deps.loader.versions(&loaded.model)?;
                    let ledger = deps.loader.ledger(&loaded.model)?;
                    let settled = ledger.settled(&versions);
                    if settled == ledger { Ok(()) } else { deps.loader.save_ledger(&loaded.model, &settled) }
                };
                deps.loader.register(&m.bundle, &accept)
            });
            match registered.await {
                Ok(Ok(manifest)) => Ok(manifest),
                Ok(Err(RegisterError::Refused(detail))) => Err(Refusal::Invalid { code: "artefact_refused", detail }),
                Ok(Err(RegisterError::Known { model, version })) => Err(Refusal::Conflict {
                    code: "already_registered",
                    detail: format!("the same files are registered as `{model}` {version}"),
                }),
                Ok(Err(RegisterError::Storage(detail))) => Err(unavailable(detail)),
                Err(panic) => Err(Refusal::Internal { detail: format!("registering: {panic}") }),
            }
        };
        Box::pin(work.into_actor(self).map(|manifest: Result<Manifest, Refusal>, pool, _| {
            let manifest = manifest?;
            let model: Arc<str> = Arc::from(manifest.model.as_str());
            pool.state.ledgers.remove(&model); // it may have been settled
            let (ledger, versions) = pool.read_registry(&model)?;
            let champion = ledger.champion(&versions).as_deref() == Some(&manifest.version);
            pool.state.ledgers.insert(model, ledger);
            pool.publish_routes();
            Ok(Registered { champion, epoch: pool.state.table.epoch, manifest })
        }))
    }
}

/// Whether the project has the model and all that the version needs.
fn serves(catalog: &Catalog, loaded: &super::LoadedModel) -> Result<(), String> {
    let plan = catalog.models.get(&*loaded.model).ok_or_else(|| {
        let known = catalog.models.keys().cloned().collect::<Vec<_>>().join(", ");
        format!("manifest.json: the project has no model `{}`; it has: {known}", loaded.model)
    })?;
    crate::generation::bind(catalog, plan, loaded).map(drop)
}
