"""Writes a language model of 256 KiB for llama.cpp: one layer of random weights over bytes. Its
answers are printable, long and meaningless. The file is the same each time.
"""

import sys

import gguf
import numpy as np

WIDTH, HEADS, FORWARD, CONTEXT = 64, 4, 128, 16384
SPECIAL = ["<unk>", "<s>", "</s>"]
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def main(path):
    """Writes the file."""
    rng = np.random.default_rng(7)
    tokens = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *(chr(code) for code in range(33, 127)), "\u2581"]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    kinds += [gguf.TokenType.BYTE] * 256 + [gguf.TokenType.NORMAL] * (len(tokens) - 259)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_chat_template(TEMPLATE)
    matrix = lambda *shape: (rng.standard_normal(shape) / 8).astype(np.float32)
    # Unprintable tokens are never the most likely, so no answer ends before its maximum length.
    output = matrix(len(tokens), WIDTH)
    output[:259] = 0
    writer.add_tensor("token_embd.weight", matrix(len(tokens), WIDTH) * 8)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    writer.add_tensor("output.weight", output)
    for name in ("attn_norm", "ffn_norm"):
        writer.add_tensor(f"blk.0.{name}.weight", np.ones(WIDTH, np.float32))
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        writer.add_tensor(f"blk.0.{name}.weight", matrix(WIDTH, WIDTH))
    for name, shape in (("ffn_gate", (FORWARD, WIDTH)), ("ffn_up", (FORWARD, WIDTH)), ("ffn_down", (WIDTH, FORWARD))):
        writer.add_tensor(f"blk.0.{name}.weight", matrix(*shape))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(sys.argv[1])
