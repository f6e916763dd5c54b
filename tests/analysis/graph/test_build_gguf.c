/* test_build_gguf.c: graphs from the keys of a GGUF file; keys that cannot be. */
#include "base/err.h"
#include "formats/gguf/gguf.h"
#include "tests/support/gguf_llama.h"
#include "tests/support/lm_made.h"
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEYS = 10 };

static qn_code open_keys(const char *keys, unsigned n_keys, const char *more, unsigned n_more, qn_graph **g, qn_source **s, qn_err *err)
{
    static unsigned number;
    qt_buf b = {0};
    char name[24];
    qt_add_gguf_llama(&b, keys, n_keys, more, n_more);
    snprintf(name, sizeof name, "made%u.gguf", number++);
    *s = qt_made_open(qt_made_env(1), qt_made_file(name, b.p, b.n));
    qt_buf_free(&b);
    return qn_graph_open(qt_made_env(1), *s, g, err);
}

Test(build_gguf, good)
{
    qn_graph *g;
    qn_source *s;
    qn_err err = {0};
    cr_assert_eq(open_keys(qt_gguf_llama_keys, KEYS, NULL, 0, &g, &s, &err), QN_OK, "%s", err.text);
    cr_assert_eq(g->n_warnings, 0u, "%s", g->n_warnings ? g->warnings[0] : "");
    cr_assert(g->n_vocab == 5 && g->context == 64 && g->n_blocks == 3);
    const uint32_t q = qn_graph_find(g, "blk.0.rope_q");
    cr_assert_neq(q, QN_NO_VALUE);
    cr_assert_str_eq(qn_node_string(&g->nodes[g->values[q].node], "style", ""), "interleaved");
    const double *f = g->values[qn_graph_find(g, "rope.freq")].data.data;
    cr_assert(f[0] == 1 && f[1] > 0.00999 && f[1] < 0.01001);
    qn_graph_close(g);
    qn_source_close(s);
    /* llama 3: a tensor of divisors, here zeros, which cannot be */
    cr_assert_eq(open_keys(qt_gguf_llama_keys, KEYS, "rope_freqs.weight", 2, &g, &s, &err), QN_E_INPUT);
    cr_assert(strstr(err.text, "element 0 is 0: a positive number") && !strcmp(err.tensor, "rope_freqs.weight"), "%s", err.text);
    qn_source_close(s);
    err = (qn_err){0};
    cr_assert_eq(open_keys(qt_gguf_llama_keys, KEYS, "rope_freqs.weight", 3, &g, &s, &err), QN_E_INPUT);
    cr_assert(strstr(err.text, "F32 (2), half of rope.dimension_count"), "%s", err.text);
    qn_source_close(s);
    err = (qn_err){0};
    cr_assert_eq(open_keys(qt_gguf_llama_keys, KEYS, "left.over", 3, &g, &s, &err), QN_OK);
    cr_assert(g->n_warnings == 1 && strstr(g->warnings[0], "left.over"));
    qn_graph_close(g);
    qn_source_close(s);
}

static const struct {
    const char *from, *to;
    int more_keys;
    qn_code code;
    const char *words;
} bad[] = {
    {"i8 \"llama\"", "i8 \"elm\"", 0, QN_E_UNSUPPORTED, "the architecture \"elm\" is not known"},
    {"\"general.architecture\"", "\"general.architectures\"", 0, QN_E_INPUT, "key 'general.architecture' is missing"},
    {"\"llama.block_count\" i4 i1", "\"llama.block_count\" i4 i2", 0, QN_E_INPUT, "blk.1.attn_norm.weight"},
    {"\"llama.block_count\" i4 i1", "\"llama.block_count\" i4 i0", 0, QN_E_INPUT, "key 'llama.block_count' is 0: 1 to 10000 is expected"},
    {"\"llama.block_count\" i4 i1", "\"llama.block_count\" i4 i4294967295", 0, QN_E_INPUT, "key 'llama.block_count' is 4294967295"},
    {"\"llama.block_count\" i4 i1", "\"llama.block_count\" i8 \"1\"", 0, QN_E_INPUT, "key 'llama.block_count' is string"},
    {"\"llama.embedding_length\" i4 i8\n", "", -1, QN_E_INPUT, "key 'llama.embedding_length' is missing"},
    {"embedding_length\" i4 i8", "embedding_length\" i4 i10", 0, QN_E_INPUT, "shape (5, 8): (5, 10) is expected"},
    {"head_count\" i4 i2", "head_count\" i4 i0", 0, QN_E_INPUT, "key 'llama.attention.head_count' is 0"},
    {"head_count\" i4 i2", "head_count\" i4 i4", 0, QN_E_INPUT, "key 'llama.rope.dimension_count' is 4: 2 to 2 is expected"},
    {"head_count_kv\" i4 i1", "head_count_kv\" i4 i3", 0, QN_E_INPUT, "does not fit head_count_kv, 3"},
    {"feed_forward_length\" i4 i6", "feed_forward_length\" i4 i7", 0, QN_E_INPUT, "shape (6, 8): (7, 8) is expected by the configuration (feed_forward_length"},
    {"i6 i925353388", "i6 i2143289344", 0, QN_E_INPUT, "key 'llama.attention.layer_norm_rms_epsilon' is nan"},
    {"freq_base\" i6 i1176256512", "freq_base\" i6 i0", 0, QN_E_INPUT, "key 'llama.rope.freq_base' is 0"},
    {"\"llama.rope.freq", "\"llama.rope.scaling.type\" i8 \"warp\" \"llama.rope.freq", 1, QN_E_UNSUPPORTED, "rope.scaling.type is \"warp\": none, linear"},
    {"\"llama.rope.freq", "\"llama.expert_count\" i4 i4 \"llama.rope.freq", 1, QN_E_INPUT, "key 'llama.expert_used_count' is missing"},
    {"\"llama.rope.freq", "\"llama.expert_count\" i4 i4 \"llama.expert_used_count\" i4 i5 \"llama.rope.freq", 2, QN_E_INPUT, "is 5: 1 to 4 is expected"},
    {"\"llama.rope.freq", "\"llama.attention.value_length\" i4 i5 \"llama.rope.freq", 1, QN_E_UNSUPPORTED, "value_length is 5 and key_length 4"},
    {"\"llama.rope.freq", "\"llama.vocab_size\" i4 i6 \"llama.rope.freq", 1, QN_E_INPUT, "shape (5, 8): (6, 8) is expected by the configuration (vocab_size"},
};

Test(build_gguf, bad)
{
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char keys[4096], line[1024];
        const char *at = strstr(qt_gguf_llama_keys, bad[i].from);
        qn_graph *g = NULL;
        qn_source *s;
        qn_err err = {.off = QN_NO_OFFSET};
        cr_assert_not_null(at, "%s", bad[i].from);
        snprintf(keys, sizeof keys, "%.*s%s%s", (int)(at - qt_gguf_llama_keys), qt_gguf_llama_keys, bad[i].to, at + strlen(bad[i].from));
        const qn_code rc = open_keys(keys, (unsigned)(KEYS + bad[i].more_keys), NULL, 0, &g, &s, &err);
        qn_err_line(&err, line, sizeof line);
        cr_assert_eq(rc, bad[i].code, "%s: code %d (%s)", bad[i].to, (int)rc, line);
        cr_assert(!g && err.path[0] && strstr(line, bad[i].words), "%s: %s", bad[i].to, line);
        qn_source_close(s);
    }
}

/* Every "llama" becomes "deci", and head_count this. */
static void deci_keys(char *keys, size_t cap, const char *heads)
{
    const char *p = qt_gguf_llama_keys;
    size_t n = 0;
    while (*p && n + 64 < cap) {
        static const char head_count[] = "head_count\" i4 i2";
        if (!strncmp(p, "llama", 5)) {
            n += (size_t)snprintf(keys + n, cap - n, "deci");
            p += 5;
        } else if (!strncmp(p, head_count, sizeof head_count - 1)) {
            n += (size_t)snprintf(keys + n, cap - n, "head_count\" %s", heads);
            p += sizeof head_count - 1;
        } else {
            keys[n++] = *p++;
        }
    }
    keys[n] = '\0';
}

/* Numbers for each layer. */
Test(build_gguf, layers_of_their_own)
{
    static const struct {
        const char *heads, *words; /* words NULL: good */
    } cases[] = {
        {"i4 i2", NULL},
        {"i9 i4 q1 i2", NULL},
        {"i9 i5 q1 i2", NULL},
        {"i9 i4 q2 i2 i2", "key 'deci.attention.head_count' is 2 numbers: one for each of 1 layers is expected"},
        {"i9 i4 q0", "is 0 numbers"},
        {"i9 i4 q1 i0", "is 0 in layer 0: 1 to 65536 is expected"},
        {"i9 i5 q1 i4294967295", "is 4294967295 in layer 0"},
        {"i9 i4 q1 i3", "key 'deci.rope.dimension_count' is 4: 2 to 2 is expected"},
        {"i9 i6 q1 i2", "'deci.attention.head_count' is an array of f32: an array of u32 is expected"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char keys[4096], line[1024];
        qn_graph *g = NULL;
        qn_source *s;
        qn_err err = {.off = QN_NO_OFFSET};
        deci_keys(keys, sizeof keys, cases[i].heads);
        const qn_code rc = open_keys(keys, KEYS, NULL, 0, &g, &s, &err);
        qn_err_line(&err, line, sizeof line);
        cr_assert_eq(rc, cases[i].words ? QN_E_INPUT : QN_OK, "%s: %s", cases[i].heads, line);
        cr_assert(!cases[i].words || strstr(line, cases[i].words), "%s: %s", cases[i].heads, line);
        if (g)
            cr_assert_str_eq(qn_node_string(&g->nodes[g->values[qn_graph_find(g, "blk.0.rope_q")].node], "style", ""), "interleaved");
        qn_graph_close(g);
        qn_source_close(s);
    }
}
