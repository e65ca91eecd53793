"""Find the image files below a folder, and list ignored folders and files that look like images but cannot be used."""

import errno
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from scenelab.data.containers import MAGIC_BYTES, RAW_SUFFIXES, recognize, recognize_other
from scenelab.io import files_below, is_file

READ = "JPEG, PNG, WebP, GIF, BMP, TIFF, HEIC and AVIF files are read"
SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .tif .tiff .heic .heif .avif".split()
)  # others are read by content
OTHER_SUFFIXES = RAW_SUFFIXES | frozenset(
    """.jp2 .j2k .jpf .jpx .jxl .jxr .psd .svg .ico .icns .tga .ppm .pgm .pbm .pnm .pcx .eps .exr .hdr
    .dib .xcf .dds .fits .dcm .emf .wmf""".split()
)
COPIES = (".bak", ".old", ".orig", ".tmp", ".part", ".partial", ".crdownload", ".download", "~")
OTHER_PROGRAMS = frozenset(
    """@eadir #recycle #snapshot @tmp @recycle @recently-snapshot __macosx thumbs.db $recycle.bin recycler recycled
    lost+found __pycache__ desktop.ini .ds_store""".split()
) | {"system volume information"}
"""Folders and files of NAS systems, macOS, Windows, Linux and Python, in lower case; others begin with a dot."""
OWN = (".part", ".partial")  # hidden folders of an interrupted command


def is_of_other_program(name: str) -> bool:
    """Return whether the file or folder `name` belongs to another program, such as `@eaDir`, `Thumbs.db` or `._x`."""
    return name.startswith("._") or name.lower() in OTHER_PROGRAMS


@dataclass
class ImageFiles:
    """Search for images in a data folder.

    Attributes:
        root: the data folder; all paths are relative to it.
        unused: paths of unusable files that look like images, and of ignored folders (with a final slash): hidden
            folders, system folders such as `__MACOSX`, links to ancestors, and links below class folders.
    """

    root: Path
    unused: list[str] = field(default_factory=list)

    def folders(self, parent: Path) -> list[Path]:
        """Return the sorted subfolders, including links, without hidden and system folders and links to ancestors."""
        return sorted(path for path in parent.iterdir() if path.is_dir() and not self._skip(path))

    def below(self, folder: Path) -> list[str]:
        """Return the sorted paths of the images below a folder, relative to `root`."""
        names = list(files_below(folder, skip=lambda name: self._skip(folder / name, links=True)))
        return self._images([folder / name for name in names])

    def note_loose(self, parent: Path) -> None:
        """Add the images that are directly in `parent`, outside its class folders, to `unused`."""
        self.unused += self._images([path for path in parent.iterdir() if not path.is_dir()])

    def _skip(self, folder: Path, *, links: bool = False) -> bool:
        name = folder.name.lower()
        is_skipped = (
            name.startswith(".")
            or name in OTHER_PROGRAMS
            or (folder.is_symlink() and (links or folder.parent.resolve().is_relative_to(folder.resolve())))
        )
        if is_skipped and not name.endswith(OWN):
            self.unused.append(f"{folder.relative_to(self.root).as_posix()}/")
        return is_skipped

    def _images(self, paths: list[Path]) -> list[str]:
        images: list[str] = []
        for path in paths:
            verdict = is_image(path)
            if verdict is not None:
                (images if verdict else self.unused).append(path.relative_to(self.root).as_posix())
        return sorted(images)


def is_image(path: Path) -> bool | None:
    """Return True for an image that is read, False for a file that looks like an image, and None for other files.

    Files without a common suffix are recognized by their first bytes. Hidden files, broken links, partial downloads,
    copies made by editors, and raw camera files (Pillow reads only their thumbnail) look like images.
    """
    name, suffix = path.name.lower(), path.suffix.lower()
    if name.startswith("._"):  # macOS stores attributes in it
        return None
    if suffix in SUFFIXES:
        return not name.startswith(".") and is_file(path)
    head = _head(path)
    kind = recognize(head)
    if (
        kind
        and not name.startswith(".")
        and not name.endswith(COPIES)
        and (kind, suffix in OTHER_SUFFIXES) != ("TIFF", True)
    ):
        return True
    return False if kind or suffix in OTHER_SUFFIXES or recognize_other(head) else None


def _head(path: Path) -> bytes:
    """Return a file's first bytes, or b"" if it is missing, not a regular file, or not readable."""
    try:
        if not is_file(path):
            return b""
        with open(path, "rb") as file:
            return file.read(MAGIC_BYTES)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.ENOENT):
            return b""
        raise


def sort_unused(unused: list[str]) -> tuple[str, ...]:
    """Return the paths in order, folders last."""
    return tuple(sorted(unused, key=lambda path: (path.endswith("/"), path)))


def describe_unused(unused: list[str] | tuple[str, ...]) -> str:
    """Return a message that counts the unused files and names the ignored folders, or "" if there are none."""
    files = [path for path in sort_unused([*unused]) if not path.endswith("/")]
    folders = sorted({PurePath(path).name for path in unused if path.endswith("/")})
    count = "1 file that looks like an image is" if len(files) == 1 else f"{len(files)} files that look like images are"
    clauses = [f"{count} not used, first {files[0]} ({READ})"] if files else []
    if folders:
        clauses.append(f"folders passed over: {', '.join(folders)}")
    return "; ".join(clauses)
