"""The vision tower's first layer as a matrix product: the same numbers as its convolution, without cuDNN's 3D kernels.

Kernel, stride and a photo's patch are of one size, so that the convolution has one output for each patch. In bfloat16
cuDNN takes milliseconds to seconds for that, and 9.20 may find no engine for its backward pass at all. The module stays
where it was, under its name: checkpoints, ZeRO-3's hooks and vLLM's names know nothing of it.
"""
from torch import Tensor, nn
from torch.nn.functional import linear


class Patches(nn.Conv3d):
    """(n, channels, time, height, width) -> (n, width of the tower, 1, 1, 1), for input of the kernel's own size."""

    def forward(self, patches: Tensor) -> Tensor:
        product = linear(patches.flatten(1), self.weight.flatten(1), self.bias)
        return product[..., None, None, None]


def install(model) -> None:
    """Let the vision tower of `model` embed its patches so. InternVL's convolution is one of two dimensions, and
    stays."""
    projection = getattr(getattr(model.model, "visual", None), "patch_embed", None)
    if projection is not None:
        projection.proj.__class__ = Patches
