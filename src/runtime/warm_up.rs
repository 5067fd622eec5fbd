//! The golden requests: answered as recorded, alone and together, before a version gets its first request. What a row
//! takes is measured on the way.

use super::artefact::Golden;
use std::time::{Duration, Instant};
use understudy_actors::ports::ModelRuntime;
use understudy_domain::value::Value;

/// How far an answer to a golden request may be from the recorded one.
const TOLERANCE: f64 = 1e-6;

/// Answers all of them; the median time of one row, or which answer differs.
pub fn warm_up(model: &dyn ModelRuntime, golden: &[Golden]) -> Result<Duration, String> {
    if golden.is_empty() {
        return Err("golden.jsonl is empty; a version without golden requests is not served".into());
    }
    let wrong = |i: usize, what: String| format!("golden.jsonl, request {}: {what}", i + 1);
    let compare = |i: usize, got: f64| {
        // Not `>`: a recorded score that is no number must be refused too.
        if (got - golden[i].score).abs() <= TOLERANCE {
            return Ok(());
        }
        Err(wrong(i, format!("answers {got}, recorded was {}", golden[i].score)))
    };
    let mut times = Vec::with_capacity(golden.len());
    for (i, g) in golden.iter().enumerate() {
        let begun = Instant::now();
        let got = model.predict(&[&g.vector]).map_err(|e| wrong(i, e))?;
        times.push(begun.elapsed());
        match got[..] {
            [score] => compare(i, score)?,
            _ => return Err(wrong(i, format!("one row gets {} scores", got.len()))),
        }
    }
    let rows: Vec<&[Value]> = golden.iter().map(|g| g.vector.as_slice()).collect();
    let together = model.predict(&rows).map_err(|e| format!("golden.jsonl, all at once: {e}"))?;
    if together.len() != rows.len() {
        return Err(format!("golden.jsonl, all at once: {} rows get {} scores", rows.len(), together.len()));
    }
    together.into_iter().enumerate().try_for_each(|(i, got)| compare(i, got))?;
    times.sort_unstable();
    Ok(times[times.len() / 2])
}
