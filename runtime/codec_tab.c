/* codec_tab.c: one row per codec, and the guarded call that every decode goes through. */
#include "runtime/codec.h"
#include "base/err.h"

const qn_codec_row qn_codec_tab[QN_CODEC_COUNT] = {
    [QN_CODEC_RAW] = {"raw", "the bytes themselves", qn_dec_raw},
    [QN_CODEC_FILL] = {"fill", "one value, repeated", qn_dec_fill},
    [QN_CODEC_ZSTD] = {"zstd", "a zstd frame", qn_dec_zstd},
    [QN_CODEC_SHUFFLE] = {"shuffle", "byte planes", qn_dec_shuffle},
    [QN_CODEC_NARROW] = {"narrow", "a narrower dtype inside a wide one", qn_dec_narrow},
    [QN_CODEC_DEQUANT] = {"dequant", "scales and small numbers, multiplied", qn_dec_dequant},
    [QN_CODEC_PALETTE] = {"palette", "a table of values and indices", qn_dec_palette},
    [QN_CODEC_ROWDUP] = {"rowdup", "unique rows and a row map", qn_dec_rowdup},
    [QN_CODEC_DELTA] = {"delta", "difference to a base checkpoint", qn_dec_delta},
    [QN_CODEC_SPARSE] = {"sparse", "a mask of zeros, and the rest", qn_dec_sparse},
    [QN_CODEC_FAST] = {"fast", "floats: exponents in 8-bit-probability rANS, the rest raw", qn_dec_fast},
    [QN_CODEC_MAX] = {"max", "float context mixing", qn_dec_max},
    [QN_CODEC_DENSE] = {"dense", "floats: scale-relative exponents and top fraction bits in rANS", qn_dec_dense},
    [QN_CODEC_FP8] = {"fp8", "lossy: numbers of 8 bits (E4M3) and scales, group by group", qn_dec_fp8},
    [QN_CODEC_GRID] = {"grid", "lossy: integers and scales, group by group", qn_dec_grid},
    [QN_CODEC_ECT] = {"ect", "lossy: an entropy-coded trellis", qn_dec_ect},
    [QN_CODEC_PVQ] = {"pvq", "lossy: points of pyramids down the columns", qn_dec_pvq},
    [QN_CODEC_VQ] = {"vq", "lossy: centroids of vectors down the columns", qn_dec_vq},
    [QN_CODEC_BLOCKS] = {"blocks", "lossy: blocks of a type of ggml", qn_dec_blocks},
    [QN_CODEC_TURN] = {"turn", "lossy: another codec over the matrix that a layer multiplies with", qn_dec_turn},
    [QN_CODEC_ROWS] = {"rows", "lossy: unique rows, approximated, and a row map", qn_dec_rowdup},
    [QN_CODEC_TRELLIS] = {"trellis", "lossy: paths through a trellis down the columns", qn_dec_trellis},
    [QN_CODEC_ORDER0] = {"order0", "bytes in rANS", qn_dec_order0},
};

qn_code qn_codec_decode(const qn_dec_ctx *cx, unsigned codec, const qn_block *b, const uint8_t *payload, size_t n_bytes,
                        uint8_t *dst, qn_err *err)
{
    if (codec >= QN_CODEC_COUNT || !qn_codec_tab[codec].decode)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "unknown codec %u: this version knows 0 to %d", codec,
                       QN_CODEC_COUNT - 1);
    if (cx->depth >= QN_CODEC_DEPTH)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "payloads nested deeper than %d", QN_CODEC_DEPTH);
    if (b->n == 0 || b->cols == 0 || b->cols > b->n || (uint64_t)b->n * qn_unit_bytes(b->dtype) > QN_CHUNK_MAX_BYTES)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "block of %u units in rows of %u: out of range", b->n, b->cols);
    return qn_codec_tab[codec].decode(cx, b, payload, n_bytes, dst, err);
}
