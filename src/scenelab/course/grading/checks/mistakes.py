"""Common mistakes by name, each with an experiment that shows it, and hints for every check."""

from __future__ import annotations

import re
from typing import NamedTuple


class Mistake(NamedTuple):
    """A common mistake: its name, where it is recognized, why it is one, and code that shows it.

    `where` and `says` are regular expressions that match the name of a check (or "remark") and what it reports.
    """

    name: str
    where: str
    says: str
    why: str
    see: str


NETWORK = (
    "net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5)); x = torch.randn(2, 3, 2, 2); "
    "loss = torch.nn.CrossEntropyLoss()"
)
ONE = "x = torch.rand(1, 1, 3, 3); w = torch.rand(1, 1, 2, 2, requires_grad=True); b = torch.zeros(1)"
ATTACK = f"{NETWORK}; t = net(x).argmin(1); adv = PGDAttack(loss).perturb(net, x)"
MISTAKES = [
    Mistake(
        "bias=None",
        "conv_no_bias",
        "",
        "Convolutions in front of batch normalization have no bias: forward gets None and backward returns None.",
        f"{ONE}; custom_conv2d(x, w, None).sum().backward()",
    ),
    Mistake(
        "a view in front of an in-place ReLU",
        "conv_inplace_relu|conv_in_network",
        r"is a view\b",
        "ReLU(inplace=True) overwrites your output; a view shares its memory with another tensor, so autograd refuses.",
        f"{ONE}; print(custom_conv2d(x, w, b)._is_view(), 'should be False')",
    ),
    Mistake(
        "an image that is not square",
        "conv_rectangle",
        "",
        "Height and width are computed each from its own side. The square root of the number of windows is right for "
        "squares alone.",
        "print(custom_conv2d(torch.ones(1, 1, 4, 8), torch.ones(1, 1, 3, 3), torch.zeros(1)).shape, '= 1 1 2 6?')",
    ),
    Mistake(
        "the weight's gradient is not summed over the batch",
        "conv_grad_weight",
        r"number of images|one image alone|invalid gradient at index 1 - got \[\d+, \d+, \d+\]",
        "Every image of the batch uses the same weight, so their gradients add up; the result has the weight's shape.",
        f"{ONE}; f = lambda n: torch.autograd.grad(custom_conv2d(x.repeat(n, 1, 1, 1), w, b).sum(), w)[0].sum(); "
        "print(f(1), f(2), 'the second should be twice the first')",
    ),
    Mistake(
        "float64 out of float32 in",
        "conv_dtype|conv_in_network",
        r"torch\.float|same dtype|scalar type",
        "A tensor that is made without dtype=input.dtype, or .double() and .float(), changes the dtype of a network.",
        f"{ONE}; print(custom_conv2d(x, w, b).dtype, custom_conv2d(x.double(), w.double(), b.double()).dtype)",
    ),
    Mistake(
        "the step has the wrong sign",
        "attack_descends",
        "has the wrong sign",
        "The loss is that of a wrong label, and it should fall; only the loss of the true label should rise.",
        f"{ATTACK}; print(loss(net(x), t), loss(net(adv), t), 'the second should be smaller')",
    ),
    Mistake(
        "the label is picked anew from the adversarial image",
        "remark",
        "picked anew",
        "After a step another label may be the least confident one, and the next step undoes the last.",
        f"{ATTACK}; print(t, net(adv).argmin(1), 'the first stays the target')",
    ),
    Mistake(
        "clipped only at the end",
        "remark",
        "clipped only at the end",
        "Steps that start outside the neighborhood follow gradients of images that the attack may not use.",
        f"{NETWORK}; print((PGDAttack(loss, 30, 0.1, 0.05).perturb(net, x) - x).abs().max(), 'print it in each step')",
    ),
    Mistake(
        "clipped to [0, 1] in the normalized space",
        "attack_.*",
        r"clipped to \[0, 1\]",
        "Normalized images have values from about -2 to 2.6; [0, 1] cuts most of them.",
        f"{ATTACK}; print(x.min(), x.max(), adv.min(), adv.max())",
    ),
    Mistake(
        "a maximum or minimum over the batch",
        "attack_label|attention_.*",
        "target batch_size|over the batch|whole batch|first image's for all|Size does not match at dimension 0 expected"
        r"|returned 3×\d+×\d+ for images 1×",
        "Dimension 0 is the batch and dimension 1 the classes or channels; without dim, all values are one pool.",
        f"{NETWORK}; print(net(x).argmax(), net(x).argmax(0).shape, net(x).argmax(1).shape)",
    ),
    Mistake(
        "a loss of one's own",
        "attack_loss",
        "use self.loss_fn",
        "The attack lowers the loss that it was made with: main.py passes cross-entropy, the check another one.",
        f"{NETWORK}; f = lambda s, y: print('called') or loss(s, y); PGDAttack(f, num_steps=1).perturb(net, x)",
    ),
    Mistake(
        "the model is left in another state",
        ".*_leaves_model",
        "another mode|no longer require|changes the model|hooks",
        "Training goes on after the call: dropout, batch statistics and gradients have to be as they were.",
        f"{NETWORK}; net.train(); PGDAttack(loss).perturb(net, x); GradAttention(loss).explain(net, x); "
        "print(net.training, all(p.requires_grad for p in net.parameters()), 'should be True True')",
    ),
    Mistake(
        "gradients accumulate",
        "remark",
        "Gradients accumulate|leaves gradients in",
        "backward() adds to .grad; it does not replace it.",
        f"{NETWORK}; PGDAttack(loss).perturb(net, x); print([p.grad is None for p in net.parameters()])",
    ),
    Mistake(
        "the graph grows from step to step",
        "attack_.*",
        "grows from step|carry a graph|through the graph a second time",
        "An image that is computed from the last one drags its whole history along, unless it is detached.",
        f"{ATTACK}; print(adv.grad_fn, 'should be None')",
    ),
    Mistake(
        ".cuda() without a question",
        "remark",
        "needs a GPU",
        "Most machines, and the grader's, have no GPU. Make tensors where the input is: device=input.device.",
        "print(torch.cuda.is_available())",
    ),
]

BASIC = ("conv_forward", "conv_grad_input", "conv_grad_weight", "conv_grad_bias")

SIZES = (
    "What is the size of the output, on paper, for an input of 5×8, K = 3, stride 2, padding 1?",
    "Print the shape after every line for that case. Do height and width each come from their own side?",
    "The handout: Ho = (Hi + 2P - K) / S + 1 rounded down, and Wo likewise; H and W need not be equal.",
)
STATE = (
    "What of the model and the images may be different after the call? Compare before and after.",
    "Look at model.train(), model.eval(), requires_grad, .grad, and at lines that write into the input.",
    "Work on a detached copy of the images; ask for the gradient of the loss with respect to this copy alone.",
)
DETACHED = (
    "Does the result need a gradient later on? What does its grad_fn print?",
    "Follow one value through your loop: at which line does it lose its history?",
    "The handout: you do not want PyTorch to record your operations; detach what comes back, and each step's image.",
)
MODULE = (
    "Which layer comes after each convolution of SimpleNet, and what does inplace=True do to its input?",
    "Print output._is_view() at the end of forward: which of your operations returns a view?",
    "A view shares the memory of another tensor; return a tensor that owns its memory.",
)
VALUES = (
    "Take one image, one channel, a 3×3 input and a 2×2 filter of your own: which four sums should come out?",
    "Which axis of your unfolded tensor has the values of a window, in which order, and which the windows?",
    "The handout: Y = W *_S X + B. Each output is a sum over Ci·K·K products, plus its channel's bias.",
)
HINTS: dict[str, tuple[str, ...]] = {
    "conv_by_hand": (
        "Which function does the multiplying and adding in your forward and backward?",
        "The line in the message calls a convolution of a library.",
        "The handout: fold, unfold and any matrix and tensor operations, except the convolution functions.",
    ),
    "conv_forward": VALUES,
    "conv_grad_input": (
        "In how many windows is a pixel in the middle of the image, and what does each of them do to its gradient?",
        "Which function of PyTorch adds overlapping windows up again, as unfold took them apart?",
        "∂L/∂X of a pixel: the sum, over all windows that hold it, of the weight there times that output's gradient.",
    ),
    "conv_grad_weight": (
        "How many outputs did one number of the weight take part in: in one image, and in the batch?",
        "Take two equal images: how should the gradient differ from that of one of them? Print both.",
        "∂L/∂W: the sum, over images and windows, of the output's gradient times the window's values; shape of W.",
    ),
    "conv_grad_bias": (
        "How many outputs did one bias take part in?",
        "Which axes of grad_output (N×Co×Ho×Wo) are left in a gradient of shape Co?",
        "The handout: b is added to every place, so ∂L/∂B is the sum of the output's gradient over images and places.",
    ),
    "conv_rectangle": SIZES,
    "conv_stride": SIZES,
    "conv_one_by_one": SIZES,
    "conv_no_bias": (
        "What do your forward and backward do with the bias when it is None?",
        "Write a test of its own: custom_conv2d(x, w, None), forward and backward. Which line fails?",
        "Where there is no B, Y = W *_S X, and autograd expects None in the place of its gradient.",
    ),
    "conv_dtype": (
        "Which of your tensors do not come from the input?",
        "Print the dtype after every line, once for float32 and once for float64.",
        "A new tensor takes dtype and device from the input; no .float(), no .double(), no numpy in between.",
    ),
    "conv_leaves_input": (
        "Which lines write into a tensor that was handed in?",
        "Look for +=, -=, functions that end in _, and assignments to slices.",
        "Compute a new tensor instead, or work on a copy.",
    ),
    "conv_inplace_relu": MODULE,
    "conv_in_network": MODULE,
    "attack_stays_close": (
        "After the steps, how far may a pixel be from where it began? From which image is that measured?",
        "Print the largest difference from the input after each step.",
        "The handout: each time clip the result to the ε-neighborhood of the input, between input - ε and input + ε.",
    ),
    "attack_descends": (
        "The loss of which label do you compute, and should it rise or fall?",
        "Print this loss in each step. If it rises, which sign is wrong? If it stays, does the image change at all?",
        "The handout: minimize the loss of a wrong label, in steps of the sign of its gradient.",
    ),
    "attack_label": (
        "For a batch of six images, how many labels do you pick?",
        "Print the scores, their lowest value in each row, and your labels.",
        "The handout: the least confident label of each image is the wrong label; pick it once, from the clean image.",
    ),
    "attack_steps": (
        "By how much does one step move a pixel whose gradient is tiny?",
        "Run with num_steps=1 and step_size=0.03, and print the absolute change: all values should be the same.",
        "The handout: fast gradient sign method: each step moves each value by step_size, in num_steps steps.",
    ),
    "attack_loss": (
        "Which loss does your attack compute: the one that it was made with?",
        "PGDAttack keeps its argument. Where do you use it?",
        "The loss is self.loss_fn of the scores and the labels.",
    ),
    "attack_graph": DETACHED,
    "attack_leaves_model": STATE,
    "attention_map": (
        "What is the map of a single pixel with the gradients 0.2, -0.5 and 0.1 in its three channels?",
        "Change one pixel by 0.001 and compute the loss again: how does the quotient compare with your map there?",
        "The handout: the gradient of the predicted label's loss; its absolute values; the maximum of the channels.",
    ),
    "attention_shape": (
        "How many values has a map for each pixel, and how many axes has a batch of maps?",
        "Print the shape after the maximum: which axis is gone?",
        "N×1×H×W: the channel axis stays, with one entry.",
    ),
    "attention_values": (
        "Do you divide, normalize or square something at the end?",
        "Compare the largest value of your map with the largest absolute value of the gradient.",
        "The handout wants the magnitude of the gradient as it is; the drawing scales it.",
    ),
    "attention_each_image": (
        "Is the map of an image the same when it comes alone and in a batch?",
        "Print the labels that you pick for a batch of five: how many are there?",
        "The most confident label of each image: a maximum over the classes, dim=1.",
    ),
    "attention_detached": DETACHED,
    "attention_leaves_model": STATE,
    "model_own": (
        "Which of the handout's ideas fits the curves of SimpleNet: does it overfit, or does it not train at all?",
        "Batch normalization lets it train, residual connections let it be deeper. What does each cost in parameters?",
        "Write a class with the arguments of SimpleNet and name it default_model.",
    ),
    "model_trains": (
        "Which layer fixes the size of the image? Print the shapes for 128, 144 and 160 pixels.",
        "Does the last layer have num_classes outputs?",
        "Average pooling to 1×1 in front of the linear layer makes it the same for every size.",
    ),
    "vit_trains": (
        "Which shape have the patches, and which one do the blocks take?",
        "Print the shapes after the patches, the blocks and the classifier for two images.",
        "N×C×h×w becomes N×h·w×C: one word per patch; the mean over the words goes to the classifier.",
    ),
    "model_small": (
        "How many bytes has a parameter, and which layer has most of them?",
        "Print p.numel() of each parameter.",
        "10 MB are 2.5 million float32 numbers; a checkpoint for results/ holds no optimizer.",
    ),
}


def find_mistake(names: list[str], reason: str, statuses: dict[str, str]) -> Mistake | None:
    """Return the common mistake that checks with the same reason show, or None.

    A convolution that is wrong altogether fails without bias and on rectangles, too; these two then show nothing.

    Args:
        names: the checks that failed for this reason.
        reason: what they report.
        statuses: "passed", "failed" or "not run" by name, of all checks.
    """
    if any(statuses.get(name, "passed") != "passed" for name in BASIC):
        names = [name for name in names if name not in ("conv_no_bias", "conv_rectangle")]
    return next((mistake for name in names if (mistake := name_of(name, reason))), None)


def name_of(where: str, text: str) -> Mistake | None:
    """Return the mistake that a check (or "remark") reports with a text, or None if it is not a common one."""
    return next((m for m in MISTAKES if re.fullmatch(m.where, where) and re.search(m.says, text)), None)
