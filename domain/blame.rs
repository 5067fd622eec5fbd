//! Where a change comes from: the feed, the feature's definition, the model, the mix of the traffic, or the world.
//!
//! Each suspect gets what speaks for it, in words, and a weight between 0 and 1; the table below is all of the rule.
//! What can be mended upstream comes before the world: "the world changed" is what is left when nothing else is found.

use crate::feed::DataIncident;
use crate::time::{Span, Timestamp};
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    Feed,
    FeatureCode,
    Model,
    TrafficMix,
    World,
}

impl Cause {
    pub fn name(self) -> &'static str {
        match self {
            Cause::Feed => "feed",
            Cause::FeatureCode => "feature code",
            Cause::Model => "model",
            Cause::TrafficMix => "traffic mix",
            Cause::World => "world",
        }
    }
}

/// What a change is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// What a model sees: it cannot come from the model.
    Feature,
    /// What a model says, or how well.
    Model,
}

/// A finding of a feed that may or may not hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeedTrace {
    pub incident: DataIncident,
    /// The feature (for a model: one of its features) is made of this feed.
    pub read: bool,
}

/// Something that people changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Changed {
    pub at: Timestamp,
    /// What, in words: `generation 7: views.origin.features.late_3h`, `v3 -> v4`.
    pub what: String,
    /// It is about the subject itself, not about something beside it.
    pub direct: bool,
}

/// How much of a change is left when the segments of the traffic have the shares they had.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MixEffect {
    /// The segments are the values of this feature.
    pub by: String,
    /// Population stability index against the windows before, as they were and reweighted to the present shares.
    pub before: f64,
    pub after: f64,
}

/// All that is known of a change when it is asked where it comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    pub subject: Subject,
    /// Start of the first window that showed it, end of the last.
    pub since: Timestamp,
    pub until: Timestamp,
    /// Length of a window: what happened within one is at the same time.
    pub window: Span,
    /// Compared with the training rows (true) or with the windows before.
    pub against_training: bool,
    pub feeds: Vec<FeedTrace>,
    pub definitions: Vec<Changed>,
    pub versions: Vec<Changed>,
    pub mix: Option<MixEffect>,
}

/// A possible cause with what speaks for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Suspect {
    pub cause: Cause,
    /// 0 to 1; not a probability, an order.
    pub weight: f64,
    pub evidence: Vec<String>,
}

/// Nothing else is found: it is always possible.
const WORLD: f64 = 0.3;
/// An incident of a feed that the subject reads, and began with it; that was there already; of another feed.
const FEED_WITH: f64 = 0.9;
const FEED_BEFORE: f64 = 0.6;
const FEED_OTHER: f64 = 0.15;
/// A definition changed with it; something beside it did.
const CODE_DIRECT: f64 = 0.85;
const CODE_BESIDE: f64 = 0.35;
/// Another version answers since then; and for what a model sees, only the reference is another.
const MODEL_ANSWERS: f64 = 0.8;
const MODEL_REFERENCE: f64 = 0.4;
/// All of the change is gone within the segments.
const MIX_WHOLE: f64 = 0.75;
/// Against windows that differ less there is nothing to explain: the change is older than they are.
const MIX_CHANGE: f64 = 0.05;
/// Less than this share of it gone says nothing.
const MIX_LEAST: f64 = 0.3;

/// Suspects, the likeliest first; the world is always among them.
pub fn blame(case: &Case) -> Vec<Suspect> {
    let mut all = vec![feed(case), definitions(case), versions(case), mix(case), world(case)];
    all.retain(|s| s.weight > 0.0);
    all.sort_by(|a, b| b.weight.total_cmp(&a.weight).then(a.cause.cmp(&b.cause)));
    all
}

/// One sentence: what it most likely comes from, and why.
pub fn verdict(suspects: &[Suspect]) -> String {
    match suspects.first() {
        Some(s) => {
            let why = s.evidence.first().map_or_else(String::new, |e| format!(": {e}"));
            format!("most likely the {}{why}", s.cause.name())
        }
        None => "nothing is known of where it comes from".into(),
    }
}

impl Case {
    /// Whether something at `at` began when this did: within a window of it.
    fn with(&self, at: Timestamp) -> bool {
        at >= self.since - self.window && at <= self.since + self.window
    }
}

fn heaviest(cause: Cause, found: Vec<(f64, String)>) -> Suspect {
    let mut found = found;
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    let weight = found.first().map_or(0.0, |(w, _)| *w);
    Suspect { cause, weight, evidence: found.into_iter().map(|(_, text)| text).collect() }
}

fn feed(case: &Case) -> Suspect {
    let weigh = |t: &FeedTrace| {
        let i = &t.incident;
        // What ended before this began, or began after it, is something else.
        if !i.overlaps(case.since - case.window, case.until) || i.since > case.since + case.window {
            return None;
        }
        let weight = match (t.read, case.with(i.since)) {
            (true, true) => FEED_WITH,
            (true, false) => FEED_BEFORE,
            (false, _) => FEED_OTHER,
        };
        let which = if t.read { "" } else { ", which it does not read" };
        let end = i.until.map_or_else(|| "open".to_owned(), |u| format!("until {u}"));
        Some((weight, format!("an incident of the feed {}{which} since {} ({end}): {}", i.feed, i.since, i.reason)))
    };
    heaviest(Cause::Feed, case.feeds.iter().filter_map(weigh).collect())
}

fn definitions(case: &Case) -> Suspect {
    let weigh = |c: &Changed| {
        let weight = if c.direct { CODE_DIRECT } else { CODE_BESIDE };
        case.with(c.at).then(|| (weight, format!("the project changed at {}: {}", c.at, c.what)))
    };
    heaviest(Cause::FeatureCode, case.definitions.iter().filter_map(weigh).collect())
}

fn versions(case: &Case) -> Suspect {
    let weight = match (case.subject, case.against_training) {
        (Subject::Model, _) => MODEL_ANSWERS,
        (Subject::Feature, true) => MODEL_REFERENCE,
        (Subject::Feature, false) => return heaviest(Cause::Model, Vec::new()),
    };
    let what = match case.subject {
        Subject::Model => "another version answers",
        Subject::Feature => "another version's training rows are compared with",
    };
    let weigh = |c: &Changed| case.with(c.at).then(|| (weight, format!("{what} since {}: {}", c.at, c.what)));
    heaviest(Cause::Model, case.versions.iter().filter_map(weigh).collect())
}

fn mix(case: &Case) -> Suspect {
    let explained = case.mix.as_ref().and_then(|m| {
        let share = (1.0 - m.after / m.before).clamp(0.0, 1.0);
        (m.before > MIX_CHANGE && share >= MIX_LEAST).then(|| {
            let text = format!(
                "with the shares of `{}` as they are now, the windows before differ by PSI {:.2} instead of {:.2}: {:.0} % \
                 of the change is who asks",
                m.by,
                m.after,
                m.before,
                share * 100.0
            );
            (MIX_WHOLE * share, text)
        })
    });
    heaviest(Cause::TrafficMix, explained.into_iter().collect())
}

fn world(case: &Case) -> Suspect {
    let mut evidence = vec!["nothing of ours changed with it".to_owned()];
    if [feed(case), definitions(case), versions(case), mix(case)].iter().any(|s| s.weight > WORLD) {
        evidence[0] = "possible beside what was found".to_owned();
    }
    Suspect { cause: Cause::World, weight: WORLD, evidence }
}
