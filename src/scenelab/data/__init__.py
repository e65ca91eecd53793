"""Data sets: image lists, decoding, the cache of decoded images, and augmentation."""

from typing import TYPE_CHECKING

from scenelab.lazy import lazy_exports

if TYPE_CHECKING:
    from scenelab.data.augment import augment_batch, mix_batch
    from scenelab.data.augment_config import Augment
    from scenelab.data.cache import MemmapDataset, pack
    from scenelab.data.decode import read_image, read_images
    from scenelab.data.holdout import hold_out
    from scenelab.data.miniplaces import Listing
    from scenelab.data.splits import open_dataset, open_split
else:
    __getattr__ = lazy_exports(__name__, __file__)

__all__ = [
    "Augment",
    "Listing",
    "MemmapDataset",
    "augment_batch",
    "hold_out",
    "mix_batch",
    "open_dataset",
    "open_split",
    "pack",
    "read_image",
    "read_images",
]
