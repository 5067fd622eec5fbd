//! Holds answers against the generation that they name. What a generation must give is worked out from the history's
//! changed keys: the rule's number, the threshold, and whether the extra feature is there.

use crate::cli::error::{CliError, Result};
use serde_json::Value;
use std::collections::BTreeMap;

/// What an answer gives away about the configuration that made it.
#[derive(Clone, Debug)]
pub struct Answer {
    generation: u64,
    /// Of the rule's message.
    number: u64,
    positive: bool,
    score: f64,
    feature_set: String,
}

impl Answer {
    pub fn read(answer: &Value) -> std::result::Result<Answer, String> {
        let finding = answer["findings"].as_array().into_iter().flatten().find(|f| f["rule"] == "rule.tag");
        let read = || {
            Some(Answer {
                generation: answer["generation"].as_u64()?,
                number: finding?["expected"].as_str()?.strip_prefix("number ")?.parse().ok()?,
                positive: answer["label"].as_str()? == "returned",
                score: answer["score"].as_f64()?,
                feature_set: answer["feature_set"].as_str()?.to_owned(),
            })
        };
        read().ok_or_else(|| format!("not an answer: {answer}"))
    }
}

/// What every answer of one generation must be like.
#[derive(Clone, Debug, Default)]
struct Must {
    number: u64,
    threshold: f64,
    extra: bool,
}

pub struct Report {
    pub generations: usize,
    /// Generations that made at least one answer.
    pub answered: usize,
    pub least: usize,
    pub median: usize,
    pub most: usize,
    /// Answers that no single generation can have made.
    pub mixed: Vec<String>,
}

/// Every generation of the history (newest first), from the changes that led to it.
fn generations(history: &[Value]) -> Result<BTreeMap<u64, Must>> {
    let unreadable = || CliError::new("the history of the configuration cannot be read");
    let mut out = BTreeMap::new();
    let mut must = Must::default();
    for change in history.iter().rev().filter(|c| c["verdict"] == "applied") {
        for key in change["changes"].as_array().into_iter().flatten() {
            let to = key["to"].as_str();
            match key["key"].as_str() {
                Some("rules.tag") => {
                    let number = to.and_then(|t| t.split("number ").nth(1)?.split('"').next()?.parse().ok());
                    must.number = number.ok_or_else(unreadable)?;
                }
                Some("models.returns.threshold") => {
                    must.threshold = to.and_then(|t| t.parse().ok()).ok_or_else(unreadable)?;
                }
                Some("views.customer_orders.features.amount_max_7d") => must.extra = to.is_some(),
                _ => {}
            }
        }
        out.insert(change["generation"].as_u64().ok_or_else(unreadable)?, must.clone());
    }
    Ok(out)
}

pub fn report(history: &[Value], answers: &[Answer]) -> Result<Report> {
    let generations = generations(history)?;
    let mut counts: BTreeMap<u64, usize> = BTreeMap::new();
    // The two feature sets, by whether the extra feature is in them: each answer must agree with the first ones.
    let mut sets: BTreeMap<bool, String> = BTreeMap::new();
    let mut mixed = Vec::new();
    for answer in answers {
        *counts.entry(answer.generation).or_default() += 1;
        let Some(must) = generations.get(&answer.generation) else {
            mixed.push(format!("generation {} was never applied", answer.generation));
            continue;
        };
        let set = sets.entry(must.extra).or_insert_with(|| answer.feature_set.clone());
        let right = answer.number == must.number
            && answer.positive == (answer.score >= must.threshold)
            && answer.feature_set == *set;
        if !right {
            mixed.push(format!("generation {} must give {must:?}; it gave {answer:?}", answer.generation));
        }
    }
    if sets.len() == 2 && sets[&true] == sets[&false] {
        mixed.push("answers with and without the extra feature name one feature set".into());
    }
    let mut per: Vec<usize> = counts.values().copied().collect();
    per.sort_unstable();
    Ok(Report {
        generations: generations.len(),
        answered: per.len(),
        least: per.first().copied().unwrap_or(0),
        median: per.get(per.len() / 2).copied().unwrap_or(0),
        most: per.last().copied().unwrap_or(0),
        mixed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn answer(generation: u64, number: u64, label: &str, set: &str) -> Answer {
        Answer::read(&json!({
            "generation": generation, "label": label, "score": 0.4, "feature_set": set,
            "findings": [{"rule": "rule.tag", "expected": format!("number {number}")}],
        }))
        .unwrap()
    }

    #[test]
    fn an_answer_of_two_generations_is_found() {
        let change = |generation: u64, number: u64, threshold: &str| {
            json!({"generation": generation, "verdict": "applied", "changes": [
                {"key": "rules.tag", "to": format!("{{\"message\":\"number {number}\"}}")},
                {"key": "models.returns.threshold", "to": threshold},
            ]})
        };
        let history = [change(2, 7, "1.0"), json!({"verdict": "refused", "generation": 1}), change(1, 6, "0.0")];
        let right = [answer(1, 6, "returned", "a"), answer(2, 7, "kept", "a")];
        let report_right = report(&history, &right).unwrap();
        assert_eq!((report_right.mixed.len(), report_right.generations, report_right.answered), (0, 2, 2));
        for wrong in [
            answer(1, 7, "returned", "a"), // the rule of the next one
            answer(1, 6, "kept", "a"),     // the threshold of the next one
            answer(1, 6, "returned", "b"), // features of another one
            answer(3, 7, "kept", "a"),     // a generation that never was
        ] {
            let answers = [right[0].clone(), wrong];
            assert_eq!(report(&history, &answers).unwrap().mixed.len(), 1);
        }
    }
}
