/* npy_head.c: the head of a numpy array file; see npy.h.
 *
 * The header is what Python prints for a dict of three keys: only that much Python is understood here. Anything that could be
 * read in two ways (a dtype of the byte order of an unknown machine, a key that stands twice) is refused. */
#include "base/err.h"
#include "base/num.h"
#include "formats/npz/npy.h"
#include <string.h>

enum { LEAD_BYTES = 8, WORD_MAX = 64 };

struct text {
    const uint8_t *p;
    size_t n, at;
    uint64_t off; /* of p[0] for messages, or QN_NO_OFFSET */
};

static uint64_t place(const struct text *t, size_t at)
{
    return t->off == QN_NO_OFFSET ? QN_NO_OFFSET : t->off + at;
}

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

/* The next byte that is no space, 0 at the end: no header holds one. */
static uint8_t peek(struct text *t)
{
    while (t->at < t->n && is_space(t->p[t->at]))
        t->at++;
    return t->at < t->n ? t->p[t->at] : 0;
}

static qn_code unexpected(struct text *t, const char *what, qn_err *err)
{
    const uint8_t c = peek(t);
    if (t->at == t->n)
        return QN_FAIL(err, QN_E_INPUT, place(t, t->at), "header ends where %s is expected", what);
    return QN_FAIL(err, QN_E_INPUT, place(t, t->at), c > 0x20 && c < 0x7f ? "'%c' in the header, %s is expected"
                                                                          : "byte 0x%02x in the header, %s is expected",
                   c, what);
}

static qn_code expect(struct text *t, char c, const char *what, qn_err *err)
{
    if (peek(t) != (uint8_t)c)
        return unexpected(t, what, err);
    t->at++;
    return QN_OK;
}

/* A string in quotes of either kind; *at is where it begins. */
static qn_code read_string(struct text *t, char word[WORD_MAX], size_t *at, const char *what, qn_err *err)
{
    const uint8_t quote = peek(t);
    size_t n = 0;
    if (quote != '\'' && quote != '"')
        return unexpected(t, what, err);
    *at = t->at++;
    for (; t->at < t->n && t->p[t->at] != quote; t->at++) {
        const uint8_t c = t->p[t->at];
        if (c < 0x20 || c > 0x7e || c == '\\')
            return QN_FAIL(err, QN_E_INPUT, place(t, t->at), "byte 0x%02x in a string of the header", c);
        if (n + 1 == WORD_MAX)
            return QN_FAIL(err, QN_E_INPUT, place(t, *at), "string of more than %d bytes in the header", WORD_MAX - 1);
        word[n++] = (char)c;
    }
    word[n] = '\0';
    if (t->at == t->n)
        return QN_FAIL(err, QN_E_INPUT, place(t, t->at), "header ends inside a string");
    t->at++;
    return QN_OK;
}

/* Bits of one kind of numbers. */
static qn_dtype dtype_of(char kind, unsigned size)
{
    static const struct {
        char kind;
        uint8_t size, dtype;
    } tab[] = {{'b', 1, QN_BOOL}, {'u', 1, QN_U8},  {'u', 2, QN_U16}, {'u', 4, QN_U32}, {'u', 8, QN_U64},
               {'i', 1, QN_I8},   {'i', 2, QN_I16}, {'i', 4, QN_I32}, {'i', 8, QN_I64}, {'f', 2, QN_F16},
               {'f', 4, QN_F32},  {'f', 8, QN_F64}, {'c', 8, QN_C64}};
    for (size_t i = 0; i < sizeof tab / sizeof tab[0]; i++)
        if (tab[i].kind == kind && tab[i].size == size)
            return (qn_dtype)tab[i].dtype;
    return QN_BYTES;
}

/* Why a well-formed dtype is none of ours. */
static qn_code refuse_dtype(const struct text *t, size_t at, const char *word, qn_err *err)
{
    const char *why = "is not known";
    switch (word[0] && strchr("<>|=", word[0]) ? word[1] : word[0]) {
    case 'O':
        why = "is Python objects, which are never loaded";
        break;
    case 'S':
    case 'a':
    case 'U':
        why = "is text";
        break;
    case 'V':
        why = "is bytes without a meaning (extension types such as bfloat16 are saved so)";
        break;
    case 'M':
    case 'm':
        why = "is dates or times";
        break;
    default:
        break;
    }
    return QN_FAIL(err, QN_E_UNSUPPORTED, place(t, at), "dtype '%s' %s", word, why);
}

static qn_code read_descr(struct text *t, qn_npy_head *h, qn_err *err)
{
    char word[WORD_MAX];
    size_t at;
    const uint8_t c = peek(t);
    if (c == '[')
        return QN_FAIL(err, QN_E_UNSUPPORTED, place(t, t->at), "dtype with fields: only arrays of numbers are read");
    if (c == '(')
        return QN_FAIL(err, QN_E_UNSUPPORTED, place(t, t->at), "dtype of small arrays: only arrays of numbers are read");
    QN_TRY(read_string(t, word, &at, "a dtype", err));
    if (strlen(word) != 3 || !strchr("<>|=", word[0]) || !is_digit((uint8_t)word[2]))
        return refuse_dtype(t, at, word, err);
    const unsigned size = (unsigned)(word[2] - '0');
    const qn_dtype dtype = dtype_of(word[1], size);
    if (dtype == QN_BYTES)
        return refuse_dtype(t, at, word, err);
    if (size > 1 && word[0] != '<' && word[0] != '>')
        return QN_FAIL(err, QN_E_UNSUPPORTED, place(t, at), "dtype '%s': the byte order must be stated, '<' or '>'", word);
    h->dtype = (uint8_t)dtype;
    h->swapped = size > 1 && word[0] == '>';
    return QN_OK;
}

static qn_code read_order(struct text *t, qn_npy_head *h, qn_err *err)
{
    const uint8_t c = peek(t);
    const char *word = c == 'T' ? "True" : "False";
    const size_t n = strlen(word), left = t->n - t->at;
    if ((c != 'T' && c != 'F') || left < n || memcmp(t->p + t->at, word, n) != 0)
        return unexpected(t, "True or False", err);
    t->at += n;
    h->fortran = c == 'T';
    return QN_OK;
}

static qn_code read_dim(struct text *t, uint64_t *out, qn_err *err)
{
    uint64_t v = 0;
    if (!is_digit(peek(t)))
        return unexpected(t, "a dimension or the end of the shape", err);
    const size_t begin = t->at;
    for (; t->at < t->n && is_digit(t->p[t->at]); t->at++) {
        v = v * 10 + (uint64_t)(t->p[t->at] - '0');
        if (v > QN_DIM_MAX)
            return QN_FAIL(err, QN_E_INPUT, place(t, begin), "shape: a dimension must be an integer of 0 to 2^48");
    }
    if (t->at - begin > 1 && t->p[begin] == '0')
        return QN_FAIL(err, QN_E_INPUT, place(t, begin), "shape: a number begins with 0");
    if (t->at < t->n && t->p[t->at] == 'L') /* Python 2 */
        t->at++;
    *out = v;
    return QN_OK;
}

static qn_code read_shape(struct text *t, qn_npy_head *h, qn_err *err)
{
    bool comma = true;
    QN_TRY(expect(t, '(', "a shape in brackets", err));
    for (h->rank = 0; peek(t) != ')';) {
        if (!comma)
            return unexpected(t, "a comma or the end of the shape", err);
        if (h->rank == QN_RANK_MAX)
            return QN_FAIL(err, QN_E_INPUT, place(t, t->at), "shape: more than %d dimensions", QN_RANK_MAX);
        QN_TRY(read_dim(t, &h->dims[h->rank], err));
        h->rank++;
        comma = peek(t) == ',';
        t->at += comma;
    }
    if (h->rank == 1 && !comma) /* to Python that is a number in brackets */
        return unexpected(t, "a comma", err);
    t->at++;
    return QN_OK;
}

static qn_code read_dict(struct text *t, qn_npy_head *h, qn_err *err)
{
    static const struct {
        const char *key;
        qn_code (*read)(struct text *, qn_npy_head *, qn_err *);
    } keys[] = {{"descr", read_descr}, {"fortran_order", read_order}, {"shape", read_shape}};
    enum { N_KEYS = sizeof keys / sizeof keys[0] };
    bool seen[N_KEYS] = {false}, comma = true;
    QN_TRY(expect(t, '{', "'{'", err));
    while (peek(t) != '}') {
        char word[WORD_MAX];
        size_t at;
        unsigned k = 0;
        if (!comma)
            return unexpected(t, "a comma or '}'", err);
        QN_TRY(read_string(t, word, &at, "a key", err));
        while (k < N_KEYS && strcmp(keys[k].key, word) != 0)
            k++;
        if (k == N_KEYS)
            return QN_FAIL(err, QN_E_INPUT, place(t, at), "key '%s' in the header: descr, fortran_order and shape are allowed",
                           word);
        if (seen[k])
            return QN_FAIL(err, QN_E_INPUT, place(t, at), "key '%s' stands twice", word);
        seen[k] = true;
        QN_TRY(expect(t, ':', "a colon", err));
        QN_TRY(keys[k].read(t, h, err));
        comma = peek(t) == ',';
        t->at += comma;
    }
    t->at++;
    for (unsigned k = 0; k < N_KEYS; k++)
        if (!seen[k])
            return QN_FAIL(err, QN_E_INPUT, place(t, 0), "header without '%s'", keys[k].key);
    return peek(t) == 0 && t->at == t->n ? QN_OK : unexpected(t, "nothing but spaces", err);
}

/* Do the two orders differ at all? */
static bool has_two_dims(const qn_npy_head *h)
{
    unsigned n = 0;
    for (unsigned i = 0; i < h->rank; i++)
        n += h->dims[i] > 1;
    return n > 1 && h->n_elems > 0;
}

static qn_code read_text(qn_npy_head *h, const uint8_t *p, size_t n, uint64_t at, qn_err *err)
{
    struct text t = {.p = p, .n = n, .off = at};
    QN_TRY(read_dict(&t, h, err));
    if (!qn_shape_bytes((qn_dtype)h->dtype, h->dims, h->rank, &h->n_elems, &h->n_bytes))
        return QN_FAIL(err, QN_E_INPUT, at, "shape: its size overflows");
    h->fortran = h->fortran && has_two_dims(h);
    return QN_OK;
}

/* Version 1 has a length of two bytes, the later ones of four; 3 allows UTF-8, which plain arrays do not use. */
static qn_code read_length(qn_npy_head *h, qn_npy_read_fn read, void *ctx, uint64_t n_bytes, uint64_t at, uint64_t *n_text,
                           qn_err *err)
{
    uint8_t lead[LEAD_BYTES], length[4] = {0};
    if (n_bytes < LEAD_BYTES + 2)
        return QN_FAIL(err, QN_E_INPUT, at == QN_NO_OFFSET ? at : at + n_bytes, "not a numpy array: %llu bytes are too few",
                       (unsigned long long)n_bytes);
    QN_TRY(read(ctx, lead, sizeof lead, 0, err));
    if (memcmp(lead, "\x93NUMPY", 6) != 0)
        return QN_FAIL(err, QN_E_INPUT, at, "not a numpy array: it does not begin with the bytes 0x93 NUMPY");
    if (lead[6] < 1 || lead[6] > 3 || lead[7] != 0)
        return QN_FAIL(err, QN_E_UNSUPPORTED, at == QN_NO_OFFSET ? at : at + 6,
                       "numpy array of version %u.%u: 1.0, 2.0 and 3.0 are known", lead[6], lead[7]);
    const unsigned width = lead[6] == 1 ? 2 : 4;
    h->head_bytes = LEAD_BYTES + width;
    if (n_bytes < h->head_bytes)
        return QN_FAIL(err, QN_E_INPUT, at == QN_NO_OFFSET ? at : at + n_bytes, "numpy array of %llu bytes: too few",
                       (unsigned long long)n_bytes);
    QN_TRY(read(ctx, length, width, LEAD_BYTES, err));
    *n_text = qn_load32(length);
    const uint64_t left = n_bytes - h->head_bytes, most = qn_min_u64(left, QN_NPY_TEXT_MAX);
    if (*n_text > most)
        return QN_FAIL(err, QN_E_INPUT, at == QN_NO_OFFSET ? at : at + LEAD_BYTES, "header of %llu bytes: %llu %s",
                       (unsigned long long)*n_text, (unsigned long long)most,
                       most == left ? "follow" : "are allowed");
    return QN_OK;
}

qn_code qn_npy_read_head(qn_npy_head *h, const qn_alloc *alloc, qn_npy_read_fn read, void *ctx, uint64_t n_bytes, uint64_t at,
                         qn_err *err)
{
    uint64_t n_text = 0;
    *h = (qn_npy_head){.rank = 0};
    QN_TRY(read_length(h, read, ctx, n_bytes, at, &n_text, err));
    uint8_t *text = qn_mem_get(alloc, n_text, err);
    if (!text)
        return QN_E_MEMORY;
    const uint64_t text_off = h->head_bytes;
    qn_code rc = read(ctx, text, n_text, text_off, err);
    if (rc == QN_OK)
        rc = read_text(h, text, (size_t)n_text, at == QN_NO_OFFSET ? at : at + text_off, err);
    h->head_bytes += n_text;
    qn_mem_put(alloc, text);
    return rc;
}
