/* imatrix_import.c: importance matrices → statistics; see imatrix.h. The GGUF form, and what both forms share. */
#include "analysis/stats/imatrix_impl.h"
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "formats/gguf/gguf.h"
#include "formats/gguf/names.h"
#include "formats/source.h"
#include <math.h>
#include <stdio.h>

enum { DATASETS_MAX = 1 << 16 };

bool qn_imatrix_is_moe(const char *name)
{
    return strstr(name, "_exps.") != NULL;
}

/* One expert's columns → one input. */
static qn_code take_one(qn_imatrix_in *in, const char *name, uint32_t expert, uint64_t n, const float *values, uint64_t count,
                        double *sums, qn_err *err)
{
    char hf[QN_GGUF_NAME_CAP];
    bool any = false;
    for (uint64_t i = 0; i < n; i++) {
        sums[i] = (double)values[i];
        if (!isfinite(values[i]) || values[i] < 0)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "value %llu is %s: sums of squares are finite and not negative",
                           (unsigned long long)i, isnan(values[i]) ? "NaN" : values[i] < 0 ? "negative" : "infinite");
        any = any || values[i] > 0;
    }
    if (any && count == 0)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "has sums, but a count of 0");
    in->facts->n_unseen += count == 0;
    if (!in->opt->keep_names) {
        if (qn_gguf_name_to_hf(in->opt->arch, name, expert == QN_STATS_NO_EXPERT ? QN_GGUF_NO_EXPERT : expert, hf)) {
            name = hf;
            expert = QN_STATS_NO_EXPERT; /* it is in the name */
        } else {
            in->facts->n_untranslated++;
        }
    }
    const qn_stats_name one = {.name = name};
    const qn_stats_input input = {.n = (uint32_t)n, .expert = expert, .n_names = 1, .names = &one, .count = count};
    return in->w ? qn_stats_writer_add(in->w, &input, &(qn_stats_data){.sum_sq = sums}, err) : QN_OK;
}

qn_code qn_imatrix_take(qn_imatrix_in *in, const char *name, bool is_moe, uint64_t n_experts, uint64_t n, const float *values,
                        const uint64_t *counts, qn_err *err)
{
    if (n == 0 || n > QN_STATS_COLUMNS_MAX)
        return qn_err_in_tensor(err, QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%llu columns: 1 to 2^24 are allowed",
                                             (unsigned long long)n), name);
    double *sums = qn_mem_get(in->env->alloc, 8 * n, err);
    if (!sums)
        return QN_E_MEMORY;
    qn_code rc = QN_OK;
    for (uint64_t e = 0; e < n_experts && rc == QN_OK; e++)
        rc = take_one(in, name, is_moe ? (uint32_t)e : QN_STATS_NO_EXPERT, n, values + e * n, counts[e], sums, err);
    qn_mem_put(in->env->alloc, sums);
    in->facts->n_entries++;
    in->facts->n_experts += is_moe;
    return qn_err_in_tensor(err, rc, name);
}

/* ---- GGUF ---- */

static qn_code read_f32s(qn_source *s, uint64_t tensor, uint64_t n, float *v, qn_err *err)
{
    QN_TRY(qn_source_tensor_read(s, tensor, 0, 4 * n, v, err));
    for (uint64_t i = 0; i < n; i++)
        v[i] = qn_bits_f32(qn_load32(&v[i]));
    return QN_OK;
}

static uint64_t elems(const qn_source_tensor *t)
{
    return t->dtype == QN_F32 ? t->n_bytes / 4 : 0;
}

static qn_code take_counts(const float *f, uint64_t n, uint64_t *counts, qn_err *err)
{
    for (uint64_t i = 0; i < n; i++) {
        if (!(f[i] >= 0 && f[i] <= 0x1p53f))
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "count %llu is no number of rows", (unsigned long long)i);
        counts[i] = (uint64_t)llrintf(f[i]);
        if (f[i] > 0 && counts[i] == 0)
            counts[i] = 1;
    }
    return QN_OK;
}

static qn_code gguf_entry(qn_imatrix_in *in, qn_source *s, uint64_t tensor, const char *name, uint64_t counts_at, qn_err *err)
{
    const qn_source_tensor *t = &s->tensors[tensor], *c = &s->tensors[counts_at];
    const uint64_t total = elems(t), n_experts = elems(c);
    const uint64_t n = t->rank ? t->dims[t->rank - 1] : 0;
    if (t->dtype != QN_F32 || c->dtype != QN_F32 || n == 0 || n_experts == 0 || total / n != n_experts || total % n)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%llu sums in rows of %llu and %llu counts: a count a row, in F32, is "
                       "allowed", (unsigned long long)total, (unsigned long long)n, (unsigned long long)n_experts);
    if (n_experts > QN_STATS_EXPERT_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%llu experts: below 2^24 are allowed", (unsigned long long)n_experts);
    float *v = qn_mem_get(in->env->alloc, 4 * total, err), *f = qn_mem_get(in->env->alloc, 4 * n_experts, err);
    uint64_t *counts = qn_mem_get(in->env->alloc, n_experts * sizeof *counts, err);
    qn_code rc = v && f && counts ? read_f32s(s, tensor, total, v, err) : QN_E_MEMORY;
    if (rc == QN_OK)
        rc = read_f32s(s, counts_at, n_experts, f, err);
    if (rc == QN_OK)
        rc = take_counts(f, n_experts, counts, err);
    if (rc == QN_OK)
        rc = qn_imatrix_take(in, name, n_experts > 1 || qn_imatrix_is_moe(name), n_experts, n, v, counts, err);
    qn_mem_put(in->env->alloc, counts);
    qn_mem_put(in->env->alloc, f);
    qn_mem_put(in->env->alloc, v);
    return rc;
}

/* "NAME.in_sum2" → NAME in the arena; NULL when it does not end so. */
static char *stem(qn_arena *ar, const char *name, const char *suffix, qn_err *err)
{
    const size_t n = strlen(name), k = strlen(suffix);
    return n > k && strcmp(name + n - k, suffix) == 0 ? qn_arena_str(ar, name, n - k, err) : NULL;
}

static qn_code gguf_entries(qn_imatrix_in *in, qn_source *s, qn_arena *ar, qn_err *err)
{
    for (uint64_t i = 0; i < s->n_tensors; i++) {
        char counts[4200];
        const qn_arena_mark m = qn_arena_tell(ar);
        qn_err why;
        qn_err_clear(&why);
        const char *name = stem(ar, s->tensors[i].name, ".in_sum2", &why);
        if (!name && why.code != QN_OK)
            return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "out of memory");
        if (!name && !stem(ar, s->tensors[i].name, ".counts", NULL))
            return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "an importance matrix holds NAME.in_sum2 and "
                                                 "NAME.counts only"), s->tensors[i].name);
        if (name) {
            (void)snprintf(counts, sizeof counts, "%s.counts", name); /* names are at most 4096 bytes long */
            const uint64_t at = qn_source_tensor_find(s, counts);
            if (at == UINT64_MAX)
                return qn_err_in_tensor(err, QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "its counts are missing"), name);
            QN_TRY(qn_err_in_tensor(err, gguf_entry(in, s, i, name, at, err), name));
        }
        qn_arena_rewind(ar, m);
    }
    return QN_OK;
}

static qn_code gguf_meta(const qn_gguf *g, qn_arena *ar, qn_stats_meta *meta, qn_err *err)
{
    char type[32], label[QN_STATS_NAME_MAX + 1];
    uint64_t n = 0, chunks = 0, size = 0;
    size_t len;
    if (!qn_gguf_find(g, "general.type"))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "a GGUF file without general.type: an importance matrix has it");
    QN_TRY(qn_gguf_get_str(g, "general.type", type, sizeof type, err));
    if (strcmp(type, "imatrix") != 0)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "a GGUF file of type '%s': 'imatrix' is wanted", type);
    if (qn_gguf_find(g, "imatrix.chunk_count"))
        QN_TRY(qn_gguf_get_u64(g, "imatrix.chunk_count", &chunks, err));
    if (qn_gguf_find(g, "imatrix.chunk_size"))
        QN_TRY(qn_gguf_get_u64(g, "imatrix.chunk_size", &size, err));
    bool ovf = size > UINT32_MAX;
    meta->sequences = chunks;
    meta->context = (uint32_t)size;
    meta->tokens = qn_mul(chunks, size, &ovf);
    if (ovf)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "%llu chunks of %llu tokens are too many", (unsigned long long)chunks,
                       (unsigned long long)size);
    if (!qn_gguf_find(g, "imatrix.datasets"))
        return QN_OK;
    qn_gguf_strings it;
    QN_TRY(qn_gguf_strings_begin(&it, g, "imatrix.datasets", &n, err));
    if (n > DATASETS_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "%llu datasets: at most 2^16 are read", (unsigned long long)n);
    qn_stats_source *s = qn_arena_get(ar, n * sizeof *s, 8, err);
    if (!s)
        return QN_E_MEMORY;
    for (uint64_t i = 0; i < n; i++) {
        char shown[sizeof label];
        QN_TRY(qn_gguf_strings_next(&it, label, sizeof label, &len, err));
        qn_printable(shown, sizeof shown, label, len);
        s[i] = (qn_stats_source){.label = qn_arena_str(ar, shown, strlen(shown), err)};
        if (!s[i].label)
            return QN_E_MEMORY;
    }
    meta->sources = s;
    meta->n_sources = (uint32_t)n;
    return QN_OK;
}

/* ---- both ---- */

struct opened {
    qn_file file; /* of a .dat                */
    qn_source *s; /* of a GGUF file, else NULL */
    uint64_t n_bytes;
    qn_arena ar;
};

static qn_code open_input(struct opened *o, const qn_env *env, const char *path, qn_stats_meta *meta, qn_err *err)
{
    static const qn_stats_prop origins[2] = {{"origin", "llama.cpp imatrix, dat"}, {"origin", "llama.cpp imatrix, gguf"}};
    uint8_t magic[4] = {0};
    qn_stat st;
    QN_TRY(qn_file_open(&o->file, env->fs, env->alloc, path, QN_OPEN_READ, err));
    QN_TRY(qn_file_stat(&o->file, &st, err));
    o->n_bytes = st.n_bytes;
    if (st.n_bytes >= sizeof magic)
        QN_TRY(qn_file_read(&o->file, magic, sizeof magic, 0, err));
    const bool gguf = memcmp(magic, "GGUF", sizeof magic) == 0;
    meta->n_props = 1;
    meta->props = &origins[gguf];
    if (!gguf)
        return qn_imatrix_dat_meta(env, &o->file, o->n_bytes, &o->ar, meta, err);
    qn_gguf g;
    QN_TRY(qn_format_gguf.open(env, path, &o->s, err));
    QN_TRY(qn_gguf_open(&g, &o->ar, o->s, err));
    return gguf_meta(&g, &o->ar, meta, err);
}

static qn_code import(struct opened *o, const qn_env *env, const char *path, const char *out_path,
                      const qn_imatrix_options *opt, qn_imatrix_facts *facts, qn_err *err)
{
    qn_stats_meta meta = {0};
    qn_imatrix_in in = {.env = env, .opt = opt, .facts = facts};
    QN_TRY(qn_err_in_path(err, open_input(o, env, path, &meta, err), path));
    if (!opt->dry_run)
        QN_TRY(qn_stats_writer_open(&in.w, env, out_path, &meta, &(qn_stats_write_options){.overwrite = opt->overwrite}, err));
    qn_code rc = o->s ? gguf_entries(&in, o->s, &o->ar, err) : qn_imatrix_dat_entries(&in, &o->file, o->n_bytes, err);
    if (rc == QN_OK && facts->n_entries == 0)
        rc = QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "holds no entries");
    rc = qn_err_in_path(err, rc, path);
    if (rc == QN_OK && in.w)
        rc = qn_stats_writer_finish(in.w, NULL, err);
    qn_stats_writer_close(in.w);
    return rc;
}

qn_code qn_imatrix_import(const qn_env *env, const char *path, const char *out_path, const qn_imatrix_options *opt,
                          qn_imatrix_facts *facts, qn_err *err)
{
    struct opened o = {.file = QN_FILE_CLOSED};
    *facts = (qn_imatrix_facts){0};
    qn_arena_init(&o.ar, env->alloc);
    const qn_code rc = import(&o, env, path, out_path, opt, facts, err);
    qn_source_close(o.s);
    qn_file_drop(&o.file);
    qn_arena_release(&o.ar);
    return rc;
}
