#!/usr/bin/env python3
"""The CIFAR-10 ResNet-20 of akamaster/pytorch_resnet_cifar10 as ONNX, from its safetensors.

usage: resnet20_onnx.py CHECKPOINT.safetensors OUT.onnx

Convolution, batch norm and ReLU stay nodes of their own, as an exporter leaves them without folding. Where a stage changes
its width the shortcut takes every second pixel and pads the channels with zeros on either side (option A of the ResNet paper)."""
import json
import sys

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

EPS = 1e-5


def safetensors(path):
    with open(path, "rb") as f:
        raw = f.read()
    n = int.from_bytes(raw[:8], "little")
    head = json.loads(raw[8:8 + n])
    out = {}
    for name, t in head.items():
        if name != "__metadata__" and t["dtype"] == "F32":
            a, b = t["data_offsets"]
            out[name] = np.frombuffer(raw[8 + n + a:8 + n + b], np.float32).reshape(t["shape"])
    return out


class Builder:
    def __init__(self, weights):
        self.weights, self.nodes, self.init = weights, [], []

    def const(self, name, array):
        if name not in (t.name for t in self.init):
            self.init.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def node(self, op, inputs, name, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def conv_norm(self, x, conv, norm, stride):
        w = self.const(conv + ".weight", self.weights[conv + ".weight"])
        x = self.node("Conv", [x, w], conv, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[stride, stride])
        parts = [self.const(norm + s, self.weights[norm + s]) for s in (".weight", ".bias", ".running_mean", ".running_var")]
        return self.node("BatchNormalization", [x, *parts], norm, epsilon=EPS)

    def shortcut(self, x, base, more):
        ends = np.array([2**31 - 1] * 2, np.int64)
        x = self.node("Slice", [x, self.const("zeros", np.zeros(2, np.int64)), self.const("ends", ends),
                                self.const("axes", np.array([2, 3], np.int64)), self.const("steps", np.array([2, 2], np.int64))],
                      base + ".slice")
        pads = self.const("pads_%d" % more, np.array([0, more, 0, 0, 0, more, 0, 0], np.int64))
        return self.node("Pad", [x, pads], base + ".shortcut", mode="constant")


def build(weights):
    b = Builder(weights)
    x = b.node("Relu", [b.conv_norm("x", "conv1", "bn1", 1)], "relu1")
    width = 16
    for stage, out in enumerate((16, 32, 64), 1):
        for block in range(3):
            base, stride = "layer%d.%d" % (stage, block), 2 if out != width else 1
            y = b.node("Relu", [b.conv_norm(x, base + ".conv1", base + ".bn1", stride)], base + ".relu1")
            y = b.conv_norm(y, base + ".conv2", base + ".bn2", 1)
            if out != width:
                x = b.shortcut(x, base, (out - width) // 2)
            x = b.node("Relu", [b.node("Add", [y, x], base + ".add")], base + ".relu2")
            width = out
    x = b.node("Flatten", [b.node("GlobalAveragePool", [x], "pool")], "flat", axis=1)
    w = [b.const("linear." + s, weights["linear." + s]) for s in ("weight", "bias")]
    b.node("Gemm", [x, *w], "logits", transB=1)
    graph = helper.make_graph(b.nodes, "resnet20", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 32, 32])],
                              [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])], initializer=b.init)
    model = helper.make_model(graph, producer_name="resnet20_onnx", opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 7
    checker.check_model(model)
    return model


save(build(safetensors(sys.argv[1])), sys.argv[2])
