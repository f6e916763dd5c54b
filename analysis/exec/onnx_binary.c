/* onnx_binary.c: operators of two operands, element by element with broadcasting: arithmetic, comparison, logic, bits; and those of
 * any number (Sum, Mean, Min, Max), two at a time. Integers wrap around; their division truncates, Mod has the sign of the divisor. */
#include "analysis/exec/ops_onnx.h"
#include "base/err.h"
#include <math.h>
#include <string.h>

/* A kernel works on n elements; a step of 0 repeats the operand's one element. */
typedef void (*binary_fn)(const void *a, int64_t sa, const void *b, int64_t sb, void *o, uint64_t n);

/* T: operands, R: result, W: unsigned to calculate in (no overflow is undefined there). */
#define KERNEL(name, T, R, expr)                                                                                  \
    static void name(const void *pa, int64_t sa, const void *pb, int64_t sb, void *po, uint64_t n)                \
    {                                                                                                             \
        const T *a = pa, *b = pb;                                                                                 \
        R *o = po;                                                                                                \
        if (sa == 1 && sb == 1)                                                                                   \
            for (uint64_t i = 0; i < n; i++) {                                                                    \
                const T x = a[i], y = b[i];                                                                       \
                o[i] = (R)(expr);                                                                                 \
            }                                                                                                     \
        else if (sb == 0) {                                                                                       \
            const T y = b[0];                                                                                     \
            for (uint64_t i = 0; i < n; i++) {                                                                    \
                const T x = a[(int64_t)i * sa];                                                                   \
                o[i] = (R)(expr);                                                                                 \
            }                                                                                                     \
        } else                                                                                                    \
            for (uint64_t i = 0; i < n; i++) {                                                                    \
                const T x = a[(int64_t)i * sa], y = b[(int64_t)i * sb];                                           \
                o[i] = (R)(expr);                                                                                 \
            }                                                                                                     \
    }

#define FLOATS(name, e32, e64) KERNEL(name##_f32, float, float, e32) KERNEL(name##_f64, double, double, e64)
#define SIGNED(name, R, expr)               \
    KERNEL(name##_i8, int8_t, R(int8_t), expr)   \
    KERNEL(name##_i16, int16_t, R(int16_t), expr) \
    KERNEL(name##_i32, int32_t, R(int32_t), expr) \
    KERNEL(name##_i64, int64_t, R(int64_t), expr)
#define UNSIGNED(name, R, expr)               \
    KERNEL(name##_u8, uint8_t, R(uint8_t), expr)   \
    KERNEL(name##_u16, uint16_t, R(uint16_t), expr) \
    KERNEL(name##_u32, uint32_t, R(uint32_t), expr) \
    KERNEL(name##_u64, uint64_t, R(uint64_t), expr)
#define SAME(T) T
#define BYTE(T) uint8_t
#define ROW_SIGNED(n) [QN_I8] = n##_i8, [QN_I16] = n##_i16, [QN_I32] = n##_i32, [QN_I64] = n##_i64
#define ROW_UNSIGNED(n) [QN_U8] = n##_u8, [QN_U16] = n##_u16, [QN_U32] = n##_u32, [QN_U64] = n##_u64
#define ROW_FLOATS(n) [QN_F32] = n##_f32, [QN_F64] = n##_f64
#define ROW_NUMBERS(n) ROW_FLOATS(n), ROW_SIGNED(n), ROW_UNSIGNED(n)
#define TABLE(n, ...) static const binary_fn n[QN_DTYPE_PLAIN] = {__VA_ARGS__};

/* Sums, differences and products are the same in unsigned 64-bit arithmetic, cut to the width. */
#define U(v) ((uint64_t)(v))
FLOATS(add, x + y, x + y) SIGNED(add, SAME, U(x) + U(y)) UNSIGNED(add, SAME, U(x) + U(y)) TABLE(adds, ROW_NUMBERS(add))
FLOATS(sub, x - y, x - y) SIGNED(sub, SAME, U(x) - U(y)) UNSIGNED(sub, SAME, U(x) - U(y)) TABLE(subs, ROW_NUMBERS(sub))
FLOATS(mul, x * y, x * y) SIGNED(mul, SAME, U(x) * U(y)) UNSIGNED(mul, SAME, U(x) * U(y)) TABLE(muls, ROW_NUMBERS(mul))
/* By −1: the least integer has no counterpart. No operand here is 0: see divisors. */
FLOATS(div, x / y, x / y) SIGNED(div, SAME, y == -1 ? U(0) - U(x) : U(x / y)) UNSIGNED(div, SAME, x / y) TABLE(divs, ROW_NUMBERS(div))
FLOATS(rem, fmodf(x, y), fmod(x, y)) SIGNED(rem, SAME, y == -1 ? 0 : x % y) UNSIGNED(rem, SAME, x % y) TABLE(rems, ROW_NUMBERS(rem))
FLOATS(mod, x - y * floorf(x / y), x - y * floor(x / y))
SIGNED(mod, SAME, y == -1 ? 0 : x % y != 0 && (x % y < 0) != (y < 0) ? x % y + y : x % y) UNSIGNED(mod, SAME, x % y)
TABLE(mods, ROW_NUMBERS(mod))
/* NaN goes on. */
FLOATS(min, x < y || x != x ? x : y, x < y || x != x ? x : y) SIGNED(min, SAME, x < y ? x : y) UNSIGNED(min, SAME, x < y ? x : y)
TABLE(mins, ROW_NUMBERS(min))
FLOATS(max, x > y || x != x ? x : y, x > y || x != x ? x : y) SIGNED(max, SAME, x > y ? x : y) UNSIGNED(max, SAME, x > y ? x : y)
TABLE(maxs, ROW_NUMBERS(max))

static float power_f32(float x, float y)
{
    return y == 2.0f ? x * x : powf(x, y);
}
static double power_f64(double x, double y)
{
    return y == 2.0 ? x * x : pow(x, y);
}
static uint64_t power_int(int64_t x, int64_t y, bool is_signed)
{
    if (y < 0 && is_signed)
        return x == 1 ? 1 : x == -1 ? (y % 2 ? UINT64_MAX : 1) : 0;
    uint64_t r = 1, base = U(x);
    for (uint64_t e = U(y); e; e >>= 1, base *= base)
        r *= e & 1 ? base : 1;
    return r;
}
FLOATS(pow, power_f32(x, y), power_f64(x, y)) SIGNED(pow, SAME, power_int(x, y, true))
UNSIGNED(pow, SAME, power_int((int64_t)x, (int64_t)y, false)) TABLE(pows, ROW_NUMBERS(pow))

#define COMPARE(n, op)                                                                                              \
    KERNEL(n##_f32, float, uint8_t, x op y) KERNEL(n##_f64, double, uint8_t, x op y) SIGNED(n, BYTE, x op y)        \
    UNSIGNED(n, BYTE, x op y) TABLE(n##s, ROW_NUMBERS(n), [QN_BOOL] = n##_u8)
COMPARE(equal, ==)
COMPARE(less, <)
COMPARE(more, >)
COMPARE(less_eq, <=)
COMPARE(more_eq, >=)

KERNEL(and_b, uint8_t, uint8_t, x && y) TABLE(ands, [QN_BOOL] = and_b)
KERNEL(or_b, uint8_t, uint8_t, x || y) TABLE(ors, [QN_BOOL] = or_b)
KERNEL(xor_b, uint8_t, uint8_t, !x != !y) TABLE(xors, [QN_BOOL] = xor_b)
SIGNED(bitand, SAME, x & y) UNSIGNED(bitand, SAME, x & y) TABLE(bitands, ROW_SIGNED(bitand), ROW_UNSIGNED(bitand))
SIGNED(bitor, SAME, x | y) UNSIGNED(bitor, SAME, x | y) TABLE(bitors, ROW_SIGNED(bitor), ROW_UNSIGNED(bitor))
SIGNED(bitxor, SAME, x ^ y) UNSIGNED(bitxor, SAME, x ^ y) TABLE(bitxors, ROW_SIGNED(bitxor), ROW_UNSIGNED(bitxor))
/* Past the width nothing is left. */
UNSIGNED(shl, SAME, U(y) >= 8 * sizeof x ? 0 : U(x) << y) TABLE(shls, ROW_UNSIGNED(shl))
UNSIGNED(shr, SAME, U(y) >= 8 * sizeof x ? 0 : U(x) >> y) TABLE(shrs, ROW_UNSIGNED(shr))

struct call {
    binary_fn fn;
    const uint8_t *a, *b;
    uint8_t *o;
    unsigned in_bytes, out_bytes;
};

static qn_code run(void *ctx, const qn_walk *w, const int64_t *off, uint64_t at, uint64_t n, qn_err *err)
{
    (void)err;
    const struct call *c = ctx;
    c->fn(c->a + off[0] * (int64_t)c->in_bytes, w->strides[0][w->rank - 1], c->b + off[1] * (int64_t)c->in_bytes,
          w->strides[1][w->rank - 1], c->o + at * c->out_bytes, n);
    return QN_OK;
}

static bool same_dims(const qn_array *a, const qn_array *b)
{
    return a->rank == b->rank && !memcmp(a->dims, b->dims, a->rank * sizeof a->dims[0]);
}

/* Into a new output, or into operand a or b when nobody needs it any more. */
static qn_code apply(qn_exec *x, const qn_node *n, const binary_fn *table, const qn_array *a, const qn_array *b, bool spare_a,
                     bool spare_b, qn_dtype out_dtype, qn_array *out, qn_err *err)
{
    if (a->dtype >= QN_DTYPE_PLAIN || !table[a->dtype])
        return qn_fail_dtype(a, err);
    if (a->dtype != b->dtype) {
        char ta[128], tb[128];
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "operands of %s differ in dtype: %s and %s", n->type, qn_array_text(a, ta),
                       qn_array_text(b, tb));
    }
    qn_info in[2] = {{.rank = a->rank}, {.rank = b->rank}}, o = {.rank = QN_RANK_UNKNOWN};
    memcpy(in[0].dims, a->dims, sizeof a->dims);
    memcpy(in[1].dims, b->dims, sizeof b->dims);
    QN_TRY(qn_info_broadcast(in, 2, &o, err));
    qn_array shape = {.rank = o.rank};
    memcpy(shape.dims, o.dims, sizeof o.dims);
    if (spare_a && out_dtype == a->dtype && same_dims(a, &shape))
        qn_array_share(a, out);
    else if (spare_b && out_dtype == b->dtype && same_dims(b, &shape))
        qn_array_share(b, out);
    else
        QN_TRY(qn_exec_new(x, out, out_dtype, o.dims, o.rank, err));
    const qn_array *ops[] = {a, b};
    qn_walk w;
    qn_walk_init(&w, out->dims, out->rank, ops, 2);
    struct call c = {.fn = table[a->dtype], .a = a->data, .b = b->data, .o = out->data, .in_bytes = qn_elem_bytes(a->dtype),
                     .out_bytes = qn_elem_bytes(out->dtype)};
    return qn_walk_run(x, &w, run, &c, err);
}

static qn_code two(qn_exec *x, const qn_node *n, const binary_fn *table, const qn_array *in, bool truth, qn_array *out, qn_err *err)
{
    return apply(x, n, table, &in[0], &in[1], qn_exec_spare(x, n, 0, in), qn_exec_spare(x, n, 1, in), truth ? QN_BOOL : (qn_dtype)in[0].dtype,
                 out, err);
}

/* Integers have no quotient by 0. */
static qn_code divisors(const qn_array *b, qn_err *err)
{
    if (qn_is_float(b->dtype))
        return QN_OK;
    for (uint64_t i = 0; i < b->n; i++)
        if (qn_elem_int(b, i) == 0)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "an integer is divided by 0");
    return QN_OK;
}

#define PLAIN(name, table, truth)                                                                                   \
    qn_code qn_onnx_##name(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)           \
    {                                                                                                               \
        return two(x, n, table, in, truth, out, err);                                                               \
    }
PLAIN(add, adds, false)
PLAIN(sub, subs, false)
PLAIN(mul, muls, false)
PLAIN(equal, equals, true)
PLAIN(less, lesss, true)
PLAIN(greater, mores, true)
PLAIN(less_equal, less_eqs, true)
PLAIN(greater_equal, more_eqs, true)
PLAIN(and, ands, true)
PLAIN(or, ors, true)
PLAIN(xor, xors, true)
PLAIN(bit_and, bitands, false)
PLAIN(bit_or, bitors, false)
PLAIN(bit_xor, bitxors, false)

qn_code qn_onnx_div(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    QN_TRY(divisors(&in[1], err));
    return two(x, n, divs, in, false, out, err);
}

qn_code qn_onnx_mod(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    QN_TRY(divisors(&in[1], err));
    return two(x, n, qn_node_int(n, "fmod", 0) ? rems : mods, in, false, out, err);
}

qn_code qn_onnx_bit_shift(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    const bool left = !strcmp(qn_node_string(n, "direction", ""), "LEFT");
    return two(x, n, left ? shls : shrs, in, false, out, err);
}

/* The exponent may be of another dtype; integers to a fractional power are calculated in double. */
qn_code qn_onnx_pow(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    if (in[0].dtype == in[1].dtype)
        return two(x, n, pows, in, false, out, err);
    const bool wide = !qn_is_float(in[0].dtype) && qn_is_float(in[1].dtype);
    const qn_dtype in_dtype = wide ? QN_F64 : (qn_dtype)in[0].dtype;
    qn_array a = {0}, b = {0}, r = {0};
    qn_code rc = qn_exec_new(x, &b, in_dtype, in[1].dims, in[1].rank, err);
    if (rc == QN_OK)
        rc = qn_convert(in[1].dtype, in[1].data, in_dtype, b.data, b.n, err);
    if (rc == QN_OK && wide)
        rc = qn_exec_new(x, &a, QN_F64, in[0].dims, in[0].rank, err);
    if (rc == QN_OK && wide)
        rc = qn_convert(in[0].dtype, in[0].data, QN_F64, a.data, a.n, err);
    if (rc == QN_OK)
        rc = apply(x, n, pows, wide ? &a : &in[0], &b, false, false, in_dtype, &r, err);
    if (rc == QN_OK && wide) {
        rc = qn_exec_new(x, out, (qn_dtype)in[0].dtype, r.dims, r.rank, err);
        if (rc == QN_OK)
            rc = qn_convert(QN_F64, r.data, in[0].dtype, out->data, out->n, err);
    } else if (rc == QN_OK)
        qn_array_share(&r, out);
    qn_array_release(&a);
    qn_array_release(&b);
    qn_array_release(&r);
    return rc;
}

/* ---- any number of operands ---- */

static qn_code many(qn_exec *x, const qn_node *n, const binary_fn *table, const qn_array *in, qn_array *out, qn_err *err)
{
    qn_array sum = {0};
    if (n->n_in == 1) {
        qn_array_share(&in[0], out);
        return QN_OK;
    }
    for (unsigned i = 1; i < n->n_in; i++) {
        qn_array r = {0};
        if (in[i].dtype == QN_BYTES) {
            qn_array_release(&sum);
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "operand %u is left out", i);
        }
        const qn_code rc = apply(x, n, table, i == 1 ? &in[0] : &sum, &in[i], i > 1, false, (qn_dtype)in[0].dtype, &r, err);
        qn_array_release(&sum);
        if (rc != QN_OK) {
            qn_array_release(&r);
            return rc;
        }
        sum = r;
    }
    *out = sum;
    return QN_OK;
}

#define MANY(name, table)                                                                                           \
    qn_code qn_onnx_##name(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)           \
    {                                                                                                               \
        return many(x, n, table, in, out, err);                                                                     \
    }
MANY(sum, adds)
MANY(min, mins)
MANY(max, maxs)

qn_code qn_onnx_mean(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    if (!qn_is_float(in[0].dtype))
        return qn_fail_dtype(&in[0], err);
    qn_array sum = {0};
    QN_TRY(many(x, n, adds, in, &sum, err));
    const float f = (float)n->n_in;
    const double d = (double)n->n_in;
    qn_array by = {.dtype = sum.dtype, .n = 1, .data = NULL};
    union {
        float f;
        double d;
    } u;
    if (sum.dtype == QN_F32)
        u.f = f;
    else
        u.d = d;
    by.data = &u;
    const qn_code rc = apply(x, n, divs, &sum, &by, n->n_in > 1, false, (qn_dtype)sum.dtype, out, err);
    qn_array_release(&sum);
    return rc;
}

/* ---- shape rules ---- */

qn_code qn_onnx_binary_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    out->dtype = in[0].dtype;
    return qn_info_broadcast(in, n->n_in, out, err);
}

qn_code qn_onnx_truth_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    out->dtype = QN_BOOL;
    return qn_info_broadcast(in, n->n_in, out, err);
}
