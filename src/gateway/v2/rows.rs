//! From tensors, one per feature, to rows in the order of the signature.

use super::request::{Infer, Input};
use super::{datatype, tensor};
use crate::gateway::error::Fault;
use crate::gateway::json::{Object, Whole};
use std::collections::HashMap;
use understudy_domain::model::{Signature, SignatureFeature};
use understudy_domain::problem::closest;
use understudy_domain::value::{Value, ValueType};

/// `raw` is what follows the JSON head: the bytes of the binary inputs, in their order.
pub fn rows(infer: &Infer, raw: &[u8], signature: &Signature, max_rows: usize) -> Result<Vec<Vec<Value>>, Fault> {
    let mut columns: HashMap<&str, Vec<Value>> = HashMap::new();
    let (mut rest, mut count) = (raw, None);
    for Object(input) in &infer.inputs {
        let names = || signature.features.iter().map(|f| f.name.as_str());
        if !names().any(|n| n == input.name) {
            let hint = closest(&input.name, names()).map(|n| format!("; did you mean `{n}`?")).unwrap_or_default();
            return Err(Fault::unprocessable(
                "unknown_input",
                format!("input `{}` is not one of the model{hint}", input.name),
            ));
        }
        let n = length(input)?;
        if n > max_rows {
            return Err(Fault::too_large("too_many_instances", format!("{n} rows; at most {max_rows} in one request")));
        }
        let expected = *count.get_or_insert(n);
        if n != expected {
            return Err(wrong(input, format!("{n} rows, but the inputs before it have {expected}")));
        }
        let column = column(input, n, &mut rest)?;
        if columns.insert(&input.name, column).is_some() {
            return Err(wrong(input, "given more than once".into()));
        }
    }
    if !rest.is_empty() {
        return Err(Fault::unprocessable(
            "invalid_tensor",
            format!("{} bytes after the last binary input", rest.len()),
        ));
    }
    let mut ordered = Vec::with_capacity(signature.features.len());
    for feature in &signature.features {
        let column = columns.remove(feature.name.as_str()).ok_or_else(|| {
            let kind = datatype(feature.kind);
            Fault::unprocessable(
                "missing_input",
                format!("input `{}` ({kind}) is missing; every feature needs one", feature.name),
            )
        })?;
        ordered.push((feature, column.into_iter()));
    }
    let mut rows = Vec::new();
    for i in 0..count.unwrap_or(0) {
        let mut row = Vec::with_capacity(ordered.len());
        for (feature, column) in &mut ordered {
            row.push(fit(column.next().unwrap_or_default(), feature, i)?);
        }
        rows.push(row);
    }
    match rows.is_empty() {
        true => Err(Fault::unprocessable(
            "invalid_tensor",
            "no rows; expected tensors of shape [n] or [n, 1], n at least 1",
        )),
        false => Ok(rows),
    }
}

fn wrong(input: &Input, what: String) -> Fault {
    Fault::unprocessable("invalid_tensor", format!("input `{}`: {what}", input.name))
}

fn length(input: &Input) -> Result<usize, Fault> {
    match input.shape[..] {
        [Whole(n)] | [Whole(n), Whole(1)] if n <= u64::from(u32::MAX) => Ok(n as usize),
        _ => {
            let shape: Vec<u64> = input.shape.iter().map(|n| n.0).collect();
            Err(wrong(input, format!("shape {shape:?}; expected [n] or [n, 1]")))
        }
    }
}

fn column(input: &Input, n: usize, rest: &mut &[u8]) -> Result<Vec<Value>, Fault> {
    tensor::width(&input.datatype)?;
    match (&input.data, input.parameters.as_ref().and_then(|p| p.0.binary_data_size)) {
        (Some(data), None) if data.0.len() == n => Ok(data.0.clone()),
        (Some(data), None) => Err(wrong(input, format!("{} elements in `data`; its shape says {n}", data.0.len()))),
        (None, Some(Whole(size))) => match usize::try_from(size).ok().and_then(|n| rest.split_at_checked(n)) {
            Some((own, after)) => {
                *rest = after;
                tensor::decode(&input.name, &input.datatype, n, own)
            }
            None => Err(wrong(input, format!("binary_data_size is {size}, but only {} bytes are left", rest.len()))),
        },
        (Some(_), Some(_)) => Err(wrong(input, "both `data` and `binary_data_size`".into())),
        (None, None) => Err(wrong(input, "neither `data` nor `parameters.binary_data_size`".into())),
    }
}

/// The value as the feature's type. Whether null may stand there is the rules' business.
fn fit(value: Value, feature: &SignatureFeature, row: usize) -> Result<Value, Fault> {
    let fitted = match (&value, feature.kind) {
        (Value::Null, _) | (Value::Text(_), ValueType::Category) | (Value::Bool(_), ValueType::Bool) => {
            Some(value.clone())
        }
        (Value::Int(_), ValueType::Int) => Some(value.clone()),
        (v, ValueType::Float) => v.as_f64().map(Value::Float),
        (Value::Bool(b), ValueType::Int) => Some(Value::Int(i64::from(*b))),
        // Exact below 2^53, where every whole float is an integer of its own.
        (Value::Float(f), ValueType::Int) if f.fract() == 0.0 && f.abs() < 9_007_199_254_740_992.0 => {
            Some(Value::Int(*f as i64))
        }
        (v, ValueType::Bool) => match v.as_f64() {
            Some(0.0) => Some(Value::Bool(false)),
            Some(1.0) => Some(Value::Bool(true)),
            _ => None,
        },
        _ => None,
    };
    fitted.ok_or_else(|| {
        let detail = format!("input `{}`, row {row}: {value} is not a {}", feature.name, datatype(feature.kind));
        Fault::unprocessable("invalid_tensor", detail)
    })
}
