"""gradio's own tidier, on files that come and go."""

import os
import sys
import threading
from types import SimpleNamespace

import pytest

from scenelab.app.temporary import let_paths_grow

route_utils = pytest.importorskip("gradio.route_utils")
delete = route_utils.delete_files_created_by_app


@pytest.fixture
def blocks():
    """What `gradio.Blocks` has of it; a real one leaves event loops behind."""
    picture, uploads = SimpleNamespace(temp_files=set()), set()
    made = SimpleNamespace(
        upload_file_set=uploads, temp_file_sets=[uploads, picture.temp_files], blocks={1: picture}, picture=picture
    )
    let_paths_grow(made)
    return made


@pytest.fixture
def hasty():
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def make(folder, name):
    path = folder / name
    path.touch()
    return str(path)


def test_a_file_that_comes_while_others_are_deleted_ends_nothing(blocks, hasty, tmp_path):
    blocks.picture.temp_files.update(make(tmp_path, f"old-{number}") for number in range(300))
    finished = threading.Event()

    def come():
        number = 0
        while not finished.is_set():
            blocks.picture.temp_files.add(make(tmp_path, f"new-{number}"))
            number += 1

    visitors = threading.Thread(target=come)
    visitors.start()
    try:
        for _ in range(20):
            delete(blocks, None)
    finally:
        finished.set()
        visitors.join()
    delete(blocks, None)
    assert os.listdir(tmp_path) == []


def test_names_of_files_that_are_gone_are_dropped_from_every_set(blocks, tmp_path):
    kept, twice = make(tmp_path, "kept"), make(tmp_path, "twice")
    for paths in (blocks.upload_file_set, blocks.picture.temp_files):
        paths.add(twice)
    blocks.upload_file_set.add(kept)
    delete(blocks, 3600)
    assert set(blocks.upload_file_set) == {kept, twice}
    os.remove(twice)
    delete(blocks, 3600)
    assert [len(paths) for paths in blocks.temp_file_sets] == [1, 0]
    assert blocks.temp_file_sets[0] is blocks.upload_file_set
    assert blocks.temp_file_sets[1] is blocks.picture.temp_files
