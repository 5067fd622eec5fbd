//! A project made for a measurement: as many models as wanted, each with one version, trained for a moment on made-up
//! rows. What it answers is of no interest; what it weighs and takes is real.

use crate::cli::error::{CliError, Result, at_path};
use crate::config::Project;
use crate::runtime::artefact::memory;
use crate::runtime::train;
use serde_json::{Value, json};
use std::path::Path;
use understudy_actors::ports::{TrainingJob, TrainingRow};
use understudy_domain::time::Timestamp;

const FEATURES: &str = r#"
[events.order]
entities = ["customer"]
properties = { amount = "float" }

[views.customer_orders]
entity = "customer"
event = "order"
features.orders_1d = { aggregate = "count", window = "1d" }

[context.a]
type = "float"

[context.b]
type = "float"
"#;

/// Rows of the moment of training; the trainer wants at least 50.
const ROWS: i64 = 128;

/// Name of the model with this number.
pub fn name(i: usize) -> String {
    format!("made-{i}")
}

/// A request that any of them answers.
pub fn body(n: u64) -> Value {
    let part = |shift: u32| ((n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> shift) % 1000) as f64 / 1000.0;
    json!({"entities": {"customer": format!("c{}", n % 50)}, "context": {"a": part(20), "b": part(40)}})
}

/// Writes the project with its versions (logistic regressions if there is no hidden layer); the bytes that one of them holds in memory.
pub fn project(dir: &Path, models: usize, hidden: &[usize]) -> Result<u64> {
    let write = |path: &str, text: &str| {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap_or(dir)).map_err(at_path(&path, "make"))?;
        std::fs::write(&path, text).map_err(at_path(&path, "write"))
    };
    write("understudy.toml", "[storage]\ndurability = \"process\"\n")?;
    write("features/made.toml", FEATURES)?;
    for i in 0..models {
        let algorithm = if hidden.is_empty() { "logistic" } else { "mlp" };
        let train = format!("[train]\nalgorithm = \"{algorithm}\"\nhidden = {hidden:?}\nmax_epochs = 1\nbatch = 128\n");
        let text = format!("name = \"{}\"\nfeatures = [\"orders_1d\", \"a\", \"b\"]\n{train}", name(i));
        write(&format!("models/{}.toml", name(i)), &text)?;
    }
    let wrong = |what: &str| CliError::new(format!("the project of the measurement could not be made: {what}"));
    let listed = |problems: Vec<understudy_domain::problem::Problem>| {
        wrong(&problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    };
    let catalog = Project::load(dir, &[]).map_err(listed)?.compile().map_err(listed)?;
    let plan = catalog.model(&name(0)).ok_or_else(|| wrong("no model"))?;
    let meaning = |f: &String| Some((f.clone(), catalog.plan.meaning(f)?.to_owned()));
    let row = |i: i64| {
        let (a, b) = ((i * 37 % ROWS) as f64 / ROWS as f64, (i * 11 % ROWS) as f64 / ROWS as f64);
        let vector = vec![(i % 4).into(), a.into(), b.into()];
        TrainingRow { request_id: i.to_string(), time: Timestamp(i), vector, label: a + b > 1.0 }
    };
    let job = TrainingJob {
        model: name(0),
        spec: plan.spec.train.clone().ok_or_else(|| wrong("no [train]"))?,
        signature: (*plan.signature).clone(),
        feature_set: catalog.plan.id().to_owned(),
        meanings: plan.spec.features.iter().filter_map(meaning).collect(),
        drift: plan.spec.drift.clone(),
        threshold: plan.spec.threshold,
        created: Timestamp(0),
        rows: (0..ROWS).map(row).collect(),
    };
    let artefact = train::train(job, &|_, _| {}).map_err(|e| wrong(&e))?;
    let mut bytes = 0;
    for i in 0..models {
        let mut own = artefact.clone();
        (own.manifest.model, own.manifest.version) = (name(i), "v1".into());
        let at = dir.join("data/models").join(name(i)).join("v1");
        bytes = memory(&own.write(&at).map_err(|e| wrong(&e))?);
    }
    Ok(bytes)
}
