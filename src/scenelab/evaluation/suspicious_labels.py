"""Labels that are probably wrong, since a network disagrees with them (confident learning, Northcutt et al. 2021)."""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scenelab.data.holdout import hold_out
from scenelab.data.splits import existing_splits, open_dataset
from scenelab.errors import LabError
from scenelab.evaluation.metrics import predict_logits
from scenelab.runs.loading import load_network
from scenelab.runs.run import Run


@dataclass(frozen=True)
class SuspiciousLabel:
    """Image of class `label` that looks like class `other`, and the probabilities of both in [0, 1]."""

    split: str
    path: str
    label: str
    other: str
    label_probability: float
    other_probability: float


def find_suspicious_labels(run: Run, data: Path) -> tuple[list[SuspiciousLabel], bool]:
    """Return the suspicious labels in train and val, most suspicious first, and whether all images are unseen.

    A network that was trained on an image may have learned its wrong label. After cross-validation, each training image
    is therefore judged by the network of the fold that holds it out.

    Raises:
        LabError: the data has other classes than the run, or is missing.
    """
    settings, stored = run.read_config(), load_network(run, calibrated=True)
    origins, labels, logits, is_unseen = [], [], [], True
    for split in [name for name in existing_splits(data) if name != "test"]:
        dataset = open_dataset(data, None, split, settings.train.stored_size, settings.train.damaged)
        if dataset.categories != stored.categories:
            raise LabError(f"{data} has other classes than {run.folder}; name a run that was trained on it")
        is_same = dataset.digest.partition("[")[0] == settings.train_digest.partition("[")[0]
        folds = [Run(path) for path in sorted((run.folder / "folds").glob("[0-9]*"))] if is_same else []
        held_out = [hold_out(dataset, 1 / len(folds), int(fold.folder.name) - 1)[1] for fold in folds]
        parts = [*zip(map(load_network, folds), held_out, strict=True)] or [(stored, dataset)]
        is_own = is_same or data.resolve() == Path(settings.data).resolve()
        is_unseen = is_unseen and (bool(folds) or split != "train" or not is_own)
        for network, part in parts:
            origins += [(split, path) for path in part.paths]
            labels.append(part.labels)
            logits.append(predict_logits(network.model, part, size=network.size, mirror=True))
    names, shares, truth = stored.categories, torch.cat(logits).double().softmax(dim=1), torch.cat(labels)
    result = []
    for row, other in suspect(shares, truth):
        (split, path), label = origins[row], int(truth[row])
        ours, theirs = shares[row, [label, other]].tolist()
        result.append(SuspiciousLabel(split, path, names[label], names[other], ours, theirs))
    return result, is_unseen


def suspect(probabilities: Float[Tensor, "n k"], labels: Int64[Tensor, " n"]) -> list[tuple[int, int]]:
    """Return the index of each image with a suspicious label and the class that it looks like, by their difference.

    The threshold of a class is the mean probability of this class over the images with this label (eq. 2). A label is
    suspicious if its probability is below its threshold, and a more likely class is at or above its own.
    """
    ours = probabilities.gather(1, labels[:, None])[:, 0]
    thresholds = torch.stack([ours[labels == label].mean() for label in range(probabilities.shape[1])])  # may be NaN
    theirs, others = probabilities.where(probabilities >= thresholds, -1).max(dim=1)
    rows = ((ours < thresholds[labels]) & (theirs > ours)).nonzero()[:, 0]
    order = rows[(ours - theirs)[rows].argsort(stable=True)].tolist()
    return [(row, int(others[row])) for row in order]
