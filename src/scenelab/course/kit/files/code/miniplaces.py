"""The images of MiniPlaces and their labels."""

import os
import re
from pathlib import Path

from PIL import Image
from torch.utils.data import Dataset


class MiniPlaces(Dataset):
    """The images that FOLDER/SPLIT.txt lists, a line "train/a/abbey/00000001.jpg 0" each, below FOLDER/images.

    Args:
        folder: the data set.
        split: train or val.
        transform: from an image to a tensor.
    """

    def __init__(self, folder, split, transform):
        self.folder, self.transform = Path(folder), transform
        listing = self.folder / f"{split}.txt"
        if not listing.is_file():
            raise SystemExit(f"{listing} does not exist; run download_dataset.py, or give the folder of the data set")
        self.images = read_list(listing)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        name, label = self.images[index]
        with Image.open(self.folder / "images" / name) as image:
            return self.transform(image.convert("RGB")), label


def read_list(path):
    """The (path, label) pairs of a UTF-8 list, written on any system; a path may hold blanks."""
    pairs = []
    content = path.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise SystemExit(f"{path} is UTF-16; save it as UTF-8")
    text = content.decode("utf-8-sig", "surrogateescape")
    for number, line in enumerate(re.split("\r\n?|\n", text), start=1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        name = name.strip() if "/" in name else name.strip().replace("\\", "/")
        is_outside = name.startswith("/") or re.match("[A-Za-z]:[/\\\\]", name) or ".." in name.split("/")
        if not name or "\0" in name or not re.fullmatch("[0-9]{1,6}", label) or is_outside:
            raise SystemExit(f"{path}, line {number}: {line.strip()[:80]!r}; expected a path below images/ and a label")
        if os.name != "nt":  # whatever the locale, the bytes of the list name the file
            name = os.fsdecode(name.encode("utf-8", "surrogateescape"))
        pairs.append((name, int(label)))
    if not pairs:
        raise SystemExit(f"{path} lists no images; run download_dataset.py again")
    return pairs
