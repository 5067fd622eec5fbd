//! Training rows: vectors as they were served, from the prediction log, with their outcomes; for requests before the
//! first of them, backfilled from the event log by the same feature code.

use crate::deps::Deps;
use crate::ports::TrainingRow;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use understudy_domain::backfill::Backfill;
use understudy_domain::catalog::{Catalog, ModelPlan};
use understudy_domain::prediction::{OutcomeTarget, PredictionId, PredictionRecord, Verdict};
use understudy_domain::project::OutcomeSpec;
use understudy_domain::time::Timestamp;

/// The backfilled rows of the last job, while a recorded stream is the clock: models of one project that differ only in
/// how they are mended share their history, and a replay starts many jobs in a minute.
#[derive(Default)]
pub struct History(Mutex<Option<(String, Arc<Vec<TrainingRow>>)>>);

/// What the outcome log says of a model's requests.
#[derive(Default)]
struct Outcomes {
    by_id: HashMap<PredictionId, (u32, Option<bool>)>,
    by_request: HashMap<String, (u32, Option<bool>)>,
}

impl Outcomes {
    fn read(deps: &Deps, model: &str, until: Timestamp) -> Result<Outcomes, String> {
        let mut all = Outcomes::default();
        deps.outcomes
            .scan(0, &mut |o| {
                if o.model == model && o.time <= until {
                    let known = match o.target {
                        OutcomeTarget::PredictionId(id) => all.by_id.entry(id).or_insert((o.revision, o.label)),
                        OutcomeTarget::RequestId(id) => all.by_request.entry(id).or_insert((o.revision, o.label)),
                    };
                    if o.revision > known.0 {
                        *known = (o.revision, o.label);
                    }
                }
                ControlFlow::Continue(())
            })
            .map_err(|e| e.to_string())?;
        Ok(all)
    }

    fn label(&self, r: &PredictionRecord) -> Option<bool> {
        let by_request = || self.by_request.get(r.request_id.as_ref()?);
        self.by_id.get(&r.id).or_else(by_request)?.1
    }
}

/// Labelled rows of requests at or before `cut`, by what was known at `until`, in order of time; blocking.
pub fn training_rows(
    deps: &Deps,
    catalog: &Catalog,
    plan: &ModelPlan,
    history: &History,
    cut: Timestamp,
    until: Timestamp,
) -> Result<Vec<TrainingRow>, String> {
    let outcome = plan.spec.outcome.as_ref().ok_or("no [outcome] table")?;
    let from = plan.spec.train.as_ref().and_then(|t| t.from).unwrap_or(Timestamp::MIN);
    let outcomes = Outcomes::read(deps, &plan.spec.name, until)?;
    let (mut served, mut first) = (Vec::new(), None);
    deps.predictions
        .scan(Some(&plan.spec.name), PredictionId(0), &mut |r| {
            if r.time > cut {
                return ControlFlow::Break(());
            }
            if r.feature_set != catalog.plan.id() || r.vector.len() != plan.spec.features.len() {
                // Other definitions made this vector: what came before the newest such one is computed anew.
                served.clear();
                first = None;
                return ControlFlow::Continue(());
            }
            first = first.or(Some(r.time));
            if r.verdict != Verdict::Rejected
                && r.time >= from
                && let Some(label) = outcomes.label(&r)
            {
                let request_id = r.request_id.clone().unwrap_or_else(|| r.id.to_string());
                served.push(TrainingRow { request_id, time: r.time, vector: r.vector, label });
            }
            ControlFlow::Continue(())
        })
        .map_err(|e| e.to_string())?;
    let before = first.unwrap_or(Timestamp(i64::MAX));
    let mut rows = match &plan.spec.request {
        Some(request) => {
            backfilled(deps, catalog, plan, history, &request.event, outcome, before.min(cut + ONE), until)?
        }
        None => Vec::new(),
    };
    rows.append(&mut served);
    rows.sort_by(|a, b| (a.time, &a.request_id).cmp(&(b.time, &b.request_id)));
    Ok(rows)
}

const ONE: understudy_domain::time::Span = understudy_domain::time::Span(1);

/// Rows of the requests before `before`; the event log is read no further than their outcomes can lie.
#[allow(clippy::too_many_arguments)]
fn backfilled(
    deps: &Deps,
    catalog: &Catalog,
    plan: &ModelPlan,
    history: &History,
    event: &str,
    outcome: &OutcomeSpec,
    before: Timestamp,
    until: Timestamp,
) -> Result<Vec<TrainingRow>, String> {
    let from = plan.spec.train.as_ref().and_then(|t| t.from);
    let last = until.min(before + outcome.expires_after);
    let key = format!("{} {:?} {event} {outcome:?} {from:?} {before} {last}", catalog.plan.id(), plan.spec.features);
    let kept = || history.0.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((k, rows)) = kept().as_ref()
        && *k == key
    {
        return Ok(rows.to_vec());
    }
    let text = |problems: Vec<understudy_domain::problem::Problem>| {
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    let vector = catalog.plan.vector(&plan.spec.features).map_err(text)?;
    let mut backfill =
        Backfill::new(catalog.plan.clone(), vector, event, Some(outcome), from, last).map_err(text)?.before(before);
    deps.events
        .scan(1, &mut |e| {
            if e.ingested > last {
                return ControlFlow::Break(());
            }
            backfill.push(&e);
            ControlFlow::Continue(())
        })
        .map_err(|e| e.to_string())?;
    let row = |r: understudy_domain::backfill::BackfillRow| {
        Some(TrainingRow { label: r.label?, request_id: r.request_id, time: r.time, vector: r.vector })
    };
    let rows: Vec<TrainingRow> = backfill.finish().into_iter().filter_map(row).collect();
    if deps.clock.is_stream() {
        *kept() = Some((key, Arc::new(rows.clone())));
    }
    Ok(rows)
}
