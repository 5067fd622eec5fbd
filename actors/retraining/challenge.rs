//! One job's work: rows, candidates, judgement, and the winner registered. Blocking; the same job on the same logs gives
//! the same verdicts and the same artefact, so it can be run again after a crash.

use super::rows::{History, training_rows};
use crate::deps::Deps;
use crate::fault_point;
use crate::ports::{Challenger, ModelRuntime, TrainingJob, TrainingRow};
use crate::trainer::meanings;
use std::sync::Arc;
use understudy_domain::catalog::{Catalog, ModelPlan};
use understudy_domain::metrics::log_loss;
use understudy_domain::retraining::{Attempt, Candidate, Gate, Job, Judged, RetrainingSpec, judge, split};
use understudy_domain::time::Timestamp;
use understudy_domain::value::Value;

/// Rows scored at once.
const BATCH: usize = 4096;

/// What a job came to.
pub struct Outcome {
    pub attempts: Vec<Attempt>,
    pub data: String,
    pub winner: Option<(Candidate, String)>,
}

/// A challenger that could be made.
struct Made {
    challenger: Challenger,
    rows: u64,
    until: Timestamp,
    cut: Timestamp,
}

pub struct Work<'a> {
    pub deps: &'a Deps,
    pub catalog: &'a Catalog,
    pub spec: &'a RetrainingSpec,
    pub job: &'a Job,
    pub champion: &'a Arc<dyn ModelRuntime>,
    pub history: &'a History,
    pub progress: &'a (dyn Fn(f32, &str) + Send + Sync),
}

impl Work<'_> {
    pub fn run(&self, plan: &ModelPlan) -> Result<Outcome, String> {
        fault_point!("trainer.train");
        let outcome = plan.spec.outcome.as_ref().ok_or("the model has no [outcome] table")?;
        (self.progress)(0.0, "reading the logs");
        let cut = self.job.until - outcome.matures_after;
        let rows = training_rows(self.deps, self.catalog, plan, self.history, cut, self.job.until)?;
        let times: Vec<Timestamp> = rows.iter().map(|r| r.time).collect();
        let parts = split(self.spec, self.job.gate, outcome.matures_after, &times);
        let (train, holdout) = (&rows[parts.train], &rows[parts.holdout]);
        let mut attempts = Vec::new();
        let mut made: Vec<(Candidate, Option<Made>)> = Vec::new();
        for candidate in &self.job.candidates {
            match self.make(plan, *candidate, train) {
                Ok(m) => made.push((*candidate, Some(m))),
                Err(why) => {
                    made.push((*candidate, None));
                    attempts.push(unmade(*candidate, why));
                }
            }
        }
        if made.iter().all(|(_, m)| m.is_none()) {
            let whys: Vec<&str> = attempts.iter().map(|a| a.line.as_str()).collect();
            return Err(whys.join("; "));
        }
        let data = made.iter().find_map(|(_, m)| m.as_ref()).map_or_else(String::new, data_of);
        let winner = if self.job.gate {
            let winner = self.judge(plan, holdout, made, &mut attempts)?;
            winner.map(|(candidate, judged)| self.refit(plan, candidate, judged, &rows, holdout, &mut attempts))
        } else {
            self.first(made, &mut attempts)
        };
        let winner = match winner {
            None => None,
            Some((candidate, challenger)) => Some((candidate, self.deps.trainer.publish(challenger)?.version)),
        };
        attempts.sort_by_key(|a| self.job.candidates.iter().position(|c| *c == a.candidate));
        Ok(Outcome { attempts, data, winner })
    }

    fn make(&self, plan: &ModelPlan, candidate: Candidate, train: &[TrainingRow]) -> Result<Made, String> {
        let base = self.champion.manifest();
        let learnt = base.provenance.until;
        let rows = match candidate {
            Candidate::Retrain => train,
            // What the weights have seen says nothing about how they err on what they have not.
            Candidate::Recalibrate => &train[train.partition_point(|r| r.time <= learnt)..],
        };
        let newest = rows.last().map(|r| r.time).ok_or("no labelled rows are left to fit it on")?;
        let spec = plan.spec.train.clone().ok_or("the model has no [train] table")?;
        let job = TrainingJob {
            model: plan.spec.name.clone(),
            spec,
            signature: (*plan.signature).clone(),
            feature_set: self.catalog.plan.id().to_owned(),
            meanings: meanings(self.catalog, &plan.spec.features),
            drift: plan.spec.drift.clone(),
            threshold: plan.spec.threshold,
            created: self.job.until,
            rows: rows.to_vec(),
        };
        let (challenger, cut) = match candidate {
            Candidate::Retrain => (self.deps.trainer.prepare(job, self.progress)?, newest),
            Candidate::Recalibrate => (self.deps.trainer.recalibrate(job, &self.job.champion)?, learnt),
        };
        Ok(Made { challenger, rows: rows.len() as u64, until: newest, cut })
    }

    /// The best that passes; all are judged on the same rows.
    fn judge(
        &self,
        plan: &ModelPlan,
        holdout: &[TrainingRow],
        made: Vec<(Candidate, Option<Made>)>,
        attempts: &mut Vec<Attempt>,
    ) -> Result<Option<(Candidate, Challenger)>, String> {
        (self.progress)(1.0, "judging on the holdout");
        let champion = scores(&**self.champion, holdout)?;
        let slices = Gate::slices(&plan.signature, holdout.iter().map(|r| r.vector.as_slice()));
        let mut best: Option<(f64, Candidate, Challenger)> = None;
        for (candidate, m) in made {
            let Some(m) = m else { continue };
            let challenger = scores(&*m.challenger.runtime, holdout)?;
            let rows: Vec<Judged> = holdout
                .iter()
                .zip(champion.iter().zip(challenger))
                .map(|(r, (a, b))| Judged { time: r.time, label: r.label, champion: *a, challenger: b })
                .collect();
            let gate = Gate {
                kind: self.job.kind,
                rows: &rows,
                slices: &slices,
                challengers: self.job.candidates.len(),
                seed: self.spec.seed.wrapping_add(self.job.id),
                bytes: (self.champion.bytes(), m.challenger.runtime.bytes()),
            };
            let verdict = judge(&gate, plan.spec.threshold);
            let failed: Vec<&str> = verdict.checks.iter().filter(|c| !c.passed).map(|c| c.line.as_str()).collect();
            let line = if verdict.passed {
                let gain = (1.0 - verdict.challenger_loss / verdict.champion_loss) * 100.0;
                format!(
                    "passed: loss {:.4} against {:.4} ({gain:+.1} % better)",
                    verdict.challenger_loss, verdict.champion_loss
                )
            } else {
                format!("refused: {}", failed.join("; "))
            };
            let (passed, loss) = (verdict.passed, verdict.challenger_loss);
            attempts.push(Attempt {
                candidate,
                rows: m.rows,
                until: m.until,
                cut: m.cut,
                verdict: Some(verdict),
                line,
            });
            if passed && best.as_ref().is_none_or(|(least, ..)| loss < *least) {
                best = Some((loss, candidate, m.challenger));
            }
        }
        Ok(best.map(|(_, candidate, challenger)| (candidate, challenger)))
    }

    /// The gate has judged a recipe; what comes in is made by it of all rows, the holdout's too, or it would be a holdout
    /// and a maturity behind on its first day. It must not be worse than what was judged on the rows that both know of.
    fn refit(
        &self,
        plan: &ModelPlan,
        candidate: Candidate,
        judged: Challenger,
        rows: &[TrainingRow],
        holdout: &[TrainingRow],
        attempts: &mut [Attempt],
    ) -> (Candidate, Challenger) {
        let Some(attempt) = attempts.iter_mut().find(|a| a.candidate == candidate) else { return (candidate, judged) };
        let most = attempt.verdict.as_ref().map_or(f64::INFINITY, |v| v.champion_loss);
        let refitted = self.make(plan, candidate, rows).and_then(|m| {
            let labels: Vec<bool> = holdout.iter().map(|r| r.label).collect();
            let loss = log_loss(&scores(&*m.challenger.runtime, holdout)?, &labels);
            if loss <= most { Ok(m) } else { Err(format!("loss {loss:.4} on the holdout it has seen")) }
        });
        match refitted {
            Ok(m) => {
                (attempt.rows, attempt.until, attempt.cut) = (m.rows, m.until, m.cut);
                attempt.line += &format!("; fitted anew with the holdout, on {} rows", m.rows);
                (candidate, m.challenger)
            }
            Err(why) => {
                attempt.line += &format!("; as it was judged: fitted with the holdout it was no good ({why})");
                (candidate, judged)
            }
        }
    }

    /// Without a gate the first that could be made comes in.
    fn first(
        &self,
        made: Vec<(Candidate, Option<Made>)>,
        attempts: &mut Vec<Attempt>,
    ) -> Option<(Candidate, Challenger)> {
        let (candidate, m) = made.into_iter().find_map(|(c, m)| Some((c, m?)))?;
        let line = "comes in unjudged: the model's loop has no gate".into();
        attempts.push(Attempt { candidate, rows: m.rows, until: m.until, cut: m.cut, verdict: None, line });
        Some((candidate, m.challenger))
    }
}

fn unmade(candidate: Candidate, why: String) -> Attempt {
    let never = Timestamp::default();
    Attempt { candidate, rows: 0, until: never, cut: never, verdict: None, line: format!("could not be made: {why}") }
}

fn data_of(m: &Made) -> String {
    m.challenger.runtime.manifest().provenance.data.clone()
}

fn scores(model: &dyn ModelRuntime, rows: &[TrainingRow]) -> Result<Vec<f64>, String> {
    let mut all = Vec::with_capacity(rows.len());
    for part in rows.chunks(BATCH) {
        let vectors: Vec<&[Value]> = part.iter().map(|r| r.vector.as_slice()).collect();
        all.extend(model.predict(&vectors)?);
    }
    Ok(all)
}
