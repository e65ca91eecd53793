"""Students' pages under the names by which Canvas and Moodle attach uploaded feedback to submissions."""

import io
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

from scenelab.course.grading.outputs.page import render_page
from scenelab.course.grading.results import Grade
from scenelab.io import atomic_write

MOODLE = re.compile(r"(.+?_\d+_assignsubmission)_(?:file|onlinetext)")


def write_feedback(path: Path, grades: Iterable[Grade]) -> tuple[int, list[str]]:
    """Write a ZIP archive with a page per student; return their number and the students who are left out.

    Canvas finds the student by the ids in the name of the downloaded file and shows the page under the name that the
    student's own file had, so the page comes as ZIP, or as text for a submitted text file. Source: Canvas,
    `infer_comment_context_from_filename`; Moodle, assignfeedback_file, `is_valid_filename_for_import`.
    """
    files: dict[str, bytes] = {}
    skipped = []
    for grade in grades:
        page = render_page("grade.html", grade).encode()
        names = sorted(each.name.encode("utf-8", "replace").decode() for each in grade.entry.paths)
        kinds = {kind for kind, _ in grade.entry.ids}
        archive = next((name for name in names if name.lower().endswith(".zip")), None)
        text = next((name for name in names if name.lower().endswith((".py", ".txt", ".md"))), None)
        if "moodle" in kinds and (match := next(filter(None, map(MOODLE.match, names)), None)):
            files[f"{match[1]}_file_grade.html"] = page
        elif "canvas" in kinds and archive:
            files[archive] = _zip({"grade.html": page})
        elif "canvas" in kinds and text:
            files[text] = render_page("grade.md", grade).encode()
        elif kinds & {"canvas", "moodle"}:
            skipped.append(grade.entry.student)
    if files:
        with atomic_write(path) as file:
            file.write(_zip(files))
    else:
        path.unlink(missing_ok=True)  # of an earlier grading
    return len(files), skipped


def _zip(files: dict[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as target:
        for name in sorted(files):  # all of 1980, so that equal files give equal bytes
            target.writestr(zipfile.ZipInfo(name), files[name], zipfile.ZIP_DEFLATED)
    return archive.getvalue()
