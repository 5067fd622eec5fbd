//! `simulate rollout`: error rates of the decisions, measured on challengers whose faults are known.

use super::args::RolloutArgs;
use super::error::{CliError, Result};
use super::output;
use super::target::Context;
use crate::simulate::rollout::{self, Rule, Summary, World};
use serde_json::json;
use understudy_domain::rollout::Share;

pub fn run(ctx: &Context, a: &RolloutArgs) -> Result {
    if a.share == Share::ZERO || a.share == Share::ALL {
        return Err(CliError::usage(format!(
            "a canary with {} of the traffic cannot be compared with anything",
            a.share
        )));
    }
    let world = World {
        rate: a.rate,
        share: a.share,
        minutes: a.minutes,
        fault: a.fault,
        errors: a.errors,
        conversion: a.conversion,
        delay_minutes: a.delay,
        delay_factor: a.delay_factor,
        visits: a.visits,
    };
    let settings = rollout::settings(&world, a.margin, a.unit, a.tick);
    if let Some(problem) = settings.check().first() {
        return Err(CliError::usage(problem.to_string()));
    }
    let note = |done: u64| {
        if a.runs >= 1000 && done.is_multiple_of(a.runs / 10) && done < a.runs {
            ctx.note(&format!("{done} of {} runs", a.runs));
        }
    };
    let summary = rollout::run(&world, &settings, a.rule, (a.seed, a.runs), &note);
    if ctx.json {
        let mut all = json!({
            "rule": if a.rule == Rule::Ours { "ours" } else { "article" },
            "rate": a.rate, "share": a.share, "minutes": a.minutes, "seed": a.seed,
        });
        let found = serde_json::to_value(&summary).expect("numbers and text");
        if let (Some(all), serde_json::Value::Object(found)) = (all.as_object_mut(), found) {
            all.extend(found);
        }
        output::json(&all);
    } else {
        tell(&summary);
    }
    Ok(())
}

fn tell(s: &Summary) {
    let percent = |share: f64| format!("{:.2} %", share * 100.0);
    let minutes = |m: Option<f64>| m.map_or(String::new(), |m| format!(" (median minute {m:.0})"));
    output::line(&format!("{} rollouts", s.runs));
    output::line(&format!("  rolled back   {}{}", percent(s.rolled_back), minutes(s.median_minutes_to_rollback)));
    output::line(&format!("  promoted      {}", percent(s.promoted)));
    output::line(&format!("  inconclusive  {}", percent(s.inconclusive)));
    output::line(&format!("  incident      {}{}", percent(s.incident), minutes(s.median_minutes_to_incident)));
    if let Some(technical) = s.technical {
        output::line(&format!("errors and latency certified in {}", percent(technical)));
    }
    for (name, c) in &s.certified {
        let canary = c.median_canary.map_or("-".to_owned(), |n| n.to_string());
        let p90 = c.p90_canary.map_or("-".to_owned(), |n| n.to_string());
        output::line(&format!(
            "  {name}: certified in {}, after {canary} canary answers (median; nine of ten {p90})",
            percent(c.share)
        ));
    }
    for (name, v) in &s.violated {
        let (any, last) = (percent(v.at_any_look), percent(v.at_the_last_look));
        output::line(&format!("  {name}: violated at some look in {any}, at the last one in {last}"));
    }
}
