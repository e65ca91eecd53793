"""A writable copy of what was handed in, with its own relative places: `../logs` beside `code/` can be made."""

import os
import shutil
import tempfile
from pathlib import Path

LARGE_FILE = 4 << 20  # bytes; a larger file is a link to the original, which is read-only
MAX_COPIED = 32 << 20  # bytes of all copies together


def copy_submission(source: Path) -> Path:
    """Copy a folder into a new one below TMPDIR; small files are copied, large ones linked."""
    target = Path(tempfile.mkdtemp(prefix="submission-"))
    copied = 0
    for folder, names, files in os.walk(source):
        place = target / Path(folder).relative_to(source)
        for name in names:
            (place / name).mkdir(exist_ok=True)
        for name in files:
            path = Path(folder, name)
            size = path.stat().st_size
            if size > LARGE_FILE or copied + size > MAX_COPIED:
                (place / name).symlink_to(path)
            else:
                shutil.copyfile(path, place / name)
                copied += size
    return target
