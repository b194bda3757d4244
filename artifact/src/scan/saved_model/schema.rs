//! The messages of TensorFlow's SavedModel that hold operators, names of tensors and functions, or
//! names of files, with the numbers of their fields. Other messages are data to a runtime until an
//! operator uses them.

use Field::{Bytes, Fixed32, Message as Inner, Text, Varint, Varints};
use Message::{
    Any, AnyList, Argument, Asset, Attribute, AttributeList, AttributeValue, BareFunction, Call,
    CapturedTensor, Captures, Collection, CollectionEntry, CompositeTensor, ConcreteFunction,
    ExposedFunction, Function, Gradient, Graph, Library, MetaGraph, Node, NodeList, Object,
    ObjectGraph, RegisteredGradient, SavedModel, Saver, ServedSignature, ServedTensor, Signature,
    SignatureEntry, SparseTensor, TensorInfo,
};

use crate::scan::protobuf::{Field, Schema};

/// A type of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// `google.protobuf.Any`, a message with the name of its type.
    Any,
    /// `CollectionDef.AnyList`
    AnyList,
    /// `OpDef.ArgDef`, an argument of a function.
    Argument,
    /// `AssetFileDef`
    Asset,
    /// A name and a value of `NodeDef.attr`, `FunctionDef.attr` or `NameAttrList.attr`.
    Attribute,
    /// `AttrValue.ListValue`
    AttributeList,
    /// `AttrValue`
    AttributeValue,
    /// `SavedBareConcreteFunction`
    BareFunction,
    /// `NameAttrList`, which names a function.
    Call,
    /// `CapturedTensor`
    CapturedTensor,
    /// `SavedConcreteFunction`, which says what a function's last arguments are.
    Captures,
    /// `CollectionDef`
    Collection,
    /// A name and a value of `MetaGraphDef.collection_def`.
    CollectionEntry,
    /// `TensorInfo.CompositeTensor`
    CompositeTensor,
    /// A name and a value of `SavedObjectGraph.concrete_functions`.
    ConcreteFunction,
    /// `SavedFunction`
    ExposedFunction,
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
    /// `CollectionDef.NodeList`
    NodeList,
    /// `SavedObject`
    Object,
    /// `SavedObjectGraph`
    ObjectGraph,
    /// `RegisteredGradient`
    RegisteredGradient,
    /// The file.
    SavedModel,
    /// `SaverDef`
    Saver,
    /// `SignatureDef`
    ServedSignature,
    /// A name and a value of `SignatureDef.inputs` or `SignatureDef.outputs`.
    ServedTensor,
    /// The `OpDef` of a function, which has its name.
    Signature,
    /// A name and a value of `MetaGraphDef.signature_def`.
    SignatureEntry,
    /// `TensorInfo.CooSparse`
    SparseTensor,
    /// `TensorInfo`
    TensorInfo,
}

impl Schema for Message {
    fn field(self, number: u32) -> Option<Field<Self>> {
        Some(match (self, number) {
            (SavedModel, 1) | (Graph, 3) => Varint,
            (SavedModel, 2) => Inner(MetaGraph),
            (MetaGraph, 1) => Bytes,
            (MetaGraph, 2) => Inner(Graph),
            (MetaGraph, 3) => Inner(Saver),
            (MetaGraph, 4) => Inner(CollectionEntry),
            (MetaGraph, 5) => Inner(SignatureEntry),
            (MetaGraph, 6) => Inner(Asset),
            (MetaGraph, 7) => Inner(ObjectGraph),
            (Asset, 1) => Inner(TensorInfo),
            (Asset, 2) => Text,
            (Graph, 1) | (Function, 3) => Inner(Node),
            (Graph, 2) => Inner(Library),
            (Graph, 4 | 5) => Bytes,
            (Node, 1..=3) => Text,
            (Node, 4 | 6 | 7) => Bytes,
            (Node | Function, 5) | (Call, 2) => Inner(Attribute),
            (Library, 1) => Inner(Function),
            (Library, 2) => Inner(Gradient),
            (Library, 3) => Inner(RegisteredGradient),
            (Gradient, 1 | 2) => Text,
            (RegisteredGradient, 1) => Text,
            (RegisteredGradient, 2) => Bytes,
            (Function, 1) => Inner(Signature),
            (Function, 4 | 6..=8) => Bytes,
            (Signature, 1) => Text,
            (Signature, 2) => Inner(Argument),
            (Signature, 3..=6 | 8 | 20) => Bytes,
            (Signature, 16..=19 | 21) => Varint,
            (Argument, 1) => Text,
            (Argument, 2 | 4..=7 | 17) => Bytes,
            (Argument, 3 | 16) => Varint,
            _ => return self.value_field(number).or_else(|| self.use_field(number)),
        })
    }
}

impl Message {
    /// Fields of attributes.
    fn value_field(self, number: u32) -> Option<Field<Self>> {
        Some(match (self, number) {
            (Attribute | Call, 1) => Text,
            (Attribute, 2) => Inner(AttributeValue),
            (AttributeValue, 1) => Inner(AttributeList),
            (AttributeValue, 10) | (AttributeList, 9) => Inner(Call),
            (AttributeValue, 9) | (AttributeValue | AttributeList, 2 | 7 | 8) => Bytes,
            (AttributeValue, 3 | 5 | 6) => Varint,
            (AttributeList, 3 | 5 | 6) => Varints,
            (AttributeValue | AttributeList, 4) => Fixed32,
            _ => return None,
        })
    }

    /// Fields of what says how the graph is used: by the saver, at load, by clients and by Python.
    fn use_field(self, number: u32) -> Option<Field<Self>> {
        Some(match (self, number) {
            (Saver, 1..=3) => Text,
            (Saver, 4 | 5 | 7) => Varint,
            (Saver, 6) => Fixed32,
            (CollectionEntry | SignatureEntry | ServedTensor, 1) => Bytes,
            (CollectionEntry, 2) => Inner(Collection),
            (Collection, 1) => Inner(NodeList),
            (Collection, 2..=4) => Bytes,
            (Collection, 5) => Inner(AnyList),
            (AnyList, 1) => Inner(Any),
            (Any, 1 | 2) => Bytes,
            (NodeList, 1) => Text,
            (SignatureEntry, 2) => Inner(ServedSignature),
            (ServedSignature, 1 | 2) => Inner(ServedTensor),
            (ServedSignature, 3 | 4) => Bytes,
            (ServedTensor, 2) | (CompositeTensor, 2) => Inner(TensorInfo),
            (TensorInfo, 1) | (SparseTensor, 1..=3) => Text,
            (TensorInfo, 2) => Varint,
            (TensorInfo, 3) | (CompositeTensor, 1) => Bytes,
            (TensorInfo, 4) => Inner(SparseTensor),
            (TensorInfo, 5) => Inner(CompositeTensor),
            (ObjectGraph, 1) => Inner(Object),
            (ObjectGraph, 2) => Inner(ConcreteFunction),
            (Object, 1 | 3..=5 | 7 | 9..=11 | 13..=16) => Bytes,
            (Object, 6) => Inner(ExposedFunction),
            (Object, 8) => Inner(BareFunction),
            (Object, 12) => Inner(CapturedTensor),
            (ConcreteFunction | ExposedFunction | BareFunction, 1) => Text,
            (ConcreteFunction, 2) => Inner(Captures),
            (Captures, 2) => Varints,
            (Captures, 3 | 4) | (ExposedFunction, 2) => Bytes,
            (BareFunction, 2 | 4) => Bytes,
            (BareFunction, 3) => Varint,
            (CapturedTensor, 1) => Bytes,
            (CapturedTensor, 2) => Text,
            _ => return None,
        })
    }
}
