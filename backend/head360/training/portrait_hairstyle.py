"""Training the classifier of hair styles (``head360 train portrait hairstyle``)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from head360.datasets.labels import HAIR, MOUTH, SKIN
from head360.networks.face_window import FaceFrame, window_grid
from head360.networks.hairstyle_net import StyleConfig, style_network, style_planes
from head360.networks.weights_file import save_network
from head360.training.portrait_parsing import bust, seen_from_behind
from head360.training.portrait_scenes import cut_out
from head360.training.portraits import PortraitSet

KIND = "portrait-hairstyle"
FILE = "hairstyle.safetensors"
BALD = "bald"

_MARGIN = 1.3  # windows are kept this much wider than what is cut out of them
_KEPT = 144  # pixels per side of what is kept


@dataclass(frozen=True)
class StyleSettings:
    """Pictures and labels.

    Attributes:
        batch: windows of one step.
        smooth: share of each label that is given to all styles alike.
        behind: share of pictures from behind that is kept.
        shift, scale, turn: standard deviation of the window's place (units), size (logarithm) and
            angle (radians): landmarks are never exact.
        worn: how far masks are blurred and holed, as a parser's are, and how far light and noise
            change the hair; 0 leaves both as the studio took them.
        seed: of everything.
    """

    batch: int = 24
    smooth: float = 0.05
    behind: float = 0.1
    shift: float = 0.1
    scale: float = 0.11
    turn: float = 0.08
    worn: float = 1.0
    seed: int = 0


class StyleLesson:
    """What the classifier learns; see ``portrait_run.Lesson``.

    Args:
        data: training pictures.
        held_out: people that are nobody's training data, for figures and previews.
        config: of the network; its styles are :func:`style_names` of the data.
        settings: pictures and labels.
        device: "cpu" or a torch device.
        recipe: facts for the header of the weights.
    """

    def __init__(
        self,
        data: PortraitSet,
        held_out: PortraitSet | None,
        config: StyleConfig,
        settings: StyleSettings,
        device: str = "cpu",
        recipe: dict[str, Any] | None = None,
    ) -> None:
        torch.manual_seed(settings.seed)
        self.net: nn.Module = style_network(config).to(device)
        self.data, self.held_out = data, held_out or data
        self.config, self.settings, self.device = config, settings, device
        self.recipe = recipe or {}
        self._kept: dict[int, NDArray[np.uint8]] = {}
        worn = data.style[data.rows]
        # All styles alike, however often each is in the set.
        self._rows = [data.rows[worn == style] for style in np.unique(worn)]

    def facts(self) -> dict[str, Any]:
        """Configuration and settings."""
        return {"config": asdict(self.config), "lesson": asdict(self.settings)}

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Planes (B, 5, S, S) and styles (B,) int64."""
        settings = self.settings
        rng = np.random.default_rng([settings.seed, step])
        wanted: list[int] = []
        while len(wanted) < settings.batch:
            rows = self._rows[rng.integers(len(self._rows))]
            row = int(rows[rng.integers(len(rows))])
            if not seen_from_behind(self.data, row) or rng.random() < settings.behind:
                wanted.append(row)
        for row in wanted:
            if row not in self._kept:
                self._kept[row] = kept_window(self.data, row, self.config.side)
        # Dropout's numbers belong to the step, so a resumed run draws the same.
        torch.manual_seed(settings.seed * 1_000_003 + step)
        planes = torch.from_numpy(np.stack([self._kept[row] for row in wanted]))
        return self._ready(planes, settings), self._styles(self.data, wanted)

    def _ready(self, kept: Tensor, settings: StyleSettings) -> Tensor:
        """(B, 5, K, K) uint8 → (B, 5, S, S) what the network sees."""
        x = augment(kept.to(self.device).float() / 255, self.config, settings)
        return style_planes(x[:, :3], x[:, 3:4], x[:, 4:])

    def _styles(self, data: PortraitSet, rows: list[int]) -> Tensor:
        # −1 is bald, the last.
        styles = data.style[rows].astype(np.int64) % len(self.config.styles)
        return torch.from_numpy(styles).to(self.device)

    def losses(self, step: int) -> dict[str, Tensor]:
        """Cross entropy."""
        planes, styles = self.batch(step)
        loss = F.cross_entropy(self.net(planes), styles, label_smoothing=self.settings.smooth)
        return {"loss": loss}

    @torch.no_grad()
    def measure(self, net: nn.Module) -> dict[str, float]:
        """Top-1 and top-3 over held-out people seen from the front half, moderately augmented."""
        net.eval()
        settings = replace(self.settings, shift=0.05, scale=0.05, turn=0.04, worn=0.5)
        rows = [int(r) for r in self.held_out.rows if not seen_from_behind(self.held_out, int(r))]
        found = []
        torch.manual_seed(7)
        for start in range(0, min(len(rows), 240), 24):
            some = rows[start : start + 24]
            kept = [kept_window(self.held_out, row, self.config.side) for row in some]
            planes = self._ready(torch.from_numpy(np.stack(kept)), settings)
            found.append(net(planes).topk(3).indices == self._styles(self.held_out, some)[:, None])
        top = torch.cat(found).float()
        return {"top1": float(top[:, 0].mean()), "top3": float(top.sum(1).mean())}

    def sheet(self, net: nn.Module) -> NDArray[np.floating]:
        """What the network sees of a batch: colours above, hair and face below."""
        planes, _ = self.batch(0)
        colours = (planes[:12, :3] * 0.25 + 0.5).clamp(0, 1).cpu().numpy()
        masks = (planes[:12, [3, 4, 4]] * 0.5 + 0.5).cpu().numpy()
        return np.concatenate(
            [np.concatenate(list(part.transpose(0, 2, 3, 1)), 1) for part in (colours, masks)], 0
        ).astype(np.float32)

    def write(self, net: nn.Module, folder: Path) -> Path:
        """``hairstyle.safetensors``."""
        save_network(folder / FILE, net, KIND, asdict(self.config), self.recipe | self.facts())
        return folder / FILE


def style_names(data: PortraitSet) -> tuple[str, ...]:
    """Names of the classes: the studio's styles, then "bald"."""
    return (*data.style_names, BALD)


def kept_window(data: PortraitSet, row: int, side: float) -> NDArray[np.uint8]:
    """(5, K, K) uint8: colours over grey, coverage by hair and by the face, wider than ``side``."""
    picture = bust(data, row)
    front, shares = cut_out(picture, FaceFrame.of(picture.landmarks), side * _MARGIN, _KEPT)
    colours = front[:3] + 0.5 * (1 - front[3])
    planes = np.concatenate([colours, shares[[HAIR]], shares[SKIN : MOUTH + 1].sum(0)[None]])
    return (np.clip(planes, 0, 1) * 255 + 0.5).astype(np.uint8)


def augment(x: Tensor, config: StyleConfig, settings: StyleSettings) -> Tensor:
    """(B, 5, K, K) kept windows → (B, 5, S, S) as photographs and a parser would give them.

    Draws from torch's generator.
    """
    count, size, device = len(x), config.size, x.device

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, device=device)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(count, *shape, device=device)

    grid = window_grid(size, device)[None].expand(count, -1, -1, -1) / _MARGIN
    angle, grow = settings.turn * normal(), torch.exp(settings.scale * normal())
    mirror = torch.where(uniform() < 0.5, -1.0, 1.0)
    cos, sin = angle.cos() * grow, angle.sin() * grow
    turn = torch.stack([cos * mirror, -sin, sin * mirror, cos], 1).view(count, 2, 2)
    shift = settings.shift * normal(1, 1, 2) / (config.side * _MARGIN / 2)
    grid = torch.einsum("bij,bhwj->bhwi", turn, grid) + shift
    if settings.worn:  # photographs end, often at the top of the hair
        edge = torch.where(uniform() < 0.15 * settings.worn, 0.25 + 0.5 * uniform(), 1.0)
        grid = torch.maximum(grid, -edge[:, None, None, None])
    x = F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
    if not settings.worn:
        return x
    each = (count, 1, 1, 1)
    colours, masks = x[:, :3], x[:, 3:]
    light = _smooth_noise(count, 1, 3, size, device)
    colours = colours * (1 + 0.8 * settings.worn * uniform().view(each) * (light - 0.5))
    colours = colours.clamp(1e-3, 1) ** torch.exp(0.25 * settings.worn * normal().view(each))
    grey = colours.mean(1, keepdim=True)
    colour = torch.where(uniform() < 0.25 * settings.worn, 0.0, 1.0).view(each)
    colours = grey + (colours - grey) * colour
    if torch.rand(()) < 0.5 * settings.worn:
        colours = _blurred(colours, 1)
    colours = colours + 0.03 * settings.worn * uniform().view(each) * torch.randn_like(colours)
    reach = int(torch.randint(0, 3, ()))
    masks = _blurred(_blurred(masks, reach), reach) if reach else masks
    steep = 1 + 3 * uniform().view(each)
    masks = (masks - 0.5) * steep + 0.5 + 0.12 * settings.worn * normal(2, 1, 1)
    masks = masks.clamp(0, 1)
    holes = _smooth_noise(count, 2, int(torch.randint(3, 12, ())), size, device)
    depth = torch.where(uniform() < 0.35 * settings.worn, 0.25 * uniform(), -1.0).view(each)
    return torch.cat([colours, masks * ((holes - depth) * 8 + 0.5).clamp(0, 1)], 1)


def _smooth_noise(count: int, planes: int, cells: int, size: int, device: object) -> Tensor:
    """(count, planes, size, size) in [0, 1]."""
    grid = torch.rand(count, planes, cells, cells).to(str(device))
    return F.interpolate(grid, (size, size), mode="bilinear", align_corners=True)


def _blurred(x: Tensor, reach: int) -> Tensor:
    return F.avg_pool2d(x, 2 * reach + 1, 1, reach, count_include_pad=False)
