/* modules.c: the linear layers of a model, what each is to be, and whether the codes that a .quern has will do. See quantized.h. */
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "compress/export/quantized.h"
#include "formats/hf/config.h"
#include "formats/json/write.h"
#include <stdio.h>
#include <string.h>

enum { GROUP_MIN = 16 };

bool qn_scheme_equal(const qn_scheme *a, const qn_scheme *b)
{
    return a->bits == b->bits && a->group == b->group && a->asymmetric == b->asymmetric;
}

/* --- the list -------------------------------------------------------------------------------------------------------- */

static const char tail[] = ".weight";

/* Why a tensor that a linear layer multiplies with is no module; NULL when it is. */
static const char *no_module(const qn_source_tensor *t, const qn_lossy_pick *p)
{
    if (p->kept)
        return p->kept;
    if (t->rank != 2 || p->view.turned || p->view.parts != 1 || !qn_text_ends(t->name, tail))
        return "not the weight of a linear module, out by in";
    return NULL;
}

static qn_code add_module(qn_quantized *q, uint64_t tensor, const qn_lossy_pick *p, qn_err *err)
{
    const qn_source_tensor *t = &q->job->src->tensors[tensor];
    qn_module *m = &q->m[q->n++];
    const bool named = qn_text_ends(t->name, tail);
    *m = (qn_module){.tensor = tensor, .role = p->role, .dtype = (qn_dtype)t->dtype, .why = no_module(t, p)};
    m->name = qn_arena_str(q->job->arena, t->name, strlen(t->name) - (named ? strlen(tail) : 0), err);
    if (p->tied)
        m->why = "the embedding too";
    if (!m->why) {
        m->rows = p->view.rows;
        m->cols = p->view.cols;
    }
    return m->name ? QN_OK : QN_E_MEMORY;
}

static qn_code list(qn_quantized *q, qn_err *err)
{
    qn_source *s = q->job->src;
    const qn_env *env = q->job->env;
    qn_lossy_pick *picks = qn_mem_zeros(env->alloc, s->n_objects + 1, sizeof *picks, err);
    if (!picks)
        return QN_E_MEMORY;
    qn_lossy_pick_all(s, q->job->graph, picks);
    q->m = qn_arena_get(q->job->arena, (s->n_tensors + 1) * sizeof *q->m, 16, err);
    qn_code rc = q->m ? QN_OK : QN_E_MEMORY;
    for (uint64_t i = 0; i < s->n_tensors && rc == QN_OK; i++) {
        const uint64_t o = s->tensors[i].object;
        if (o != QN_NO_OBJECT && (picks[o].role == QN_ROLE_LINEAR || picks[o].role == QN_ROLE_HEAD))
            rc = add_module(q, i, &picks[o], err);
    }
    qn_mem_put(env->alloc, picks);
    return rc;
}

/* --- what each is to be ------------------------------------------------------------------------------------------------ */

/* One group is the whole row; where the model has one width of groups it is that. */
static uint32_t group_of(const qn_quantized *q, const qn_module *m, uint32_t group)
{
    return group < m->cols || q->format->kind == QN_CODES_BLOCKS ? group : q->format->one_group ? m->cols : UINT32_MAX;
}

/* Fewer columns for a scale where that many do not divide the row: half of them, and so on; then the row. False: nothing will do. */
static bool choose(const qn_quantized *q, qn_module *m)
{
    qn_scheme s = q->want;
    const char *why = q->format->refuses(m, &s);
    if (!why) {
        s.group = q->format->one_group ? s.group : group_of(q, m, s.group);
        m->scheme = s;
        return true;
    }
    m->why = why;
    if (q->format->one_group || s.group == UINT32_MAX)
        return false;
    for (s.group /= 2; s.group >= GROUP_MIN; s.group /= 2)
        if (!q->format->refuses(m, &s)) {
            s.group = group_of(q, m, s.group);
            m->scheme = s;
            return true;
        }
    s.group = UINT32_MAX;
    m->scheme = s;
    return !q->format->refuses(m, &s);
}

/* The widest groups, at most as wide as wanted, that no fewer modules can have than narrower ones. */
static void choose_one_group(qn_quantized *q)
{
    uint64_t best = 0;
    const uint32_t wanted = q->want.group;
    for (uint32_t g = wanted; g >= GROUP_MIN; g = g == UINT32_MAX ? 0 : g / 2) {
        uint64_t n = 0;
        qn_scheme s = q->want;
        s.group = g;
        for (uint64_t i = 0; i < q->n; i++)
            n += q->m[i].role == QN_ROLE_LINEAR && !q->m[i].why && !q->format->refuses(&q->m[i], &s);
        if (n > best) {
            best = n;
            q->want.group = g;
        }
    }
}

static qn_code choose_all(qn_quantized *q, qn_err *err)
{
    uint64_t n = 0, linear = 0;
    const char *why = NULL;
    if (q->format->one_group && !q->asked.group)
        choose_one_group(q);
    for (uint64_t i = 0; i < q->n; i++) {
        qn_module *m = &q->m[i];
        if (m->role == QN_ROLE_HEAD && !m->why)
            m->why = "the output layer stays dense";
        if (m->why)
            continue;
        linear++;
        m->quantized = choose(q, m);
        n += m->quantized;
        why = m->quantized ? why : m->why;
    }
    if (!linear)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%s: the model has no linear layers whose weights are stored out by in", q->format->name);
    return n ? QN_OK : QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%s: no linear layer can be written so: %s", q->format->name, why);
}

qn_code qn_quantized_open(qn_quantized *q, qn_export_job *j, const qn_quantized_format *f, const qn_scheme *want, bool bits_given, qn_err *err)
{
    const qn_export_wish *w = j->wish;
    *q = (qn_quantized){.job = j, .format = f, .want = *want};
    if (!j->graph)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%s: which layers are linear is not known for this model", f->name);
    if (!qn_config_exists(j->src))
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%s: only for model folders with a config.json", f->name);
    if (w->bits > 0) {
        if (bits_given || f->codec)
            return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s: the variant says how many bits", f->name);
        q->want.bits = w->bits < 100 ? (unsigned)w->bits : 100;
        if ((double)q->want.bits != w->bits)
            return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s: %g bits: only whole numbers", f->name, w->bits);
    }
    q->asked.bits = bits_given || w->bits > 0 ? q->want.bits : 0;
    q->asked.group = w->group;
    q->want.group = w->group ? w->group : want->group;
    if (w->asymmetric && f->codec)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s: %s has no zero points", f->name, f->codec);
    q->want.asymmetric = w->asymmetric ? w->asymmetric > 0 : want->asymmetric;
    QN_TRY(list(q, err));
    return choose_all(q, err);
}

qn_code qn_quantized_open_bits(qn_quantized *q, qn_export_job *j, const qn_quantized_format *f, qn_err *err)
{
    qn_scheme want = {.bits = 4, .group = f->group};
    bool given = false;
    char known[64] = "";
    size_t at = 0;
    for (unsigned i = 0; i < f->n_bits; i++) {
        char name[8];
        snprintf(name, sizeof name, "int%u", f->bits[i]);
        if (strcmp(j->variant, name) == 0) {
            want.bits = f->bits[i];
            given = true;
        }
        at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", !i ? "" : i + 1 < f->n_bits ? ", " : " and ", name);
    }
    if (*j->variant && !given)
        return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "%s: no variant '%.40s': allowed: %s", f->name, j->variant, known);
    want.asymmetric = want.bits <= f->zeros_to;
    return qn_quantized_open(q, j, f, &want, given, err);
}

/* --- the plan ---------------------------------------------------------------------------------------------------------- */

static const char *say(qn_export_job *j, const qn_quantized_format *f, const qn_scheme *s, qn_err *err)
{
    char text[80], group[24] = "row";
    if (s->group != UINT32_MAX)
        (void)snprintf(group, sizeof group, "group %u", s->group);
    if (f->kind == QN_CODES_BLOCKS)
        (void)snprintf(text, sizeof text, "%s", f->codec);
    else if (f->codec)
        (void)snprintf(text, sizeof text, "%s %s", f->codec, group);
    else
        (void)snprintf(text, sizeof text, "int%u %s%s", s->bits, group, s->asymmetric ? ", zero points" : "");
    return qn_arena_str(j->arena, text, strlen(text), err);
}

static uint64_t bytes_of_parts(const qn_quantized_format *f, const qn_module *m)
{
    qn_module_part parts[QN_MODULE_PARTS];
    uint64_t total = 0;
    const unsigned n = f->parts(m, parts);
    for (unsigned i = 0; i < n; i++) {
        uint64_t elems, bytes;
        if (qn_shape_bytes(parts[i].dtype, parts[i].dims, parts[i].rank, &elems, &bytes))
            total += bytes;
    }
    return total;
}

/* A row of the report for every tensor of the source; of linear layers with what was asked for. solved: they are quantized anew. */
static qn_code report(qn_quantized *q, bool solved, qn_err *err)
{
    qn_export_job *j = q->job;
    const char *asked = say(j, q->format, &q->want, err);
    uint64_t k = 0;
    if (!asked)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < j->src->n_tensors; i++) {
        const qn_source_tensor *t = &j->src->tensors[i];
        const qn_module *m = k < q->n && q->m[k].tensor == i ? &q->m[k++] : NULL;
        /* the solve is closed before the report is printed: names are kept */
        const char *name = qn_arena_str(j->arena, t->name, strlen(t->name), err);
        if (!name)
            return QN_E_MEMORY;
        qn_export_row row = {.name = name, .n_weights = qn_elems_of_bytes((qn_dtype)t->dtype, t->n_bytes), .n_bytes = t->n_bytes};
        row.given = row.asked = qn_dtype_name((qn_dtype)t->dtype);
        if (m) {
            row.asked = m->role == QN_ROLE_HEAD && !m->quantized ? row.given : asked;
            row.why = m->why;
            if (m->quantized && !(row.given = say(j, q->format, &m->scheme, err)))
                return QN_E_MEMORY;
            const uint64_t was = m->quantized && solved ? qn_source_tensor_find(j->input, t->name) : UINT64_MAX;
            row.rounded_again = was != UINT64_MAX && qn_codes_approximated(j->input, was);
            if (m->quantized)
                row.n_bytes = bytes_of_parts(q->format, m);
            if (strcmp(row.asked, row.given) == 0)
                row.why = NULL;
        }
        QN_TRY(qn_export_note(j, &row, err));
    }
    return QN_OK;
}

static qn_dtype type_of(const qn_quantized *q)
{
    for (uint64_t i = 0; i < q->n; i++)
        if (q->m[i].quantized)
            return q->m[i].dtype;
    return QN_F32;
}

qn_code qn_quantized_plan(qn_quantized *q, qn_recipe *r, qn_err *err)
{
    const qn_recipe_part lossless = {.codec = QN_RECIPE_LOSSLESS};
    const qn_source *s = q->job->src;
    r->all = (qn_recipe_part){.codec = q->format->codec ? q->format->codec : "grid"};
    if (q->format->kind != QN_CODES_BLOCKS)
        r->all.set.group = q->want.group;
    if (!q->format->codec) {
        r->all.set.bits = q->want.bits;
        r->all.set.asymmetric = q->want.asymmetric;
        r->all.set.packed = r->all.set.keepzero = true;
        r->all.set.scalebits = q->format->scale_bits ? q->format->scale_bits(type_of(q), &q->want) : 8;
    }
    r->role[QN_ROLE_HEAD] = r->role[QN_ROLE_EMBEDDING] = lossless;
    for (uint64_t i = 0; i < q->n; i++) {
        const qn_module *m = &q->m[i];
        const char *name = s->tensors[m->tensor].name;
        /* what cannot be approximated at all needs no rule, and a head has one */
        if (!m->quantized && m->role == QN_ROLE_LINEAR && m->rows)
            QN_TRY(qn_recipe_add(r, name, &lossless, q->job->arena, err));
        else if (m->quantized && m->scheme.group != q->want.group)
            QN_TRY(qn_recipe_add(r, name, &(qn_recipe_part){.set = {.group = m->scheme.group}}, q->job->arena, err));
    }
    return report(q, true, err);
}

/* --- what is there ------------------------------------------------------------------------------------------------------- */

/* What its codes are, as a scheme; or why the format cannot hold them. */
static const char *scheme_of(const qn_quantized *q, const qn_module *m, qn_scheme *s)
{
    const qn_codes *c = &m->codes;
    if (c->kind != q->format->kind || c->turned || c->parts != 1 || (c->kind == QN_CODES_BLOCKS && c->block != q->format->block))
        return q->format->codec ? "other codes than the format's" : "not integers in groups of a row";
    if (c->kind == QN_CODES_BLOCKS) {
        *s = q->want;
        return q->format->refuses(m, s);
    }
    if (!q->format->codec && c->zero == QN_ZERO_MIDDLE)
        return "zero is no level of its grid (see 'keepzero')";
    *s = (qn_scheme){.bits = c->bits, .group = group_of(q, m, c->group), .asymmetric = c->zero == QN_ZERO_STORED};
    return q->format->refuses(m, s);
}

static qn_code scales_fit(const qn_quantized *q, const qn_module *m, bool *fit, qn_arena *scratch, qn_err *err)
{
    const uint32_t groups = qn_codes_groups(&m->codes);
    const uint64_t n = (uint64_t)m->rows * groups;
    const qn_arena_mark mark = qn_arena_tell(scratch);
    float *scales = qn_arena_get(scratch, n * sizeof *scales, 64, err), *zeros = scales ? qn_arena_get(scratch, n * sizeof *zeros, 64, err) : NULL;
    if (!zeros)
        return QN_E_MEMORY;
    QN_TRY(qn_codes_grid(&m->codes, 0, m->rows, NULL, scales, zeros, scratch, err));
    *fit = true;
    for (uint64_t i = 0; i < n; i++)
        *fit = *fit && q->format->holds_scale(m, scales[i], zeros[i]);
    qn_arena_rewind(scratch, mark);
    return QN_OK;
}

/* *why: NULL when it can be written as it is, or when there is nothing to write. m->quantized and its scheme follow. */
static qn_code look_at(qn_quantized *q, qn_module *m, const char **why, qn_arena *scratch, qn_err *err)
{
    bool fit = true;
    *why = NULL;
    m->quantized = false;
    if (!m->rows)
        return QN_OK;
    QN_TRY(qn_codes_open(&m->codes, q->job->src, m->tensor, scratch, err));
    if (!m->codes.codec)
        return QN_OK;
    *why = scheme_of(q, m, &m->scheme);
    if (!*why && m->codes.kind != QN_CODES_BLOCKS) {
        QN_TRY(scales_fit(q, m, &fit, scratch, err));
        *why = fit ? NULL : "a scale or zero point is not one that the format can hold";
    }
    m->quantized = !*why;
    return QN_OK;
}

/* Layers that runtimes join into one must be of one scheme: their names differ in the last word only. */
static const qn_module *other_of_fused(const qn_quantized *q, const qn_module *m)
{
    static const char *const sets[][3] = {{"q_proj", "k_proj", "v_proj"}, {"gate_proj", "up_proj", NULL}, {"w1", "w3", NULL}};
    const char *dot = strrchr(m->name, '.');
    if (!dot)
        return NULL;
    for (unsigned k = 0; k < sizeof sets / sizeof sets[0]; k++)
        if (strcmp(dot + 1, sets[k][0]) == 0)
            for (uint64_t i = 0; i < q->n; i++) {
                const qn_module *o = &q->m[i];
                const char *at = strrchr(o->name, '.');
                if (o == m || !at || at - o->name != dot - m->name || strncmp(o->name, m->name, (size_t)(dot - m->name)) != 0)
                    continue;
                const bool in = strcmp(at + 1, sets[k][1]) == 0 || (sets[k][2] && strcmp(at + 1, sets[k][2]) == 0);
                if (in && (o->quantized != m->quantized || (m->quantized && !qn_scheme_equal(&o->scheme, &m->scheme))))
                    return o;
            }
    return NULL;
}

static bool as_asked(const qn_quantized *q, const qn_module *m)
{
    const qn_scheme *a = &q->asked, *s = &m->scheme;
    return (!a->bits || a->bits == s->bits) && (!a->group || a->group == s->group || group_of(q, m, a->group) == s->group) &&
           (!q->job->wish->asymmetric || (q->job->wish->asymmetric > 0) == s->asymmetric);
}

qn_code qn_quantized_holds(qn_quantized *q, bool *yes, qn_err *err)
{
    qn_arena scratch;
    qn_code rc = QN_OK;
    uint64_t n = 0;
    const qn_scheme *first = NULL;
    *yes = true;
    qn_arena_init(&scratch, q->job->env->alloc);
    for (uint64_t i = 0; i < q->n && *yes && rc == QN_OK; i++) {
        qn_module *m = &q->m[i];
        const char *why;
        rc = look_at(q, m, &why, &scratch, err);
        if (rc != QN_OK)
            break;
        if (m->role == QN_ROLE_LINEAR && m->codes.codec)
            *yes = m->quantized && as_asked(q, m) && (!q->format->one_group || !first || qn_scheme_equal(first, &m->scheme));
        first = m->quantized && !first ? &m->scheme : first;
        n += m->quantized;
    }
    for (uint64_t i = 0; i < q->n && *yes && rc == QN_OK; i++)
        *yes = !other_of_fused(q, &q->m[i]);
    *yes = *yes && n > 0;
    qn_arena_release(&scratch);
    return rc;
}

static qn_code refuse(const qn_quantized *q, const qn_module *m, const char *why, qn_err *err)
{
    return qn_err_in_tensor(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%s cannot hold what the codec %s made of it: %s", q->format->name,
                                         m->codes.codec, why), q->job->src->tensors[m->tensor].name);
}

static qn_code look_all(qn_quantized *q, qn_arena *scratch, qn_err *err)
{
    uint64_t n = 0;
    const qn_module *first = NULL;
    for (uint64_t i = 0; i < q->n; i++) {
        qn_module *m = &q->m[i];
        const char *why, *planned = m->quantized ? m->why : NULL;
        QN_TRY(look_at(q, m, &why, scratch, err));
        if (why && m->role == QN_ROLE_LINEAR)
            return refuse(q, m, why, err);
        if (q->format->one_group && first && m->quantized && !qn_scheme_equal(&first->scheme, &m->scheme)) {
            if (m->role == QN_ROLE_LINEAR)
                return refuse(q, m, "all layers must have the same bits and groups", err);
            m->quantized = false;
        }
        first = m->quantized && !first ? m : first;
        n += m->quantized;
        m->why = m->quantized ? planned : m->why ? m->why : "not quantized by the recipe";
    }
    for (uint64_t i = 0; i < q->n; i++) {
        const qn_module *o = other_of_fused(q, &q->m[i]);
        if (o)
            qn_export_say(q->job, "%s and %s are not stored alike: vLLM joins such layers, and does not load the model", q->m[i].name, o->name);
    }
    return n ? QN_OK : QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%s: no layer is quantized", q->format->name);
}

qn_code qn_quantized_look(qn_quantized *q, qn_err *err)
{
    qn_arena scratch;
    qn_arena_init(&scratch, q->job->env->alloc);
    qn_code rc = look_all(q, &scratch, err);
    qn_arena_release(&scratch);
    return rc == QN_OK ? report(q, q->job->src != q->job->input, err) : rc;
}

unsigned qn_quantized_schemes(const qn_quantized *q, qn_scheme *out, unsigned cap)
{
    uint64_t count[64] = {0};
    unsigned n = 0;
    cap = cap < 64 ? cap : 64;
    for (uint64_t i = 0; i < q->n; i++) {
        unsigned k = 0;
        if (!q->m[i].quantized)
            continue;
        while (k < n && !qn_scheme_equal(&out[k], &q->m[i].scheme))
            k++;
        if (k == cap)
            continue;
        if (k == n)
            out[n++] = q->m[i].scheme;
        count[k]++;
    }
    for (unsigned k = 1; k < n; k++)
        if (count[k] > count[0]) {
            const qn_scheme s = out[0];
            const uint64_t c = count[0];
            out[0] = out[k];
            count[0] = count[k];
            out[k] = s;
            count[k] = c;
        }
    return n;
}

const qn_module *qn_quantized_find(const qn_quantized *q, uint64_t tensor)
{
    uint64_t lo = 0, hi = q->n; /* they are in the order of tensors */
    while (lo < hi) {
        const uint64_t mid = lo + (hi - lo) / 2;
        if (q->m[mid].tensor < tensor)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < q->n && q->m[lo].tensor == tensor && q->m[lo].quantized ? &q->m[lo] : NULL;
}

void qn_quantized_dense_list(const qn_quantized *q, qn_textbuf *out)
{
    const qn_source *s = q->job->src;
    bool head = false, any = false;
    qn_textbuf_puts(out, "[");
    for (uint64_t i = 0; i < s->n_tensors; i++) {
        const qn_source_tensor *t = &s->tensors[i];
        char name[1024];
        const size_t n = strlen(t->name) - strlen(tail);
        if (t->rank != 2 || !qn_text_ends(t->name, tail) || n >= sizeof name || qn_quantized_find(q, i) || strstr(t->name, "embed"))
            continue;
        memcpy(name, t->name, n);
        name[n] = '\0';
        head = head || strcmp(name, "lm_head") == 0;
        qn_textbuf_puts(out, any ? ", " : "");
        qn_json_string(out, name);
        any = true;
    }
    if (!head) {
        qn_textbuf_puts(out, any ? ", " : "");
        qn_json_string(out, "lm_head");
    }
    qn_textbuf_puts(out, "]");
}
