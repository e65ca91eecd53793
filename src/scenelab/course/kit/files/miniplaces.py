"""The images of MiniPlaces and their labels."""

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
            raise SystemExit(f"{listing} does not exist; run ./download_dataset.sh, or give the folder of the data set")
        lines = [line.split() for line in listing.read_text().splitlines() if line.strip()]
        self.images = [(name, int(label)) for name, label in lines]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        name, label = self.images[index]
        with Image.open(self.folder / "images" / name) as image:
            return self.transform(image.convert("RGB")), label
