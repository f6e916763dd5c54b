/* dump_blocks.c: blocks of a ggml type as f32, for gguf_ggml.py.
 *   PROGRAM list                 name, elements and bytes of a block, a line per type
 *   PROGRAM Q4_K < blocks        their values */
#include "base/ggml.h"
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    for (unsigned t = QN_DTYPE_PLAIN; t < QN_DTYPE_COUNT; t++) {
        const char *name = qn_dtype_name((qn_dtype)t);
        if (!name)
            continue;
        const unsigned n = qn_dtype_block_elems((qn_dtype)t), n_bytes = qn_dtype_block_bytes((qn_dtype)t);
        if (strcmp(argv[1], "list") == 0)
            printf("%s %u %u %u\n", name, t - 64, n, n_bytes);
        if (strcmp(argv[1], name) != 0)
            continue;
        uint8_t b[512];
        float y[QN_GGML_BLOCK_MAX];
        while (fread(b, n_bytes, 1, stdin) == 1)
            if (qn_ggml_f32((qn_dtype)t, b, n, y, NULL) != QN_OK || fwrite(y, sizeof y[0], n, stdout) != n)
                return 1;
        return 0;
    }
    return strcmp(argv[1], "list") != 0;
}
