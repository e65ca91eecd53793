"""Accuracy and time of fine-tuning and of training from scratch on three small data sets, by images per class."""

import csv
import dataclasses
import json
import random
from collections import defaultdict
from collections.abc import Collection, Iterator
from itertools import product
from pathlib import Path
from typing import Any

from PIL import Image

from scenelab.data.annotations import object_file, read_object_names, read_objects
from scenelab.data.cache_folder import default_cache
from scenelab.data.splits import open_dataset, open_split
from scenelab.evaluation.intervals import mean_interval
from scenelab.evaluation.metrics import predict_logits, top_k
from scenelab.progress import make_progress
from scenelab.runs.config import TrainConfig
from scenelab.runs.loading import read_network
from scenelab.runs.network import read_classifier
from scenelab.runs.run import Run
from scenelab.training import recipes
from scenelab.training.advice import expected_hits
from scenelab.training.budget import prefers_bfloat16
from scenelab.training.cross_validation import finetune_config, train_once
from scenelab_scenes import write_scenes

VAL = 40  # images per class to judge by
LAST = 1_000_000  # epochs between evaluations: only the last epoch is evaluated
TIMES = 5  # time of training from scratch, relative to fine-tuning
MIN_SIDE = 40 / 128  # of an object's box, relative to the image
LEFT_OUT = tuple(range(0, 100, 10))
"""MiniPlaces classes of the set `places`; the network for it must not have been trained on them."""

Files = dict[str, list[Path]]
"""Image files by class."""


def write_table(path: Path, train: Files, val: Files) -> None:
    """Write a CSV file of path, label and split, which is a data set."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"])
        for split, files in (("train", train), ("val", val)):
            writer.writerows([str(image), label, split] for label, images in files.items() for image in images)


def _files(miniplaces: Path, split: str, labels: Collection[int]) -> Files:
    """Return the images of a split of MiniPlaces with these labels, by name of the class."""
    listing, found = open_split(miniplaces, split), defaultdict(list)
    for path, label in zip(listing.paths, listing.labels, strict=True):
        if label in labels:
            found[listing.categories[label]].append((listing.root / path).absolute())
    return dict(found)


def bench_others(*, data: Path, out: Path) -> dict[str, Any]:
    """Write the list of the images of the MiniPlaces classes that are not in the set `places`.

    Args:
        data: MiniPlaces.
        out: the CSV file, a data set.
    """
    labels = set(range(100)) - set(LEFT_OUT)
    files = {split: _files(data, split, labels) for split in ("train", "val")}
    write_table(out, files["train"], files["val"])
    return {"classes": len(files["train"]), "images": sum(len(images) for images in files["train"].values())}


def draw_scenes(_: Path, out: Path, count: int, seed: int) -> Path:
    """Write drawn scenes of twelve kinds."""
    write_scenes(out, seed=seed, train_per_class=count, val_per_class=VAL, test=1)
    return out


def choose_places(miniplaces: Path, out: Path, count: int, seed: int) -> Path:
    """Write a list of images of the MiniPlaces classes in `LEFT_OUT`."""
    files = {split: _files(miniplaces, split, LEFT_OUT) for split in ("train", "val")}
    train = {name: random.Random(f"{seed} {name}").sample(images, count) for name, images in files["train"].items()}
    write_table(out / "images.csv", train, {name: images[:VAL] for name, images in files["val"].items()})
    return out / "images.csv"


def crop_objects(miniplaces: Path, out: Path, count: int, seed: int) -> Path:
    """Write crops of the twelve most frequent annotated objects of MiniPlaces, each from an image of its own."""
    names, boxes = read_object_names(miniplaces), defaultdict(list)
    listing = open_split(miniplaces, "train")
    for path in listing.paths:
        if (annotation := object_file(miniplaces, path)).exists():
            largest = dict(sorted(_boxes(annotation), key=lambda item: _side(item[1])))
            for label, box in largest.items():
                boxes[label].append((listing.root / path, box))
    frequent = sorted(boxes, key=lambda label: -len(boxes[label]))[:12]
    files: dict[str, Files] = {"train": {}, "val": {}}
    for label in frequent:
        found = sorted(boxes[label])
        random.Random(0).shuffle(found)
        train = random.Random(seed).sample(found[VAL:], count)
        for split, part in (("val", found[:VAL]), ("train", train)):
            files[split][names[label]] = [
                _crop(image, box, out / split / str(label) / f"{number}.png")
                for number, (image, box) in enumerate(part)
            ]
    write_table(out / "images.csv", files["train"], files["val"])
    return out / "images.csv"


Box = tuple[float, float, float, float]


def _boxes(annotation: Path) -> Iterator[tuple[int, Box]]:
    for item in read_objects(annotation):
        xs, ys = zip(*item.outline, strict=True)
        box = (min(xs), min(ys), max(xs), max(ys))
        if _side(box) >= MIN_SIDE:
            yield item.label, box


def _side(box: Box) -> float:
    return min(box[2] - box[0], box[3] - box[1])


def _crop(image: Path, box: Box, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(image) as opened:
        width, height = opened.size
        opened.crop((int(box[0] * width), int(box[1] * height), int(box[2] * width), int(box[3] * height))).save(path)
    return path.absolute()


SETS = {"scenes": draw_scenes, "places": choose_places, "objects": crop_objects}


def _config(network: Path, data: Path, seed: int, epochs: float, minutes: float) -> TrainConfig:
    """Return the config of fine-tuning, or, if `minutes` are given, of training from scratch."""
    if minutes:
        return dataclasses.replace(recipes.get("laptop"), minutes=minutes, seed=seed, evaluate_every=LAST)
    listing = open_split(data, "train")
    config = finetune_config(str(network), read_network(network), listing, epochs=epochs)
    config = dataclasses.replace(config, seed=seed, holdout=0.0, patience=0, keep="last", evaluate_every=LAST)
    return dataclasses.replace(config, autocast=prefers_bfloat16(config, listing.categories))


def measure(run: Run, data: Path, config: TrainConfig) -> dict[str, float]:
    """Train a run if that is not done yet; return its accuracy on val in percent, and its minutes."""
    training = train_once(run, data, config, make_progress())
    stored = read_classifier(run.best)
    val = open_dataset(data, default_cache(data), "val", stored.size)
    top1 = top_k(predict_logits(stored.model, val, size=stored.size, mirror=True, show=False), val.labels, 1)
    return {"top1": top1, "minutes": training.minutes, "val_images": len(val)}


def bench_finetune(
    *,
    data: Path,
    network: Path,
    out: Path,
    sets: tuple[str, ...] = tuple(SETS),
    counts: tuple[int, ...] = (5, 20, 50),
    seeds: int = 3,
    epochs: float = 15,
) -> dict[str, Any]:
    """Compare fine-tuning with training from scratch, which gets five times as long; a stopped call can be repeated.

    Args:
        data: MiniPlaces with objects.
        network: the network to fine-tune, not trained on every tenth class of MiniPlaces if `sets` has places.
        out: folder for data sets, runs and rows.jsonl.
        sets: names of the data sets: scenes, places, objects.
        counts: training images per class.
        seeds: number of seeds, each with other training images.
        epochs: epochs of fine-tuning.
    """
    path = out / "rows.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    done = {(row["set"], row["count"], row["seed"]) for row in rows}
    for seed, name, count in product(range(seeds), sets, counts):
        if (name, count, seed) in done:
            continue
        folder = out / f"{name}-{count}-{seed}"
        data_set = folder / "images" if name == "scenes" else folder / "images" / "images.csv"
        if not data_set.exists():
            SETS[name](data, folder / "images", count, seed)
        tuned = measure(Run(folder / "finetune"), data_set, _config(network, data_set, seed, epochs, 0))
        minutes = max(0.5, TIMES * tuned["minutes"])
        scratch = measure(Run(folder / "scratch"), data_set, _config(network, data_set, seed, 0, minutes))
        expected = expected_hits(open_split(data_set, "train"), str(network))
        row = {"set": name, "count": count, "seed": seed, "finetune": tuned, "scratch": scratch}
        rows.append({**row, "expected": 100 * expected[0] / expected[1] if expected else None})
        with path.open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
    return summarize(rows)


def summarize(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return mean and 95 % interval over seeds, by set and images per class, of both ways and their difference."""
    result = {}
    for name, count in sorted({(row["set"], row["count"]) for row in rows}):
        part = [row for row in rows if (row["set"], row["count"]) == (name, count)]
        values = {way: [row[way]["top1"] for row in part] for way in ("finetune", "scratch")}
        values["difference"] = [a - b for a, b in zip(values["finetune"], values["scratch"], strict=True)]
        result[f"{name}, {count} per class"] = {
            **{way: {"mean": sum(v) / len(v), "interval": mean_interval(v), "values": v} for way, v in values.items()},
            "minutes": {way: [row[way]["minutes"] for row in part] for way in ("finetune", "scratch")},
            "expected": [row["expected"] for row in part],
        }
    return result
