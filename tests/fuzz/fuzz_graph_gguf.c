/* fuzz_graph_gguf.c: a GGUF file made into a graph. */
#include "analysis/graph/graph.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/gguf_llama.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    qt_files t;
    qt_counter c;
    qn_err err;
    qn_source *s;
    qn_graph *g = NULL;
    qt_files_init(&t);
    qt_counter_init(&c);
    qt_files_add(&t, "m.gguf", p, n);
    const qn_env env = qt_env(&t, &c);
    qn_err_clear(&err);
    if (qn_source_open(&env, "m.gguf", &s, &err) != QN_OK)
        return 0;
    const qn_code rc = qn_graph_open(&env, s, &g, &err);
    QF_CHECK(rc == QN_OK || rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED);
    QF_CHECK((rc == QN_OK) == (g != NULL));
    QF_CHECK(rc == QN_OK || (err.code == rc && err.text[0] && err.path[0]));
    qn_graph_close(g);
    qn_source_close(s);
    QF_CHECK(c.n_live == 0 && t.n_open == 0);
    return 0;
}

void qf_seeds(void (*emit)(void *, const uint8_t *, size_t), void *ctx)
{
    static const char *const more[] = {NULL, "rope_freqs.weight", "output.weight"};
    for (unsigned i = 0; i < 3; i++) {
        qt_buf b = {0};
        qt_add_gguf_llama(&b, qt_gguf_llama_keys, 10, more[i], 2);
        emit(ctx, b.p, b.n);
        qt_buf_free(&b);
    }
}
