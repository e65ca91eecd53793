"""Pictures that the explorer works on: uploads in memory, validation images and synthetic scenes."""

import hashlib
import secrets
import threading
from collections import OrderedDict

import torch
from jaxtyping import UInt8
from torch import Tensor

from scenelab.app.decoder import Decoder
from scenelab.app.limits import IMAGES
from scenelab.app.session import Session
from scenelab.data.decode import fit
from scenelab.errors import LabError, printable
from scenelab_scenes import KINDS, render

LIST_ADVICE = "; replace it or remove it from the list"  # in the decoder's errors; uploads are in no list
SALT = secrets.token_bytes(16)  # so that nobody can derive an upload's name from its content
GONE = "this upload is no longer in memory; choose the image again"


class Images:
    """Uploads of this process, each as squares of the networks' input sizes; the oldest are dropped."""

    def __init__(self) -> None:
        self.decoder = Decoder()
        self._squares: OrderedDict[str, dict[int, Tensor]] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, data: bytes, name: str, sizes: set[int]) -> dict[str, object]:
        """Decode an image file and keep its center square in each size; return its name, width and height.

        Raises:
            LabError: the image is invalid, or takes too much time or memory.
        """
        try:
            image = torch.from_numpy(self.decoder.read(data, printable(name)[:100] or "upload")).permute(2, 0, 1)
        except LabError as error:
            raise LabError(str(error).removesuffix(LIST_ADVICE)) from None
        key = hashlib.blake2b(data, digest_size=16, key=SALT).hexdigest()
        with self._lock:
            self._squares[key] = {size: fit(image, size).clone() for size in sizes}
            self._squares.move_to_end(key)
            while len(self._squares) > IMAGES:
                self._squares.popitem(last=False)
        return {"image": f"upload:{key}", "width": image.shape[2], "height": image.shape[1]}

    def pixels(self, session: Session, name: str) -> UInt8[Tensor, "3 s s"]:
        """Return what a network sees of an image: the center square in its input size.

        Raises:
            LabError: the upload is not in memory, or the network has no such validation image.
        """
        kind, _, rest = name.partition(":")
        size = session.stored.size
        if kind == "upload":
            with self._lock:
                square = self._squares.get(rest, {}).get(size)
            if square is None:
                raise LabError(GONE)
            return square
        if kind == "val":
            return session.val_image(int(rest))
        scene, _, seed = rest.partition(":")
        if scene not in KINDS:
            raise LabError(f"there is no synthetic scene {scene!r}; choose one of {', '.join(KINDS)}")
        return fit(torch.from_numpy(render(scene, seed=int(seed))).permute(2, 0, 1), size)
