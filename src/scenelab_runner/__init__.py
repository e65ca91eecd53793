"""Runner of student code in the sandbox: needs torch but not scenelab, and has no references or scores."""
