"""In each of several processes: batch normalization has the statistics and gradients of the whole batch."""

import torch
from torch import nn

from scenelab.training.distributed import init_distributed


def same(ours: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(ours, expected, rtol=1e-12, atol=1e-12)


def main() -> None:
    with init_distributed() as world:
        torch.manual_seed(0)
        images, towards = torch.randn(2, 7, 4, 5, 3, dtype=torch.float64)
        whole, shared = nn.BatchNorm2d(4).double(), nn.Sequential(nn.BatchNorm2d(4).double())
        with torch.no_grad():
            for norm in (whole, shared[0]):
                norm.weight.copy_(torch.tensor([0.5, 1.0, 2.0, -1.0]))
                norm.bias.copy_(torch.arange(4.0))
        part = world.shard(7)
        all_images, ours = images.clone().requires_grad_(), images[part].clone().requires_grad_()
        network = world.wrap_ddp(shared)  # must live until the backward pass, which averages
        expected, output = whole(all_images), network(ours)
        (expected * towards).sum().backward()
        (output * towards[part]).sum().backward()
        same(output, expected[part])
        same(ours.grad, all_images.grad[part])
        for name, parameter in shared[0].named_parameters():
            same(parameter.grad * world.size, getattr(whole, name).grad)
        for name, buffer in shared[0].named_buffers():
            same(buffer, getattr(whole, name))
        assert {*shared.state_dict()} == {f"0.{name}" for name in whole.state_dict()}
        empty = (images[:0] if world.is_primary else images).float().requires_grad_()  # a process without images
        norm = nn.Sequential(nn.BatchNorm2d(4))
        network = world.wrap_ddp(norm)
        output = network(empty)
        output.sum().backward()
        assert output.shape == empty.shape
        assert torch.allclose(norm[0].running_mean, 0.1 * images.float().mean(dim=(0, 2, 3)), atol=1e-6)
        assert world.broadcast_object({"a": torch.arange(3), "b": "x"} if world.is_primary else None)["b"] == "x"
        assert torch.equal(world.all_gather(images[part], 7), images)
        assert world.all_reduce(1.0, world.rank) == [world.size, sum(range(world.size))]


if __name__ == "__main__":
    main()
