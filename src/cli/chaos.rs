//! `chaos`: campaigns over the real program; exit 1 when something was lost, duplicated or wrong.

use super::args_storage::{CampaignArgs, ChaosCommand};
use super::error::{CliError, Result};
use super::output::{count, json, put};
use super::target::Context;
use crate::chaos::{self, Campaign, Cut, Findings};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Time between two lines about a long campaign.
const TELL: Duration = Duration::from_secs(10);

pub fn run(ctx: &Context, command: &ChaosCommand) -> Result {
    match command {
        ChaosCommand::Kill(a) => campaign(ctx, a, Cut::Kill),
        ChaosCommand::Power(a) => campaign(ctx, a, Cut::Power),
        ChaosCommand::Rollout { kills, per_pass, seed } => {
            let program =
                std::env::current_exe().map_err(|e| failed(format!("the program's own path is not known: {e}")))?;
            let campaign = chaos::rollout::RolloutCampaign { kills: *kills, per_pass: *per_pass, seed: *seed, program };
            let work = Work::new(None)?;
            let mut progress = |f: &chaos::rollout::RolloutFindings| {
                ctx.note(&format!("{} passes, {} kills, {} different journals", f.passes, f.kills, f.different));
            };
            let found = chaos::rollout::run(&campaign, &work.0, &mut progress).map_err(failed)?;
            if ctx.json {
                json(&found);
            } else {
                put(&format!(
                    "{} kills in {} passes over a rollout of {} entries that ends {}: {} journals differ\n",
                    found.kills, found.passes, found.entries, found.end, found.different
                ));
            }
            if found.different == 0 { Ok(()) } else { Err(failed(found.examples.join("; "))) }
        }
        ChaosCommand::Flip { bytes, every } => {
            let work = Work::new(None)?;
            let mut progress = progress(ctx);
            let found = chaos::flip::run(*bytes, *every, &work.0, &mut progress).map_err(failed)?;
            tell(ctx, &found)
        }
    }
}

fn campaign(ctx: &Context, a: &CampaignArgs, cut: Cut) -> Result {
    let program = std::env::current_exe().map_err(|e| failed(format!("the program's own path is not known: {e}")))?;
    let campaign = Campaign {
        runs: a.runs,
        seed: a.seed,
        cut,
        connections: a.connections,
        load_ms: (a.load_ms / 10, a.load_ms),
        set: a.set.iter().map(|(k, v)| format!("{k}={v}")).collect(),
        program,
    };
    let work = Work::new(a.work.as_deref())?;
    let found = chaos::run(&campaign, &work.0, &mut progress(ctx)).map_err(failed)?;
    tell(ctx, &found)
}

fn progress(ctx: &Context) -> impl FnMut(u64, &Findings) {
    let mut told = Instant::now();
    move |run, f| {
        if told.elapsed() > TELL {
            told = Instant::now();
            ctx.note(&format!(
                "run {run}: {} acknowledged, {} lost, {} duplicated, {} wrong, slowest recovery {} ms",
                count(f.acknowledged),
                f.lost,
                f.duplicated,
                f.wrong_served,
                f.recovery_ms_max
            ));
        }
    }
}

fn tell(ctx: &Context, found: &Findings) -> Result {
    if ctx.json {
        json(found);
    } else {
        let mut rows = vec![
            ("runs", found.runs),
            ("acknowledged", found.acknowledged),
            ("lost", found.lost),
            ("duplicated", found.duplicated),
            ("wrong served", found.wrong_served),
            ("slowest recovery ms", found.recovery_ms_max),
        ];
        if found.found > 0 {
            rows.extend([("damage reported", found.found), ("damage harmless", found.harmless)]);
        }
        put(&rows.iter().map(|(name, n)| format!("{name:20} {}\n", count(*n))).collect::<String>());
    }
    match found.is_clean() {
        true => Ok(()),
        false => Err(CliError::new("something acknowledged was lost, counted twice or served wrong")
            .details(found.examples.clone())
            .hint(format!("the same choices again: --seed {}", found.seed))),
    }
}

fn failed(e: String) -> CliError {
    CliError::new(e)
}

/// A directory for the campaign; a temporary one is removed at the end.
struct Work(PathBuf, bool);

impl Work {
    fn new(named: Option<&Path>) -> Result<Work> {
        let own = std::env::temp_dir().join(format!("understudy-chaos-{}", std::process::id()));
        let path = named.map_or(own, Path::to_path_buf);
        std::fs::create_dir(&path).map_err(super::error::at_path(&path, "make"))?;
        Ok(Work(path, named.is_none()))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if self.1 {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}
