//! An ONNX model: its inputs and outputs, and its execution.
//!
//! Only FP32 tensors are supported. The runtime converts FP64 to FP32, and INT64 and BOOL to INT32,
//! when it loads a model, so signatures with these types would differ from the file's.

use rten::{DataType, Dimension, Model as Graph, NodeId, ValueOrView, ValueType};
use rten_tensor::Tensor as RtenTensor;
use rten_tensor::prelude::*;

/// The most dimensions of a tensor.
pub const MAX_RANK: usize = 16;

/// A loaded model.
#[derive(Debug)]
pub struct Model {
    graph: Graph,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
}

/// An input or output of a model.
#[derive(Debug)]
pub struct Port {
    id: NodeId,
    /// Its name in the graph.
    pub name: String,
    /// Its dimensions; `Err` has the name of a dynamic one.
    pub shape: Vec<Result<usize, String>>,
}

/// FP32 elements with a shape, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The dimensions, outermost first.
    pub shape: Vec<usize>,
    /// The elements, as many as the shape has.
    pub elements: Vec<f32>,
}

/// Why a file cannot be loaded as a model.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The runtime does not accept it.
    #[error("not a model that can run here: {0}")]
    Runtime(String),
    /// No inputs or no outputs.
    #[error("the graph has no {0}")]
    Nothing(&'static str),
    /// Not an FP32 tensor.
    #[error("{0} `{1}` is not an FP32 tensor with dims; only those are served")]
    NotFp32(&'static str, String),
    /// Too many dimensions.
    #[error("{0} `{1}` has more than {MAX_RANK} dims")]
    Rank(&'static str, String),
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The tensors do not fit the signature.
    #[error("input `{input}` {fault}")]
    Input {
        /// The input's name.
        input: String,
        /// What is wrong with it.
        fault: String,
    },
    /// The runtime failed although the tensors match the signature.
    #[error("the runtime failed: {0}")]
    Runtime(String),
}

impl Model {
    /// Loads a model from a file's bytes. Models with external weights are rejected: no other file
    /// is read.
    pub fn load(bytes: Vec<u8>) -> Result<Self, LoadError> {
        let graph = Graph::load(bytes).map_err(|error| LoadError::Runtime(error.to_string()))?;
        let inputs = ports(&graph, "input", graph.input_ids())?;
        let outputs = ports(&graph, "output", graph.output_ids())?;
        Ok(Self {
            graph,
            inputs,
            outputs,
        })
    }

    /// Its inputs, in the graph's order.
    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    /// Its outputs, in the graph's order.
    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// Checks shapes, in the order of the inputs, against the signature. Fixed dimensions must be
    /// equal, and dimensions with the same name must agree.
    pub fn check(&self, shapes: &[&[usize]]) -> Result<(), RunError> {
        let mut named: Vec<(&str, usize)> = Vec::new();
        for (port, shape) in self.inputs.iter().zip(shapes) {
            let fault = |fault| RunError::Input {
                input: port.name.clone(),
                fault,
            };
            if shape.len() != port.shape.len() {
                return Err(fault(format!(
                    "has {} dims, not {}",
                    shape.len(),
                    port.shape.len()
                )));
            }
            for (index, (dim, expected)) in shape.iter().zip(&port.shape).enumerate() {
                let expected = match expected {
                    Ok(size) => *size,
                    // A dimension without a name is independent of the others.
                    Err(name) if name.is_empty() => *dim,
                    Err(name) => match named.iter().find(|(known, _)| known == name) {
                        Some((_, size)) => *size,
                        None => {
                            named.push((name, *dim));
                            *dim
                        }
                    },
                };
                if *dim != expected {
                    return Err(fault(format!("has {dim} in dim {index}, not {expected}")));
                }
            }
        }
        Ok(())
    }

    /// Runs the model on tensors in the order of its inputs. Returns the outputs at `wanted`
    /// (indices of [`Self::outputs`]), in that order. It blocks the thread while it computes.
    pub fn run(&self, inputs: Vec<Tensor>, wanted: &[usize]) -> Result<Vec<Tensor>, RunError> {
        if inputs.len() != self.inputs.len() {
            return Err(RunError::Runtime(format!(
                "{} tensors for {} inputs",
                inputs.len(),
                self.inputs.len()
            )));
        }
        let shapes: Vec<&[usize]> = inputs
            .iter()
            .map(|tensor| tensor.shape.as_slice())
            .collect();
        self.check(&shapes)?;
        let values = self
            .inputs
            .iter()
            .zip(inputs)
            .map(|(port, Tensor { shape, elements })| {
                let tensor = RtenTensor::try_from_data(&shape, elements).map_err(|error| {
                    RunError::Input {
                        input: port.name.clone(),
                        fault: format!("does not match its dims: {error}"),
                    }
                })?;
                Ok((port.id, ValueOrView::from(tensor)))
            })
            .collect::<Result<Vec<_>, RunError>>()?;
        let ids: Vec<NodeId> = wanted
            .iter()
            .filter_map(|index| Some(self.outputs.get(*index)?.id))
            .collect();
        let outputs = self
            .graph
            .run(values, &ids, None)
            .map_err(|error| RunError::Runtime(error.to_string()))?;
        outputs
            .into_iter()
            .map(|value| {
                let tensor = value
                    .into_tensor::<f32>()
                    .ok_or_else(|| RunError::Runtime("an output is not FP32".into()))?;
                Ok(Tensor {
                    shape: tensor.shape().to_vec(),
                    elements: tensor.into_data(),
                })
            })
            .collect()
    }
}

/// The named FP32 tensors of `ids`.
fn ports(graph: &Graph, what: &'static str, ids: &[NodeId]) -> Result<Vec<Port>, LoadError> {
    if ids.is_empty() {
        return Err(LoadError::Nothing(what));
    }
    ids.iter()
        .map(|id| {
            let info = graph.node_info(*id);
            let name = info
                .as_ref()
                .and_then(|info| info.name())
                .unwrap_or_default()
                .to_owned();
            let shape = match info.as_ref().map(|info| (info.dtype(), info.shape())) {
                Some((Some(ValueType::Tensor(DataType::Float)), Some(shape)))
                    if !name.is_empty() =>
                {
                    shape
                }
                _ => return Err(LoadError::NotFp32(what, name)),
            };
            if shape.len() > MAX_RANK {
                return Err(LoadError::Rank(what, name));
            }
            let shape = shape
                .into_iter()
                .map(|dim| match dim {
                    Dimension::Fixed(size) => Ok(size),
                    Dimension::Symbolic(name) => Err(name),
                })
                .collect();
            Ok(Port {
                id: *id,
                name,
                shape,
            })
        })
        .collect()
}
