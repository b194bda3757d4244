//! The messages of TensorFlow's SavedModel that hold operators or names of files, with the numbers
//! of their fields. Other messages are data to a runtime until an operator uses them.

use Field::{Bytes, Message as Inner, Text, Varint};
use Message::{Asset, Function, Gradient, Graph, Library, MetaGraph, Node, SavedModel, Signature};

use crate::scan::protobuf::{Field, Schema};

/// A type of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// `AssetFileDef`
    Asset,
    /// `FunctionDef`
    Function,
    /// `GradientDef`
    Gradient,
    /// `GraphDef`
    Graph,
    /// `FunctionDefLibrary`
    Library,
    /// `MetaGraphDef`
    MetaGraph,
    /// `NodeDef`
    Node,
    /// The file.
    SavedModel,
    /// The `OpDef` of a function, which has its name.
    Signature,
}

impl Schema for Message {
    fn field(self, number: u32) -> Option<Field<Self>> {
        Some(match (self, number) {
            (SavedModel, 1) | (Graph, 3) => Varint,
            (SavedModel, 2) => Inner(MetaGraph),
            (MetaGraph, 1 | 3 | 4 | 5 | 7) => Bytes,
            (MetaGraph, 2) => Inner(Graph),
            (MetaGraph, 6) => Inner(Asset),
            (Asset, 1) => Bytes,
            (Asset, 2) => Text,
            (Graph, 1) | (Function, 3) => Inner(Node),
            (Graph, 2) => Inner(Library),
            (Graph, 4 | 5) => Bytes,
            (Node, 2) => Text,
            (Node, 1 | 3..=7) => Bytes,
            (Library, 1) => Inner(Function),
            (Library, 2) => Inner(Gradient),
            (Library, 3) => Bytes,
            (Gradient, 1 | 2) => Text,
            (Function, 1) => Inner(Signature),
            (Function, 4..=8) => Bytes,
            (Signature, 1) => Text,
            (Signature, 2..=6 | 8 | 20) => Bytes,
            (Signature, 16..=19 | 21) => Varint,
            _ => return None,
        })
    }
}
