/* lossy_readers.c: the second moment of an embedding that is no head, from weights alone. A row of it is multiplied with nothing, but what it
 * is added up to is: an error e of a row reaches the linear layers of the first block as W diag(g) e behind a norm with gain g, so
 *     M = Σ diag(g) Wᵀ W diag(g)   over the layers of that block that read the embedding behind a norm,
 * and e M eᵀ is what its errors do there (the division by the row's length is the same for all of its columns). A LayerNorm takes the mean
 * away too: then the rows of W diag(g) are centred. Later blocks and the head see the same error among what blocks have added: summing over them
 * too was worse, and what stands for them is damping (QN_LOSSY_READERS_DAMPING). Measured: docs/quality.md. */
#include "analysis/exec/exec.h"
#include "base/err.h"
#include "base/num.h"
#include "compress/lossy_impl.h"
#include <cblas.h>
#include <string.h>

enum { SLAB_ROWS = 256 };

/* A norm on the way from the embedding to a value; the one before it, or NULL. */
typedef struct norm {
    const struct norm *before;
    double *gain; /* n; NULL while readers are only counted */
    bool centred;
} norm;

/* Of each value: does the embedding's row stand in it, and behind what? */
typedef struct place {
    bool in;
    const norm *last;
} place;

struct walk {
    const qn_lossy *l;
    uint32_t n;      /* columns */
    double *h;       /* n × n, its upper triangle is added to; NULL: readers are only counted */
    place *at;       /* by value */
    float *rows;     /* SLAB_ROWS of a weight */
    double *wide;    /* the same as they meet the embedding */
    uint64_t n_readers;
    qn_arena arena;
};

static bool is(const qn_node *n, const char *type)
{
    return strcmp(n->type, type) == 0 && strcmp(n->domain, "quern") == 0;
}

static bool is_norm(const qn_node *n)
{
    return is(n, "RMSNorm") || is(n, "LayerNorm");
}

static bool reads(const struct walk *w, const qn_node *n, unsigned k)
{
    return k < n->n_in && n->in[k] != QN_NO_VALUE && w->at[n->in[k]].in;
}

static const qn_value *weight(const struct walk *w, const qn_node *n, unsigned k)
{
    const qn_value *v = k < n->n_in && n->in[k] != QN_NO_VALUE ? &w->l->graph->values[n->in[k]] : NULL;
    return v && v->kind == QN_VALUE_WEIGHT && v->dtype == QN_F32 ? v : NULL;
}

static bool reads_any(const struct walk *w, const qn_node *n)
{
    for (unsigned k = 0; k < n->n_in; k++)
        if (reads(w, n, k))
            return true;
    return false;
}

static bool is_of(const qn_value *v, unsigned rank, uint32_t n)
{
    return v && v->rank == rank && v->dims[rank - 1] == n;
}

static bool is_linear(const struct walk *w, const qn_node *n)
{
    return is(n, "Linear") && strcmp(qn_node_string(n, "layout", "out_in"), "out_in") == 0 && reads(w, n, 0) && is_of(weight(w, n, 1), 2, w->n);
}

/* --- what a reader adds ---------------------------------------------------------------------------------------------- */

/* A row of W → the row of W diag(g) …, from the last norm back to the first. */
static void through_norms(const norm *m, uint32_t n, double *row)
{
    for (; m; m = m->before) {
        double mean = 0;
        for (uint32_t j = 0; j < n; j++)
            mean += row[j] *= m->gain[j];
        mean = m->centred ? mean / n : 0;
        for (uint32_t j = 0; j < n; j++)
            row[j] -= mean;
    }
}

static qn_code add_reader(struct walk *w, uint32_t value, const norm *last, qn_err *err)
{
    const qn_lossy *l = w->l;
    const uint64_t n_rows = (uint64_t)l->graph->values[value].dims[0];
    for (uint64_t first = 0; first < n_rows; first += SLAB_ROWS) {
        const uint64_t k = qn_min_u64(SLAB_ROWS, n_rows - first);
        QN_TRY(qn_weight_from_source(l->env, l->src, l->graph, value, first, k, w->rows, err));
        for (uint64_t i = 0; i < k * w->n; i++)
            w->wide[i] = (double)w->rows[i];
        for (uint64_t i = 0; i < k; i++)
            through_norms(last, w->n, w->wide + i * w->n);
        cblas_dsyrk(CblasRowMajor, CblasUpper, CblasTrans, (blasint)w->n, (blasint)k, 1, w->wide, (blasint)w->n, 1, w->h, (blasint)w->n);
    }
    return QN_OK;
}

/* --- the way --------------------------------------------------------------------------------------------------------- */

static qn_code pass_norm(struct walk *w, const qn_node *node, qn_err *err)
{
    norm *m = qn_arena_get(&w->arena, sizeof *m, 8, err);
    if (!m)
        return QN_E_MEMORY;
    *m = (norm){.before = w->at[node->in[0]].last, .centred = is(node, "LayerNorm")};
    w->at[node->out[0]] = (place){true, m};
    if (!w->h)
        return QN_OK;
    m->gain = qn_arena_get(&w->arena, w->n * sizeof *m->gain, 8, err);
    if (!m->gain)
        return QN_E_MEMORY;
    QN_TRY(qn_weight_from_source(w->l->env, w->l->src, w->l->graph, node->in[1], 0, w->n, w->rows, err));
    for (uint32_t j = 0; j < w->n; j++)
        m->gain[j] = (double)w->rows[j] + (double)qn_node_int(node, "offset", 0);
    return QN_OK;
}

/* To the end of the first block in which something else than sums and norms reads the embedding. When that is more than linear layers (experts, a
 * token shift), what is known of them is too little: attention and router alone, without the experts, made it worse. */
static qn_code follow(struct walk *w, uint64_t object, qn_err *err)
{
    const qn_graph *g = w->l->graph;
    uint32_t last_block = UINT32_MAX;
    for (uint32_t i = 0; i < g->n_nodes && g->nodes[i].block <= last_block; i++) {
        const qn_node *n = &g->nodes[i];
        if (is(n, "Embed")) {
            const qn_value *v = weight(w, n, 1);
            w->at[n->out[0]].in |= v && w->l->src->tensors[v->tensor].object == object;
        } else if (is(n, "Scale") && reads(w, n, 0)) {
            w->at[n->out[0]] = w->at[n->in[0]];
        } else if (is(n, "Add") && (reads(w, n, 0) || reads(w, n, 1))) {
            w->at[n->out[0]] = w->at[n->in[reads(w, n, 0) ? 0 : 1]];
        } else if (is_norm(n) && reads(w, n, 0) && is_of(weight(w, n, 1), 1, w->n)) {
            QN_TRY(pass_norm(w, n, err));
        } else if (reads_any(w, n)) {
            last_block = n->block;
            if (!is_linear(w, n)) {
                w->n_readers = 0;
                return QN_OK;
            }
            w->n_readers++;
            if (w->h)
                QN_TRY(add_reader(w, n->in[1], w->at[n->in[0]].last, err));
        }
    }
    return QN_OK;
}

static qn_code walk(const qn_lossy *l, uint64_t object, uint32_t n, double *h, uint64_t *n_readers, qn_err *err)
{
    struct walk w = {.l = l, .n = n, .h = h};
    qn_arena_init(&w.arena, l->env->alloc);
    w.at = qn_arena_get(&w.arena, (l->graph->n_values + 1ull) * sizeof *w.at, 8, err);
    if (w.at && h) {
        w.rows = qn_arena_get(&w.arena, (uint64_t)SLAB_ROWS * n * sizeof *w.rows, 64, err);
        w.wide = w.rows ? qn_arena_get(&w.arena, (uint64_t)SLAB_ROWS * n * sizeof *w.wide, 64, err) : NULL;
    }
    qn_code rc = w.at && (w.wide || !h) ? QN_OK : QN_E_MEMORY;
    if (rc == QN_OK) {
        memset(w.at, 0, (l->graph->n_values + 1ull) * sizeof *w.at);
        rc = follow(&w, object, err);
    }
    *n_readers = w.n_readers;
    qn_arena_release(&w.arena);
    return rc;
}

qn_code qn_lossy_readers(const qn_lossy *l, uint64_t object, uint32_t n, uint64_t *n_readers, qn_err *err)
{
    return walk(l, object, n, NULL, n_readers, err);
}

qn_code qn_lossy_readers_moment(const qn_lossy *l, const qn_lossy_layer *y, double **h, double **diagonal, qn_err *err)
{
    const uint32_t n = y->cols;
    uint64_t n_readers;
    double *m = qn_mem_zeros(l->env->alloc, (uint64_t)n * n, sizeof *m, err);
    qn_code rc = m ? walk(l, y->object, n, m, &n_readers, err) : QN_E_MEMORY;
    double *d = rc == QN_OK && l->r->no_feedback ? qn_mem_get(l->env->alloc, n * sizeof *d, err) : NULL;
    if (rc == QN_OK && l->r->no_feedback && !d)
        rc = QN_E_MEMORY;
    if (rc != QN_OK || d) {
        for (uint32_t i = 0; d && i < n; i++)
            d[i] = m[(uint64_t)i * n + i];
        qn_mem_put(l->env->alloc, m);
        *diagonal = d;
        return rc;
    }
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < i; j++)
            m[(uint64_t)i * n + j] = m[(uint64_t)j * n + i];
    *h = m;
    return QN_OK;
}

uint64_t qn_lossy_readers_memory(uint32_t n)
{
    return (uint64_t)n * SLAB_ROWS * (sizeof(float) + sizeof(double));
}
