"""ResNet-50 with seeded random weights in PyTorch, on a GPU if PyTorch sees one. Tensors go in and
out by DLPack, without a copy in Python. `TORCH` in the environment names the folder with PyTorch,
because the backend's Python does not read PYTHONPATH.
"""

import os
import sys

sys.path.append(os.environ["TORCH"])

import torch
import triton_python_backend_utils as pb_utils
from torch import nn
from torch.utils.dlpack import to_dlpack

# Blocks and channels of each stage.
STAGES = [(3, 64), (4, 128), (6, 256), (3, 512)]
EXPANSION = 4
SEED = 7


def convolution(inputs, outputs, size, stride=1):
    """A convolution and its normalisation."""
    return [nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs)]


class Block(nn.Module):
    """A bottleneck block with its shortcut."""

    def __init__(self, inputs, channels, stride):
        super().__init__()
        outputs = channels * EXPANSION
        layers = [*convolution(inputs, channels, 1), nn.ReLU(), *convolution(channels, channels, 3, stride), nn.ReLU()]
        self.layers = nn.Sequential(*layers, *convolution(channels, outputs, 1))
        is_same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if is_same else nn.Sequential(*convolution(inputs, outputs, 1, stride))

    def forward(self, images):
        """Both ways, added."""
        return torch.relu(self.layers(images) + self.shortcut(images))


def resnet50():
    """The network."""
    layers, inputs = [*convolution(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)], 64
    for stage, (blocks, channels) in enumerate(STAGES):
        for block in range(blocks):
            layers.append(Block(inputs, channels, 2 if stage and not block else 1))
            inputs = channels * EXPANSION
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 1000))


class TritonPythonModel:
    """One instance."""

    def initialize(self, _):
        """Loads the network."""
        torch.manual_seed(SEED)
        torch.backends.cudnn.deterministic = True
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.network = resnet50().eval().to(self.device)
        pb_utils.Logger.log_warn(f"resnet50: PyTorch {torch.__version__} on {self.device}")

    def execute(self, requests):
        """Answers each request by itself, so that a batch is what its client sent."""
        return [self.answer(request) for request in requests]

    def answer(self, request):
        """The logits of a request's images."""
        images = pb_utils.get_input_tensor_by_name(request, "image")
        images = torch.from_dlpack(images.to_dlpack()).to(self.device)
        with torch.no_grad():
            logits = self.network(images).cpu().contiguous()
        return pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack("logits", to_dlpack(logits))])
