"""Small versions of well-known networks, in code, with random weights."""

import torch
from torch import nn


class Bottleneck(nn.Module):
    """Of ResNet-50: 1x1, 3x3 with the stride, 1x1, and a shortcut; one ReLU module for all three places."""

    def __init__(self, channels, width, stride=1):
        super().__init__()
        out_channels = 4 * width
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += shortcut
        return self.relu(out)


def resnet(width=64, blocks=(3, 4, 6, 3), classes=1000):
    layers = [
        nn.Conv2d(3, width, 7, 2, 3, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
    ]
    channels = width
    for stage, count in enumerate(blocks):
        for block in range(count):
            layers.append(Bottleneck(channels, width << stage, 2 if stage > 0 and block == 0 else 1))
            channels = 4 * (width << stage)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


class InvertedResidual(nn.Module):
    """Of MobileNetV2: 1x1 to more channels, 3x3 of each channel by itself, 1x1 back."""

    def __init__(self, channels, out_channels, stride, expand):
        super().__init__()
        hidden = channels * expand
        layers = []
        if expand != 1:
            layers += [nn.Conv2d(channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden), nn.ReLU6(inplace=True)]
        layers += [
            nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU6(inplace=True),
        ]
        layers += [nn.Conv2d(hidden, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)]
        self.conv = nn.Sequential(*layers)
        self.adds = stride == 1 and channels == out_channels

    def forward(self, x):
        return x + self.conv(x) if self.adds else self.conv(x)


MOBILENET = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def mobilenet(first=32, rows=MOBILENET, last=1280, classes=1000):
    layers = [nn.Conv2d(3, first, 3, 2, 1, bias=False), nn.BatchNorm2d(first), nn.ReLU6(inplace=True)]
    channels = first
    for expand, out_channels, count, stride in rows:
        for block in range(count):
            layers.append(InvertedResidual(channels, out_channels, stride if block == 0 else 1, expand))
            channels = out_channels
    layers += [nn.Conv2d(channels, last, 1, bias=False), nn.BatchNorm2d(last), nn.ReLU6(inplace=True)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, classes))


def vgg(width=64, counts=(2, 2, 3, 3, 3), hidden=4096, classes=1000):
    layers, channels = [], 3
    for stage, count in enumerate(counts):
        for _ in range(count):
            out_channels = min(width << stage, 8 * width)
            layers += [nn.Conv2d(channels, out_channels, 3, padding=1), nn.ReLU(inplace=True)]
            channels = out_channels
        layers.append(nn.MaxPool2d(2))
    layers += [nn.AdaptiveAvgPool2d(7), nn.Flatten(), nn.Linear(49 * channels, hidden), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(hidden, classes))


class UNet(nn.Module):
    """Down with pooling, up with interpolation, each step beside its mirror image."""

    def __init__(self, width=64, depth=4, classes=2):
        super().__init__()
        sizes = [width << step for step in range(depth + 1)]
        self.down = nn.ModuleList(self.two(a, b) for a, b in zip([3, *sizes], sizes))
        self.up = nn.ModuleList(self.two(a + b, b) for a, b in zip(sizes[:0:-1], sizes[-2::-1]))
        self.head = nn.Conv2d(width, classes, 1)

    @staticmethod
    def two(channels, out_channels):
        layers = []
        for size in (channels, out_channels):
            layers += [
                nn.Conv2d(size, out_channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(out_channels),
                nn.LeakyReLU(0.1),
            ]
        return nn.Sequential(*layers)

    def forward(self, x):
        seen = []
        for step, layer in enumerate(self.down):
            x = layer(x if step == 0 else nn.functional.max_pool2d(x, 2))
            seen.append(x)
        for layer, other in zip(self.up, seen[-2::-1]):
            x = layer(torch.cat([nn.functional.interpolate(x, scale_factor=2.0, mode="nearest"), other], 1))
        return self.head(x)


class ConvNeXtBlock(nn.Module):
    """7x7 of each channel by itself, then two linear layers over the channels, which lie last."""

    def __init__(self, width):
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.pwconv1 = nn.Linear(width, 4 * width)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(4 * width, width)
        self.gamma = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x):
        out = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        out = self.gamma * self.pwconv2(self.act(self.pwconv1(out)))
        return x + out.permute(0, 3, 1, 2)


def convnext(widths=(96, 192, 384, 768), counts=(3, 3, 9, 3), classes=1000):
    layers, channels = [], 3
    for stage, (width, count) in enumerate(zip(widths, counts)):
        size = 4 if stage == 0 else 2
        layers += [nn.Conv2d(channels, width, size, size), *(ConvNeXtBlock(width) for _ in range(count))]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


# name: (the whole network, a small one with the same parts, the size of its images)
NETWORKS = {
    "resnet50": (resnet, lambda: resnet(8, (1, 2), 10), 32),
    "mobilenet_v2": (mobilenet, lambda: mobilenet(8, ((1, 8, 1, 1), (6, 12, 2, 2), (6, 16, 2, 2)), 32, 10), 32),
    "vgg16": (vgg, lambda: vgg(8, (2, 2, 3), 32, 10), 32),
    "unet": (UNet, lambda: UNet(8, 2), 32),
    "convnext_tiny": (convnext, lambda: convnext((16, 32), (1, 2), 10), 32),
}
