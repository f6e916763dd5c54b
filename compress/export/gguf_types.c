/* gguf_types.c: which tensor gets which type: the rules of llama-quantize, as behaviour (llama.cpp v0.5.0): what is quantized at all, which tensors of a named
 * mix get more than the rest, what happens to rows that are no whole blocks. */
#include "base/err.h"
#include "base/num.h"
#include "compress/export/gguf_impl.h"
#include <stdio.h>
#include <string.h>
#include <strings.h>

bool qn_ggx_is_matrix(const qn_ggx_tensor *t)
{
    static const char *const never[] = {"_norm.weight", "ffn_gate_inp", "ssm_conv1d", "position_embd", "token_types", "rope_f"};
    unsigned rank = 0; /* without dimensions of one at the outside, as ggml counts */
    for (unsigned i = 0; i < t->rank; i++)
        rank = rank || t->dims[i] > 1 ? rank + 1 : 0;
    const size_t n = strlen(t->name);
    if (rank < 2 || n < 6 || strcmp(t->name + n - 6, "weight") || t->made || t->value != QN_GGX_SAME)
        return false;
    for (size_t i = 0; i < sizeof never / sizeof never[0]; i++)
        if (strstr(t->name, never[i]))
            return false;
    return true;
}

/* Dense: matrices in one type, all else in F32. */
static void dense(qn_ggx *x, qn_dtype type)
{
    for (uint32_t i = 0; i < x->n; i++) {
        qn_ggx_tensor *t = &x->list[i];
        const bool is_float = !t->parts || x->job->src->tensors[t->parts[0]].dtype != QN_I32;
        if (!is_float)
            continue; /* tables of numbers in a GGUF file */
        t->wanted = qn_ggx_is_matrix(t) ? type : QN_BYTES;
        t->dtype = t->wanted == QN_BYTES ? QN_F32 : type;
    }
}

qn_code qn_ggx_types(qn_ggx *x, const char *variant, qn_err *err)
{
    static const struct {
        const char *name;
        qn_dtype type;
        uint32_t file_type;
    } plain[] = {{"f32", QN_F32, 0}, {"f16", QN_F16, 1}, {"bf16", QN_BF16, 32}};
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++)
        if (!strcasecmp(variant, plain[i].name)) {
            x->file_type = plain[i].file_type;
            dense(x, plain[i].type);
            return QN_OK;
        }
    return QN_FAIL(err, QN_E_USAGE, QN_NO_OFFSET, "gguf: no variant called '%.40s'", variant);
}
