/* fuzz_graph_gguf.c: a GGUF file made into a graph. */
#include "tests/fuzz/opened.h"
#include "tests/support/gguf_llama.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    qt_files t;
    qt_files_init(&t);
    qt_files_add(&t, "m.gguf", p, n);
    qf_open_graph(&t, "m.gguf", 0);
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
