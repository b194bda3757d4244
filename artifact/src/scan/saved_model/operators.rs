//! TensorFlow's operators by what they can do.

use super::graph::Kind;
use super::pure_operators::PURE;

/// What an operator can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It computes, calls functions of the same model, or keeps values in memory.
    None,
    /// It reads or writes checkpoints, at paths that are values of the graph.
    Checkpoint,
    /// It reads a file into a table, at a path that is a value of the graph.
    Table,
    /// It prints to the logs of the process, or to a file that an attribute names.
    Print,
    /// It reads or writes files, reaches a network, or runs code outside the graph.
    Outside,
    /// It is on no list.
    Unknown,
}

/// What an operator can do.
pub(super) fn effect(operator: &str) -> Effect {
    let is_in = |names: &[&str]| names.binary_search(&operator).is_ok();
    match Kind::of(operator) {
        Kind::Print => Effect::Print,
        Kind::Table => Effect::Table,
        kind if kind.is_saver() => Effect::Checkpoint,
        _ if is_in(PURE) => Effect::None,
        _ if is_in(OUTSIDE) => Effect::Outside,
        _ => Effect::Unknown,
    }
}

/// In byte order. Known effects, which the verdict names. What is on no list is not trusted either.
const OUTSIDE: &[&str] = &[
    "CSVDataset",
    "CSVDatasetV2",
    "CacheDataset",
    "CacheDatasetV2",
    "CreateSummaryDbWriter",
    "CreateSummaryFileWriter",
    "CreateTRTResourceHandle",
    "DataServiceDataset",
    "DataServiceDatasetV2",
    "DataServiceDatasetV3",
    "DataServiceDatasetV4",
    "DatasetToTFRecord",
    "DebugIdentity",
    "DebugIdentityV2",
    "DebugIdentityV3",
    "DebugNanCount",
    "DebugNumericSummary",
    "DebugNumericSummaryV2",
    "DistributedSave",
    "EagerPyFunc",
    "ExperimentalCSVDataset",
    "ExperimentalDatasetToTFRecord",
    "ExperimentalLMDBDataset",
    "ExperimentalSqlDataset",
    "FileSystemSetConfiguration",
    "FixedLengthRecordDataset",
    "FixedLengthRecordDatasetV2",
    "FixedLengthRecordReader",
    "FixedLengthRecordReaderV2",
    "GenerateVocabRemapping",
    "ImmutableConst",
    "ImportEvent",
    "InitializeTRTResource",
    "InitializeTableFromDataset",
    "LMDBDataset",
    "LMDBReader",
    "ListSnapshotChunksDataset",
    "LoadAndRemapMatrix",
    "LoadDataset",
    "MatchingFiles",
    "PyFunc",
    "PyFuncStateless",
    "ReadFile",
    "RegisterDataset",
    "RegisterDatasetV2",
    "RemoteCall",
    "RemoteFusedGraphExecute",
    "Restore",
    "RestoreSlice",
    "RpcCall",
    "RpcClient",
    "RpcServer",
    "RpcServerRegister",
    "RpcServerStart",
    "Save",
    "SaveDataset",
    "SaveDatasetV2",
    "SaveSlices",
    "SerializeTRTResource",
    "SnapshotChunkDataset",
    "SnapshotDataset",
    "SnapshotDatasetReader",
    "SnapshotDatasetV2",
    "SnapshotNestedDatasetReader",
    "SqlDataset",
    "TFRecordDataset",
    "TFRecordDatasetV2",
    "TFRecordReader",
    "TFRecordReaderV2",
    "TRTEngineOp",
    "TextLineDataset",
    "TextLineReader",
    "TextLineReaderV2",
    "TfLiteSubgraphExecute",
    "WholeFileReader",
    "WholeFileReaderV2",
    "WriteAudioSummary",
    "WriteFile",
    "WriteGraphSummary",
    "WriteHistogramSummary",
    "WriteImageSummary",
    "WriteRawProtoSummary",
    "WriteScalarSummary",
    "WriteSummary",
    "XlaLaunch",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_sorted_and_apart() {
        for list in [PURE, OUTSIDE] {
            assert!(list.is_sorted_by(|a, b| a < b));
        }
        assert!(OUTSIDE.iter().all(|name| !PURE.contains(name)));
        for name in [PURE, OUTSIDE].concat() {
            let kind = Kind::of(name);
            assert!(
                !kind.is_saver() && !matches!(kind, Kind::Print | Kind::Table),
                "{name}"
            );
        }
        assert_eq!(effect("MatMul"), Effect::None);
        assert_eq!(effect("RestoreV2"), Effect::Checkpoint);
        assert_eq!(effect("InitializeTableFromTextFile"), Effect::Table);
        assert_eq!(effect("Print"), Effect::Print);
        assert_eq!(effect("ReadFile"), Effect::Outside);
        assert_eq!(effect("readfile"), Effect::Unknown);
    }
}
