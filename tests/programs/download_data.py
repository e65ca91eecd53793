"""Download a data set into a folder from the addresses of its archive and of its lists."""

import sys
from pathlib import Path

from scenelab.data.fetch.install import download

if __name__ == "__main__":
    folder, archive, lists = sys.argv[1:]
    download(Path(folder), archive_addresses=[archive], list_addresses=[lists])
