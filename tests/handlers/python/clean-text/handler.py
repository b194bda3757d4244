"""A text handler in TorchServe's manner: no HTML, contractions, accents and punctuation, then words
and pairs of words.
"""

import html
import re
import string
import unicodedata

from tensorgate import Tensor

CONTRACTION_MAP = {
    "ain't": "is not",
    "can't": "cannot",
    "don't": "do not",
    "i'd": "I would",
    "it's": "it is",
    "we're": "we are",
}
CLEANUP_REGEX = re.compile(r"<[^>]*>|&(?:[a-z0-9]+|#[0-9]{1,6}|#x[0-9a-f]{1,6});")
CONTRACTIONS_PATTERN = re.compile(
    "({})".format("|".join(CONTRACTION_MAP.keys())), flags=re.IGNORECASE | re.DOTALL
)


class TextHandler:
    def expand_contractions(self, text):
        def expand_match(contraction):
            match = contraction.group(0)
            expanded = CONTRACTION_MAP.get(match) or CONTRACTION_MAP.get(match.lower())
            return match[0] + expanded[1:]

        return CONTRACTIONS_PATTERN.sub(expand_match, text).replace("'", "")

    def remove_accented_characters(self, text):
        text = unicodedata.normalize("NFKD", text)
        return text.encode("ascii", "ignore").decode("utf-8", "ignore")

    def remove_punctuation(self, text):
        return text.translate(str.maketrans("", "", string.punctuation))

    def preprocess(self, data):
        text = html.unescape(CLEANUP_REGEX.sub("", data.decode("utf-8"))).lower()
        text = self.remove_accented_characters(self.expand_contractions(text))
        return self.remove_punctuation(text).split()


handler = TextHandler()


def ngrams(tokens, n):
    shifted = [tokens[start:] for start in range(n)]
    return [" ".join(words) for size in range(1, n + 1) for words in zip(*shifted[:size])]


def preprocess(input):
    tokens = handler.preprocess(input[0].items()[0])
    return [Tensor.of_items("tokens", ngrams(tokens, 2))]
