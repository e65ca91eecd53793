"""The grader's checks of your answers: python ./check.py [convolution|attack|attention|network|packaging] [--hint].

They run on your student_code.py in seconds, say what is wrong and show a small example in numbers. In a notebook:
from check import check; check("convolution"). Nothing to write here.
"""

import os
import sys
from functools import partial
from pathlib import Path

CODE = Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(CODE.parent))  # for the folder checks/
if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the grader has no GPU
    os.environ["TORCHDYNAMO_DISABLE"] = "1"  # torch.compile does nothing there, either
    os.environ.setdefault("MPLBACKEND", "Agg")  # no window of a figure

try:
    from checks import self_check
except ModuleNotFoundError as error:
    missing = (error.name or "").partition(".")[0]
    hint = "copy the folder checks/ from the kit, beside code/" if missing == "checks" else f"pip install {missing}"
    sys.exit(f"{missing} is missing: {hint}")

check = partial(self_check.check, file=CODE / "student_code.py")

if __name__ == "__main__":
    sys.exit(self_check.main(sys.argv[1:], CODE))
