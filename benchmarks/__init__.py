"""Benchmarks of scenelab against other libraries and hardware limits; run one with `python -m benchmarks NAME`."""
