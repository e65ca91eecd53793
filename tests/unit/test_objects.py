"""MiniPlaces' object annotations: files without a root, outlines as masks, and everything that can be wrong."""

import pytest
import torch

from scenelab.data.annotations import SceneObject, draw_masks, object_file, read_object_names, read_objects
from scenelab.errors import LabError


def annotation(*objects: tuple[int, list[tuple[int, int]]], extra: str = "") -> str:
    parts = ["<filename>1.jpg</filename>\n<folder>/a/abbey</folder>\n<class>0</class>\n", extra]
    for label, points in objects:
        corners = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in points)
        parts.append(f"<objects><class>{label}</class><polygon>{corners}</polygon><bndbox></bndbox></objects>\n")
    return "".join(parts)


SQUARE = [(1, 1), (64, 1), (64, 64), (1, 64)]


def test_objects_are_read_from_a_sequence_without_a_root(tmp_path):
    path = tmp_path / "1.xml"
    path.write_text('<?xml version="1.0"?>' + annotation((7, SQUARE), (9, [(1, 1), (128, 1), (128, 128)])))
    first, second = read_objects(path)
    assert (first.label, second.label) == (7, 9)
    assert first.outline[0] == (0.5 / 128, 0.5 / 128)
    assert second.outline[2] == (127.5 / 128, 127.5 / 128)
    path.write_text(annotation(extra="<!-- drawn by hand -->"))
    assert read_objects(path) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<objects><class>1</class>", "cannot be read"),
        (annotation((1, [(1, 1), (2, 2)])), "has an object without a class or an outline of numbers: an outline of 2"),
        (annotation((1, SQUARE)).replace("<class>1</class>", ""), "no <class>"),
        (annotation((1, SQUARE)).replace("<x>64</x>", "<x>a</x>", 1), "outline of numbers"),
        (annotation((1, SQUARE)).replace("<x>64</x>", "<x>1e9</x>", 1), "a corner at 1e+09"),
        (annotation((1, SQUARE)).replace("<x>64</x>", "<x>nan</x>", 1), "a corner at nan"),
        ('<!DOCTYPE a [<!ENTITY b "c">]>' + annotation((1, SQUARE)), "declares entities or a document type"),
        ("\0", "cannot be read"),
    ],
)
def test_broken_files_are_one_line(tmp_path, text, message):
    path = tmp_path / "1.xml"
    path.write_text(text)
    with pytest.raises(LabError) as caught:
        read_objects(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(LabError, match="does not exist"):
        read_objects(tmp_path / "none.xml")


def test_masks_cover_what_the_outlines_do():
    left = SceneObject(3, ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)))
    corner = SceneObject(3, ((0.75, 0.75), (1.0, 0.75), (1.0, 1.0), (0.75, 1.0)))
    other = SceneObject(4, ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0)))
    masks = draw_masks([left, corner, other], 64)
    assert masks.keys() == {3, 4}
    assert masks[3].dtype == torch.bool
    assert masks[3][:, :31].all()
    assert not masks[3][:40, 34:].any()
    assert masks[3][50:, 50:].all()
    assert masks[3].double().mean() == pytest.approx(0.5 + 1 / 16, abs=0.03)
    assert masks[4].double().mean() == pytest.approx(0.5, abs=0.03)
    assert masks[4][5, 50]
    assert not masks[4][50, 5]


def test_names_and_places(tmp_path):
    (tmp_path / "object_categories.txt").write_text("arcade_machine 0\narmchair 1\n")
    assert read_object_names(tmp_path) == ("arcade machine", "armchair")
    assert object_file(tmp_path, "val/00000001.jpg") == tmp_path / "objects" / "val" / "00000001.xml"
    (tmp_path / "object_categories.txt").write_text("a 0\nb 2\n")
    with pytest.raises(LabError, match="must number the object classes 0, 1, 2"):
        read_object_names(tmp_path)
