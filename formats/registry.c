/* registry.c: the formats, most telling first. Two bytes that begin a pickle also begin a safetensors file whose header has 640 bytes (or 896, 1152,
 * 1408, and those plus multiples of 65536): safetensors is asked before. */
#include "formats/registry.h"
#include "base/num.h"
#include "formats/archive/archive.h"
#include "formats/gguf/gguf.h"
#include "formats/hf/hf.h"
#include "formats/onnx/onnx.h"
#include "formats/npz/npy.h"
#include "formats/npz/npz.h"
#include "formats/quern/source.h"
#include "formats/safetensors/safetensors.h"
#include "formats/torch/torch.h"

static bool begins(const qn_probe *p, const char *magic, size_t n)
{
    return p->n_head >= n && memcmp(p->head, magic, n) == 0;
}

static bool is_quern(const qn_probe *p)
{
    return begins(p, QN_MAGIC, 8);
}

static bool is_pickle(const qn_probe *p)
{
    return p->n_head >= 2 && p->head[0] == 0x80 && p->head[1] >= 2 && p->head[1] <= 5;
}

static const qn_format quern = {"a .quern file", is_quern, qn_quern_source_open};
static const qn_format pickle = {"a pickle without the head of a PyTorch checkpoint", is_pickle, NULL};

const qn_format *const qn_formats[] = {
    &quern, &qn_format_hf, &qn_format_shard_index, &qn_format_tfjs, &qn_format_gguf, &qn_format_npz, &qn_format_torch_zip,
    &qn_format_zip, &qn_format_npy, &qn_format_torch_legacy, &qn_format_packed, &qn_format_tar, &qn_format_safetensors, &pickle,
    &qn_format_onnx, NULL,
};
