//! Copies of requests that a candidate answers and nobody hears: off the answer path, through a queue of its own to a
//! thread of its own. When the queue is full a copy is dropped and counted; only while a recorded stream is the clock
//! does the sender wait, so that a replay copies the same requests at any speed.

use crate::model_host::{Scored, Scoring};
use crate::model_pool::LoadedModel;
use crate::prediction_logger::{LogShadow, PredictionLogger};
use actix::Addr;
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::oneshot;
use understudy_domain::evidence::{Grid, Mixture, Side, threshold};
use understudy_domain::fixed_hash;
use understudy_domain::prediction::{Placement, PredictionId, PredictionRecord, ServedArm};
use understudy_domain::rollout::{ShadowReport, Share};
use understudy_domain::route;
use understudy_domain::value::Value;

/// Copies that wait for the candidate.
const QUEUE: usize = 512;
/// Pairs that wait for their outcome.
const MAX_PAIRS: usize = 500_000;

struct Copy {
    record: Arc<PredictionRecord>,
    values: Vec<Value>,
}

enum Job {
    Copy(Box<Copy>),
    Flush(oneshot::Sender<()>),
}

/// Where copies go.
pub struct ShadowTap {
    pub loaded: Arc<LoadedModel>,
    /// Scores at or above it are the positive label.
    threshold: f64,
    share: Share,
    salt: String,
    waits: bool,
    queue: SyncSender<Job>,
    compared: Arc<Mutex<Compared>>,
    /// Copied in an earlier life of the process; a recorded stream may bring these requests again.
    given: Mutex<HashSet<PredictionId>>,
}

/// What the copies showed.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ShadowComparison {
    pub version: String,
    pub answers: u64,
    /// Copies that the candidate had no time for.
    pub dropped: u64,
    pub errors: u64,
    pub contract_violations: u64,
    pub non_finite: u64,
    /// Answers with another label than the champion's.
    pub disagreements: u64,
    pub mean_score_distance: f64,
    pub max_score_distance: f64,
    /// Of the model alone.
    pub mean_champion_us: f64,
    pub mean_candidate_us: f64,
    /// On copies whose outcome came: the same requests, answered by both.
    pub pairs: u64,
    /// Mean of the candidate's squared error less the champion's.
    pub loss_difference: f64,
    /// Its standard error.
    pub loss_difference_se: f64,
    /// Pairs where the candidate's squared error is larger, of those where they differ.
    pub worse: u64,
    pub better: u64,
    /// Against "worse as often as better": the candidate is worse (or better) in more than half of the pairs. Natural
    /// logarithms; ln 20 = 3.0 is evidence at 5 %, valid at every look.
    pub log_e_worse: f64,
    pub log_e_better: f64,
    pub evidence_at: f64,
}

#[derive(Default)]
struct Compared {
    seen: ShadowComparison,
    distance: f64,
    /// Answers of this life of the process: how long others took is not kept.
    timed: u64,
    champion_us: f64,
    candidate_us: f64,
    pairs: HashMap<PredictionId, (f64, f64)>,
    sum: f64,
    squares: f64,
}

impl Compared {
    /// Two answers to one request.
    fn pair(&mut self, record: &PredictionRecord, score: f64) {
        let distance = (score - record.score).abs();
        self.distance += distance;
        self.seen.max_score_distance = self.seen.max_score_distance.max(distance);
        if self.pairs.len() < MAX_PAIRS {
            self.pairs.insert(record.id, (record.score, score));
        }
    }
}

impl ShadowTap {
    /// Starts the thread; it ends when the tap is dropped.
    pub fn start(
        loaded: Arc<LoadedModel>,
        share: Share,
        salt: String,
        threshold: f64,
        waits: bool,
        logger: Addr<PredictionLogger>,
    ) -> Result<Arc<ShadowTap>, String> {
        let (queue, jobs) = sync_channel(QUEUE);
        let compared = Arc::<Mutex<Compared>>::default();
        let seen = ShadowComparison { version: loaded.version.to_string(), ..ShadowComparison::default() };
        compared.lock().unwrap_or_else(PoisonError::into_inner).seen = seen;
        let tap = ShadowTap {
            loaded: loaded.clone(),
            threshold,
            share,
            salt,
            waits,
            queue,
            compared: compared.clone(),
            given: Mutex::default(),
        };
        std::thread::Builder::new()
            .name(format!("shadow-{}", loaded.version))
            .spawn(move || run(&jobs, &loaded, threshold, share, &compared, &logger))
            .map_err(|e| format!("no thread for shadow answers: {e}"))?;
        Ok(Arc::new(tap))
    }

    /// Whether this request is copied.
    pub fn takes(&self, record: &PredictionRecord, unit: &str) -> bool {
        record.placement.arm == ServedArm::Baseline && u32::from(route::slot(&self.salt, unit)) < self.share.0
    }

    /// Its vector can be used as it is.
    pub fn same_inputs(&self, signature: &understudy_domain::model::Signature) -> bool {
        self.loaded.signature.features == signature.features
    }

    /// A copy with the candidate's own vector.
    pub fn offer(&self, record: Arc<PredictionRecord>, values: Vec<Value>) {
        if self.waits && self.given.lock().unwrap_or_else(PoisonError::into_inner).remove(&record.id) {
            return;
        }
        self.send(record, values);
    }

    /// Goes on where an earlier life of the process ended: what was reported last, the pairs that it rests on, and the
    /// requests since then, which are copied again.
    pub fn resume(
        &self,
        reported: &ShadowReport,
        pairs: &[(PredictionRecord, f64)],
        since: Vec<Arc<PredictionRecord>>,
    ) {
        let mut c = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        (c.seen.answers, c.seen.errors) = (reported.answers, reported.errors);
        (c.seen.contract_violations, c.seen.non_finite) = (reported.contract_violations, reported.non_finite);
        c.seen.disagreements = reported.disagreements;
        for (record, score) in pairs {
            c.pair(record, *score);
        }
        drop(c);
        self.given.lock().unwrap_or_else(PoisonError::into_inner).extend(since.iter().map(|r| r.id));
        for record in since {
            let values = record.vector.clone();
            self.send(record, values);
        }
    }

    fn send(&self, record: Arc<PredictionRecord>, values: Vec<Value>) {
        let job = Job::Copy(Box::new(Copy { record, values }));
        let sent = if self.waits { self.queue.send(job).is_ok() } else { !self.full(job) };
        if !sent {
            self.compared.lock().unwrap_or_else(PoisonError::into_inner).seen.dropped += 1;
        }
    }

    fn full(&self, job: Job) -> bool {
        matches!(self.queue.try_send(job), Err(TrySendError::Full(_) | TrySendError::Disconnected(_)))
    }

    /// Resolves when all copies offered so far are answered.
    pub fn flushed(&self) -> oneshot::Receiver<()> {
        let (done, flushed) = oneshot::channel();
        let _ = if self.waits {
            self.queue.send(Job::Flush(done)).is_ok()
        } else {
            self.queue.try_send(Job::Flush(done)).is_ok()
        };
        flushed
    }

    /// The outcome of a request, for its pair.
    pub fn on_outcome(&self, id: PredictionId, label: Option<bool>) {
        let mut c = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some((champion, candidate)), Some(label)) = (c.pairs.remove(&id), label) else { return };
        let y = f64::from(u8::from(label));
        let difference = (candidate - y).powi(2) - (champion - y).powi(2);
        c.seen.pairs += 1;
        (c.sum, c.squares) = (c.sum + difference, c.squares + difference * difference);
        c.seen.worse += u64::from(difference > 0.0);
        c.seen.better += u64::from(difference < 0.0);
    }

    pub fn threshold(&self) -> f64 {
        self.threshold
    }

    pub fn report(&self) -> ShadowReport {
        let c = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        ShadowReport {
            answers: c.seen.answers,
            errors: c.seen.errors,
            contract_violations: c.seen.contract_violations,
            non_finite: c.seen.non_finite,
            disagreements: c.seen.disagreements,
        }
    }

    pub fn comparison(&self) -> ShadowComparison {
        let c = self.compared.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen = c.seen.clone();
        let good = (seen.answers - seen.errors.min(seen.answers)).max(1) as f64;
        seen.mean_score_distance = c.distance / good;
        let timed = c.timed.max(1) as f64;
        (seen.mean_champion_us, seen.mean_candidate_us) = (c.champion_us / timed, c.candidate_us / timed);
        let n = seen.pairs as f64;
        if seen.pairs > 1 {
            seen.loss_difference = c.sum / n;
            seen.loss_difference_se = ((c.squares / n - seen.loss_difference.powi(2)).max(0.0) / (n - 1.0)).sqrt();
        }
        let half = |side| Mixture::of_share(0.5, 1.0, side, Grid::Fine).log_e(seen.worse, seen.better);
        (seen.log_e_worse, seen.log_e_better) = (half(Side::Above), half(Side::Below));
        seen.evidence_at = threshold(0.05);
        seen
    }
}

fn run(
    jobs: &Receiver<Job>,
    loaded: &LoadedModel,
    threshold: f64,
    share: Share,
    compared: &Mutex<Compared>,
    logger: &Addr<PredictionLogger>,
) {
    while let Ok(job) = jobs.recv() {
        let Copy { record, values } = match job {
            Job::Copy(copy) => *copy,
            Job::Flush(done) => {
                let _ = done.send(());
                continue;
            }
        };
        let began = Instant::now();
        let scored = catch_unwind(AssertUnwindSafe(|| score(loaded, vec![values])));
        let took = began.elapsed().as_micros() as f64;
        let mut c = compared.lock().unwrap_or_else(PoisonError::into_inner);
        c.seen.answers += 1;
        match scored.unwrap_or(Err(Fault::Error)) {
            Err(fault) => {
                c.seen.errors += 1;
                c.seen.contract_violations += u64::from(fault == Fault::Contract);
                c.seen.non_finite += u64::from(fault == Fault::NonFinite);
            }
            Ok((score, vector)) => {
                c.pair(&record, score);
                c.timed += 1;
                c.seen.disagreements += u64::from((score >= threshold) != (record.score >= threshold));
                c.champion_us += f64::from(record.timing.model_us);
                c.candidate_us += took;
                drop(c);
                logger.do_send(LogShadow {
                    record: Arc::new(shadow_record(&record, loaded, share, threshold, score, vector)),
                });
            }
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    Contract,
    NonFinite,
    Error,
}

fn score(loaded: &LoadedModel, rows: Vec<Vec<Value>>) -> Result<(f64, Vec<Value>), Fault> {
    use crate::api::{ModelFault, Refusal};
    let fault = |refusal: Refusal| match refusal {
        Refusal::Model { fault: ModelFault::Shape, .. } => Fault::Contract,
        Refusal::Model { fault: ModelFault::NotFinite, .. } => Fault::NonFinite,
        _ => Fault::Error,
    };
    let Scored { mut rows, scores } = match loaded.host.predict(rows).map_err(fault)? {
        Scoring::Done(scored) => scored,
        Scoring::Later(later) => later.blocking_recv().map_err(|_| Fault::Error)?.map_err(fault)?,
    };
    Ok((scores[0], rows.swap_remove(0)))
}

/// The id of a candidate's answer to this request.
pub fn shadow_id(of: &PredictionRecord, version: &str) -> PredictionId {
    let entropy = fixed_hash::of_parts([&b"shadow"[..], &of.id.0.to_le_bytes(), version.as_bytes()]);
    PredictionId::new(of.time, entropy)
}

/// The candidate's answer as it is stored: under an id of its own that follows from the request's.
fn shadow_record(
    of: &PredictionRecord,
    loaded: &LoadedModel,
    share: Share,
    threshold: f64,
    score: f64,
    vector: Vec<Value>,
) -> PredictionRecord {
    let positive = score >= threshold;
    let signature = &loaded.signature;
    let label = if positive { &signature.positive_label } else { &signature.negative_label };
    PredictionRecord {
        id: shadow_id(of, &loaded.version),
        version: loaded.version.to_string(),
        placement: Placement {
            arm: ServedArm::Shadow,
            slot: of.placement.slot,
            weight: share.0 as u16,
            segment: None,
            instead: false,
        },
        request_id: None,
        ages: vec![None; vector.len()],
        vector,
        score,
        label: label.clone(),
        confidence: if positive { score } else { 1.0 - score },
        findings: Vec::new(),
        ..of.clone()
    }
}
