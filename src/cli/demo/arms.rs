//! The ways of mending a model, side by side in one replay: each is a model of a scratch project, with the same
//! features and rules, trained on the same rows at the same instant.

use super::weeks::{Figures, Week, some};
use crate::cli::error::{CliError, Result, at_path};
use crate::cli::features::Scratch;
use crate::cli::{retrain, table};
use serde::Serialize;
use serde_json::Value;
use std::path::Path;
use understudy_domain::time::Timestamp;

/// One way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    Frozen,
    /// Platt's scaling fitted anew at each month's start, unjudged.
    Recalibrated,
    /// Trained anew on everything at each month's start, unjudged.
    Retrained,
    /// The model's own [retraining] table, acting without a person.
    Loop,
}

impl Arm {
    pub const ALL: [Arm; 4] = [Arm::Frozen, Arm::Recalibrated, Arm::Retrained, Arm::Loop];

    pub fn name(self) -> &'static str {
        match self {
            Arm::Frozen => "frozen",
            Arm::Recalibrated => "recalibrated",
            Arm::Retrained => "retrained",
            Arm::Loop => "loop",
        }
    }

    /// What stands in the model's file for it; `own` is the table that the project wrote.
    fn table(self, own: Option<toml::Table>) -> Option<toml::Table> {
        let calendar = |candidate: &str| {
            let text = format!("trigger = \"monthly\"\ngate = false\ncandidates = [\"{candidate}\"]");
            text.parse::<toml::Table>().expect("a table in valid TOML")
        };
        let mut table = match self {
            Arm::Frozen => return None,
            Arm::Recalibrated => calendar("recalibrate"),
            Arm::Retrained => calendar("retrain"),
            Arm::Loop => own.unwrap_or_default(),
        };
        table.insert("mode".into(), "act".into());
        // No person and no traffic but the recording's: a rollout would compare what the gate has compared.
        table.insert("promotion".into(), "immediate".into());
        Some(table)
    }
}

/// A model of the scratch project.
#[derive(Clone, Debug)]
pub struct Armed {
    pub name: String,
    pub model: String,
    pub arm: Arm,
}

/// A copy of the project with each of its models (or of `only`) once for each arm. With one arm the names stay.
pub fn project(from: &Path, only: &[String], arms: &[Arm]) -> Result<(Scratch, Vec<Armed>)> {
    let scratch = Scratch::new()?;
    let to = &scratch.0;
    for folder in ["features", "rules"] {
        copy(&from.join(folder), &to.join(folder))?;
    }
    let main = from.join("understudy.toml");
    std::fs::copy(&main, to.join("understudy.toml")).map_err(at_path(&main, "copy"))?;
    let models = to.join("models");
    std::fs::create_dir_all(&models).map_err(at_path(&models, "make"))?;
    let mut all = Vec::new();
    for path in toml_files(&from.join("models"))? {
        let text = std::fs::read_to_string(&path).map_err(at_path(&path, "read"))?;
        let base: toml::Table = text.parse().map_err(|e| CliError::new(format!("{}: {e}", path.display())))?;
        let model = base.get("name").and_then(|n| n.as_str()).unwrap_or_default().to_owned();
        if !only.is_empty() && !only.contains(&model) {
            continue;
        }
        for arm in arms {
            let mut table = base.clone();
            let name = if arms.len() == 1 { model.clone() } else { format!("{model}-{}", arm.name()) };
            table.insert("name".into(), name.as_str().into());
            let own = table.remove("retraining").and_then(|v| v.as_table().cloned());
            if let Some(own) = arm.table(own) {
                table.insert("retraining".into(), own.into());
            }
            let path = models.join(format!("{name}.toml"));
            std::fs::write(&path, table.to_string()).map_err(at_path(&path, "write"))?;
            all.push(Armed { name, model: model.clone(), arm: *arm });
        }
    }
    if all.is_empty() {
        return Err(CliError::new(format!("{} has no model named {}", from.display(), only.join(", "))));
    }
    Ok((scratch, all))
}

fn toml_files(dir: &Path) -> Result<Vec<std::path::PathBuf>> {
    let entries = std::fs::read_dir(dir).map_err(at_path(dir, "read"))?;
    let mut files: Vec<_> =
        entries.filter_map(|e| Some(e.ok()?.path())).filter(|p| p.extension().is_some_and(|x| x == "toml")).collect();
    files.sort();
    Ok(files)
}

fn copy(from: &Path, to: &Path) -> Result {
    if !from.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(to).map_err(at_path(to, "make"))?;
    for path in toml_files(from)? {
        let name = path.file_name().unwrap_or_default();
        std::fs::copy(&path, to.join(name)).map_err(at_path(&path, "copy"))?;
    }
    Ok(())
}

/// What one way came to.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    pub model: String,
    pub arm: &'static str,
    /// Means over the weeks compared.
    pub mean_weekly_log_loss: Option<f64>,
    pub mean_weekly_auc: Option<f64>,
    pub weeks: usize,
    pub jobs: usize,
    pub promoted: usize,
    pub refused: usize,
    pub failed: usize,
}

pub fn summaries(armed: &[Armed], weeks: &[Week], jobs: &[Value], from: Option<Timestamp>) -> Vec<Summary> {
    let compared: Vec<&Week> = weeks.iter().filter(|w| from.is_none_or(|f| w.start >= f)).collect();
    armed
        .iter()
        .map(|a| {
            let mean = |of: fn(&Figures) -> Option<f64>| {
                let values: Vec<f64> = compared.iter().filter_map(|w| w.models.get(&a.name).and_then(of)).collect();
                (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
            };
            let own: Vec<&Value> = jobs.iter().filter(|j| j["model"] == a.name.as_str()).collect();
            let count = |state: &str| own.iter().filter(|j| j["state"] == state).count();
            Summary {
                model: a.model.clone(),
                arm: a.arm.name(),
                mean_weekly_log_loss: mean(|f| f.log_loss),
                mean_weekly_auc: mean(|f| f.auc),
                weeks: compared.len(),
                jobs: own.len(),
                promoted: count("promoted"),
                refused: count("refused"),
                failed: count("failed"),
            }
        })
        .collect()
}

/// A week's log loss of each way.
pub fn heading(armed: &[Armed]) -> String {
    let mut text = format!("{:8} {:>6} {:>4}", "week", "reqs", "pos");
    for a in armed {
        text.push_str(&format!(" {:>12}", a.arm.name()));
    }
    text
}

pub fn line(w: &Week, armed: &[Armed]) -> String {
    let short = |v: Option<f64>, n| some(v, n).trim_start_matches('0').to_owned();
    let mut text = format!("{:8} {:>6} {:>4}", w.week, w.first.requests, short(w.first.positive_share, 2));
    for a in armed {
        text.push_str(&format!(" {:>12}", short(w.models.get(&a.name).and_then(|f| f.log_loss), 4)));
    }
    text
}

/// The comparison, then every job with what came of it.
pub fn print(summaries: &[Summary], jobs: &[Value], reference: &[Reference], from: Option<Timestamp>) -> String {
    let mut rows: Vec<Vec<String>> = summaries
        .iter()
        .map(|s| {
            vec![
                s.model.clone(),
                s.arm.to_owned(),
                some(s.mean_weekly_log_loss, 4),
                some(s.mean_weekly_auc, 4),
                s.jobs.to_string(),
                s.promoted.to_string(),
                s.refused.to_string(),
            ]
        })
        .collect();
    for r in reference {
        let jobs = r.jobs.to_string();
        rows.push(vec![
            format!("reference {}", r.model),
            r.mode.clone(),
            some(Some(r.log_loss), 4),
            some(Some(r.auc), 4),
            jobs.clone(),
            jobs,
            "0".into(),
        ]);
    }
    let headers = ["model", "way", "log loss", "AUC", "jobs", "promoted", "refused"];
    let mut text = match from {
        Some(from) => format!("Means over the weeks from {from} on:\n"),
        None => "Means over all weeks:\n".to_owned(),
    };
    text.push_str(&table::table(&headers, &headers[2..], rows));
    for j in jobs {
        let id = format!("{}/{}", j["model"].as_str().unwrap_or_default(), j["id"]);
        let until = j["until"].as_str().unwrap_or_default();
        text.push_str(&format!(
            "{} {id} {}: {}\n",
            &until[..until.len().min(10)],
            j["reason"].as_str().unwrap_or_default(),
            retrain::outcome(j)
        ));
    }
    text
}

/// Another implementation's means over the same weeks; a row of `reference_mended.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
pub struct Reference {
    pub model: String,
    pub mode: String,
    pub log_loss: f64,
    pub auc: f64,
    pub jobs: u64,
}

pub fn reference(project: &Path) -> Vec<Reference> {
    let Ok(mut reader) = csv::Reader::from_path(project.join("reference_mended.csv")) else { return Vec::new() };
    reader.deserialize().filter_map(std::result::Result::ok).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let project = dir.path().join("p");
        crate::cli::example_project(&project).unwrap();
        (dir, project)
    }

    #[test]
    fn each_way_is_a_model_that_loads() {
        let (_dir, from) = example();
        let (scratch, armed) = super::project(&from, &[], &Arm::ALL).unwrap();
        let project = crate::config::Project::load_with(&scratch.0, [], &[]).unwrap();
        project.compile().unwrap();
        let models = project.models.len();
        assert_eq!(models, armed.len());
        assert!(models.is_multiple_of(4) && models > 0);
        let of = |arm: Arm| {
            let name = &armed.iter().find(|a| a.arm == arm).unwrap().name;
            project.models.iter().find(|m| m.name == *name).unwrap().retraining.clone()
        };
        assert_eq!(of(Arm::Frozen), None);
        let monthly = of(Arm::Retrained).unwrap();
        assert!(!monthly.gate && monthly.mode == understudy_domain::retraining::Mode::Act);
        assert!(of(Arm::Loop).unwrap().gate);
        assert!(super::project(&from, &["nobody".into()], &Arm::ALL).is_err());
        let (_, one) = super::project(&from, &[], &[Arm::Loop]).unwrap();
        assert_eq!(one[0].name, one[0].model);
    }
}
