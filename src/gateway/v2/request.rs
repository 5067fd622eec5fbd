//! The JSON head of an infer request, and where its raw bytes begin. Unknown members are tolerated:
//! clients send their own.

use super::tensor::Data;
use crate::gateway::error::Fault;
use crate::gateway::json::{self as strict, Object, Whole, present};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub struct Infer {
    #[serde(default)]
    pub id: Option<String>,
    #[serde(default, deserialize_with = "present")]
    pub parameters: Option<Object<Parameters>>,
    pub inputs: Vec<Object<Input>>,
    #[serde(default, deserialize_with = "present")]
    pub outputs: Option<Vec<Object<Output>>>,
}

/// Those parameters that we know.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Parameters {
    #[serde(default, deserialize_with = "present")]
    pub binary_data_output: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    pub binary_data: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    pub binary_data_size: Option<Whole>,
}

#[derive(Debug, Deserialize)]
pub struct Input {
    pub name: String,
    pub shape: Vec<Whole>,
    pub datatype: String,
    #[serde(default, deserialize_with = "present")]
    pub parameters: Option<Object<Parameters>>,
    #[serde(default, deserialize_with = "present")]
    pub data: Option<Data>,
}

#[derive(Debug, Deserialize)]
pub struct Output {
    pub name: String,
    #[serde(default, deserialize_with = "present")]
    pub parameters: Option<Object<Parameters>>,
}

/// The head and the raw bytes after it; `header` is the value of `Inference-Header-Content-Length`.
pub fn parse<'a>(body: &'a [u8], header: Option<&str>) -> Result<(Infer, &'a [u8]), Fault> {
    let length = match header {
        None => body.len(),
        Some(text) => match text.trim().parse::<usize>() {
            Ok(n) if n <= body.len() => n,
            Ok(n) => {
                let detail = format!("Inference-Header-Content-Length is {n}, but the body has {} bytes", body.len());
                return Err(Fault::bad("invalid_tensor", detail));
            }
            Err(_) => {
                let detail = format!("Inference-Header-Content-Length: `{text}` is not a number of bytes");
                return Err(Fault::bad("invalid_tensor", detail));
            }
        },
    };
    let (head, raw) = body.split_at(length);
    Ok((strict::parse(head)?, raw))
}
