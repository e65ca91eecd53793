"""Live for a while; with the argument `leak`, keep more memory, files and threads all the time."""

import sys
import threading
import time

if __name__ == "__main__":
    leaked: list[object] = []
    for _ in range(10**6):
        time.sleep(0.01)
        if sys.argv[1] == "leak":
            thread = threading.Thread(target=time.sleep, args=(9,), daemon=True)
            thread.start()
            leaked += [bytearray(b"x" * (1 << 20)), open("/dev/null"), thread]  # noqa: SIM115
