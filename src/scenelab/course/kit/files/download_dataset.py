"""Download MiniPlaces into ./data; run it again after a break, it goes on: python ./download_dataset.py

It does what download_dataset.sh does, on every system and with Python alone.
"""

import argparse
import shutil
import sys
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

ARCHIVES = (
    "https://places.csail.mit.edu/miniplaces/data/data.tar.gz", "http://miniplaces.csail.mit.edu/data/data.tar.gz",
)  # fmt: skip
LISTS = "https://raw.githubusercontent.com/CSAILVision/miniplaces/master/data/"
NAMES = ("train.txt", "val.txt", "categories.txt", "object_categories.txt")
PIECE = 1 << 20


def download(address, path):
    """Download a file; what is there of it already is not downloaded again."""
    part = path.with_name(path.name + ".part")
    begun = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={begun}-"} if begun else {})
    try:
        answer = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: all of it is there
            raise
        part.replace(path)
        return
    with answer, open(part, "ab" if answer.status == 206 else "wb") as file:
        size = int(answer.headers.get("Content-Length") or 0) + file.tell()
        while True:
            piece = answer.read(PIECE)
            if not piece:
                break
            file.write(piece)
            print(f"\r{path.name}: {file.tell() >> 20} of {size >> 20} MiB", end="", flush=True)
        print()
        if file.tell() < size:
            raise OSError(f"{path.name} broke off at {file.tell():,} of {size:,} bytes")
    part.replace(path)


def unpack(path, folder):
    """Extract images and nothing else: no links, no path that leads out of the folder."""
    with tarfile.open(path) as archive:
        for member in archive:
            target = folder / member.name
            if member.isfile() and folder.resolve() in target.resolve().parents:
                target.parent.mkdir(parents=True, exist_ok=True)
                with open(target, "wb") as file:
                    shutil.copyfileobj(archive.extractfile(member), file)


def main(folder):
    """Download the archive, unpack it, and download the lists."""
    folder.mkdir(exist_ok=True)
    archive = folder / "data.tar.gz"
    if not (folder / "unpacked").exists():
        for number, address in enumerate(ARCHIVES, start=1):
            try:
                archive.exists() or download(address, archive)
                break
            except OSError as error:
                print(f"{address}: {error}")
                if number == len(ARCHIVES):
                    sys.exit("download_dataset.py: no address answers; run it again later, it goes on")
        print("unpacking ...", flush=True)
        unpack(archive, folder)
        (folder / "unpacked").touch()
        archive.unlink()
    for name in NAMES:
        if not (folder / name).exists():
            download(LISTS + name, folder / name)
    print(f"MiniPlaces is in {folder}")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    main(Path(__file__).resolve().parent / "data")
