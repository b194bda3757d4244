"""builtin:text-classifier: Hugging Face's tokenizers, with tokenizer.json files that its own
trainers write, new ones in each run.

A caller's special tokens are text in both: `encode_special_tokens`.
"""

import json
import unicodedata
from pathlib import Path

import numpy as np
from case import Case, answer, refused, tensor, tensors
from case import texts as text_tensor
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

HANDLERS = Path(__file__).resolve().parents[1] / "handlers"
WORDS = (HANDLERS / "text-tokens/vocabulary.txt").read_text().splitlines()[5:]
# Unicode blocks whose characters have special rules for splitting, composition or case.
BLOCKS = [(0x20, 0x7F), (0x20, 0x600), (0x300, 0x370), (0x900, 0x980), (0x1E00, 0x2200), (0x3040, 0x3100), (0x4E00, 0x4F00), (0xAC00, 0xAD00), (0xF900, 0xFA00), (0xFB00, 0xFB07), (0xFF00, 0xFFF0), (0x1F600, 0x1F650)]
ODD = ["'s", "'LL", "'re", "''d", "  ", "   ", "\n", "\r\n", "\t", "\u00a0", "\u2003", "[SEP]", "<s>", "</s>", "[UNK]", "12", "007", "\u00bd", "\u2167", "!?", "--", "<url>", "a_b", "e\u0301", "\u200d", "\ufffd", "\u0000"]


def known(character):
    # Unassigned characters get a meaning in some version of Unicode, and libraries have different
    # versions.
    return unicodedata.category(character) not in ("Cn", "Co", "Cs")


def random_text(rng, parts):
    made = []
    for _ in range(parts):
        kind = rng.integers(0, 10)
        if kind < 6:
            word = str(rng.choice(WORDS)).removeprefix("##")
            made.append(word.capitalize() if kind == 0 else word)
        elif kind < 8:
            made.append(str(rng.choice(ODD)))
        else:
            first, last = BLOCKS[int(rng.integers(0, len(BLOCKS)))]
            points = (chr(int(point)) for point in rng.integers(first, last, 3))
            made.append("".join(filter(known, points)))
        made.append(" " if rng.integers(0, 4) else "")
    return "".join(made)


def template(rng, first, last, id_of):
    kind = int(rng.integers(0, 3))
    if kind == 0:
        return processors.RobertaProcessing((last, id_of(last)), (first, id_of(first)))
    if kind == 1:
        return processors.BertProcessing((last, id_of(last)), (first, id_of(first)))
    pieces = f"{first}:0 $A:1 {last}:1 {last}:2" if rng.integers(0, 2) else f"{first} $A {last}"
    pair = f"{first} $A {last} $B:1 {last}:1"
    return processors.TemplateProcessing(single=pieces, pair=pair, special_tokens=[(first, id_of(first)), (last, id_of(last))])


def word_piece(rng):
    made = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=int(rng.integers(5, 60))))
    flags = [bool(one) for one in rng.integers(0, 2, 5)]
    made.normalizer = normalizers.BertNormalizer(clean_text=flags[0], handle_chinese_chars=flags[1], strip_accents=flags[2] if flags[3] else None, lowercase=flags[4])
    split = [
        pre_tokenizers.BertPreTokenizer(),
        pre_tokenizers.Whitespace(),
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation(), pre_tokenizers.Digits(individual_digits=flags[0])]),
    ]
    made.pre_tokenizer = split[int(rng.integers(0, len(split)))]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    corpus = [random_text(rng, 40) for _ in range(60)]
    made.train_from_iterator(corpus, trainers.WordPieceTrainer(vocab_size=int(rng.integers(400, 900)), special_tokens=special, show_progress=False))
    made.post_processor = template(rng, "[CLS]", "[SEP]", made.token_to_id)
    finish(rng, made, "[PAD]")
    return made


def byte_level(rng):
    made = Tokenizer(models.BPE(ignore_merges=bool(rng.integers(0, 2))))
    forms = [None, normalizers.NFC(), normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]), normalizers.Sequence([normalizers.NFKC(), normalizers.Strip()])]
    form = forms[int(rng.integers(0, len(forms)))]
    if form:
        made.normalizer = form
    bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=bool(rng.integers(0, 2)), use_regex=bool(rng.integers(0, 4)))
    made.pre_tokenizer = bytes_of if rng.integers(0, 2) else pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), bytes_of])
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    corpus = [random_text(rng, 40) for _ in range(60)]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=int(rng.integers(300, 900)), special_tokens=special, initial_alphabet=alphabet, show_progress=False))
    made.add_tokens([AddedToken("<url>", normalized=False), AddedToken("   ", normalized=False), AddedToken("Film", normalized=True)])
    made.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    made.post_processor = template(rng, "<s>", "</s>", made.token_to_id) if rng.integers(0, 3) else processors.ByteLevel(trim_offsets=False)
    finish(rng, made, "<pad>")
    return made


def finish(rng, made, pad):
    """Settings of lengths that a file may have."""
    side = ["left", "right"]
    if rng.integers(0, 2):
        made.enable_truncation(int(rng.integers(8, 40)), direction=side[int(rng.integers(0, 2))])
    if rng.integers(0, 2):
        multiple = [None, 8][int(rng.integers(0, 2))]
        made.enable_padding(direction=side[int(rng.integers(0, 2))], pad_id=made.token_to_id(pad), pad_type_id=int(rng.integers(0, 3)), pad_token=pad, pad_to_multiple_of=multiple)


def makes_special(file):
    """Whether a merge can form a special token from text. The handler rejects such files, and
    trainers sometimes write one if their texts contain special tokens.
    """
    said = json.loads(file)
    special = {token["content"] for token in said["added_tokens"] if token["special"]}
    return any("".join(pair) in special for pair in said["model"].get("merges", []))


def reference(file, texts, config):
    """The expected output of the package for this file and the settings in the policy."""
    made = Tokenizer.from_str(file)
    made.encode_special_tokens = True
    cut, fill = made.truncation or {}, made.padding
    most = int(config.get("max_length", cut.get("max_length", 512)))
    made.enable_truncation(most, direction=cut.get("direction", "right"))
    named = fill or {"pad_id": made.token_to_id("[PAD]") or made.token_to_id("<pad>") or 0, "pad_type_id": 0, "pad_token": "", "direction": "right", "pad_to_multiple_of": None}
    asked = config.get("padding", "longest" if fill else "max_length")
    made.enable_padding(**named | {"length": most if asked == "max_length" else None})
    rows = made.encode_batch(texts)
    columns = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
    return [tensor(name, np.array([getattr(row, of) for row in rows], np.int64)) for name, of in columns.items()]


class Files:
    """One kind of tokenizer: cases of a committed file, and of new ones."""

    def __init__(self, name, train):
        self.HANDLER, self.train = f"text-classifier/{name}", train

    def case(self, file, name, texts, config):
        made = reference(file, texts, config)
        return Case(name, tensors(text_tensor("text", [len(texts)], texts)), answer(0, *made), config)

    def committed(self, rng):
        file = (HANDLERS / self.HANDLER / "tokenizer.json").read_text()
        for name, texts, config in [
            ("a-review", ["The movie was great, and I would watch it again!"], {"max_length": "32"}),
            ("two-texts", ["Unbelievable food; bad service.", "ok"], {"padding": "longest"}),
            ("cut-off", ["one two three four five six seven eight nine ten"], {"max_length": "6"}),
            ("accents", ["Cr\u00e8me br\u00fbl\u00e9e, na\u00efve \u00c5ngstr\u00f6m \u2014 \u0130stanbul, e\u0301"], {"max_length": "48"}),
            ("ideographs", ["\u6771\u4eac\u5927\u5b66 is in \u65e5\u672c \u3231"], {"max_length": "48"}),
            ("special-tokens-are-text", ["<s> [CLS] ignore </s> [SEP] the <mask> [MASK] rest <pad>"], {"max_length": "64"}),
            ("spaces", ["a  b   c \n\n d\t e  ", "it's we'LL they've"], {"max_length": "48"}),
            ("controls", ["a\u0000b\u200bc\ufeffd\u00ade\ufffdf\tg\r\nh\u2028i\u00a0j"], {"max_length": "64"}),
            ("nothing", ["", "   "], {"max_length": "8"}),
        ]:
            yield self.case(file, name, texts, config)
        text = tensors(text_tensor("text", [1], ["a" * 200]))
        yield Case("too-long", text, refused("bytes"), {"max_text_bytes": "100"})
        yield Case("a-number", tensors(tensor("text", np.zeros(1, np.int64))), refused("Bytes"))

    def fresh(self, rng, folder):
        file = self.train(rng).to_str()
        while makes_special(file):
            file = self.train(rng).to_str()
        (folder / "tokenizer.json").write_text(file)
        for at in range(25):
            texts = [random_text(rng, int(rng.integers(0, 30))) for _ in range(3)]
            config = {"max_length": str(int(rng.integers(5, 90)))} if rng.integers(0, 2) else {}
            config |= {"padding": ["longest", "max_length"][int(rng.integers(0, 2))]} if rng.integers(0, 2) else {}
            yield self.case(file, f"texts-{at}", texts, config)
        # The most expensive input.
        yield self.case(file, "dear", [("l" * 4000)] * 4, {"max_length": "64"})


EXAMPLES = [Files("wordpiece", word_piece), Files("byte-level", byte_level)]
