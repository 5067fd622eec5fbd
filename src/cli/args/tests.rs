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
        "drift show delay --feature distance --from 2013-04-01T00:00:00Z -o json",
        "simulate drift --days 1000 --features 20 --rows-per-window 500 --shift 0.5 --seed 1",
        "faults list",
        "faults run --only null_burst -o json",
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
