"""Images that the explorer works on: uploads in memory, validation images, shipped examples and synthetic scenes."""

import hashlib
import secrets
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from scenelab.app.catalog import Catalog
from scenelab.app.decoder import Decoder
from scenelab.app.limits import IMAGES
from scenelab.data.pixels import read_pixels
from scenelab.errors import LabError, printable
from scenelab.runs.pretrained import find_example
from scenelab_scenes import KINDS, render

if TYPE_CHECKING:
    from torch import Tensor

    from scenelab.app.session import Session

LIST_ADVICE = "; replace it or remove it from the list"  # in the decoder's errors; uploads are in no list
SALT = secrets.token_bytes(16)  # so that nobody can derive an upload's name from its content


class Images:
    """Uploads of this process, each as squares of the networks' input sizes; the oldest are dropped."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog, self.decoder, self._squares = catalog, Decoder(), OrderedDict[str, "dict[int, Tensor]"]()

    def add(self, data: bytes, name: str, sizes: set[int]) -> dict[str, Any]:
        """Decode an image file, keep its center square in each size, and return its name in the explorer.

        Raises:
            LabError: the image is invalid, or takes too much time or memory.
        """
        try:
            pixels = self.decoder.read(data, printable(name)[:100])
        except LabError as error:
            raise LabError(str(error).removesuffix(LIST_ADVICE)) from None
        key = hashlib.blake2b(data, digest_size=16, key=SALT).hexdigest()
        self._squares[key] = {size: _fit(pixels, size).clone() for size in sizes}
        self._squares.move_to_end(key)
        while len(self._squares) > IMAGES:
            self._squares.popitem(last=False)
        return {"image": f"upload:{key}"}

    def pixels(self, session: "Session", name: str) -> "Tensor":
        """Return what a network sees of an image: the center square in its input size, uint8 (3, s, s).

        Raises:
            LabError: the upload is not in memory, or there is no such image or scene.
        """
        (kind, _, rest), size = name.partition(":"), session.stored.size
        if kind == "upload":
            square = self._squares.get(rest, {}).get(size)
            if square is None:
                raise LabError("this upload is no longer in memory; choose the image again")
            return square
        if kind == "val":
            row, _, owner = rest.partition("@")  # the run whose image it is; by default that of the session
            return (self.catalog.session(owner) if owner else session).val_image(int(row), size)
        if kind == "example":
            return _fit(read_pixels(find_example(rest)), size)
        scene, _, seed = rest.partition(":")
        if scene not in KINDS:
            raise LabError(f"there is no synthetic scene {scene!r}; choose one of {', '.join(KINDS)}")
        return _fit(render(scene, seed=int(seed)), size)


def _fit(pixels: Any, size: int) -> "Tensor":
    import torch

    from scenelab.data.decode import fit

    return fit(torch.from_numpy(pixels).permute(2, 0, 1), size)
