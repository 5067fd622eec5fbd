//! The project that is simulated: small, but with every part that can go wrong.

use crate::runtime::artefact::Artefact;
use crate::runtime::candle::CandleModel;
use crate::runtime::train;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use understudy_actors::ports::{ModelLoader, ModelRuntime, Progress, Trainer, TrainingJob, TrainingRow};
use understudy_domain::catalog::Catalog;
use understudy_domain::model::Manifest;
use understudy_domain::profile::ReferenceProfile;
use understudy_domain::project::{FeatureFile, ModelSpec, RuleFile};
use understudy_domain::registry::VersionLedger;
use understudy_domain::time::Timestamp;
use understudy_domain::value::Value;

pub const MODEL: &str = "returns";

const FEATURES: &str = r#"
[events.order]
entities = ["user", "shop"]
properties = { amount = "float", kind = "category" }

[events.ask]
entities = ["user", "shop"]
properties = { basket = "float" }

[events.result]
entities = ["user"]
properties = { request = "category", bad = "bool" }

[views.user_orders]
entity = "user"
event = "order"
features.orders_1h = { aggregate = "count", window = "1h" }
features.spent_1d = { aggregate = "sum", property = "amount", window = "1d" }
features.kinds_1d = { aggregate = "distinct", property = "kind", window = "1d" }
features.kind_last = { aggregate = "last", property = "kind", window = "2h" }

[views.shop_orders]
entity = "shop"
event = "order"
features.dear_2h = { aggregate = "count", window = "2h", where = "amount > 50.0" }
features.amount_mean_2h = { aggregate = "mean", property = "amount", window = "2h" }
features.amount_max_1d = { aggregate = "max", property = "amount", window = "1d" }

[context.basket]
type = "float"
check = { min = 0.0, policy = "reject" }
"#;

const SPEC: &str = r#"
name = "returns"
features = ["orders_1h", "spent_1d", "kinds_1d", "kind_last", "dear_2h", "amount_mean_2h", "amount_max_1d", "basket"]
positive_label = "bad"
negative_label = "good"

[request]
event = "ask"

[outcome]
event = "result"
request_property = "request"
label = "bad"
matures_after = "1h"
expires_after = "12h"

[monitor]
window = "1d"
keep = 1000

[train]
algorithm = "logistic"
max_epochs = 2
"#;

const RULES: &str = r#"
[rules.basket]
expect = "basket < 900.0"
policy = "fallback"
"#;

pub fn catalog() -> Catalog {
    let features: FeatureFile = toml::from_str(FEATURES).expect("the simulated features are TOML");
    let spec: ModelSpec = toml::from_str(SPEC).expect("the simulated model is TOML");
    let rules: RuleFile = toml::from_str(RULES).expect("the simulated rules are TOML");
    Catalog::compile(&features, &[spec], &rules.rules).unwrap_or_else(|problems| {
        panic!("the simulated project: {}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    })
}

/// The smallest real model: a logistic regression over rows made up once a process.
pub fn artefact() -> &'static Artefact {
    static TRAINED: OnceLock<Artefact> = OnceLock::new();
    TRAINED.get_or_init(|| {
        let catalog = catalog();
        let plan = catalog.model(MODEL).expect("the project has the model");
        let rows = (0..60).map(|i| TrainingRow {
            request_id: format!("r{i}"),
            time: Timestamp(i),
            vector: vec![
                Value::Int(i % 5),
                Value::Float((i * 7 % 90) as f64),
                Value::Int(i % 3),
                Value::text(["a", "b", "c"][i as usize % 3]),
                Value::Int(i % 4),
                Value::Float((i % 60) as f64),
                Value::Float((i % 95) as f64),
                Value::Float((i * 13 % 200) as f64),
            ],
            label: i * 13 % 200 > 90,
        });
        let job = TrainingJob {
            meanings: Default::default(),
            model: MODEL.into(),
            spec: plan.spec.train.clone().expect("the model is trainable"),
            signature: (*plan.signature).clone(),
            feature_set: catalog.plan.id().to_owned(),
            drift: plan.spec.drift.clone(),
            threshold: plan.spec.threshold,
            created: Timestamp(0),
            rows: rows.collect(),
        };
        train::train(job, &|_, _| {}).unwrap_or_else(|e| panic!("the simulated model cannot be trained: {e}"))
    })
}

/// Registered versions, as durable as the disk of a run; training registers a copy of the one real model.
#[derive(Default)]
pub struct SimModels {
    versions: Mutex<Vec<String>>,
    ledger: Mutex<VersionLedger>,
    /// Faults to happen, and those that did.
    pub load_errors: Mutex<u64>,
    pub train_errors: Mutex<u64>,
    pub fired: Mutex<BTreeMap<&'static str, u64>>,
}

impl SimModels {
    pub fn register(&self) -> String {
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let version = format!("v{}", versions.len() + 1);
        versions.push(version.clone());
        version
    }

    fn fault(&self, left: &Mutex<u64>, name: &'static str) -> Result<(), String> {
        let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
        if *left == 0 {
            return Ok(());
        }
        *left -= 1;
        *self.fired.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
        Err(format!("planted: {name}"))
    }
}

impl ModelLoader for SimModels {
    fn versions(&self, _: &str) -> Result<Vec<String>, String> {
        Ok(self.versions.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn manifest(&self, _: &str, version: &str) -> Result<Manifest, String> {
        Ok(Manifest { version: version.to_owned(), ..artefact().manifest.clone() })
    }

    fn ledger(&self, _: &str) -> Result<VersionLedger, String> {
        Ok(self.ledger.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn save_ledger(&self, _: &str, ledger: &VersionLedger) -> Result<(), String> {
        *self.ledger.lock().unwrap_or_else(PoisonError::into_inner) = ledger.clone();
        Ok(())
    }

    fn weigh(&self, _: &str, _: &str) -> Result<u64, String> {
        Ok(2 * artefact().weights.len() as u64)
    }

    fn load(&self, _: &str, version: &str) -> Result<Arc<dyn ModelRuntime>, String> {
        self.fault(&self.load_errors, "models.load")?;
        let mut artefact = artefact().clone();
        artefact.manifest.version = version.to_owned();
        Ok(Arc::new(CandleModel::new(artefact)?))
    }

    fn profile(&self, _: &str, _: &str) -> Result<ReferenceProfile, String> {
        Ok(artefact().profile.clone())
    }
}

impl Trainer for SimModels {
    fn train(&self, job: TrainingJob, progress: Progress<'_>) -> Result<Manifest, String> {
        progress(0.5, "copying");
        self.fault(&self.train_errors, "models.train")?;
        let mut manifest = artefact().manifest.clone();
        manifest.version = self.register();
        manifest.provenance.rows = job.rows.len() as u64;
        Ok(manifest)
    }
}
