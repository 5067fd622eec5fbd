//! `demo`: replays a recorded year through the real server: train on its beginning, serve the rest,
//! and show how good every week was.

mod arms;
mod mended;
mod page;
mod planted;
mod rollouts;
mod totals;
mod weeks;

use super::args::DemoArgs;
use super::error::{CliError, Result, at_path};
use super::features::{Scratch, stream_overrides};
use super::output::{self, count};
use super::replay::{Sender, Tally, progress};
use super::target::{Context, Server};
use super::{client, models, source};
use crate::config::toml_file::TomlFile;
use crate::report;
use crate::tables::{DemoSpec, RecordingSpec};
pub use mended::mended;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;
use totals::{Reference, Totals};
use understudy_domain::time::Timestamp;
use weeks::{Calendar, Week};

/// What a run has gathered.
struct Run {
    models: Vec<String>,
    algorithms: BTreeMap<String, String>,
    weeks: Vec<Week>,
    totals: Totals,
    rollouts: Vec<rollouts::Told>,
    tally: Tally,
    wall_s: f64,
    train_s: f64,
    last: Timestamp,
}

pub fn run(ctx: &Context, args: &DemoArgs) -> Result {
    if ctx.url.is_some() {
        return Err(CliError::usage("`demo` runs a server of its own").hint("leave --url out"));
    }
    let project = project(ctx)?;
    if args.closed_loop {
        return mended::side_by_side(ctx, args, &project, &arms::Arm::ALL);
    }
    let dates = dates(&project)?;
    let scratch = if args.data.is_none() { Some(Scratch::new()?) } else { None };
    let data = args.data.clone().or_else(|| scratch.as_ref().map(|s| s.0.clone())).unwrap_or_default();
    // `storage.dir` is relative to the project, the argument to the current directory.
    let data = std::path::absolute(&data).map_err(at_path(&data, "find"))?;
    fresh(&data)?;
    let lines = source::recording(&project)?;
    let server = ctx.start(&project, stream_overrides(&data))?;
    let reference = totals::reference(&project);
    let run = play(ctx, args, &server, lines, &dates, How::Plain(&data))?;
    conclude(ctx, args, &project, &run, &reference)?;
    if args.stay {
        stay(ctx, &server, &run)?;
    }
    server.finish()
}

/// The project asked for, or the example that comes with the source.
fn project(ctx: &Context) -> Result<PathBuf> {
    if let Some(p) = &ctx.project {
        super::target::known_project(p)?;
        return Ok(p.clone());
    }
    let example = Path::new("examples/flights");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(example);
    let found = [example.to_path_buf(), source].into_iter().find(|p| p.join("understudy.toml").is_file());
    found.ok_or_else(|| {
        CliError::new("the example project examples/flights is not here")
            .hint("run the demo in the source directory, or name a project with a recording: --project DIR")
    })
}

fn dates(project: &Path) -> Result<DemoSpec> {
    let path = project.join("recording.toml");
    let spec: RecordingSpec = TomlFile::read(&path).and_then(|f| f.parse())?;
    spec.demo.ok_or_else(|| {
        CliError::new(format!("{} has no table [demo]", path.display()))
            .hint("it holds train_until, quick_train_until and quick_until as texts such as \"2013-04-01T00:00:00Z\"")
    })
}

/// A demo needs an empty data directory: its numbers are those of one whole run.
fn fresh(data: &Path) -> Result {
    std::fs::create_dir_all(data).map_err(at_path(data, "make"))?;
    let mut entries = std::fs::read_dir(data).map_err(at_path(data, "read"))?;
    if entries.next().is_none() {
        return Ok(());
    }
    Err(CliError::new(format!("{} is not empty", data.display())).hint("name a new directory, or remove that one"))
}

fn play(
    ctx: &Context,
    args: &DemoArgs,
    server: &Server,
    lines: source::Lines,
    dates: &DemoSpec,
    how: How<'_>,
) -> Result<Run> {
    let (train_at, end) = match args.quick {
        true => (dates.quick_train_until, Some(dates.quick_until)),
        false => (dates.train_until, None),
    };
    let names: Vec<String> = models::all(&server.client)?.iter().map(models::name).collect();
    let started = Instant::now();
    let mut stage = Stage {
        ctx,
        server,
        models: names,
        weeks: Vec::new(),
        mark: (Instant::now(), 0),
        calendar: Calendar::new(train_at),
        algorithms: BTreeMap::new(),
        armed: match how {
            How::Plain(_) => None,
            How::Armed(armed) => Some(armed),
        },
    };
    let mut challengers = match how {
        How::Plain(data) => rollouts::Rollouts::new(&dates.rollouts, args.quick, data, train_at),
        How::Armed(_) => rollouts::Rollouts::new(&[], false, Path::new(""), train_at),
    };
    let mut sender = Sender::new(&server.client, "/v1/replay", &args.pace);
    let bar = progress(ctx.quiet);
    let mut train_s = None;
    let mut last = Timestamp::MIN;
    for line in lines {
        let line = line?;
        if end.is_some_and(|e| line.at >= e) {
            break;
        }
        if train_s.is_none() && line.at >= train_at {
            sender.flush()?;
            bar.suspend(|| ctx.note(&format!("{} events replayed; training", count(sender.tally.lines))));
            train_s = Some(stage.train(train_at)?);
            stage.mark = (Instant::now(), sender.tally.lines);
        }
        if let Some(week) = stage.calendar.matured(line.at).filter(|_| train_s.is_some()) {
            sender.flush()?;
            bar.suspend(|| stage.close(week, sender.tally.lines))?;
        }
        if train_s.is_some() && challengers.is_due(line.at) {
            sender.flush()?;
            if let Some(said) = challengers.look(&server.client, line.at)? {
                bar.suspend(|| stage.say(&said, line.at));
            }
        }
        last = line.at;
        if sender.push(&line)? {
            bar.set_position(sender.tally.lines);
            bar.set_message(line.at.to_string());
        }
    }
    sender.flush()?;
    bar.finish_and_clear();
    let train_s =
        train_s.ok_or_else(|| CliError::new(format!("the recording ends before {train_at}; nothing was trained")))?;
    while let Some(week) = stage.calendar.unfinished(last) {
        stage.close(week, sender.tally.lines)?;
    }
    challengers.close(&server.client)?;
    let wall_s = started.elapsed().as_secs_f64();
    let (totals, algorithms) = (stage.totals(train_at)?, stage.algorithms);
    let (tally, rollouts) = (sender.tally, challengers.told);
    Ok(Run { models: stage.models, algorithms, weeks: stage.weeks, totals, rollouts, tally, wall_s, train_s, last })
}

/// What is shown.
#[derive(Clone, Copy)]
enum How<'a> {
    /// The project's models and its challengers; the server's data are here.
    Plain(&'a Path),
    /// Ways of mending a model, compared.
    Armed(&'a [arms::Armed]),
}

/// Everything that changes while the stream runs.
struct Stage<'a> {
    ctx: &'a Context,
    server: &'a Server,
    models: Vec<String>,
    weeks: Vec<Week>,
    /// When the current week began on the wall clock, and the lines sent by then.
    mark: (Instant, u64),
    calendar: Calendar,
    /// Of each model's first version.
    algorithms: BTreeMap<String, String>,
    /// The ways of mending that are compared, if that is what is shown.
    armed: Option<&'a [arms::Armed]>,
}

impl Stage<'_> {
    fn train(&mut self, at: Timestamp) -> Result<f64> {
        let started = Instant::now();
        for m in &self.models {
            let job = models::wait_for_training(&self.server.client, m, self.ctx.quiet)?;
            let rows = count(job["rows"].as_u64().unwrap_or(0));
            self.ctx.note(&format!("trained {m} {} on {rows} rows until {at}", output::cell(&job["version"])));
            let status = self.server.client.get(&format!("/v1/models/{}", client::encode(m)))?;
            self.algorithms.insert(m.clone(), output::cell(&status["provenance"]["algorithm"]).to_lowercase());
        }
        if !self.ctx.json {
            let heading = self.armed.map_or_else(|| weeks::heading(&self.models), arms::heading);
            output::line(&heading);
        }
        Ok(started.elapsed().as_secs_f64())
    }

    /// Between the weeks.
    fn say(&self, text: &str, at: Timestamp) {
        if !self.ctx.json {
            output::line(&format!("  {} {text}", at.to_string().get(..10).unwrap_or_default()));
        }
    }

    fn close(&mut self, start: Timestamp, lines: u64) -> Result {
        let (since, before) = self.mark;
        let rate = (lines - before) as f64 / since.elapsed().as_secs_f64().max(1e-6);
        let week = weeks::ask(&self.server.client, &self.models, start, rate)?;
        self.mark = (Instant::now(), lines);
        if !self.ctx.json {
            let line = self.armed.map_or_else(|| weeks::line(&week, &self.models), |a| arms::line(&week, a));
            output::line(&line);
        }
        self.weeks.push(week);
        Ok(())
    }

    /// Each model's figures over all weeks.
    fn totals(&self, from: Timestamp) -> Result<Totals> {
        let mut totals = Totals::new();
        for m in &self.models {
            let path = format!("/v1/models/{}", client::encode(m));
            let q = client::query(&[("from", Some(from.floor(weeks::WEEK).to_string()))]);
            let answer = self.server.client.get(&format!("{path}/monitor{q}"))?;
            totals.insert(m.clone(), totals::of(&answer));
        }
        Ok(totals)
    }
}

fn conclude(ctx: &Context, args: &DemoArgs, project: &Path, run: &Run, reference: &[Reference]) -> Result {
    // The reference is of the whole year; beside a quick run it would compare different weeks.
    let reference = if args.quick { &[] } else { reference };
    let outcomes: u64 = run.totals.values().map(|f| f.n).sum();
    if ctx.json {
        let total: BTreeMap<_, _> = run
            .totals
            .iter()
            .map(|(m, f)| {
                (
                    m,
                    json!({"auc": f.auc, "log_loss": f.log_loss,
            "brier": f.brier, "ece": f.ece, "n": f.n, "requests": f.requests}),
                )
            })
            .collect();
        output::json(&json!({"weeks": run.weeks, "total": total, "reference": reference, "rollouts": run.rollouts,
            "counts": run.tally, "train_s": run.train_s, "wall_s": run.wall_s}));
    } else {
        output::line("");
        output::put(&totals::print(&run.totals, &run.algorithms, reference));
        output::put(&rollouts::print(&run.rollouts));
        let sum = format!(
            "{} events, {} predictions, {} matured outcomes, {} rejected in {:.1} s (training {:.1} s)",
            count(run.tally.lines),
            count(run.tally.predictions),
            count(outcomes),
            count(run.tally.rejected),
            run.wall_s,
            run.train_s
        );
        output::put(&super::rollout::wrapped("", &sum));
    }
    if let Some(path) = &args.report {
        let html = report::render(&page::describe(project, args, run, reference));
        std::fs::write(path, html).map_err(at_path(path, "write"))?;
        ctx.note(&format!("report: {}", path.display()));
    }
    run.tally.verdict()
}

fn stay(ctx: &Context, server: &Server, run: &Run) -> Result {
    let url = server.client.url();
    let model = run.models.first().cloned().unwrap_or_default();
    let newest = models::items(server.client.get("/v1/predictions?limit=1")?, "predictions");
    let example = newest.first().cloned().unwrap_or(Value::Null);
    let feature = super::features::signature(&server.client, &model)?.into_iter().next().unwrap_or_default();
    let body = json!({"entities": example["entities"], "context": example["context"]});
    output::line(&format!("\nServing at {url} until Ctrl-C. Try, in another terminal:\n"));
    output::line(&format!(
        "curl {url}/v1/models/{model}/predict -d '{body}' \\\n  -H 'content-type: application/json'"
    ));
    let entity = example["entities"].as_object().and_then(|m| m.iter().next());
    if let Some((k, v)) = entity {
        output::line(&format!("understudy --url {url} feature explain {feature} --entity {k}={}", output::cell(v)));
    }
    output::line(&format!("understudy --url {url} why {}", output::cell(&example["id"])));
    output::line(&format!("understudy --url {url} monitor show {model}"));
    wait_for_interrupt(ctx)
}

/// Returns on Ctrl-C, so that the server is stopped and the data closed.
fn wait_for_interrupt(ctx: &Context) -> Result {
    let system = actix::System::new();
    system
        .block_on(actix_web::rt::signal::ctrl_c())
        .map_err(|e| CliError::new(format!("cannot wait for Ctrl-C: {e}")))?;
    ctx.note("stopping");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dates_of_a_recording() {
        let dir = tempfile::tempdir().unwrap();
        let of = |text: &str| {
            std::fs::write(dir.path().join("recording.toml"), format!("events = []\n{text}")).unwrap();
            dates(dir.path())
        };
        let all = "[demo]\ntrain_until = \"2013-04-01T00:00:00Z\"\n\
            quick_train_until = \"2013-02-01T00:00:00Z\"\nquick_until = \"2013-02-22T00:00:00Z\"\n";
        assert_eq!(of(all).unwrap().train_until, "2013-04-01T00:00:00Z".parse().unwrap());
        assert!(of("").unwrap_err().message.contains("no table [demo]"));
        assert!(of("[demo]\ntrain_until = \"soon\"").unwrap_err().message.contains("recording.toml:3"));
    }

    #[test]
    fn data_of_another_run_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(fresh(&dir.path().join("new")), Ok(()));
        assert!(fresh(dir.path()).unwrap_err().message.contains("not empty"));
    }
}
