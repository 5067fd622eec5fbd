//! The built-in trainer: logistic regression and MLPs by Adam, in candle.
//!
//! The last `held_out` share of the rows by time decides when to stop and fits the calibration; the network
//! that is registered is then trained on all rows for the epochs found, because fresh rows are worth more
//! than a second look at the stopping point.

use super::artefact::{Artefact, Golden};
use super::network::{Architecture, Layer, Network, encode, forward};
use candle_core::{DType, Device, Tensor, Var};
use candle_nn::optim::{AdamW, Optimizer, ParamsAdamW};
use std::collections::BTreeMap;
use understudy_actors::ports::{Progress, TrainingJob};
use understudy_domain::calibrate::{Calibration, fit_isotonic, fit_platt};
use understudy_domain::encode::Encoder;
use understudy_domain::metrics;
use understudy_domain::model::{Manifest, Provenance};
use understudy_domain::profile::ReferenceProfile;
use understudy_domain::project::{Algorithm, CalibrationMethod, ClassWeight, TrainSpec};
use understudy_domain::value::Value;

/// Fewer rows than this are no training set.
const MIN_ROWS: usize = 50;
/// Golden requests recorded with a version.
const GOLDEN_ROWS: usize = 16;

/// SplitMix64 (Steele, Lea, Flood 2014): a small seeded generator for initial weights and shuffles.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in [-bound, bound).
    fn uniform(&mut self, bound: f64) -> f32 {
        ((self.next() >> 11) as f64 / (1u64 << 53) as f64 * 2.0 - 1.0) as f32 * bound as f32
    }

    fn shuffle(&mut self, items: &mut [u32]) {
        for i in (1..items.len()).rev() {
            items.swap(i, (self.next() % (i as u64 + 1)) as usize);
        }
    }
}

/// Encoded rows [n, width] with labels [n, 1] and weights [n, 1].
struct Data {
    x: Tensor,
    y: Tensor,
    w: Tensor,
    labels: Vec<bool>,
}

impl Data {
    fn new(encoder: &Encoder, rows: &[&[Value]], labels: &[bool], weighting: ClassWeight) -> candle_core::Result<Data> {
        let n = labels.len();
        let positives = labels.iter().filter(|l| **l).count().max(1);
        let weight = |label: bool| match weighting {
            ClassWeight::None => 1.0,
            ClassWeight::Balanced => n as f32 / 2.0 / if label { positives } else { (n - positives).max(1) } as f32,
        };
        let column = |f: &dyn Fn(bool) -> f32| {
            Tensor::from_vec(labels.iter().map(|l| f(*l)).collect::<Vec<f32>>(), (n, 1), &Device::Cpu)
        };
        Ok(Data {
            x: encode(encoder, rows)?,
            y: column(&|l| f32::from(u8::from(l)))?,
            w: column(&weight)?,
            labels: labels.to_vec(),
        })
    }

    fn part(&self, from: usize, to: usize) -> candle_core::Result<Data> {
        let cut = |t: &Tensor| t.narrow(0, from, to - from)?.contiguous();
        Ok(Data { x: cut(&self.x)?, y: cut(&self.y)?, w: cut(&self.w)?, labels: self.labels[from..to].to_vec() })
    }
}

/// One network in training.
struct Member {
    /// Embedding matrices by category feature: (first input position, vocabulary, matrix).
    embeddings: Vec<(usize, usize, Var)>,
    layers: Vec<(Var, Var)>,
    optimizer: AdamW,
    random: SplitMix,
}

impl Member {
    fn new(architecture: &Architecture, spec: &TrainSpec, seed: u64) -> candle_core::Result<Member> {
        let mut random = SplitMix(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let mut matrix = |i: usize, o: usize| {
            let bound = (6.0 / (i + o) as f64).sqrt(); // Glorot and Bengio 2010
            Var::from_vec((0..i * o).map(|_| random.uniform(bound)).collect::<Vec<f32>>(), (i, o), &Device::Cpu)
        };
        let categories = if spec.embedding > 0 && !architecture.hidden.is_empty() {
            architecture.encoder.categories()
        } else {
            Vec::new()
        };
        let mut inputs = architecture.encoder.width();
        let mut embeddings = Vec::new();
        for (at, size) in categories.into_iter().filter(|(_, size)| *size > 0) {
            inputs = inputs - size + spec.embedding;
            embeddings.push((at, size, matrix(size, spec.embedding)?));
        }
        let mut layers = Vec::new();
        for (l, (i, o)) in architecture.layers().into_iter().enumerate() {
            let i = if l == 0 { inputs } else { i };
            let weight = if architecture.hidden.is_empty() {
                Var::zeros((i, o), DType::F32, &Device::Cpu)?
            } else {
                matrix(i, o)?
            };
            layers.push((weight, Var::zeros(o, DType::F32, &Device::Cpu)?));
        }
        let vars = layers
            .iter()
            .flat_map(|(w, b)| [w.clone(), b.clone()])
            .chain(embeddings.iter().map(|e| e.2.clone()))
            .collect();
        let settings = ParamsAdamW { lr: spec.learning_rate, weight_decay: spec.l2, ..ParamsAdamW::default() };
        Ok(Member { embeddings, layers, optimizer: AdamW::new(vars, settings)?, random })
    }

    fn logits(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let layers: Vec<Layer> =
            self.layers.iter().map(|(w, b)| (w.as_tensor().clone(), b.as_tensor().clone())).collect();
        if self.embeddings.is_empty() {
            return forward(&layers, x);
        }
        let mut parts = Vec::new();
        let mut done = 0;
        for (at, size, matrix) in &self.embeddings {
            if *at > done {
                parts.push(x.narrow(1, done, at - done)?);
            }
            parts.push(x.narrow(1, *at, *size)?.contiguous()?.matmul(matrix)?);
            done = at + size;
        }
        if done < x.dim(1)? {
            parts.push(x.narrow(1, done, x.dim(1)? - done)?);
        }
        forward(&layers, &Tensor::cat(&parts, 1)?)
    }

    /// One pass over the rows in a new order.
    fn epoch(&mut self, data: &Data, spec: &TrainSpec) -> candle_core::Result<()> {
        let mut order: Vec<u32> = (0..data.labels.len() as u32).collect();
        self.random.shuffle(&mut order);
        for batch in order.chunks(spec.batch.max(1)) {
            let index = Tensor::from_slice(batch, batch.len(), &Device::Cpu)?;
            let (x, y, w) =
                (data.x.index_select(&index, 0)?, data.y.index_select(&index, 0)?, data.w.index_select(&index, 0)?);
            let z = self.logits(&x)?;
            // max(z,0) - z*y + ln(1 + exp(-|z|)): log loss on logits without overflow.
            let loss = ((z.relu()? - (&z * &y)?)? + (z.abs()?.neg()?.exp()? + 1.0)?.log()?)?;
            self.optimizer.backward_step(&(loss * w)?.mean_all()?)?;
        }
        Ok(())
    }

    fn probabilities(&self, x: &Tensor) -> candle_core::Result<Vec<f64>> {
        let z = self.logits(x)?.flatten_all()?.to_vec1::<f32>()?;
        Ok(z.into_iter().map(|z| 1.0 / (1.0 + (-f64::from(z)).exp())).collect())
    }

    /// The finished layers; embeddings are multiplied into the first layer, so serving is one matrix.
    fn finish(self, width: usize) -> candle_core::Result<Vec<Layer>> {
        let mut layers: Vec<Layer> =
            self.layers.iter().map(|(w, b)| (w.as_tensor().detach(), b.as_tensor().detach())).collect();
        if self.embeddings.is_empty() {
            return Ok(layers);
        }
        let first = layers[0].0.clone();
        let (mut rows, mut from, mut to) = (Vec::new(), 0, 0);
        for (at, size, matrix) in &self.embeddings {
            if *at > to {
                rows.push(first.narrow(0, from, at - to)?);
                from += at - to;
            }
            let d = matrix.dim(1)?;
            rows.push(matrix.as_tensor().detach().matmul(&first.narrow(0, from, d)?.contiguous()?)?);
            from += d;
            to = at + size;
        }
        if to < width {
            rows.push(first.narrow(0, from, width - to)?);
        }
        layers[0].0 = Tensor::cat(&rows, 0)?.contiguous()?;
        Ok(layers)
    }
}

/// Trains, calibrates and describes a version; nothing is written here.
pub fn train(job: TrainingJob, version: String, progress: Progress<'_>) -> Result<Artefact, String> {
    let labels: Vec<bool> = job.rows.iter().map(|r| r.label).collect();
    let positives = labels.iter().filter(|l| **l).count();
    if labels.len() < MIN_ROWS || positives == 0 || positives == labels.len() {
        return Err(format!(
            "{} labelled rows, {positives} of them positive: at least {MIN_ROWS} with both labels are needed",
            labels.len()
        ));
    }
    let rows: Vec<&[Value]> = job.rows.iter().map(|r| r.vector.as_slice()).collect();
    let spec = &job.spec;
    let hidden = if spec.algorithm == Algorithm::Mlp { spec.hidden.clone() } else { Vec::new() };
    let members = if spec.algorithm == Algorithm::Mlp { spec.members.max(1) } else { 1 };
    let architecture = Architecture { hidden, members, encoder: Encoder::fit(&job.signature, &rows) };
    let fitted = fit(&architecture, spec, &rows, &labels, progress).map_err(|e| format!("training: {e}"))?;

    let encoded = encode(&architecture.encoder, &rows).map_err(|e| e.to_string())?;
    let scores: Vec<f64> = fitted
        .network
        .probabilities(&encoded)
        .map_err(|e| e.to_string())?
        .into_iter()
        .map(|p| fitted.calibration.apply(p))
        .collect();
    let step = (rows.len() / GOLDEN_ROWS).max(1);
    let golden = (0..rows.len())
        .step_by(step)
        .take(GOLDEN_ROWS)
        .map(|i| Golden { vector: rows[i].to_vec(), score: scores[i] })
        .collect();
    let manifest = Manifest {
        manifest_version: 1,
        model: job.model,
        version,
        runtime: "candle".into(),
        architecture: serde_json::to_value(&architecture).map_err(|e| e.to_string())?,
        feature_set: job.feature_set,
        calibration: fitted.calibration,
        threshold: job.threshold,
        provenance: Provenance {
            created: job.created,
            algorithm: if spec.algorithm == Algorithm::Mlp { "mlp" } else { "logistic" }.into(),
            seed: spec.seed,
            rows: rows.len() as u64,
            positive_share: positives as f64 / rows.len() as f64,
            from: job.rows[0].time,
            until: job.rows[job.rows.len() - 1].time,
            held_out: fitted.held_out,
        },
        files: Vec::new(),
        signature: job.signature.clone(),
    };
    let profile = ReferenceProfile::build(&job.signature, rows.iter().copied(), &scores);
    Ok(Artefact { manifest, weights: fitted.network.save()?, profile, golden })
}

struct Fitted {
    network: Network,
    calibration: Calibration,
    held_out: BTreeMap<String, f64>,
}

fn fit(
    architecture: &Architecture,
    spec: &TrainSpec,
    rows: &[&[Value]],
    labels: &[bool],
    progress: Progress<'_>,
) -> candle_core::Result<Fitted> {
    let all = Data::new(&architecture.encoder, rows, labels, spec.class_weight)?;
    let n = labels.len();
    let cut = n - ((n as f64 * spec.held_out.clamp(0.05, 0.5)) as usize).max(1);
    let (early, late) = (all.part(0, cut)?, all.part(cut, n)?);
    let steps = (architecture.members * 2) as f32;
    let mut held = vec![0.0; n - cut];
    let mut trained = Vec::new();
    for m in 0..architecture.members {
        let seed = spec.seed + m as u64;
        let mut member = Member::new(architecture, spec, seed)?;
        let (mut best, mut epochs, mut scores) = (f64::INFINITY, 1, Vec::new());
        for epoch in 1..=spec.max_epochs.max(1) {
            member.epoch(&early, spec)?;
            let now = member.probabilities(&late.x)?;
            let loss = metrics::log_loss(&now, &late.labels);
            progress(
                (m as f32 * 2.0 + epoch as f32 / spec.max_epochs.max(1) as f32) / steps,
                &format!("member {}/{} epoch {epoch}: held-out log loss {loss:.4}", m + 1, architecture.members),
            );
            if loss < best {
                (best, epochs, scores) = (loss, epoch, now);
            } else if epoch - epochs >= spec.patience.max(1) {
                break;
            }
        }
        for (sum, p) in held.iter_mut().zip(scores) {
            *sum += p / architecture.members as f64;
        }
        let mut final_member = Member::new(architecture, spec, seed)?;
        for epoch in 1..=epochs {
            final_member.epoch(&all, spec)?;
            progress(
                (m as f32 * 2.0 + 1.0 + epoch as f32 / epochs as f32) / steps,
                &format!("member {}/{} on all rows: epoch {epoch}/{epochs}", m + 1, architecture.members),
            );
        }
        trained.push(final_member.finish(architecture.encoder.width())?);
    }
    let calibration = match spec.calibration {
        CalibrationMethod::None => Calibration::None,
        CalibrationMethod::Platt => fit_platt(&held, &late.labels),
        CalibrationMethod::Isotonic => fit_isotonic(&held, &late.labels),
    };
    let mut figures = BTreeMap::from([
        ("log_loss".to_owned(), metrics::log_loss(&held, &late.labels)),
        ("brier".to_owned(), metrics::brier(&held, &late.labels)),
        ("ece".to_owned(), metrics::ece(&held, &late.labels, 10)),
        ("rows".to_owned(), held.len() as f64),
    ]);
    if let Some(auc) = metrics::auc(&held, &late.labels) {
        figures.insert("auc".into(), auc);
    }
    Ok(Fitted { network: Network { members: trained }, calibration, held_out: figures })
}
