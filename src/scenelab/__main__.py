"""python -m scenelab: the command line."""

from scenelab.cli import main

if __name__ == "__main__":
    main()
