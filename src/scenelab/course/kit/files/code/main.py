"""Train, evaluate, look into and attack a scene classifier: python ./main.py ../data"""

import argparse
import datetime
import math
import os
import shutil
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader
from torch.utils.tensorboard import SummaryWriter
from torchvision import transforms

import student_code
from miniplaces import MiniPlaces

MODELS, LOGS = Path("../models"), Path("../logs")
RUN = time.strftime("%Y-%m-%d_%H-%M-%S")  # each run has folders of this name in both
COLUMNS = 10  # of a grid of pictures


def parse():
    """The flags."""
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("data_folder", metavar="DIR", type=Path, help="folder of the data set")
    flags.add_argument("-j", "--workers", default=4, type=int, help="processes that read images (4)")
    flags.add_argument("--epochs", "--epoches", default=90, type=int, help="epochs to train (90)")
    flags.add_argument("--start-epoch", default=0, type=int, help="epoch to start from (0)")
    flags.add_argument("--warmup-epochs", "--warmup", default=0, type=int, help="epochs of rising learning rate (0)")
    flags.add_argument("-b", "--batch-size", default=256, type=int, help="images a step (256)")
    flags.add_argument("--lr", "--learning-rate", default=0.1, type=float, help="learning rate at its peak (0.1)")
    flags.add_argument("--momentum", default=0.9, type=float, help="of SGD (0.9)")
    flags.add_argument("--wd", "--weight-decay", default=1e-4, type=float, dest="weight_decay", help="(1e-4)")
    # ONLY 2022
    flags.add_argument("--clip-grad", default=1.0, type=float, help="largest norm of the gradient (1.0)")
    flags.add_argument("--use-vit", action="store_true", help="train default_vit_model")
    flags.add_argument("--use-resnet18", action="store_true", help="fine-tune a ResNet-18 that knows ImageNet")
    # END ONLY
    flags.add_argument("-p", "--print-freq", default=10, type=int, help="steps from line to line (10)")
    flags.add_argument("--resume", default="", metavar="PATH", help="a checkpoint to go on from or to judge")
    flags.add_argument("-e", "--evaluate", action="store_true", help="judge the checkpoint on val")
    flags.add_argument("-a", "--attack", action="store_true", help="attack the checkpoint on val")
    flags.add_argument("-v", "--vis", action="store_true", help="with -e: attention maps; with -a: adversarial samples")
    flags.add_argument("--use-custom-conv", action="store_true", help="train with CustomConv2d")
    flags.add_argument("--gpu", default=0, type=int, help="GPU to use, -1 for the CPU (0)")
    return flags.parse_args()


# ONLY 2019
def get_train_transforms():
    """What happens to a training image."""
    return transforms.Compose([
        transforms.Resize(160),
        transforms.RandomHorizontalFlip(),
        transforms.ColorJitter(0.15, 0.15, 0.15),
        transforms.RandomRotation(15),
        transforms.RandomResizedCrop(128, scale=(0.25, 1.0), ratio=(0.8, 1.2)),
        transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])  # fmt: skip


def get_val_transforms():
    """What happens to an image when a model is judged."""
    return transforms.Compose([
        transforms.Resize(160),
        transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])  # fmt: skip
# END ONLY


def make_model(args):
    """The network that the flags name."""
    options = {"num_classes": 100}
    if args.use_custom_conv:
        print("Using custom convolutions in the network")
        options["conv_op"] = student_code.CustomConv2d
    # ONLY 2022
    if args.use_resnet18:
        from torchvision.models import resnet18

        model = resnet18(weights="IMAGENET1K_V1")
        model.fc = nn.Linear(512, 100)
        return model
    if args.use_vit:
        return student_code.default_vit_model(**options)
    # END ONLY
    return student_code.default_model(**options)


def learning_rate(step, steps, warmup_steps, peak):
    """Linear to the peak, then half a cosine to 0; by step."""
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))


def accuracy(scores, labels):
    """Top-1 and top-5 accuracy in percent."""
    right = scores.topk(5, dim=1).indices == labels[:, None]
    return 100 * right[:, 0].float().mean().item(), 100 * right.any(dim=1).float().mean().item()


def train_epoch(loader, model, optimizer, epoch, args, writer, device):
    """One pass over the training images."""
    model.train()
    steps, begun = len(loader), time.time()
    for index, (images, labels) in enumerate(loader):
        step = epoch * steps + index
        rate = learning_rate(step, args.epochs * steps, args.warmup_epochs * steps, args.lr)
        for group in optimizer.param_groups:
            group["lr"] = rate
        images, labels = images.to(device), labels.to(device)
        scores = model(images)
        loss = F.cross_entropy(scores, labels)
        if not math.isfinite(loss.item()):
            raise SystemExit(f"main.py: the loss is {loss.item()} at step {step}; try a smaller --lr")
        optimizer.zero_grad()
        loss.backward()
        # ONLY 2022
        if args.clip_grad > 0:
            nn.utils.clip_grad_norm_(model.parameters(), args.clip_grad)
        # END ONLY
        optimizer.step()
        if index % args.print_freq == 0:
            top1, top5 = accuracy(scores.detach(), labels)
            seconds = (time.time() - begun) / (index + 1)
            left = datetime.timedelta(seconds=round(seconds * (args.epochs * steps - step - 1)))
            print(f"Epoch [{epoch}][{index}/{steps}]  Time {seconds:.2f}  Left {left}  Loss {loss.item():.4f}  "
                  f"Acc@1 {top1:.2f}  Acc@5 {top5:.2f}")  # fmt: skip
            writer.add_scalar("data/training_loss", loss.item(), step)
            writer.add_scalar("data/learning_rate", rate, step)
            writer.add_scalars("data/top1_accuracy", {"train": top1}, step)
            writer.add_scalars("data/top5_accuracy", {"train": top5}, step)


def evaluate(loader, model, device, *, mirror=False, attack=None, writer=None, attention=None):
    """Top-1 and top-5 accuracy on val; the last line printed has both.

    Args:
        mirror: average the scores of each image and its mirror image.
        attack: judge its adversarial samples instead of the images.
        writer: draw pictures of them there.
        attention: draw its maps there.
    """
    model.eval()
    right1 = right5 = seen = 0.0
    for step, (images, labels) in enumerate(loader):
        images, labels = images.to(device), labels.to(device)
        if attack is not None:
            original, images = images, attack.perturb(model, images).detach()
            if writer is not None:
                for name, shown in (("Org", original), ("Adv", images)):
                    picture = student_code.default_visfunction(shown, n_rows=COLUMNS)
                    writer.add_image(f"Image/{name}_Image", picture, step)
        if attention is not None:
            maps = attention.explain(model, images)
            picture = student_code.default_visfunction(images, n_rows=COLUMNS, vis_output=maps)
            writer.add_image("Image/Image_Atten", picture, step)
        with torch.no_grad():
            scores = model(images)
            if mirror:
                scores = (scores + model(images.flip(3))) / 2
        top1, top5 = accuracy(scores, labels)
        right1, right5, seen = right1 + top1 * len(labels), right5 + top5 * len(labels), seen + len(labels)
    print(f"******Acc@1 {right1 / seen:.3f} Acc@5 {right5 / seen:.3f}")
    return right1 / seen, right5 / seen


def save(values, name):
    """Write a checkpoint of this run, and a copy as the newest; each is whole or not there."""
    (MODELS / RUN).mkdir(parents=True, exist_ok=True)
    torch.save(values, MODELS / f"{name}.part")
    shutil.copyfile(MODELS / f"{name}.part", MODELS / RUN / name)
    os.replace(MODELS / f"{name}.part", MODELS / name)


def load(path, device):
    """Read a checkpoint."""
    if not Path(path).is_file():
        raise SystemExit(f"main.py: --resume {path!r}: no such checkpoint; give one of ../models")
    print(f"=> loading checkpoint '{path}'")
    return torch.load(path, map_location=device, weights_only=True)


def train(args, model, device, checkpoint):
    """Train from the start or from a checkpoint; the best epoch on val is kept as model_best.pth.tar."""
    optimizer = torch.optim.SGD(model.parameters(), args.lr, momentum=args.momentum, weight_decay=args.weight_decay)
    best = 0.0
    if checkpoint is not None:
        args.start_epoch, best = checkpoint["epoch"], checkpoint["best_acc1"]
        if args.start_epoch >= args.epochs:
            raise SystemExit(f"main.py: --resume is at epoch {args.start_epoch} already; ask for more with --epochs")
        if "optimizer" in checkpoint:
            optimizer.load_state_dict(checkpoint["optimizer"])
        else:
            print("The checkpoint holds no optimizer: its momentum starts anew. checkpoint.pth.tar holds everything.")
    train_set = MiniPlaces(args.data_folder, "train", transform_of("train"))
    val_set = MiniPlaces(args.data_folder, "val", transform_of("val"))
    loader = DataLoader(train_set, args.batch_size, shuffle=True, num_workers=args.workers, drop_last=True)
    val_loader = DataLoader(val_set, 100, num_workers=args.workers)
    with SummaryWriter(str(LOGS / RUN)) as writer:
        for epoch in range(args.start_epoch, args.epochs):
            train_epoch(loader, model, optimizer, epoch, args, writer, device)
            top1, top5 = evaluate(val_loader, model, device)
            step = (epoch + 1) * len(loader)
            writer.add_scalars("data/top1_accuracy", {"val": top1}, step)
            writer.add_scalars("data/top5_accuracy", {"val": top5}, step)
            values = {
                "epoch": epoch + 1, "model_arch": type(model).__name__, "state_dict": model.state_dict(),
                "best_acc1": max(best, top1),
            }  # fmt: skip
            save({**values, "optimizer": optimizer.state_dict()}, "checkpoint.pth.tar")
            if top1 > best:
                best = top1
                save(values, "model_best.pth.tar")


def transform_of(split):
    """The transforms of a split."""
    # ONLY 2022
    get_train_transforms, get_val_transforms = student_code.get_train_transforms, student_code.get_val_transforms
    # END ONLY
    return get_train_transforms() if split == "train" else get_val_transforms()


def main():
    """Do what the flags ask for."""
    if sys.stdout is not None:  # None: closed
        sys.stdout.reconfigure(errors="backslashreplace")  # a path may have characters that the terminal lacks
    args = parse()
    args.workers = min(args.workers, os.cpu_count() or 1)
    torch.manual_seed(42)
    device = torch.device(f"cuda:{args.gpu}" if args.gpu >= 0 and torch.cuda.is_available() else "cpu")
    print(f"Using device: {device}")
    checkpoint = load(args.resume, device) if args.resume else None
    model = make_model(args).to(device)
    if checkpoint is not None:
        model.load_state_dict(checkpoint["state_dict"])
    if not (args.evaluate or args.attack):
        train(args, model, device, checkpoint)
        return
    if checkpoint is None:
        raise SystemExit("main.py: -e and -a judge a model; say which with --resume=../models/model_best.pth.tar")
    val_set = MiniPlaces(args.data_folder, "val", transform_of("val"))
    loader = DataLoader(val_set, 100, num_workers=args.workers)
    loss = nn.CrossEntropyLoss()
    with SummaryWriter(str(LOGS / RUN)) as writer:
        if args.evaluate:
            attention = student_code.default_attention(loss) if args.vis else None
            evaluate(loader, model, device, mirror=True, writer=writer, attention=attention)
        if args.attack:
            attack = student_code.default_attack(loss)
            evaluate(loader, model, device, attack=attack, writer=writer if args.vis else None)


if __name__ == "__main__":
    main()
