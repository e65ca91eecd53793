"""Evaluation of a trained run: accuracy, calibration, robustness, and tests of attributions."""
# Nothing is imported here: most of it needs matplotlib or TensorBoard, which training and the command line do not.
