/* onnx_einsum.c: Einsum. Operands are folded from the left, two at a time: letters that nobody needs later are summed away, the
 * others are laid out as batches of matrices (batch, m, k) and (batch, n, k), and multiplied. A repeated letter in one operand walks its diagonal. */
#include "analysis/exec/onnx_product.h"
#include <inttypes.h>
#include <string.h>

/* Axes of '…' are letters too: 52 + their place counted from the right. */
enum { LETTERS = 52 + QN_ARRAY_RANK_MAX, TERM_MAX = 32 };

typedef struct term {
    uint8_t letters[TERM_MAX];
    unsigned n;
} term;

typedef struct spec {
    term in[16], out;
    unsigned n_in;
    int64_t size[LETTERS]; /* 0: the letter does not occur, −1: not known */
    bool used[LETTERS];
} spec;

static int letter_of(char c)
{
    if (c >= 'a' && c <= 'z')
        return c - 'a';
    return c >= 'A' && c <= 'Z' ? 26 + c - 'A' : -1;
}

/* One term up to ',' or '-' or the end. n_dots: axes that '…' stands for. */
static qn_code read_term(const char **at, unsigned n_dots, term *t, bool *dots, const char *all, qn_err *err)
{
    t->n = 0;
    *dots = false;
    for (; **at && **at != ',' && **at != '-'; (*at)++) {
        if (**at == ' ')
            continue;
        const int l = letter_of(**at);
        if (!strncmp(*at, "...", 3) && !*dots) {
            *dots = true;
            *at += 2;
            for (unsigned i = n_dots; i-- > 0;)
                t->letters[t->n++] = (uint8_t)(52 + i);
        } else if (l >= 0 && t->n < TERM_MAX - QN_ARRAY_RANK_MAX) {
            t->letters[t->n++] = (uint8_t)l;
        } else {
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "equation '%.80s' cannot be read", all);
        }
    }
    return QN_OK;
}

static unsigned count_letters(const char *at)
{
    unsigned n = 0;
    for (; *at && *at != ',' && *at != '-'; at++)
        n += letter_of(*at) >= 0;
    return n;
}

static qn_code set_size(spec *s, unsigned letter, int64_t size, qn_err *err)
{
    int64_t *have = &s->size[letter];
    if (!s->used[letter] || *have < 0 || (*have == 1 && letter >= 52))
        *have = size;
    else if (size >= 0 && size != *have && !(size == 1 && letter >= 52))
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "one letter of the equation stands for %" PRId64 " and for %" PRId64, *have, size);
    s->used[letter] = true;
    return QN_OK;
}

static qn_code parse(spec *s, const qn_node *n, const int64_t *const *dims, const unsigned *ranks, qn_err *err)
{
    const char *eq = qn_node_string(n, "equation", ""), *at = eq;
    bool dots;
    unsigned seen[LETTERS] = {0}, most_dots = 0;
    memset(s, 0, sizeof *s);
    s->n_in = n->n_in;
    if (n->n_in > 16)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "Einsum of %u operands; at most 16 are supported", n->n_in);
    for (unsigned i = 0; i < n->n_in; i++) {
        const unsigned letters = count_letters(at), n_dots = ranks[i] > letters ? ranks[i] - letters : 0;
        QN_TRY(read_term(&at, n_dots, &s->in[i], &dots, eq, err));
        if (s->in[i].n != ranks[i] || (i + 1 < n->n_in) != (*at == ','))
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "equation '%.80s' does not fit %u operands, of which number %u has rank %u", eq,
                           n->n_in, i, ranks[i]);
        most_dots = n_dots > most_dots ? n_dots : most_dots;
        for (unsigned k = 0; k < ranks[i]; k++) {
            QN_TRY(set_size(s, s->in[i].letters[k], dims[i][k], err));
            seen[s->in[i].letters[k]]++;
        }
        at += *at == ',';
    }
    if (!strncmp(at, "->", 2)) {
        at += 2;
        QN_TRY(read_term(&at, most_dots, &s->out, &dots, eq, err));
        if (*at)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "equation '%.80s' cannot be read", eq);
    } else { /* '…' and then the letters that occur once, in the alphabet's order (capitals first) */
        for (unsigned i = most_dots; i-- > 0;)
            s->out.letters[s->out.n++] = (uint8_t)(52 + i);
        for (unsigned i = 0; i < 52 && s->out.n < TERM_MAX; i++)
            if (seen[(i + 26) % 52] == 1)
                s->out.letters[s->out.n++] = (uint8_t)((i + 26) % 52);
    }
    bool in_out[LETTERS] = {false};
    for (unsigned k = 0; k < s->out.n; k++) {
        const unsigned l = s->out.letters[k];
        if (!s->used[l] || in_out[l])
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "equation '%.80s': a letter of the result is not in the operands, or stands there twice", eq);
        in_out[l] = true;
    }
    if (s->out.n > QN_ARRAY_RANK_MAX)
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "a result of rank %u", s->out.n);
    return QN_OK;
}

qn_code qn_onnx_einsum_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    spec s;
    const int64_t *dims[16];
    unsigned ranks[16];
    out->dtype = in[0].dtype;
    for (unsigned i = 0; i < n->n_in; i++) {
        if (in[i].rank == QN_RANK_UNKNOWN || i >= 16)
            return QN_OK;
        dims[i] = in[i].dims;
        ranks[i] = in[i].rank;
    }
    QN_TRY(parse(&s, n, dims, ranks, err));
    int64_t d[QN_ARRAY_RANK_MAX];
    for (unsigned k = 0; k < s.out.n; k++)
        d[k] = s.size[s.out.letters[k]];
    qn_info_set(out, in[0].dtype, d, s.out.n);
    return QN_OK;
}

/* An array whose axes are letters. */
typedef struct lettered {
    qn_array t;
    term at;
} lettered;

static uint64_t size_of(const spec *s, const term *t)
{
    uint64_t n = 1;
    for (unsigned i = 0; i < t->n; i++)
        n *= (uint64_t)s->size[t->letters[i]];
    return n;
}

/* src laid out densely in the order `to`; letters of src that are not in `to` must have been summed before. */
static qn_code lay_out(qn_exec *x, const spec *s, const lettered *src, const term *to, qn_array *dst, qn_err *err)
{
    const unsigned e = qn_dtype_bits((qn_dtype)src->t.dtype) / 8;
    int64_t flat = 1;
    uint64_t step[TERM_MAX], at[TERM_MAX] = {0};
    for (unsigned i = 0; i < to->n; i++) {
        if (__builtin_mul_overflow(flat, s->size[to->letters[i]], &flat))
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "an intermediate result of Einsum does not fit into memory");
        step[i] = 0;
        uint64_t stride = 1;
        for (unsigned k = src->at.n; k-- > 0;) {
            if (src->at.letters[k] == to->letters[i] && src->t.dims[k] != 1)
                step[i] += stride;
            stride *= (uint64_t)src->t.dims[k];
        }
    }
    QN_TRY(qn_exec_new(x, dst, (qn_dtype)src->t.dtype, &flat, 1, err));
    uint64_t from = 0;
    for (uint64_t i = 0; i < dst->n; i++) {
        memcpy((uint8_t *)dst->data + i * e, (const uint8_t *)src->t.data + from * e, e);
        for (unsigned k = to->n; k-- > 0;) {
            from += step[k];
            if (++at[k] < (uint64_t)s->size[to->letters[k]])
                break;
            from -= step[k] * (uint64_t)s->size[to->letters[k]];
            at[k] = 0;
        }
    }
    return QN_OK;
}

static bool has_letter(const term *t, uint8_t l)
{
    return memchr(t->letters, l, t->n) != NULL;
}

/* Where a letter occurs twice only its first place stays. */
static void add_letters(term *to, const term *from, const term *with, bool in, const bool *needed, bool want)
{
    for (unsigned i = 0; i < from->n; i++) {
        const uint8_t l = from->letters[i];
        if (!has_letter(to, l) && needed[l] == want && (!with || has_letter(with, l) == in) && to->n < TERM_MAX)
            to->letters[to->n++] = l;
    }
}

static qn_code as_letters(const spec *s, qn_array *flat, const term *order, lettered *out, qn_err *err)
{
    int64_t dims[TERM_MAX];
    for (unsigned i = 0; i < order->n; i++)
        dims[i] = s->size[order->letters[i]];
    const qn_code rc = qn_array_view(flat, &out->t, dims, order->n, err);
    out->at = *order;
    qn_array_release(flat);
    return rc;
}

/* Sums the letters that are not needed (or, with a partner, that it has not and nobody needs). */
static qn_code sum_away(qn_exec *x, const spec *s, lettered *v, const term *partner, const bool *needed, qn_err *err)
{
    term keep = {.n = 0}, order;
    add_letters(&keep, &v->at, NULL, false, needed, true);
    if (partner)
        add_letters(&keep, &v->at, partner, true, needed, false);
    order = keep;
    bool none[LETTERS] = {false};
    add_letters(&order, &v->at, NULL, false, none, false);
    if (order.n == keep.n && order.n == v->at.n)
        return QN_OK;
    /* keep · (what is summed): a product with a vector of ones */
    qn_array packed, ones, flat;
    const uint64_t n_keep = size_of(s, &keep);
    QN_TRY(lay_out(x, s, v, &order, &packed, err));
    const int64_t k = n_keep ? (int64_t)(packed.n / n_keep) : 1, m = (int64_t)n_keep;
    qn_code rc = qn_exec_new(x, &flat, (qn_dtype)packed.dtype, &m, 1, err);
    if (rc == QN_OK) {
        rc = qn_exec_new(x, &ones, (qn_dtype)packed.dtype, &k, 1, err);
        if (rc == QN_OK) {
            for (int64_t i = 0; i < k; i++)
                switch (ones.dtype) {
                case QN_F32: ((float *)ones.data)[i] = 1; break;
                case QN_F64: ((double *)ones.data)[i] = 1; break;
                case QN_I64: case QN_U64: ((int64_t *)ones.data)[i] = 1; break;
                default: ((int32_t *)ones.data)[i] = 1; break;
                }
            rc = qn_onnx_product_of(x, (qn_dtype)packed.dtype, false, n_keep, 1, (uint64_t)k, packed.data, ones.data, flat.data, err);
            qn_array_release(&ones);
        }
        if (rc == QN_OK) {
            qn_array_release(&v->t);
            rc = as_letters(s, &flat, &keep, v, err);
        } else {
            qn_array_release(&flat);
        }
    }
    qn_array_release(&packed);
    return rc;
}

/* a · b → a; letters of either that are not needed are gone. */
static qn_code multiply(qn_exec *x, const spec *s, lettered *a, lettered *b, const bool *needed, qn_err *err)
{
    QN_TRY(sum_away(x, s, a, &b->at, needed, err));
    QN_TRY(sum_away(x, s, b, &a->at, needed, err));
    term batch = {.n = 0}, m = {.n = 0}, n = {.n = 0}, k = {.n = 0}, left, right, out;
    add_letters(&batch, &a->at, &b->at, true, needed, true);
    add_letters(&m, &a->at, &b->at, false, needed, true);
    add_letters(&n, &b->at, &a->at, false, needed, true);
    add_letters(&k, &a->at, &b->at, true, needed, false);
    bool none[LETTERS] = {false};
    left = right = out = batch;
    add_letters(&left, &m, NULL, false, none, false);
    add_letters(&left, &k, NULL, false, none, false);
    add_letters(&right, &n, NULL, false, none, false);
    add_letters(&right, &k, NULL, false, none, false);
    add_letters(&out, &m, NULL, false, none, false);
    add_letters(&out, &n, NULL, false, none, false);
    const uint64_t nb = size_of(s, &batch), nm = size_of(s, &m), nn = size_of(s, &n), nk = size_of(s, &k);
    const unsigned e = qn_dtype_bits((qn_dtype)a->t.dtype) / 8;
    int64_t flat_n;
    if (out.n > QN_ARRAY_RANK_MAX || __builtin_mul_overflow((int64_t)(nb * nm), (int64_t)nn, &flat_n))
        return QN_FAIL(err, QN_E_UNSUPPORTED, QN_NO_OFFSET, "an intermediate result of Einsum has rank %u or does not fit into memory", out.n);
    qn_array pa, pb, pc = {0};
    QN_TRY(lay_out(x, s, a, &left, &pa, err));
    qn_code rc = lay_out(x, s, b, &right, &pb, err);
    if (rc == QN_OK) {
        rc = qn_exec_new(x, &pc, (qn_dtype)a->t.dtype, &flat_n, 1, err);
        for (uint64_t i = 0; i < nb && rc == QN_OK && pc.n; i++)
            rc = qn_onnx_product_of(x, (qn_dtype)a->t.dtype, true, nm, nn, nk, (uint8_t *)pa.data + i * nm * nk * e,
                                    (uint8_t *)pb.data + i * nn * nk * e, (uint8_t *)pc.data + i * nm * nn * e, err);
        qn_array_release(&pb);
        if (rc == QN_OK) {
            qn_array_release(&a->t);
            rc = as_letters(s, &pc, &out, a, err);
        } else {
            qn_array_release(&pc);
        }
    }
    qn_array_release(&pa);
    return rc;
}

qn_code qn_onnx_einsum(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    spec s;
    const int64_t *dims[16];
    unsigned ranks[16];
    char text[128];
    for (unsigned i = 0; i < n->n_in && i < 16; i++) {
        const uint8_t t = in[i].dtype;
        if (t != in[0].dtype || (t != QN_F32 && t != QN_F64 && t != QN_I32 && t != QN_I64 && t != QN_U32 && t != QN_U64))
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "operand %u is %s; all must be of one dtype", i, qn_array_text(&in[i], text));
        dims[i] = in[i].dims;
        ranks[i] = in[i].rank;
    }
    QN_TRY(parse(&s, n, dims, ranks, err));
    lettered acc = {.at = s.in[0]};
    qn_array_share(&in[0], &acc.t);
    qn_code rc = QN_OK;
    for (unsigned i = 1; i <= n->n_in && rc == QN_OK; i++) {
        bool needed[LETTERS] = {false};
        for (unsigned k = 0; k < s.out.n; k++)
            needed[s.out.letters[k]] = true;
        for (unsigned l = i + 1; l < n->n_in; l++)
            for (unsigned k = 0; k < s.in[l].n; k++)
                needed[s.in[l].letters[k]] = true;
        if (i == n->n_in) {
            rc = n->n_in == 1 ? sum_away(x, &s, &acc, NULL, needed, err) : QN_OK;
            break;
        }
        lettered b = {.at = s.in[i]};
        qn_array_share(&in[i], &b.t);
        rc = multiply(x, &s, &acc, &b, needed, err);
        qn_array_release(&b.t);
    }
    qn_array flat = {0};
    if (rc == QN_OK)
        rc = lay_out(x, &s, &acc, &s.out, &flat, err);
    qn_array_release(&acc.t);
    lettered result = {0};
    if (rc == QN_OK)
        rc = as_letters(&s, &flat, &s.out, &result, err);
    out[0] = result.t;
    return rc;
}
