"""Files that stand beside a model: tokenizers, configurations of Triton, pictures and notes."""

import io
import json

#: Configurations as users of Triton write them.
TRITON = {
    "empty": "",
    "comment": "\n# completed by the server\n",
    "onnx": (
        'name: "resnet"\nplatform: "onnxruntime_onnx"\nmax_batch_size: 8\n'
        'input [\n  {\n    name: "x"\n    data_type: TYPE_FP32\n    format: FORMAT_NCHW\n'
        "    dims: [ 3, 224, 224 ]\n    reshape { shape: [ 1, 3, 224, 224 ] }\n  }\n]\n"
        'output [ { name: "y" data_type: TYPE_FP32 dims: [ 1000 ]\n'
        '  label_filename: "labels.txt" } ]\n'
        "instance_group [ { count: 2 kind: KIND_GPU gpus: [ 0, 1 ] } ]\n"
        "dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100 }\n"
        "optimization { execution_accelerators {\n"
        '  gpu_execution_accelerator : [ { name : "tensorrt"\n'
        '    parameters { key: "precision_mode" value: "FP16" }\n'
        '    parameters { key: "max_workspace_size_bytes" value: "1073741824" } } ] } }\n'
        'parameters { key: "intra_op_thread_count" value: { string_value: "2" } }\n'
        'model_warmup [ { name: "zeros" batch_size: 1 inputs { key: "x" value: {\n'
        "  data_type: TYPE_FP32 dims: [ 3, 224, 224 ] zero_data: true } } } ]\n"
    ),
    "ensemble": (
        'name: "both"\nplatform: "ensemble"\nensemble_scheduling {\n  step [\n'
        '    { model_name: "a" model_version: -1 input_map { key: "x" value: "X" }\n'
        '      output_map { key: "y" value: "Y" } },\n'
        '    { model_name: "b" model_version: 1 input_map { key: "x" value: "Y" } }\n  ]\n}\n'
    ),
    "sequence": (
        'backend: "pytorch"\nmax_batch_size: 0\nsequence_batching {\n'
        "  max_sequence_idle_microseconds: 5000000\n  direct { minimum_slot_utilization: 1e-1 }\n"
        '  control_input [ { name: "START" control [ {\n'
        "    kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } ] } ]\n}\n"
        'parameters: { key: "INFERENCE_MODE" value: { string_value: "true" } }\n'
    ),
    "trees": (
        'backend: "fil"\nmax_batch_size: 32768\n'
        'input [{name: "input__0", data_type: TYPE_FP32, dims: [ 4 ]}]\n'
        'parameters [ { key: "model_type" value: { string_value: "xgboost_ubj" } },\n'
        '  { key: "output_class" value: { string_value: "true" } } ]\n'
    ),
}


def documents(out):
    """Configurations of Triton, notes in several encodings, and those of a download."""
    for name, text in TRITON.items():
        out.text("triton", f"{name}/config.pbtxt", text)
    out.path("notes", "LICENSE").write_bytes("© A. Author, “as is”\r\n".encode("cp1252"))
    for encoding in ["utf-16", "utf-16-be"]:
        text = "\ufeff# Modell 😀\r\n" if encoding == "utf-16-be" else "# Modell 😀\r\n"
        out.path("notes", f"{encoding}/README.md").write_bytes(text.encode(encoding))
    cache = ".cache/huggingface"
    tag = "Signature: 8a477f597d28d172789f06886806bc55\n# A cache of huggingface_hub.\n"
    out.text("notes", f"{cache}/CACHEDIR.TAG", tag)
    out.text("notes", f"{cache}/.gitignore", "*")
    out.text("notes", f"{cache}/download/a.bin.lock", "")
    metadata = f"{'0a' * 20}\n{'7f' * 32}\n1732648467.2512\n"
    out.text("notes", f"{cache}/download/a.bin.metadata", metadata)
    out.text("notes", "CITATION.cff", 'cff-version: 1.2.0\ntitle: "A"\nauthors:\n  - name: B\n')
    out.text("notes", "paper.bib", "@misc{a, title={B}}\n")


def vocabularies(out):
    """A tokenizer with as many entries as those of large models of today."""
    vocabulary = {f"▁{number:x}": number for number in range(262_144)}
    merges = [[f"▁{number:x}", f"{number % 16:x}"] for number in range(514_906)]
    model = {"type": "BPE", "vocab": vocabulary, "merges": merges}
    out.text("vocabulary", "tokenizer.json", json.dumps({"version": "1.0", "model": model}))


def sentencepiece_files(out):
    """Tokenizers of each algorithm and normalizer of SentencePiece."""
    import sentencepiece

    words = [f"{chr(97 + n % 26)}{chr(97 + n % 7)}é日{n % 50}" for n in range(400)]
    sentences = [" ".join(words[n:n + 9]) for n in range(0, 390)]
    for algorithm in ["unigram", "bpe", "word", "char"]:
        for rules in ["nmt_nfkc", "nfkc_cf", "identity"]:
            model = io.BytesIO()
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(sentences), model_writer=model, model_type=algorithm,
                vocab_size=400, hard_vocab_limit=False, normalization_rule_name=rules,
                byte_fallback=algorithm == "bpe", user_defined_symbols=["<a>"], minloglevel=2,
            )
            path = out.path("sentencepiece", f"{algorithm}-{rules}/tokenizer.model")
            path.write_bytes(model.getvalue())


def pictures(out):
    """Pictures of each mode and several options of Pillow."""
    from PIL import Image

    noise = bytes(range(256)) * 48
    for mode, size in [("RGB", (64, 64)), ("L", (64, 64)), ("1", (64, 64))]:
        image = Image.frombytes("RGB", size, noise).convert(mode)
        image.save(out.path("picture", f"{mode}.png"), optimize=mode == "L")
        image.save(out.path("picture", f"{mode}.gif"))
        image.convert("L").save(out.path("picture", f"{mode}.jpg"), progressive=mode == "1")
        image.convert("RGB").save(out.path("picture", f"{mode}.webp"), lossless=mode == "L")
    image = Image.frombytes("RGB", (64, 64), noise)
    frames = [image.rotate(90), image.rotate(180)]
    for ending in ["gif", "webp", "png"]:
        path = out.path("picture", f"moving.{ending}")
        image.save(path, save_all=True, append_images=frames, duration=50)
    image.save(out.path("picture", "comment.jpeg"), comment=b"a note", quality=95, dpi=(72, 72))
