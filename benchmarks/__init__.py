"""Speed of scenelab against other libraries and against the machine; run one with `python -m benchmarks NAME`."""
