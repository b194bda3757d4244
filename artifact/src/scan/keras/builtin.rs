//! Classes and functions of Keras that only compute, from the exports of Keras 3.15.

use crate::scan::Verdict;
use crate::scan::rules::{self, Rule};
use crate::scan::severity::lists;

/// Layers that run code from the file or from elsewhere, and operations that call a function.
const CODE: [&str; 15] = [
    "AssociativeScan",
    "Cond",
    "FlaxLayer",
    "ForiLoop",
    "JVP",
    "JaxLayer",
    "Lambda",
    "Map",
    "Scan",
    "Switch",
    "TFSMLayer",
    "TorchModuleWrapper",
    "VectorizedMap",
    "WhileLoop",
    "__lambda__",
];

/// Values that are no objects of a module.
const VALUES: [&str; 10] = [
    // Shapes and types of tensors in configurations of Keras 2.
    "TensorShape",
    "TypeSpec",
    "__bytes__",
    "__complex__",
    "__ellipsis__",
    "__keras_tensor__",
    "__numpy__",
    "__slice__",
    "__tensor__",
    "__tuple__",
];

/// Modules of the models that Keras writes, with the class in each.
const MODELS: [(&str, &str); 8] = [
    ("keras", "Functional"),
    ("keras", "Model"),
    ("keras", "Sequential"),
    ("keras.models", "Functional"),
    ("keras.models", "Model"),
    ("keras.models", "Sequential"),
    ("keras.src.models.functional", "Functional"),
    ("keras.src.models.sequential", "Sequential"),
];

const OPTIMIZERS: &str = "Adadelta Adafactor Adagrad Adam AdamW Adamax Ftrl Lamb Lion \
     LossScaleOptimizer MultiOptimizer Muon Nadam OptimizerMap RMSprop SGD ScheduleFreeAdamW";

const MODULES: [(&str, &str); 24] = [
    ("keras", "DTypePolicy FloatDTypePolicy"),
    ("keras.layers", LAYERS),
    ("keras.optimizers", OPTIMIZERS),
    (
        "keras.optimizers.schedules",
        "CosineDecay CosineDecayRestarts ExponentialDecay InverseTimeDecay PiecewiseConstantDecay \
         PolynomialDecay",
    ),
    (
        "keras.losses",
        "BinaryCrossentropy BinaryFocalCrossentropy CTC CategoricalCrossentropy \
         CategoricalFocalCrossentropy CategoricalGeneralizedCrossEntropy CategoricalHinge Circle \
         CosineSimilarity Dice Hinge Huber KLDivergence LogCosh MeanAbsoluteError \
         MeanAbsolutePercentageError MeanSquaredError MeanSquaredLogarithmicError Poisson \
         SparseCategoricalCrossentropy SquaredHinge Tversky",
    ),
    (
        "keras.metrics",
        "AUC Accuracy BinaryAccuracy BinaryCrossentropy BinaryIoU CategoricalAccuracy \
         CategoricalCrossentropy CategoricalHinge ConcordanceCorrelation CosineSimilarity F1Score \
         FBetaScore FalseNegatives FalsePositives Hinge IoU KLDivergence LogCoshError Mean \
         MeanAbsoluteError MeanAbsolutePercentageError MeanIoU MeanMetricWrapper MeanSquaredError \
         MeanSquaredLogarithmicError OneHotIoU OneHotMeanIoU PearsonCorrelation Poisson Precision \
         PrecisionAtRecall R2Score Recall RecallAtPrecision RootMeanSquaredError \
         SensitivityAtSpecificity SparseCategoricalAccuracy SparseCategoricalCrossentropy \
         SparseTopKCategoricalAccuracy SpecificityAtSensitivity SquaredHinge Sum \
         TopKCategoricalAccuracy TrueNegatives TruePositives",
    ),
    (
        "keras.initializers",
        "Constant GlorotNormal GlorotUniform HeNormal HeUniform Identity IdentityInitializer \
         LecunNormal LecunUniform Ones Orthogonal OrthogonalInitializer RandomNormal RandomUniform \
         STFT STFTInitializer TruncatedNormal VarianceScaling Zeros",
    ),
    ("keras.regularizers", "L1 L1L2 L2 OrthogonalRegularizer"),
    ("keras.constraints", "MaxNorm MinMaxNorm NonNeg UnitNorm"),
    (
        "keras.dtype_policies",
        "AWQDTypePolicy DTypePolicy DTypePolicyMap FloatDTypePolicy GPTQDTypePolicy \
         Int4DTypePolicy QuantizedDTypePolicy QuantizedFloat8DTypePolicy",
    ),
    ("keras.random", "SeedGenerator"),
    ("keras.utils", "FeatureSpace"),
    (
        "keras.src.layers.preprocessing.feature_space",
        "Cross Feature",
    ),
    (
        "keras.distillation",
        "Distiller FeatureDistillation LogitsDistillation",
    ),
    // Layers of Keras 2.
    (
        "keras._legacy.layers",
        "AlphaDropout RandomHeight RandomWidth ThresholdedReLU",
    ),
    (
        "keras.quantizers",
        "AWQConfig AbsMaxQuantizer Float8QuantizationConfig GPTQConfig Int4QuantizationConfig \
         Int8QuantizationConfig QuantizationConfig",
    ),
    // Functions only.
    ("keras.activations", ""),
    // Operations between layers. Keras writes the modules of their classes.
    (
        "keras.src.ops.core",
        "Cast ConvertToTensor SaturateCast Scatter ScatterUpdate Slice SliceUpdate StopGradient \
         Unstack",
    ),
    ("keras.src.ops.einops", "Rearrange"),
    (
        "keras.src.ops.image",
        "AffineTransform CropImages ElasticTransform ExtractPatches GaussianBlur HSVToRGB \
         MapCoordinates PadImages PerspectiveTransform RGBToGrayscale RGBToHSV Resize SSIM \
         ScaleAndTranslate SobelEdges",
    ),
    (
        "keras.src.ops.linalg",
        "Cholesky CholeskyInverse Det Eig Eigh Inv Lstsq LuFactor MatrixRank Norm Pinv Qr SVD \
         Solve SolveTriangular",
    ),
    (
        "keras.src.ops.math",
        "CDist Erf Erfc Erfinv ExtractSequences FFT FFT2 IFFT2 IRFFT ISTFT InTopK Logdet Logsumexp \
         RFFT Rsqrt STFT SegmentMax SegmentMin SegmentProd SegmentSum TopK ViewAsComplex \
         ViewAsReal",
    ),
    (
        "keras.src.ops.nn",
        "AdaptiveAveragePool AdaptiveMaxPool AveragePool BatchNorm BinaryCrossentropy CTCDecode \
         CTCLoss CategoricalCrossentropy Celu Conv ConvTranspose DepthToSpace DepthwiseConv \
         DotProductAttention Elu Fold Gelu Glu HardShrink HardSigmoid HardSilu HardTanh LayerNorm \
         LeakyRelu LogSigmoid LogSoftmax MaxPool Moments MultiHot Normalize OneHot PSNR Polar \
         RMSNorm Relu Relu6 Selu SeparableConv Sigmoid Silu SoftShrink Softmax Softplus Softsign \
         SpaceToDepth SparseCategoricalCrossentropy SparsePlus SparseSigmoid Sparsemax Squareplus \
         TanhShrink Threshold Unfold",
    ),
    ("keras.src.ops.numpy", ARRAY_OPERATIONS),
];

const ARRAY_OPERATIONS: &str = "Abs Absolute Add All AllClose Amax Amin Angle Any Append Arange \
    Arccos Arccosh Arcsin Arcsinh Arctan Arctan2 Arctanh Argmax Argmin Argpartition Argsort Array \
    ArraySplit Average Bincount BitwiseAnd BitwiseInvert BitwiseLeftShift BitwiseNot BitwiseOr \
    BitwiseRightShift BitwiseXor BroadcastTo Cbrt Ceil Clip Concatenate Conj Conjugate Copy \
    Corrcoef Correlate Cos Cosh CountNonzero Cross Cumprod Cumsum Deg2rad Diag Diagflat Diagonal \
    Diff Digitize Divide DivideNoNan Dot Dsplit Dstack Einsum EmptyLike Equal Exp Exp2 ExpandDims \
    Expm1 Fabs Flip Fliplr Flipud Floor FloorDivide Fmax Fmin Fmod Full FullLike Gcd Geomspace \
    GetItem Greater GreaterEqual Heaviside Histogram Hsplit Hstack Hypot I0 Imag Inner IsIn \
    Isclose Isfinite Isinf Isnan Isneginf Isposinf Isreal Kron Lcm Ldexp LeftShift Less LessEqual \
    Linspace Log Log10 Log1p Log2 Logaddexp Logaddexp2 LogicalAnd LogicalNot LogicalOr LogicalXor \
    Logspace Matmul Max Maximum Mean Median Meshgrid Min Minimum Mod Moveaxis Multiply NanToNum \
    Nanargmax Nanargmin Nancumprod Nancumsum Nanmax Nanmean Nanmedian Nanmin Nanpercentile Nanprod \
    Nanquantile Nanstd Nansum Nanvar Ndim Negative Nextafter Nonzero NotEqual OnesLike Outer Pad \
    Percentile Power Prod Ptp Quantile Rad2deg Ravel Real Reciprocal Repeat Reshape RightShift \
    Roll Rot90 Round SearchSorted Select Sign Signbit Sin Sinc Sinh Size Slogdet Sort Split Sqrt \
    Square Squeeze Stack Std Subtract Sum Swapaxes Take TakeAlongAxis Tan Tanh Tensordot Tile \
    Trace Transpose Trapezoid Tril Triu TrueDivide Trunc Unique UnravelIndex Vander Var Vdot View \
    Vsplit Vstack Where ZerosLike";

const LAYERS: &str = "Activation ActivityRegularization AdaptiveAveragePooling1D \
    AdaptiveAveragePooling2D AdaptiveAveragePooling3D AdaptiveMaxPooling1D AdaptiveMaxPooling2D \
    AdaptiveMaxPooling3D Add AdditiveAttention AlphaDropout Attention AugMix AutoContrast Average \
    AveragePooling1D AveragePooling2D AveragePooling3D BatchNormalization Bidirectional \
    CategoryEncoding CenterCrop Concatenate ContrastLimitedAdaptiveHistogramEqualization Conv1D \
    Conv1DTranspose Conv2D Conv2DTranspose Conv3D Conv3DTranspose ConvLSTM1D ConvLSTM2D ConvLSTM3D \
    Cropping1D Cropping2D Cropping3D CutMix Dense DepthwiseConv1D DepthwiseConv2D Discretization \
    Dot Dropout ELU EinsumDense Embedding Equalization Flatten GRU GRUCell GaussianDropout \
    GaussianNoise GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D \
    GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D GroupNormalization \
    GroupQueryAttention HashedCrossing Hashing Identity InputLayer InputSpec IntegerLookup LSTM \
    LSTMCell LayerNormalization LeakyReLU Masking MaxNumBoundingBoxes MaxPooling1D MaxPooling2D \
    MaxPooling3D Maximum MelSpectrogram Minimum MixUp MultiHeadAttention Multiply Normalization \
    PReLU Permute Pipeline RMSNormalization RNN RandAugment RandomBrightness \
    RandomColorDegeneration RandomColorJitter RandomContrast RandomCrop RandomElasticTransform \
    RandomErasing RandomFlip RandomGaussianBlur RandomGrayscale RandomHue RandomInvert \
    RandomPerspective RandomPosterization RandomRotation RandomSaturation RandomSharpness \
    RandomShear RandomTranslation RandomZoom ReLU RepeatVector Rescaling Reshape Resizing \
    ReversibleEmbedding STFTSpectrogram SeparableConv1D SeparableConv2D SimpleRNN SimpleRNNCell \
    Softmax Solarization SpatialDropout1D SpatialDropout2D SpatialDropout3D SpectralNormalization \
    StackedRNNCells StringLookup Subtract TextVectorization TimeDistributed UnitNormalization \
    UpSampling1D UpSampling2D UpSampling3D ZeroPadding1D ZeroPadding2D ZeroPadding3D";

/// Functions of activations, losses and metrics.
const FUNCTIONS: &str = "celu elu exponential gelu glu hard_shrink hard_sigmoid hard_silu \
    hard_swish hard_tanh leaky_relu linear log_sigmoid log_softmax mish relu relu6 selu sigmoid \
    silu soft_shrink softmax softplus softsign sparse_plus sparse_sigmoid sparsemax squareplus \
    swish tanh tanh_shrink threshold binary_accuracy binary_crossentropy \
    binary_focal_crossentropy categorical_accuracy categorical_crossentropy \
    categorical_focal_crossentropy categorical_generalized_cross_entropy categorical_hinge circle \
    concordance_correlation cosine_similarity ctc dice hinge huber kl_divergence log_cosh \
    mean_absolute_error mean_absolute_percentage_error mean_squared_error \
    mean_squared_logarithmic_error pearson_correlation poisson sparse_categorical_accuracy \
    sparse_categorical_crossentropy sparse_top_k_categorical_accuracy squared_hinge \
    top_k_categorical_accuracy tversky";

/// Modules that functions may be in. Keras writes `builtins` for its own.
const MODULES_OF_FUNCTIONS: [&str; 4] = [
    "builtins",
    "keras.activations",
    "keras.losses",
    "keras.metrics",
];

/// What a class does, with the rule and the reason if it is not one that only computes.
pub(super) fn class_fault(
    module: Option<&str>,
    class: &str,
) -> Option<(Verdict, &'static Rule, &'static str)> {
    if CODE.contains(&class) {
        let reason = "runs code that the file brings or names";
        return Some((Verdict::Executable, rules::KERAS_CODE, reason));
    }
    let mut modules = MODULES.iter();
    let is_known = if let Some(module) = module {
        let is_model = MODELS.contains(&(module, class));
        let listed = modules.find(|(known, _)| *known == module);
        if listed.is_none() && !is_model {
            let reason = "is in a module that is imported by its name";
            return Some((Verdict::Executable, rules::KERAS_MODULE, reason));
        }
        is_model || listed.is_some_and(|(_, classes)| lists(classes, class))
    } else {
        // Older versions write no modules. Keras looks such a class up among its own.
        // Keras 2 has registered its own optimizers as users register theirs.
        let optimizer = class.strip_prefix("Custom>");
        VALUES.contains(&class)
            || optimizer.is_some_and(|name| lists(OPTIMIZERS, name))
            || MODELS.iter().any(|(_, model)| *model == class)
            || modules.any(|(_, classes)| lists(classes, class))
    };
    (!is_known).then_some((Verdict::Unknown, rules::KERAS_CLASS, "is not a known class"))
}

/// Whether a function of a module only computes.
pub(super) fn is_function(module: Option<&str>, name: &str) -> bool {
    module.is_some_and(|module| MODULES_OF_FUNCTIONS.contains(&module)) && lists(FUNCTIONS, name)
}
