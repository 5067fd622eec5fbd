//! One part of a store opened and read as the server does it, with everything that was found: for damage campaigns
//! and for `store verify`.

use super::health::Health;
use super::log::SegmentedLog;
use super::report::{OpenError, OpenReport};
use super::state::SledFeatures;
use super::store::StoreOptions;
use std::ops::ControlFlow::Continue;
use std::path::Path;
use std::sync::Arc;
use understudy_actors::ports::{EventLog, OutcomeLog, PredictionLog, StoreError};
use understudy_domain::event::LoggedEvent;
use understudy_domain::prediction::{OutcomeRecord, PredictionId, PredictionRecord};
use xxhash_rust::xxh3::xxh3_128;

/// The directories of a store.
pub const PARTS: [&str; 4] = ["events", "predictions", "outcomes", "state"];

/// What reading a part served, and what was found wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Probe {
    /// Hash of every record that was served, in order.
    pub served: Vec<u128>,
    pub findings: Vec<String>,
}

fn hash(record: &impl serde::Serialize) -> u128 {
    xxh3_128(&serde_json::to_vec(record).unwrap_or_default())
}

/// Opens and reads the part; `Err` when it refuses to open, which is a finding too.
pub fn probe(root: &Path, part: &str, options: &StoreOptions) -> Result<Probe, OpenError> {
    let (health, mut report, mut served) = (Arc::new(Health::default()), OpenReport::default(), Vec::new());
    let read: Result<(), StoreError> = match part {
        "events" => {
            let log = SegmentedLog::<LoggedEvent>::open(root, options, health.clone(), &mut report)?;
            let read = log.scan(1, &mut |e| {
                served.push(hash(&e));
                Continue(())
            });
            log.close();
            read
        }
        "predictions" => {
            let log = SegmentedLog::<PredictionRecord>::open(root, options, health.clone(), &mut report)?;
            let read = log.scan(None, PredictionId(0), &mut |p| {
                served.push(hash(&p));
                Continue(())
            });
            log.close();
            read
        }
        "outcomes" => {
            let log = SegmentedLog::<OutcomeRecord>::open(root, options, health.clone(), &mut report)?;
            let read = log.scan(0, &mut |o| {
                served.push(hash(&o));
                Continue(())
            });
            log.close();
            read
        }
        _ => {
            let store = SledFeatures::open(root, options, &mut report)?;
            let read = store.visit(&mut |key, state| served.push(hash(&(key, state))));
            store.close();
            read
        }
    };
    let mut findings: Vec<String> = report.warnings.iter().map(ToString::to_string).collect();
    findings.extend(health.report().findings);
    findings.extend(read.err().map(|e| e.to_string()));
    Ok(Probe { served, findings })
}
