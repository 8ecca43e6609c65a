"""Encoder of categorical rasters: a learned vector per class, and a vision transformer."""

from jaxtyping import Float32, UInt8
from torch import Tensor, nn

from unigeo.producer.encoders.patch_transformer import PatchTransformer
from unigeo.producer.encoders.tower_settings import ClassesSettings


class ClassesEncoder(PatchTransformer):
    """Encoder of patches of classes, whose numbers have no order."""

    def __init__(self, settings: ClassesSettings, dimension: int) -> None:
        super().__init__(settings, settings.views * settings.embedding, dimension)
        self.settings = settings
        self.embedding = nn.Embedding(len(settings.classes) + 1, settings.embedding)  # 0 is no data

    def channels(
        self, patches: UInt8[Tensor, "point view row col"]
    ) -> Float32[Tensor, "point channel row col"]:
        """Replace each pixel by its class's vector; the channels of a view follow each other."""
        vectors: Tensor = self.embedding(patches.long())
        return vectors.movedim(-1, 2).flatten(1, 2)
