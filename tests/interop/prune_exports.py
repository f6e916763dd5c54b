#!/usr/bin/env python3
"""Transformers as torch.onnx writes them: graphs that pruning must read through, where no small trained one is to be had.

usage: prune_exports.py FOLDER

The layers are PyTorch's own (nn.TransformerEncoderLayer, nn.MultiheadAttention), the weights are random with a fixed seed.
text_encoder.onnx: token and position embeddings, two layers, mean over the sequence; batch and length are free.
vision_transformer.onnx: patches by a convolution, a class token, three layers with the norm in front, 32 x 32 images."""
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


def spread(model):
    """Vectors that start as ones and zeros get values of their own, so that no two channels are alike."""
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() == 1:
                p += 0.2 * torch.randn_like(p)
    return model.eval()


torch.manual_seed(20260101)
folder = sys.argv[1]
torch.onnx.export(spread(TextEncoder()), (torch.zeros(1, 16, dtype=torch.long),), os.path.join(folder, "text_encoder.onnx"), opset_version=13,
                  input_names=["ids"], output_names=["logits"], dynamic_axes={"ids": {0: "batch", 1: "length"}})
torch.onnx.export(spread(VisionTransformer()), (torch.zeros(1, 3, 32, 32),), os.path.join(folder, "vision_transformer.onnx"), opset_version=13,
                  input_names=["image"], output_names=["logits"], dynamic_axes={"image": {0: "batch"}})
