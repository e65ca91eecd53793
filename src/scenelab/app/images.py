"""Images that the explorer works on: uploads in memory, validation images and synthetic scenes."""

import hashlib
import secrets
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from scenelab.app.decoder import Decoder
from scenelab.app.limits import IMAGES
from scenelab.errors import LabError, printable
from scenelab_scenes import KINDS, render

if TYPE_CHECKING:
    from torch import Tensor

    from scenelab.app.session import Session

LIST_ADVICE = "; replace it or remove it from the list"  # in the decoder's errors; uploads are in no list
SALT = secrets.token_bytes(16)  # so that nobody can derive an upload's name from its content


class Images:
    """Uploads of this process, each as squares of the networks' input sizes; the oldest are dropped."""

    def __init__(self) -> None:
        self.decoder, self._lock = Decoder(), threading.Lock()
        self._squares: OrderedDict[str, dict[int, Tensor]] = OrderedDict()

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
        squares = {size: _fit(pixels, size).clone() for size in sizes}
        with self._lock:
            self._squares[key] = squares
            self._squares.move_to_end(key)
            while len(self._squares) > IMAGES:
                self._squares.popitem(last=False)
        return {"image": f"upload:{key}"}

    def pixels(self, session: "Session", name: str) -> "Tensor":
        """Return what a network sees of an image: the center square in its input size, uint8 (3, s, s).

        Raises:
            LabError: the upload is not in memory, or there is no such validation image or scene.
        """
        kind, _, rest = name.partition(":")
        size = session.stored.size
        if kind == "upload":
            with self._lock:
                square = self._squares.get(rest, {}).get(size)
            if square is None:
                raise LabError("this upload is no longer in memory; choose the image again")
            return square
        if kind == "val":
            return session.val_image(int(rest))
        scene, _, seed = rest.partition(":")
        if scene not in KINDS:
            raise LabError(f"there is no synthetic scene {scene!r}; choose one of {', '.join(KINDS)}")
        return _fit(render(scene, seed=int(seed)), size)


def _fit(pixels: Any, size: int) -> "Tensor":
    import torch

    from scenelab.data.decode import fit

    return fit(torch.from_numpy(pixels).permute(2, 0, 1), size)
