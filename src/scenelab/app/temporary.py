"""What gradio is to delete after a time: sets of paths that may grow while its tidier goes through them.

gradio has plain sets. A visitor who comes while the tidier looks ends it with "Set changed size during iteration",
and from then on nothing is deleted; and a file that stands in two of them is never struck off the second.
"""

import os
from collections.abc import Iterator
from typing import Any


class Paths(set[str]):
    """A set of paths. Who iterates sees those that are there at the start; names of files that are gone are dropped."""

    def __iter__(self) -> Iterator[str]:
        named = list(super().__iter__())  # in one step: no other thread comes between
        gone = {path for path in named if not os.path.lexists(path)}
        self.difference_update(gone)
        return iter([path for path in named if path not in gone])


def let_paths_grow(blocks: Any) -> None:
    """Replace the sets of a `gradio.Blocks`, its own and its components', by `Paths`."""
    found = {id(plain): Paths(plain) for plain in blocks.temp_file_sets}
    blocks.temp_file_sets = [found[id(plain)] for plain in blocks.temp_file_sets]
    blocks.upload_file_set = found[id(blocks.upload_file_set)]
    for part in blocks.blocks.values():
        if id(part.temp_files) in found:
            part.temp_files = found[id(part.temp_files)]
