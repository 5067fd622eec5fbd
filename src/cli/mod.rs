//! The command line: a client of the HTTP gateway, and of nothing else that runs.

mod alerts;
pub mod args;
mod args_outcome;
mod args_storage;
mod bench;
mod chaos;
pub(crate) mod client;
mod config;
mod demo;
mod doctor;
mod drift;
mod entity;
mod error;
mod faults;
mod features;
pub mod host;
mod init;
mod keys;
mod log;
mod model_check;
mod model_rows;
mod models;
mod monitor;
mod output;
#[cfg(feature = "parquet")]
mod parquet;
mod registry;
mod reload;
mod replay;
mod retrain;
mod rollout;
mod rules;
mod simulate;
mod simulate_rollout;
mod source;
mod store;
mod table;
mod target;
mod telemetry;
mod verify;

use args::{Cli, Command, Format};
use clap::{CommandFactory, Parser};
use error::{CliError, Result};
use std::process::ExitCode;
use target::Context;

/// Parses the process's arguments, does what they say, and returns the exit code:
/// 0 done, 1 failure or finding, 2 wrong command line.
pub fn run(host: host::Host) -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let code = u8::try_from(e.exit_code()).unwrap_or(error::USAGE);
            // Help into a closed pipe is no failure.
            let _ = e.print();
            return ExitCode::from(code);
        }
    };
    match dispatch(cli, host) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            output::note(e.render().trim_end());
            ExitCode::from(e.exit)
        }
    }
}

fn dispatch(cli: Cli, host: host::Host) -> Result {
    let g = cli.global;
    let json = g.output == Format::Json;
    let ctx = Context { project: g.project, url: g.url, json, quiet: g.quiet, verbose: g.verbose, host };
    match &cli.command {
        Command::Demo(a) => demo::run(&ctx, a),
        Command::Init { dir } => init::run(&ctx, dir),
        Command::Serve { set } => serve(&ctx, set),
        Command::Replay(a) => replay::run(&ctx, a),
        Command::Events(args::EventsCommand::Import { file, batch }) => replay::import(&ctx, file, *batch),
        Command::Train { model, no_wait } => models::train(&ctx, model, *no_wait),
        Command::Predict(a) => models::predict(&ctx, a),
        Command::Model(c) => registry::run(&ctx, c),
        Command::Rollout(c) => rollout::run(&ctx, c),
        Command::Feature(c) => features::run(&ctx, c),
        Command::Drift(c) => drift::run(&ctx, c),
        Command::Alerts(c) => alerts::run(&ctx, c),
        Command::Monitor(c) => monitor::run(&ctx, c),
        Command::Log(c) => log::run(&ctx, c),
        Command::Why { id } => log::why(&ctx, id),
        Command::Entity(c) => entity::run(&ctx, c),
        Command::Retrain(c) => retrain::run(&ctx, c),
        Command::Explain(args::ExplainCommand::Drift { feature, until }) => {
            drift::explain(&ctx, feature, until.as_deref())
        }
        Command::Explain(args::ExplainCommand::Retrain { job }) => retrain::explain(&ctx, job),
        Command::Rules(args::RulesCommand::Try { file, model }) => rules::try_file(&ctx, file, model.as_deref()),
        Command::Outcome(args::OutcomeCommand::Post(a)) => models::outcome(&ctx, a),
        Command::Config(c) => config::run(&ctx, c),
        Command::Bench(c) => bench::run(&ctx, c),
        Command::Keys(c) => keys::run(&ctx, c),
        Command::Audit(c) => keys::audit(&ctx, c),
        Command::Faults(c) => faults::run(&ctx, c),
        Command::Simulate(c) => simulate::run(&ctx, c),
        Command::Store(c) => store::run(&ctx, c),
        Command::Chaos(c) => chaos::run(&ctx, c),
        Command::Telemetry(c) => telemetry::run(&ctx, c),
        Command::Doctor => doctor::run(&ctx),
        Command::Completion { shell } => completion(*shell),
    }
}

/// The example that `init` writes, for whoever needs a small project.
pub fn example_project(dir: &std::path::Path) -> std::result::Result<(), String> {
    init::write(dir, |_| ()).map_err(|e| e.message)
}

fn serve(ctx: &Context, set: &[(String, String)]) -> Result {
    if ctx.url.is_some() {
        return Err(CliError::usage("`serve` starts a server; --url names one that runs")
            .hint("the address is set with --set server.port=PORT or in understudy.toml"));
    }
    let project = ctx.project_dir();
    target::known_project(&project)?;
    Ok((ctx.host.serve)(&project, set.to_vec())?)
}

fn completion(shell: clap_complete::Shell) -> Result {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "understudy", &mut script);
    output::put(&String::from_utf8_lossy(&script));
    Ok(())
}
