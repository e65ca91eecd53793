"""Write checkpoints, and read untrusted ones: no code runs, and memory is bounded by the file's size."""

import os
from pathlib import Path
from typing import Any

import torch

from scenelab.errors import LabError
from scenelab.io import atomic_write
from scenelab.runs.checkpoint_check import CorruptError, DisallowedError, check_archive
from scenelab.runs.header import Header, read_header

LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"  # the pickled magic number that torch wrote before 1.6


def save_checkpoint(path: Path, values: dict[str, Any]) -> None:
    """Write tensors and plain values, atomically."""
    with atomic_write(path) as file:
        try:
            torch.save(values, file)
        except RuntimeError as error:  # torch's writer fails again at its end when a write has failed
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint, which may come from anybody, onto the CPU; its header has been checked.

    Raises:
        LabError: the file is missing, damaged, not a checkpoint, or holds more than tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise LabError(f"checkpoint {path} does not exist; train first, or check the path given to --resume")
    try:
        values = _load(path)
    except OSError as error:
        cause = error.strerror or error
        raise LabError(f"checkpoint {path} cannot be read: {cause}; check its permissions and the disk") from error
    except (DisallowedError, CorruptError) as error:
        kind = "is damaged" if isinstance(error, CorruptError) else "holds more than tensors and plain values"
        raise LabError(f"checkpoint {path} {kind} and was not loaded ({error}); use one written by scenelab") from error
    if not isinstance(values, dict) or not isinstance(values.get("state_dict"), dict):
        expected = "one written by scenelab or the handout's main.py"
        raise LabError(f"checkpoint {path} has no 'state_dict'; expected {expected}")
    read_header(path, values, Header)
    return values


def _load(path: Path) -> Any:
    with path.open("rb") as file:
        if file.read(len(LEGACY)) == LEGACY:
            raise LabError(
                f"checkpoint {path} has the format of torch before 1.6, which is not read; save it again with a newer "
                "torch: torch.save(torch.load(path), path)"
            )
        check_archive(file, os.fstat(file.fileno()).st_size)
    try:
        # Not memory-mapped: a file that the handout's main.py overwrites in place would end this process (SIGBUS).
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # whatever torch's unpickler raises for values that do not fit together
        raise CorruptError(str(error).partition("\n")[0][:120] or type(error).__name__) from error
