"""What runs beside a student's code, inside the sandbox: it needs torch and nothing of scenelab.

Nothing in this folder knows a reference, a tolerance or a score: it runs what it is asked to and sends tensors back.
"""
