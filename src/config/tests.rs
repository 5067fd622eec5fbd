use super::toml_file::TomlFile;
use super::*;
use std::path::Path;
use understudy_domain::problem::Problem;

fn load(files: &[(&str, &str)]) -> Result<Project, Vec<Problem>> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    Project::load_with(dir.path(), [], &[])
}

#[test]
fn the_commented_file_is_the_defaults_and_complete() {
    let file = TomlFile::new("understudy.toml", include_str!("../../config/understudy.toml"));
    let (settings, effective) = resolve(&file, [], &[]).unwrap();
    assert_eq!(settings, Settings::default());
    for e in effective {
        assert_eq!(e.source, Source::File, "{} is missing", e.key);
    }
}

#[test]
fn later_layers_win() {
    let file = TomlFile::new("u", "[server]\nport = 1\nworkers = 1\n[log]\nlevel = \"warn\"");
    let env = [("UNDERSTUDY__SERVER__PORT", "2"), ("UNDERSTUDY__SERVER__WORKERS", "2"), ("HOME", "x")];
    let env = env.map(|(k, v)| (k.to_string(), v.to_string()));
    let (s, effective) = resolve(&file, env, &[("server.port".into(), "3".into())]).unwrap();
    assert_eq!((s.server.port, s.server.workers, s.log.level.as_str()), (3, 2, "warn"));
    let port = effective.iter().find(|e| e.key == "server.port").unwrap();
    assert_eq!((port.value.as_str(), &port.source), ("3", &Source::CommandLine));
    for (key, value) in [("server.prot", "1"), ("server.port", "x"), ("server.port", "70000"), ("clock.source", "x")] {
        let p = resolve(&file, [], &[(key.into(), value.into())]).unwrap_err();
        assert!(!p[0].hint.is_empty() && p[0].key == key, "{p:?}");
    }
}

#[test]
fn flights_load() {
    let p = Project::load_with(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/flights"), [], &[]).unwrap();
    let features = p.features.views.values().map(|v| v.features.len()).sum::<usize>() + p.features.context.len();
    assert_eq!((features, p.models.len(), p.rules.len()), (38, 2, 2));
    assert!(p.models.iter().all(|m| m.features.len() == 38));
    let plan = understudy_domain::features::Plan::compile(&p.features);
    if let Err(problems) = plan {
        panic!("{}", problems.into_iter().map(|x| p.place(x).to_string()).collect::<Vec<_>>().join("\n"));
    }
    let (file, line) = p.locate("models.delay-mlp.outcome.label").unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.lines().nth(line - 1).unwrap().starts_with("label"));
    let placed = p.place(Problem::new("views.route_arrived.features.route_arr_count_30d.window", "x", ""));
    assert!(placed.file.ends_with("history.toml") && placed.line > 0, "{placed}");
}

#[test]
fn problems_say_where_and_what() {
    let context = "[context]\nx = { type = \"int\" }\n";
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[], "understudy init"),
        (&[("understudy.toml", "[server\n")], "understudy.toml:1"),
        (
            &[("understudy.toml", "\n[server]\nprot = 1")],
            "understudy.toml:3: `server.prot`: unknown key `prot`\n  hint: did you mean `port`?",
        ),
        (&[("understudy.toml", "[server]\nport = \"a\"")], "understudy.toml:2: `server.port`: invalid type"),
        (
            &[("understudy.toml", ""), ("features/a.toml", context), ("features/b.toml", context)],
            "b.toml:2: `context.x`: the feature `x` is declared in",
        ),
        (
            &[("understudy.toml", ""), ("features/a.toml", "[context]\n\"a-b\" = { type = \"int\" }")],
            "is not a feature name",
        ),
        (
            &[("understudy.toml", ""), ("models/a.toml", "name = \"A\"\nfeatures = []")],
            "a.toml:1: `name`: `A` is not a model name",
        ),
        (&[("understudy.toml", ""), ("models/a.toml", "name = \"a\"")], "the key `features` is missing"),
    ];
    for (files, expected) in cases {
        let problems = load(files).unwrap_err();
        let all: String = problems.iter().map(|p| format!("{p}\n")).collect();
        assert!(all.contains(expected), "{all}\n  lacks: {expected}");
    }
}
