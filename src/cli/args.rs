//! The words of the command line. Noun first: `model list`, `feature explain`.

pub use super::args_outcome::{OutcomeArgs, OutcomeCommand};
pub use super::args_storage::{ChaosCommand, StoreCommand};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

mod bench;
mod bench_pool;
mod models;
mod replay;
mod retrain;
mod rollout;
mod security;
mod simulate;
mod telemetry;

pub use bench::{
    BenchArgs, BenchCommand, MemoryArgs, ModelBenchArgs, OverloadArgs, PredictBenchArgs, ReloadArgs, TelemetryBenchArgs,
};
pub use bench_pool::{BatchBenchArgs, PoolBenchArgs};
pub use models::{ModelCheckArgs, ModelCommand};
pub use replay::{DemoArgs, Pace, ReplayArgs, Speed};
pub use retrain::{CandidateName, ExplainCommand, RetrainCommand, RetrainMode};
pub use rollout::{RolloutCommand, SettingsArgs, StepArgs};
pub use security::{AuditCommand, KeysCommand};
pub use simulate::{RolloutArgs, SimulateCommand};
pub use telemetry::TelemetryCommand;

/// Takes a model from a notebook to production and keeps it good there.
#[derive(Debug, Parser)]
#[command(name = "understudy", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
pub struct Global {
    /// Project directory (holds understudy.toml) [default: .]
    #[arg(long, global = true, value_name = "DIR", env = "UNDERSTUDY_PROJECT")]
    pub project: Option<PathBuf>,
    /// Talk to this running server instead of the project's own
    #[arg(long, global = true, value_name = "URL", env = "UNDERSTUDY_URL")]
    pub url: Option<String>,
    /// How results are printed
    #[arg(long, short, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,
    /// Print results and errors only
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Say more; twice for even more
    #[arg(long, short, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Table,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Replay a recorded year: train, predict, join outcomes, show the quality of every week
    Demo(DemoArgs),
    /// Make a new project with one example of everything
    Init {
        /// Directory to make; must be empty or not exist
        dir: PathBuf,
    },
    /// Run the server in the foreground until Ctrl-C or SIGTERM
    Serve {
        /// Override a setting: --set server.port=9000 (repeatable)
        #[arg(long = "set", value_name = "KEY=VALUE", value_parser = pair)]
        set: Vec<(String, String)>,
    },
    /// Send a recorded stream to the server in its order (needs clock.source = "stream")
    Replay(ReplayArgs),
    /// Events of the present
    #[command(subcommand)]
    Events(EventsCommand),
    /// Train a model on the event log and register the version
    Train {
        model: String,
        /// Return at once with the job's number
        #[arg(long)]
        no_wait: bool,
    },
    /// Ask a model for a prediction
    Predict(PredictArgs),
    /// Models and their versions
    #[command(subcommand)]
    Model(ModelCommand),
    /// Challengers: plan, start, watch, promote, abort, verify
    #[command(subcommand)]
    Rollout(RolloutCommand),
    /// Features: definitions, values, checks
    #[command(subcommand)]
    Feature(FeatureCommand),
    /// Quality over time
    #[command(subcommand)]
    Monitor(MonitorCommand),
    /// The prediction log
    #[command(subcommand)]
    Log(LogCommand),
    /// Everything known about one prediction: inputs, ages, findings, version, outcome
    Why {
        /// Prediction id (a ULID)
        id: String,
    },
    /// When and how models are mended
    #[command(subcommand)]
    Retrain(RetrainCommand),
    /// Why something happened
    #[command(subcommand)]
    Explain(ExplainCommand),
    /// Validation rules
    #[command(subcommand)]
    Rules(RulesCommand),
    /// The truth about earlier predictions
    #[command(subcommand)]
    Outcome(OutcomeCommand),
    /// The project's files
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Measure the real server, beside a bare handler on the same machine
    #[command(subcommand)]
    Bench(BenchCommand),
    /// API keys: who may do what from elsewhere
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Who changed what, when, from where
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Run the real actors, on one thread and out of seeds, under faults; needs no project
    #[command(subcommand)]
    Simulate(SimulateCommand),
    /// The data directory of a stopped server: check, move, shrink, copy
    #[command(subcommand)]
    Store(StoreCommand),
    /// Kill the real program, cut its power, damage its store, and check what it had acknowledged
    #[command(subcommand)]
    Chaos(ChaosCommand),
    /// The metric inventory, and the dashboards and alert rules made from it; needs no project
    #[command(subcommand)]
    Telemetry(TelemetryCommand),
    /// Check the machine and the project for what would go wrong
    Doctor,
    /// Print the completion script of a shell
    Completion {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
pub enum EventsCommand {
    /// Ingest a file of events (NDJSON, plain or .zst, `-` for stdin)
    Import {
        file: PathBuf,
        /// Lines of one request to the server
        #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        batch: u32,
    },
}

#[derive(Debug, Args)]
pub struct PredictArgs {
    pub model: String,
    /// Entity key of the request (repeatable)
    #[arg(long = "entity", value_name = "KEY=ID", value_parser = pair)]
    pub entities: Vec<(String, String)>,
    /// Context field of the request (repeatable); numbers, true, false and null are read as such
    #[arg(long = "context", value_name = "FIELD=VALUE", value_parser = pair)]
    pub context: Vec<(String, String)>,
    /// The whole request body from a file, `-` for stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["entities", "context"])]
    pub json: Option<PathBuf>,
    /// Show every feature with its age, and where the time went
    #[arg(long)]
    pub explain: bool,
}

#[derive(Debug, Subcommand)]
pub enum FeatureCommand {
    /// All features
    List,
    /// Value of a feature for an entity, with the window and the events behind it
    Explain {
        name: String,
        /// `KEY=ID`; once per key of the entity
        #[arg(long = "entity", value_name = "KEY=ID", value_parser = pair, required = true)]
        entities: Vec<(String, String)>,
        /// As of this time (RFC 3339); now if not said
        #[arg(long)]
        time: Option<String>,
    },
    /// Compare feature values with expected ones: counts exactly, floats within 1e-9
    Verify {
        /// NDJSON of {"id": REQUEST, "features": {NAME: VALUE}}
        expected: PathBuf,
        /// The recording to fold; the project's own if not said (with --url: what that server logged)
        #[arg(long, value_name = "FILE")]
        events: Option<PathBuf>,
        /// The model whose request event is meant (with --url: whose logged vectors); the first if not said
        #[arg(long)]
        model: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum MonitorCommand {
    /// Traffic, matured quality and latency by window
    Show {
        model: String,
        /// First event time (RFC 3339)
        #[arg(long)]
        from: Option<String>,
        #[arg(long)]
        until: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    Ndjson,
    Csv,
    /// One model, to a file; needs a build with `--features parquet`
    Parquet,
}

#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// The newest predictions
    Tail {
        /// How many
        #[arg(short, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1000))]
        n: u32,
        #[arg(long)]
        model: Option<String>,
    },
    /// Every logged prediction in order of time, to stdout or a Parquet file
    Export {
        #[arg(long, value_enum, default_value_t = ExportFormat::Ndjson)]
        format: ExportFormat,
        #[arg(long, required_if_eq("format", "parquet"))]
        model: Option<String>,
        /// First event time (RFC 3339), inclusive
        #[arg(long)]
        from: Option<String>,
        /// Last event time (RFC 3339), exclusive
        #[arg(long)]
        until: Option<String>,
        /// Leave out the measured times: two runs over one stream then print the same bytes
        #[arg(long)]
        without_timing: bool,
        /// Parquet only: the file to write
        #[arg(long, value_name = "FILE", required_if_eq("format", "parquet"))]
        to: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// What the rules of a file would have done to logged traffic; changes nothing
    Try {
        file: PathBuf,
        #[arg(long)]
        model: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check every file of the project; prints what is wrong, where, and the remedy
    Check,
    /// Print the settings
    Show {
        /// With every default filled in
        #[arg(long)]
        effective: bool,
    },
    /// The configuration in force on the server: generation, last error, what waits for a start
    Status,
    /// Make the server look at the files now; prints what changed, or why nothing did
    Reload,
    /// Changes of the configuration, newest first: who, what, and what became of it
    History,
    /// Keys that differ between two generations
    Diff { from: u64, to: u64 },
    /// Make the files those of an earlier generation, and apply them as a new one
    Revert { generation: u64 },
}

/// `KEY=VALUE`
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((k, v)) if !k.is_empty() => Ok((k.to_string(), v.to_string())),
        _ => Err(format!("`{text}` is not KEY=VALUE")),
    }
}

#[cfg(test)]
mod tests {
    use super::replay::speed;
    use super::*;
    use clap::CommandFactory;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("understudy").chain(line.split_whitespace()))
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_documented_line_parses() {
        for line in [
            "demo --quick --stay --report r.html --data d --batch 100 --speed 3600x",
            "init new",
            "serve --set server.port=0 --project p",
            "replay --events f.ndjson.zst --speed max",
            "events import -",
            "train delay -o json",
            "retrain start delay --candidate recalibrate --candidate retrain",
            "retrain status",
            "retrain list delay -o json",
            "retrain explain delay/3",
            "retrain approve delay/3",
            "explain retrain 3",
            "replay --retrain auto",
            "demo --loop --model delay --quick",
            "predict delay --entity carrier=UA --entity origin=EWR --context distance=2402 --explain",
            "predict delay --json -",
            "model list",
            "model show delay --url http://127.0.0.1:8080",
            "model register made/v1",
            "model alias delay champion v3",
            "model archive delay v1",
            "model check made/v1 --rows rows.csv --tolerance 1e-6",
            "bench model --model made/v1 --batch 1000",
            "feature list --quiet",
            "feature explain f --entity origin=JFK --time 2013-01-01T00:00:00Z",
            "feature verify expected.jsonl --events f.ndjson",
            "monitor show delay --from 2013-04-01T00:00:00Z",
            "log tail -n 5 --model delay",
            "log export --format csv --without-timing",
            "why 01HQ3V8Z5M8C1YB2D3E4F5G6H7",
            "rules try new.toml --model delay",
            "outcome post --model delay --request SF000608 --label false",
            "outcome post --model delay --prediction 01HQ --void",
            "config check -v",
            "config show --effective",
            "bench predict --seconds 5 --connections 8",
            "bench ingest",
            "bench pool --models 8 --slots 5 --connections 200 --seconds 300 -o json",
            "simulate system --seeds 2000 --output json",
            "simulate rollout --rate 100 --share 5 --minutes 30 --runs 10000 --fault errors:0.005 --rule ours -o json",
            "rollout start m v2 --set stages=[10,100]",
            "rollout abort m --expected-step 4 --reason late",
            "chaos rollout --kills 200 --per-pass 10 --seed 3",
            "simulate rollout --visits --unit request --delay 10 --delay-factor 1.5 --tick 1m",
            "store verify data -o json",
            "store export data --to f",
            "store snapshot data --to copy",
            "chaos kill --runs 300 --seed 7 --connections 8 --load-ms 500 -o json",
            "chaos power --set storage.durability=process",
            "chaos flip --bytes 65536 --every 64",
            "simulate parsers --inputs 1000000 --target predict --seed 3",
            "doctor",
            "completion bash",
        ] {
            if let Err(e) = parse(line) {
                panic!("{line}: {e}");
            }
        }
    }

    #[test]
    fn wrong_lines_are_usage_errors() {
        for (line, says) in [
            ("predict delay --entity UA", "KEY=VALUE"),
            ("predict delay --entity =UA", "KEY=VALUE"),
            ("predict delay --json f --entity a=b", "cannot be used with"),
            ("replay --speed fast", "neither `max` nor a factor"),
            ("replay --batch 0", "not in 1..=10000"),
            ("outcome post --model delay --label true", "--request"),
            ("outcome post --model delay --request a --prediction b --void", "cannot be used with"),
            ("outcome post --model delay --request a", "--label"),
            ("log export --format parquet --to f", "--model"),
            ("log export --format parquet --model m", "--to"),
            ("doctor -v --quiet", "cannot be used with"),
            ("model alias delay champion", "<VERSION>"),
            ("model alias delay champion v1 --remove", "cannot be used with"),
            ("frobnicate", "unrecognized subcommand"),
        ] {
            let e = parse(line).err().unwrap_or_else(|| panic!("`{line}` was accepted"));
            assert_eq!(e.exit_code(), 2, "{line}");
            assert!(e.to_string().contains(says), "{line}: {e}");
        }
    }

    #[test]
    fn speeds() {
        assert_eq!(speed("max"), Ok(Speed::Max));
        assert_eq!(speed("3600x"), Ok(Speed::Times(3600.0)));
        assert_eq!(speed("2"), Ok(Speed::Times(2.0)));
    }
}
