/* quantizer.h: what stands between the error-feedback engine (feedback.h) and the ways to quantize a column.
 *
 * A layer is a matrix W: (rows, cols), rows = out features. It is cut into *segments* of whole rows: a segment is a chunk of
 * the container, the unit of parallel work and of independent decoding, and its cut depends on the tensor only, never on
 * threads. For each segment the engine visits every column once. Column j of the segment has, at its turn, the target
 *     t_j = w_j + Σ_k (w_k − ŵ_k) L_kj / L_jj        over the columns k that had their turn before
 * and the layer's loss is Σ_j L_jj² |t_j − ŵ_j|² exactly (H = L Lᵀ: the Cholesky factor of the layer's second moment). So a
 * quantizer is asked for the plain nearest ŵ_j to t_j, down the column, and `weight` says what an error in that column
 * costs compared to other columns. It knows nothing else of the Hessian; the engine knows nothing of codebooks.
 *
 * Columns are named by their number in the tensor. The order of visits is the engine's; it visits all columns of a group one
 * after the other. All functions are thread-safe across segments: they write to the segment's state and to nothing else. */
#ifndef QN_COMPRESS_QUANTIZER_H
#define QN_COMPRESS_QUANTIZER_H

#include "base/alloc.h"
#include "base/shape.h"
#include "compress/ekern.h"
#include "compress/settings.h"
#include "runtime/codec.h"

typedef struct qn_quant_layer {
    const char *name;     /* of the tensor, for messages                                                            */
    uint32_t rows, cols;
    qn_dtype dtype;       /* of the tensor: what ŵ is rounded to (nearest even) when it is decoded. The engine rounds */
    const double *weight; /* cols: L_jj², > 0, or 0 for a column that calibration never saw; NULL: all 1             */
    /* Whole rows of W, evenly spread over the layer, for what has to be decided before the first segment, the same for all
     * of them (a step for a wanted rate): (n_sample, cols), row-major. The rows are as they are in the tensor. */
    const float *sample;
    uint32_t n_sample;
    const struct qn_ldl *ldl; /* for trial runs of the engine on the sample; NULL: none can be made */
    uint32_t segment_rows;    /* rows of a segment, for the share of side information; 0: all */
} qn_quant_layer;

typedef struct qn_quant_segment {
    uint32_t row0, rows;
    const float *w;       /* (rows, cols), row-major, as in the tensor: finite */
    qn_arena *scratch;    /* for the state; kept until finish has returned      */
} qn_quant_segment;

typedef struct qn_quantizer qn_quantizer;

typedef struct qn_quant_ops {
    /* Once a layer, before its segments. *plan is what the segments share, read-only afterwards, from `arena`; may be NULL.
     * *layer lives as long as the plan. */
    qn_code (*begin)(const qn_quantizer *q, const qn_quant_layer *layer, qn_arena *arena, const void **plan, qn_err *err);
    /* The state of one segment, from s->scratch. */
    qn_code (*segment)(const qn_quantizer *q, const qn_quant_layer *layer, const void *plan, const qn_quant_segment *s,
                       void **state, qn_err *err);
    /* Before the first visit to a group of columns: t holds the group's targets so far, column cols[c] at t + c·ld, its rows
     * one after the other. NULL when there is nothing to choose for a group. */
    qn_code (*group)(void *state, const uint32_t *cols, uint32_t n, const float *t, size_t ld, qn_err *err);
    /* Quantizes column j: t has the segment's rows; recon[i] receives what the decoder will compute for row i, in f32,
     * before it is rounded to the dtype. */
    qn_code (*column)(void *state, uint32_t j, const float *t, float *recon, qn_err *err);
    /* After the last column: the payload. *n_out = 0 when it would need more than cap bytes: then the chunk is stored
     * without loss instead. */
    qn_code (*finish)(void *state, uint8_t *dst, size_t cap, size_t *n_out, qn_err *err);
} qn_quant_ops;

struct qn_quantizer {
    const qn_quant_ops *ops;
    const char *name;
    unsigned codec;        /* QN_CODEC_*, written in the index for each payload                                          */
    uint32_t group_cols;   /* groups are runs of that many columns, the last one may be short; 0: one group of all columns */
    uint64_t segment_bytes; /* decoded bytes that a segment should have; 0: the container's default. At most QN_CHUNK_MAX_BYTES */
    uint32_t row_multiple; /* segments but the last one have a multiple of that many rows, when they have room for as many; 0: any */
    uint32_t sample_weights; /* that a layer's sample should have at least, in whole rows, if the layer has as many              */
    uint32_t col_multiple; /* rows of another length cannot be written; 0: any                                             */
    bool order_free;       /* the order of columns does not matter (the step follows the weight): natural order          */
    bool costly;           /* column() costs much more than the engine: not worth a second pass to compare with          */
    /* Column j once more, after all had their turn: t is its target with all other columns as they are, `share` what an error in it
     * cost in the pass over what it costs now, L_jj² / H_jj ≤ 1. The scales of groups stay. NULL: a column cannot be done again. */
    qn_code (*again)(void *state, uint32_t j, double share, const float *t, float *recon, qn_err *err);
    /* The same for a whole group of at most 128 columns, with what is chosen for the group: h: H' of the group (row c at h + c·ldh),
     * g: E H' at its columns, recon: what it has become; columns of g and recon at + c·ld, in the order of cols. NULL: again() does. */
    qn_code (*group_again)(void *state, const uint32_t *cols, uint32_t n, const float *h, size_t ldh, const float *g, float *recon,
                           size_t ld, qn_err *err);
    const void *self;      /* the quantizer's own settings */
    qn_kern kern;          /* decoders and encoders in use, for nested payloads and kernels of its own */
    qn_ekern ekern;
};

/* One row for each quantizer in compress/quantizer_tab.c; the name is that of its codec. */
typedef struct qn_quantizer_row {
    const char *name;
    double head_bits_most, embedding_bits_most; /* heads and embeddings of more bits are left to "grid", in whole bits */
    /* Fills *q, whose kern and ekern are set; memory from `arena`. Takes the settings that it knows and refuses (QN_E_USAGE)
     * values that it cannot. */
    qn_code (*open)(qn_quantizer *q, const qn_quant_settings *set, qn_arena *arena, qn_err *err);
} qn_quantizer_row;
extern const qn_quantizer_row qn_quantizer_tab[];
extern const unsigned qn_quantizer_count;

/* Finds the row and opens it. QN_E_USAGE for an unknown name. */
qn_code qn_quantizer_open(const char *name, const qn_quant_settings *set, unsigned cpu, qn_arena *arena, const qn_quantizer **out,
                          qn_err *err) QN_MUST_CHECK;

/* Rows of a segment of a matrix of these dims (out, in): what both the cut of chunks and the share of side information follow. */
uint32_t qn_quantizer_segment_rows(const qn_quantizer *q, qn_dtype t, const uint64_t *dims);

/* NULL for an unknown name. */
const qn_quantizer_row *qn_quantizer_find(const char *name);

/* One per file. */
qn_code qn_quantizer_ect(qn_quantizer *q, const qn_quant_settings *set, qn_arena *arena, qn_err *err);
qn_code qn_quantizer_fp8(qn_quantizer *q, const qn_quant_settings *set, qn_arena *arena, qn_err *err);
qn_code qn_quantizer_grid(qn_quantizer *q, const qn_quant_settings *set, qn_arena *arena, qn_err *err);
qn_code qn_quantizer_pvq(qn_quantizer *q, const qn_quant_settings *set, qn_arena *arena, qn_err *err);
qn_code qn_quantizer_vq(qn_quantizer *q, const qn_quant_settings *set, qn_arena *arena, qn_err *err);
qn_code qn_quantizer_trellis(qn_quantizer *q, const qn_quant_settings *set, qn_arena *arena, qn_err *err);

#endif
