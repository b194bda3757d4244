"""A typical TorchServe handler: common parts, and a few that are expensive."""

import base64
import io
import json
import logging
import os
import subprocess
import time

import numpy as np
import requests
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision import transforms
from ts.torch_handler.base_handler import BaseHandler

logger = logging.getLogger(__name__)


class ProductClassifier(BaseHandler):
    """Classifies pictures of products."""

    transform = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
        ]
    )

    def initialize(self, context):
        properties = context.system_properties
        model_dir = properties.get("model_dir")
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = torch.jit.load(os.path.join(model_dir, "model.pt"), map_location=self.device)
        with open(os.path.join(model_dir, "index_to_name.json")) as f:
            self.mapping = json.load(f)
        subprocess.run(["nvidia-smi"], check=False)
        self.initialized = True

    def preprocess(self, data):
        started = time.time()
        images = []
        for row in data:
            image = row.get("data") or row.get("body")
            if isinstance(image, str) and image.startswith("http"):
                image = requests.get(image, timeout=5).content
            elif isinstance(image, str):
                image = base64.b64decode(image)
            image = Image.open(io.BytesIO(image)).convert("RGB")
            images.append(self.transform(image))
        logger.info(f"preprocess took {time.time() - started}")
        return torch.stack(images).to(self.device)

    def inference(self, inputs):
        with torch.no_grad():
            return self.model(inputs)

    def postprocess(self, outputs):
        probabilities = F.softmax(outputs, dim=1)
        best, classes = torch.topk(probabilities, 5)
        return [
            {self.mapping[str(c)]: p for c, p in zip(row_c, row_p)}
            for row_c, row_p in zip(np.asarray(classes).tolist(), best.tolist())
        ]
