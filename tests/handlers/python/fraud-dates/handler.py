"""A fraud detector's transformer: JSON rows to a pandas frame, dates to features, a log, a cycle,
one column a channel, a robust scaler's centre and scale.
"""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
from tensorgate import BadInput, Tensor

CONFIG = json.loads((Path(__file__).parent / "preprocessing_info.json").read_text())
FEATURES = CONFIG["final_features"]


class FraudPreprocessor:
    def clean_data(self, df):
        df = df.dropna(subset=["user_id", "device_id"]).drop_duplicates().copy()
        df["signup_time"] = pd.to_datetime(df["signup_time"])
        df["purchase_time"] = pd.to_datetime(df["purchase_time"])
        return df

    def engineer_features(self, df):
        df["time_to_purchase"] = (df["purchase_time"] - df["signup_time"]).dt.total_seconds() / 60
        df["hour"] = df["purchase_time"].dt.hour
        df["weekday"] = df["purchase_time"].dt.dayofweek
        df["month"] = df["purchase_time"].dt.month
        df["user_per_device"] = df.groupby("device_id")["user_id"].transform("count")
        df["hour_sin"] = np.sin(2 * np.pi * df["hour"] / 24)
        df["hour_cos"] = np.cos(2 * np.pi * df["hour"] / 24)
        df["amount_log"] = np.log1p(df["amount"].clip(lower=0))
        return df

    def encode_and_scale(self, df):
        df["channel"] = df["channel"].str.strip().str.title()
        df = pd.get_dummies(df, columns=["channel"])
        df = df.reindex(columns=FEATURES, fill_value=0)
        for name, (center, scale) in CONFIG["robust"].items():
            df[name] = (df[name] - center) / scale
        return df.fillna(0)


preprocessor = FraudPreprocessor()


def preprocess(input):
    try:
        df = pd.read_json(io.BytesIO(input.data), convert_dates=False)
        df = preprocessor.engineer_features(preprocessor.clean_data(df))
    except (ValueError, KeyError) as error:
        raise BadInput(f"bad rows: {error}", caller="bad rows") from error
    return [Tensor.of("X", preprocessor.encode_and_scale(df).to_numpy(dtype=np.float32))]
