/* gguf_llama.c: see gguf_llama.h. */
#include "tests/support/gguf_llama.h"
#include <stdio.h>
#include <string.h>

/* f32 values stand as their bits: 0x3727c5ac is 1e-5, 0x461c4000 10000. */
const char qt_gguf_llama_keys[] =
    "\"general.architecture\" i8 \"llama\"\n"
    "\"llama.context_length\" i4 i64\n"
    "\"llama.embedding_length\" i4 i8\n"
    "\"llama.block_count\" i4 i1\n"
    "\"llama.feed_forward_length\" i4 i6\n"
    "\"llama.attention.head_count\" i4 i2\n"
    "\"llama.attention.head_count_kv\" i4 i1\n"
    "\"llama.rope.dimension_count\" i4 i4\n"
    "\"llama.attention.layer_norm_rms_epsilon\" i6 i925353388\n"
    "\"llama.rope.freq_base\" i6 i1176256512\n";

static const struct {
    const char *name;
    unsigned rows, cols; /* cols 0: one dimension */
} tensors[] = {
    {"token_embd", 5, 8},         {"output_norm", 8, 0},        {"blk.0.attn_norm", 8, 0}, {"blk.0.attn_q", 8, 8}, {"blk.0.attn_k", 4, 8},
    {"blk.0.attn_v", 4, 8},       {"blk.0.attn_output", 8, 8},  {"blk.0.ffn_norm", 8, 0},  {"blk.0.ffn_gate", 6, 8}, {"blk.0.ffn_up", 6, 8},
    {"blk.0.ffn_down", 8, 6},
};

void qt_add_gguf_llama(qt_buf *b, const char *keys, unsigned n_keys, const char *more, unsigned n_more)
{
    enum { N = sizeof tensors / sizeof tensors[0] };
    char text[512];
    uint64_t mark = 0, at = 0;
    const size_t n = strlen(keys);
    snprintf(text, sizeof text, "GGUF i3 q%u q%u", (unsigned)N + (more != NULL), n_keys);
    qt_add_gguf(b, text, &mark);
    /* the keys as they are, but for line ends */
    char all[4096];
    memcpy(all, keys, n < sizeof all ? n : sizeof all - 1);
    all[n < sizeof all ? n : sizeof all - 1] = '\0';
    for (char *p = all; (p = strchr(p, '\n'));)
        *p = ' ';
    qt_add_gguf(b, all, &mark);
    for (unsigned i = 0; i < N; i++) {
        const uint64_t elems = (uint64_t)tensors[i].rows * (tensors[i].cols ? tensors[i].cols : 1);
        if (tensors[i].cols)
            snprintf(text, sizeof text, "\"%s.weight\" i2 q%u q%u i0 q%llu", tensors[i].name, tensors[i].cols, tensors[i].rows, (unsigned long long)at);
        else
            snprintf(text, sizeof text, "\"%s.weight\" i1 q%u i0 q%llu", tensors[i].name, tensors[i].rows, (unsigned long long)at);
        qt_add_gguf(b, text, &mark);
        at += (elems * 4 + 31) / 32 * 32;
    }
    if (more) {
        snprintf(text, sizeof text, "\"%s\" i1 q%u i0 q%llu", more, n_more, (unsigned long long)at);
        qt_add_gguf(b, text, &mark);
        at += ((uint64_t)n_more * 4 + 31) / 32 * 32;
    }
    snprintf(text, sizeof text, "| z%llu", (unsigned long long)at);
    qt_add_gguf(b, text, &mark);
}
