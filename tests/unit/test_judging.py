"""A folder given to judge a trained network is judged whole, unless it is the training folder or has splits."""

import dataclasses
import shutil
from pathlib import Path

import pytest
from PIL import Image

from scenelab.cli import main
from scenelab.data.judging import open_judged
from scenelab.data.splits import ALL, LEVELS, open_dataset, open_split
from scenelab.errors import LabError
from scenelab.io import write_json
from scenelab.report.collect import read_run
from scenelab.runs.config import to_plain
from scenelab.runs.loading import judge, open_images
from scenelab.runs.run import Run

KNOWN = ("cat", "dog", "owl")


def make_tree(folder: Path, names: str, *, count: int = 3) -> Path:
    """Write folders such as `val/cat` with images."""
    for name in names.split():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.new("RGB", (4, 4), (number, 0, 0)).save(folder / name / f"{number}.png")
    return folder


@pytest.mark.parametrize(
    ("names", "split", "judged", "paths"),
    [
        ("cat dog owl", None, ALL, 9),
        ("dog", None, ALL, 3),
        ("cat dog owl", "all", ALL, 9),
        ("Train/cat Valid/dog Test/dog", "all", ALL, 9),
        ("cat dgo", None, ALL, 3),
        ("train/cat val/cat val/bat test/bat test/owl", "test", "test", 3),
        ("train/cat train/dog valid/dog", None, "val", 3),
        ("Train/cat Train/dog Validation/cat Test/dog", None, "val", 3),
        ("train/cat train/dog val/cat valid/dog", None, "val", 3),
        ("train/cat train/dog dev/dog test/cat test/dog", "test", "test", 6),
        ("train/cat train/dog test/cat", None, "test", 3),
        ("train/cat train/owl val/cat val/dog", None, "val", 6),
        ("train/cat train/bat test/dog", None, "test", 3),
        ("valid/cat test/dog", None, "val", 3),
        ("test/cat", None, "test", 3),
        ("test/cat test/dog", "test", "test", 6),
    ],
)
def test_which_images_of_a_folder_are_judged(tmp_path, names, split, judged, paths):
    listing = open_judged(make_tree(tmp_path, names), split, KNOWN)
    assert (listing.split, len(listing), listing.categories) == (judged, paths, KNOWN)
    for index, label in enumerate(listing.labels):
        assert listing.file(index).parent.name == KNOWN[label]


def test_a_class_may_have_one_image_or_a_name_of_a_split(tmp_path):
    assert len(open_judged(make_tree(tmp_path / "one", "cat dog", count=1), None, KNOWN)) == 2
    listing = open_judged(make_tree(tmp_path / "named", "dev test"), None, ("dev", "test"))
    assert (listing.split, len(listing)) == (ALL, 6)


@pytest.mark.parametrize(
    ("names", "split", "message"),
    [
        ("dgo", None, r"has the class 'dgo' \(did you mean 'dog'\?\), which the network does not know"),
        ("", None, "has 0 folders with images"),
        *(("cat dog", split, f"has no {split} folder; all of it is judged without --split") for split in LEVELS),
        ("train/cat train/dog val/cat", "test", "has no test folder; it has train, val"),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(tmp_path, names, split, message):
    with pytest.raises(LabError, match=message):
        open_judged(make_tree(tmp_path, names), split, KNOWN)


@pytest.mark.parametrize("name", ["val", "valid", "Validation", "dev"])
def test_training_finds_the_folder_of_val_by_its_usual_names(tmp_path, name):
    make_tree(tmp_path, f"train/cat train/dog {name}/dog")
    assert [open_split(tmp_path, split).labels for split in ("train", "val")] == [(0, 0, 0, 1, 1, 1), (1, 1, 1)]


def test_the_training_folder_or_a_copy_of_it_keeps_its_split(tmp_path, trained_on_tree):
    run, stored, data = trained_on_tree
    own, _ = open_images(run, stored)
    shutil.copytree(data, tmp_path / "copy")
    for folder in (data, data / ".." / data.name, tmp_path / "copy"):
        dataset, _ = open_images(run, stored, data=folder)
        assert (dataset.split, dataset.paths) == ("val", own.paths)
    next((tmp_path / "copy").rglob("*.png")).unlink()
    other, source = open_images(run, stored, data=tmp_path / "copy")
    assert (other.split, source) == (ALL, tmp_path / "copy")
    assert not (tmp_path / "copy" / "packed" / "all-32").exists()


def test_a_training_folder_that_changed_is_noticed(tmp_path, trained_on_tree, capsys):
    run, stored, data = trained_on_tree
    data, run = shutil.copytree(data, tmp_path / "data"), Run(shutil.copytree(run.folder, tmp_path / "run"))
    settings = run.read_config()

    def judged(split: str | None = None, holdout: float = 0.0) -> Path:
        train = dataclasses.replace(settings.train, holdout=holdout)
        write_json(run.config, to_plain(dataclasses.replace(settings, data=str(data), train=train)))
        return judge(run, stored, split=split).run.results

    assert judged() == judged("holdout", 0.4) == run.results
    assert "changed since" not in capsys.readouterr().err
    Image.new("RGB", (40, 40)).save(next(path for path in data.iterdir() if path.is_dir()) / "new.png")
    assert judged() == run.results / "on-data"  # where nothing is calibrated
    assert "changed since" in capsys.readouterr().err
    with pytest.raises(LabError, match="it is not known which were held out"):
        judged("holdout", 0.4)


def test_a_table_with_splits_is_judged_on_val(tmp_path):
    make_tree(tmp_path, "cat dog")
    rows = [f"{name}/{number}.png,{name},{split}" for name in ("cat", "dog") for number, split in enumerate(LEVELS)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label,split", *rows]))
    assert [open_judged(tmp_path / "list.csv", split, KNOWN).split for split in (None, "test", ALL)] == [
        "val",
        "test",
        ALL,
    ]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *(row.rpartition(",")[0] for row in rows)]))
    assert open_judged(tmp_path / "list.csv", None, KNOWN).split == ALL


def test_evaluate_says_what_it_judged_and_keeps_the_result_on_val(tmp_path, trained_on_tree, capsys):
    run, _, _ = trained_on_tree
    assert main.run(["evaluate", str(run.folder)]) == 0
    before = (run.results / "val.json").read_bytes()
    for name, count, folder in (("x y", 6, "on-x-y"), ("other", 4, "on-other")):
        data = make_tree(tmp_path / name, "cat owl" if count == 6 else "valid/cat valid/dog", count=count // 2)
        assert main.run(["evaluate", str(run.folder), "--data", str(data)]) == 0
        result = run.results / folder / f"{'all' if count == 6 else 'val'}.json"
        out = capsys.readouterr().out
        assert f"on {'all 6' if count == 6 else '4 val'} images of" in out
        assert f"results: {result}" in out
        assert result.exists()
    assert (run.results / "val.json").read_bytes() == before
    assert not (run.results / "all.json").exists()


def test_folders_of_the_same_name_have_results_apart(tmp_path, trained_on_tree):
    run, stored, _ = trained_on_tree
    first, second = (make_tree(tmp_path / name / "pictures", "cat owl") for name in ("phone", "camera"))
    folders = [judge(run, stored, data=folder).run.results for folder in (first, second, first, second)]
    assert folders[0] == folders[2] == run.results / "on-pictures"
    assert folders[1] == folders[3] != folders[0]
    assert folders[1].name.startswith("on-pictures-")


def test_a_copy_with_other_images_in_val_has_results_apart(tmp_path, trained_on_tree):
    run, stored, data = trained_on_tree
    shutil.copytree(data, tmp_path / "changed")
    assert judge(run, stored, data=tmp_path / "changed").run.results == run.results
    dataset, _ = open_images(run, stored)
    Image.new("RGB", (40, 40), "red").save(tmp_path / "changed" / dataset.paths[0])
    opened = judge(run, stored, data=tmp_path / "changed")
    assert (opened.dataset.split, opened.run.results) == ("val", run.results / "on-changed")
    assert judge(run, stored, data=tmp_path / "changed", split="train").run.results == run.results


@pytest.mark.parametrize(
    "command",
    [
        "attack --steps 1 --limit 2",
        "robustness --epsilons 0 --images 2",
        "robustness --corruptions --images 2",
        "explain --methods gradient --limit 2",
    ],
)
def test_no_command_writes_results_on_another_folder_among_those_of_the_run(tmp_path, trained_on_tree, command):
    run, _, _ = trained_on_tree
    before = {path for path in run.folder.rglob("*") if path.is_file()}
    data = make_tree(tmp_path / "…" / "a\nb", "valid/cat valid/dog")
    assert main.run([command.split()[0], str(run.folder), *command.split()[1:], "--data", str(data)]) == 0
    written = {path for path in run.folder.rglob("*") if path.is_file()} - before
    assert written
    parts = [path.relative_to(run.folder).parts for path in written]
    assert all(part[1].startswith("on-a-b") or "packed" in part for part in parts)
    assert read_run(run.folder).robustness is read_run(run.folder).attribution is None


@pytest.mark.parametrize("command", ["evaluate", "attack --steps 1 --json", "export --format safetensors"])
def test_broken_images_of_a_judged_folder_are_passed_over_and_counted(tmp_path, trained_on_tree, capsys, command):
    name, *flags = command.split()
    (make_tree(tmp_path, "cat owl") / "owl" / "3.png").write_bytes(b"junk")
    assert main.run([name, str(trained_on_tree[0].folder), "--data", str(tmp_path), *flags]) == 1
    said = capsys.readouterr()
    assert said.out
    expected = (
        "scenelab: error: 1 of 7 images are left out, first owl/3.png; replace them or remove them from the folder"
    )
    assert said.err.splitlines()[-1] == expected


def test_a_run_without_holdout_has_none_to_judge(trained_on_tree):
    run, stored, _ = trained_on_tree
    with pytest.raises(LabError, match=r"kept nothing out of training; choose another split, or train with --holdout$"):
        open_images(run, stored, split="holdout")


@pytest.fixture(scope="module")
def trained_on_tree(tmp_path_factory):
    import torch

    from scenelab.models.registry import create_model
    from scenelab.runs.checkpoint import save_checkpoint
    from scenelab.runs.config import RunConfig, TrainConfig
    from scenelab.runs.network import read_classifier, to_values
    from scenelab.runs.run import Run

    folder = tmp_path_factory.mktemp("tree")
    data, run = make_tree(folder / "data", "cat dog owl"), Run(folder / "run")
    digest = open_dataset(data, None, "train", 32).digest
    run.create(RunConfig(data=str(data), train_digest=digest, train=TrainConfig(stored_size=32, threads=1)))
    torch.manual_seed(0)
    network = create_model("residual-small", num_classes=3)
    save_checkpoint(run.best, to_values(network, arch="residual-small", categories=KNOWN, size=32, epoch=1))
    return run, read_classifier(run.best), data
