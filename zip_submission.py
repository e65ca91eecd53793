"""Check a hand-in and zip it: python ./zip_submission.py, in the folder that holds code/, writeup/ and results/."""

import sys

try:
    from scenelab.course.submission import main
except ImportError:
    sys.exit("zip_submission.py: scenelab is not installed; run 'make install' here and use .venv/bin/python")

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
