//! Layers of settings: defaults < file < environment < command line, and where each value came from.

use super::settings::Settings;
use super::toml_file::TomlFile;
use toml::{Table, Value};
use understudy_domain::problem::{Problem, closest};

/// Where a setting's value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Default,
    /// The project's `understudy.toml`.
    File,
    /// The name of the environment variable.
    Env(String),
    CommandLine,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::File => f.write_str("file"),
            Source::Env(name) => write!(f, "env {name}"),
            Source::CommandLine => f.write_str("command line"),
        }
    }
}

/// One setting as it is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    pub key: String,
    pub value: String,
    pub source: Source,
}

const ENV_PREFIX: &str = "UNDERSTUDY__";

/// Settings out of the file, the environment and the command line's (dotted key, value) pairs.
pub fn resolve(
    file: &TomlFile,
    env: impl IntoIterator<Item = (String, String)>,
    overrides: &[(String, String)],
) -> Result<(Settings, Vec<Effective>), Vec<Problem>> {
    let mut settings: Settings = file.parse().map_err(|p| vec![p])?;
    let defaults = flat(&Settings::default());
    let mut sources: Vec<Source> =
        defaults.iter().map(|(key, _)| if file.has(key) { Source::File } else { Source::Default }).collect();
    let mut layers: Vec<(String, String, Source)> = env
        .into_iter()
        .filter_map(|(name, v)| {
            let key = name.strip_prefix(ENV_PREFIX)?.to_lowercase().replace("__", ".");
            Some((key, v, Source::Env(name)))
        })
        .collect();
    layers.sort_by(|a, b| a.0.cmp(&b.0));
    layers.extend(overrides.iter().map(|(k, v)| (k.clone(), v.clone(), Source::CommandLine)));
    let mut problems = Vec::new();
    for (key, value, source) in layers {
        match set(&settings, &defaults, &key, &value) {
            Ok((index, changed)) => {
                settings = changed;
                sources[index] = source;
            }
            Err(p) => problems.push(Problem { file: source.to_string(), ..p }),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let rows = flat(&settings).into_iter().zip(sources);
    let rows = rows.map(|((key, value), source)| Effective { key, value: value.to_string(), source }).collect();
    Ok((settings, rows))
}

fn set(now: &Settings, known: &[(String, Value)], key: &str, text: &str) -> Result<(usize, Settings), Problem> {
    let Some(index) = known.iter().position(|(k, _)| k == key) else {
        let hint = match closest(key, known.iter().map(|(k, _)| k.as_str())) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "config/understudy.toml lists every setting".into(),
        };
        return Err(Problem::new(key, format!("unknown setting `{key}`"), hint));
    };
    let wrong =
        |e: String| Problem::new(key, format!("`{text}`: {}", e.trim()), format!("for example {}", known[index].1));
    let value = match &known[index].1 {
        Value::Integer(_) => Value::Integer(text.parse().map_err(|_| wrong("not a whole number".into()))?),
        _ => Value::String(text.into()),
    };
    let mut table = Table::try_from(now).map_err(|e| wrong(e.to_string()))?;
    if let Some((section, name)) = key.split_once('.')
        && let Some(Value::Table(t)) = table.get_mut(section)
    {
        t.insert(name.into(), value);
    }
    table.try_into().map(|s| (index, s)).map_err(|e: toml::de::Error| wrong(e.message().to_string()))
}

/// All settings as (dotted key, value), in one fixed order.
fn flat(settings: &Settings) -> Vec<(String, Value)> {
    let table = Table::try_from(settings).expect("settings are plain TOML values");
    let mut out = Vec::new();
    for (section, values) in table {
        if let Value::Table(values) = values {
            out.extend(values.into_iter().map(|(k, v)| (format!("{section}.{k}"), v)));
        }
    }
    out
}
