"""The training loop: one function that starts or continues a run until its last step."""

import math
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scenelab.data.augment import resize
from scenelab.data.cache import MemmapDataset
from scenelab.errors import Diverged, Interrupted, LabError
from scenelab.evaluation.metrics import hits, predict_logits, top_k
from scenelab.models.flops import count_flops
from scenelab.models.simplenet import Factory
from scenelab.progress import StepStats, TrainProgress, make_progress
from scenelab.runs.checkpoint import load_checkpoint, save_checkpoint
from scenelab.runs.config import AdversarialConfig, TrainConfig
from scenelab.runs.network import as_stored
from scenelab.runs.run import Run
from scenelab.training.adversarial import overfitting_check
from scenelab.training.batches import ATTACK, NETWORK, TrainingBatches, seed_for
from scenelab.training.distributed import SINGLE_PROCESS, World
from scenelab.training.graceful_stop import stop_requests
from scenelab.training.metrics_logger import Logbook, NoLogbook
from scenelab.training.optim import set_learning_rate
from scenelab.training.schedule import learning_rate_factor, side_at
from scenelab.training.state import TrainState, best_values, checkpoint_values, restore, start
from scenelab.training.step import learn

LOSS_SMOOTHING = 0.95
EXPLODED = 4.0  # times the loss of guessing


@dataclass(kw_only=True)
class Trainer:
    """One run in progress. `train` below is the way in."""

    run: Run
    config: TrainConfig
    dataset: MemmapDataset
    val: MemmapDataset | None
    display: TrainProgress = field(default_factory=make_progress)
    factory: Factory | None = None
    events: Path | None = None
    world: World = SINGLE_PROCESS

    def __post_init__(self) -> None:
        self.device = pick_device(self.config.device)
        self.batches = TrainingBatches(self.dataset, self.config, self.device)
        self.classes = len(self.dataset.categories)
        self.state = start(self.config, classes=self.classes, device=self.device, factory=self.factory)
        network = self.world.wrap_ddp(self.state.model)
        self.network: Callable[[Tensor], Tensor] = torch.compile(network) if self.config.compile else network
        if not self.world.is_primary:
            self.display = TrainProgress()
        self.smoothed = float("nan")
        self.latest: dict[str, float] = {}
        self._flops: dict[int, int] = {}

    def resume(self, path: Path) -> list[str]:
        """Continue from a checkpoint; returns what it lacked, in words."""
        return restore(
            self.state,
            self.world.broadcast_object(load_checkpoint(path) if self.world.is_primary else None),
            path,
            arch=self.config.model,
            steps_per_epoch=self.batches.steps_per_epoch,
        )

    def fit(self) -> TrainState:
        """Train to the last step, evaluating and saving at the end of each epoch."""
        saved = looked = time.monotonic()
        self.logbook = (
            Logbook(self.run, keep_bytes=self.state.metrics_bytes, events=self.events)
            if self.world.is_primary
            else NoLogbook()
        )
        with closing(self.logbook), self.display, stop_requests() as stop_requested:
            while not self.finished and not self.state.stopped:
                self.step()
                passed, stop = self.world.broadcast(time.monotonic() - looked, stop_requested())
                self.state.meters.spent += passed
                looked = time.monotonic()
                last = self.finished  # asked once: under a time limit the last evaluation changes the answer
                ended = last or self.state.step % self.batches.steps_per_epoch == 0
                if ended:
                    self._end_epoch(last=last)
                stopping = bool(stop) and not last
                since = self.world.broadcast(time.monotonic() - saved)[0]
                if ended or stopping or since >= self.config.checkpoint_seconds:
                    self.state.meters.spent += self.world.broadcast(time.monotonic() - looked)[0]
                    looked = time.monotonic()
                    self._save()
                    saved = time.monotonic()
                if self.state.stopped:
                    break
                if stopping:
                    raise Interrupted(f"stopped at step {self.state.step} of {self.expected_steps}")
                if last:
                    break
        return self.state

    @property
    def progress(self) -> float:
        """Share of the run that is behind it, in [0, 1]: of its steps, or of its minutes less the last evaluation."""
        if not self.config.minutes:
            return self.state.step / self.batches.total_steps
        meters = self.state.meters
        reserve = (meters.evaluating or self._guess_evaluation()) + meters.probing
        return min(1.0, meters.spent / max(1.0, 60 * self.config.minutes - reserve))

    def _guess_evaluation(self) -> float:
        """Seconds of an evaluation before there was one: a forward pass is a third of a training step, more pixels take
        longer, and evaluation is in float32, which may take twice the time of bfloat16.
        """
        meters, config = self.state.meters, self.config
        if not meters.seen:
            return 0.0
        pixels = (config.eval_size / config.schedule.sizes[0][1]) ** 2
        return meters.spent / meters.seen / 3 * pixels * (1 + config.autocast) * len(self.val or ())

    @property
    def finished(self) -> bool:
        return self.progress >= 1

    @property
    def expected_steps(self) -> int:
        """How many steps the run will have; under a time limit an estimate that its last step makes exact."""
        if not self.config.minutes or not self.state.step:
            return self.batches.total_steps
        return max(self.state.step, round(self.state.step / max(1e-9, self.progress)))

    def step(self) -> int:
        """Train on the next batch; returns how many images it had."""
        began = time.perf_counter()
        state, config, number = self.state, self.config, self.state.step
        total, per_epoch = self.batches.total_steps, self.batches.steps_per_epoch
        position = self.progress * total if config.minutes else number
        if number % per_epoch == 0:
            state.meters.start_epoch()
        warmup = round(config.schedule.warmup_epochs * per_epoch)
        factor = learning_rate_factor(position, total=total, warmup=warmup, final=config.schedule.final)
        rate = set_learning_rate(state.optimizers, factor)
        side = side_at(position, total=total, schedule=config.schedule)
        images, labels = self.batches.batch(number, side, self.world)
        count, rank = len(self.batches.indices(number)), self.world.rank
        torch.manual_seed(seed_for(config.seed + rank, NETWORK, number))
        weight = len(images) * self.world.size / count
        attack_seed = seed_for(config.seed + rank, ATTACK, number)
        parts = max(1, min(config.accumulate, count // self.world.size))  # as many in each process
        loss, logits = learn(
            state, self.network, config, images, labels, attack_seed=attack_seed, weight=weight, parts=parts
        )
        state.step = number + 1
        passes = config.adversarial.passes if config.adversarial else 1.0
        state.meters.flops += round(passes * count * self.flops_per_image(side))
        self._count(loss, logits, labels, rate, began)
        return count

    def flops_per_image(self, side: int) -> int:
        """Forward and backward, counted once for each side; 0 for a network that is not one of ours."""
        if self.factory is not None:
            return 0
        if side not in self._flops:
            self._flops[side] = count_flops(self.config.model, num_classes=self.classes, side=side, training=True)
        return self._flops[side]

    def _count(self, loss: Tensor, logits: Tensor, labels: Tensor, rate: float, began: float) -> None:
        """Add a step to the epoch's sums; look at the loss and log it every `log_every` steps."""
        state, meters = self.state, self.state.meters
        targets = labels if labels.ndim == 1 else labels.argmax(dim=1)
        right = [int(hits(logits, targets, k).sum()) if len(targets) else 0 for k in (1, 5)]
        sums = self.world.all_reduce(float(loss) * len(targets), *right, len(targets))
        value, top1, top5, count = sums[0] / sums[3], int(sums[1]), int(sums[2]), int(sums[3])
        if self.world.size == 1:
            value = float(loss)
        self._refuse_divergence(value)
        meters.loss += value * count
        meters.top1 += top1
        meters.top5 += top5
        meters.images += count
        meters.seen += count
        if state.step % self.config.log_every == 0:
            self.logbook.write(step=state.step, training_loss=value, learning_rate=rate)
        self.latest = {"training_loss": value, "learning_rate": rate}
        elapsed = time.perf_counter() - began
        meters.seconds += elapsed
        self.display.step(
            StepStats(
                step=state.step,
                total=self.expected_steps,
                steps_per_epoch=self.batches.steps_per_epoch,
                loss=meters.loss / meters.images,
                learning_rate=rate,
                top1=100 * meters.top1 / meters.images,
                rate=count / elapsed,
            )
        )

    def _refuse_divergence(self, loss: float) -> None:
        if math.isfinite(loss):
            kept = loss if math.isnan(self.smoothed) else self.smoothed
            self.smoothed = LOSS_SMOOTHING * kept + (1 - LOSS_SMOOTHING) * loss
            if self.smoothed <= EXPLODED * math.log(max(2, self.classes)):
                return
        rate = self.config.optimizer.lr
        raise Diverged(
            f"training diverged at step {self.state.step}: the loss is {loss:.3g}, guessing has "
            f"{math.log(max(2, self.classes)):.3g}; try a third of the learning rate (--lr {rate / 3:.3g}), clipping "
            f"(--clip-norm 1) or a longer warm-up (--warmup-epochs); the last checkpoint is kept in {self.run.folder}"
        )

    def _end_epoch(self, *, last: bool) -> None:
        """Write the epoch's training row; where one is due evaluate, write that row, and keep the weights."""
        state, meters, config = self.state, self.state.meters, self.config
        epoch = math.ceil(state.step / self.batches.steps_per_epoch)
        if last and state.step % config.log_every:
            self.logbook.write(step=state.step, **self.latest)
        train_row = {
            "loss": meters.loss / meters.images,
            "top1": 100 * meters.top1 / meters.images,
            "top5": 100 * meters.top5 / meters.images,
        }
        self.logbook.write(epoch=epoch, step=state.step, split="train", **train_row)
        self.logbook.time(step=state.step, training_seconds=meters.seconds)
        text = f"epoch {epoch}: train loss {train_row['loss']:.3f}, top-1 {train_row['top1']:.2f}"
        if config.adversarial and not self._still_robust(config.adversarial, epoch):
            self.display.epoch(f"{text}  |  stopped: {state.stopped}")
            return
        if not last and epoch % config.evaluate_every:
            if config.adversarial and config.keep == "last":
                self._keep(epoch)
            self.display.epoch(text)
            return
        top1, began = 0.0, time.monotonic()
        if self.val is not None:
            model = as_stored(state.evaluated, half=config.half)
            logits = self._predict(model, self.val)
            top1, top5 = top_k(logits, self.val.labels, 1), top_k(logits, self.val.labels, 5)
            loss = F.cross_entropy(logits, self.val.labels).item()
            self.logbook.write(epoch=epoch, step=state.step, split=self.val.split, loss=loss, top1=top1, top5=top5)
            text += f"  |  {self.val.split} loss {loss:.3f}, top-1 {top1:.2f}, top-5 {top5:.2f}"
            state.meters.evaluating = self.world.broadcast(time.monotonic() - began)[0]
        self.display.epoch(text)
        if config.keep == "last" or self.val is None or top1 > state.best_acc1 or not self.run.best.exists():
            state.best_acc1 = top1
            self._keep(epoch)

    def _predict(self, model: nn.Module, val: MemmapDataset) -> Tensor:
        """Logits of all of val; each process makes its part of them."""
        part = np.arange(len(val))[self.world.shard(len(val))]
        own = val if self.world.size == 1 else val.subset(part, split=val.split, name=f"part {self.world.rank}")
        logits = torch.empty(0, self.classes)  # of a process that has no part
        if len(own):
            logits = predict_logits(model, own, size=self.config.eval_size, device=self.device, show=False)
        return self.world.all_gather(logits, len(val))

    def _keep(self, epoch: int) -> None:
        if not self.world.is_primary:
            return
        values = best_values(self.state, self.config, self.dataset.categories, epoch)
        save_checkpoint(self.run.best, values)

    def _still_robust(self, adversarial: AdversarialConfig, epoch: int) -> bool:
        """Whether adversarial training still teaches robustness; where not, the run ends and the weights that were kept
        last stay.
        """
        state, config = self.state, self.config
        if adversarial.method == "handout":
            return True
        began = time.monotonic()
        index = np.linspace(0, len(self.dataset) - 1, min(len(self.dataset), adversarial.probed)).astype(np.int64)
        images = resize(self.dataset.gather(index).to(self.device).float().div_(255), config.eval_size).clamp_(0, 1)
        labels = self.dataset.labels[torch.from_numpy(index)].to(self.device)
        found = overfitting_check(state.evaluated, images, labels, epsilon=adversarial.epsilon)
        state.meters.probing = self.world.broadcast(time.monotonic() - began)[0]
        one, many = (100 * count / found.images for count in (found.fgsm, found.pgd))
        self.logbook.write(epoch=epoch, step=state.step, split="probe", fgsm=one, pgd=many)
        if not self.world.broadcast(found.collapsed)[0]:
            return True
        if not self.run.best.exists():
            self._keep(epoch)
        kept = self.world.broadcast_object(load_checkpoint(self.run.best)["epoch"] if self.world.is_primary else None)
        state.stopped = (
            f"catastrophic overfitting at epoch {epoch}: {one:.0f} % of {found.images} training images stand one step, "
            f"{many:.0f} % stand PGD; kept are the weights of epoch {kept}. Take "
            "more steps, a smaller step or a smaller epsilon"
        )
        return False

    def _save(self) -> None:
        if not self.world.is_primary:
            return
        self.state.metrics_bytes = self.logbook.sync()
        epoch = self.state.step // self.batches.steps_per_epoch
        values = checkpoint_values(self.state, self.config, self.dataset.categories, epoch)
        save_checkpoint(self.run.checkpoint, values)


def pick_device(name: str) -> torch.device:
    """`auto` takes a GPU where there is one.

    Raises:
        LabError: the device named is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise LabError(f"device {name!r} is not available on this machine; use 'cpu'")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise LabError(f"device is {name!r}; expected auto, cpu or cuda") from error
