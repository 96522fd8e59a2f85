"""What makes pictures into the latents of Stable Cascade's stage C: an EfficientNetV2-S and one layer behind it.

Source: Pernias et al. 2023, Wuerstchen, arXiv:2306.00637, section 3.1 (the semantic compressor). The weights come with
Stable Cascade's release.

Shapes: C = 16 channels, h and w of the latents: a picture's sides by STRIDE.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..errors import PPDError

__all__ = ["STRIDE", "EfficientNetEncoder", "load_effnet"]

STRIDE = 32  # pixels
_FEATURES, _CHANNELS = 1280, 16
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pictures
_OTHERS = ("previewer.", "mean", "std")  # what a file may have beside the weights


class EfficientNetEncoder(nn.Module):
    """Latents that have mean 0 and variance 1 already."""

    def __init__(self) -> None:
        """Build without weights of its own.

        Raises:
            PPDError: torchvision isn't installed.
        """
        super().__init__()
        try:
            from torchvision.models import efficientnet_v2_s
        except ImportError as error:
            raise PPDError(
                "Cannot read pictures for Stable Cascade: found no torchvision; expected it, for its EfficientNet. "
                "Install it: pip install torchvision"
            ) from error
        self.backbone = efficientnet_v2_s().features
        layer = nn.Conv2d(_FEATURES, _CHANNELS, kernel_size=1, bias=False)
        self.mapper = nn.Sequential(layer, nn.BatchNorm2d(_CHANNELS, affine=False))

    @torch.no_grad()
    def latents(self, picture: Image.Image) -> Tensor:
        """(C, h, w) of a picture whose sides are multiples of STRIDE, on the CPU."""
        weight = next(self.parameters())
        pixels = torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float32) / 255)
        normed = (pixels - torch.tensor(_MEAN)) / torch.tensor(_DEVIATION)
        found: Tensor = self.mapper(self.backbone(normed.permute(2, 0, 1)[None].to(weight)))
        return found[0].float().cpu()


def load_effnet(file: Path) -> EfficientNetEncoder:
    """Read it, from a file of its own or one that has the previewer of stage C, too.

    Raises:
        PPDError: no such file, or another one's weights.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    expected = (
        f"{file.name} of Stable Cascade's own release (stabilityai/stable-cascade), which makes pictures into stage "
        f"C's latents. Put it into {file.parent.name!r}, beside model_index.json."
    )
    if not file.is_file():
        raise PPDError(f"Cannot train a PPD for Stable Cascade: found no {file.name}; expected {expected}")
    with torch.device("meta"):  # drawing weights that are thrown away takes longer than reading them
        encoder = EfficientNetEncoder()
    try:
        found = {name.removeprefix("encoder."): weight for name, weight in load_file(file).items()}
        kept = {name: weight for name, weight in found.items() if not name.startswith(_OTHERS)}
        encoder.load_state_dict(kept, assign=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise PPDError(f"Cannot read {file.name}: {first}; expected {expected}") from error
    return encoder.float().eval().requires_grad_(False)
