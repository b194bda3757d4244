"""A KServe transformer: tokens before the model, labels after it."""

import argparse
from typing import Dict, Union

import numpy as np
from kserve import InferInput, InferRequest, InferResponse, Model, ModelServer
from kserve.model_server import parser
from transformers import AutoTokenizer

LABELS = ["negative", "positive"]


class SentimentTransformer(Model):
    def __init__(self, name: str, predictor_host: str):
        super().__init__(name)
        self.predictor_host = predictor_host
        self.tokenizer = AutoTokenizer.from_pretrained("bert-base-uncased")
        self.ready = True

    async def preprocess(self, payload: Union[Dict, InferRequest], headers=None) -> InferRequest:
        encoded = self.tokenizer(payload["instances"], padding="max_length", truncation=True, max_length=128)
        ids = np.array(encoded["input_ids"], dtype=np.int64)
        return InferRequest(self.name, [InferInput("input_ids", list(ids.shape), "INT64", ids)])

    def postprocess(self, response: InferResponse, headers=None) -> Dict:
        scores = response.outputs[0].as_numpy()
        return {"predictions": [LABELS[int(np.argmax(row))] for row in scores]}


if __name__ == "__main__":
    args, _ = argparse.ArgumentParser(parents=[parser]).parse_known_args()
    ModelServer().start([SentimentTransformer(args.model_name, args.predictor_host)])
