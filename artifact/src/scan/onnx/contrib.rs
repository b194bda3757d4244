//! Operators that are built into ONNX Runtime beside those of the specification.

use super::Operator;

/// The domain of the operators that ONNX Runtime adds.
const MICROSOFT: &str = "com.microsoft";
/// Domains into which ONNX Runtime moves operators when it saves an optimised graph: other layouts
/// of the same operators.
const LAYOUTS: [&str; 2] = ["com.microsoft.nchwc", "com.ms.internal.nhwc"];

/// Operators of [`MICROSOFT`] that only compute: those of release 1.32. `Snpe` is not among them,
/// because it has a program for a processor of its own as an attribute.
const COMPUTING: [&str; 148] = [
    "Attention",
    "AttnLSTM",
    "BeamSearch",
    "BiasAdd",
    "BiasDropout",
    "BiasGelu",
    "BiasSoftmax",
    "BiasSplitGelu",
    "BifurcationDetector",
    "BitmaskBiasDropout",
    "BitmaskDropout",
    "BranchwiseRMSNorm",
    "CDist",
    "CausalConvWithState",
    "ComplexMul",
    "ComplexMulConj",
    "ConvStateReplay",
    "ConvTransposeWithDynamicPads",
    "CropAndResize",
    "DecoderAttention",
    "DecoderMaskedMultiHeadAttention",
    "DecoderMaskedSelfAttention",
    "DequantizeBFP",
    "DequantizeLinear",
    "DequantizeWithOrder",
    "DynamicQuantizeLSTM",
    "DynamicQuantizeMatMul",
    "DynamicSparseAttention",
    "DynamicTimeWarping",
    "EmbedLayerNormalization",
    "EngramGate",
    "ExpandDims",
    "FastGelu",
    "FusedConv",
    "FusedGemm",
    "FusedMatMul",
    "FusedMatMulActivation",
    "GatedAdd",
    "GatedDeltaNet",
    "GatedDeltaNetStateReplay",
    "GatedRMSNorm",
    "GatedRelativePositionBias",
    "GatherBlockQuantized",
    "GatherND",
    "GatherPacked",
    "Gelu",
    "GemmFastGelu",
    "GemmFloat8",
    "GemmaRotaryEmbedding",
    "GreedySearch",
    "GridSample",
    "GroupNorm",
    "GroupQueryAttention",
    "HyperConnectionLowRankMix",
    "HyperConnectionPostMix",
    "HyperConnectionPreMix",
    "Inverse",
    "Irfft",
    "IsAllFinite",
    "LinearAttention",
    "LinearAttentionGate",
    "LongformerAttention",
    "MRotaryEmbedding",
    "Mamba2Verify",
    "MatMulBlockQuantizedFp4Weight",
    "MatMulBlockQuantizedFp8Weight",
    "MatMulBnb4",
    "MatMulFpQ4",
    "MatMulInteger16",
    "MatMulIntegerToFloat",
    "MatMulNBits",
    "MatMulNBitsMlp",
    "MatMulNBitsQLoRA",
    "MatMulNBitsQkv",
    "MatMulPacked",
    "MaxpoolWithMask",
    "MoE",
    "MoEGroupRouter",
    "MoEPacked",
    "MulInteger",
    "MultiHeadAttention",
    "MurmurHash3",
    "NGramHashMapping",
    "NGramRepeatBlock",
    "NhwcConv",
    "NhwcFusedConv",
    "NhwcMaxPool",
    "PackedAttention",
    "PackedMultiHeadAttention",
    "PackedSparseAttentionIndexer",
    "PackedSparseAttentionIndexerMerge",
    "Pad",
    "PagedAttention",
    "QAttention",
    "QEmbedLayerNormalization",
    "QGemm",
    "QLinearAdd",
    "QLinearAveragePool",
    "QLinearConcat",
    "QLinearConv",
    "QLinearGlobalAveragePool",
    "QLinearLeakyRelu",
    "QLinearMul",
    "QLinearReduceMean",
    "QLinearSigmoid",
    "QLinearSoftmax",
    "QLinearWhere",
    "QMoE",
    "QOrderedAttention",
    "QOrderedGelu",
    "QOrderedLayerNormalization",
    "QOrderedLongformerAttention",
    "QOrderedMatMul",
    "QuantizeBFP",
    "QuantizeLinear",
    "QuantizeWithOrder",
    "QuickGelu",
    "RMSNormRotary",
    "Range",
    "ReduceSumInteger",
    "RelativePositionBias",
    "RemovePadding",
    "RestorePadding",
    "Rfft",
    "RotaryEmbedding",
    "RouterGateUpProj",
    "SampleOp",
    "Sampling",
    "ScaledSiLU",
    "SkipGroupNorm",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
    "SparseAttention",
    "SparseAttentionIndexer",
    "SparsePagedAttention",
    "SparseToDenseMatMul",
    "SpeculativePrefixCommit",
    "SwiGLU",
    "Tokenizer",
    "TorchEmbedding",
    "TransposeMatMul",
    "Trilu",
    "UnfoldTensor",
    "Unique",
    "VarlenCausalConvWithState",
    "VarlenNGramHashMapping",
    "WhisperBeamSearch",
    "WordConvEmbedding",
];

/// Operators in other layouts.
const IN_LAYOUTS: [&str; 22] = [
    "AveragePool",
    "BatchNormalization",
    "Conv",
    "ConvTranspose",
    "DepthToSpace",
    "GlobalAveragePool",
    "GlobalLpPool",
    "GlobalMaxPool",
    "GridSample",
    "InstanceNormalization",
    "LRN",
    "LpPool",
    "MaxPool",
    "MaxUnpool",
    "QLinearAveragePool",
    "QLinearConv",
    "QLinearConvTranspose",
    "ReorderInput",
    "ReorderOutput",
    "Resize",
    "SpaceToDepth",
    "Upsample",
];

/// Operators that run or load what is not in the graph, and what that is.
const RUNNING: [(&str, &str); 6] = [
    ("ATen", "a function of PyTorch, by its name"),
    ("ATenOp", "a function of PyTorch, by its name"),
    (
        "EPContext",
        "a compiled program for a device, in the model or in a file that it names",
    ),
    ("PythonOp", "a Python function, by its name"),
    ("PythonOpGrad", "a Python function, by its name"),
    ("TritonOp", "a kernel, which Python compiles"),
];

/// What an operator is to ONNX Runtime.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BuiltIn {
    /// It only computes.
    Computes,
    /// It runs or loads this.
    Runs(&'static str),
    /// It is not built in.
    No,
}

impl BuiltIn {
    /// What this operator is.
    pub(super) fn of((domain, name): &Operator) -> Self {
        if matches!(domain.as_str(), MICROSOFT | "org.pytorch.aten")
            && let Some(&(_, what)) = RUNNING.iter().find(|(known, _)| known == name)
        {
            return Self::Runs(what);
        }
        let names: &[&str] = match domain.as_str() {
            MICROSOFT => &COMPUTING,
            domain if LAYOUTS.contains(&domain) => &IN_LAYOUTS,
            _ => &[],
        };
        if names.binary_search(&name.as_str()).is_ok() {
            Self::Computes
        } else {
            Self::No
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted_and_disjoint() {
        for names in [COMPUTING.as_slice(), &IN_LAYOUTS] {
            assert!(names.is_sorted());
        }
        for (name, _) in RUNNING {
            assert!(!COMPUTING.contains(&name), "{name}");
        }
    }
}
