"""All limits of the explorer."""

UPLOAD_BYTES = 20 * 2**20  # of an image file
BODY_SECONDS = 60.0  # for a whole body to arrive
JSON_BYTES = 2**14  # of every other body
QUERY_BYTES = 2000
CONNECTIONS = 256  # open at once, so as many requests wait

IMAGES = 256  # uploads in memory, each as a square of a network's input size; the oldest are dropped
DECODE_SECONDS = 15.0  # per image; `read_pixels` needs at most 6 for every known hostile image
DECODE_MEMORY = 2**30  # bytes of addresses beyond those of the idle process; at most 900 MiB are needed
DECODE_START_SECONDS = 120.0

NETWORKS = 6  # in memory
ATTACKS = 2  # at once; others wait
ATTACK_SECONDS = 300.0
ATTACK_STEPS = 100
ATTACK_LEVELS = 32  # of 255

RUNS = 500  # listed
DEPTH = 4  # of folders below the given one
SCAN_SECONDS = 1.0  # between two searches for runs
FEATURE_MAPS = 64  # of a layer, drawn
PATCH_IMAGES = 400  # searched for patches that excite a unit
PATCHES = 9
DISAGREEMENTS = 200  # of two networks, listed
