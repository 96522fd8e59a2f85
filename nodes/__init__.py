"""ComfyUI's face of Palate: nodes, and the routes that their buttons call. No mathematics here."""

from __future__ import annotations

from comfy_api.v0_0_2 import ComfyExtension, io

from . import routes  # noqa: F401 - importing it registers the routes, once
from .adapt import PalateAdaptClip, PalateAdaptConditioning
from .apply_user import PalateApplyUser
from .batch_users import PalateBatchUsers
from .blend import PalateBlendTastes
from .choose import PalateChoosePair
from .collect import PalateCollectPairs
from .embedding import PalateSaveEmbedding
from .loaders import PalateLoadEncoder, PalateLoadPlayground
from .ppd import PalateLoadPPD
from .rank import PalateRankImages
from .tastes import PalateFitTaste, PalateLoadTaste, PalateSaveTaste
from .train import PalateTrainPreferenceLora
from .users import PalateBlendUsers, PalateEncodeUser, PalateLoadUser, PalateSaveUser
from .wording import PalateAddLikedWords

__all__ = ["PalateExtension"]


class PalateExtension(ComfyExtension):
    """All of Palate's nodes. Their ids are in people's workflows and never change."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            PalateLoadPlayground,
            PalateLoadEncoder,
            PalateCollectPairs,
            PalateChoosePair,
            PalateFitTaste,
            PalateBlendTastes,
            PalateAdaptConditioning,
            PalateAdaptClip,
            PalateAddLikedWords,
            PalateRankImages,
            PalateSaveTaste,
            PalateLoadTaste,
            PalateSaveEmbedding,
            PalateLoadPPD,
            PalateEncodeUser,
            PalateBlendUsers,
            PalateBatchUsers,
            PalateApplyUser,
            PalateSaveUser,
            PalateLoadUser,
            PalateTrainPreferenceLora,
        ]
