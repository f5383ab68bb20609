"""Small networks of the usual kinds for the repair benchmark, in PyTorch (extra `torch`); `training` trains them."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn

Make = Callable[[], nn.Module]


def conv(inside: int, out: int, act: Make = nn.ReLU, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Module:
    """Convolution, BatchNorm, activation."""
    plain = nn.Conv2d(inside, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(plain, nn.BatchNorm2d(out), act())


def separable(inside: int, out: int, stride: int = 1, act: Make = nn.ReLU) -> nn.Module:
    """Depthwise, then pointwise (MobileNet)."""
    return nn.Sequential(conv(inside, inside, act, 3, stride, inside), conv(inside, out, act, 1))


class Around(nn.Module):
    """x + body(x), then maybe an activation."""

    def __init__(self, body: nn.Module, after: nn.Module | None = None) -> None:
        super().__init__()
        self.body, self.after = body, after or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.after(x + self.body(x))
        return y


class Gate(nn.Module):
    """Squeeze and excite."""

    def __init__(self, width: int, act: Make) -> None:
        super().__init__()
        less = max(4, width // 4)
        self.body = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(width, less, 1), act(), nn.Conv2d(less, width, 1), nn.Hardsigmoid()
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x * self.body(x)
        return y


class Beside(nn.Module):
    """x and body(x) as channels of one tensor."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


def inverted(inside: int, out: int, stride: int, act: Make, gate: bool = False) -> nn.Module:
    """Widened, depthwise, maybe gated, narrowed (MobileNetV2, V3, EfficientNet)."""
    wide = inside * 4
    parts = [conv(inside, wide, act, 1), conv(wide, wide, act, 3, stride, wide)]
    body = nn.Sequential(*parts, *([Gate(wide, act)] if gate else []), conv(wide, out, nn.Identity, 1))
    return Around(body) if inside == out and stride == 1 else body


def head(width: int, classes: int) -> nn.Module:
    """Mean over positions, then one layer."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))


def mobile_v1() -> nn.Module:
    stages = [separable(16, 32), separable(32, 64, 2), separable(64, 64), separable(64, 128, 2), separable(128, 128)]
    return nn.Sequential(conv(3, 16, stride=2), *stages, head(128, 5))


def mobile_v2() -> nn.Module:
    relu6 = nn.ReLU6
    stages = [inverted(16, 16, 1, relu6), inverted(16, 24, 2, relu6), inverted(24, 24, 1, relu6)]
    stages += [inverted(24, 40, 2, relu6), inverted(40, 40, 1, relu6)]
    return nn.Sequential(conv(1, 16, relu6, stride=2), *stages, conv(40, 128, relu6, 1), head(128, 10))


def mobile_v3() -> nn.Module:
    act = nn.Hardswish
    stages = [inverted(16, 16, 1, nn.ReLU, gate=True), inverted(16, 24, 2, nn.ReLU), inverted(24, 24, 1, nn.ReLU)]
    stages += [inverted(24, 40, 2, act, gate=True), inverted(40, 40, 1, act, gate=True)]
    return nn.Sequential(conv(3, 16, act, stride=2), *stages, conv(40, 128, act, 1), head(128, 5))


def efficient() -> nn.Module:
    act = nn.SiLU
    stages = [inverted(16, 24, 2, act, gate=True), inverted(24, 24, 1, act, gate=True), inverted(24, 40, 2, act)]
    return nn.Sequential(conv(1, 16, act, stride=2), *stages, conv(40, 96, act, 1), head(96, 10))


def residual() -> nn.Module:
    def block(width: int) -> nn.Module:
        return Around(nn.Sequential(conv(width, width), conv(width, width, nn.Identity)), nn.ReLU())

    stages = [block(16), conv(16, 32, stride=2), block(32), conv(32, 64, stride=2), block(64)]
    return nn.Sequential(conv(1, 16), *stages, head(64, 10))


def dense() -> nn.Module:
    def grown(width: int) -> list[nn.Module]:
        return [Beside(conv(width + 12 * i, 12)) for i in range(3)]

    stages = [*grown(16), conv(52, 32, kernel=1), nn.AvgPool2d(2), *grown(32), conv(68, 48, kernel=1), nn.AvgPool2d(2)]
    return nn.Sequential(conv(1, 16), nn.MaxPool2d(2), *stages, head(48, 10))


def landmarks() -> nn.Module:
    def block(width: int) -> nn.Module:
        body = nn.Sequential(
            nn.Conv2d(width, width, 3, 1, 1, groups=width), nn.Conv2d(width, width, 1), nn.BatchNorm2d(width)
        )
        return nn.Sequential(Around(body), nn.PReLU(width))

    stages: list[nn.Module] = [nn.Conv2d(3, 16, 3, 2, 1), nn.PReLU(16)]
    for inside, out in ((16, 32), (32, 64), (64, 96)):
        stages += [block(inside), nn.Conv2d(inside, out, 3, 2, 1), nn.PReLU(out)]
    return nn.Sequential(*stages, nn.Flatten(), nn.Linear(96 * 9, 8))


class Masks(nn.Module):
    """U-Net (Ronneberger et al. 2015) of three levels, widened again by interpolation."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = conv(3, 16), nn.Sequential(nn.MaxPool2d(2), conv(16, 32), conv(32, 32))
        self.three = nn.Sequential(nn.MaxPool2d(2), conv(32, 64), conv(64, 64))
        self.up = nn.Upsample(scale_factor=2, mode="bilinear")
        self.four, self.five = conv(96, 32), nn.Sequential(conv(48, 16), nn.Conv2d(16, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        one = self.one(x)
        two = self.two(one)
        low = self.four(torch.cat([self.up(self.three(two)), two], 1))
        y: Tensor = self.five(torch.cat([self.up(low), one], 1))
        return torch.sigmoid(y)


def denoiser() -> nn.Module:
    act: Make = lambda: nn.LeakyReLU(0.1)  # noqa: E731
    body = [conv(3, 24, act), conv(24, 24, act), conv(24, 24, act), conv(24, 24, act), nn.Conv2d(24, 3, 3, 1, 1)]
    return Around(nn.Sequential(*body))


def larger() -> nn.Module:
    body = [nn.Conv2d(3, 32, 5, 1, 2), nn.Tanh(), nn.Conv2d(32, 32, 3, 1, 1), nn.Tanh(), nn.Conv2d(32, 12, 3, 1, 1)]
    return nn.Sequential(*body, nn.PixelShuffle(2))


def sound() -> nn.Module:
    def wave(inside: int, out: int, kernel: int, stride: int, groups: int = 1) -> nn.Module:
        plain = nn.Conv1d(inside, out, kernel, stride, kernel // 2, groups=groups, bias=False)
        return nn.Sequential(plain, nn.BatchNorm1d(out), nn.ReLU())

    stages = [
        wave(16, 32, 9, 4),
        wave(32, 32, 9, 2, 32),
        wave(32, 64, 1, 1),
        wave(64, 64, 9, 2, 64),
        wave(64, 64, 1, 1),
    ]
    return nn.Sequential(wave(1, 16, 33, 4), *stages, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(64, 6))


class Recurrent(nn.Module):
    """An LSTM over rows, its last state read by one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.head = nn.LSTM(8, 64, batch_first=True), nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.rows(x)[0][:, -1])
        return y


class Attention(nn.Module):
    """Multi-head self-attention, as exporters show it: plain products and a softmax."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.three, self.out = heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        parts = self.three(x).reshape(n, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        weights = (parts[0] @ parts[1].transpose(-1, -2) * (width // self.heads) ** -0.5).softmax(-1)
        y: Tensor = self.out((weights @ parts[2]).transpose(1, 2).reshape(n, length, width))
        return y


class Encoder(nn.Module):
    """A small vision transformer (Dosovitskiy et al. 2020) over 16 patches."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.patches, self.places = nn.Conv2d(1, width, 8, 8), nn.Parameter(torch.zeros(1, 16, width))
        blocks: list[nn.Module] = []
        for _ in range(3):
            wide = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
            blocks += [Around(nn.Sequential(nn.LayerNorm(width), Attention(width, 4)))]
            blocks += [Around(nn.Sequential(nn.LayerNorm(width), wide))]
        self.blocks, self.head = nn.Sequential(*blocks, nn.LayerNorm(width)), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.places
        y: Tensor = self.head(self.blocks(x).mean(1))
        return y


def autoencoder() -> nn.Module:
    sizes, layers = (64, 128, 128, 16, 128, 128), []
    for inside, out in itertools.pairwise(sizes):
        layers += [nn.Linear(inside, out), nn.BatchNorm1d(out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(128, 64))


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(30, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 2))
