//! Paths at which inference servers load models, change weights or settings, map memory or stop, by
//! kind of server. None of them is a route of the gate. TGI has none.

use Methods::{Any, Changing};

/// The methods with which a path changes a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Methods {
    /// Every method: the server has no other use for the path.
    Any,
    /// Those that change something: POST, PUT, PATCH and DELETE. Others only read.
    Changing,
}

/// The management of a kind of server.
#[derive(Clone, Copy, Debug)]
pub struct Management {
    /// The kind of server.
    pub server: &'static str,
    /// The methods.
    pub methods: Methods,
    /// The paths, in lower case. Those below them belong to the management, too.
    pub paths: &'static [&'static str],
}

/// The management of every known kind of server.
pub const MANAGEMENT: &[Management] = &[
    of(
        "Triton",
        Any,
        &[
            "/v2/repository",
            "/v2/logging",
            "/v2/systemsharedmemory",
            "/v2/cudasharedmemory",
            "/trace/setting",
            "/inference.grpcinferenceservice/repositoryindex",
            "/inference.grpcinferenceservice/repositorymodelload",
            "/inference.grpcinferenceservice/repositorymodelunload",
            "/inference.grpcinferenceservice/systemsharedmemorystatus",
            "/inference.grpcinferenceservice/systemsharedmemoryregister",
            "/inference.grpcinferenceservice/systemsharedmemoryunregister",
            "/inference.grpcinferenceservice/cudasharedmemorystatus",
            "/inference.grpcinferenceservice/cudasharedmemoryregister",
            "/inference.grpcinferenceservice/cudasharedmemoryunregister",
            "/inference.grpcinferenceservice/tracesetting",
            "/inference.grpcinferenceservice/logsettings",
        ],
    ),
    of(
        "MLServer",
        Any,
        &["/inference.model_repository.modelrepositoryservice"],
    ),
    of("TorchServe", Changing, &["/models"]),
    of(
        "TorchServe",
        Any,
        &[
            "/workflows",
            "/org.pytorch.serve.grpc.management.managementapisservice",
        ],
    ),
    of(
        "TF Serving",
        Any,
        &[
            "/tensorflow.serving.modelservice/handlereloadconfigrequest",
            "/tensorflow.profilerservice",
        ],
    ),
    of(
        "vLLM",
        Changing,
        &[
            "/sleep",
            "/wake_up",
            "/pause",
            "/resume",
            "/reset_prefix_cache",
            "/reset_mm_cache",
            "/reset_encoder_cache",
            "/init_weight_transfer_engine",
            "/start_weight_update",
            "/update_weights",
            "/finish_weight_update",
            "/abort_requests",
        ],
    ),
    of(
        "vLLM",
        Any,
        &[
            "/v1/load_lora_adapter",
            "/v1/unload_lora_adapter",
            "/collective_rpc",
            "/scale_elastic_ep",
            "/vllm.control",
        ],
    ),
    of(
        "SGLang",
        Any,
        &[
            "/flush_cache",
            "/clear_hicache_storage_backend",
            "/hicache/storage-backend",
            "/start_profile",
            "/stop_profile",
            "/set_trace_level",
            "/freeze_gc",
            "/slow_down",
            "/configure_logging",
            "/start_expert_distribution_record",
            "/stop_expert_distribution_record",
            "/dump_expert_distribution_record",
            "/update_weights_from_disk",
            "/update_weights_from_tensor",
            "/update_weights_from_distributed",
            "/update_weights_from_ipc",
            "/update_weight_version",
            "/init_weights_update_group",
            "/destroy_weights_update_group",
            "/init_weights_send_group_for_remote_instance",
            "/send_weights_to_remote_instance",
            "/get_weights_by_name",
            "/weights_checker",
            "/release_memory_occupation",
            "/resume_memory_occupation",
            "/load_lora_adapter",
            "/load_lora_adapter_from_tensors",
            "/unload_lora_adapter",
            "/abort_request",
            "/pause_generation",
            "/continue_generation",
        ],
    ),
    of(
        "LMDeploy",
        Any,
        &[
            "/terminate",
            "/wakeup",
            "/distserve",
            "/nodes/add",
            "/nodes/remove",
            "/nodes/terminate",
            "/nodes/terminate_all",
        ],
    ),
    of(
        "llama.cpp",
        Changing,
        &["/props", "/slots", "/lora-adapters"],
    ),
    of(
        "Ollama",
        Any,
        &[
            "/api/pull",
            "/api/push",
            "/api/create",
            "/api/copy",
            "/api/delete",
            "/api/blobs",
            "/api/signout",
            "/api/user/keys",
        ],
    ),
    of(
        "Ray",
        Any,
        &[
            "/api/serve",
            "/api/jobs",
            "/api/job_agent",
            "/api/packages",
            "/api/actors",
            "/api/v0",
        ],
    ),
];

/// The methods that change something.
const CHANGING: [&str; 4] = ["POST", "PUT", "PATCH", "DELETE"];
/// The most segments before a path of several segments: of a proxy's prefix, or of a model's path.
const MAX_SEGMENTS_BEFORE: usize = 8;

const fn of(server: &'static str, methods: Methods, paths: &'static [&'static str]) -> Management {
    Management {
        server,
        methods,
        paths,
    }
}

/// The kind of server whose management has this method and path. The path is in lower case and has
/// neither escapes nor empty or dot segments.
///
/// Whole segments are compared. A path of several segments may have others before it, because a
/// proxy may have added them. One of a single segment is too common a word for that.
pub fn managed_server(method: Option<&str>, path: &str) -> Option<&'static str> {
    let changes = method.is_some_and(|method| CHANGING.contains(&method));
    let mut starts = path
        .match_indices('/')
        .take(MAX_SEGMENTS_BEFORE)
        .enumerate();
    starts.find_map(|(number, (at, _))| {
        let rest = path.get(at..)?;
        let is_managed = |managed: &&str| {
            let may_start_here = number == 0 || has_several_segments(managed);
            may_start_here && is_at(rest, managed)
        };
        let mut servers = MANAGEMENT.iter();
        let found = servers.find(|management| {
            let is_method = changes || management.methods == Any;
            is_method && management.paths.iter().any(is_managed)
        })?;
        Some(found.server)
    })
}

/// Whether a path is another one or below it.
fn is_at(path: &str, start: &str) -> bool {
    let rest = path.strip_prefix(start);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn has_several_segments(path: &str) -> bool {
    path.bytes().filter(|byte| *byte == b'/').nth(1).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_belongs_to_a_kind_of_server_by_its_segments() {
        for (method, path, expected) in [
            ("POST", "/v2/repository/models/m/load", Some("Triton")),
            (
                "POST",
                "/v2/models/m/versions/1/trace/setting",
                Some("Triton"),
            ),
            ("POST", "/triton/v2/repository/index", Some("Triton")),
            ("DELETE", "/models/second", Some("TorchServe")),
            ("POST", "/sleep", Some("vLLM")),
            ("POST", "/v1/load_lora_adapter", Some("vLLM")),
            ("POST", "/update_weights_from_disk", Some("SGLang")),
            ("GET", "/flush_cache", Some("SGLang")),
            ("GET", "/terminate", Some("LMDeploy")),
            ("POST", "/slots/0", Some("llama.cpp")),
            ("DELETE", "/api/delete", Some("Ollama")),
            ("PUT", "/api/serve/applications", Some("Ray")),
            ("GET", "/models", None),
            ("GET", "/slots", None),
            ("GET", "/sleep", None),
            ("POST", "/x/sleep", None),
            ("POST", "/v2/models/repository/infer", None),
            ("POST", "/v2/models/sleep/infer", None),
            ("POST", "/v2/repositorymodel", None),
            ("POST", "/api/pulls", None),
            ("POST", "/", None),
        ] {
            assert_eq!(
                managed_server(Some(method), path),
                expected,
                "{method} {path}"
            );
        }
    }

    #[test]
    fn paths_are_in_lower_case_and_none_is_listed_twice() {
        let mut all: alloc::vec::Vec<_> = MANAGEMENT.iter().flat_map(|it| it.paths).collect();
        let are_plain = |path: &&&str| {
            path.starts_with('/') && !path.ends_with('/') && path.to_ascii_lowercase() == **path
        };
        assert!(all.iter().all(are_plain));
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
