"""Train and evaluate a scene classifier with the handout's commands: python ./main.py ../data"""

import argparse
import sys
from functools import partial
from pathlib import Path

try:
    from scenelab.runtime import prepare
    from scenelab.terminal import prepare_streams
except ImportError:
    sys.exit("main.py: scenelab is not installed; run 'make install' in the repository and use ../.venv/bin/python")

prepare_streams()
prepare()  # before torch loads

from scenelab.errors import Interrupted, LabError, printable  # noqa: E402
from scenelab.extras import TENSORBOARD  # noqa: E402

NOT_YET = {"use_resnet18": "--use-resnet18 needs weights trained elsewhere, which this assignment does not allow"}


def parser() -> argparse.ArgumentParser:
    """The handout's flags and defaults, 2019 and later."""
    flags = argparse.ArgumentParser(description=__doc__)
    add = flags.add_argument
    add("data_folder", metavar="DIR", type=Path, help="path to the data set")
    add("-j", "--workers", default=4, type=int, metavar="N", help="has no effect: packed images need no workers")
    add("--epochs", "--epoches", default=90, type=int, metavar="N", help="epochs to train (90)")
    add("--start-epoch", default=0, type=int, metavar="N", help="epoch to start from (0)")
    add("--warmup-epochs", "--warmup", default=0, type=int, help="epochs of linear warm-up (0)")
    add("-b", "--batch-size", default=256, type=int, metavar="N", help="images per step (256)")
    add("--lr", "--learning-rate", default=0.1, type=float, metavar="LR", help="peak rate (0.1)")
    add("--momentum", default=0.9, type=float, metavar="M", help="of SGD (0.9)")
    add(
        "--wd", "--weight-decay", default=1e-4, type=float, metavar="W", dest="weight_decay", help="weight decay (1e-4)"
    )
    add("--clip-grad", default=1.0, type=float, help="maximum norm of the gradient, 0 for none (1.0)")
    add("-p", "--print-freq", default=10, type=int, metavar="N", help="steps between lines (10)")
    add("--resume", default="", metavar="PATH", help="checkpoint to resume or to evaluate")
    add("-e", "--evaluate", action="store_true", help="evaluate the checkpoint on val")
    add("-a", "--attack", action="store_true", help="attack the checkpoint on val")
    add("-v", "--vis", action="store_true", help="with -e: log attention maps; with -a: log adversarial examples")
    add("--adversarial", action="store_true", help="train on the adversarial examples of default_attack")
    add("--use-custom-conv", action="store_true", help="train with the convolution by hand")
    add("--use-vit", action="store_true", help="train the vision transformer")
    add("--use-residual", action="store_true", help="train our network, ResidualNet")
    add("--use-resnet18", action="store_true", help="train a pretrained ResNet-18")
    add("--gpu", default=0, type=int, help="GPU to use, -1 for the CPU (0)")
    return flags


def main(args: argparse.Namespace) -> None:
    """Do what the flags ask for."""
    for flag, answer in NOT_YET.items():
        if getattr(args, flag):
            raise LabError(answer)
    if args.vis:
        TENSORBOARD.require()
    import torch

    import student_code
    from scenelab.course import handout

    if args.use_vit and args.use_residual:
        raise LabError("--use-vit and --use-residual name two networks; choose one")
    name = "vit" if args.use_vit else "residual" if args.use_residual else handout.DEFAULT
    if (args.evaluate or args.attack) and name == handout.DEFAULT:
        name = handout.name_of(args.resume)
    network = handout.network(name, student_code)
    if args.use_custom_conv:
        print("Using custom convolutions in the network")
        network = partial(network, conv_op=student_code.CustomConv2d)
    if args.adversarial:
        if args.evaluate or args.attack:
            raise LabError("--adversarial is a way to train; leave -e and -a out")
        attack = handout.lookup(student_code, "default_attack")
        network = handout.attach_attack(network, attack(torch.nn.CrossEntropyLoss()))
    if args.evaluate:
        handout.evaluate(args.data_folder, args.resume, network, gpu=args.gpu)
        if args.vis:
            handout.log_attention(args.data_folder, args.resume, network, student_code, gpu=args.gpu)
        if not args.attack:
            return
    if args.attack:
        handout.attack(args.data_folder, args.resume, network, student_code, gpu=args.gpu, vis=args.vis)
        return
    if args.vis:
        raise LabError("-v draws what a trained model does; add -e for attention maps or -a for adversarial samples")
    config = handout.config_from_flags(args, name)
    handout.train(
        args.data_folder,
        config,
        network,
        resume=args.resume,
        start_epoch=args.start_epoch,
        print_freq=args.print_freq,
        attached=args.adversarial,
    )


if __name__ == "__main__":
    try:
        main(parser().parse_args())
    except LabError as error:
        sys.exit(printable(f"main.py: error: {error}"))
    except Interrupted as stop:
        print(f"{stop}; go on with --resume=../models/checkpoint.pth.tar", file=sys.stderr)
        sys.exit(130)
    except KeyboardInterrupt:
        sys.exit(130)
