"""The assignment's answers under the handout's names; the work is done in the scenelab package."""

from collections.abc import Callable
from typing import Any, cast

from torch import Tensor
from torch.autograd import Function

from scenelab.attacks import PGD, Linf
from scenelab.attribution import Saliency
from scenelab.attribution.highlight import highlight_grid
from scenelab.conv.autograd import convolve, gradients, save_context
from scenelab.conv.conv2d import Conv2d
from scenelab.models.residual import ResidualNet  # our network: main.py --use-residual
from scenelab.models.simplenet import SimpleNet
from scenelab.models.vit import VisionTransformer

LossFn = Callable[[Tensor, Tensor], Tensor]
"""From N×K logits and N labels to a loss."""


class CustomConv2DFunction(Function):
    """2D convolution from matrix products; the sums are in scenelab/conv/dispatch.py."""

    @staticmethod
    def forward(
        ctx: Any, input_feats: Tensor, weight: Tensor, bias: Tensor | None, stride: int = 1, padding: int = 0
    ) -> Tensor:
        """Return N×Co×Ho×Wo outputs of N×Ci×H×W features, a Co×Ci×K×K weight and Co biases or None."""
        output = convolve(input_feats, weight, bias, stride, padding)
        save_context(ctx, input_feats, weight, stride, padding)
        return output

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the gradients of input_feats, weight and bias where they are needed."""
        return *gradients(ctx, grad_output), None, None


custom_conv2d = CustomConv2DFunction.apply


class CustomConv2d(Conv2d):
    """`nn.Conv2d` on custom_conv2d; dilation and groups must be 1."""

    def forward(self, input: Tensor) -> Tensor:
        """Return the N×Co×Ho×Wo output."""
        return custom_conv2d(input, self.weight, self.bias, self.stride[0], self.padding[0])


class GradAttention:
    """The gradient of the loss of the model's own prediction with respect to the image."""

    def __init__(self, loss_fn: LossFn) -> None:
        self.loss_fn = loss_fn

    def explain(self, model: Callable[[Tensor], Tensor], input: Tensor) -> Tensor:
        """Return N×1×H×W maps of N×3×H×W images: the gradient's largest absolute value over the colours."""
        return Saliency(score_fn=self.loss_fn)(model, input, batch_size=max(1, len(input)))


def vis_grad_attention(
    input: Tensor, vis_alpha: float = 2.0, n_rows: int = 10, vis_output: Tensor | None = None
) -> Tensor:
    """Return a grid of images, n_rows per row, red where a map exceeds vis_alpha times its mean."""
    return highlight_grid(input, vis_output, alpha=vis_alpha, columns=n_rows)


class PGDAttack:
    """Projected gradient descent toward the least likely class of the clean image.

    Step size and epsilon are in units of the given images; for the handout's normalised images 0.1 is about 6 of 255
    levels.
    """

    def __init__(self, loss_fn: LossFn, num_steps: int = 10, step_size: float = 0.01, epsilon: float = 0.1) -> None:
        self.loss_fn = loss_fn
        self.num_steps = num_steps
        self.step_size = step_size
        self.epsilon = epsilon

    def perturb(self, model: Callable[[Tensor], Tensor], input: Tensor) -> Tensor:
        """Return adversarial images, N×C×H×W, at most epsilon from the given ones."""
        attack = PGD(
            steps=self.num_steps,
            step_size=self.step_size,
            loss_fn=lambda logits, goal: -self.loss_fn(logits, cast(Tensor, goal.targets)),
            early_stop=False,
            keep_best=False,
        )
        threat, batch_size = Linf(self.epsilon, bounds=None), max(1, len(input))
        return attack(model, input, threat=threat, targets="least-likely", batch_size=batch_size).images


default_attack = PGDAttack
default_attention = GradAttention
default_visfunction = vis_grad_attention

# The network that main.py trains. A network of your own takes (conv_op=nn.Conv2d, num_classes=100).
default_model = SimpleNet
default_cnn_model = default_model
default_vit_model = VisionTransformer  # main.py --use-vit

__all__ = ["CustomConv2DFunction", "CustomConv2d", "GradAttention", "PGDAttack", "ResidualNet", "SimpleNet"]
__all__ += ["custom_conv2d", "default_attack", "default_attention", "default_cnn_model", "default_model"]
__all__ += ["default_visfunction", "default_vit_model", "vis_grad_attention"]
