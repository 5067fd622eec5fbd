//! ONNX files (onnx.proto3 of ONNX 1.x): the messages that a graph with a tree ensemble needs. What the
//! graph means is in `onnx_graph`.

use super::super::{Forest, MAX_NODES};
use super::protobuf::{Wire, bounded, fields, float};

/// Elements of a list of numbers.
const MAX_LIST: usize = MAX_NODES;
/// Nodes, inputs, outputs and initializers of a graph.
const MAX_PARTS: usize = 10_000;

/// `TensorProto.DataType`
pub const FLOAT: i64 = 1;
pub const DOUBLE: i64 = 11;

#[derive(Debug, Default)]
pub struct Graph<'b> {
    pub nodes: Vec<Operator<'b>>,
    pub inputs: Vec<Input<'b>>,
    pub outputs: Vec<&'b str>,
    pub initializers: Vec<Tensor<'b>>,
}

#[derive(Debug, Default)]
pub struct Input<'b> {
    pub name: &'b str,
    pub element: i64,
    /// Of each dimension; 0 is not known.
    pub shape: Vec<i64>,
}

#[derive(Debug, Default)]
pub struct Operator<'b> {
    pub op: &'b str,
    pub domain: &'b str,
    pub inputs: Vec<&'b str>,
    pub outputs: Vec<&'b str>,
    attributes: Vec<(&'b str, &'b [u8])>,
}

#[derive(Debug, Default)]
pub struct Tensor<'b> {
    pub name: &'b str,
    pub kind: i64,
    floats: Vec<f64>,
    raw: &'b [u8],
}

pub fn read(bytes: &[u8]) -> Result<Forest, String> {
    let wrong = |e: String| format!("ONNX: {e}");
    let mut graph = None;
    for field in fields(bytes) {
        if let (7, wire) = field.map_err(wrong)? {
            graph = Some(self::graph(wire.bytes().map_err(wrong)?).map_err(wrong)?);
        }
    }
    super::onnx_graph::forest(&graph.ok_or("ONNX: the file has no graph")?).map_err(wrong)
}

fn graph(bytes: &[u8]) -> Result<Graph<'_>, String> {
    let mut graph = Graph::default();
    for field in fields(bytes) {
        match field? {
            (1, wire) => graph.nodes.push(operator(wire.bytes()?)?),
            (5, wire) => graph.initializers.push(tensor(wire.bytes()?)?),
            (11, wire) => graph.inputs.push(input(wire.bytes()?)?),
            (12, wire) => graph.outputs.push(input(wire.bytes()?)?.name),
            _ => {}
        }
        bounded(graph.nodes.len() + graph.initializers.len() + graph.inputs.len() + graph.outputs.len(), MAX_PARTS)?;
    }
    // Older files list initializers among the inputs too.
    let Graph { inputs, initializers, .. } = &mut graph;
    inputs.retain(|i| initializers.iter().all(|t| t.name != i.name));
    Ok(graph)
}

/// `ValueInfoProto`: name 1, type 2 { tensor_type 1 { elem_type 1, shape 2 { dim 1 { dim_value 1 } } } }.
fn input(bytes: &[u8]) -> Result<Input<'_>, String> {
    let mut input = Input::default();
    for field in fields(bytes) {
        match field? {
            (1, wire) => input.name = wire.text()?,
            (2, wire) => {
                for field in fields(wire.bytes()?) {
                    let (1, tensor) = field? else { continue };
                    for field in fields(tensor.bytes()?) {
                        match field? {
                            (1, Wire::Varint(v)) => input.element = v as i64,
                            (2, shape) => input.shape = dimensions(shape.bytes()?)?,
                            _ => {}
                        }
                    }
                }
            }
            _ => {}
        }
    }
    Ok(input)
}

fn dimensions(shape: &[u8]) -> Result<Vec<i64>, String> {
    let mut all = Vec::new();
    for field in fields(shape) {
        let (1, dimension) = field? else { continue };
        let mut size = 0;
        for field in fields(dimension.bytes()?) {
            if let (1, Wire::Varint(v)) = field? {
                size = v as i64;
            }
        }
        all.push(size);
        bounded(all.len(), 64)?;
    }
    Ok(all)
}

fn operator(bytes: &[u8]) -> Result<Operator<'_>, String> {
    let mut node = Operator::default();
    for field in fields(bytes) {
        match field? {
            (1, wire) => node.inputs.push(wire.text()?),
            (2, wire) => node.outputs.push(wire.text()?),
            (4, wire) => node.op = wire.text()?,
            (5, wire) => {
                let attribute = wire.bytes()?;
                let name = fields(attribute).find_map(|f| f.ok().filter(|f| f.0 == 1)).ok_or("an unnamed attribute")?;
                node.attributes.push((name.1.text()?, attribute));
            }
            (7, wire) => node.domain = wire.text()?,
            _ => {}
        }
        bounded(node.inputs.len() + node.outputs.len() + node.attributes.len(), MAX_PARTS)?;
    }
    Ok(node)
}

fn tensor(bytes: &[u8]) -> Result<Tensor<'_>, String> {
    let mut tensor = Tensor::default();
    for field in fields(bytes) {
        match field? {
            (2, Wire::Varint(v)) => tensor.kind = v as i64,
            (4, wire) => wire.floats(4, &mut tensor.floats, MAX_LIST)?,
            (8, wire) => tensor.name = wire.text()?,
            (9, wire) => tensor.raw = wire.bytes()?,
            (10, wire) => wire.floats(8, &mut tensor.floats, MAX_LIST)?,
            (14, Wire::Varint(1)) => return Err("a tensor is kept in another file".into()),
            _ => {}
        }
    }
    Ok(tensor)
}

impl Tensor<'_> {
    /// Its numbers, if they are floats or doubles.
    pub fn floats(&self) -> Result<Vec<f64>, String> {
        let width = match self.kind {
            FLOAT => 4,
            DOUBLE => 8,
            other => return Err(format!("tensor `{}` is of type {other}, no float", self.name)),
        };
        bounded(self.raw.len() / width, MAX_LIST)?;
        Ok(if self.raw.is_empty() { self.floats.clone() } else { self.raw.chunks_exact(width).map(float).collect() })
    }
}

impl<'b> Operator<'b> {
    fn attribute(&self, name: &str) -> impl Iterator<Item = Result<(u64, Wire<'b>), String>> {
        let found = self.attributes.iter().find(|(n, _)| *n == name);
        fields(found.map_or(&[], |(_, bytes)| *bytes))
    }

    pub fn has(&self, name: &str) -> bool {
        self.attributes.iter().any(|(n, _)| *n == name)
    }

    pub fn integers(&self, name: &str) -> Result<Vec<i64>, String> {
        let mut list = Vec::new();
        for field in self.attribute(name) {
            if let (8, wire) = field? {
                wire.integers(&mut list, MAX_LIST).map_err(|e| format!("`{name}`: {e}"))?;
            }
        }
        Ok(list)
    }

    /// The list `name`, or the tensor `name_as_tensor` of doubles.
    pub fn floats(&self, name: &str) -> Result<Vec<f64>, String> {
        let of_doubles = format!("{name}_as_tensor");
        if self.has(&of_doubles) {
            return self.tensor(&of_doubles)?.floats();
        }
        let mut list = Vec::new();
        for field in self.attribute(name) {
            if let (7, wire) = field? {
                wire.floats(4, &mut list, MAX_LIST).map_err(|e| format!("`{name}`: {e}"))?;
            }
        }
        Ok(list)
    }

    pub fn strings(&self, name: &str) -> Result<Vec<&'b [u8]>, String> {
        let mut list = Vec::new();
        for field in self.attribute(name) {
            if let (9, wire) = field? {
                list.push(wire.bytes()?);
                bounded(list.len(), MAX_LIST).map_err(|e| format!("`{name}`: {e}"))?;
            }
        }
        Ok(list)
    }

    pub fn tensor(&self, name: &str) -> Result<Tensor<'b>, String> {
        for field in self.attribute(name) {
            if let (5, wire) = field? {
                return tensor(wire.bytes()?);
            }
        }
        Err(format!("`{name}` is missing"))
    }

    pub fn integer(&self, name: &str) -> Result<Option<i64>, String> {
        for field in self.attribute(name) {
            if let (3, Wire::Varint(v)) = field? {
                return Ok(Some(v as i64));
            }
        }
        Ok(None)
    }

    pub fn string(&self, name: &str) -> Result<Option<&'b str>, String> {
        for field in self.attribute(name) {
            if let (4, wire) = field? {
                return wire.text().map(Some);
            }
        }
        Ok(None)
    }
}
