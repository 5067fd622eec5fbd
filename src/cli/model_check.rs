//! `model check`: what a model's folder answers to given rows, beside what it should answer.

use super::args::ModelCheckArgs;
use super::error::{CliError, Result};
use super::model_rows;
use super::output::{json, line};
use super::target::Context;
use crate::runtime::folder::Folder;
use serde_json::json;

pub fn run(ctx: &Context, args: &ModelCheckArgs) -> Result {
    let folder = Folder::open(&args.dir).map_err(CliError::new)?;
    let rows = model_rows::read(&args.rows, folder.signature())?;
    if rows.expected.is_empty() {
        return Err(CliError::new(format!("{}: nothing is expected of the rows", args.rows.display()))
            .hint("add a column `expected` (several outputs: `expected_0`, `expected_1`, ...) with the library's own predictions"));
    }
    let answers = folder.answers(&rows.vectors).map_err(CliError::new)?;
    let mut worst = Worst::default();
    for (i, (answer, expected)) in answers.iter().zip(&rows.expected).enumerate() {
        // A classifier of two classes answers with both probabilities; libraries often give the second alone.
        let skip = answer.len().saturating_sub(expected.len());
        if answer.len() < expected.len() || (skip > 0 && !(answer.len() == 2 && expected.len() == 1)) {
            return Err(CliError::new(format!(
                "row {}: {} numbers are expected, the model answers with {}",
                i + 1,
                expected.len(),
                answer.len()
            )));
        }
        answer[skip..].iter().zip(expected).for_each(|(a, e)| worst.see(i, *a, *e, args.tolerance));
    }
    let result = json!({
        "model": folder.what(),
        "rows": answers.len(),
        "largest_difference": worst.difference,
        "tolerance": args.tolerance,
        "beyond_tolerance": worst.beyond,
        "worst": {"row": worst.row + 1, "answer": worst.answer, "expected": worst.expected},
    });
    if ctx.json {
        json(&result);
    } else {
        line(&format!("{}: {} rows, largest difference {:e}", folder.what(), answers.len(), worst.difference));
        let Worst { row, answer, expected, .. } = worst;
        line(&format!("row {}: {answer}, expected {expected}", row + 1));
    }
    match worst.beyond {
        0 => Ok(()),
        n => Err(CliError::new(format!("{n} answers differ by more than {}", args.tolerance)).hint(
            "a difference in single rows comes of rounded thresholds, in all rows of other inputs than in training",
        )),
    }
}

/// The largest difference, relative to the expected value where that is above 1.
#[derive(Default)]
struct Worst {
    row: usize,
    answer: f64,
    expected: f64,
    difference: f64,
    beyond: u64,
}

impl Worst {
    fn see(&mut self, row: usize, answer: f64, expected: f64, tolerance: f64) {
        let difference = (answer - expected).abs() / expected.abs().max(1.0);
        // What is no number is beyond any tolerance.
        let difference = if difference.is_nan() { f64::MAX } else { difference };
        self.beyond += u64::from(difference > tolerance);
        if difference > self.difference {
            *self = Worst { row, answer, expected, difference, beyond: self.beyond };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_row_is_named_and_what_is_no_number_is_the_worst() {
        let mut worst = Worst::default();
        worst.see(0, 0.5, 0.5, 1e-6);
        worst.see(1, 1000.001, 1000.0, 1e-6);
        assert_eq!((worst.row, worst.beyond), (1, 0));
        assert!((worst.difference - 1e-6).abs() < 1e-9, "{}", worst.difference);
        worst.see(2, 0.1, 0.2, 1e-6);
        assert_eq!((worst.row, worst.beyond), (2, 1));
        worst.see(3, f64::NAN, 0.2, 1e-6);
        assert_eq!((worst.row, worst.beyond), (3, 2));
    }
}
