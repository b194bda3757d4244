//! The messages of ONNX, with the numbers of their fields as in `onnx.proto` of release 1.23.

use Field::{Bytes, Fixed32, Fixed64, Message as Inner, Text, Varint, Varints};
use Message::{
    Annotation, Attribute, Device, DeviceConfiguration, Dimension, Entry, External, Function,
    Graph, IntegerMap, MapType, Model, Node, Opaque, OperatorSet, Segment, SequenceType, Shape,
    ShardedDimension, Sharding, SimpleSharding, SparseTensor, Tensor, TensorType, Training, Type,
    ValueInfo,
};

use crate::scan::protobuf::{Field, Schema};

/// A type of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Annotation,
    Attribute,
    Device,
    DeviceConfiguration,
    Dimension,
    /// A key and a value without a meaning to runtimes.
    Entry,
    /// A key and a value that say where a tensor is.
    External,
    Function,
    Graph,
    IntegerMap,
    MapType,
    Model,
    Node,
    Opaque,
    OperatorSet,
    Segment,
    /// Sequences and optional values, which have the same field.
    SequenceType,
    Shape,
    ShardedDimension,
    Sharding,
    SimpleSharding,
    SparseTensor,
    Tensor,
    /// Dense and sparse tensors, which have the same fields.
    TensorType,
    Training,
    Type,
    ValueInfo,
}

impl Schema for Message {
    fn field(self, number: u32) -> Option<Field<Self>> {
        Some(match (self, number) {
            (Model, 1 | 5) => Varint,
            (Model, 2 | 3 | 4 | 6) => Text,
            (Model, 7) => Inner(Graph),
            (Model, 8) | (Function, 9) => Inner(OperatorSet),
            (Model | Function, 14) | (Graph | Tensor, 16) => Inner(Entry),
            (Model, 20) => Inner(Training),
            (Model, 25) => Inner(Function),
            (Model, 26) => Inner(DeviceConfiguration),
            (Graph, 1) | (Function, 7) => Inner(Node),
            (Graph, 2 | 10) => Text,
            (Graph, 5) => Inner(Tensor),
            (Graph, 11..=13) | (Function, 12) => Inner(ValueInfo),
            (Graph, 14) => Inner(Annotation),
            (Graph, 15) => Inner(SparseTensor),
            (Function, 1 | 4 | 5 | 6 | 8 | 10 | 13) => Text,
            (Function, 11) | (Node, 5) => Inner(Attribute),
            (Node, 1..=4 | 6..=8) => Text,
            (Node, 9) => Inner(Entry),
            (Node, 10) => Inner(Device),
            (Attribute, 1 | 13 | 21) => Text,
            (Attribute, 2 | 7) => Fixed32,
            (Attribute, 3 | 20) => Varint,
            (Attribute, 8) | (SparseTensor, 3) => Varints,
            (Attribute, 4 | 9) => Bytes,
            (Attribute, 5 | 10) => Inner(Tensor),
            (Attribute, 6 | 11) => Inner(Graph),
            (Attribute, 14 | 15) => Inner(Type),
            (Attribute, 22 | 23) => Inner(SparseTensor),
            (Tensor, 1 | 5 | 7 | 11) => Varints,
            (Tensor, 2 | 14) => Varint,
            (Tensor, 3) => Inner(Segment),
            (Tensor, 4) => Fixed32,
            (Tensor, 6 | 9) => Bytes,
            (Tensor, 8 | 12) => Text,
            (Tensor, 10) => Fixed64,
            (Tensor, 13) => Inner(External),
            (SparseTensor, 1 | 2) => Inner(Tensor),
            (Segment, 1 | 2) | (OperatorSet, 2) => Varint,
            (Entry | External, 1 | 2) | (OperatorSet | Annotation, 1) => Text,
            (Annotation, 2) | (Training, 3 | 4) | (ValueInfo, 4) => Inner(Entry),
            (Training, 1 | 2) => Inner(Graph),
            (ValueInfo, 1 | 3) => Text,
            (ValueInfo, 2) => Inner(Type),
            (Type, 1 | 8) => Inner(TensorType),
            (Type, 4 | 9) => Inner(SequenceType),
            (Type, 5) => Inner(MapType),
            (Type, 6) => Text,
            (Type, 7) => Inner(Opaque),
            (TensorType, 1) | (MapType, 1) => Varint,
            (TensorType, 2) => Inner(Shape),
            (SequenceType, 1) | (MapType, 2) => Inner(Type),
            (Opaque, 1 | 2) => Text,
            (Shape, 1) => Inner(Dimension),
            (Dimension, 1) => Varint,
            (Dimension, 2 | 3) => Text,
            (DeviceConfiguration, 1 | 3) | (Device | Sharding, 1) => Text,
            (DeviceConfiguration, 2) | (Device, 3) => Varint,
            (Sharding, 2) | (IntegerMap, 2) => Varints,
            (Device, 2) => Inner(Sharding),
            (Sharding, 3) => Inner(IntegerMap),
            (Sharding, 4) => Inner(ShardedDimension),
            (IntegerMap, 1) | (ShardedDimension, 1) | (SimpleSharding, 1 | 3) => Varint,
            (ShardedDimension, 2) => Inner(SimpleSharding),
            (SimpleSharding, 2) => Text,
            _ => return None,
        })
    }
}
