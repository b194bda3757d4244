"""BERT's tokenizer in pure Python, as serving examples ship it: basic tokens, then word pieces."""

import collections
import os
import unicodedata

import numpy as np
from tensorgate import BadInput, Tensor

MAX_SEQ_LENGTH = 16


def load_vocab(vocab_file):
    vocab = collections.OrderedDict()
    with open(vocab_file, "r", encoding="utf-8") as reader:
        for index, token in enumerate(reader):
            vocab[token.strip()] = index
    return vocab


class BasicTokenizer:
    def tokenize(self, text):
        tokens = []
        for token in self._clean(text).split():
            token = unicodedata.normalize("NFD", token.lower())
            token = "".join(c for c in token if unicodedata.category(c) != "Mn")
            tokens.extend(self._split_on_punctuation(token))
        return tokens

    def _clean(self, text):
        output = []
        for char in text:
            control = unicodedata.category(char) in ("Cc", "Cf") and char not in "\t\n\r"
            if ord(char) in (0, 0xFFFD) or control:
                continue
            if 0x4E00 <= ord(char) <= 0x9FFF:
                char = f" {char} "
            output.append(" " if char.isspace() else char)
        return "".join(output)

    def _split_on_punctuation(self, text):
        words, start_new_word = [], True
        for char in text:
            if unicodedata.category(char).startswith("P") or char in "$+<=>^`|~":
                words.append([char])
                start_new_word = True
            else:
                if start_new_word:
                    words.append([])
                start_new_word = False
                words[-1].append(char)
        return ["".join(word) for word in words]


class WordpieceTokenizer:
    def __init__(self, vocab, unk_token="[UNK]", max_input_chars_per_word=200):
        self.vocab, self.unk_token = vocab, unk_token
        self.max_input_chars_per_word = max_input_chars_per_word

    def tokenize(self, word):
        if len(word) > self.max_input_chars_per_word:
            return [self.unk_token]
        pieces, start = [], 0
        while start < len(word):
            for end in range(len(word), start, -1):
                piece = ("##" if start else "") + word[start:end]
                if piece in self.vocab:
                    break
            else:
                return [self.unk_token]
            pieces.append(piece)
            start = end
        return pieces


VOCAB = load_vocab(os.path.join(os.path.dirname(__file__), "vocab.txt"))
basic, wordpiece = BasicTokenizer(), WordpieceTokenizer(VOCAB)


def features(text):
    tokens = [piece for word in basic.tokenize(text) for piece in wordpiece.tokenize(word)]
    tokens = ["[CLS]", *tokens[: MAX_SEQ_LENGTH - 2], "[SEP]"]
    padding = [0] * (MAX_SEQ_LENGTH - len(tokens))
    ids = np.array([VOCAB[token] for token in tokens] + padding, dtype=np.int32)
    return ids, np.array([1] * len(tokens) + padding, dtype=np.int32)


def preprocess(input):
    try:
        texts = [item.decode("utf-8") for item in input[0].items()]
    except UnicodeDecodeError as error:
        raise BadInput("text is not UTF-8") from error
    input_ids, input_mask = map(np.vstack, zip(*(features(text) for text in texts)))
    return [
        Tensor.of("input_ids", input_ids),
        Tensor.of("input_mask", input_mask),
        Tensor.of("segment_ids", np.zeros_like(input_ids)),
    ]
