/* sequential.c: see sequential.h. */
#include "compress/sequential.h"
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "base/team.h"
#include "compress/lossy.h"
#include "runtime/widths.h"
#include <string.h>

/* A tensor of the block that runs again, as it was approximated. */
struct recon {
    uint64_t object, n_chunks, chunk_bytes;
    uint8_t *bytes; /* the whole tensor in its own dtype */
};

struct slot {
    qn_arena scratch;
    uint8_t *raw, *payload;
};

struct qn_sequential {
    const qn_env *env;
    qn_source *src;
    const qn_graph *graph;
    qn_recipe *recipe;
    qn_digest model;
    const char *text;
    qn_arena arena;
    qn_team *team;
    struct recon *recon; /* of this block */
    uint64_t n_recon, cap_recon;
    uint64_t *first;     /* per recon: its first piece of work */
    qn_lossy *lossy;     /* while pieces are made */
    struct slot *slots;  /* env's threads */
};

static void forget(qn_sequential *s)
{
    for (uint64_t i = 0; i < s->n_recon; i++)
        qn_mem_put(s->env->alloc, s->recon[i].bytes);
    s->n_recon = 0;
}

static const struct recon *find(const qn_sequential *s, uint64_t object)
{
    for (uint64_t i = 0; i < s->n_recon && object != QN_NO_OBJECT; i++)
        if (s->recon[i].object == object)
            return &s->recon[i];
    return NULL;
}

static qn_code read(void *ctx, const qn_graph *g, uint32_t value, uint64_t first, uint64_t n, void *dst, qn_err *err)
{
    const qn_sequential *s = ctx;
    const qn_value *v = &g->values[value];
    const qn_source_tensor *t = &s->src->tensors[v->tensor];
    const struct recon *r = find(s, t->object);
    if (!r)
        return qn_weight_from_source(s->env, s->src, g, value, first, n, dst, err);
    const uint64_t row = (uint64_t)v->dims[1];
    const uint8_t *from = r->bytes + qn_bytes_of_elems((qn_dtype)t->dtype, first * row);
    double some[256];
    for (uint64_t i = 0; i < n * row; i += 256) {
        const uint64_t m = qn_min_u64(256, n * row - i);
        QN_TRY(qn_widen((qn_dtype)t->dtype, from + qn_bytes_of_elems((qn_dtype)t->dtype, i), m, some, err));
        for (uint64_t k = 0; k < m; k++)
            ((float *)dst)[i + k] = (float)some[k];
    }
    return QN_OK;
}

/* A chunk of a tensor, found by counting. */
static qn_code make_piece(void *ctx, uint64_t piece, unsigned slot, qn_err *err)
{
    qn_sequential *s = ctx;
    struct slot *w = &s->slots[slot];
    uint64_t i = 0;
    while (piece >= s->first[i] + s->recon[i].n_chunks)
        i++;
    const struct recon *r = &s->recon[i];
    const uint64_t chunk = piece - s->first[i], at = chunk * r->chunk_bytes;
    const uint64_t n = qn_min_u64(r->chunk_bytes, s->src->objects[r->object].n_bytes - at);
    unsigned codec;
    size_t n_out;
    qn_arena_reset(&w->scratch);
    w->raw = qn_arena_get(&w->scratch, n, 64, err);
    w->payload = w->raw ? qn_arena_get(&w->scratch, n, 64, err) : NULL;
    if (!w->payload)
        return QN_E_MEMORY;
    QN_TRY(qn_env_check(s->env, err));
    QN_TRY(qn_source_read(s->src, r->object, at, n, w->raw, err));
    QN_TRY(qn_lossy_chunk(s->lossy, r->object, chunk, w->raw, n, r->bytes + at, w->payload, (size_t)n, &codec, &n_out, &w->scratch, err));
    if (!n_out) /* it would be kept as it is */
        memcpy(r->bytes + at, w->raw, n);
    return QN_OK;
}

/* Tensors of the block that are approximated, with room for what they become. */
static qn_code list_block(qn_sequential *s, uint32_t block, qn_err *err)
{
    const qn_graph_block *b = &s->graph->blocks[block];
    for (uint32_t k = b->first_node; k < b->first_node + b->n_nodes; k++)
        for (unsigned j = 0; j < s->graph->nodes[k].n_in; j++) {
            const uint32_t value = s->graph->nodes[k].in[j];
            if (value == QN_NO_VALUE || s->graph->values[value].kind != QN_VALUE_WEIGHT)
                continue;
            const uint64_t object = s->src->tensors[s->graph->values[value].tensor].object;
            if (object == QN_NO_OBJECT || !qn_lossy_has(s->lossy, object) || find(s, object))
                continue;
            struct recon *list = qn_mem_grow(s->env->alloc, s->recon, s->n_recon, &s->cap_recon, s->n_recon + 1, sizeof *list, err);
            if (!list)
                return QN_E_MEMORY;
            s->recon = list;
            const qn_object *o = &s->src->objects[object];
            struct recon *r = &list[s->n_recon];
            *r = (struct recon){.object = object, .chunk_bytes = qn_lossy_chunk_units(s->lossy, object) * qn_unit_bytes((qn_dtype)o->dtype)};
            r->n_chunks = qn_ceil_div(o->n_bytes, r->chunk_bytes);
            if (!(r->bytes = qn_mem_get(s->env->alloc, o->n_bytes, err)))
                return QN_E_MEMORY;
            s->n_recon++;
        }
    return QN_OK;
}

static qn_code make_block(qn_sequential *s, uint32_t block, qn_err *err)
{
    uint64_t n = 0;
    QN_TRY(list_block(s, block, err));
    s->first = qn_mem_get(s->env->alloc, (s->n_recon + 1) * sizeof *s->first, err);
    if (!s->first)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < s->n_recon; i++) {
        s->first[i] = n;
        n += s->recon[i].n_chunks;
    }
    const qn_code rc = qn_team_run(s->team, n, make_piece, s, err);
    qn_mem_put(s->env->alloc, s->first);
    s->first = NULL;
    for (unsigned i = 0; i < s->env->n_threads; i++)
        qn_arena_release(&s->slots[i].scratch);
    return rc;
}

static qn_code on_block(void *ctx, const qn_stats_writer *w, uint32_t block, bool *again, qn_err *err)
{
    qn_sequential *s = ctx;
    qn_stats_file f;
    forget(s);
    if (block + 1 >= s->graph->n_blocks)
        return QN_OK; /* nobody sees what comes out of it */
    QN_TRY(qn_stats_writer_read(w, &f, err));
    for (uint32_t i = 0; i < s->recipe->n_rules; i++)
        s->recipe->rules[i].n_hits = 0;
    const qn_lossy_options o = {.recipe = s->recipe, .stats = &f, .model = &s->model};
    qn_code rc = qn_lossy_open(&s->lossy, s->env, s->src, s->graph, &o, err);
    if (rc == QN_OK)
        rc = make_block(s, block, err);
    qn_lossy_close(s->lossy);
    s->lossy = NULL;
    qn_stats_file_close(&f);
    *again = s->n_recon > 0;
    return rc;
}

static qn_code open_all(qn_sequential *s, qn_err *err)
{
    s->text = qn_recipe_text(s->recipe, true, &s->arena, err);
    s->slots = s->text ? qn_arena_get(&s->arena, s->env->n_threads * sizeof *s->slots, 8, err) : NULL;
    if (!s->slots)
        return QN_E_MEMORY;
    for (unsigned i = 0; i < s->env->n_threads; i++) {
        s->slots[i] = (struct slot){0};
        qn_arena_init(&s->slots[i].scratch, s->env->alloc);
    }
    return qn_team_open(s->env, s->env->n_threads, &s->team, err);
}

qn_code qn_sequential_open(qn_sequential **out, const qn_env *env, qn_source *src, const qn_graph *g, qn_recipe *recipe, const qn_digest *model,
                           qn_err *err)
{
    qn_sequential *s = qn_mem_zeros(env->alloc, 1, sizeof *s, err);
    *out = NULL;
    if (!s)
        return QN_E_MEMORY;
    s->env = env;
    s->src = src;
    s->graph = g;
    s->recipe = recipe;
    s->model = *model;
    qn_arena_init(&s->arena, env->alloc);
    const qn_code rc = open_all(s, err);
    if (rc != QN_OK)
        qn_sequential_close(s);
    else
        *out = s;
    return rc;
}

void qn_sequential_close(qn_sequential *s)
{
    if (!s)
        return;
    forget(s);
    qn_mem_put(s->env->alloc, s->recon);
    for (unsigned i = 0; s->slots && i < s->env->n_threads; i++)
        qn_arena_release(&s->slots[i].scratch);
    qn_team_close(s->team);
    qn_arena_release(&s->arena);
    qn_mem_put(s->env->alloc, s);
}

void qn_sequential_join(qn_sequential *s, qn_calibrate_options *o)
{
    o->read = read;
    o->read_ctx = s;
    o->weights = qn_hash128(s->text, strlen(s->text));
    o->on_block = on_block;
    o->block_ctx = s;
}

const char *qn_sequential_recipe(const qn_sequential *s)
{
    return s->text;
}
