"""Your answers. The classes and functions below keep their names and arguments: main.py and the tests call them."""

import math

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import Function
from torchvision.utils import make_grid

# ONLY 2022
from torchvision import transforms
# END ONLY


# ---------------------------------------------------------------------------------------------------------------------
# Convolution
# ---------------------------------------------------------------------------------------------------------------------


class CustomConv2DFunction(Function):
    """Y = W * X + B, its outputs and its gradients.

    F.unfold, F.fold and all operations on tensors may be used, the convolutions of PyTorch may not.
    """

    @staticmethod
    def forward(ctx, input_feats, weight, bias, stride=1, padding=0):
        """Outputs N x Co x Ho x Wo with Ho = (Hi + 2 padding - K) // stride + 1.

        Args:
            input_feats: N x Ci x Hi x Wi.
            weight: Co x Ci x K x K.
            bias: Co values, or None.
            stride: of the window, the same along both sides.
            padding: zeros on each of the four sides.
        """
        ### BEGIN SOLUTION CustomConv2DFunction.forward
        # | Compute the outputs. What backward needs goes into ctx.save_for_backward (tensors) and onto ctx (numbers).
        # | Return a tensor of its own, not a view of another one: the network has ReLU(inplace=True) behind it.
        kernel = weight.shape[-1]
        height = (input_feats.shape[2] + 2 * padding - kernel) // stride + 1
        width = (input_feats.shape[3] + 2 * padding - kernel) // stride + 1
        windows = F.unfold(input_feats, kernel, padding=padding, stride=stride)  # N x Ci K K x Ho Wo
        output = weight.flatten(1) @ windows  # N x Co x Ho Wo
        if bias is not None:
            output = output + bias[:, None]
        ctx.save_for_backward(windows, weight)
        ctx.has_bias, ctx.input_size = bias is not None, input_feats.shape[2:]
        ctx.stride, ctx.padding = stride, padding
        return output.unflatten(2, (height, width)).clone()
        ### END SOLUTION

    @staticmethod
    def backward(ctx, grad_output):
        """Gradients of input_feats, weight, bias, stride and padding; None for the last two, and for a bias of None.

        Args:
            grad_output: gradient of the outputs, N x Co x Ho x Wo.
        """
        ### BEGIN SOLUTION CustomConv2DFunction.backward
        # | Compute the gradients of input_feats and weight; that of the bias is given: the sum over images and places.
        windows, weight = ctx.saved_tensors
        gradients = grad_output.flatten(2)  # N x Co x Ho Wo
        handed_back = weight.flatten(1).t() @ gradients  # N x Ci K K x Ho Wo
        grad_input = F.fold(
            handed_back, ctx.input_size, weight.shape[-1], padding=ctx.padding, stride=ctx.stride
        )
        grad_weight = (gradients @ windows.transpose(1, 2)).sum(dim=0).view_as(weight)
        grad_bias = grad_output.sum(dim=(0, 2, 3)) if ctx.has_bias else None
        return grad_input, grad_weight, grad_bias, None, None
        ### END SOLUTION


custom_conv2d = CustomConv2DFunction.apply


class CustomConv2d(nn.Module):
    """nn.Conv2d on top of custom_conv2d; nothing to write here. dilation and groups have to be 1."""

    def __init__(
        self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True
    ):
        super().__init__()
        if dilation != 1 or groups != 1:
            raise ValueError(f"dilation {dilation} and groups {groups}: only 1 is supported")
        self.stride, self.padding = stride, padding
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self):
        """Draw weight and bias as nn.Conv2d does."""
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.weight[0].numel())
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, input):
        return custom_conv2d(input, self.weight, self.bias, self.stride, self.padding)


# ---------------------------------------------------------------------------------------------------------------------
# Networks
# ---------------------------------------------------------------------------------------------------------------------


class SimpleNet(nn.Module):
    """Convolution, ReLU, max pooling and one linear layer: the network to start from."""

    def __init__(self, conv_op=nn.Conv2d, num_classes=100):
        super().__init__()
        self.features = nn.Sequential(
            conv_op(3, 64, kernel_size=7, stride=2, padding=3), nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
            conv_op(64, 64, kernel_size=1), nn.ReLU(inplace=True),
            conv_op(64, 64, kernel_size=3, padding=1), nn.ReLU(inplace=True),
            conv_op(64, 256, kernel_size=1), nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
            # ONLY 2019
            conv_op(256, 64, kernel_size=1), nn.ReLU(inplace=True),
            conv_op(64, 64, kernel_size=3, padding=1), nn.ReLU(inplace=True),
            conv_op(64, 256, kernel_size=1), nn.ReLU(inplace=True),
            nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
            conv_op(256, 512, kernel_size=3, padding=1), nn.ReLU(inplace=True),
            # END ONLY
            # ONLY 2022
            conv_op(256, 128, kernel_size=1), nn.ReLU(inplace=True),
            conv_op(128, 128, kernel_size=3, padding=1), nn.ReLU(inplace=True),
            conv_op(128, 512, kernel_size=1), nn.ReLU(inplace=True),
            # END ONLY
        )  # fmt: skip
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(512, num_classes)

    def forward(self, x):
        # [Bonus] Adversarial training: in training mode (self.training), replace x here by adversarial samples from
        # PGDAttack. The attack calls this function itself, so take care that it does not attack again.
        return self.fc(self.avgpool(self.features(x)).flatten(1))


### BEGIN SOLUTION a better network
# | Design a better network here, with the same arguments, and name it below; main.py trains default_model.
# KIT default_model = SimpleNet
class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch normalization and a connection around them (He et al. 2016)."""

    def __init__(self, conv_op, channels):
        super().__init__()
        self.body = nn.Sequential(
            conv_op(channels, channels, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            conv_op(channels, channels, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(channels),
        )  # fmt: skip

    def forward(self, x):
        return F.relu(x + self.body(x))


class ResidualNet(nn.Module):
    """A 4x4 stem of 32 channels, then stages of 64, 128 and 256, each a strided convolution and a residual block."""

    def __init__(self, conv_op=nn.Conv2d, num_classes=100):
        super().__init__()
        layers = [conv_op(3, 32, kernel_size=4, stride=4, bias=False), nn.BatchNorm2d(32), nn.ReLU(inplace=True)]
        for inner, outer, stride in ((32, 64, 1), (64, 128, 2), (128, 256, 2)):
            layers += [
                conv_op(inner, outer, kernel_size=3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outer),
                nn.ReLU(inplace=True), ResidualBlock(conv_op, outer),
            ]  # fmt: skip
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(256, num_classes)

    def forward(self, x):
        return self.fc(self.features(x).mean(dim=(2, 3)))


default_model = ResidualNet
### END SOLUTION
# ONLY 2022
default_cnn_model = default_model
# END ONLY

# ONLY 2022


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)) (Vaswani et al. 2017, Dosovitskiy et al. 2021)."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        images, words, width = x.shape
        joined = self.qkv(self.norm1(x)).view(images, words, 3, self.heads, width // self.heads)
        query, key, value = joined.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value)
        x = x + self.out(seen.transpose(1, 2).reshape(images, words, width))
        return x + self.mlp(self.norm2(x))


class SimpleViT(nn.Module):
    """A small vision transformer for images of image_size x image_size."""

    def __init__(self, conv_op=nn.Conv2d, num_classes=100, image_size=128, patch=16, width=192, depth=4, heads=3):
        super().__init__()
        self.patches = conv_op(3, width, kernel_size=patch, stride=patch)
        self.side = image_size // patch
        self.positions = nn.Parameter(torch.randn(1, width, self.side, self.side) * 0.02)
        ### BEGIN SOLUTION SimpleViT.__init__
        # | Make the transformer: depth blocks of width channels, a last LayerNorm and a linear classifier.
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.fc = nn.Linear(width, num_classes)
        ### END SOLUTION

    def forward(self, x):
        patches = self.patches(x)  # N x C x side x side
        positions = F.interpolate(self.positions, patches.shape[2:], mode="bilinear")  # for images of another size
        ### BEGIN SOLUTION SimpleViT.forward
        # | Add the positions, make words of the patches, run the blocks, average over the words and classify.
        words = (patches + positions).flatten(2).transpose(1, 2)
        return self.fc(self.norm(self.blocks(words)).mean(dim=1))
        ### END SOLUTION


default_vit_model = SimpleViT


def get_train_transforms(size=128):
    """What happens to a training image; change it as you like."""
    return transforms.Compose([
        transforms.Resize(size + 16),
        transforms.RandomHorizontalFlip(),
        transforms.ColorJitter(0.15, 0.15, 0.15),
        transforms.RandomRotation(15),
        transforms.RandomResizedCrop(size, scale=(0.25, 1.0), ratio=(0.8, 1.2)),
        transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])  # fmt: skip


def get_val_transforms(size=128):
    """What happens to an image when a model is judged."""
    return transforms.Compose([
        transforms.Resize(size + 16),
        transforms.CenterCrop(size),
        transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])  # fmt: skip
# END ONLY


# ---------------------------------------------------------------------------------------------------------------------
# Adversarial samples
# ---------------------------------------------------------------------------------------------------------------------


class PGDAttack:
    """Projected gradient descent (Madry et al. 2018) towards the label that the model believes in least.

    Args:
        loss_fn: loss of N x K scores and N labels.
        num_steps: steps.
        step_size: how far each value moves in a step.
        epsilon: how far it may end from where it began.
    """

    def __init__(self, loss_fn, num_steps=10, step_size=0.01, epsilon=0.1):
        self.loss_fn = loss_fn
        self.num_steps = num_steps
        self.step_size = step_size
        self.epsilon = epsilon

    def perturb(self, model, input):
        """Adversarial samples N x C x H x W of normalized images N x C x H x W."""
        ### BEGIN SOLUTION PGDAttack.perturb
        # | Take num_steps steps of the sign of the gradient that lower the loss of the least confident label, and clip
        # | to epsilon around input after each. Take care that the graph of gradients does not grow from step to step.
        original = input.detach()
        with torch.no_grad():
            target = model(original).argmin(dim=1)
        output = original.clone()
        for _ in range(self.num_steps):
            output.requires_grad_(True)
            with torch.enable_grad():
                loss = self.loss_fn(model(output), target)
                (gradient,) = torch.autograd.grad(loss, output)
            output = output.detach() - self.step_size * gradient.sign()
            output = torch.minimum(torch.maximum(output, original - self.epsilon), original + self.epsilon)
        return output
        ### END SOLUTION


default_attack = PGDAttack


# ---------------------------------------------------------------------------------------------------------------------
# Attention maps
# ---------------------------------------------------------------------------------------------------------------------


class GradAttention:
    """Where a model looks: the gradient of the loss of its own first guess (Simonyan et al. 2014).

    Args:
        loss_fn: loss of N x K scores and N labels.
    """

    def __init__(self, loss_fn):
        self.loss_fn = loss_fn

    def explain(self, model, input):
        """Maps N x 1 x H x W of normalized images N x C x H x W."""
        ### BEGIN SOLUTION GradAttention.explain
        # | The loss of the most confident label of each image; its gradient with respect to the image; the absolute
        # | value; the largest of the channels.
        images = input.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            scores = model(images)
            loss = self.loss_fn(scores, scores.argmax(dim=1))
            (gradient,) = torch.autograd.grad(loss, images)
        return gradient.abs().amax(dim=1, keepdim=True)
        ### END SOLUTION


default_attention = GradAttention


def vis_grad_attention(input, vis_alpha=2.0, n_rows=10, vis_output=None):
    """A grid of pictures, n_rows in a row, red where a map is above vis_alpha times its mean; nothing to write here."""
    pictures = make_grid(input.detach().float().cpu(), nrow=n_rows, normalize=True, scale_each=True)
    if vis_output is None:
        return pictures
    maps = vis_output.detach().float().cpu()
    strong = maps > vis_alpha * maps.mean(dim=(1, 2, 3), keepdim=True)
    red = make_grid(strong.float(), nrow=n_rows)[:1].bool()
    return torch.where(red, torch.cat([torch.ones_like(pictures[:1]), 0.3 * pictures[1:]]), pictures)


default_visfunction = vis_grad_attention
