//! A model's figures over the whole run, beside the reference that the project brings.

use super::weeks::{Figures, some};
use crate::cli::models::items;
use crate::cli::table;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Figures of another implementation on the same rows; one row of `reference.csv`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    pub model: String,
    pub mode: String,
    pub n: u64,
    pub auc: f64,
    #[serde(rename(deserialize = "logloss"))]
    pub log_loss: f64,
    pub brier: f64,
    #[serde(rename(deserialize = "ece10"))]
    pub ece: f64,
}

/// The project's reference rows; none when it brings none.
pub fn reference(project: &Path) -> Vec<Reference> {
    let Ok(mut reader) = csv::Reader::from_path(project.join("reference.csv")) else { return Vec::new() };
    reader.deserialize().filter_map(Result::ok).collect()
}

/// The reference row that a model is compared with: the one whose name is the model's algorithm.
pub fn counterpart<'a>(algorithm: &str, rows: &'a [Reference]) -> Option<&'a Reference> {
    let name = match algorithm {
        a if a.contains("logistic") => "lr",
        a if a.contains("mlp") => "mlp",
        a => a,
    };
    rows.iter().find(|r| r.model == name)
}

/// The whole of a monitor's answer: its `total`, else what can be added up exactly from its
/// windows. AUC and ECE of a whole do not follow from those of its parts.
pub fn of(answer: &Value) -> Figures {
    if answer["total"].is_object() {
        return Figures::of(&answer["total"]);
    }
    let parts: Vec<Figures> = items(answer.clone(), "windows").iter().map(Figures::of).collect();
    let n: u64 = parts.iter().map(|f| f.n).sum();
    let mean = |value: fn(&Figures) -> Option<f64>| {
        let sum: f64 = parts.iter().filter_map(|f| Some(value(f)? * f.n as f64)).sum();
        (n > 0).then(|| sum / n as f64)
    };
    Figures {
        requests: parts.iter().map(|f| f.requests).sum(),
        n,
        positive_share: mean(|f| f.positive_share),
        log_loss: mean(|f| f.log_loss),
        brier: mean(|f| f.brier),
        mean_score: mean(|f| f.mean_score),
        ..Figures::default()
    }
}

pub type Totals = BTreeMap<String, Figures>;

/// Each model, its counterpart and the differences, then the rest of the reference.
pub fn rows(totals: &Totals, algorithms: &BTreeMap<String, String>, reference: &[Reference]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut used = Vec::new();
    for (model, f) in totals {
        rows.push(row(model, f.n, [f.auc, f.log_loss, f.brier, f.ece]));
        let Some(r) = algorithms.get(model).and_then(|a| counterpart(a, reference)) else { continue };
        used.push(r.model.clone());
        let values = [Some(r.auc), Some(r.log_loss), Some(r.brier), Some(r.ece)];
        rows.push(row(&format!("  reference {}", r.model), r.n, values));
        let ours = [f.auc, f.log_loss, f.brier, f.ece];
        let mut difference = vec!["  difference".to_string(), String::new()];
        difference.extend(ours.iter().zip(values).map(|(a, b)| match (a, b) {
            (Some(a), Some(b)) => format!("{:+.4}", a - b),
            _ => "-".into(),
        }));
        rows.push(difference);
    }
    for r in reference.iter().filter(|r| !used.contains(&r.model)) {
        let values = [Some(r.auc), Some(r.log_loss), Some(r.brier), Some(r.ece)];
        rows.push(row(&format!("reference {}", r.model), r.n, values));
    }
    rows
}

pub const HEADERS: [&str; 6] = ["model", "n", "AUC", "log loss", "Brier", "ECE"];

fn row(name: &str, n: u64, values: [Option<f64>; 4]) -> Vec<String> {
    let mut r = vec![name.to_string(), crate::cli::output::count(n)];
    r.extend(values.iter().map(|v| some(*v, 4)));
    r
}

pub fn print(totals: &Totals, algorithms: &BTreeMap<String, String>, reference: &[Reference]) -> String {
    table::table(&HEADERS, &HEADERS[1..], rows(totals, algorithms, reference))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_stands_beside_its_reference() {
        let dir = tempfile::tempdir().unwrap();
        let text = "model,mode,n,late_share,mean_p,auc,logloss,brier,ece10\n\
            lgb,static,249447,0.24,0.19,0.760064,0.470015,0.151114,0.043060\n\
            lr,static,249447,0.24,0.18,0.745169,0.485232,0.156279,0.054097\n";
        std::fs::write(dir.path().join("reference.csv"), text).unwrap();
        let reference = reference(dir.path());
        assert_eq!(reference.len(), 2);
        let f = Figures { n: 249_447, auc: Some(0.7462), log_loss: Some(0.48), ..Figures::default() };
        let totals = Totals::from([("delay".to_string(), f)]);
        let algorithms = BTreeMap::from([("delay".to_string(), "logistic".to_string())]);
        let text = print(&totals, &algorithms, &reference);
        for part in ["reference lr", "+0.0010", "-0.0052", "reference lgb", "249,447"] {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
        assert!(text.lines().all(|l| l.chars().count() <= 80), "{text}");
        assert!(reference.iter().all(|r| r.mode == "static"));
    }

    #[test]
    fn windows_add_up_where_they_can() {
        let w = |n: u64, log_loss: f64| serde_json::json!({"requests": n + 1, "quality": {"n": n, "log_loss": log_loss, "auc": 0.7}});
        let f = of(&serde_json::json!({"windows": [w(100, 0.4), w(300, 0.8)]}));
        assert_eq!((f.n, f.requests, f.auc), (400, 402, None));
        assert!((f.log_loss.unwrap() - 0.7).abs() < 1e-12);
        assert_eq!(of(&serde_json::json!({"windows": [w(1, 0.4)], "total": w(7, 0.5)})).auc, Some(0.7));
        assert_eq!(of(&serde_json::json!({"windows": []})).log_loss, None);
    }

    #[test]
    fn no_reference_no_rows() {
        assert!(reference(Path::new("/nonexistent")).is_empty());
    }
}
