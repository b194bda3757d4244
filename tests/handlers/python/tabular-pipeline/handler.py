"""scikit-learn's ColumnTransformer with the parameters of a fitted one, exported as .npz and JSON,
because a pickle may run code.
"""

import json

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from tensorgate import BadInput, Tensor

with open("columns.json") as file:
    COLUMNS = json.load(file)
FITTED = np.load("fitted.npz")
NUMERIC, CATEGORICAL = COLUMNS["numeric"], list(COLUMNS["categories"])


def restored():
    """Fits the transformer to rows that have each category, then sets what was learnt."""
    values = COLUMNS["categories"].values()
    numeric = Pipeline([("impute", SimpleImputer(strategy="median")), ("scale", StandardScaler())])
    encoder = OneHotEncoder(
        categories=list(values), handle_unknown="ignore", sparse_output=False, dtype=np.float32
    )
    transformer = ColumnTransformer([("num", numeric, NUMERIC), ("cat", encoder, CATEGORICAL)])
    row = dict.fromkeys(NUMERIC, 0.0)
    row |= {name: categories[0] for name, categories in COLUMNS["categories"].items()}
    transformer.fit(pd.DataFrame([row, {**row, **dict.fromkeys(NUMERIC, 1.0)}]))
    fitted = transformer.named_transformers_["num"]
    fitted["impute"].statistics_ = FITTED["median"]
    fitted["scale"].mean_, fitted["scale"].scale_ = FITTED["mean"], FITTED["scale"]
    return transformer


transformer = restored()


def preprocess(input):
    try:
        rows = [json.loads(item) for item in input[0].items()]
    except ValueError as error:
        raise BadInput(f"not JSON: {error}") from error
    frame = pd.DataFrame(rows, columns=NUMERIC + CATEGORICAL)
    try:
        frame[NUMERIC] = frame[NUMERIC].astype(float)
    except ValueError as error:
        raise BadInput(f"not a number: {error}") from error
    return [Tensor.of("features", transformer.transform(frame).astype("float32"))]
