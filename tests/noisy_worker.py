"""A worker process for test_bench_conv: it prints more than its result."""

import json
import os


def worker(arguments: list[str]) -> None:
    print("noise")
    print(json.dumps([os.environ.get("GOMP_SPINCOUNT"), arguments]))
