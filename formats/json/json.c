/* json.c: see json.h. A state per place in the grammar; the stack is one byte a level. */
#include "formats/json/json.h"
#include "base/err.h"
#include "base/num.h"
#include "base/path.h"
#include <stdio.h>
#include <stdlib.h>

enum { WINDOW_BYTES = 64 << 10 };

/* What may come next. */
enum state { VALUE, VALUE_OR_END, KEY, KEY_OR_END, COMMA_OR_END, DONE };

#define BAD(j, ...) QN_FAIL(err, QN_E_INPUT, position(j) - 1, "JSON: " __VA_ARGS__)

/* Where the next byte to be taken lies. */
static uint64_t position(const qn_json *j)
{
    return j->next_off - (j->win_n - j->win_at);
}

static qn_code refill(qn_json *j, qn_err *err)
{
    const uint64_t n = qn_min_u64(WINDOW_BYTES, j->end_off - j->next_off);
    QN_TRY(j->read(j->ctx, j->win, n, j->next_off, err));
    j->next_off += n;
    j->win_n = (size_t)n;
    j->win_at = 0;
    return QN_OK;
}

/* Next byte in *c, or −1 at the end of the text. */
static qn_code peek(qn_json *j, int *c, qn_err *err)
{
    if (j->win_at == j->win_n) {
        if (j->next_off == j->end_off) {
            *c = -1;
            return QN_OK;
        }
        QN_TRY(refill(j, err));
    }
    *c = j->win[j->win_at];
    return QN_OK;
}

static qn_code take(qn_json *j, int *c, qn_err *err)
{
    QN_TRY(peek(j, c, err));
    if (*c < 0)
        return QN_FAIL(err, QN_E_INPUT, j->end_off, "JSON: ends early");
    j->win_at++;
    return QN_OK;
}

static qn_code skip_space(qn_json *j, int *c, qn_err *err)
{
    for (;;) {
        QN_TRY(peek(j, c, err));
        if (*c != ' ' && *c != '\t' && *c != '\n' && *c != '\r')
            return QN_OK;
        j->win_at++;
    }
}

/* More room for a text that is kept whole; one byte stays free for the NUL. */
static qn_code widen(qn_json *j, qn_err *err)
{
    const uint64_t want = qn_min_u64(2 * j->text_cap, j->text_max);
    char *p = qn_mem_get(j->alloc, want + 1, err);
    if (!p)
        return QN_E_MEMORY;
    memcpy(p, j->text, j->n_text);
    qn_mem_put(j->alloc, j->long_text);
    j->text = j->long_text = p;
    j->text_cap = want;
    return QN_OK;
}

static qn_code put_byte(qn_json *j, unsigned c, qn_err *err)
{
    if (j->n_text == j->text_cap) {
        if (j->text_cap == j->text_max) {
            j->cut = true;
            return QN_OK;
        }
        QN_TRY(widen(j, err));
    }
    j->text[j->n_text++] = (char)c;
    return QN_OK;
}

static qn_code put_code_point(qn_json *j, uint32_t u, qn_err *err)
{
    static const uint32_t lead[] = {0, 0xc0, 0xe0, 0xf0};
    const unsigned n_more = u < 0x80 ? 0 : u < 0x800 ? 1 : u < 0x10000 ? 2 : 3;
    QN_TRY(put_byte(j, lead[n_more] | u >> 6 * n_more, err));
    for (unsigned i = n_more; i-- > 0;)
        QN_TRY(put_byte(j, 0x80 | (u >> 6 * i & 63), err));
    return QN_OK;
}

static qn_code take_hex4(qn_json *j, uint32_t *u, qn_err *err)
{
    *u = 0;
    for (int i = 0; i < 4; i++) {
        int c;
        QN_TRY(take(j, &c, err));
        const int low = c | 0x20;
        if (c >= '0' && c <= '9')
            *u = *u << 4 | (uint32_t)(c - '0');
        else if (low >= 'a' && low <= 'f')
            *u = *u << 4 | (uint32_t)(low - 'a' + 10);
        else
            return BAD(j, "\\u is not followed by four hex digits");
    }
    return QN_OK;
}

static qn_code take_unicode(qn_json *j, qn_err *err)
{
    uint32_t u, low;
    int c;
    QN_TRY(take_hex4(j, &u, err));
    if (u >= 0xdc00 && u < 0xe000)
        return BAD(j, "lone surrogate \\u%04x", u);
    if (u >= 0xd800 && u < 0xdc00) {
        QN_TRY(take(j, &c, err));
        if (c != '\\')
            return BAD(j, "lone surrogate \\u%04x", u);
        QN_TRY(take(j, &c, err));
        if (c != 'u')
            return BAD(j, "lone surrogate \\u%04x", u);
        QN_TRY(take_hex4(j, &low, err));
        if (low < 0xdc00 || low >= 0xe000)
            return BAD(j, "lone surrogate \\u%04x", u);
        u = 0x10000 + ((u - 0xd800) << 10 | (low - 0xdc00));
    }
    if (u == 0 && !j->allow_nul)
        return BAD(j, "NUL in a string");
    return put_code_point(j, u, err);
}

static qn_code take_escape(qn_json *j, qn_err *err)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    int c;
    QN_TRY(take(j, &c, err));
    if (c == 'u')
        return take_unicode(j, err);
    const char *at = c ? strchr(from, c) : NULL;
    if (!at)
        return BAD(j, "unknown escape");
    return put_byte(j, (unsigned char)to[at - from], err);
}

/* A multi-byte UTF-8 sequence whose first byte is c: gathered, then judged whole. */
static qn_code take_utf8(qn_json *j, int c, qn_err *err)
{
    char seq[4] = {(char)c};
    const size_t n = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
    for (size_t i = 1; i < n; i++) {
        int d;
        QN_TRY(take(j, &d, err));
        seq[i] = (char)d;
    }
    if (!qn_utf8_is_valid(seq, n))
        return BAD(j, "string is not UTF-8");
    for (size_t i = 0; i < n; i++)
        QN_TRY(put_byte(j, (unsigned char)seq[i], err));
    return QN_OK;
}

static qn_code take_string(qn_json *j, qn_err *err)
{
    j->n_text = 0;
    j->cut = false;
    for (;;) {
        int c;
        QN_TRY(take(j, &c, err));
        if (c == '"')
            break;
        if (c < 0x20)
            return BAD(j, "control byte 0x%02x in a string", (unsigned)c);
        if (c == '\\')
            QN_TRY(take_escape(j, err));
        else if (c >= 0x80)
            QN_TRY(take_utf8(j, c, err));
        else
            QN_TRY(put_byte(j, (unsigned)c, err));
    }
    j->text[j->n_text] = '\0';
    return QN_OK;
}

/* A number as ± digits × 10^scale, the digits from the first that is not 0. Of more than there is room for the rest is dropped:
 * no double is that exact. */
struct decimal {
    char digits[48];
    size_t n;
    int64_t scale;
    bool negative, in_fraction;
};

static void put_digit(struct decimal *d, int c)
{
    if (d->n == 0 && c == '0') {
        d->scale -= d->in_fraction;
    } else if (d->n < sizeof d->digits - 24) {
        d->digits[d->n++] = (char)c;
        d->scale -= d->in_fraction;
    } else {
        d->scale += !d->in_fraction;
    }
}

static qn_code take_digits(qn_json *j, bool *fits, struct decimal *d, qn_err *err)
{
    int c;
    size_t n = 0;
    for (;; n++) {
        QN_TRY(peek(j, &c, err));
        if (c < '0' || c > '9')
            break;
        j->win_at++;
        put_digit(d, c);
        bool ovf = false;
        j->number = qn_add(qn_mul(j->number, 10, &ovf), (uint64_t)(c - '0'), &ovf);
        if (ovf)
            *fits = false;
    }
    return n ? QN_OK : QN_FAIL(err, QN_E_INPUT, position(j), "JSON: a digit is missing");
}

/* The nearest double. Exact where the digits and the power of ten are doubles themselves, else by the C library: without a decimal
 * point, so that no locale matters. */
static double nearest(struct decimal *d, int64_t exponent)
{
    static const double ten[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    const int64_t e = d->scale + exponent;
    uint64_t v = 0;
    double r;
    for (size_t i = 0; i < d->n && d->n <= 19; i++)
        v = v * 10 + (uint64_t)(d->digits[i] - '0');
    if (d->n == 0) {
        r = 0;
    } else if (d->n <= 19 && v <= (uint64_t)1 << 53 && e >= -22 && e <= 22) {
        r = e < 0 ? (double)v / ten[-e] : (double)v * ten[e];
    } else {
        const long long small = e > 9999 ? 9999 : e < -9999 ? -9999 : (long long)e;
        (void)snprintf(d->digits + d->n, sizeof d->digits - d->n, "e%lld", small);
        r = strtod(d->digits, NULL);
    }
    return d->negative ? -r : r;
}

static qn_code take_number(qn_json *j, int first, qn_err *err)
{
    int c;
    struct decimal d = {.n = 0}, exponent = {.n = 0};
    bool negative = false, fits = true;
    uint64_t n_exponent = 0;
    j->number = 0;
    j->is_uint = true;
    if (first == '-') {
        d.negative = true;
        j->is_uint = false;
        j->win_at++;
        QN_TRY(peek(j, &first, err));
    }
    const uint64_t begin = position(j);
    QN_TRY(take_digits(j, &j->is_uint, &d, err));
    if (first == '0' && position(j) - begin > 1)
        return BAD(j, "a number begins with 0");
    QN_TRY(peek(j, &c, err));
    const uint64_t integer = j->number;
    if (c == '.') {
        j->is_uint = false;
        j->win_at++;
        d.in_fraction = true;
        QN_TRY(take_digits(j, &j->is_uint, &d, err));
        QN_TRY(peek(j, &c, err));
    }
    if (c == 'e' || c == 'E') {
        j->win_at++;
        QN_TRY(peek(j, &c, err));
        if (c == '+' || c == '-') {
            negative = c == '-';
            j->win_at++;
        }
        j->number = 0;
        QN_TRY(take_digits(j, &fits, &exponent, err));
        n_exponent = fits ? qn_min_u64(j->number, 1 << 20) : 1 << 20;
        j->is_uint = false;
    }
    j->number = integer;
    if (j->read_reals)
        j->real = nearest(&d, negative ? -(int64_t)n_exponent : (int64_t)n_exponent);
    return QN_OK;
}

static qn_code take_word(qn_json *j, const char *word, qn_err *err)
{
    for (; *word; word++) {
        int c;
        QN_TRY(take(j, &c, err));
        if (c != *word)
            return BAD(j, "unknown word");
    }
    return QN_OK;
}

static qn_code push(qn_json *j, bool is_object, qn_err *err)
{
    if (j->depth == QN_JSON_DEPTH_MAX)
        return BAD(j, "nested deeper than %d", QN_JSON_DEPTH_MAX);
    j->is_object[j->depth++] = is_object;
    j->state = is_object ? KEY_OR_END : VALUE_OR_END;
    return QN_OK;
}

static void after_value(qn_json *j)
{
    j->state = j->depth ? COMMA_OR_END : DONE;
}

static qn_code take_value(qn_json *j, int c, qn_json_token *tok, qn_err *err)
{
    if (c == '-' || (c >= '0' && c <= '9')) {
        *tok = QN_JSON_NUMBER;
        QN_TRY(take_number(j, c, err));
        after_value(j);
        return QN_OK;
    }
    j->win_at++;
    switch (c) {
    case '{':
        *tok = QN_JSON_OBJECT;
        return push(j, true, err);
    case '[':
        *tok = QN_JSON_ARRAY;
        return push(j, false, err);
    case '"':
        *tok = QN_JSON_STRING;
        QN_TRY(take_string(j, err));
        break;
    case 't':
        *tok = QN_JSON_TRUE;
        QN_TRY(take_word(j, "rue", err));
        break;
    case 'f':
        *tok = QN_JSON_FALSE;
        QN_TRY(take_word(j, "alse", err));
        break;
    case 'n':
        *tok = QN_JSON_NULL;
        QN_TRY(take_word(j, "ull", err));
        break;
    default:
        return BAD(j, "byte 0x%02x where a value should begin", (unsigned)c);
    }
    after_value(j);
    return QN_OK;
}

static qn_code take_key(qn_json *j, int c, qn_json_token *tok, qn_err *err)
{
    j->win_at++;
    if (c != '"')
        return BAD(j, "byte 0x%02x where a key should begin", (unsigned)c);
    QN_TRY(take_string(j, err));
    QN_TRY(skip_space(j, &c, err));
    QN_TRY(take(j, &c, err));
    if (c != ':')
        return BAD(j, "a colon is missing after a key");
    *tok = QN_JSON_KEY;
    j->state = VALUE;
    return QN_OK;
}

static qn_code pop(qn_json *j, qn_json_token *tok)
{
    j->win_at++;
    *tok = j->is_object[--j->depth] ? QN_JSON_OBJECT_END : QN_JSON_ARRAY_END;
    after_value(j);
    return QN_OK;
}

qn_code qn_json_next(qn_json *j, qn_json_token *tok, qn_err *err)
{
    int c;
    QN_TRY(skip_space(j, &c, err));
    if (j->state == DONE) {
        if (c < 0) {
            *tok = QN_JSON_END;
            return QN_OK;
        }
        j->win_at++;
        return BAD(j, "byte 0x%02x after the end", (unsigned)c);
    }
    if (c < 0)
        return QN_FAIL(err, QN_E_INPUT, j->end_off, "JSON: ends early");
    j->token_off = position(j);
    const int end = j->depth && j->is_object[j->depth - 1] ? '}' : ']';
    if (c == end && j->depth && (j->state == COMMA_OR_END || j->state == KEY_OR_END || j->state == VALUE_OR_END))
        return pop(j, tok);
    if (j->state == COMMA_OR_END) {
        j->win_at++;
        if (c != ',')
            return BAD(j, "byte 0x%02x where a comma or an end should be", (unsigned)c);
        QN_TRY(skip_space(j, &c, err));
        if (c < 0)
            return QN_FAIL(err, QN_E_INPUT, j->end_off, "JSON: ends early");
        j->state = end == '}' ? KEY : VALUE;
    }
    j->token_off = position(j);
    return j->state == KEY || j->state == KEY_OR_END ? take_key(j, c, tok, err) : take_value(j, c, tok, err);
}

qn_code qn_json_skip(qn_json *j, qn_json_token tok, qn_err *err)
{
    const unsigned until = j->depth;
    if (tok != QN_JSON_OBJECT && tok != QN_JSON_ARRAY)
        return QN_OK;
    do
        QN_TRY(qn_json_next(j, &tok, err));
    while (j->depth >= until);
    return QN_OK;
}

qn_code qn_json_open(qn_json *j, const qn_alloc *alloc, qn_json_read_fn read, void *ctx, uint64_t off, uint64_t n_bytes,
                     qn_err *err)
{
    memset(j, 0, sizeof *j);
    j->alloc = alloc;
    j->read = read;
    j->ctx = ctx;
    j->next_off = off;
    j->end_off = off + n_bytes;
    j->state = VALUE;
    j->win = qn_mem_get(alloc, WINDOW_BYTES + QN_JSON_STRING_MAX + 8, err);
    if (!j->win)
        return QN_E_MEMORY;
    j->text = (char *)j->win + WINDOW_BYTES;
    j->text_cap = j->text_max = QN_JSON_STRING_MAX;
    return QN_OK;
}

void qn_json_text_limit(qn_json *j, uint64_t max)
{
    j->text_max = qn_max_u64(max, QN_JSON_STRING_MAX);
}

void qn_json_release(qn_json *j)
{
    qn_mem_put(j->alloc, j->win);
    qn_mem_put(j->alloc, j->long_text);
    j->win = NULL;
    j->long_text = NULL;
}
