"""Runner of student code in the sandbox: needs torch, not scenelab; contains no reference solutions or scores."""
