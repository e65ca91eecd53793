"""Larger data sets on more machines, on paper: bytes, decoding, network, hours; from figures that were measured.

python benchmarks/scaling.py [--images-per-second 1000 --spread 0.05 …]

A step of N machines is simulated as often as it takes to tell the mean. Each machine computes its share of the batch in
a time that is drawn from a log-normal distribution; the slowest decides. Then gradients, and the directions that Muon
shares, are summed over a ring: 2·(N-1)/N of their bytes pass each machine's line (Patarasuk & Yuan 2009), with 2·(N-1)
waits for the line's delay. The statistics of each normalisation layer wait as often, forward and backward. Nothing of
the sum is hidden behind the backward pass, though torch hides some. Pictures that come over a line of their own have to
come as fast as they are learned from.
"""

import argparse
import json

import numpy as np

SETS = {  # training images; MiniPlaces' README, Places' development kit (Zhou et al. 2018)
    "MiniPlaces": 100_000,
    "Places365-Standard": 1_803_460,
    "Places365-Challenge": 8_026_628,
}
LINES = {"1 Gbit/s": (1e9 / 8, 200e-6), "10 Gbit/s": (10e9 / 8, 50e-6), "100 Gbit/s": (100e9 / 8, 10e-6)}
"""Bytes a second, and seconds of delay of a small message, both assumed."""
MACHINES = (1, 2, 4, 8, 16, 32)
STEPS = 2000


def step_seconds(machines: int, line: tuple[float, float], values: argparse.Namespace) -> float:
    """Mean seconds of a step of all machines together."""
    dice = np.random.default_rng(0)
    speeds = np.exp(values.spread * dice.standard_normal((STEPS, machines)))
    compute = (values.batch / machines / values.images_per_second * speeds).max(axis=1).mean()
    sent = 2 * (machines - 1) / machines * 4 * 2 * values.parameters
    return float(compute + sent / line[0] + 2 * (machines - 1) * line[1] * (1 + 2 * values.norms))


def steps(values: argparse.Namespace) -> str:
    head = ("line", "machines", "images/s", "efficiency", "pictures, MB/s a machine", "Places365, an epoch")
    lines = [f"| {' | '.join(head)} |", "|---|---:|---:|---:|---:|---:|"]
    for name, line in LINES.items():
        for machines in MACHINES:
            rate = values.batch / step_seconds(machines, line, values)
            hours = SETS["Places365-Standard"] / rate / 3600
            efficiency = rate / machines / values.images_per_second
            picture = values.side**2 * 3
            lines.append(
                f"| {name} | {machines} | {rate:,.0f} | {efficiency:.2f} | {rate / machines * picture / 1e6:.0f} | "
                f"{hours:.2f} h |"
            )
    return "\n".join(lines)


def sizes(values: argparse.Namespace) -> str:
    head = (
        "images", "for training", f"shards at {values.side} pixels", "decoding, one machine", "an epoch, one machine",
        "its operations", "at 1 Tflop/s",
    )  # fmt: skip
    lines = [f"| {' | '.join(head)} |", "|---|---:|---:|---:|---:|---:|---:|"]
    for name, images in SETS.items():
        stored = images * values.side**2 * 3 / 1e9
        operations = images * values.flops
        lines.append(
            f"| {name} | {images:,} | {stored:,.0f} GB | {images / values.decoded / 3600:.2f} h | "
            f"{images / values.images_per_second / 3600:.2f} h | {operations:.1e} | {operations / 1e12 / 3600:.2f} h |"
        )
    return "\n".join(lines)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    flags.add_argument("--images-per-second", type=float, default=870.0, help="one machine's training")
    flags.add_argument(
        "--spread", type=float, default=0.05, help="of a step's time: standard deviation of its logarithm"
    )
    flags.add_argument("--batch", type=int, default=1024, help="images of all machines")
    flags.add_argument("--parameters", type=int, default=1_965_348)
    flags.add_argument("--norms", type=int, default=10, help="layers whose statistics are summed")
    flags.add_argument("--side", type=int, default=128, help="of the stored pictures")
    flags.add_argument("--decoded", type=float, default=1053.0, help="images a second, while shards are written")
    flags.add_argument(
        "--flops", type=float, default=0.0, help="of training on one image; counted for residual at 64 pixels"
    )
    values = flags.parse_args()
    if not values.flops:
        from scenelab.models.registry import count_flops

        values.flops = count_flops("residual", num_classes=365, side=64, training=True)
    print(json.dumps(vars(values)))
    print(sizes(values), steps(values), sep="\n\n")


if __name__ == "__main__":
    main()
