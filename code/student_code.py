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


class CustomConv2DFunction(Function):
    """2D convolution from matrix products; the sums are in scenelab/conv/dispatch.py."""

    @staticmethod
    def forward(
        ctx: Any, input_feats: Tensor, weight: Tensor, bias: Tensor | None, stride: int = 1, padding: int = 0
    ) -> Tensor:
        """N×Co×Ho×Wo outputs from N×Ci×H×W features, a Co×Ci×K×K weight and Co biases or None."""
        output = convolve(input_feats, weight, bias, stride, padding)
        save_context(ctx, input_feats, weight, stride, padding)
        return output

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The gradients of input_feats, weight and bias where they are needed; stride and padding have none."""
        return *gradients(ctx, grad_output), None, None


custom_conv2d = CustomConv2DFunction.apply


class CustomConv2d(Conv2d):
    """`nn.Conv2d` on custom_conv2d; dilation and groups are there for compatibility and have to be 1."""

    def forward(self, input: Tensor) -> Tensor:
        return custom_conv2d(input, self.weight, self.bias, self.stride[0], self.padding[0])


class GradAttention:
    """Where a model looks: the gradient of the loss of its own first guess with respect to the image.

    Args:
        loss_fn: from N×K scores and N labels to the loss; a mean over the batch makes all maps smaller alike.
    """

    def __init__(self, loss_fn: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.loss_fn = loss_fn

    def explain(self, model: Callable[[Tensor], Tensor], input: Tensor) -> Tensor:
        """N×1×H×W maps of N×3×H×W images: the gradient's absolute value, the largest of the three colours."""
        return Saliency(score_fn=self.loss_fn)(model, input, batch_size=max(1, len(input)))


def vis_grad_attention(
    input: Tensor, vis_alpha: float = 2.0, n_rows: int = 10, vis_output: Tensor | None = None
) -> Tensor:
    """A grid of pictures, n_rows in a row; where a map is above vis_alpha times its mean they are red."""
    return highlight_grid(input, vis_output, alpha=vis_alpha, columns=n_rows)


class PGDAttack:
    """Projected gradient descent towards the class that the model believes in least on the clean image.

    Works in the space of the images that it is given: in the handout's, normalised ones, 0.1 is about 6 of 255 levels.

    Args:
        loss_fn: from N×K scores and N labels to the loss that is lowered; mean or sum makes no difference.
        num_steps: steps.
        step_size: how far each value moves in a step.
        epsilon: how far it may lie from the clean image.
    """

    def __init__(
        self, loss_fn: Callable[[Tensor, Tensor], Tensor], num_steps: int = 10, step_size: float = 0.01,
        epsilon: float = 0.1,
    ) -> None:  # fmt: skip
        self.loss_fn = loss_fn
        self.num_steps = num_steps
        self.step_size = step_size
        self.epsilon = epsilon

    def perturb(self, model: Callable[[Tensor], Tensor], input: Tensor) -> Tensor:
        """N×C×H×W adversarial images of N×C×H×W images, at most epsilon from them."""
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

__all__ = [
    "CustomConv2DFunction", "CustomConv2d", "GradAttention", "PGDAttack", "ResidualNet", "SimpleNet",
    "custom_conv2d", "default_attack", "default_attention", "default_cnn_model", "default_model",
    "default_visfunction", "default_vit_model", "vis_grad_attention",
]  # fmt: skip
