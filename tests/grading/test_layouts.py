"""Students by the file names of learning platforms; classes and single submissions."""

import time

import pytest

from scenelab.course.grading.filenames import original_name, parse
from scenelab.course.grading.layouts import split

SUBMISSION = "code/student_code.py; code/main.py; writeup/report.pdf; results/curves.png"
PLATFORMS = """
doejane_1001_55501_submission.zip; doejane; 1001; submission.zip | leesam_LATE_1002_55502_hw_3.zip; leesam; 1002; hw_3.zip |
van_dykeann_LATE_4242_90001_hw.zip; van_dykeann; 4242; hw.zip | anon_aB3dE_90001_hw.zip; anon_aB3dE; aB3dE; hw.zip |
LATE_anon_x9YzQ_90002_hw.zip; anon_x9YzQ; x9YzQ; hw.zip | Jane Doe_1234567_assignsubmission_file_hw.zip; Jane Doe; 1234567; hw.zip |
Participant 123_456_assignsubmission_file; Participant 123; 456; | doejane_123_text.html; doejane; 123; text.html |
12345-67890 - Jane Doe - 1 March, 2024 1230 PM - hw.zip; Jane Doe; 12345-67890; hw.zip |
12345-67890 - Jane Doe - Nov 1, 2026 1230 PM - hw.zip; Jane Doe; 12345-67890; hw.zip |
jane@uni.edu_3_handin.zip; jane@uni.edu; jane@uni.edu; handin.zip
"""
CLASSES = """
alice.zip; bob.zip; carol.zip -> alice; bob; carol | *alice; *bob; *carol -> alice; bob; carol | *hw3/alice; *hw3/bob; hw3/.DS_Store -> alice; bob |
top/class/alice.zip; top/class/bob.tar.gz; top/class/__MACOSX/._x -> alice; bob |
student_code_alice.py; bob.zip; carol.zip -> student_code_alice; bob; carol |
student_code_alice.py; student_code_bob.py -> student_code_alice; student_code_bob | alice.zip; bob.docx -> alice; bob |
alice.zip; bob.ipynb; carol.pdf; dan/ -> alice; bob; carol; dan | *alice; bob/report.docx; carol/ -> alice; bob; carol |
anon_aB3dE_90001_hw.zip; LATE_anon_x9YzQ_90002_hw.zip -> anon_aB3dE; anon_x9YzQ | doe_1_2_a.zip; lee_LATE_3_4_b.zip; roe_5_6_c.pdf -> doe; lee; roe |
Jane Doe_12_assignsubmission_file_/hw.zip; Sam Lee_13_assignsubmission_file_/student_code.py -> Jane Doe; Sam Lee |
hw_jdoe_attempt_2026-11-01-12-30-00_a.zip; hw_jdoe_attempt_2026-11-01-12-30-00.txt; hw_slee_attempt_2026-11-02-12-30-00_b.zip -> jdoe; slee |
1-2 - Jane Doe - Nov 1, 2026 1230 PM/hw.zip; 3-4 - Sam Lee - Nov 1, 2026 1230 PM/hw.zip; index.html -> Jane Doe; Sam Lee |
HW 3/Doe, J(jdoe)/Submission attachment(s)/hw.zip; HW 3/Lee, S(slee)/Submission attachment(s)/hw.zip; HW 3/grades.csv -> Doe, J; Lee, S |
export/submission_11/code/student_code.py; export/submission_12/hw.py; export/submission_metadata.yml -> submission_11; submission_12 |
jane@uni.edu_3_handin.zip; sam@uni.edu_1_handin.zip -> jane@uni.edu; sam@uni.edu | hw_3_1_alice.zip; hw_3_1_bob.zip -> hw_3_1_alice; hw_3_1_bob |
HW_3_j_doe_attempt_2026-11-01-12-30-00_a.zip; HW_3_k_doe_attempt_2026-11-01-12-30-00_a.zip -> j_doe; k_doe |
doejane_LATE_123_456_code.zip; doejane_LATE_123_457_results.zip -> doejane | cs_101_3_alice/hw.py; cs_101_3_bob/hw.py -> cs_101_3_alice; cs_101_3_bob |
hw_1_1_alice.zip; hw_2_1_bob.zip -> hw_1_1_alice; hw_2_1_bob | hw3_alice/student_code.py; hw3_bob/student_code.py -> hw3_alice; hw3_bob |
alice_student_code.py; bob_student_code.py -> alice_student_code; bob_student_code |
on_time/alice.zip; on_time/bob.zip; late/carol.zip -> alice; bob; carol |
Jane Doe - hw3.zip; Jane Doe_report.pdf; Bob Roe - hw3.zip -> Jane Doe - hw3; Bob Roe - hw3 |
student1.zip; student2.zip; student3/x.py -> student1; student2; student3 | 20231234.zip; 20235678.zip -> 20231234; 20235678 |
alice.zip; bob.py -> alice; bob | note/student_code.py; lopez/student_code.py; diaz/student_code.py -> note; lopez; diaz
"""
SINGLE = f"""
{SUBMISSION} | *hw3 | *a/b/c/hw3 | student_code.py | student_code.py; model_best.pth.tar; extra.zip | src/student_code.py; report/report.pdf |
student_code_final.py; main.py; utils.py | hw.zip | my_code.py; report.pdf | hw3.ipynb; report.pdf | submission.zip; report.pdf |
code.zip; writeup.pdf; results/ | student_code.py; fig_1_2_loss.png; fig_1_3_acc.png; fig_2_3_x.png | mycode/student_code.py; myreport/report.pdf |
codes/student_code.py; Final Report.pdf; screenshots/1.png | code 2/student_code.py; writeup 2/report.pdf; results 2/x.png |
conv.ipynb; attack.ipynb; report.pdf | student_code_final.py; layers/conv.py; utils/x.py | student_code (1).py; report (2).pdf |
student_code_v1.py; student_code_v2.py | my_code.zip; my_report.pdf | HW3 Jane Doe/student_code.py; HW3 Jane Doe report.pdf |
hw3 (1)/code/student_code.py | trainer.py; vit.py; report.pdf
"""


def cells(table):
    return [cell.strip() for cell in table.split("|")]


def paths_in(text):
    """Return paths; `*folder` means the files of a whole submission in it."""
    for path in text.split("; "):
        yield from [f"{path[1:]}/{name}" for name in SUBMISSION.split("; ")] if path.startswith("*") else [path]


def rows(text):
    """Return students with their files and whether they are late, and the names not understood."""
    groups, unknown = split(paths_in(text))
    return {group.student: (group.members, group.late) for group in groups}, unknown


@pytest.mark.parametrize("line", cells(PLATFORMS))
def test_names_of_platforms_are_parsed(line):
    name, student, user, file = (cell.strip() for cell in line.split(";"))
    parsed = parse(name)
    assert (parsed.student, parsed.user, parsed.late, parsed.file) == (student, user, "LATE" in name, file)
    assert original_name(name) == (file or name)


@pytest.mark.parametrize(
    "name", ["student_code.py", "student_code (1).py", "hw3.zip", "alice.zip", "model_best.pth.tar"]
)
def test_other_names_are_nobodys(name):
    assert parse(name) is None


@pytest.mark.parametrize("line", cells(CLASSES))
def test_a_class_has_a_row_for_each_student(line):
    paths, students = line.split(" -> ")
    found, unknown = rows(paths)
    assert set(found) == set(students.split("; "))
    assert unknown == []


@pytest.mark.parametrize("line", cells(SINGLE))
def test_one_students_files_are_one_submission(line):
    assert split(paths_in(line)) is None


def test_files_in_a_folder_called_late_are_late():
    found, _ = rows("on_time/alice.zip; on_time/bob.zip; late/carol.zip")
    assert {name for name, (_, late) in found.items() if late} == {"carol"}


def test_several_files_of_a_student_belong_together():
    found, _ = rows("doe_7_1_student_code.py; doe_7_2_report.pdf; doe_7_3_student_code-1.py; lee_LATE_8_4_hw.zip")
    assert found["doe"] == (["doe_7_2_report.pdf", "doe_7_3_student_code-1.py"], False)
    assert found["lee"] == (["lee_LATE_8_4_hw.zip"], True)
    assert rows("alice.zip; alice.pdf; bob.zip")[0]["alice"][0] == ["alice.zip", "alice.pdf"]


def test_the_latest_of_several_attempts_counts():
    first, second, other = (
        "j_attempt_2026-11-01-12-30-00_a.zip",
        "j_attempt_2026-11-03-09-00-00_b.zip",
        "s_attempt_2026-11-01-12-30-00_a.zip",
    )
    groups, _ = split([f"hw_{name}" for name in (first, second, other)])
    (group,) = [group for group in groups if group.student == "j"]
    assert group.members == [f"hw_{second}"]
    assert "replaced by a later file" in group.notes[0]


def test_names_that_are_not_understood_are_returned():
    assert sorted(rows("alice.zip; bob.zip; grades.xlsx; data.json")[1]) == ["data.json", "grades.xlsx"]


OTHERS = "77_attempt_2030-01-01-00-00-00_hw; bob_77_assignsubmission_file_hw; 1-2 - Bob - Nov 1, 2030 1200 PM - hw; bob@uni.edu_77_hw"


@pytest.mark.parametrize("file", OTHERS.split("; "))
def test_the_name_of_a_file_makes_no_other_student(file):
    """The student's name of a file stands behind what Canvas puts before it, and may look like another platform's."""
    name = f"alice_12_345_{file}.zip"
    found, unknown = rows(f"{name}; bob_77_346_hw.zip; carol_78_347_hw.zip")
    files = {student: members for student, (members, _) in found.items()}
    assert files == {"alice": [name], "bob": ["bob_77_346_hw.zip"], "carol": ["carol_78_347_hw.zip"]}
    assert unknown == []
    assert parse(name).student == "alice"


def test_files_of_a_large_canvas_are_not_attempts():
    """Its numbers of files were taken for times, of which only the last counted."""
    groups, _ = split(["doejane_1_230000001_code.zip", "doejane_1_230000002_report.pdf", "roe_2_230000003_code.zip"])
    assert [len(group.members) for group in groups] == [2, 1]


@pytest.mark.parametrize(
    ("name", "is_late"),
    [
        *((name, True) for name in ("late", "Late submissions", "hw3_late")),
        *((name, False) for name in ("latest", "template", "not_late", "section 1 not late", "hw3_not-late")),
    ],
)
def test_a_folder_is_late_by_the_word(name, is_late):
    groups, _ = split([f"{name}/alice.zip", f"{name}/bob.zip", "other/carol.zip", "other/dan.zip"])
    assert {group.student: group.late for group in groups}["alice"] is is_late


def test_attempts_keep_their_order_when_the_clocks_change(monkeypatch):
    """In the grader's zone 02:30 did not exist that night and became 03:30, after 03:15."""
    names = [f"hw_jdoe_attempt_2026-03-08-{time}-00_a.zip" for time in ("02-30", "03-15")]
    try:
        monkeypatch.setenv("TZ", "America/New_York")
        time.tzset()
        first, second = map(parse, names)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert first.order < second.order
