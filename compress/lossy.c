/* lossy.c: see lossy.h. A layer is prepared when its first chunk is asked for and let go after its last; layers with one input
 * (q, k and v) share one factor. Preparing is done under a lock: others wait, as they mostly need the very same. */
#include "compress/lossy.h"
#include "analysis/model_digest.h"
#include "base/err.h"
#include "base/num.h"
#include "runtime/container.h"
#include "runtime/widths.h"
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { SAMPLE_ROWS = 64, FACTORS = 2, RECIPE_MAX = 256 };

/* A factor for an input and a width of groups. */
struct factor {
    uint32_t input, group; /* of the statistics file */
    uint64_t n_users, used;
    qn_ldl ldl;
};

struct layer {
    uint64_t object;
    const char *name;
    qn_lossy_pick pick;
    double bits;
    const qn_quantizer *q;
    uint32_t rows, cols, chunk_rows;
    const qn_stats_item *item; /* NULL: not measured */
    /* while chunks of it are worked on */
    bool ready;
    uint64_t n_left, n_in;   /* chunks that were not asked for yet; being worked on */
    qn_arena arena;
    qn_quant_layer ql;
    const void *plan;
    struct factor *factor;
    /* results */
    uint64_t n_segments;
    qn_feedback_loss *loss; /* by segment */
    uint8_t *state;         /* by segment: 0 not by this run, 1 done, 2 the codec does not fit */
    qn_ldl_kind kind;
    double damping, spread, unevenness;
    uint32_t n_dead;
};

struct qn_lossy {
    const qn_env *env;
    qn_source *src;
    qn_lossy_options opt;
    qn_arena arena;
    qn_digest model, statistics;
    char recipe[RECIPE_MAX];
    uint64_t n_layers;
    struct layer *layers;
    uint32_t *layer_of; /* by object: index + 1 of a layer that is approximated, 0 */
    pthread_mutex_t lock;
    bool has_lock;
    struct factor *factors; /* one for each thread, and FACTORS that are kept when nobody uses them */
    unsigned n_factors;
    uint64_t clock;
};

static const struct layer *find(const qn_lossy *l, uint64_t object)
{
    return l->layer_of[object] ? &l->layers[l->layer_of[object] - 1] : NULL;
}

bool qn_lossy_has(const qn_lossy *l, uint64_t object)
{
    return l->layer_of[object] != 0;
}

uint32_t qn_lossy_chunk_units(const qn_lossy *l, uint64_t object)
{
    const struct layer *y = find(l, object);
    return y->chunk_rows * y->cols;
}

/* --- opening ------------------------------------------------------------------------------------------------------- */

static uint32_t rows_of_segment(const qn_quantizer *q, const qn_object *o)
{
    const uint64_t row_bytes = o->dims[1] * qn_unit_bytes((qn_dtype)o->dtype);
    if (!q->segment_bytes)
        return (uint32_t)(qn_chunk_units((qn_dtype)o->dtype, o->dims, o->rank, o->n_bytes) / o->dims[1]);
    const uint64_t most = qn_min_u64(q->segment_bytes, QN_CHUNK_MAX_BYTES) / row_bytes;
    const uint64_t n = qn_ceil_div(o->dims[0], qn_max_u64(1, most)); /* equally large ones */
    const uint64_t rows = qn_ceil_div(o->dims[0], n), multiple = q->row_multiple;
    if (n == 1 || multiple <= 1 || most < multiple)
        return (uint32_t)rows;
    const uint64_t up = qn_ceil_div(rows, multiple) * multiple;
    return (uint32_t)(up <= most ? up : most / multiple * multiple);
}

static double bits_of(const qn_lossy_options *o, qn_lossy_role role)
{
    const double more = o->set.bits + 2 < 8 ? o->set.bits + 2 : o->set.bits > 8 ? o->set.bits : 8;
    if (role == QN_ROLE_LINEAR)
        return o->set.bits;
    const double asked = role == QN_ROLE_HEAD ? o->head_bits : o->embedding_bits;
    return asked != 0 ? asked : more;
}

static qn_code open_layer(qn_lossy *l, struct layer *y, uint64_t object, const qn_lossy_pick *pick,
                          const qn_quantizer *const by_role[4], qn_err *err)
{
    const qn_object *o = &l->src->objects[object];
    *y = (struct layer){.object = object, .name = o->name, .pick = *pick, .bits = bits_of(&l->opt, pick->role)};
    if (!y->pick.kept && !by_role[pick->role])
        y->pick.kept = "as asked for";
    if (y->pick.kept)
        return QN_OK;
    y->q = by_role[pick->role];
    y->rows = (uint32_t)o->dims[0];
    y->cols = (uint32_t)o->dims[1];
    y->chunk_rows = rows_of_segment(y->q, o);
    y->n_segments = y->n_left = qn_ceil_div(y->rows, y->chunk_rows);
    if (l->opt.stats && pick->role != QN_ROLE_EMBEDDING)
        y->item = qn_stats_find(l->opt.stats, o->name, QN_STATS_NO_EXPERT);
    if (y->item && l->opt.stats->inputs[y->item->input].n != y->cols)
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "the statistics are of %u columns, the tensor has %u",
                                             l->opt.stats->inputs[y->item->input].n, y->cols), o->name);
    y->loss = qn_arena_get(&l->arena, y->n_segments * sizeof *y->loss, 8, err);
    y->state = y->loss ? qn_arena_get(&l->arena, y->n_segments, 8, err) : NULL;
    if (!y->state)
        return QN_E_MEMORY;
    memset(y->state, 0, y->n_segments);
    l->layer_of[object] = (uint32_t)(y - l->layers) + 1;
    return QN_OK;
}

static qn_code open_quantizers(qn_lossy *l, const qn_quantizer *by_role[4], qn_err *err)
{
    by_role[QN_ROLE_NONE] = NULL;
    for (unsigned r = QN_ROLE_LINEAR; r <= QN_ROLE_EMBEDDING; r++) {
        qn_quant_settings set = l->opt.set;
        set.bits = bits_of(&l->opt, (qn_lossy_role)r);
        by_role[r] = NULL;
        const char *codec = l->opt.codec;
        const qn_quantizer_row *row = qn_quantizer_find(codec);
        if (row && ((r == QN_ROLE_HEAD && set.bits > row->head_bits_most) ||
                    (r == QN_ROLE_EMBEDDING && set.bits > row->embedding_bits_most))) {
            codec = "grid";
            set.bits = ceil(set.bits);
        }
        if (set.bits > 0 || r == QN_ROLE_LINEAR)
            QN_TRY(qn_quantizer_open(codec, &set, l->env->cpu, &l->arena, &by_role[r], err));
    }
    return QN_OK;
}

static qn_code open_layers(qn_lossy *l, const qn_graph *g, qn_err *err)
{
    const qn_quantizer *by_role[4];
    QN_TRY(open_quantizers(l, by_role, err));
    qn_lossy_pick *picks = qn_mem_zeros(l->env->alloc, l->src->n_objects + 1, sizeof *picks, err);
    if (!picks)
        return QN_E_MEMORY;
    qn_lossy_pick_all(l->src, g, picks);
    for (uint64_t i = 0; i < l->src->n_objects; i++)
        l->n_layers += picks[i].role != QN_ROLE_NONE;
    l->layers = qn_arena_get(&l->arena, (l->n_layers + 1) * sizeof *l->layers, 8, err);
    qn_code rc = l->layers ? QN_OK : QN_E_MEMORY;
    uint64_t n = 0;
    for (uint64_t i = 0; i < l->src->n_objects && rc == QN_OK; i++)
        if (picks[i].role != QN_ROLE_NONE)
            rc = open_layer(l, &l->layers[n++], i, &picks[i], by_role, err);
    if (rc != QN_OK)
        l->n_layers = 0;
    qn_mem_put(l->env->alloc, picks);
    return rc;
}

/* Only what was asked for. */
static void recipe_number(qn_lossy *l, const char *key, double v)
{
    const size_t n = strlen(l->recipe);
    if (v > 0)
        (void)snprintf(l->recipe + n, sizeof l->recipe - n, "%s%g", key, v);
}

static void write_recipe(qn_lossy *l)
{
    const qn_lossy_options *o = &l->opt;
    char group[32] = "";
    if (strcmp(o->codec, "grid") != 0) /* others have no groups */
        group[0] = 0;
    else if (o->set.group == UINT32_MAX)
        (void)snprintf(group, sizeof group, " group=row");
    else if (o->set.group)
        (void)snprintf(group, sizeof group, " group=%u", o->set.group);
    (void)snprintf(l->recipe, sizeof l->recipe, "%s bits=%g head=%g embedding=%g%s%s%s%s", o->codec, o->set.bits,
                   fmax(0, bits_of(o, QN_ROLE_HEAD)), fmax(0, bits_of(o, QN_ROLE_EMBEDDING)), group,
                   o->set.asymmetric ? " asymmetric" : "", o->order == QN_ORDER_ACT ? " order=act" : " order=natural",
                   o->stats && !o->no_feedback ? " feedback" : "");
    recipe_number(l, " gain=", o->set.gain);
    recipe_number(l, " damping=", o->damping);
    recipe_number(l, " states=", o->set.states);
}

/* Two statistics files with the same content of H give the same digest, wherever they lie. */
static qn_code digest_of_stats(qn_lossy *l, qn_err *err)
{
    const qn_stats_file *f = l->opt.stats;
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
    l->statistics = qn_hasher_digest(&h);
    qn_hasher_close(&h);
    return QN_OK;
}

static qn_code check_model(qn_lossy *l, qn_err *err)
{
    char ours[33], theirs[33];
    QN_TRY(qn_model_digest(l->env, l->src, &l->model, err));
    const qn_stats_file *f = l->opt.stats;
    if (!f || qn_digest_equal(&f->meta.model, &l->model))
        return QN_OK;
    qn_digest_hex(&l->model, ours);
    qn_digest_hex(&f->meta.model, theirs);
    if (qn_digest_equal(&f->meta.model, &(qn_digest){{0}}))
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "the statistics do not say of which model they are");
    return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "the statistics are of another model: of %s, this one is %s", theirs, ours);
}

static qn_code open_lossy(qn_lossy *l, const qn_graph *g, qn_err *err)
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
    l->factors = qn_arena_get(&l->arena, (l->env->n_threads + FACTORS) * sizeof *l->factors, 8, err);
    if (!l->factors)
        return QN_E_MEMORY;
    l->n_factors = l->env->n_threads + FACTORS;
    memset(l->factors, 0, l->n_factors * sizeof *l->factors);
    QN_TRY(check_model(l, err));
    QN_TRY(digest_of_stats(l, err));
    write_recipe(l);
    return open_layers(l, g, err);
}

qn_code qn_lossy_open(qn_lossy **out, const qn_env *env, qn_source *src, const qn_graph *g, const qn_lossy_options *opt, qn_err *err)
{
    qn_lossy *l = qn_mem_zeros(env->alloc, 1, sizeof *l, err);
    if (!l)
        return QN_E_MEMORY;
    l->env = env;
    l->src = src;
    l->opt = *opt;
    qn_arena_init(&l->arena, env->alloc);
    const qn_code rc = open_lossy(l, g, err);
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
    for (uint64_t i = 0; i < l->n_layers; i++)
        if (l->layers[i].ready)
            qn_arena_release(&l->layers[i].arena);
    for (unsigned i = 0; i < l->n_factors; i++)
        qn_ldl_release(&l->factors[i].ldl);
    if (l->has_lock)
        pthread_mutex_destroy(&l->lock);
    qn_arena_release(&l->arena);
    qn_mem_put(l->env->alloc, l);
}

/* --- preparing a layer --------------------------------------------------------------------------------------------- */

static qn_code read_moment(qn_lossy *l, const struct layer *y, double **h, double **diagonal, qn_err *err)
{
    const qn_stats_file *f = l->opt.stats;
    const uint32_t n = y->cols, input = y->item->input;
    const qn_alloc *a = l->env->alloc;
    if ((f->inputs[input].parts & QN_STATS_HAS_H) && !l->opt.no_feedback) {
        *h = qn_mem_get(a, (uint64_t)n * n * sizeof **h, err);
        return *h ? qn_stats_h_read_f64(f, input, *h, n, err) : QN_E_MEMORY;
    }
    qn_stats_vectors v;
    QN_TRY(qn_stats_vectors_read(f, input, &v, err));
    *diagonal = qn_mem_get(a, n * sizeof **diagonal, err);
    if (*diagonal)
        memcpy(*diagonal, v.sum_sq, n * sizeof **diagonal);
    qn_stats_vectors_release(f, &v);
    return *diagonal ? QN_OK : QN_E_MEMORY;
}

/* A place for a factor: an empty one, or the one that was not used for longest when FACTORS are idle. */
static struct factor *place(qn_lossy *l)
{
    unsigned idle = 0;
    struct factor *oldest = NULL, *empty = NULL;
    for (unsigned i = 0; i < l->n_factors; i++) {
        struct factor *f = &l->factors[i];
        if (f->ldl.n == 0) {
            empty = empty ? empty : f;
            continue;
        }
        if (f->n_users)
            continue;
        idle++;
        oldest = !oldest || f->used < oldest->used ? f : oldest;
    }
    if (idle >= FACTORS || !empty) {
        if (oldest)
            qn_ldl_release(&oldest->ldl);
        return oldest;
    }
    return empty;
}

static qn_code get_factor(qn_lossy *l, struct layer *y, qn_err *err)
{
    const uint32_t input = y->item ? y->item->input : UINT32_MAX;
    const uint32_t group = y->q->group_cols && y->q->group_cols < y->cols ? y->q->group_cols : y->cols;
    for (unsigned i = 0; i < l->n_factors; i++) {
        struct factor *f = &l->factors[i];
        if (f->ldl.n == y->cols && f->input == input && f->group == group) {
            y->factor = f;
            f->n_users++;
            return QN_OK;
        }
    }
    struct factor *f = place(l);
    if (!f)
        return QN_BUG(err, "lossy: more than %u layers at a time", l->n_factors);
    double *h = NULL, *diagonal = NULL;
    const qn_ldl_order order = y->q->order_free ? QN_ORDER_NATURAL : l->opt.order;
    qn_code rc = y->item ? read_moment(l, y, &h, &diagonal, err) : QN_OK;
    if (rc == QN_OK)
        rc = qn_ldl_make(&f->ldl, l->env->alloc, y->cols, h, diagonal, group, order, l->opt.damping, err);
    qn_mem_put(l->env->alloc, h);
    qn_mem_put(l->env->alloc, diagonal);
    if (rc != QN_OK)
        return rc;
    f->input = input;
    f->group = group;
    f->n_users = 1;
    y->factor = f;
    return QN_OK;
}

/* src, little-endian units of dtype t → f32 */
static bool widen(qn_dtype t, const uint8_t *src, size_t n, float *dst)
{
    bool finite = true;
    for (size_t i = 0; i < n; i++) {
        const uint32_t u = t == QN_F32 ? qn_load32(src + 4 * i)
                         : t == QN_BF16 ? (uint32_t)qn_load16(src + 2 * i) << 16 : qn_f16_wide(qn_load16(src + 2 * i));
        finite &= (u & 0x7f800000) != 0x7f800000;
        dst[i] = qn_bits_f32(u);
    }
    return finite;
}

static void narrow(qn_dtype t, const float *v, size_t n, uint8_t *dst)
{
    for (size_t i = 0; i < n; i++) {
        const uint32_t u = qn_f32_bits(v[i]);
        if (t == QN_F32)
            qn_store32(dst + 4 * i, u);
        else
            qn_store16(dst + 2 * i, t == QN_BF16 ? qn_bf16_narrow(u) : qn_f16_narrow(u));
    }
}

/* Rows from all over the layer; values that are not finite count as zero. */
static qn_code read_sample(qn_lossy *l, struct layer *y, qn_err *err)
{
    const qn_dtype t = y->ql.dtype;
    const uint32_t n = y->rows < SAMPLE_ROWS ? y->rows : SAMPLE_ROWS;
    const uint64_t row_bytes = (uint64_t)y->cols * qn_unit_bytes(t);
    float *s = qn_arena_get(&y->arena, (uint64_t)n * y->cols * sizeof *s, 64, err);
    uint8_t *raw = s ? qn_arena_get(&y->arena, row_bytes, 64, err) : NULL;
    if (!raw)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t row = (uint64_t)i * y->rows / n;
        QN_TRY(qn_source_read(l->src, y->object, row * row_bytes, row_bytes, raw, err));
        float *to = s + (size_t)i * y->cols;
        if (!widen(t, raw, y->cols, to))
            for (uint32_t c = 0; c < y->cols; c++)
                to[c] = isfinite(to[c]) ? to[c] : 0;
    }
    y->ql.sample = s;
    y->ql.n_sample = n;
    return QN_OK;
}

static qn_code prepare(qn_lossy *l, struct layer *y, qn_err *err)
{
    QN_TRY(get_factor(l, y, err));
    const qn_ldl *d = &y->factor->ldl;
    y->kind = d->kind;
    y->damping = d->damping;
    y->spread = d->spread;
    y->n_dead = d->n_dead;
    y->unevenness = qn_ldl_unevenness(d);
    y->ql = (qn_quant_layer){.name = y->name, .rows = y->rows, .cols = y->cols,
                             .dtype = (qn_dtype)l->src->objects[y->object].dtype, .weight = d->weight, .ldl = d,
                             .segment_rows = y->chunk_rows};
    QN_TRY(read_sample(l, y, err));
    return y->q->ops->begin(y->q, &y->ql, &y->arena, &y->plan, err);
}

static void let_go(qn_lossy *l, struct layer *y)
{
    if (!y->ready)
        return;
    if (y->factor) {
        y->factor->n_users--;
        y->factor->used = ++l->clock;
    }
    y->factor = NULL;
    qn_arena_release(&y->arena);
    y->ready = false;
}

/* Layers that were not asked for all of their chunks: some were done by an earlier run, or a sample is taken. Chunks come in order,
 * or nearly so: a layer that is let go too early is only prepared again. */
static void let_earlier_go(qn_lossy *l, const struct layer *y)
{
    for (struct layer *x = l->layers; x < y; x++)
        if (x->ready && x->n_in == 0)
            let_go(l, x);
}

static qn_code enter(qn_lossy *l, struct layer *y, qn_err *err)
{
    qn_code rc = QN_OK;
    pthread_mutex_lock(&l->lock);
    if (!y->ready) {
        let_earlier_go(l, y);
        qn_arena_init(&y->arena, l->env->alloc);
        y->ready = true;
        rc = prepare(l, y, err);
        if (rc != QN_OK)
            let_go(l, y);
    }
    if (rc == QN_OK) {
        y->n_in++;
        y->n_left -= y->n_left > 0;
    }
    pthread_mutex_unlock(&l->lock);
    return rc;
}

static void leave(qn_lossy *l, struct layer *y)
{
    pthread_mutex_lock(&l->lock);
    if (--y->n_in == 0 && y->n_left == 0)
        let_go(l, y);
    pthread_mutex_unlock(&l->lock);
}

/* --- a chunk ------------------------------------------------------------------------------------------------------- */

static qn_code quantize(qn_lossy *l, struct layer *y, uint64_t chunk, const uint8_t *raw, uint64_t n_bytes, uint8_t *decoded,
                        uint8_t *payload, size_t cap, size_t *n_out, qn_arena *scratch, qn_err *err)
{
    const size_t n = (size_t)(n_bytes / qn_unit_bytes(y->ql.dtype));
    float *w = qn_arena_get(scratch, n * sizeof *w, 64, err);
    float *recon = w ? qn_arena_get(scratch, n * sizeof *recon, 64, err) : NULL;
    *n_out = 0;
    (void)l;
    if (!recon)
        return QN_E_MEMORY;
    y->state[chunk] = 2;
    if (!widen(y->ql.dtype, raw, n, w))
        return QN_OK;
    const qn_feedback_job job = {.q = y->q, .layer = &y->ql, .plan = y->plan, .ldl = &y->factor->ldl,
                                 .row0 = (uint32_t)(chunk * y->chunk_rows), .rows = (uint32_t)(n / y->cols), .w = w,
                                 .compare = !y->q->costly, .want_energy = true};
    QN_TRY(qn_feedback_segment(&job, recon, payload, cap, n_out, &y->loss[chunk], scratch, err));
    if (*n_out) {
        narrow(y->ql.dtype, recon, n, decoded);
        y->state[chunk] = 1;
    }
    return QN_OK;
}

qn_code qn_lossy_chunk(qn_lossy *l, uint64_t object, uint64_t chunk, const uint8_t *raw, uint64_t n_bytes, uint8_t *decoded,
                       uint8_t *payload, size_t cap, unsigned *codec, size_t *n_out, qn_arena *scratch, qn_err *err)
{
    struct layer *y = &l->layers[l->layer_of[object] - 1];
    const qn_arena_mark mark = qn_arena_tell(scratch);
    *codec = y->q->codec;
    QN_TRY(enter(l, y, err));
    const qn_code rc = quantize(l, y, chunk, raw, n_bytes, decoded, payload, cap, n_out, scratch, err);
    leave(l, y);
    qn_arena_rewind(scratch, mark);
    return rc;
}

/* --- telling ------------------------------------------------------------------------------------------------------- */

uint64_t qn_lossy_count(const qn_lossy *l)
{
    return l->n_layers;
}

static double add(double sum, double v)
{
    return isnan(sum) || isnan(v) ? (double)NAN : sum + v;
}

qn_lossy_row qn_lossy_report(const qn_lossy *l, uint64_t i)
{
    const struct layer *y = &l->layers[i];
    qn_lossy_row r = {.object = y->object, .name = y->name, .role = y->pick.role, .kept = y->pick.kept, .bits = y->bits,
                      .rows = y->rows, .cols = y->cols, .kind = y->kind, .damping = y->damping, .spread = y->spread,
                      .unevenness = y->unevenness, .n_dead = y->n_dead, .n_segments = y->n_segments};
    if (y->item)
        r.seen = l->opt.stats->inputs[y->item->input].count;
    for (uint64_t s = 0; s < y->n_segments; s++) {
        r.n_lossless += y->state[s] == 2;
        if (y->state[s] != 1)
            continue;
        const qn_feedback_loss *a = &y->loss[s];
        r.n_done++;
        r.n_fell_back += a->fell_back;
        r.sum.loss += a->loss;
        r.sum.fed = add(r.sum.fed, a->fed);
        r.sum.nearest = add(r.sum.nearest, a->nearest);
        r.sum.energy = add(r.sum.energy, a->energy);
        r.sum.error += a->error;
        r.sum.square += a->square;
    }
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
    uint8_t all[RECIPE_MAX + 32] = {0};
    memcpy(all, l->model.b, 16);
    memcpy(all + 16, l->statistics.b, 16);
    memcpy(all + 32, l->recipe, strlen(l->recipe));
    return qn_hash128(all, sizeof all);
}

/* H, the matrix it is factored in, and the coefficients of the factors that are kept. */
uint64_t qn_lossy_fixed_memory(const qn_lossy *l)
{
    uint64_t widest = 0;
    for (uint64_t i = 0; i < l->n_layers; i++)
        if (l->layers[i].item)
            widest = qn_max_u64(widest, l->layers[i].cols);
    return widest * widest * (16 + 4 * (FACTORS + l->env->n_threads));
}

/* Weights and what is made of them as f32, the engine's own, the codec's state and its payload twice. */
uint64_t qn_lossy_chunk_memory(const qn_lossy *l)
{
    uint64_t most = 0;
    for (uint64_t i = 0; i < l->n_layers; i++) {
        const struct layer *y = &l->layers[i];
        const uint64_t n = (uint64_t)y->chunk_rows * y->cols;
        if (!y->pick.kept)
            most = qn_max_u64(most, n * (8 + 16) + qn_feedback_scratch(n, y->cols));
    }
    return most;
}
