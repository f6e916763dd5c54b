/* config.c (dfloat11): dfloat11_config, and the shapes of weights. Its regular expressions are Python's; what is in use is common to both. */
#include "base/err.h"
#include "base/num.h"
#include "formats/dfloat11/dfloat11.h"
#include "formats/hf/config.h"
#include <jansson.h>
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

enum { PATTERN_BYTES_MAX = 64 << 10, MATCH_STEPS = 20000, MATCH_KIB = 1024 };

static const char *const versions[] = {"0.2.0", "0.3.1", "0.3.2", "0.5.0"};

static qn_code bad(qn_err *err, const char *what)
{
    return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "dfloat11_config: %s", what);
}

static qn_code read_number(const json_t *v, uint32_t low, uint32_t high, uint32_t *out, const char *what, qn_err *err)
{
    if (!json_is_integer(v) || json_integer_value(v) < low || json_integer_value(v) > high)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "dfloat11_config: %s must be a whole number from %u to %u", what, low, high);
    *out = (uint32_t)json_integer_value(v);
    return QN_OK;
}

/* Threads and slices must be so many that a code begins in the first slice of every block: slices of 32 bits or more. */
static qn_code read_layout(qn_df11_config *c, const json_t *o, qn_err *err)
{
    const json_t *threads = json_object_get(o, "threads_per_block");
    if (json_is_array(threads) && json_array_size(threads) == 1)
        threads = json_array_get(threads, 0);
    QN_TRY(read_number(threads, 1, QN_DF11_THREADS_MAX, &c->threads, "threads_per_block", err));
    return read_number(json_object_get(o, "bytes_per_thread"), 4, QN_DF11_SLICE_MAX, &c->slice, "bytes_per_thread", err);
}

static void *get(size_t n, void *ctx)
{
    return qn_mem_get(ctx, n, NULL);
}

static void put_back(void *p, void *ctx)
{
    qn_mem_put(ctx, p);
}

static qn_code no_memory(qn_err *err)
{
    return QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "out of memory: expressions of dfloat11_config");
}

static qn_code compile(qn_df11_config *c, const char *text, void **out, qn_err *err)
{
    int code;
    PCRE2_SIZE at;
    if (strlen(text) > PATTERN_BYTES_MAX)
        return bad(err, "an expression of pattern_dict is too long");
    pcre2_compile_context *cc = pcre2_compile_context_create(c->general);
    if (!cc)
        return no_memory(err);
    *out = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_NEVER_BACKSLASH_C, &code, &at, cc);
    pcre2_compile_context_free(cc);
    if (!*out && code == PCRE2_ERROR_HEAP_FAILED)
        return no_memory(err);
    return *out ? QN_OK : bad(err, "an expression of pattern_dict is none");
}

static qn_code read_inner(qn_df11_pattern *p, const json_t *list, qn_arena *ar, qn_err *err)
{
    const size_t n = json_array_size(list);
    if (!json_is_array(list) || n > QN_DF11_INNER_MAX)
        return bad(err, "pattern_dict must hold lists of names");
    const char **inner = qn_arena_get(ar, (n + 1) * sizeof *inner, 8, err);
    if (!inner)
        return QN_E_MEMORY;
    for (size_t i = 0; i < n; i++) {
        const char *s = json_string_value(json_array_get(list, i));
        if (!s || !*s || strlen(s) > 1024)
            return bad(err, "pattern_dict must hold lists of names");
        inner[i] = qn_arena_str(ar, s, strlen(s), err);
        if (!inner[i])
            return QN_E_MEMORY;
    }
    p->inner = inner;
    p->n_inner = (uint32_t)n;
    return QN_OK;
}

/* [[rows, columns], …], one for each weight. */
static qn_code read_shapes(qn_df11_pattern *p, const json_t *list, qn_arena *ar, qn_err *err)
{
    const size_t n = p->n_inner ? p->n_inner : 1;
    if (!list)
        return QN_OK;
    uint64_t *dims = qn_arena_get(ar, n * 2 * sizeof *dims, 8, err);
    if (!dims)
        return QN_E_MEMORY;
    if (json_array_size(list) != n)
        return bad(err, "shapes must have one for each weight");
    for (size_t i = 0; i < 2 * n; i++) {
        const json_t *pair = json_array_get(list, i / 2), *v = json_array_get(pair, i % 2);
        if (json_array_size(pair) != 2 || !json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > UINT32_MAX)
            return bad(err, "shapes must be pairs of whole numbers");
        dims[i] = (uint64_t)json_integer_value(v);
    }
    p->shapes = dims;
    return QN_OK;
}

static qn_code read_patterns(qn_df11_config *c, json_t *o, qn_arena *ar, qn_err *err)
{
    json_t *patterns = json_object_get(o, "pattern_dict"), *shapes = json_object_get(o, "shapes"), *list;
    const char *text;
    const size_t n = json_object_size(patterns);
    if (!json_is_object(patterns) || n > QN_DF11_PATTERNS_MAX)
        return bad(err, "pattern_dict must be an object of at most 1024 expressions");
    if (shapes && !json_is_object(shapes))
        return bad(err, "shapes must be an object");
    c->patterns = qn_arena_get(ar, (n + 1) * sizeof *c->patterns, 8, err);
    if (!c->patterns)
        return QN_E_MEMORY;
    json_object_foreach(patterns, text, list) {
        qn_df11_pattern *p = &c->patterns[c->n_patterns];
        *p = (qn_df11_pattern){0};
        QN_TRY(compile(c, text, &p->regex, err));
        c->n_patterns++;
        QN_TRY(read_inner(p, list, ar, err));
        QN_TRY(read_shapes(p, shapes ? json_object_get(shapes, text) : NULL, ar, err));
    }
    return QN_OK;
}

static qn_code read_config(qn_df11_config *c, qn_source *s, const qn_config *config, bool *there, qn_err *err)
{
    json_t *o = json_object_get(config->root, "dfloat11_config");
    const char *version = json_string_value(json_object_get(o, "version"));
    bool known = false;
    if (!json_is_object(o))
        return QN_OK;
    for (size_t i = 0; version && i < sizeof versions / sizeof versions[0]; i++)
        known = known || !strcmp(version, versions[i]);
    if (!known) {
        qn_source_warn(s, "the DFloat11 weights are not decoded: they are of version %.40s, and 0.2.0, 0.3.1, 0.3.2 and 0.5.0 are known",
                       version ? version : "(none)");
        return QN_OK;
    }
    union { const qn_alloc *in; void *out; } ctx = {.in = s->env->alloc}; /* the heap is handed on as it is */
    c->general = pcre2_general_context_create(get, put_back, ctx.out);
    if (!c->general)
        return no_memory(err);
    QN_TRY(read_layout(c, o, err));
    QN_TRY(read_patterns(c, o, &s->arena, err));
    if (qn_config_u64_or(config, "hidden_size|n_embd|d_model", 1, UINT32_MAX, 0, &c->hidden, NULL) != QN_OK)
        c->hidden = 0; /* shapes are less exact then, and the graph's builder will say why */
    if (qn_config_u64_or(config, "vocab_size", 1, UINT32_MAX, 0, &c->vocabulary, NULL) != QN_OK)
        c->vocabulary = 0;
    pcre2_match_context *m = pcre2_match_context_create(c->general);
    if (!m)
        return no_memory(err);
    pcre2_set_match_limit(m, MATCH_STEPS);
    pcre2_set_depth_limit(m, MATCH_STEPS);
    pcre2_set_heap_limit(m, MATCH_KIB);
    c->context = m;
    *there = true;
    return QN_OK;
}

qn_code qn_df11_config_open(qn_df11_config *c, qn_source *s, bool *there, qn_err *err)
{
    qn_config config = {0};
    qn_err ignored = {0};
    *c = (qn_df11_config){0};
    *there = false;
    if (!qn_config_exists(s))
        return QN_OK;
    /* what is wrong with it beside is the business of those who need more of it */
    if (qn_config_open(&config, s, &ignored) != QN_OK) {
        qn_config_release(&config);
        return ignored.code == QN_E_MEMORY ? QN_FAIL(err, QN_E_MEMORY, QN_NO_OFFSET, "out of memory: config.json") : QN_OK;
    }
    const qn_code rc = qn_err_in_path(err, read_config(c, s, &config, there, err), "config.json");
    qn_config_release(&config);
    return rc;
}

void qn_df11_config_close(qn_df11_config *c)
{
    for (uint32_t i = 0; i < c->n_patterns; i++)
        pcre2_code_free(c->patterns[i].regex);
    pcre2_match_context_free(c->context);
    pcre2_general_context_free(c->general);
    *c = (qn_df11_config){0};
}

qn_code qn_df11_config_match(const qn_df11_config *c, const char *module, const qn_df11_pattern **p, qn_err *err)
{
    *p = NULL;
    for (uint32_t i = 0; i < c->n_patterns; i++) {
        pcre2_match_data *data = pcre2_match_data_create(1, c->general);
        if (!data)
            return no_memory(err);
        const int r = pcre2_match(c->patterns[i].regex, (PCRE2_SPTR)module, strlen(module), 0, 0, data, c->context);
        pcre2_match_data_free(data);
        if (r < 0 && r != PCRE2_ERROR_NOMATCH)
            return bad(err, "an expression of pattern_dict takes too long");
        if (r < 0)
            continue;
        if (*p)
            return bad(err, "two expressions of pattern_dict match a module");
        *p = &c->patterns[i];
    }
    return *p ? QN_OK : bad(err, "no expression of pattern_dict matches");
}

/* ---- shapes ---- */

static bool is_one_of(const char *name, const char *const *list)
{
    for (; *list; list++)
        if (!strcmp(name, *list))
            return true;
    return false;
}

bool qn_df11_config_shape(const qn_df11_config *c, const qn_df11_pattern *p, const char *module, uint32_t i, uint64_t n, uint64_t dims[2])
{
    static const char *const embeddings[] = {"embed_tokens", "wte", "embed_in", "word_embeddings", "tok_embeddings", "lm_head", "embed_out", NULL};
    static const char *const from_hidden[] = {"q_proj", "k_proj", "v_proj", "qkv_proj", "query_key_value", "Wqkv", "wq", "wk", "wv", "gate_proj", "up_proj",
                                              "gate_up_proj", "dense_h_to_4h", "fc1", "w1", "w3", "gate", NULL};
    static const char *const to_hidden[] = {"o_proj", "out_proj", "down_proj", "dense", "dense_4h_to_h", "fc2", "w2", "wo", NULL};
    if (p->shapes) {
        dims[0] = p->shapes[2 * i];
        dims[1] = p->shapes[2 * i + 1];
        return dims[0] * dims[1] == n; /* each below 2^32 */
    }
    const char *inner = p->n_inner ? p->inner[i] : module, *dot = strrchr(inner, '.'), *last = dot ? dot + 1 : inner;
    if (strstr(module, "visi") || strstr(module, "visual") || strstr(module, "audio")) /* towers have sizes of their own */
        return false;
    if (is_one_of(last, embeddings)) {
        const uint64_t rows = c->vocabulary && n % c->vocabulary == 0 ? c->vocabulary : c->hidden && n % c->hidden == 0 ? n / c->hidden : 0;
        dims[0] = rows;
        dims[1] = rows ? n / rows : 0;
        return rows > 0;
    }
    if (!c->hidden || n % c->hidden || !(is_one_of(last, from_hidden) || is_one_of(last, to_hidden)))
        return false;
    const bool to = is_one_of(last, to_hidden);
    dims[0] = to ? c->hidden : n / c->hidden;
    dims[1] = to ? n / c->hidden : c->hidden;
    return true;
}
