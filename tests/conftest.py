from scenelab.process import prepare

prepare()  # before torch loads, as the command line does

from pathlib import Path

import pytest

from scenelab.data.synthetic import write_scenes


@pytest.fixture(scope="session")
def scenes(tmp_path_factory) -> Path:
    """A small synthetic data set: 12 kinds, 6 training and 3 validation images each."""
    folder = tmp_path_factory.mktemp("data") / "scenes"
    write_scenes(folder, train_per_class=6, val_per_class=3, test=2)
    return folder
