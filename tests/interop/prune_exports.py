#!/usr/bin/env python3
"""Networks as torch.onnx writes them: patterns that pruning must read through, of kinds of which no small trained one is to be had.

usage: prune_exports.py FOLDER

The weights are random with a fixed seed; layers are PyTorch's own where it has them.
text_encoder.onnx        token and position embeddings, two nn.TransformerEncoderLayer, mean over the sequence; batch and length are free
vision_transformer.onnx  patches by a convolution, a class token, three layers with the norm in front, 32 x 32 images
decoder.onnx             llama's layer: RMSNorm, rotary pairs, four query heads on two key heads, gated FFN; batch is free
unet.onnx                three levels, skips by concatenation, transposed convolutions
inverted_residual.onnx   MobileNetV3's block: expand, depthwise, squeeze and excite, hard swish, residual
diffusion_block.onnx     GroupNorm, SiLU, a bias from a time embedding, attention over pixels
shuffle_chunk.onnx       ShuffleNetV2's unit: channels split in halves, one of them convolved, concatenated, shuffled"""
import os
import sys

import torch
from torch import nn
from torch.nn import functional as F


def layers(n, width, heads, ffn, norm_first):
    # An activation of our own keeps PyTorch from its fused operator, which has no ONNX form.
    layer = nn.TransformerEncoderLayer(width, heads, ffn, dropout=0.0, activation=lambda x: F.gelu(x), batch_first=True, norm_first=norm_first)
    return nn.TransformerEncoder(layer, n, enable_nested_tensor=False)


class TextEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.token, self.position = nn.Embedding(512, 64), nn.Embedding(128, 64)
        self.layers, self.head = layers(2, 64, 4, 160, False), nn.Linear(64, 8)

    def forward(self, ids):
        x = self.token(ids) + self.position(torch.arange(ids.shape[1]))
        return self.head(self.layers(x).mean(1))


class VisionTransformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 96, 8, 8)
        self.cls, self.position = nn.Parameter(torch.randn(1, 1, 96)), nn.Parameter(torch.randn(1, 17, 96))
        self.layers, self.norm, self.head = layers(3, 96, 6, 256, True), nn.LayerNorm(96), nn.Linear(96, 10)

    def forward(self, image):
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], 1) + self.position
        return self.head(self.norm(self.layers(x))[:, 0])


class Decoder(nn.Module):
    WIDTH, HEADS, KV, SIZE, FFN, LENGTH = 64, 4, 2, 16, 176, 12

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            w, h, kv, s, f = Decoder.WIDTH, Decoder.HEADS, Decoder.KV, Decoder.SIZE, Decoder.FFN
            self.q, self.k, self.v, self.o = (nn.Linear(a, b, bias=False) for a, b in ((w, h * s), (w, kv * s), (w, kv * s), (h * s, w)))
            self.gate, self.up, self.down = (nn.Linear(a, b, bias=False) for a, b in ((w, f), (w, f), (f, w)))
            self.norm1, self.norm2 = nn.Parameter(torch.ones(w)), nn.Parameter(torch.ones(w))

        def heads(self, x, linear, n):
            return linear(x).view(x.shape[0], Decoder.LENGTH, n, Decoder.SIZE).transpose(1, 2)

        def forward(self, x, cos, sin, mask):
            y = rms(x, self.norm1)
            rep = Decoder.HEADS // Decoder.KV
            q, k = rotate(self.heads(y, self.q, Decoder.HEADS), cos, sin), rotate(self.heads(y, self.k, Decoder.KV), cos, sin)
            k, v = (t[:, :, None].expand(-1, -1, rep, -1, -1).reshape(t.shape[0], Decoder.HEADS, Decoder.LENGTH, Decoder.SIZE)
                    for t in (k, self.heads(y, self.v, Decoder.KV)))
            p = torch.softmax(q @ k.transpose(2, 3) / Decoder.SIZE ** 0.5 + mask, -1) @ v
            x = x + self.o(p.transpose(1, 2).reshape(x.shape[0], Decoder.LENGTH, Decoder.HEADS * Decoder.SIZE))
            y = rms(x, self.norm2)
            return x + self.down(F.silu(self.gate(y)) * self.up(y))

    def __init__(self):
        super().__init__()
        self.token, self.layers = nn.Embedding(256, Decoder.WIDTH), nn.ModuleList(Decoder.Layer() for _ in range(2))
        self.norm, self.head = nn.Parameter(torch.ones(Decoder.WIDTH)), nn.Linear(Decoder.WIDTH, 256, bias=False)
        angle = torch.outer(torch.arange(Decoder.LENGTH), 1e4 ** (-torch.arange(0, Decoder.SIZE, 2) / Decoder.SIZE))
        self.register_buffer("cos", torch.cat([angle, angle], 1).cos())
        self.register_buffer("sin", torch.cat([angle, angle], 1).sin())
        self.register_buffer("mask", torch.full((Decoder.LENGTH, Decoder.LENGTH), -1e9).triu(1))

    def forward(self, ids):
        x = self.token(ids)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin, self.mask)
        return self.head(rms(x, self.norm))


def rms(x, weight):
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * weight


def rotate(x, cos, sin):
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


def double(a, b):
    return nn.Sequential(nn.Conv2d(a, b, 3, padding=1, bias=False), nn.BatchNorm2d(b), nn.ReLU(), nn.Conv2d(b, b, 3, padding=1), nn.ReLU())


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down = nn.ModuleList([double(3, 16), double(16, 24), double(24, 40)])
        self.rise = nn.ModuleList([nn.ConvTranspose2d(40, 24, 2, 2), nn.ConvTranspose2d(24, 16, 2, 2)])
        self.up, self.head = nn.ModuleList([double(48, 24), double(32, 16)]), nn.Conv2d(16, 2, 1)

    def forward(self, x):
        a = self.down[0](x)
        b = self.down[1](F.max_pool2d(a, 2))
        c = self.down[2](F.max_pool2d(b, 2))
        b = self.up[0](torch.cat([b, self.rise[0](c)], 1))
        return self.head(self.up[1](torch.cat([self.rise[1](b), a], 1)))


class InvertedResidual(nn.Module):
    class Block(nn.Module):
        def __init__(self, width, inner):
            super().__init__()
            self.expand = nn.Sequential(nn.Conv2d(width, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.Hardswish())
            self.depth = nn.Sequential(nn.Conv2d(inner, inner, 5, padding=2, groups=inner, bias=False), nn.BatchNorm2d(inner), nn.Hardswish())
            self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(inner, 8, 1), nn.ReLU(), nn.Conv2d(8, inner, 1), nn.Hardsigmoid())
            self.project = nn.Sequential(nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width))

        def forward(self, x):
            y = self.depth(self.expand(x))
            return x + self.project(y * self.squeeze(y))

    def __init__(self):
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(3, 16, 3, 2, 1), nn.Sequential(*(InvertedResidual.Block(16, 48) for _ in range(3)))
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        return self.head(self.blocks(F.hardswish(self.stem(x))).mean((2, 3)))


class DiffusionBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.time = nn.Conv2d(3, 32, 3, padding=1), nn.Linear(16, 64)
        self.norm1, self.conv1 = nn.GroupNorm(8, 32), nn.Conv2d(32, 64, 3, padding=1)
        self.norm2, self.conv2, self.skip = nn.GroupNorm(8, 64), nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(32, 64, 1)
        self.qkv, self.proj, self.head = nn.Conv2d(64, 192, 1), nn.Conv2d(64, 64, 1), nn.Conv2d(64, 3, 3, padding=1)

    def forward(self, x, t):
        x = self.stem(x)
        y = self.conv1(F.silu(self.norm1(x))) + self.time(F.silu(t))[:, :, None, None]
        x = self.skip(x) + self.conv2(F.silu(self.norm2(y)))
        q, k, v = self.qkv(x).reshape(-1, 3, 4, 16, 64).unbind(1)
        a = torch.softmax(q.transpose(2, 3) @ k / 4, -1)
        return self.head(x + self.proj((v @ a.transpose(2, 3)).reshape(-1, 64, 8, 8)))


class ShuffleChunk(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2, 1)
        self.units = nn.ModuleList(nn.Sequential(nn.Conv2d(16, 16, 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1, groups=16), nn.Conv2d(16, 16, 1),
                                                 nn.ReLU()) for _ in range(3))
        self.wide, self.head = nn.Conv2d(32, 80, 1), nn.Linear(80, 10)

    def forward(self, x):
        x = F.relu(self.stem(x))
        for unit in self.units:
            a, b = x.chunk(2, 1)
            x = torch.cat([a, unit(b)], 1)
            x = x.view(-1, 2, 16, 16, 16).transpose(1, 2).reshape(-1, 32, 16, 16)
        return self.head(F.relu(self.wide(x)).mean((2, 3)))


def spread(model):
    """Vectors that start as ones and zeros get values of their own, so that no two channels are alike."""
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() == 1:
                p += 0.2 * torch.randn_like(p)
    return model.eval()


def export(folder, name, make, inputs, axes):
    torch.manual_seed(20260101)
    names = list(inputs)
    torch.onnx.export(spread(make()), tuple(inputs.values()), os.path.join(folder, name + ".onnx"), opset_version=13, input_names=names,
                      output_names=["y"], dynamic_axes={n: axes for n in names} if axes else None)


folder, images = sys.argv[1], {0: "batch"}
export(folder, "text_encoder", TextEncoder, {"ids": torch.zeros(1, 16, dtype=torch.long)}, {0: "batch", 1: "length"})
export(folder, "vision_transformer", VisionTransformer, {"image": torch.zeros(1, 3, 32, 32)}, images)
export(folder, "decoder", Decoder, {"ids": torch.zeros(1, Decoder.LENGTH, dtype=torch.long)}, images)
export(folder, "unet", UNet, {"image": torch.zeros(1, 3, 32, 32)}, {0: "batch", 2: "height", 3: "width"})
export(folder, "inverted_residual", InvertedResidual, {"image": torch.zeros(1, 3, 32, 32)}, images)
export(folder, "diffusion_block", DiffusionBlock, {"image": torch.zeros(1, 3, 8, 8), "time": torch.zeros(1, 16)}, images)
export(folder, "shuffle_chunk", ShuffleChunk, {"image": torch.zeros(1, 3, 32, 32)}, images)
