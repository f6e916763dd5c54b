/* lossy.h: which tensors of a checkpoint are approximated, with what, and the work for each of their chunks: what qn_pack asks
 * for when it is given one.
 *
 * Approximated are the weights of linear layers, experts, convolutions and recurrences, the head and the embedding, in F32, F16 or
 * BF16 in a file that carries no checksum of its own: as matrices (out, in), whatever way they lie. Everything else goes the
 * lossless way. The second moment of a layer's input comes from a statistics file (analysis/stats), by the tensor's name; without
 * one every input counts alike and nothing is fed back. An embedding that is no head has no such input: what the linear layers of the first
 * block make of its errors takes that place, with statistics or without (lossy_readers.c).
 *
 * An expert that saw few rows has H + κ S / N for its second moment, κ = QN_LOSSY_LEAN × columns: H, the sum over its own rows, S and N
 * sum and number of those of all experts of the layer. So one that saw many is left alone, and one that saw none uses the mean. */
#ifndef QN_COMPRESS_LOSSY_H
#define QN_COMPRESS_LOSSY_H

#include "analysis/graph/graph.h"
#include "analysis/stats/file.h"
#include "compress/feedback.h"
#include "compress/recipe.h"

typedef struct qn_lossy_options {
    qn_recipe *recipe;          /* counts what its rules match; must outlive the qn_lossy           */
    const qn_stats_file *stats; /* NULL: none                                                       */
    const double *more_bits;    /* by object, added to bits that are not its own (spread.h); NULL: none. Must outlive it */
    const qn_digest *model;     /* the source's digest when it is known already; NULL: it is read once for that */
} qn_lossy_options;

/* What became of one tensor. Sums over its segments; relative errors are quotients of them. */
typedef struct qn_lossy_row {
    uint64_t object;
    const char *name;
    qn_lossy_role role;
    const char *kept; /* why it stays lossless, or NULL. Then only object, name and role count */
    const char *codec;
    qn_quant_settings set; /* as asked for, with bits */
    bool explicit_bits;    /* given for this tensor by role or rule */
    uint32_t rows, cols; /* of all its matrices, one above the other */
    uint32_t n_parts, n_starved; /* matrices (experts, groups); of these: measured on fewer than 2 rows of input for each column */
    bool leans;       /* some of them were given what other experts saw, see above */
    bool by_readers;  /* an embedding: its second moment is that of the layers that read it, not of statistics */
    uint64_t seen;    /* rows of input that were measured, of the matrix that saw fewest; 0: none, or no statistics */
    qn_ldl_kind kind;
    double damping, spread, unevenness;
    uint32_t n_dead;
    uint64_t n_segments, n_done, n_fell_back, n_lossless; /* done by this run; of these: better without feedback; not fit for the codec */
    qn_feedback_loss sum;
} qn_lossy_row;

typedef struct qn_lossy qn_lossy;

#define QN_LOSSY_LEAN 4

/* Decides on every tensor of the graph's source. QN_E_UNSUPPORTED: its weights are no objects (DFloat11). QN_E_USAGE: settings that the codec refuses, statistics of another
 * model. Reads the whole model once for its digest. Graph, source and statistics must outlive it. */
qn_code qn_lossy_open(qn_lossy **out, const qn_env *env, qn_source *src, const qn_graph *g, const qn_lossy_options *opt,
                      qn_err *err) QN_MUST_CHECK;
void qn_lossy_close(qn_lossy *l);

/* Rows in the order of objects, also of tensors that a graph multiplies with but that are kept. */
uint64_t qn_lossy_count(const qn_lossy *l);
qn_lossy_row qn_lossy_report(const qn_lossy *l, uint64_t i);

/* For provenance: the recipe in one line (qn_recipe_text); digests of the model that was approximated, of the statistics (zeros: none). */
const char *qn_lossy_recipe(const qn_lossy *l);
qn_digest qn_lossy_model(const qn_lossy *l);
qn_digest qn_lossy_statistics(const qn_lossy *l);
/* Of all that decides the payloads besides the source. */
qn_digest qn_lossy_settings(const qn_lossy *l);
/* Bytes that preparing the largest layer takes, beside what qn_pack plans for itself. */
uint64_t qn_lossy_fixed_memory(const qn_lossy *l);
uint64_t qn_lossy_chunk_memory(const qn_lossy *l);

/* Is this object approximated? */
bool qn_lossy_has(const qn_lossy *l, uint64_t object);
/* Units of its chunks: whole rows. */
uint32_t qn_lossy_chunk_units(const qn_lossy *l, uint64_t object);
/* raw: the chunk's bytes in the source. Writes the payload (at most cap bytes) and what it decodes to, `decoded`, as many
 * bytes as raw. *n_out = 0: the codec does not fit, the chunk is to be kept as it is. Thread-safe; waits while another thread
 * prepares a layer. */
qn_code qn_lossy_chunk(qn_lossy *l, uint64_t object, uint64_t chunk, const uint8_t *raw, uint64_t n_bytes, uint8_t *decoded,
                       uint8_t *payload, size_t cap, unsigned *codec, size_t *n_out, qn_arena *scratch, qn_err *err) QN_MUST_CHECK;

/* --- lossy_pick.c: the choice alone ------------------------------------------------------------------------------- */

/* A tensor as matrices (rows = out, cols = in), one behind the other. */
typedef struct qn_lossy_view {
    uint32_t rows, cols; /* of one                                                                               */
    uint32_t parts;      /* experts of a stack, groups of a convolution, directions; 1: the tensor is one        */
    bool turned;         /* it lies as (in, out); then parts = 1                                                 */
    bool own_statistics; /* each part has an input of its own, by its number                                     */
} qn_lossy_view;

typedef struct qn_lossy_pick {
    qn_lossy_role role;
    qn_lossy_view view; /* as far as kept is NULL */
    uint32_t family;    /* 0, or the same for all tensors that are one weight of the experts of one layer */
    const char *kept;   /* why it cannot be approximated, or NULL */
    bool tied;          /* a head that is also the embedding      */
} qn_lossy_pick;

/* picks: one for each object of the source, zeroed. */
void qn_lossy_pick_all(qn_source *src, const qn_graph *g, qn_lossy_pick *picks);

#endif
