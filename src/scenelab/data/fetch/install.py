"""Install a data folder atomically: build it in a staging folder, check it, then rename it."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from scenelab.data.fetch.archive import FOLDERS, TEXTS, extract
from scenelab.data.fetch.download import fetch
from scenelab.data.image_files import is_of_other_program
from scenelab.data.miniplaces import LISTS, read_list, read_list_of_categories
from scenelab.errors import LabError, find_url
from scenelab.io import LOCK, atomic_write, files_below, is_file, lock_folder, move_folder
from scenelab.progress import progress
from scenelab.terminal import say

# The archive's URL and an older mirror; the lists come from the organizers' development kit.
ARCHIVE_ADDRESSES = (
    "https://places.csail.mit.edu/miniplaces/data/data.tar.gz",
    "http://miniplaces.csail.mit.edu/data/data.tar.gz",
)
LIST_ADDRESSES = ("https://raw.githubusercontent.com/CSAILVision/miniplaces/master/data/",)
ARCHIVE_NAMES = ("data.tar.gz", "data.tar", "data.tgz", "data.zip")
BUILT = "data"  # renamed to the data folder; the other files in the staging folder are downloads


def download(
    folder: Path,
    *,
    archive_addresses: Sequence[str] = ARCHIVE_ADDRESSES,
    list_addresses: Sequence[str] = LIST_ADDRESSES,
) -> bool:
    """Download MiniPlaces into `folder` atomically; a later call resumes an interrupted download.

    The organizers publish no checksums, so the archive is checked by gzip's CRC and against the lists.

    Args:
        folder: a missing or empty folder; a folder with a complete data set is kept.
        archive_addresses: URLs of the archive, tried in order.
        list_addresses: URLs of folders with the four lists, ending in `/`, tried in order.

    Returns:
        True if the data set was installed, False if `folder` already had it.
    """

    def build(staging: Path) -> int:
        archive, lists = staging / "archive", [staging / name for name in TEXTS]
        for path in lists:
            fetch([address + path.name for address in list_addresses], path)
            with _deleting_invalid(path):
                _read(path)
        fetch(archive_addresses, archive)
        with _deleting_invalid(archive, *lists):
            return _unpack(archive, staging / BUILT)

    return _install(folder, build)


def import_data(source: Path, folder: Path, *, skip_missing: bool = False) -> bool:
    """Copy or extract a local copy of MiniPlaces into `folder` atomically.

    Args:
        source: an archive (`.tar`, `.tar.gz` or `.zip`), a folder with an archive named `data.…`, or a folder with
            `images/` and the lists. Lists beside an archive replace the lists inside it. From a folder, the targets of
            linked files are copied and linked folders are skipped.
        folder: a missing or empty folder; a folder with a complete data set is kept.
        skip_missing: leave listed images that are missing out of the lists in `folder`, instead of raising a LabError.

    Returns:
        True if the data set was installed, False if `folder` already had it.
    """
    source, folder = Path(source), Path(folder).resolve()
    if url := find_url(source):
        raise LabError(f"source is the URL {url}; expected an archive or a folder, download it first")
    if (source / "images").is_dir():
        if folder != source.resolve() and folder.is_relative_to(source.resolve()):
            raise LabError(f"cannot copy {source} into its own subfolder {folder}; choose a folder outside it")
        return _install(folder, lambda staging: _copy_folder(source, staging / BUILT, skip_missing))
    archive = source
    if source.is_dir():
        archive = next((source / name for name in ARCHIVE_NAMES if (source / name).is_file()), source)
    if not archive.is_file():
        raise LabError(
            f"{source} is no data set; give an archive, a folder with {' or '.join(ARCHIVE_NAMES[:2])} and the lists, "
            "or a folder with images/ and the lists"
        )
    return _install(folder, lambda staging: _unpack(archive, staging / BUILT, skip_missing))


def check(folder: Path, *, skip_missing: bool = False) -> int:
    """Return the number of listed images; raise a LabError if an image or list is missing or a list is invalid.

    With `skip_missing`, remove missing images from the lists; at least one image per list must exist.
    """
    there, count = set(files_below(folder / "images")), 0
    for name in TEXTS:
        listed = _read(folder / name) if name in LISTS or (folder / name).is_file() else []
        missing = [path for path in listed if path not in there]
        if missing and skip_missing and len(missing) < len(listed):
            rows = [f"{path} {label}\n" for path, label in read_list(folder / name) if path in there]
            with atomic_write(folder / name, "w") as file:
                file.writelines(rows)
            say(f"{name}: {len(missing):,} of {len(listed):,} images are missing and left out", file=sys.stderr)
            listed = rows
        elif missing:
            raise LabError(
                f"{name} lists {len(listed):,} images, of which {len(missing):,} are not there: "
                f"{', '.join(missing[:3])}{', …' if len(missing) > 3 else ''}; get the images and the lists that "
                "belong together, or leave them out with data import --missing skip"
            )
        count += len(listed)
    return count


def _read(path: Path) -> list[str]:
    """Validate a list and return its image paths, or [] for a list of categories."""
    if path.name in LISTS:
        return [name for name, _ in read_list(path)]
    if not read_list_of_categories(path):
        raise LabError(f"{path} lists no categories; get it again")
    return []


def _copy_folder(source: Path, built: Path, skip_missing: bool) -> int:
    for name in LISTS:
        read_list(source / name)
    if not skip_missing:
        check(source)  # before minutes of copying
    names = [f"{top}/{name}" for top in FOLDERS for name in files_below(source / top)]
    names = [name for name in names if not any(map(is_of_other_program, name.split("/")))]
    names = [name for name in (*names, *TEXTS) if is_file(source / name)]
    with progress("copying", len(names), unit="files") as advance:
        for name in names:
            (built / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, built / name)
            advance(1)
    return check(built, skip_missing=skip_missing)


def _unpack(archive: Path, built: Path, skip_missing: bool = False) -> int:
    beside = [archive.parent / name for name in TEXTS if (archive.parent / name).is_file()]
    for path in beside:
        _read(path)
    extract(archive, built)
    for path in beside:
        shutil.copyfile(path, built / path.name)
    for name in LISTS:
        if not (built / name).is_file():
            raise LabError(f"there is no {name} in {archive} or beside it; put the list beside it")
    try:
        return check(built, skip_missing=skip_missing)
    except LabError as error:
        if _is_system_error(error):
            raise
        raise LabError(str(error).replace(str(built), str(archive))) from error  # `built` is temporary


def _install(folder: Path, build: Callable[[Path], int]) -> bool:
    """Call `build(staging)`, then rename `staging/data` to `folder`; return False if `folder` already has the data."""
    folder = Path(folder).resolve()
    try:
        if _holds_data(folder):
            with suppress(LabError, OSError), _staging(folder):
                pass  # removes the staging folder of a process that was killed just after the rename
            return False
        with _staging(folder) as staging:
            if _holds_data(folder):  # another process installed it before this one had the lock
                return False
            count = build(staging)
            move_folder(staging / BUILT, folder)
    except OSError as error:
        cause = f"{error.strerror or error} ({error.filename})"
        raise LabError(f"cannot put {folder} in place: {cause}; check the permissions and free space") from error
    say(f"{folder} is ready: {count:,} labeled images", file=sys.stderr)
    return True


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """Lock and yield the staging folder; downloads in it are kept after an error or a kill, to resume them."""
    staging, done = folder.with_name(f".{folder.name}.partial"), False
    while True:
        staging.mkdir(parents=True, exist_ok=True)
        try:
            handle = lock_folder(staging)
            break
        except FileNotFoundError:
            continue  # another process has just removed it
        except BlockingIOError:
            raise LabError(f"another process is putting {folder} in place; wait until it has finished") from None
    try:
        shutil.rmtree(staging / BUILT, ignore_errors=True)
        yield staging
        done = True
    finally:
        shutil.rmtree(staging / BUILT, ignore_errors=True)
        for path in staging.iterdir():
            if done and path.name != LOCK:
                path.unlink()
        if os.listdir(staging) == [LOCK]:  # the lock file is removed last: it keeps other processes out until then
            (staging / LOCK).unlink()
            with suppress(OSError):  # the next process may already use it
                staging.rmdir()
        os.close(handle)


def _holds_data(folder: Path) -> bool:
    """Return True for a complete data set, False for a missing or empty folder; raise a LabError for other content."""
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise LabError(f"{folder} is a file; choose another name for the data folder")
    if not any(folder.iterdir()):
        if folder.is_mount() or folder == Path.cwd():
            raise LabError(f"{folder} cannot be replaced in one step; give {folder / 'miniplaces'}")
        return False
    try:
        count = check(folder)
    except LabError as error:
        cause = str(error).partition(";")[0]
        raise LabError(
            f"{folder} is not empty and holds no whole data set ({cause}); choose another folder or move this one away"
        ) from error
    say(f"{folder} already holds a whole data set ({count:,} labeled images): nothing to do", file=sys.stderr)
    return True


@contextmanager
def _deleting_invalid(*paths: Path) -> Iterator[None]:
    """Delete the downloads `paths` if the block raises a LabError for invalid content, not for a system error."""
    try:
        yield
    except LabError as error:
        if _is_system_error(error):
            raise
        for path in paths:
            path.unlink()
        raise LabError(f"{error}; it has been removed: run the command again to download it again") from error


def _is_system_error(error: LabError) -> bool:
    return getattr(error.__cause__, "errno", None) is not None  # gzip reports a wrong checksum as OSError without errno
