"""The part of the grader that runs inside the sandbox.

It needs torch but not scenelab, and contains no reference solutions and no scoring.
"""
