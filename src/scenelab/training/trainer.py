"""The training loop: steps, evaluation after epochs, and checkpoints."""

import dataclasses
import math
import time
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from scenelab.data.cache import MemmapDataset
from scenelab.data.contact_sheet import write_contact_sheet
from scenelab.data.loader import ATTACK, NETWORK, TrainLoader, seed_for
from scenelab.errors import Diverged, Interrupted
from scenelab.evaluation.metrics import predict_logits, top_k
from scenelab.models.flops import count_flops
from scenelab.progress import StepStats, TrainProgress
from scenelab.runs.checkpoint import load_checkpoint, save_checkpoint
from scenelab.runs.config import TrainConfig
from scenelab.runs.network import as_stored
from scenelab.runs.run import Run
from scenelab.training.adversarial import probe_dataset
from scenelab.training.clock import RunClock
from scenelab.training.distributed import SINGLE_PROCESS, World
from scenelab.training.graceful_stop import stop_requests
from scenelab.training.metrics_logger import MetricsLogger
from scenelab.training.optim import set_learning_rate
from scenelab.training.pace import Pace, follow_plan
from scenelab.training.schedule import learning_rate_factor, side_at
from scenelab.training.state import TrainState, best_values, checkpoint_values
from scenelab.training.statistics import EpochStatistics, StepStatistics, count_confused, count_correct
from scenelab.training.step import Network, adversarial_train_step, train_step

LOSS_SMOOTHING = 0.95
SHOWN_IMAGES, SHOWN_PAIRS = 32, 5  # of the last batch, and of the confused classes, for those who watch the run
MAX_LOSS = 4.0  # limit of the smoothed loss, as a multiple of the loss of uniform random guessing


@dataclass(kw_only=True)
class Trainer:
    """Training loop of one run; `fit` continues from the current state to the end.

    Attributes:
        run: the run folder.
        config: config of the run.
        state: model, optimizers and position in the run; new, or restored from a checkpoint.
        loader: training batches, indexed by step.
        val: images to evaluate after an epoch; None for no evaluation.
        logger: writes the metrics.
        display: shows the progress.
        world: this process and the other ranks.
        smoothed_loss: exponential moving average of the loss, to detect divergence.
        last_side: side of the images of the last step in pixels.
        last_step: results of the last step.
        pace: the speed of the steps and of the plan.
    """

    run: Run
    config: TrainConfig
    state: TrainState
    loader: TrainLoader
    val: MemmapDataset | None
    logger: MetricsLogger
    display: TrainProgress
    world: World = SINGLE_PROCESS
    smoothed_loss: float = field(default=float("nan"), init=False)
    last_side: int | None = field(default=None, init=False)
    last_step: StepStatistics | None = field(default=None, init=False)
    pace: Pace = field(default_factory=Pace, init=False)
    _flops: dict[int, float] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        network = self.world.wrap_ddp(self.state.model)
        self.network: Network = torch.compile(network) if self.config.compile else network
        self.clock = RunClock(self.config, self.loader.steps_per_epoch, len(self.val or ()))
        self.display = self.display if self.world.is_primary else TrainProgress()

    def fit(self, announcement: tuple[str, ...] = ()) -> TrainState:
        """Train to the last step, or until catastrophic overfitting, and return the final state.

        Saves a checkpoint after each epoch and every `config.checkpoint_seconds`.

        Args:
            announcement: lines of text to show once the handler for Ctrl-C is installed.

        Raises:
            LabError: the loss diverged, or the run folder cannot be written.
            Interrupted: Ctrl-C or SIGTERM was received; a checkpoint has been saved.
        """
        state = self.state
        with self.display, stop_requests() as stop_requested:
            for line in announcement:
                self.display.epoch(line)
            saved = counted = time.monotonic()
            state.is_complete = self.clock.progress(state) >= 1
            while not (state.is_complete or state.stopped):
                self.step()
                seconds, stop = self.world.broadcast(time.monotonic() - counted, stop_requested())
                state.run.spent += seconds
                counted = time.monotonic()
                share = self.clock.progress(state)
                is_first_check = self.pace.is_first_check(share)
                is_last = state.is_complete = share >= 1  # before an evaluation adds to the time
                ends_epoch = is_last or state.step % self.loader.steps_per_epoch == 0
                if ends_epoch:
                    self._end_epoch(is_last=is_last)
                if not is_last and (ends_epoch or is_first_check):
                    self._check_pace()
                unsaved = self.world.broadcast(time.monotonic() - saved)[0]
                stops = bool(stop) and not is_last
                if ends_epoch or stops or unsaved >= self.config.checkpoint_seconds:
                    state.run.spent += self.world.broadcast(time.monotonic() - counted)[0]
                    counted = time.monotonic()
                    self._save()
                    saved = time.monotonic()
                if stops and not state.stopped:
                    raise Interrupted(f"stopped at step {state.step} of {self.clock.expected_steps(state)}")
        return state

    def step(self) -> int:
        """Train on the next batch, log the results, and return the number of images in the batch over all ranks."""
        start_time = time.perf_counter()
        state, config, number = self.state, self.config, self.state.step
        total, per_epoch = self.clock.total_steps, self.loader.steps_per_epoch
        position = self.clock.progress(state) * total if config.minutes else number
        if number % per_epoch == 0:
            state.epoch = EpochStatistics()
        warmup = round(config.schedule.warmup_epochs * per_epoch)
        factor = learning_rate_factor(position, total=total, warmup=warmup, schedule=config.schedule)
        learning_rate = set_learning_rate(state.optimizers, factor)
        side = self.last_side = side_at(position, total=total, schedule=config.schedule)
        count, seed = len(self.loader.indices(number)), config.seed + self.world.rank
        images, labels = self.loader.batch(number, side, self.world.shard(count) if self.world.size > 1 else None)
        weight = len(images) * self.world.size / count
        state.is_frozen = config.finetune is not None and number < config.finetune.head_epochs * per_epoch
        torch.manual_seed(seed_for(seed, NETWORK, number))
        if config.adversarial:
            attack_seed = seed_for(seed, ATTACK, number)
            results = adversarial_train_step(
                state, self.network, config, images, labels, seed=attack_seed, weight=weight
            )
        else:
            parts = max(1, min(config.accumulate, count // self.world.size))  # equal on all ranks
            results = train_step(state, self.network, config, images, labels, weight=weight, parts=parts)
        state.step = number + 1
        state.run.flops += round(count * self._flops_per_image(side))
        self._record(*results, labels, learning_rate, start_time)
        self.pace.add(self.config, count // self.world.size, side, time.perf_counter() - start_time)
        return count

    def _check_pace(self) -> None:
        """Plan the rest of the run again if its speed is not the planned one."""
        config, text = follow_plan(self.pace, self.config, self.run, self.state, self.loader, self.world)
        if text:
            self.config, self.clock = config, dataclasses.replace(self.clock, config=config)
            self.logger.time(step=self.state.step, plan=text)
            self.display.epoch(text)

    def _record(self, loss: Tensor, logits: Tensor, labels: Tensor, learning_rate: float, start_time: float) -> None:
        """Sum the results of a step over all ranks, raise Diverged if the loss is too high, and log the results."""
        state = self.state
        sums = self.world.all_reduce(float(loss) * len(labels), *count_correct(logits, labels), len(labels))
        mean = sums[0] / sums[3] if self.world.size > 1 else float(loss)
        self._require_convergence(mean)
        top1, top5, images = map(int, sums[1:])
        seconds = time.perf_counter() - start_time
        self.last_step = StepStatistics(
            loss=mean, top1=top1, top5=top5, images=images, learning_rate=learning_rate, seconds=seconds
        )
        state.epoch.add(self.last_step)
        state.run.seen += images
        state.run.seconds += seconds
        if state.step % self.config.log_every == 0:
            self._log_step(self.last_step)
        means = state.epoch.means()
        self.display.step(
            StepStats(
                step=state.step,
                total=self.clock.expected_steps(state),
                steps_per_epoch=self.loader.steps_per_epoch,
                loss=means["loss"],
                learning_rate=learning_rate,
                top1=means["top1"],
                rate=images / seconds,
            )
        )

    def _log_step(self, step: StepStatistics) -> None:
        self.logger.write(step=self.state.step, training_loss=step.loss, learning_rate=step.learning_rate)
        self.logger.time(step=self.state.step, training_seconds=self.state.run.seconds)

    def _require_convergence(self, loss: float) -> None:
        guessing = math.log(max(2, len(self.loader.dataset.categories)))
        if math.isfinite(loss):
            earlier = loss if math.isnan(self.smoothed_loss) else self.smoothed_loss
            self.smoothed_loss = LOSS_SMOOTHING * earlier + (1 - LOSS_SMOOTHING) * loss
            if self.smoothed_loss <= MAX_LOSS * guessing:
                return
        raise Diverged(
            f"training diverged at step {self.state.step}: the loss is {loss:.3g}, guessing has {guessing:.3g}; try a "
            f"third of the learning rate (--lr {self.config.optimizer.lr / 3:.3g}), clipping (--clip-norm 1) or a "
            f"longer warm-up (--warmup-epochs); the last checkpoint is kept in {self.run.folder}"
        )

    def _flops_per_image(self, side: int) -> float:
        """Return the FLOPs of a training step per image of `side` pixels; 0 for a custom network."""
        if self.state.is_custom:
            return 0
        if side not in self._flops:
            classes = len(self.loader.dataset.categories)
            flops = count_flops(self.config.model, num_classes=classes, side=side, training=True)
            self._flops[side] = self.config.relative_flops * flops
        return self._flops[side]

    def _end_epoch(self, *, is_last: bool) -> None:
        """Log the epoch, check for catastrophic overfitting, and evaluate and save the weights if due."""
        state, config = self.state, self.config
        epoch = math.ceil(state.step / self.loader.steps_per_epoch)
        if is_last and state.step % config.log_every and self.last_step:
            self._log_step(self.last_step)
        means = state.epoch.means()
        self.logger.write(epoch=epoch, step=state.step, split="train", **means)
        self.logger.time(step=state.step, training_seconds=state.run.seconds)
        text = f"epoch {epoch}: train loss {means['loss']:.3f}, top-1 {means['top1']:.2f}"
        if config.adversarial and config.adversarial.method != "handout" and self._has_collapsed(epoch):
            text += f"  |  stopped: {state.stopped}"
        elif is_last or epoch % config.evaluate_every == 0:
            text += self._evaluate(epoch)
        elif config.adversarial and config.keep == "last":
            self._keep_weights(epoch)
        self.display.epoch(text)

    def _evaluate(self, epoch: int) -> str:
        """Evaluate on val, log metrics, return them as text; save the weights if best or if `config.keep` is `last`."""
        state, config, val, top1, text = self.state, self.config, self.val, 0.0, ""
        if val is not None:
            began = time.monotonic()
            logits = self._predict(val)
            top1, top5 = top_k(logits, val.labels, 1), top_k(logits, val.labels, 5)
            loss = F.cross_entropy(logits, val.labels).item()
            row = {"epoch": epoch, "step": state.step, "split": val.split, "loss": loss, "top1": top1, "top5": top5}
            self.logger.write(**row, confused=count_confused(logits, val.labels, val.categories, SHOWN_PAIRS))
            text = f"  |  {val.split} loss {loss:.3f}, top-1 {top1:.2f}, top-5 {top5:.2f}"
            state.run.evaluating = self.world.broadcast(time.monotonic() - began)[0]
            state.run.worse = 0 if state.is_frozen or top1 > state.best_acc1 else state.run.worse + 1
            if config.patience and state.run.worse >= config.patience:
                state.stopped = f"no better top-1 accuracy in {config.patience} evaluations, at epoch {epoch}"
        if config.keep == "last" or val is None or top1 > state.best_acc1 or not self.run.best.exists():
            state.best_acc1 = top1
            self._keep_weights(epoch)
        return text

    def _predict(self, val: MemmapDataset) -> Tensor:
        """Return the logits (n, k) of all val images; each rank computes its shard."""
        rows = np.arange(len(val))[self.world.shard(len(val))]
        shard = val if self.world.size == 1 else val.subset(rows, split=val.split, name=f"part {self.world.rank}")
        logits = torch.empty(0, len(val.categories))
        if len(shard):
            model = as_stored(self.state.evaluated, half=self.config.half)
            logits = predict_logits(model, shard, size=self.config.eval_size, device=self.loader.device, show=False)
        return self.world.all_gather(logits, len(val))

    def _has_collapsed(self, epoch: int) -> bool:
        """Check for catastrophic overfitting, log it, and return whether it occurred; if so, set `state.stopped`."""
        state, config = self.state, self.config
        assert config.adversarial is not None
        began = time.monotonic()
        probe = probe_dataset(
            state.evaluated, self.loader.dataset, config.adversarial, side=config.eval_size, device=self.loader.device
        )
        state.run.probing = self.world.broadcast(time.monotonic() - began)[0]
        fgsm, pgd = (100 * count / probe.images for count in (probe.fgsm, probe.pgd))
        self.logger.write(epoch=epoch, step=state.step, split="probe", fgsm=fgsm, pgd=pgd)
        if not self.world.broadcast(probe.collapsed)[0]:
            return False
        if not self.run.best.exists():
            self._keep_weights(epoch)
        kept = self.world.broadcast_object(load_checkpoint(self.run.best)["epoch"] if self.world.is_primary else None)
        state.stopped = (
            f"catastrophic overfitting at epoch {epoch}: {fgsm:.0f} % of {probe.images} training images withstand one "
            f"step, {pgd:.0f} % withstand PGD; the weights of epoch {kept} are kept. Take more steps, a smaller step "
            "or a smaller epsilon"
        )
        return True

    def _keep_weights(self, epoch: int) -> None:
        if self.world.is_primary:
            save_checkpoint(self.run.best, best_values(self.state, self.config, self.loader.dataset.categories, epoch))

    def _save(self) -> None:
        if self.world.is_primary:
            self.state.metrics_bytes = self.logger.sync()
            if self.last_side is not None:  # the loader gives the batch of any step again
                images, _ = self.loader.batch(self.state.step - 1, self.last_side)
                write_contact_sheet(images[:SHOWN_IMAGES], self.run.batch)
            epoch = self.state.step // self.loader.steps_per_epoch
            values = checkpoint_values(self.state, self.config, self.loader.dataset.categories, epoch)
            save_checkpoint(self.run.checkpoint, values)
