/* onnx_take.c: the codes of a .quern as they become those of the form, without rounding: what has another width goes into the next one that the
 * form knows, what has its zero between two codes has them doubled or its zero point as a float, a scale for many columns stands for each block of them. */
#include "base/err.h"
#include "base/half.h"
#include "base/num.h"
#include "compress/export/onnx_impl.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { BLOCK_LEAST = 16, ROWS_AT_ONCE = 1 << 16 };

static qn_code leave(qn_to_onnx_export *x, qn_to_onnx_pick *p, qn_err *err, const char *fmt, ...) __attribute__((format(printf, 4, 5)));

static qn_code leave(qn_to_onnx_export *x, qn_to_onnx_pick *p, qn_err *err, const char *fmt, ...)
{
    char text[160];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    p->chosen = false;
    p->why = qn_arena_str(x->job->arena, text, strlen(text), err);
    return p->why ? QN_OK : QN_E_MEMORY;
}

/* Columns of a block for groups of `group`: a power of two that divides them. A scale for whole rows may stand for blocks of any width: the one that
 * takes least room. 0: there is none. */
static uint32_t block_for(uint32_t group, uint32_t cols, unsigned bits)
{
    uint32_t best = 0;
    uint64_t least = UINT64_MAX;
    if (group < cols) {
        const uint32_t block = group & (~group + 1);
        return block >= BLOCK_LEAST ? block : 0;
    }
    for (uint32_t block = BLOCK_LEAST; block < 1u << 20; block *= 2) {
        const uint64_t blocks = qn_ceil_div(cols, block), bytes = blocks * ((uint64_t)block * bits + 8 * sizeof(float)) / 8;
        if (bytes <= least) {
            least = bytes;
            best = block;
        }
        if (block >= cols)
            break;
    }
    return best;
}

/* Is every scale, divided as it will be, a number of binary16? */
static qn_code scales_are_halves(qn_to_onnx_export *x, const qn_to_onnx_pick *p, bool *yes, qn_err *err)
{
    const uint32_t groups = qn_codes_groups(&p->codes);
    qn_arena scratch;
    qn_arena_init(&scratch, x->env->alloc);
    qn_code rc = QN_OK;
    *yes = true;
    for (uint32_t row = 0; row < p->rows && *yes && rc == QN_OK; row += ROWS_AT_ONCE) {
        const uint32_t n = p->rows - row < ROWS_AT_ONCE ? p->rows - row : ROWS_AT_ONCE;
        const qn_arena_mark mark = qn_arena_tell(&scratch);
        float *s = qn_arena_get(&scratch, (uint64_t)n * groups * sizeof *s, 64, err);
        rc = s ? qn_codes_grid(&p->codes, row, n, NULL, s, NULL, &scratch, err) : QN_E_MEMORY;
        for (uint64_t i = 0; i < (uint64_t)n * groups && rc == QN_OK; i++)
            *yes = *yes && qn_f16_to_f32(qn_f32_to_f16(s[i] / (float)p->times)) == s[i] / (float)p->times;
        qn_arena_rewind(&scratch, mark);
    }
    qn_arena_release(&scratch);
    return rc;
}

/* The width that the form stores, of codes that need `bits`. 0: none. */
static unsigned width_for(const qn_to_onnx_export *x, unsigned bits)
{
    if (x->want.form == QN_TO_ONNX_FORM_QDQ)
        return x->want.bits == 4 && bits <= 4 ? 4 : bits <= 8 ? 8 : 0;
    return bits <= 2 ? 2 : bits <= 4 ? 4 : bits <= 8 ? 8 : 0;
}

qn_code qn_to_onnx_take(qn_to_onnx_export *x, qn_to_onnx_pick *p, qn_err *err)
{
    qn_codes *c = &p->codes;
    qn_arena scratch;
    qn_arena_init(&scratch, x->env->alloc);
    const qn_code rc = qn_codes_open(c, x->job->src, p->tensor, &scratch, err);
    qn_arena_release(&scratch);
    QN_TRY(rc);
    if (c->kind == QN_CODES_DENSE)
        return leave(x, p, err, "kept without loss");
    if (c->kind != QN_CODES_GRID)
        return leave(x, p, err, "approximated in a way that this form does not have");
    if ((uint64_t)c->rows * c->parts != p->rows || c->cols != p->cols)
        return leave(x, p, err, "its codes are those of another matrix");
    p->times = c->zero == QN_ZERO_MIDDLE ? 2 : 1;
    p->float_zeros = p->times == 2 && x->want.form == QN_TO_ONNX_FORM_NBITS && c->bits < 8 && width_for(x, c->bits + 1) != width_for(x, c->bits);
    p->times = p->float_zeros ? 1 : p->times;
    p->bits = width_for(x, c->bits + p->times - 1);
    if (!p->bits)
        return leave(x, p, err, "codes of 8 bits around a zero that is none of them");
    /* zero: stored; or 2^(bits − 1) of the codes' own bits; or, doubled, 2^bits − 1 */
    p->zeros = c->zero != QN_ZERO_LEVEL || c->bits != p->bits;
    if (x->want.form == QN_TO_ONNX_FORM_QDQ) {
        p->block = c->group < c->cols ? c->group : c->cols;
        if (p->block < p->cols && p->bits == 8)
            return leave(x, p, err, "groups of %u columns: this form has a scale for each output", c->group);
        if (p->bits == 4 && (p->block < BLOCK_LEAST || p->block & (p->block - 1)))
            return leave(x, p, err, "groups of %u columns: blocks of a power of two from 16 on are needed", p->block);
    } else {
        p->block = block_for(c->group, c->cols, p->bits);
        if (!p->block)
            return leave(x, p, err, "groups of %u columns: blocks are powers of two from 16 on", c->group);
    }
    if (p->file->data_type == QN_ONNX_FLOAT16) {
        bool halves;
        QN_TRY(scales_are_halves(x, p, &halves, err));
        if (!halves)
            return leave(x, p, err, "scales that f16 does not hold");
    }
    return QN_OK;
}
