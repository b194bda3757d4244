"""text-tokens: Hugging Face's tokenizers, with the parts of `BertTokenizerFast` and the same
vocabulary.
"""

from pathlib import Path

import numpy as np
from case import Case, answer, refused, tensor, tensors
from case import texts as text_tensor
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

HANDLER = "text-tokens"
VOCABULARY = (Path(__file__).resolve().parents[1] / "handlers" / HANDLER / "vocabulary.txt").read_text().splitlines()
IDS = {token: at for at, token in enumerate(VOCABULARY)}


def tokenizer():
    # Special tokens are not added, because in a caller's text they are text.
    made = Tokenizer(WordPiece(IDS, unk_token="[UNK]", max_input_chars_per_word=100))
    made.normalizer = BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=True, lowercase=True)
    made.pre_tokenizer = BertPreTokenizer()
    return made


TOKENIZER = tokenizer()


def reference(texts, length, longest):
    rows = []
    for text in texts:
        ids = TOKENIZER.encode(text, add_special_tokens=False).ids[: length - 2]
        rows.append([IDS["[CLS]"], *ids, IDS["[SEP]"]])
    width = max(map(len, rows)) if longest else length
    ids = np.array([row + [IDS["[PAD]"]] * (width - len(row)) for row in rows], np.int64)
    mask = np.array([[1] * len(row) + [0] * (width - len(row)) for row in rows], np.int64)
    return [tensor("input_ids", ids), tensor("attention_mask", mask), tensor("token_type_ids", np.zeros_like(ids))]


def case(name, texts, config):
    made = reference(texts, int(config.get("max_length", 128)), config.get("padding") == "longest")
    return Case(name, tensors(text_tensor("text", [len(texts)], texts)), answer(0, *made), config)


SHORT = {"max_length": "24", "padding": "longest"}


def committed(rng):
    yield case("a-review", ["The movie was great, and I would watch it again!"], {"max_length": "16"})
    yield case("two-texts", ["Unbelievable food; bad service.", "ok"], SHORT)
    yield case("accents", ["Crème brûlée à la carte, naïve Ångström — İstanbul"], SHORT)
    yield case("ideographs", ["東京大学 is in 日本 ㈱"], SHORT)
    yield case("special-tokens-are-text", ["[CLS] ignore [SEP] the [MASK] rest [PAD]"], SHORT)
    yield case("unknown", ["🙂 and ⅷ and " + "x" * 101 + " " + "x" * 100], {"max_length": "128", "padding": "longest"})
    yield case("controls", ["a\u0000b\u200bc\ufeffd\u00ade\ufffdf\tg\r\nh\u2028i\u00a0j"], SHORT)
    yield case("nothing", ["", "   "], SHORT)
    text = tensors(text_tensor("text", [1], ["a" * 200]))
    yield Case("too-long", text, refused("bytes"), {"max_text_bytes": "100"})
    yield Case("a-number", tensors(tensor("text", np.zeros(1, np.int64))), refused("Bytes"))
    yield Case("too-many", tensors(text_tensor("text", [3], ["a"] * 3)), refused("n up to 2"), {"max_texts": "2"})


def fresh(rng):
    pieces = [token.removeprefix("##") for token in VOCABULARY[5:]] + list(" ,.-'\u00e9\u0301\u4e2d\u00df\u0130\u03a3\u00bd\uff21\ufb01\u1e9e")
    for at in range(20):
        texts = ["".join(str(one) + " " * int(rng.integers(0, 2)) for one in rng.choice(pieces, 60)) for _ in range(3)]
        yield case(f"words-{at}", texts, {"max_length": str(int(rng.integers(3, 90)))})
    # The most expensive input: words that are unknown, but found up to their last character.
    dear = " ".join(["understand" * 9 + "\u0131"] * 40)
    yield case("dear", [dear[:2000]] * 8, {})
    yield case("dear-letters", [" ".join(["z" * 98 + "\u0131"] * 40)[:4000]] * 8, {})
    for at in range(20):
        points = [int(one) for one in rng.integers(32, 0x3000, 60)]
        # Unassigned characters get a meaning in some version of Unicode, and libraries have
        # different versions.
        yield case(f"anything-{at}", ["".join(chr(one) for one in points if known(chr(one)))], {"max_length": "128"})


def known(character):
    import unicodedata

    return unicodedata.category(character) not in ("Cn", "Co", "Cs") and unicodedata.unidata_version >= "3"
