"""tabular: pandas and scikit-learn, fitted on a generated table. The fitted values become the
handler's `columns`.
"""

import json

import numpy as np
import pandas as pd
from case import Case, answer, refused, tensor, tensors, texts
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

HANDLER = "tabular"
NUMBERS, CATEGORIES = ["age", "income", "balance"], ["job", "plan"]
CLOSE = 1e-6


def table(rng, rows):
    return pd.DataFrame(
        {
            "age": np.where(rng.random(rows) < 0.2, np.nan, rng.integers(18, 90, rows)),
            "income": np.round(rng.lognormal(10, 1, rows), 2),
            "balance": np.where(rng.random(rows) < 0.1, np.nan, np.round(rng.normal(0, 1e5, rows), 2)),
            "job": rng.choice(["clerk", "nurse", "smith", None], rows),
            "plan": rng.choice(["a", "b"], rows),
        }
    )


def fitted(rng):
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    categories = make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    )
    learnt = ColumnTransformer([("numbers", numbers, NUMBERS), ("categories", categories, CATEGORIES)])
    return learnt.fit(plain(table(rng, 200)))


def plain(frame):
    """Doubles and objects, with NaN for missing values, as the imputers expect."""
    frame = frame.reindex(columns=NUMBERS + CATEGORIES).astype({name: float for name in NUMBERS} | {name: object for name in CATEGORIES})
    return frame.where(frame.notna(), np.nan)


def columns(learnt):
    """The fitted values in the format of the handler's configuration."""
    impute, scale = (step for _, step in learnt.named_transformers_["numbers"].steps)
    parts = zip(NUMBERS, impute.statistics_, scale.mean_, scale.scale_)
    made = [{"name": n, "number": {"mean": float(m), "scale": float(s), "missing": float(i)}} for n, i, m, s in parts]
    impute, code = (step for _, step in learnt.named_transformers_["categories"].steps)
    for name, missing, values in zip(CATEGORIES, impute.statistics_, code.categories_):
        made.append({"name": name, "category": {"values": list(values), "unknown": "zeros", "missing": missing}})
    return json.dumps(made)


def case(name, learnt, rows):
    made = learnt.transform(plain(pd.DataFrame(rows))).astype(np.float32)
    return Case(name, sent([json.dumps(row) for row in rows]), answer(CLOSE, tensor("features", made)), {"columns": columns(learnt)})


def sent(rows):
    return tensors(texts("rows", [len(rows)], rows))


def rows(frame):
    """The rows as a client sends them: missing values are null, or absent."""
    made = []
    for at, row in enumerate(frame.to_dict("records")):
        row = {key: None if pd.isna(value) else value for key, value in row.items()}
        made.append({key: value for key, value in row.items() if value is not None or at % 2})
    return made


def committed(rng):
    learnt = fitted(rng)
    yield case("people", learnt, rows(table(rng, 6)))
    yield case("whole-numbers", learnt, [{"age": 40, "income": 10**9, "balance": -1, "job": "nurse", "plan": "b"}])
    yield case("an-unknown-job", learnt, [{"age": 1.5e-7, "income": 0, "balance": 0.0, "job": "astronaut", "plan": "a"}])
    config = {"columns": columns(learnt), "max_rows": "2"}
    for name, texts, says in [
        ("three-rows", ["{}", "{}", "{}"], "n up to 2"),
        ("a-key-twice", ['{"age": 1, "age": 2}'], "twice"),
        ("an-unknown-column", ['{"wage": 1}'], "no column"),
        ("a-text-for-a-number", ['{"age": "old"}'], "not a number"),
        ("not-finite", ['{"age": NaN}'], ""),
        ("beyond-fp32", ['{"income": 1e308}'], "too large"),
        ("no-rows", [], "n up to 2"),
        ("no-json", ["age,job"], ""),
        ("deep", ['{"age": ' + "[" * 2000], ""),
    ]:
        yield Case(name, sent(texts), refused(says), config)


def fresh(rng):
    for at in range(5):
        yield case(f"people-{at}", fitted(rng), rows(table(rng, 40)))
