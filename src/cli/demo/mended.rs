//! `demo --loop` and `replay --retrain`: one replay, every model mended in one way or in four.

use super::{How, arms, dates, fresh, planted, play, project};
use crate::cli::args::{DemoArgs, Pace, RetrainMode};
use crate::cli::error::{CliError, Result, at_path};
use crate::cli::features::{Scratch, stream_overrides};
use crate::cli::output::{self, count};
use crate::cli::target::Context;
use crate::cli::{retrain, source};
use serde_json::json;
use std::path::Path;

/// `replay --retrain`: every model mended one way.
pub fn mended(ctx: &Context, mode: RetrainMode, pace: &Pace) -> Result {
    if ctx.url.is_some() {
        return Err(CliError::usage("`replay --retrain` runs a server of its own").hint("leave --url out"));
    }
    let arm = match mode {
        RetrainMode::Off => arms::Arm::Frozen,
        RetrainMode::Monthly => arms::Arm::Retrained,
        RetrainMode::Auto => arms::Arm::Loop,
    };
    let args = DemoArgs {
        quick: false,
        closed_loop: true,
        models: Vec::new(),
        faults: Vec::new(),
        stay: false,
        report: None,
        data: None,
        pace: pace.clone(),
    };
    side_by_side(ctx, &args, &project(ctx)?, &[arm])
}

/// Replays once with each model mended in each of these ways.
pub fn side_by_side(ctx: &Context, args: &DemoArgs, project: &Path, ways: &[arms::Arm]) -> Result {
    let dates = dates(project)?;
    let faults = args.faults.iter().map(|f| planted::Planted::parse(f)).collect::<Result<Vec<_>>>()?;
    let (copy, armed) = arms::project(project, &args.models, ways)?;
    let scratch = if args.data.is_none() { Some(Scratch::new()?) } else { None };
    let data = args.data.clone().or_else(|| scratch.as_ref().map(|s| s.0.clone())).unwrap_or_default();
    let data = std::path::absolute(&data).map_err(at_path(&data, "find"))?;
    fresh(&data)?;
    let lines = match faults.is_empty() {
        true => source::recording(project)?,
        false => planted::recording(project, &faults)?,
    };
    let server = ctx.start(&copy.0, stream_overrides(&data))?;
    let run = play(ctx, args, &server, lines, &dates, How::Armed(&armed))?;
    let loops = retrain::loops(&server.client, None)?;
    let jobs = retrain::flat(&loops);
    let told = planted::report(&server.client, &faults, &loops)?;
    let from = dates.compare_from.filter(|_| !args.quick);
    let summaries = arms::summaries(&armed, &run.weeks, &jobs, from);
    let reference = if args.quick { Vec::new() } else { arms::reference(project) };
    if ctx.json {
        output::json(
            &json!({"weeks": run.weeks, "ways": summaries, "jobs": jobs, "planted": told, "reference": reference,
            "compared_from": from, "counts": run.tally, "train_s": run.train_s, "wall_s": run.wall_s}),
        );
    } else {
        output::line("");
        output::put(&arms::print(&summaries, &jobs, &reference, from));
        output::put(&planted::print(&told));
        output::line(&format!(
            "{} events, {} predictions in {:.1} s",
            count(run.tally.lines),
            count(run.tally.predictions),
            run.wall_s
        ));
    }
    server.finish()?;
    run.tally.verdict()
}
