//! Challengers of a demo: made from what was trained, registered and rolled out at their dates, one after another. They are
//! looked after at the first line of a day, so that no batch and no pace moves a decision.

use crate::cli::client::{Client, encode};
use crate::cli::error::{CliError, Result};
use crate::cli::features::Scratch;
use crate::cli::output::cell;
use crate::cli::rollout;
use crate::runtime::artefact::Artefact;
use crate::runtime::{bundle, variant};
use crate::tables::{DemoRollout, Made};
use serde::Serialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use understudy_domain::time::{Span, Timestamp};

const DAY: Span = Span::days(1);

/// What became of a challenger.
#[derive(Clone, Debug, Serialize)]
pub struct Told {
    /// Of the challenger, in the recording.
    pub name: String,
    /// Every verdict was computed again from the journal, every count from the logs.
    pub verified: bool,
    /// The rollout's report: id, state, reason, timeline, criteria.
    #[serde(flatten)]
    pub report: Value,
}

pub struct Rollouts {
    planned: Vec<DemoRollout>,
    /// Each as soon as the one before has ended.
    at_once: bool,
    /// Where the server keeps versions.
    models: PathBuf,
    /// The first line from here on is the next look.
    look: Timestamp,
    /// The planned one that runs, with its rollout's id.
    running: Option<(DemoRollout, String)>,
    pub told: Vec<Told>,
}

impl Rollouts {
    /// `first`: the day of training; champions must have answered for a day before anything is compared with them.
    pub fn new(planned: &[DemoRollout], at_once: bool, data: &Path, first: Timestamp) -> Self {
        let mut planned = planned.to_vec();
        planned.reverse();
        let (models, look) = (data.join("models"), first.floor(DAY) + DAY + DAY);
        Rollouts { planned, at_once, models, look, running: None, told: Vec::new() }
    }

    /// Whether all lines before the one of `now` must be sent, and this be called then.
    pub fn is_due(&self, now: Timestamp) -> bool {
        now >= self.look && (self.running.is_some() || !self.planned.is_empty())
    }

    /// What there is to say after the look.
    pub fn look(&mut self, client: &Client, now: Timestamp) -> Result<Option<String>> {
        self.look = now.floor(DAY) + DAY;
        let mut said = None;
        if let Some((plan, id)) = &self.running {
            let status = client.get(&rollout::path(&plan.model, ""))?;
            if status["ended"] != true {
                return Ok(None);
            }
            said = Some(format!("{}: {} is {}", plan.challenger, id, cell(&status["standing"])));
            self.close(client)?;
        }
        let due = self.planned.last().is_some_and(|p| self.at_once || p.from <= now);
        if let Some(plan) = self.planned.pop_if(|_| due) {
            let (id, version) = self.start(client, &plan)?;
            said = Some(format!("{}: {} {version} comes in as {id}", plan.challenger, plan.model));
            self.running = Some((plan, id));
        }
        Ok(said)
    }

    /// The one that runs is told as it stands.
    pub fn close(&mut self, client: &Client) -> Result {
        let Some((plan, id)) = self.running.take() else { return Ok(()) };
        let of = |what: &str| format!("/v1/rollouts/{}/{what}", encode(&id));
        let report = client.get(&of("report"))?;
        let verified = client.get(&of("verify"))?["same"] == true;
        self.told.push(Told { name: plan.challenger, verified, report });
        Ok(())
    }

    fn start(&self, client: &Client, plan: &DemoRollout) -> Result<(String, String)> {
        let artefact = self.make(client, plan).map_err(|e| CliError::new(format!("{}: {e}", plan.challenger)))?;
        let scratch = Scratch::new()?;
        let dir = scratch.0.join("version");
        artefact.write(&dir).map_err(CliError::new)?;
        let packed = bundle::pack(&dir).map_err(CliError::new)?;
        let registered = client.post_bytes("/v1/models", "application/x-tar", &packed)?;
        let version = cell(&registered["version"]);
        let status = client.post(&rollout::path(&plan.model, ""), &json!({ "version": version }))?;
        Ok((cell(&status["id"]), version))
    }

    fn make(&self, client: &Client, plan: &DemoRollout) -> std::result::Result<Artefact, String> {
        let champion = |model: &str| {
            let status = client.get(&format!("/v1/models/{}", encode(model))).map_err(|e| e.message)?;
            let version = status["aliases"]["champion"].as_str();
            Artefact::read(&self.models.join(model).join(version.ok_or(format!("`{model}` has no champion"))?))
        };
        let base = champion(&plan.model)?;
        match &plan.made {
            Made::Of { model } => variant::of_model(champion(model)?, &base),
            Made::Surer { factor } => variant::surer(base, *factor),
            Made::Overflowing { feature, above } => variant::overflowing(base, feature, *above),
            Made::Slow { copies, declared_latency_us } => variant::slow(base, *copies, *declared_latency_us),
        }
    }
}

/// The timelines in 80 columns.
pub fn print(told: &[Told]) -> String {
    let mut text = String::new();
    for t in told {
        let verified = if t.verified { "recomputed from the logs: the same" } else { "RECOMPUTED: NOT THE SAME" };
        text.push_str(&format!("\n{} ({verified})\n{}", t.name, rollout::timeline(&t.report)));
    }
    text
}
