//! The weeks of a demo: which have matured, and what the monitors say of them.

use crate::cli::client::{Client, encode, query};
use crate::cli::error::Result;
use crate::cli::models::items;
use crate::cli::monitor::fixed;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use understudy_domain::time::{Span, Timestamp};

pub const WEEK: Span = Span::days(7);
/// A week is judged when its last request is this old: over 99.9 % of its outcomes are in.
const MATURES_AFTER: Span = Span::days(1);

/// A model's figures of one period.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    pub requests: u64,
    /// Requests with an outcome.
    pub n: u64,
    pub positive_share: Option<f64>,
    pub auc: Option<f64>,
    pub log_loss: Option<f64>,
    pub brier: Option<f64>,
    pub ece: Option<f64>,
    pub mean_score: Option<f64>,
    pub p50_us: Option<f64>,
    pub p99_us: Option<f64>,
}

/// One line of the demo. The figures outside `models` are those of the first model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Week {
    pub week: String,
    pub start: Timestamp,
    #[serde(flatten)]
    pub first: Figures,
    pub events_per_s: f64,
    pub models: BTreeMap<String, Figures>,
}

impl Figures {
    /// Of one window of a monitor's answer.
    pub fn of(window: &Value) -> Figures {
        let (q, t) = (&window["quality"], &window["timing"]["total"]);
        Figures {
            requests: window["requests"].as_u64().unwrap_or(0),
            n: q["n"].as_u64().unwrap_or(0),
            positive_share: q["rate"].as_f64(),
            auc: q["auc"].as_f64(),
            log_loss: q["log_loss"].as_f64(),
            brier: q["brier"].as_f64(),
            ece: q["ece"].as_f64(),
            mean_score: q["mean_score"].as_f64(),
            p50_us: t["p50_us"].as_f64(),
            p99_us: t["p99_us"].as_f64(),
        }
    }
}

/// Tells when weeks are over.
pub struct Calendar {
    /// Start of the next week to print.
    next: Timestamp,
}

impl Calendar {
    /// Starts with the week that holds `first`.
    pub fn new(first: Timestamp) -> Self {
        Calendar { next: first.floor(WEEK) }
    }

    /// The next week, once the stream has passed its end by a day.
    pub fn matured(&mut self, now: Timestamp) -> Option<Timestamp> {
        let over = now >= self.next + WEEK + MATURES_AFTER;
        over.then(|| self.advance())
    }

    fn advance(&mut self) -> Timestamp {
        let start = self.next;
        self.next = start + WEEK;
        start
    }

    /// The next week although it has not matured: the stream ended.
    pub fn unfinished(&mut self, last: Timestamp) -> Option<Timestamp> {
        (self.next <= last).then(|| self.advance())
    }
}

/// Asks every model's monitor for one week.
pub fn ask(client: &Client, models: &[String], start: Timestamp, events_per_s: f64) -> Result<Week> {
    let q = query(&[("from", Some(start.to_string())), ("until", Some((start + WEEK).to_string()))]);
    let mut of = BTreeMap::new();
    for m in models {
        let answer = client.get(&format!("/v1/models/{}/monitor{q}", encode(m)))?;
        let windows = items(answer, "windows");
        let begins = |w: &&Value| w["start"].as_str().and_then(|s| s.parse().ok()) == Some(start);
        of.insert(m.clone(), windows.iter().find(begins).map(Figures::of).unwrap_or_default());
    }
    let first = models.first().and_then(|m| of.get(m)).cloned().unwrap_or_default();
    Ok(Week { week: iso_week(start), start, first, events_per_s, models: of })
}

/// `2013-W14`
pub fn iso_week(t: Timestamp) -> String {
    // The week's Thursday decides its year.
    let thursday = t.floor(WEEK) + Span::days(3);
    let day = jiff::Timestamp::from_microsecond(thursday.0).map(|t| jiff::tz::Offset::UTC.to_datetime(t).date());
    day.map_or_else(|_| t.to_string(), |d| format!("{}-W{:02}", d.year(), (d.day_of_year() - 1) / 7 + 1))
}

/// The heading of the weekly lines, for these models. Shares have no leading zero: 80 columns hold it all.
pub fn heading(models: &[String]) -> String {
    let mut top = format!("{:20}", "");
    let mut below = format!("{:8} {:>6} {:>4}", "week", "reqs", "pos");
    for m in shown(models) {
        top.push_str(&format!(" {:^17}", clip(m, 17)));
        below.push_str(&format!(" {:>5} {:>5} {:>5}", "AUC", "lloss", "ECE"));
    }
    top.push_str("  microseconds");
    below.push_str(&format!(" {:>5} {:>6} {:>7}", "p50", "p99", "ev/s"));
    format!("{}\n{below}", top.trim_end())
}

pub fn line(w: &Week, models: &[String]) -> String {
    let f = &w.first;
    let mut text = format!("{:8} {:>6} {:>4}", w.week, f.requests, share(f.positive_share, 2));
    for m in shown(models) {
        let f = w.models.get(m).cloned().unwrap_or_default();
        text.push_str(&format!(" {:>5} {:>5} {:>5}", share(f.auc, 4), share(f.log_loss, 4), share(f.ece, 4)));
    }
    text.push_str(&format!(" {:>5} {:>6} {:>7.0}", some(f.p50_us, 0), some(f.p99_us, 0), w.events_per_s));
    text
}

/// `.7406` for 0.7406, `1.000` for 1: as wide as `decimals` and a point.
fn share(v: Option<f64>, decimals: usize) -> String {
    let text = some(v, decimals);
    match text.strip_prefix('0') {
        Some(short) if short.starts_with('.') => short.to_owned(),
        _ => text.chars().take(decimals + 1).collect(),
    }
}

/// Two models fit beside each other; JSON and the report hold all.
fn shown(models: &[String]) -> &[String] {
    &models[..models.len().min(2)]
}

pub fn some(v: Option<f64>, decimals: usize) -> String {
    fixed(&v.map_or(Value::Null, Value::from), decimals)
}

fn clip(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(s: &str) -> Timestamp {
        s.parse().unwrap()
    }

    #[test]
    fn iso_weeks_at_the_edges_of_years() {
        for (day, week) in [
            ("2013-04-01", "2013-W14"),
            ("2013-04-07", "2013-W14"),
            ("2013-12-29", "2013-W52"),
            ("2013-12-30", "2014-W01"),
            ("2012-12-31", "2013-W01"),
            ("2020-12-31", "2020-W53"),
            ("2021-01-03", "2020-W53"),
        ] {
            assert_eq!(iso_week(t(&format!("{day}T12:00:00Z"))), week, "{day}");
        }
    }

    #[test]
    fn a_week_matures_a_day_after_its_end() {
        let mut c = Calendar::new(t("2013-04-03T00:00:00Z"));
        assert_eq!(c.matured(t("2013-04-08T23:59:59Z")), None);
        assert_eq!(c.matured(t("2013-04-09T00:00:00Z")), Some(t("2013-04-01T00:00:00Z")));
        assert_eq!(c.matured(t("2013-04-09T00:00:00Z")), None);
        assert_eq!(c.unfinished(t("2013-04-09T00:00:00Z")), Some(t("2013-04-08T00:00:00Z")));
        assert_eq!(c.unfinished(t("2013-04-09T00:00:00Z")), None);
    }

    #[test]
    fn lines_fit_80_columns_with_two_models_of_long_names() {
        let models = vec!["a".repeat(60), "b".repeat(60), "c".into()];
        let f = Figures {
            requests: 123_456,
            n: 1,
            positive_share: Some(0.5),
            auc: Some(0.75),
            log_loss: Some(10.5),
            ece: Some(1.0),
            p50_us: Some(61.0),
            p99_us: Some(12_345.0),
            ..Figures::default()
        };
        let w = Week {
            week: "2013-W14".into(),
            start: Timestamp(0),
            first: f.clone(),
            events_per_s: 1_234_567.0,
            models: models.iter().map(|m| (m.clone(), f.clone())).collect(),
        };
        for l in heading(&models).lines().chain(line(&w, &models).lines()) {
            assert!(l.chars().count() <= 80, "{} columns: {l}", l.chars().count());
        }
        let h = heading(&models);
        assert!(line(&w, &models).contains(".7500 10.50 1.000"), "{}", line(&w, &models));
        assert_eq!(h.lines().nth(1).unwrap().chars().count(), line(&w, &models).chars().count());
    }
}
