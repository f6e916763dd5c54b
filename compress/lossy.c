/* lossy.c: see lossy.h. Here is what gets which codec, and the report; lossy_layer.c does the work. */
#include "analysis/model_digest.h"
#include "base/err.h"
#include "base/num.h"
#include "compress/lossy_impl.h"
#include "runtime/container.h"
#include "runtime/widths.h"
#include <math.h>
#include <string.h>

static const qn_lossy_layer *find(const qn_lossy *l, uint64_t object)
{
    return l->layer_of[object] ? &l->layers[l->layer_of[object] - 1] : NULL;
}

bool qn_lossy_has(const qn_lossy *l, uint64_t object)
{
    return l->layer_of[object] != 0;
}

uint32_t qn_lossy_chunk_units(const qn_lossy *l, uint64_t object)
{
    const qn_lossy_layer *y = find(l, object);
    return y->chunk_rows * y->cols;
}

/* --- opening ------------------------------------------------------------------------------------------------------- */

/* Layers with the same codec and settings share a quantizer. */
static qn_code get_quantizer(qn_lossy *l, qn_lossy_layer *y, qn_err *err)
{
    for (const qn_lossy_layer *x = y; x-- > l->layers;)
        if (x->q && strcmp(x->codec, y->codec) == 0 && qn_settings_equal(&x->set, &y->set)) {
            y->q = x->q;
            return QN_OK;
        }
    const qn_code rc = qn_quantizer_open(y->codec, &y->set, l->env->cpu, &l->arena, &y->q, err);
    return rc == QN_OK ? QN_OK : qn_err_in_tensor(err, rc, y->name);
}

static qn_code find_readers(const qn_lossy *l, qn_lossy_layer *y, qn_err *err)
{
    uint64_t n = 0;
    if (y->pick.view.turned || y->pick.view.parts > 1)
        return QN_OK;
    QN_TRY(qn_lossy_readers(l, y->object, y->cols, &n, err));
    y->by_readers = n > 0;
    return QN_OK;
}

static qn_code find_statistics(qn_lossy *l, qn_lossy_layer *y, uint32_t part, qn_err *err)
{
    if (y->pick.role == QN_ROLE_EMBEDDING)
        return find_readers(l, y, err);
    if (!l->stats)
        return QN_OK;
    y->item = qn_stats_find(l->stats, y->name, y->pick.view.own_statistics ? part : QN_STATS_NO_EXPERT);
    if (!y->item || l->stats->inputs[y->item->input].n == y->pick.view.cols)
        return QN_OK;
    return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the statistics are of %u columns, the tensor has %u",
                                         l->stats->inputs[y->item->input].n, y->pick.view.cols), y->name);
}

static double weights_of(const qn_object *o)
{
    double n = 1;
    for (unsigned i = 0; i < o->rank; i++)
        n *= (double)o->dims[i];
    return n;
}

/* Of codecs that take any number of bits. */
static void add_bits(const qn_lossy *l, qn_lossy_layer *y)
{
    if (l->more_bits && !y->explicit_bits && strcmp(y->codec, "grid") != 0)
        y->set.bits = fmax(0.3, fmin(8, y->set.bits + l->more_bits[y->object]));
}

static qn_code open_part(qn_lossy *l, qn_lossy_layer *y, uint32_t part, qn_err *err)
{
    qn_lossy_cut(y, part, (qn_dtype)l->src->objects[y->object].dtype);
    QN_TRY(find_statistics(l, y, part, err));
    y->loss = qn_arena_get(&l->arena, y->n_segments * sizeof *y->loss, 8, err);
    y->state = y->loss ? qn_arena_get(&l->arena, y->n_segments, 8, err) : NULL;
    if (!y->state)
        return QN_E_MEMORY;
    memset(y->state, 0, y->n_segments);
    return QN_OK;
}

/* Of all layers that the tensor makes. */
static bool whole_blocks(const qn_lossy_layer *y, qn_dtype t)
{
    qn_lossy_layer part = *y;
    qn_lossy_cut(&part, 0, t);
    return part.cols % y->q->col_multiple == 0 && y->pick.view.cols % y->q->col_multiple == 0;
}

/* *n: its layers, all of them at y. */
static qn_code open_object(qn_lossy *l, qn_lossy_layer *y, uint64_t object, const qn_lossy_pick *pick, double all, uint64_t *n,
                           qn_err *err)
{
    const qn_object *o = &l->src->objects[object];
    *y = (qn_lossy_layer){.object = object, .name = o->name, .pick = *pick};
    *n = 1;
    if (y->pick.kept)
        return QN_OK;
    const qn_recipe_choice choice = qn_recipe_choose(l->r, o->name, pick->role, weights_of(o) / all);
    y->codec = choice.codec;
    y->set = choice.set;
    y->explicit_bits = choice.explicit_bits;
    add_bits(l, y);
    if (strcmp(y->codec, QN_RECIPE_LOSSLESS) == 0) {
        y->pick.kept = "as asked for";
        return QN_OK;
    }
    QN_TRY(get_quantizer(l, y, err));
    if (y->q->col_multiple && !whole_blocks(y, (qn_dtype)o->dtype)) {
        y->pick.kept = "its rows are no whole blocks of the type";
        return QN_OK;
    }
    *n = qn_lossy_parts(&pick->view, (qn_dtype)o->dtype);
    for (uint32_t i = 0; i < *n; i++) {
        y[i] = y[0];
        QN_TRY(open_part(l, &y[i], i, err));
    }
    l->layer_of[object] = (uint32_t)(y - l->layers) + 1;
    return QN_OK;
}

static qn_code open_layers(qn_lossy *l, const qn_graph *g, qn_err *err)
{
    qn_lossy_pick *picks = qn_mem_zeros(l->env->alloc, l->src->n_objects + 1, sizeof *picks, err);
    if (!picks)
        return QN_E_MEMORY;
    double all = 1;
    qn_lossy_pick_all(l->src, g, picks);
    uint64_t most = 0;
    for (uint64_t i = 0; i < l->src->n_objects; i++)
        if (picks[i].role != QN_ROLE_NONE) {
            l->n_rows++;
            all += picks[i].kept ? 0 : weights_of(&l->src->objects[i]);
            most += picks[i].kept ? 1 : qn_lossy_parts(&picks[i].view, (qn_dtype)l->src->objects[i].dtype);
        }
    l->layers = most < UINT32_MAX ? qn_arena_get(&l->arena, (most + 1) * sizeof *l->layers, 8, err) : NULL;
    l->rows = l->layers ? qn_arena_get(&l->arena, (l->n_rows + 1) * sizeof *l->rows, 8, err) : NULL;
    qn_code rc = l->rows ? QN_OK : QN_E_MEMORY;
    uint64_t n = 0, row = 0;
    for (uint64_t i = 0; i < l->src->n_objects && rc == QN_OK; i++)
        if (picks[i].role != QN_ROLE_NONE) {
            uint64_t n_parts;
            l->rows[row++] = (uint32_t)n;
            rc = open_object(l, &l->layers[n], i, &picks[i], all, &n_parts, err);
            n += n_parts;
        }
    l->n_layers = n;
    if (rc != QN_OK)
        l->n_layers = l->n_rows = 0;
    qn_mem_put(l->env->alloc, picks);
    return rc == QN_OK ? qn_recipe_check_hits(l->r, err) : rc;
}

/* Two statistics files with the same content of H give the same digest, wherever they lie. */
static qn_code digest_of_stats(qn_lossy *l, qn_err *err)
{
    const qn_stats_file *f = l->stats;
    qn_hasher h;
    if (!f)
        return QN_OK;
    QN_TRY(qn_hasher_open(&h, err));
    qn_hasher_add(&h, f->meta.model.b, 16);
    qn_hasher_add(&h, f->meta.settings.b, 16);
    for (uint32_t i = 0; i < f->n_inputs; i++) {
        qn_hasher_add(&h, f->inputs[i].vectors_digest.b, 16);
        qn_hasher_add(&h, f->inputs[i].h_digest.b, 16);
    }
    for (uint32_t i = 0; i < f->n_items; i++) {
        double a;
        uint64_t bits;
        uint8_t b[8];
        if (!qn_stats_sensitivity(f, &f->items[i], &a))
            continue;
        memcpy(&bits, &a, sizeof bits);
        qn_store64(b, bits);
        qn_hasher_add(&h, f->items[i].key, strlen(f->items[i].key) + 1);
        qn_hasher_add(&h, b, sizeof b);
    }
    l->statistics = qn_hasher_digest(&h);
    qn_hasher_close(&h);
    return QN_OK;
}

static qn_code check_model(qn_lossy *l, const qn_digest *known, qn_err *err)
{
    char ours[33], theirs[33];
    if (known)
        l->model = *known;
    else
        QN_TRY(qn_model_digest(l->env, l->src, &l->model, err));
    const qn_stats_file *f = l->stats;
    if (!f || qn_digest_equal(&f->meta.model, &l->model))
        return QN_OK;
    qn_digest_hex(&l->model, ours);
    qn_digest_hex(&f->meta.model, theirs);
    if (qn_digest_equal(&f->meta.model, &(qn_digest){{0}}))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "the statistics do not say of which model they are");
    return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "the statistics are of another model: of %s, this one is %s", theirs, ours);
}

static qn_code open_lossy(qn_lossy *l, const qn_graph *g, const qn_lossy_options *opt, qn_err *err)
{
    if (pthread_mutex_init(&l->lock, NULL) != 0)
        return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "cannot make a lock");
    l->has_lock = true;
    if (l->src->n_objects >= UINT32_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "more than 2^32 tensors");
    l->layer_of = qn_arena_get(&l->arena, (l->src->n_objects + 1) * sizeof *l->layer_of, 8, err);
    if (!l->layer_of)
        return QN_E_MEMORY;
    memset(l->layer_of, 0, (l->src->n_objects + 1) * sizeof *l->layer_of);
    l->factors = qn_arena_get(&l->arena, (l->env->n_threads + QN_LOSSY_FACTORS) * sizeof *l->factors, 8, err);
    if (!l->factors)
        return QN_E_MEMORY;
    l->n_factors = l->env->n_threads + QN_LOSSY_FACTORS;
    memset(l->factors, 0, l->n_factors * sizeof *l->factors);
    QN_TRY(check_model(l, opt->model, err));
    QN_TRY(digest_of_stats(l, err));
    l->recipe = qn_recipe_text(l->r, l->stats != NULL, &l->arena, err);
    return l->recipe ? open_layers(l, g, err) : QN_E_MEMORY;
}

qn_code qn_lossy_open(qn_lossy **out, const qn_env *env, qn_source *src, const qn_graph *g, const qn_lossy_options *opt, qn_err *err)
{
    if (src->df11) /* what is approximated takes the place of an object, and these weights are none */
        return qn_err_in_path(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "its weights lie as DFloat11: export it to safetensors first, and approximate that"),
                              qn_source_given(src));
    qn_lossy *l = qn_mem_zeros(env->alloc, 1, sizeof *l, err);
    if (!l)
        return QN_E_MEMORY;
    l->env = env;
    l->src = src;
    l->graph = g;
    l->r = opt->recipe;
    l->stats = opt->stats;
    l->more_bits = opt->more_bits;
    qn_arena_init(&l->arena, env->alloc);
    const qn_code rc = open_lossy(l, g, opt, err);
    if (rc != QN_OK) {
        qn_lossy_close(l);
        l = NULL;
    }
    *out = l;
    return rc;
}

void qn_lossy_close(qn_lossy *l)
{
    if (!l)
        return;
    qn_lossy_layers_close(l);
    if (l->has_lock)
        pthread_mutex_destroy(&l->lock);
    qn_arena_release(&l->arena);
    qn_mem_put(l->env->alloc, l);
}

/* --- telling ------------------------------------------------------------------------------------------------------- */

uint64_t qn_lossy_count(const qn_lossy *l)
{
    return l->n_rows;
}

static double add(double sum, double v)
{
    return isnan(sum) || isnan(v) ? (double)NAN : sum + v;
}

static void add_segments(qn_lossy_row *r, const qn_lossy_layer *y)
{
    for (uint64_t s = 0; s < y->n_segments; s++) {
        r->n_lossless += y->state[s] == 2;
        if (y->state[s] != 1)
            continue;
        const qn_feedback_loss *a = &y->loss[s];
        r->n_done++;
        r->n_fell_back += a->fell_back;
        r->sum.loss += a->loss;
        r->sum.fed = add(r->sum.fed, a->fed);
        r->sum.nearest = add(r->sum.nearest, a->nearest);
        r->sum.energy = add(r->sum.energy, a->energy);
        r->sum.error += a->error;
        r->sum.square += a->square;
    }
    r->n_segments += y->n_segments;
}

/* Of several parts: the fewest rows seen, and of the factor what is worst. */
static void add_part(qn_lossy_row *r, const qn_lossy *l, const qn_lossy_layer *y)
{
    const uint64_t seen = y->item ? l->stats->inputs[y->item->input].count : 0;
    r->seen = r->n_parts == 0 || seen < r->seen ? seen : r->seen;
    r->n_starved += y->item && seen < 2 * (uint64_t)y->pick.view.cols;
    r->leans |= qn_lossy_leans(l, y);
    r->by_readers |= y->by_readers;
    r->kind = y->kind > r->kind ? y->kind : r->kind;
    r->damping = fmax(r->damping, y->damping);
    r->spread = fmax(r->spread, y->spread);
    r->unevenness = fmax(r->unevenness, y->unevenness);
    r->n_dead += y->n_dead;
    r->n_parts++;
    add_segments(r, y);
}

qn_lossy_row qn_lossy_report(const qn_lossy *l, uint64_t i)
{
    const qn_lossy_layer *y = &l->layers[l->rows[i]], *end = &l->layers[i + 1 < l->n_rows ? l->rows[i + 1] : l->n_layers];
    const qn_lossy_view *v = &y->pick.view;
    qn_lossy_row r = {.object = y->object, .name = y->name, .role = y->pick.role, .kept = y->pick.kept, .codec = y->codec, .set = y->set,
                      .explicit_bits = y->explicit_bits};
    if (r.kept)
        return r;
    r.rows = v->rows * v->parts;
    r.cols = v->cols;
    for (; y < end; y++)
        add_part(&r, l, y);
    if (v->turned)
        r.n_parts = 1;
    return r;
}

const char *qn_lossy_recipe(const qn_lossy *l)
{
    return l->recipe;
}

qn_digest qn_lossy_model(const qn_lossy *l)
{
    return l->model;
}

qn_digest qn_lossy_statistics(const qn_lossy *l)
{
    return l->statistics;
}

qn_digest qn_lossy_settings(const qn_lossy *l)
{
    const qn_digest recipe = qn_hash128(l->recipe, strlen(l->recipe));
    uint8_t all[64] = {0};
    memcpy(all, l->model.b, 16);
    memcpy(all + 16, l->statistics.b, 16);
    memcpy(all + 32, recipe.b, 16);
    if (l->more_bits) {
        const qn_digest more = qn_hash128(l->more_bits, l->src->n_objects * sizeof *l->more_bits);
        memcpy(all + 48, more.b, 16);
    }
    return qn_hash128(all, sizeof all);
}

/* H, which is factored in its place, the coefficients of the factors that are kept, and means over experts. */
uint64_t qn_lossy_fixed_memory(const qn_lossy *l)
{
    uint64_t widest = 0, factor = 4 /* bytes of a square's element */, readers = 0;
    bool leans = false;
    for (uint64_t i = 0; i < l->n_layers; i++)
        if (l->layers[i].item || l->layers[i].by_readers) {
            if (l->layers[i].by_readers)
                readers = qn_max_u64(readers, qn_lossy_readers_memory(l->layers[i].cols));
            widest = qn_max_u64(widest, l->layers[i].pick.view.cols);
            factor = l->layers[i].set.sweeps ? 8 : factor;
            leans |= qn_lossy_leans(l, &l->layers[i]);
        }
    return widest * widest * (8 + factor * (QN_LOSSY_FACTORS + l->env->n_threads) + (leans ? 8 * QN_LOSSY_MEANS : 0)) + readers;
}

/* Weights and what is made of them as f32, the engine's own, the codec's state and its payload twice; the transpose and what it decodes to. */
uint64_t qn_lossy_chunk_memory(const qn_lossy *l)
{
    uint64_t most = 0;
    for (uint64_t i = 0; i < l->n_layers; i++) {
        const qn_lossy_layer *y = &l->layers[i];
        const uint64_t n = (uint64_t)y->chunk_rows * y->cols;
        if (!y->pick.kept)
            most = qn_max_u64(most, n * (8 + 16 + (y->pick.view.turned ? 8u : 0u)) + qn_feedback_scratch(n, y->cols, y->set.sweeps > 0));
    }
    return most;
}
