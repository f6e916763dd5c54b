/* lossy_impl.h: what lossy.c (deciding, telling) and lossy_layer.c (the work) share. */
#ifndef QN_COMPRESS_LOSSY_IMPL_H
#define QN_COMPRESS_LOSSY_IMPL_H

#include "compress/lossy.h"
#include <pthread.h>

enum { QN_LOSSY_FACTORS = 2 /* that are kept when nobody uses them */ };

/* A factor for an input and a width of groups. */
typedef struct qn_lossy_factor {
    uint32_t input, group; /* of the statistics file */
    qn_ldl_order order;
    bool tied;             /* made for one layer only */
    uint64_t n_users, used;
    qn_ldl ldl;
} qn_lossy_factor;

typedef struct qn_lossy_layer {
    uint64_t object;
    const char *name;
    qn_lossy_pick pick;
    const char *codec;
    qn_quant_settings set;
    bool explicit_bits;
    const qn_quantizer *q;
    uint32_t rows, cols, chunk_rows;
    const qn_stats_item *item; /* NULL: not measured */
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
    qn_recipe *r;
    const qn_stats_file *stats; /* NULL: none */
    qn_arena arena;
    qn_digest model, statistics;
    const char *recipe; /* in one line */
    const double *more_bits; /* by object, or NULL */
    uint64_t n_layers;
    qn_lossy_layer *layers;
    uint32_t *layer_of; /* by object: index + 1 of a layer that is approximated, 0 */
    pthread_mutex_t lock;
    bool has_lock;
    qn_lossy_factor *factors; /* one for each thread, and QN_LOSSY_FACTORS */
    unsigned n_factors;
    uint64_t clock;
};

/* Forgets a layer that was prepared, and factors. */
void qn_lossy_layers_close(qn_lossy *l);

#endif
