"""Data sets: lists of images, decoding, the cache, augmentation and checks.

Start from `scenelab.data.splits.open_dataset`.
"""
# Imports nothing: `scenelab data download` and `synth` run without torch.
