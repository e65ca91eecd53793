"""Sums through shared memory: a process that has died is not waited for."""

import subprocess
import sys
import time
from datetime import timedelta

import pytest
import torch

from scenelab.training.neighbours import Neighbours, create, remove

ONE = """
import os, sys, torch
from datetime import timedelta
from scenelab.training.neighbours import Neighbours
other = Neighbours(sys.argv[1], 1, 2, timedelta(seconds=60))
print("open", flush=True)
other.sum(torch.ones(3))
os.kill(os.getpid(), 9)
"""


@pytest.fixture
def memory():
    name = create(2)
    if not name:
        pytest.skip("no shared memory here")
    yield name
    remove(name)


def test_a_process_that_died_is_not_waited_for(memory):
    other = subprocess.Popen([sys.executable, "-c", ONE, memory], stdout=subprocess.PIPE)
    assert other.stdout
    with other:
        assert other.stdout.readline() == b"open\n"
        mine = Neighbours(memory, 0, 2, timedelta(seconds=60))
        assert mine.sum(torch.ones(3)).tolist() == [2, 2, 2]
        other.wait()
        began = time.monotonic()
        with pytest.raises(RuntimeError, match="process 1 has ended"):
            mine.sum(torch.ones(3))
        assert time.monotonic() - began < 10


def test_one_that_does_not_come_is_waited_for_so_long(memory):
    mine = Neighbours(memory, 0, 2, timedelta(seconds=0.2))
    with pytest.raises(RuntimeError, match="another process has not come for 0 s"):
        mine.sum(torch.ones(3))
