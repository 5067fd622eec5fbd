//! What a graph with one tree ensemble means: what leads to the ensemble, and what is done to its scores until the
//! graph's output. Operators that change numbers in ways not listed here are refused by name.

use super::super::{Answer, Forest, Precision, Step};
use super::onnx::{DOUBLE, FLOAT, Graph, Operator};
use super::onnx_ensemble;

pub fn forest(graph: &Graph<'_>) -> Result<Forest, String> {
    let ensembles: Vec<&Operator<'_>> = graph.nodes.iter().filter(|n| n.op.starts_with("TreeEnsemble")).collect();
    let ensemble = match ensembles.as_slice() {
        [one] => *one,
        [] => return Err("the graph has no TreeEnsemble operator; networks are another format".into()),
        many => return Err(format!("the graph has {} tree ensembles; one is read", many.len())),
    };
    let (element, features) = input(graph, ensemble)?;
    let precision = if element == DOUBLE { Precision::Double } else { Precision::Single };
    let mut forest = onnx_ensemble::forest(ensemble, precision, features)?;
    let scores = ensemble.outputs.get(if ensemble.op == "TreeEnsembleClassifier" { 1 } else { 0 });
    let scores = scores.filter(|name| !name.is_empty()).ok_or("the ensemble's scores have no name")?;
    steps(graph, scores, &mut forest)?;
    Ok(forest)
}

/// Element type of the numbers that the ensemble gets, and how many the graph's input says they are.
fn input(graph: &Graph<'_>, ensemble: &Operator<'_>) -> Result<(i64, Option<usize>), String> {
    let mut name = *ensemble.inputs.first().ok_or("the ensemble has no input")?;
    let mut cast = None;
    // A graph has no cycles; a file that claims one ends here.
    for _ in 0..=graph.nodes.len() {
        if let Some(input) = graph.inputs.iter().find(|i| i.name == name) {
            let width = input.shape.last().and_then(|n| usize::try_from(*n).ok()).filter(|n| *n > 0);
            let element = cast.unwrap_or(input.element);
            if element != FLOAT && element != DOUBLE {
                return Err(format!("input `{name}` has element type {element}; float and double are read"));
            }
            return Ok((element, width.filter(|_| input.shape.len() == 2)));
        }
        let node = graph.nodes.iter().find(|n| n.outputs.contains(&name));
        let node = node.ok_or_else(|| format!("`{name}` is the output of nothing"))?;
        match node.op {
            "Identity" => {}
            // The last one before the ensemble decides, but only a wider type keeps the digits.
            "Cast" => {
                let to = node.integer("to")?.unwrap_or(0);
                cast = Some(cast.map_or(to, |c: i64| c.min(to)));
            }
            op => return Err(format!("operator `{op}` before the trees; do its work in the features")),
        }
        name = *node.inputs.first().ok_or("an operator without input")?;
    }
    Err("the graph goes in a circle".into())
}

/// Follows the scores to the graph's output.
fn steps(graph: &Graph<'_>, scores: &str, forest: &mut Forest) -> Result<(), String> {
    let mut name = scores;
    for _ in 0..=graph.nodes.len() {
        let mut users = graph.nodes.iter().filter(|n| n.inputs.contains(&name));
        let Some(node) = users.next() else {
            if graph.outputs.contains(&name) {
                return Ok(());
            }
            return Err(format!("the scores `{name}` lead to no output of the graph"));
        };
        if graph.outputs.contains(&name) || users.next().is_some() {
            return Err(format!("the scores `{name}` are used more than once"));
        }
        step(graph, node, name, forest)?;
        name = *node.outputs.first().ok_or("an operator without output")?;
    }
    Err("the graph goes in a circle".into())
}

fn step(graph: &Graph<'_>, node: &Operator<'_>, name: &str, forest: &mut Forest) -> Result<(), String> {
    let op = node.op;
    let step = match op {
        "Identity" | "ZipMap" | "Reshape" => return Ok(()),
        "Cast" => match node.integer("to")? {
            Some(FLOAT | DOUBLE) => return Ok(()),
            to => return Err(format!("the scores are cast to type {}", to.unwrap_or(0))),
        },
        "Exp" => Step::Exp,
        "Sigmoid" => Step::Logistic { k: 1.0 },
        "Softmax" => Step::Softmax,
        "Normalizer" if node.string("norm")? == Some("L1") => Step::L1,
        "Mul" | "Div" | "Add" | "Sub" => {
            let first = node.inputs.first() == Some(&name);
            let other = node.inputs.get(usize::from(first)).copied().unwrap_or("");
            let constant = graph.initializers.iter().find(|t| t.name == other).map(|t| t.floats()).transpose()?;
            let Some([c]) = constant.as_deref() else {
                return Err(format!("operator `{op}` on the scores with something that is no constant number"));
            };
            match (op, first) {
                ("Mul", _) => Step::Linear { a: *c, b: 0.0 },
                ("Add", _) => Step::Linear { a: 1.0, b: *c },
                ("Div", true) => Step::Linear { a: 1.0 / c, b: 0.0 },
                ("Sub", true) => Step::Linear { a: 1.0, b: -c },
                ("Sub", false) => Step::Linear { a: -1.0, b: *c },
                _ => return Err("operator `Div` by the scores".into()),
            }
        }
        _ => return Err(format!("operator `{op}` on the scores is not known")),
    };
    // What is done to a regressor's scores makes no classes of them.
    if forest.answer == Answer::Values && step == (Step::Logistic { k: 1.0 }) && forest.outputs == 1 {
        forest.answer = Answer::Binary;
    }
    forest.steps.push(step);
    Ok(())
}
