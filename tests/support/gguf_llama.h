/* gguf_llama.h: a small llama as a GGUF file: hidden size 8, 2 heads of 4 with 1 key head, ffn 6, vocabulary 5, one layer; weights are zeros. */
#ifndef QN_TESTS_GGUF_LLAMA_H
#define QN_TESTS_GGUF_LLAMA_H

#include "tests/support/gguf_build.h"

/* Its keys in the words of gguf_build.h, one a line, without their count: a test changes or adds some. */
extern const char qt_gguf_llama_keys[];
/* The file with these keys (n_keys of them) and the tensors; `more` is one tensor more of that name, F32 (n_more), or NULL. */
void qt_add_gguf_llama(qt_buf *b, const char *keys, unsigned n_keys, const char *more, unsigned n_more);

#endif
