/* exec.h: the forward pass.
 *
 * One executor runs one graph. Products go to OpenBLAS, one thread a call; the work is cut into tiles by rules that do not
 * depend on the number of threads, so results do not either.
 *
 * Weights are loaded when a block begins and dropped when it ends (block by block over all batches: qn_exec_stream), or kept
 * while the pool has room. Where they come from is a *loader*, so that a pass can put its own reconstruction in their place. */
#ifndef QN_ANALYSIS_EXEC_EXEC_H
#define QN_ANALYSIS_EXEC_EXEC_H

#include "analysis/graph/op.h"
#include "base/team.h"

typedef struct qn_exec qn_exec;

/* Content of a weight: rows [first, first + n) of its outermost dimension as f32 (floats of any kind) or in its own dtype
 * (integers, bool). Thread-safe. */
typedef qn_code (*qn_weight_read)(void *ctx, const qn_graph *g, uint32_t value, uint64_t first, uint64_t n, void *dst, qn_err *err);

typedef struct qn_exec_options {
    qn_weight_read read;  /* NULL: from the graph's source                                    */
    void *read_ctx;
    uint64_t memory_bytes; /* limit of all tensors, weights included; 0: none                  */
    /* Taps; NULL: none. One call at a time.
     * on_input: before an operator multiplies `rows` rows of n values (leading dimension ld) with a weight: the rows as the weight
     * sees them (a convolution: im2col patches, one call per group with `part` = the group; experts: the tokens routed to each,
     * one call per expert with that expert's weight; `part` = index in a stacked weight). */
    qn_code (*on_input)(void *ctx, const qn_graph *g, uint32_t weight, uint32_t part, const float *x, uint64_t rows, uint64_t n,
                        uint64_t ld, qn_err *err);
    /* After each node: its outputs, whose data it may change for those who read them. */
    qn_code (*on_output)(void *ctx, const qn_graph *g, uint32_t node, const qn_array *out, qn_err *err);
    void *tap_ctx;
} qn_exec_options;

/* What a program that runs models takes beside their tensors, as far as it is the same for all: its code, libraries, tables. Whoever
 * holds a limit for the whole process gives memory_bytes less than that. */
#define QN_EXEC_BESIDE_BYTES (24ull << 20)

qn_code qn_exec_open(const qn_env *env, const qn_graph *g, const qn_exec_options *o, qn_exec **out, qn_err *err) QN_MUST_CHECK;
void qn_exec_close(qn_exec *x); /* NULL is fine */

/* Runs the whole graph once. feeds: one tensor per graph input, in order. outs: one per graph output, released by the
 * caller. Errors name the node ("node 'layers.0.attn' (Attention): …"). */
qn_code qn_exec_run(qn_exec *x, const qn_array *feeds, qn_array *outs, qn_err *err) QN_MUST_CHECK;
/* The same from block `first` on. held[v], per value of the graph: what an earlier run over the same feeds had, wherever a value is computed
 * before that block and read later; the others are not looked at. For running again after a change in a late block. */
qn_code qn_exec_run_from(qn_exec *x, uint32_t first, const qn_array *held, const qn_array *feeds, qn_array *outs, qn_err *err) QN_MUST_CHECK;

/* Runs the graph over n_batches batches, a block at a time over all of them: its weights are loaded once. What flows from
 * block to block is kept for every batch: in memory, or, past a quarter of the limit, in an unnamed file in the
 * environment's tmp_dir.
 * feed: the graph's inputs of a batch (released by the executor); asked again for every block that reads an input.
 * take: the graph's outputs of a batch, as soon as they are there; may be NULL.
 * on_block: when a block is through all batches; may be NULL. Setting *again runs the block once more over the same inputs, its
 *   weights read anew and without taps, and that is what the next block sees: how a quantizer shows each block the outputs of what
 *   it has already compressed. It is not called again for that block. */
typedef struct qn_stream {
    uint64_t n_batches;
    qn_code (*feed)(void *ctx, uint64_t batch, qn_array *inputs, qn_err *err);
    qn_code (*take)(void *ctx, uint64_t batch, const qn_array *outputs, qn_err *err);
    qn_code (*on_block)(void *ctx, uint32_t block, bool *again, qn_err *err);
    void *ctx;
} qn_stream;
qn_code qn_exec_stream(qn_exec *x, const qn_stream *s, qn_err *err) QN_MUST_CHECK;

/* The same in steps, so that two models can go side by side: open, step until it says that only the last block is left,
 * then take every batch, in any order. Between steps the values that wait can be looked at. `take` and `on_block` are not called. */
typedef struct qn_streamer qn_streamer;
qn_code qn_streamer_open(qn_exec *x, const qn_stream *s, qn_streamer **out, qn_err *err) QN_MUST_CHECK;
/* Runs the next block for all batches; *block is its number. *more = false, and nothing is done, when only the last one is left. */
qn_code qn_streamer_step(qn_streamer *t, bool *more, uint32_t *block, qn_err *err) QN_MUST_CHECK;
/* Value i of those that wait behind the last step's block: its number in the graph, or QN_NO_VALUE past the last one. */
uint32_t qn_streamer_waiting(const qn_streamer *t, uint32_t i);
/* A reference of the caller's own. */
qn_code qn_streamer_look(qn_streamer *t, uint64_t batch, uint32_t i, qn_array *out, qn_err *err) QN_MUST_CHECK;
/* Runs the last block for one batch; outs as in qn_exec_run. */
qn_code qn_streamer_take(qn_streamer *t, uint64_t batch, qn_array *outs, qn_err *err) QN_MUST_CHECK;
void qn_streamer_close(qn_streamer *t); /* NULL is fine */
/* The next block for one batch: how two models are compared batch by batch. keep false: a trial, what comes out is forgotten. When every batch has been kept
 * once, qn_streamer_next goes on as if qn_streamer_step had run the block. Works on the last block too, which is not to be kept. */
qn_code qn_streamer_try(qn_streamer *t, uint64_t batch, bool keep, qn_err *err) QN_MUST_CHECK;
void qn_streamer_next(qn_streamer *t);

/* A second one from where `t` stands: over the same graph, executor and batches, with what waits there. Both go on for themselves; the weights that the
 * executor holds are common. How the rest of a model is run again and again after a change in one block. */
qn_code qn_streamer_branch(qn_streamer *t, qn_streamer **out, qn_err *err) QN_MUST_CHECK;

/* What waits in `from` before its next block waits in `t` too, in place of what did: how one block is given what another model's gets. The graphs
 * must have equally many values there, the batches must be the same. QN_E_INPUT: they do not. */
qn_code qn_streamer_adopt(qn_streamer *t, qn_streamer *from, qn_err *err) QN_MUST_CHECK;

/* Stops and starts on_input: runs that nobody has to listen to need no patches. */
void qn_exec_hush(qn_exec *x, bool hush);
/* Lets go of a weight that is held: it is read anew when it is used next. */
void qn_exec_forget(qn_exec *x, uint32_t value);
/* The loader of a graph's own source, or of another that has tensors of the same names and shapes (a compressed copy); for loaders that
 * change some weights only. QN_E_INPUT: the other source lacks it, or has it in another shape. Thread-safe. */
qn_code qn_weight_from_source(const qn_env *env, qn_source *from, const qn_graph *g, uint32_t value, uint64_t first, uint64_t n, void *dst,
                              qn_err *err) QN_MUST_CHECK;

/* Largest size of tensors held at one time so far. */
uint64_t qn_exec_peak_bytes(const qn_exec *x);

/* --- for operators --------------------------------------------------------------------------------------------------- */

const qn_env *qn_exec_env(const qn_exec *x);
qn_pool *qn_exec_pool(qn_exec *x);
/* Room for an output. */
qn_code qn_exec_new(qn_exec *x, qn_array *t, qn_dtype dtype, const int64_t *dims, unsigned rank, qn_err *err) QN_MUST_CHECK;
/* Input i is read by nobody after this node and nobody else refers to its data: they may be written, or given on as the output. */
bool qn_exec_spare(const qn_exec *x, const qn_node *n, unsigned i, const qn_array *in);
/* Operators whose op row takes weights lazily (Linear, Embed, Experts) get an input of kind WEIGHT with data NULL when it is too
 * large to be held; they then read row ranges of it. `value` is the node's in[i]. */
qn_code qn_exec_weight_rows(qn_exec *x, uint32_t value, uint64_t first, uint64_t n, float *dst, qn_err *err) QN_MUST_CHECK;
/* Calls on_input when `weight` (the node's in[i]) is a weight, else does nothing. Cheap when nobody listens. */
bool qn_exec_listens(const qn_exec *x);
qn_code qn_exec_input(qn_exec *x, uint32_t weight, uint32_t part, const float *rows, uint64_t n_rows, uint64_t n, uint64_t ld,
                      qn_err *err) QN_MUST_CHECK;
/* Calls fn(ctx, i, slot) for i in [0, n): in parallel when n_work (elementary operations in all) is worth it. slot < threads of
 * the environment. Not to be nested. */
qn_code qn_exec_parts(qn_exec *x, uint64_t n, uint64_t n_work, qn_part_fn fn, void *ctx, qn_err *err) QN_MUST_CHECK;
/* Runs a subgraph of a node (If, Loop, Scan): `outer` values are taken from the running graph. */
qn_code qn_exec_subgraph(qn_exec *x, const qn_graph *sub, const qn_array *feeds, qn_array *outs, qn_err *err) QN_MUST_CHECK;

/* C (m, n) = A (m, k) · B, f32; row-major with leading dimensions. B is (n, k) when b_t (the layout of a Linear's weight), else
 * (k, n). beta 0: C is overwritten, 1: added to. Tiles in parallel, the same for every thread count. */
qn_code qn_gemm(qn_exec *x, bool b_t, uint64_t m, uint64_t n, uint64_t k, const float *a, uint64_t lda, const float *b,
                uint64_t ldb, float beta, float *c, uint64_t ldc, qn_err *err) QN_MUST_CHECK;

#endif
