//! Every setting: whether a change takes effect while the server runs, and what it may be. The one table of it; a test
//! compares it with the settings and with `config/understudy.toml`.

use super::effective::Effective;
use understudy_actors::config::Effect::{self, Live, Restart};
use understudy_domain::problem::Problem;
use understudy_domain::time::{DAY, HOUR, MINUTE, SECOND, Span};

/// What a value may be.
#[derive(Clone, Copy, Debug)]
pub enum Range {
    /// What its type allows.
    Any,
    Whole(u64, u64),
    /// Shortest and longest duration, in microseconds.
    Time(i64, i64),
    /// From 0 to 1.
    Share,
    /// A filter of the log.
    Filter,
}

use Range::{Any, Filter, Share, Time, Whole};

const MILLISECOND: i64 = SECOND / 1000;

pub const KEYS: &[(&str, Effect, Range)] = &[
    ("server.bind", Restart, Any),
    ("server.port", Restart, Any),
    ("server.workers", Restart, Whole(0, 1024)),
    ("server.max_body_bytes", Live, Whole(1024, 1 << 30)),
    ("server.request_timeout", Live, Time(MILLISECOND, 10 * MINUTE)),
    ("server.drain", Restart, Time(0, HOUR)),
    ("storage.dir", Restart, Any),
    ("storage.durability", Restart, Any),
    ("storage.segment_bytes", Restart, Whole(1 << 16, 1 << 40)),
    ("storage.min_free_bytes", Restart, Any),
    ("storage.open_deadline", Restart, Time(MILLISECOND, HOUR)),
    ("retention.events_age", Live, Any),
    ("retention.events_bytes", Live, Any),
    ("retention.predictions_age", Live, Any),
    ("retention.predictions_bytes", Live, Any),
    ("retention.outcomes_age", Live, Any),
    ("retention.outcomes_bytes", Live, Any),
    ("clock.source", Restart, Any),
    ("features.shards", Live, Whole(0, 256)),
    ("features.max_entities", Live, Whole(1, 1 << 40)),
    ("features.lateness", Live, Time(0, 3650 * DAY)),
    ("features.max_future", Live, Time(0, 3650 * DAY)),
    ("features.dedupe", Live, Time(SECOND, 3650 * DAY)),
    ("limits.max_in_flight", Live, Whole(1, 1 << 20)),
    ("limits.max_wait", Live, Time(0, MINUTE)),
    ("limits.memory_cap_bytes", Restart, Any),
    ("limits.header_timeout", Restart, Time(10 * MILLISECOND, HOUR)),
    ("limits.body_timeout", Restart, Time(10 * MILLISECOND, HOUR)),
    ("limits.keep_alive", Restart, Time(0, DAY)),
    ("limits.max_connections", Restart, Whole(1, 1 << 24)),
    ("limits.max_connections_per_address", Restart, Any),
    ("limits.max_instances", Live, Whole(1, 1 << 20)),
    ("limits.max_events_per_request", Live, Whole(1, 1 << 20)),
    ("auth.keys_file", Restart, Any),
    ("auth.requests_per_s", Restart, Any),
    ("auth.allowed_hosts", Restart, Any),
    ("tls.mode", Restart, Any),
    ("tls.cert", Restart, Any),
    ("tls.key", Restart, Any),
    ("models.max_loaded", Restart, Whole(1, 1 << 16)),
    ("models.max_bytes", Restart, Whole(1 << 10, 1 << 44)),
    ("models.max_upload_bytes", Live, Whole(1024, 1 << 32)),
    ("models.threads", Restart, Whole(0, 1024)),
    ("models.slow", Restart, Time(MILLISECOND / 1000, HOUR)),
    ("models.max_batch", Restart, Whole(1, 4096)),
    ("models.hang", Restart, Time(MILLISECOND, HOUR)),
    ("telemetry.otlp_endpoint", Restart, Any),
    ("telemetry.sample_share", Restart, Share),
    ("monitor.enabled", Restart, Any),
    ("log.level", Live, Filter),
    ("log.format", Restart, Any),
    ("prediction_log.mode", Live, Any),
    ("alerts.webhook", Restart, Any),
    ("alerts.secret_file", Restart, Any),
    ("alerts.ca_file", Restart, Any),
    ("alerts.external_url", Restart, Any),
    ("alerts.timeout", Restart, Time(10 * MILLISECOND, MINUTE)),
    ("alerts.attempts", Restart, Whole(1, 100)),
    ("alerts.queue", Restart, Whole(1, 1 << 16)),
];

/// When a changed key of the project takes effect; features, models and rules are live.
pub fn effect(key: &str) -> Effect {
    KEYS.iter().find(|(name, ..)| *name == key).map_or(Live, |(_, effect, _)| *effect)
}

/// Values that their type allows and that make no sense.
pub fn out_of_range(settings: &[Effective]) -> Vec<Problem> {
    settings.iter().filter_map(problem).collect()
}

fn problem(setting: &Effective) -> Option<Problem> {
    let (name, _, range) = KEYS.iter().find(|(name, ..)| *name == setting.key)?;
    let text = setting.value.trim_matches('"');
    let wrong =
        |expected: String| Some(Problem::new(*name, format!("{text} is out of range"), format!("use {expected}")));
    match *range {
        Any => None,
        Whole(least, most) => {
            let fits = text.parse::<u64>().is_ok_and(|n| (least..=most).contains(&n));
            if fits { None } else { wrong(format!("a whole number from {least} to {most}")) }
        }
        Time(least, most) => {
            let fits = text.parse::<Span>().is_ok_and(|s| (least..=most).contains(&s.0));
            if fits { None } else { wrong(format!("a duration from {} to {}", Span(least), Span(most))) }
        }
        Share => {
            let fits = text.parse::<f64>().is_ok_and(|s| (0.0..=1.0).contains(&s));
            if fits { None } else { wrong("a share from 0 to 1".into()) }
        }
        Filter => match tracing_subscriber::EnvFilter::try_new(text) {
            Ok(_) => None,
            Err(e) => Some(Problem::new(
                *name,
                format!("`{text}` is no filter of the log: {e}"),
                "use error, warn, info, debug, trace, or a filter such as understudy=debug,warn",
            )),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{resolve, toml_file::TomlFile};

    const COMMENTED: &str = include_str!("../../config/understudy.toml");

    #[test]
    fn the_table_is_the_settings_and_the_commented_file_says_the_same() {
        let (_, effective) = resolve(&TomlFile::new("u", ""), [], &[]).unwrap();
        let mut settings: Vec<&str> = effective.iter().map(|e| e.key.as_str()).collect();
        let mut table: Vec<&str> = KEYS.iter().map(|(name, ..)| *name).collect();
        settings.sort_unstable();
        table.sort_unstable();
        assert_eq!(settings, table, "every setting is in config/keys.rs, once");
        let mut section = "";
        let mut seen = 0;
        for line in COMMENTED.lines() {
            if let Some((name, _)) = line.strip_prefix('[').and_then(|l| l.split_once(']')) {
                section = name;
            }
            let Some((name, rest)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) else { continue };
            let key = format!("{section}.{name}");
            let said = rest.rsplit_once('#').map(|(_, c)| c.trim()).unwrap_or_default();
            let word = match effect(&key) {
                Live => "live",
                Restart => "restart",
            };
            assert!(
                said.starts_with(&format!("{word};")),
                "config/understudy.toml: the comment of {key} begins with `{word};`"
            );
            seen += 1;
        }
        assert_eq!(seen, KEYS.len());
    }

    #[test]
    fn defaults_are_in_range_and_nonsense_is_not() {
        let (_, effective) = resolve(&TomlFile::new("u", ""), [], &[]).unwrap();
        assert_eq!(out_of_range(&effective), []);
        for (set, key) in [
            ("[limits]\nmax_in_flight = 0", "limits.max_in_flight"),
            ("[server]\nrequest_timeout = \"0s\"", "server.request_timeout"),
            ("[features]\nshards = 100000", "features.shards"),
            ("[log]\nlevel = \"a=b=c\"", "log.level"),
        ] {
            let (_, effective) = resolve(&TomlFile::new("u", set), [], &[]).unwrap();
            let found = out_of_range(&effective);
            assert_eq!(found.len(), 1, "{set}: {found:?}");
            assert!(found[0].key == key && !found[0].hint.is_empty());
        }
    }
}
