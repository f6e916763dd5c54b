/* lossy_impl.h: what lossy.c (deciding, telling) and lossy_layer.c (the work) share. */
#ifndef QN_COMPRESS_LOSSY_IMPL_H
#define QN_COMPRESS_LOSSY_IMPL_H

#include "compress/lossy.h"
#include <pthread.h>

enum {
    QN_LOSSY_FACTORS = 2, /* that are kept when nobody uses them */
    QN_LOSSY_MEANS = 2,   /* over experts: gate and up share one, down has another */
    QN_LOSSY_WRAP_BYTES = 16
};

/* A factor for an input and a width of groups. */
typedef struct qn_lossy_factor {
    uint32_t input, group, col0; /* input: of the statistics file */
    qn_ldl_order order;
    bool own;              /* made for one layer only */
    uint64_t n_users, used;
    qn_ldl ldl;
} qn_lossy_factor;

/* Σ over the inputs of all experts of a layer, for those that saw few rows: H, or its diagonal when the file has no more. */
typedef struct qn_lossy_mean {
    uint32_t input, n; /* the first of them; columns, 0: empty */
    bool diagonal;
    double *sum, count;
    uint64_t used;
} qn_lossy_mean;

/* One matrix of a tensor, or the part of a turned one that is a chunk. Those of a tensor stand together. */
typedef struct qn_lossy_layer {
    uint64_t object, unit0; /* unit of the object that it begins with */
    uint32_t col0;          /* of a turned one: its first column in the tensor and in the statistics */
    const char *name;
    qn_lossy_pick pick;
    const char *codec;
    qn_quant_settings set;
    bool explicit_bits;
    const qn_quantizer *q;
    uint32_t rows, cols, chunk_rows;
    const qn_stats_item *item; /* NULL: not measured */
    bool by_readers;           /* an embedding whose errors are weighed by what reads it */
    /* while chunks of it are worked on */
    bool ready;
    uint64_t n_left, n_in;   /* chunks that were not asked for yet; being worked on */
    qn_arena arena;
    qn_quant_layer ql;
    const void *plan;
    qn_lossy_factor *factor;
    /* results */
    uint64_t n_segments;
    qn_feedback_loss *loss; /* by segment */
    uint8_t *state;         /* by segment: 0 not by this run, 1 done, 2 the codec does not fit */
    qn_ldl_kind kind;
    double damping, spread, unevenness;
    uint32_t n_dead;
} qn_lossy_layer;

struct qn_lossy {
    const qn_env *env;
    qn_source *src;
    const qn_graph *graph;
    qn_recipe *r;
    const qn_stats_file *stats; /* NULL: none */
    qn_arena arena;
    qn_digest model, statistics;
    const char *recipe; /* in one line */
    const double *more_bits; /* by object, or NULL */
    uint64_t n_layers, n_rows;
    qn_lossy_layer *layers;
    uint32_t *rows;     /* by row of the report: the first of its layers */
    uint32_t *layer_of; /* by object: index + 1 of the first layer of one that is approximated, 0 */
    qn_lossy_mean means[QN_LOSSY_MEANS];
    pthread_mutex_t lock;
    bool has_lock;
    qn_lossy_factor *factors; /* one for each thread, and QN_LOSSY_FACTORS */
    unsigned n_factors;
    uint64_t clock;
};

/* --- lossy_view.c: how the matrix lies --- */

/* Layers of a tensor. */
uint64_t qn_lossy_parts(const qn_lossy_view *v, qn_dtype t);
/* Fills rows, cols, unit0, col0, chunk_rows and the number of segments of one of them; its quantizer is known. */
void qn_lossy_cut(qn_lossy_layer *y, uint32_t part, qn_dtype t);
/* Does a decoder know a chunk of so many units by the matrix's rows? If not, the payload must be wrapped. */
bool qn_lossy_is_plain(const qn_lossy_layer *y, const qn_object *o, uint64_t units);
/* A TURN payload around another of that codec, which lies QN_LOSSY_WRAP_BYTES behind dst. Returns its length. */
size_t qn_lossy_wrap(const qn_lossy_layer *y, unsigned codec, uint8_t *dst, size_t n_bytes);

/* --- lossy_moment.c: what the statistics say --- */

/* The input's H (n × n) or its diagonal, from the allocator, for the layer's columns. Under the lock. */
qn_code qn_lossy_moment(qn_lossy *l, const qn_lossy_layer *y, double **h, double **diagonal, qn_err *err) QN_MUST_CHECK;
/* Is it one that leans on other experts? */
bool qn_lossy_leans(const qn_lossy *l, const qn_lossy_layer *y);

/* --- lossy_readers.c: what an embedding's errors do in the first block --- */

#define QN_LOSSY_READERS_DAMPING 0.1 /* what later blocks and the head see of an error counts all columns alike */

/* How many linear layers read this embedding of n columns: 0, there is no second moment for it. */
qn_code qn_lossy_readers(const qn_lossy *l, uint64_t object, uint32_t n, uint64_t *n_readers, qn_err *err) QN_MUST_CHECK;
/* As qn_lossy_moment, from them; the diagonal alone when the recipe has no feedback. */
qn_code qn_lossy_readers_moment(const qn_lossy *l, const qn_lossy_layer *y, double **h, double **diagonal, qn_err *err) QN_MUST_CHECK;
/* Bytes that takes beside h. */
uint64_t qn_lossy_readers_memory(uint32_t n);

/* Forgets a layer that was prepared, and factors. */
void qn_lossy_layers_close(qn_lossy *l);

#endif
