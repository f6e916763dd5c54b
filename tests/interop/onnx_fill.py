#!/usr/bin/env python3
"""Random weights for the ONNX project's light models, whose weights are ConstantOfShape nodes (all channels alike).

usage: onnx_fill.py IN.onnx OUT.onnx

Matrices and kernels: normal, of variance 2 / fan-in, so that activations keep their size; vectors (biases, and scale, mean and
variance of BatchNormalization): 1 + a tenth of a normal number, hence positive. A Softmax at the end is taken off. The seed is fixed. Wants python3-onnx and python3-numpy.
"""
import sys

import numpy as np
import onnx
from onnx import numpy_helper


def main():
    model = onnx.load(sys.argv[1])
    graph = model.graph
    shapes = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    rng = np.random.default_rng(7)
    used, kept = set(), []
    for node in graph.node:
        if node.op_type != "ConstantOfShape" or node.input[0] not in shapes:
            kept.append(node)
            continue
        dims = [int(d) for d in shapes[node.input[0]]]
        used.add(node.input[0])
        values = rng.standard_normal(dims, dtype=np.float32)
        if len(dims) > 1:
            values *= np.float32(np.sqrt(2 / np.prod(dims[1:])))
        else:
            values = np.float32(1) + np.float32(0.1) * values
        graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        graph.input.append(onnx.helper.make_tensor_value_info(node.output[0], onnx.TensorProto.FLOAT, dims))  # IR 3 wants it
    if kept[-1].op_type == "Softmax":  # random logits are large: of their softmax only one value would be left
        graph.output[0].name = kept.pop().input[0]
    del graph.node[:]
    graph.node.extend(kept)
    for part in (graph.initializer, graph.input):
        for t in [t for t in part if t.name in used]:
            part.remove(t)
    onnx.save(model, sys.argv[2])
    return 0


sys.exit(main())
