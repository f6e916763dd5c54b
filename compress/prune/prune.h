/* prune.h: structured pruning from a dense checkpoint to a smaller one, as one pass:
 *
 *   open     the model (an ONNX file is made ready: constants computed, batch norms folded), its groups
 *   plan     how many groups of each family stay, for the budget
 *   run      which go, refit, optional training; the smaller checkpoint is written beside OUT, opened again, run against the model whose
 *            groups are only set to 0, and gets its name when the two agree
 *
 * Each step is its own file of this folder; this one holds them together. */
#ifndef QN_COMPRESS_PRUNE_PRUNE_H
#define QN_COMPRESS_PRUNE_PRUNE_H

#include "base/pattern.h"
#include "compress/prune/allocate.h"
#include "compress/prune/depth.h"
#include "compress/prune/emit.h"
#include "compress/prune/made_feed.h"
#include "compress/prune/recover.h"
#include "compress/prune/sparsity.h"
#include "compress/prune/wish.h"
#include "compress/prune/work.h"

/* Calibration data: opened for the graph that is pruned (names of inputs are those of the file). NULL: none. */
typedef struct qn_prune_data {
    qn_code (*open)(void *ctx, const qn_graph *g, qn_calibrate_feed *out, qn_err *err);
    void (*close)(void *ctx);
    void *ctx;
} qn_prune_data;

typedef struct qn_prune_options {
    qn_allocate_options allocate;  /* `least` and `class_of` are found here; its `repair` rules the choice and the refit      */
    const char *const *keep;       /* patterns: families one of whose weights matches stay whole                            */
    unsigned n_keep;
    bool inexact, inner;           /* as in qn_groups_options                                                               */
    bool per_layer, any_heads;     /* per_layer and any_loader of qn_emit_options                                           */
    bool cuts;                     /* groups go at all: else only what is below                                             */
    uint32_t drop_layers;          /* whole layers of a language model that go, those that it misses least                  */
    uint32_t drop_experts;         /* experts of every layer that go, by what they add to the stream                        */
    const qn_sparsity_options *sparsity; /* single weights of what is left become 0; NULL: none                              */
    bool recover;
    qn_recover_options recovery;
    const char *zeroed;            /* the model of full shape with zeros in place of what goes is written here too, or NULL  */
    bool overwrite, dry_run;
    uint64_t measure_batches;      /* of the data, that end results are measured on; 0: 64 batches or 1024 samples                      */
    uint64_t memory_bytes;         /* of the whole process; 0: no limit                                                     */
} qn_prune_options;

/* Everything about a run, for reports. All of it belongs to it. */
typedef struct qn_prune {
    const qn_env *env;
    const qn_prune_options *options; /* borrowed */
    const char *input, *output;      /* borrowed */
    qn_prune_work work;              /* files on the way */
    qn_source *original, *source;    /* as given; as pruned: the same, or made ready */
    qn_graph *graph;
    qn_groups *groups;
    qn_calibrate_feed feed;          /* the data's, or made up */
    qn_made_feed made;
    bool has_data;
    uint32_t n_folded_norms;         /* batch norms */
    uint32_t *least, *class_of;      /* per family */
    uint8_t *allowed;                /* per family: 0 where no runtime could load the cut */
    qn_measure *measure;
    qn_allocated plan;
    qn_cost cost_before, cost_after;
    qn_cut *cut;
    qn_overlay *weights;
    qn_repair_family *families;      /* per family */
    qn_recovery recovery;
    qn_sparsity_report sparsity;
    uint8_t *layers_gone, *experts_gone; /* flags: per layer; per layer and expert */
    const uint8_t **experts_of;      /* rows of experts_gone, for emission         */
    uint32_t n_layers, n_experts;
    qn_depth_mask *mask;             /* of experts that go, for runs of the zeroed model */
    qn_distance zeroed, repaired, recovered; /* from the dense model: cut only; refitted, without what goes in depth too; trained */
    bool measured;
    /* proof: largest |sliced − zeroed| ÷ largest |zeroed|, over all outputs and runs; and how far the zeroed one is from the dense one */
    double proof, proof_change;
    double rounding;                 /* how far the last bit of the weights moves the zeroed model: looked at when the proof is past QN_PRUNE_EXACT; else 0 */
    uint64_t proof_runs;
    bool exact;                      /* all that was cut is exact */
    uint64_t bytes_before, bytes_after; /* of files */
    const qn_prune_data *data;
} qn_prune;

/* The options for a wish that was checked; patterns stay borrowed from it. Without data everything is cut alike. */
qn_prune_options qn_prune_options_of(const qn_prune_wish *w, bool has_data, uint64_t memory_bytes);

/* prune_depth.c: chooses layers and experts that go, if any shall, and takes them out of p->weights. */
qn_code qn_prune_depth(qn_prune *p, uint64_t n_batches, qn_err *err) QN_MUST_CHECK;
void qn_prune_depth_release(qn_prune *p);
/* What emission is told of it; all NULL when nothing goes so. */
qn_depth qn_prune_depth_of(const qn_prune *p);

#define QN_PRUNE_EXACT 1e-5 /* proof of exact groups */

/* `data` is called until qn_prune_close. */
qn_code qn_prune_open(qn_prune *p, const qn_env *env, const char *input, const char *output, const qn_prune_data *data,
                      const qn_prune_options *o, qn_err *err) QN_MUST_CHECK;
qn_code qn_prune_plan(qn_prune *p, qn_err *err) QN_MUST_CHECK;
qn_code qn_prune_run(qn_prune *p, qn_err *err) QN_MUST_CHECK;
void qn_prune_close(qn_prune *p);

#endif
