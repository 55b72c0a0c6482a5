"""LPIPS and identity similarity, with weights that the user brings.

No weights come with this project. LPIPS (Zhang et al. 2018) is AlexNet or VGG-16 plus five learned
linear layers; the files that torchvision and the authors publish fit as they are. Identity is any
TorchScript face recogniser.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from head360.errors import BadInput

Floats = NDArray[np.float32]

# (output channels, kernel, stride, padding) of a convolution, or "pool"; torchvision's order. Each
# convolution is followed by a ReLU; taps are the indices of the ReLUs whose output is compared.
_ALEX: tuple[tuple[int, int, int, int] | str, ...] = (
    (64, 11, 4, 2), "pool3", (192, 5, 1, 2), "pool3", (384, 3, 1, 1), (256, 3, 1, 1),
    (256, 3, 1, 1),
)  # fmt: skip
_VGG: tuple[tuple[int, int, int, int] | str, ...] = (
    (64, 3, 1, 1), (64, 3, 1, 1), "pool2", (128, 3, 1, 1), (128, 3, 1, 1), "pool2",
    (256, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1), "pool2", (512, 3, 1, 1), (512, 3, 1, 1),
    (512, 3, 1, 1), "pool2", (512, 3, 1, 1), (512, 3, 1, 1), (512, 3, 1, 1),
)  # fmt: skip
_TAPS = {"alex": (1, 4, 7, 9, 11), "vgg": (3, 8, 15, 22, 29)}
_LAYERS = {"alex": _ALEX, "vgg": _VGG}
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class Lpips(nn.Module):
    """Learned perceptual distance; 0 for equal pictures.

    Args:
        kind: "alex" or "vgg".
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.taps = _TAPS[kind]
        layers: list[nn.Module] = []
        channels, seen = 3, []
        for layer in _LAYERS[kind]:
            if isinstance(layer, str):
                layers.append(nn.MaxPool2d(int(layer[-1]), 2))
                continue
            width, kernel, stride, padding = layer
            layers += [nn.Conv2d(channels, width, kernel, stride, padding), nn.ReLU()]
            channels = width
            if len(layers) - 1 in self.taps:
                seen.append(width)
        self.features = nn.Sequential(*layers)
        self.linear = nn.ParameterList(nn.Parameter(torch.ones(1, c, 1, 1)) for c in seen)
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1))
        self.shift: Tensor
        self.scale: Tensor

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Two (B, 3, H, W) pictures in [−1, 1] → (B,) distances."""
        x = (torch.cat([a, b]) - self.shift) / self.scale
        total = a.new_zeros(len(a))
        tap = 0
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.taps:
                unit = x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)
                difference = (unit[: len(a)] - unit[len(a) :]).square()
                total = total + (difference * self.linear[tap]).sum(1).mean((1, 2))
                tap += 1
        return total


def load_lpips(paths: Sequence[Path], device: str = "cpu") -> Lpips:
    """LPIPS from weight files: one that holds everything, or backbone and linear layers apart.

    Args:
        paths: ``.safetensors`` or PyTorch state dicts (read without running code from them).
        device: torch device.

    Raises:
        BadInput: a file cannot be read, or weights are missing.
    """
    state: dict[str, Tensor] = {}
    for path in paths:
        state |= _state_dict(path)
    first = state.get("features.0.weight")
    if first is None or first.shape[0] != 64:
        raise BadInput(
            "The LPIPS weights hold no AlexNet or VGG-16 (features.0.weight): give torchvision's "
            "file and the authors' linear layers."
        )
    net = Lpips("alex" if first.shape[-1] == 11 else "vgg")
    own = net.state_dict()
    for name in own:
        if name.startswith("features."):
            source = name
        elif name.startswith("linear."):
            source = f"lin{name.split('.')[1]}.model.1.weight"
        else:
            continue
        if source not in state or state[source].shape != own[name].shape:
            raise BadInput(f"The LPIPS weights lack {source}: give the complete files.")
        own[name] = state[source].float()
    net.load_state_dict(own)
    return net.to(device).eval().requires_grad_(False)


def _state_dict(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(str(path))
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # safetensors, zip and pickle readers raise types of their own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadInput(
            f"Cannot read the weights {path} ({reason}): choose another file."
        ) from error
    if not isinstance(loaded, dict) or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise BadInput(f"{path} is no state dict of tensors: choose another file.")
    return loaded


def load_identity(path: Path, device: str = "cpu") -> nn.Module:
    """A TorchScript face recogniser: (B, 3, 112, 112) in [−1, 1] → (B, D) embeddings.

    Raises:
        BadInput: the file cannot be read, or the network does something else.
    """
    try:
        net: nn.Module = torch.jit.load(str(path), map_location=device).eval()  # type: ignore[no-untyped-call]
        with torch.no_grad():
            out = net(torch.zeros(1, 3, 112, 112, device=device))
    except (RuntimeError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise BadInput(
            f"{path} is no TorchScript face recogniser ({reason}): export one that takes "
            "(B, 3, 112, 112)."
        ) from error
    if not isinstance(out, Tensor) or out.ndim != 2:
        raise BadInput(f"{path} returns no embeddings: export one that gives (B, D).")
    return net


def to_tensor(picture: Floats, device: str = "cpu") -> Tensor:
    """(H, W, 3) in [0, 1] → (1, 3, H, W) in [−1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].to(device) * 2 - 1


def identity_similarity(net: nn.Module, a: Floats, b: Floats, device: str = "cpu") -> float:
    """Cosine of the embeddings of two face crops, (H, W, 3) in [0, 1]."""
    faces = torch.cat([to_tensor(a, device), to_tensor(b, device)])
    faces = F.interpolate(faces, size=(112, 112), mode="bilinear", antialias=True)
    with torch.no_grad():
        first, second = net(faces)
    return float(F.cosine_similarity(first, second, dim=0))
