//! The index of a pipeline of Diffusers: where it names the library of a component, and which
//! libraries are known.

use super::super::json::ELEMENT;

/// Keys of the repository that a component of a modular pipeline is fetched from.
pub(super) const REPOSITORY_KEYS: [&str; 2] = ["pretrained_model_name_or_path", "repo"];
/// Libraries of components that Diffusers imports without a file of the folder.
const LIBRARIES: [&str; 3] = ["diffusers", "transformers", "onnxruntime.training"];
/// Modules of `diffusers.pipelines` with classes of components, from releases 0.21 to 0.42.
const PIPELINES: [&str; 34] = [
    "ace_step",
    "alt_diffusion",
    "audioldm2",
    "audio_diffusion",
    "blip_diffusion",
    "cosmos",
    "deepfloyd_if",
    "flux",
    "hunyuan_video",
    "ideogram4",
    "kandinsky",
    "kolors",
    "latent_diffusion",
    "ltx",
    "ltx2",
    "marigold",
    "musicldm",
    "paint_by_example",
    "shap_e",
    "spectrogram_diffusion",
    "stable_audio",
    "stable_audio_3",
    "stable_cascade",
    "stable_diffusion",
    "stable_diffusion_3",
    "stable_diffusion_safe",
    "stable_diffusion_xl",
    "stable_video_diffusion",
    "text_to_video_synthesis",
    "unclip",
    "unidiffuser",
    "versatile_diffusion",
    "vq_diffusion",
    "wuerstchen",
];

/// Whether a path leads to the library and the class of a component.
pub(super) fn is_component(path: &[String]) -> bool {
    match path {
        [_, list] => list == ELEMENT,
        // The index of a modular pipeline.
        [.., key, list] => key == "type_hint" && list == ELEMENT,
        _ => false,
    }
}

/// Whether Diffusers imports this library without a file of the folder.
pub(super) fn is_known_library(library: &str) -> bool {
    LIBRARIES.contains(&library) || PIPELINES.contains(&library)
}
