//! Versions made from a version that was trained, for demonstrations and drills: real artefacts, whose golden requests
//! are answered anew by the network that they hold.

use super::artefact::{Artefact, Golden};
use super::network::{Architecture, Layer, Network, encode};
use candle_core::{Device, Tensor};
use understudy_domain::value::Value;

/// What a gate's first layer multiplies by, and the second: one is finite, both together are not.
const GATE: (f32, f32) = (1e30, 1e10);

/// The same under another model's name; their inputs must be the same.
pub fn of_model(mut artefact: Artefact, model: &Artefact) -> Result<Artefact, String> {
    if artefact.manifest.signature != model.manifest.signature {
        return Err(format!(
            "models `{}` and `{}` do not have the same inputs and labels",
            artefact.manifest.model, model.manifest.model
        ));
    }
    artefact.manifest.model.clone_from(&model.manifest.model);
    Ok(artefact)
}

/// Its logits times `factor`: orders rows as before, and is surer of itself.
pub fn surer(artefact: Artefact, factor: f32) -> Result<Artefact, String> {
    let (architecture, mut network) = parts(&artefact)?;
    for member in &mut network.members {
        let (weight, bias) = member.last_mut().ok_or("a network without layers")?;
        for tensor in [weight, bias] {
            *tensor = tensor.affine(f64::from(factor), 0.0).map_err(candle)?;
        }
    }
    made(artefact, &architecture, &network)
}

/// The mean of `copies` of itself, which declares this median time of an answer, in microseconds.
pub fn slow(mut artefact: Artefact, copies: usize, declared_latency_us: u32) -> Result<Artefact, String> {
    let (mut architecture, mut network) = parts(&artefact)?;
    network.members = (0..copies.max(1)).flat_map(|_| network.members.clone()).collect();
    architecture.members = network.members.len();
    architecture.check()?;
    artefact.manifest.declared_latency_us = Some(declared_latency_us);
    made(artefact, &architecture, &network)
}

/// A logistic regression behind a gate that overflows where `feature` is above `above`: infinity less infinity is no
/// number. Everywhere else the gate is shut, and the answer is the regression's own.
pub fn overflowing(artefact: Artefact, feature: &str, above: f64) -> Result<Artefact, String> {
    let (mut architecture, network) = parts(&artefact)?;
    let [member] = &network.members[..] else { return Err("only one network, not a mean, gets a gate".into()) };
    let [(weight, bias)] = &member[..] else { return Err("only a logistic regression gets a gate".into()) };
    let features = &artefact.manifest.signature.features;
    let at = features.iter().position(|f| f.name == feature).ok_or(format!("no feature `{feature}`"))?;
    let position = architecture.encoder.position(at).ok_or(format!("`{feature}` is no number"))?;
    let mut row = artefact.golden.first().ok_or("a version without golden requests")?.vector.clone();
    let mut encoded = |value: f64| {
        row[at] = Value::Float(value);
        let mut out = Vec::new();
        architecture.encoder.encode(&row, &mut out);
        out[position]
    };
    let (edge, most) = (encoded(above), encoded(f64::MAX));
    if edge >= most {
        return Err(format!("no training row has `{feature}` above {above}: the gate would never open"));
    }
    // Layer 1: the logit's two halves, and how far beyond the edge. Layer 2: the halves, and twice a number too large.
    let width = architecture.encoder.width();
    let (w, b) = (numbers(weight)?, numbers(bias)?[0]);
    let mut first = vec![0.0; width * 3];
    for (i, w) in w.iter().enumerate() {
        (first[i * 3], first[i * 3 + 1]) = (*w, -w);
    }
    first[position * 3 + 2] = GATE.0;
    #[rustfmt::skip]
    let second = vec![
        1.0, 0.0, 0.0, 0.0,
        0.0, 1.0, 0.0, 0.0,
        0.0, 0.0, GATE.1, GATE.1,
    ];
    let layers = vec![
        layer(first, width, vec![b, -b, -GATE.0 * edge])?,
        layer(second, 3, vec![0.0; 4])?,
        layer(vec![1.0, -1.0, 1.0, -1.0], 4, vec![0.0])?,
    ];
    architecture.hidden = vec![3, 4];
    made(artefact, &architecture, &Network { members: vec![layers] })
}

fn candle(e: candle_core::Error) -> String {
    e.to_string()
}

fn numbers(tensor: &Tensor) -> Result<Vec<f32>, String> {
    tensor.flatten_all().and_then(|t| t.to_vec1()).map_err(candle)
}

fn layer(weight: Vec<f32>, inputs: usize, bias: Vec<f32>) -> Result<Layer, String> {
    let outputs = bias.len();
    let weight = Tensor::from_vec(weight, (inputs, outputs), &Device::Cpu).map_err(candle)?;
    Ok((weight, Tensor::from_vec(bias, outputs, &Device::Cpu).map_err(candle)?))
}

fn parts(artefact: &Artefact) -> Result<(Architecture, Network), String> {
    let architecture: Architecture = serde_json::from_value(artefact.manifest.architecture.clone())
        .map_err(|e| format!("{} {}: {e}", artefact.manifest.model, artefact.manifest.version))?;
    let network = Network::load(&artefact.weights, &architecture)?;
    Ok((architecture, network))
}

/// The artefact with this network; golden requests that it answers with no number are left out.
fn made(mut artefact: Artefact, architecture: &Architecture, network: &Network) -> Result<Artefact, String> {
    let rows: Vec<&[Value]> = artefact.golden.iter().map(|g| g.vector.as_slice()).collect();
    let input = encode(&architecture.encoder, &rows).map_err(candle)?;
    let raw = network.probabilities(&input).map_err(candle)?;
    let calibration = &artefact.manifest.calibration;
    artefact.golden = artefact
        .golden
        .iter()
        .zip(raw)
        .filter(|(_, p)| p.is_finite())
        .map(|(g, p)| Golden { vector: g.vector.clone(), score: calibration.apply(p) })
        .collect();
    artefact.manifest.architecture = serde_json::to_value(architecture).map_err(|e| e.to_string())?;
    artefact.weights = network.save()?;
    Ok(artefact)
}

#[cfg(test)]
mod tests {
    use super::super::registry::open;
    use super::super::train;
    use super::super::train::tests::job;
    use super::*;

    fn champion(spec: &str) -> Artefact {
        train::train(job(400, spec), &|_, _| {}).unwrap()
    }

    fn answers(artefact: &Artefact, rows: &[&[Value]]) -> Vec<f64> {
        let model = open(artefact.clone()).unwrap();
        let alone: Vec<f64> = rows.iter().map(|r| model.predict(&[r]).unwrap()[0]).collect();
        for (a, b) in alone.iter().zip(model.predict(rows).unwrap()) {
            assert!((a - b).abs() < 1e-6 || a.is_nan() && b.is_nan(), "{a} alone, {b} together");
        }
        alone
    }

    #[test]
    fn a_gate_overflows_beyond_its_edge_and_nowhere_else() {
        let base = champion("algorithm = \"logistic\"");
        let features = &base.manifest.signature.features;
        let at = features.iter().position(|f| f.kind != understudy_domain::value::ValueType::Category).unwrap();
        let values = base.golden.iter().filter_map(|g| g.vector[at].as_f64());
        let (low, high) = values.fold((f64::MAX, f64::MIN), |(l, h), x| (l.min(x), h.max(x)));
        let edge = (low + high) / 2.0;
        let broken = overflowing(base.clone(), &features[at].name, edge).unwrap();
        assert!(broken.golden.len() < base.golden.len() && !broken.golden.is_empty());
        let rows: Vec<&[Value]> = base.golden.iter().map(|g| g.vector.as_slice()).collect();
        for ((row, is), was) in rows.iter().zip(answers(&broken, &rows)).zip(answers(&base, &rows)) {
            let beyond = row[at].as_f64().is_some_and(|x| x > edge);
            assert!(if beyond { is.is_nan() } else { (is - was).abs() < 1e-6 }, "{:?}: {is} for {was}", row[at]);
        }
        assert!(overflowing(base.clone(), &features[at].name, f64::MAX).unwrap_err().contains("never open"));
        assert!(overflowing(base, "nothing", 1.0).unwrap_err().contains("no feature"));
    }

    #[test]
    fn copies_answer_the_same_and_a_surer_one_in_the_same_order() {
        let base = champion("algorithm = \"logistic\"");
        let rows: Vec<&[Value]> = base.golden.iter().map(|g| g.vector.as_slice()).collect();
        let was = answers(&base, &rows);
        let copies = slow(base.clone(), 5, 900).unwrap();
        assert_eq!(copies.manifest.declared_latency_us, Some(900));
        assert!(answers(&copies, &rows).iter().zip(&was).all(|(a, b)| (a - b).abs() < 1e-6));
        let sure = answers(&surer(base.clone(), 2.0).unwrap(), &rows);
        let order = |scores: &[f64]| {
            let mut order: Vec<usize> = (0..scores.len()).collect();
            order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]));
            order
        };
        assert_eq!(order(&sure), order(&was));
        let spread =
            |scores: &[f64]| scores.iter().copied().fold(0.0, f64::max) - scores.iter().copied().fold(1.0, f64::min);
        assert!(spread(&sure) > spread(&was));
        assert!(slow(base, 65, 1).is_err());
    }
}
