"""compare50 is run if installed, on one file per team, with the kit's code given."""

import stat

from mutants import MUTANTS, mutate, write
from scenelab.course.grading.similarity import compare

SOURCES = {name: mutate(change)["code/student_code.py"] for name, change in zip("abc", MUTANTS, strict=False)}


def run_compare(tmp_path, monkeypatch, script, sources=SOURCES):
    """Compare by a stand-in for compare50, whose pinned packages are older than the tests'."""
    folder = write(tmp_path / "bin", {"compare50": b"#!/bin/sh\n", "python3": f"#!/bin/sh\n{script}\n".encode()})
    for path in folder.iterdir():
        path.chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return compare(sources, tmp_path / "out", tmp_path / "scratch")


def test_nothing_happens_without_compare50_or_a_second_team(tmp_path, monkeypatch):
    assert run_compare(tmp_path, monkeypatch, "exit 1", {"a": b""}) == []
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compare(SOURCES, tmp_path / "out", tmp_path / "scratch") == []


def test_every_team_is_compared_and_the_kit_is_given(tmp_path, monkeypatch):
    assert "for people to look at" in run_compare(tmp_path, monkeypatch, f'echo "$@" > {tmp_path}/called')[0]
    teams, given = (tmp_path / "called").read_text().split("--distro")
    assert all(f"/alike/{name}" in teams for name in "abc")
    assert "/alike-kit/2019" in given
    assert (tmp_path / "scratch" / "alike" / "a" / "student_code.py").read_bytes() == SOURCES["a"]


def test_a_failure_is_noted(tmp_path, monkeypatch):
    expected = ["similarity: compare50 did not work: no room"]
    assert run_compare(tmp_path, monkeypatch, "echo no room >&2; exit 3") == expected
