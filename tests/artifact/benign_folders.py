"""Folders of models as on the Hugging Face hub."""

from benign_templates import TEMPLATES

#: The configuration of models, with keys of the families.
CONFIGS = {
    "llama": {
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "bos_token_id": 128000,
        "eos_token_id": [128001, 128008, 128009], "hidden_act": "silu", "hidden_size": 4096,
        "model_type": "llama", "num_hidden_layers": 32, "rms_norm_eps": 1e-05,
        "rope_scaling": {"factor": 8.0, "rope_type": "llama3"}, "torch_dtype": "bfloat16",
        "transformers_version": "4.43.0.dev0", "use_cache": True, "vocab_size": 128256,
    },
    "bert": {
        "_name_or_path": "bert-base-uncased", "architectures": ["BertForMaskedLM"],
        "id2label": {"0": "NEGATIVE", "1": "POSITIVE"}, "label2id": {"NEGATIVE": 0},
        "layer_norm_eps": 1e-12, "model_type": "bert", "gradient_checkpointing": False,
        "pad_token_id": 0, "position_embedding_type": "absolute", "classifier_dropout": None,
    },
    "quantized": {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2",
        "quantization_config": {
            "bits": 4, "group_size": 128, "quant_method": "gptq", "modules_to_not_convert": None,
        },
        "sliding_window": 131072, "tie_word_embeddings": False,
    },
    "vision": {
        "architectures": ["LlavaForConditionalGeneration"], "model_type": "llava",
        "text_config": {"model_type": "llama"}, "vision_config": {"model_type": "clip"},
        "image_token_index": 32000, "trust_remote_code": False,
    },
}


def hugging_face(out):
    """Folders as on the Hugging Face hub: configurations, tokenizers, templates, notes."""
    form = "huggingface"
    for name, config in CONFIGS.items():
        out.json(form, f"{name}/config.json", config, indent=2)
        out.json(form, f"{name}/generation_config.json", {"do_sample": True, "temperature": 0.6})
    for name, template in TEMPLATES.items():
        token = {
            "__type": "AddedToken", "content": "<s>", "lstrip": False, "normalized": True,
            "rstrip": False, "single_word": False, "special": True,
        }
        config = {
            "add_bos_token": True, "added_tokens_decoder": {"0": token}, "bos_token": token,
            "chat_template": template, "clean_up_tokenization_spaces": False, "eos_token": "</s>",
            "model_max_length": 1000000000000000019884624838656, "pad_token": None,
            "tokenizer_class": "PreTrainedTokenizerFast", "additional_special_tokens": [],
        }
        out.json(form, f"{name}/tokenizer_config.json", config, indent=2, ensure_ascii=False)
        out.text(form, f"{name}/chat_template.jinja", template)
        out.json(form, f"{name}/chat_template.json", {"chat_template": template})
    named = [{"name": name, "template": text} for name, text in TEMPLATES.items()]
    out.json(form, "named/tokenizer_config.json", {"chat_template": named})
    words = {chr(0x100 + n): n for n in range(500)} | {"Ġthe": 501, '"': 502, "\\": 503}
    merges = ["Ġ t", "Ġ a", "h e", "i n", "r e", '" "', "# #"]
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": 0, "content": "<unk>", "special": True}],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}]},
        "pre_tokenizer": {
            "type": "Split", "pattern": {"Regex": "(?i:'s|'t)|\\p{N}{1,3}|\\s+(?!\\S)|\\s+"},
            "behavior": "Isolated", "invert": False,
        },
        "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "A"}}]},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True},
        "model": {"type": "BPE", "dropout": None, "vocab": words, "merges": merges},
    }
    pieces = [["<unk>", 0.0], ["▁the", -3.5], ["\u0000", -10.0]]
    unigram = {**tokenizer, "model": {"type": "Unigram", "unk_id": 0, "vocab": pieces}}
    index = {"metadata": {"total_size": 16060522496}, "weight_map": {"a": "m-00001.safetensors"}}
    sentence = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2", "type": "sentence_transformers.models.Normalize"},
    ]
    diffusion = {
        "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.21.0",
        "feature_extractor": ["transformers", "CLIPImageProcessor"], "image_encoder": [None, None],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "scheduler": ["diffusers", "PNDMScheduler"], "unet": ["diffusers", "UNet2DConditionModel"],
    }
    adapter = {
        "auto_mapping": None, "base_model_name_or_path": "m", "lora_alpha": 16, "peft_type": "LORA",
        "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM", "modules_to_save": None,
    }
    processor = {
        "crop_size": {"height": 224, "width": 224}, "do_resize": True, "resample": 3,
        "image_mean": [0.48145466, 0.4578275], "image_processor_type": "CLIPImageProcessor",
        "feature_extractor_type": "CLIPFeatureExtractor", "processor_class": "LlavaProcessor",
    }
    documents = {
        "tokenizer.json": tokenizer, "unigram/tokenizer.json": unigram, "vocab.json": words,
        "model.safetensors.index.json": index, "pytorch_model.bin.index.json": index,
        "modules.json": sentence, "model_index.json": diffusion, "adapter_config.json": adapter,
        "preprocessor_config.json": processor, "added_tokens.json": {"<pad>": 3},
        "special_tokens_map.json": {"bos_token": "<s>", "pad_token": {"content": "<pad>"}},
        "scheduler/scheduler_config.json": {"_class_name": "PNDMScheduler", "beta_end": 0.012},
        "optional/config.json": {"auto_map": None, "limit": float("-inf"), "target": "gpu"},
        "unet/config.json": {"_class_name": "UNet2DConditionModel", "act_fn": "silu"},
        "1_Pooling/config.json": {"pooling_mode_cls_token": False},
        "sentence_bert_config.json": {"max_seq_length": 256, "do_lower_case": False},
        "config_sentence_transformers.json": {"__version__": {"torch": "1.10"}, "prompts": {}},
        "trainer_state.json": {"log_history": [{"loss": float("nan"), "step": 1}]},
        "all_results.json": {"eval_accuracy": 0.9}, "empty.json": {}, "list.json": [],
        "generation_config.json": {"suppress_tokens": [], "forced_decoder_ids": [[1, None]]},
        "quantize_config.json": {"bits": 4, "desc_act": False, "damp_percent": 0.1},
        "tokenizer_config-processor.json": {"processor_class": "WhisperProcessor"},
        "sentencepiece.json": {"language": "日本語 \U0001f600 \u2028"},
    }
    for name, document in documents.items():
        out.json(form, name, document, indent=2 if len(name) % 2 else None)
    card = "---\nlicense: mit\ntags:\n- text-generation\n---\n\n# Model\n\n```python\nx\n```\n"
    texts = {
        "README.md": card, "bom/README.md": "\ufeff# Notes\r\n", "merges.txt": "#version: 0.2\n",
        "vocab.txt": "[PAD]\n[unused0]\n##ing\n日本\n", "LICENSE": "Apache License\n",
        "LICENSE.txt": "MIT\n", "USE_POLICY.md": "* one\n", "NOTICE": "Notice\n",
        "requirements.txt": "torch>=2.0\n", "labels.txt": "cat\ndog\n", "vocab.bpe": "Ġ t\n",
        ".gitattributes": "*.safetensors filter=lfs diff=lfs merge=lfs -text\n",
        "config.yaml": "model:\n  name: a\n  layers: [1, 2]\n  path: null\n",
        "data.csv": "a,b\n1,2\n", "rows.jsonl": '{"a": 1}\n{"a": 2}\n', "empty.txt": "\n",
    }
    for name, text in texts.items():
        out.text(form, name, text)
