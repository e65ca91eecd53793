"""compare50 is run where it is installed, on one file a team, with the kit's code given; what it says is passed on."""

import stat

from mutants import MUTANTS, mutate
from scenelab.course.grading.similarity import compare

SOURCES = {name: mutate(change)["code/student_code.py"] for name, change in zip("abc", MUTANTS, strict=False)}


def install(folder, monkeypatch, script):
    """A stand-in for compare50 that shows what it is called with; the real one pins packages that the tests need newer."""
    folder.mkdir()
    for name, text in (("compare50", "#!/bin/sh\n"), ("python3", f"#!/bin/sh\n{script}\n")):
        (folder / name).write_text(text)
        (folder / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_without_it_nothing_happens(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compare(SOURCES, tmp_path / "out", tmp_path / "scratch") == []


def test_the_kit_is_given_and_every_team_is_compared(tmp_path, monkeypatch):
    install(tmp_path / "bin", monkeypatch, f'echo "$@" > {tmp_path}/called')
    told = compare(SOURCES, tmp_path / "out", tmp_path / "scratch")
    assert "for people to look at" in told[0]
    called = (tmp_path / "called").read_text()
    teams, given = called.split("--distro")
    assert [f"/alike/{name}" in teams for name in "abc"] == [True] * 3
    assert "/alike-kit/2019" in given
    assert (tmp_path / "scratch" / "alike" / "a" / "student_code.py").read_bytes() == SOURCES["a"]
    assert compare({"a": b""}, tmp_path / "out", tmp_path / "other") == [], "one alone is like nobody"


def test_a_failure_is_told(tmp_path, monkeypatch):
    install(tmp_path / "bin", monkeypatch, "echo no room >&2; exit 3")
    assert compare(SOURCES, tmp_path / "out", tmp_path / "scratch") == ["similarity: compare50 did not work: no room"]
