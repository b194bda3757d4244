"""A BentoML service in front of a small model: `bentoml serve service:Iris`."""

import bentoml
import numpy as np
from numpy.typing import NDArray

# A made-up linear model: 4 features to 3 species.
WEIGHTS = np.array([[0.4, 0.1, -0.5], [1.2, -0.3, -0.9], [-1.6, 0.2, 1.4], [-0.9, -0.6, 1.5]], np.float32)


@bentoml.service
class Iris:
    @bentoml.api
    def classify(self, input_series: NDArray[np.float32]) -> dict:
        scores = input_series @ WEIGHTS
        return {"species": scores.argmax(axis=1).tolist(), "scores": scores.tolist()}
