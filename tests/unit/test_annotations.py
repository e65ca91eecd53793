"""MiniPlaces' object annotations: files without a root, outlines as masks, and invalid files."""

import pytest
import torch

from scenelab.data.annotations import SceneObject, draw_masks, object_file, read_object_names, read_objects
from scenelab.errors import LabError

SQUARE = [(1, 1), (64, 1), (64, 64), (1, 64)]


def annotation(*objects: tuple[int, list[tuple[int, int]]], extra: str = "") -> str:
    parts = ["<filename>1.jpg</filename>\n<folder>/a/abbey</folder>\n<class>0</class>\n", extra]
    for label, points in objects:
        corners = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in points)
        parts.append(f"<objects><class>{label}</class><polygon>{corners}</polygon><bndbox></bndbox></objects>\n")
    return "".join(parts)


VALID = annotation((1, SQUARE))


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
        (None, "does not exist"),
        ("<objects><class>1</class>", "is not valid XML: "),
        ("\0", "is not valid XML: "),
        ('<!DOCTYPE a [<!ENTITY b "c">]>' + VALID, "declares entities or a document type"),
        (annotation((1, [(1, 1), (2, 2)])), "has an invalid object: the outline has 2 corners; expected at least 3"),
        (VALID.replace("<class>1</class>", ""), "has an invalid object: <class> is missing"),
        (VALID.replace("<class>1</class>", "<class>-1</class>"), "has an invalid object: class is -1"),
        (VALID.replace("<x>64</x>", "<x>a</x>", 1), "has an invalid object: could not convert"),
        (VALID.replace("<x>64</x>", "<x>1e9</x>", 1), "has an invalid object: x is 1e+09; expected 1 to 128"),
        (VALID.replace("<x>64</x>", "<x>nan</x>", 1), "has an invalid object: x is nan; expected 1 to 128"),
    ],
)
def test_an_invalid_file_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "1.xml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(LabError) as caught:
        read_objects(path)
    assert str(caught.value).startswith(f"{path} {message}")
    assert "\n" not in str(caught.value)


def test_masks_cover_the_outlines_of_their_class():
    left = SceneObject(3, ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)))
    corner = SceneObject(3, ((0.75, 0.75), (1.0, 0.75), (1.0, 1.0), (0.75, 1.0)))
    triangle = SceneObject(4, ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0)))
    masks = draw_masks([left, corner, triangle], 64)
    assert masks.keys() == {3, 4}
    assert masks[3].dtype == torch.bool
    assert masks[3][:, :31].all()
    assert not masks[3][:40, 34:].any()
    assert masks[3][50:, 50:].all()
    assert masks[3].double().mean() == pytest.approx(0.5 + 1 / 16, abs=0.03)
    assert masks[4].double().mean() == pytest.approx(0.5, abs=0.03)
    assert masks[4][5, 50]
    assert not masks[4][50, 5]


def test_object_names_are_read_in_the_order_of_their_numbers(tmp_path):
    (tmp_path / "object_categories.txt").write_text("arcade_machine 0\narmchair 1\n")
    assert read_object_names(tmp_path) == ("arcade machine", "armchair")
    assert object_file(tmp_path, "val/00000001.jpg") == tmp_path / "objects" / "val" / "00000001.xml"
    (tmp_path / "object_categories.txt").write_text("a 0\nb 2\n")
    with pytest.raises(LabError, match="must number the object classes 0, 1, 2"):
        read_object_names(tmp_path)
