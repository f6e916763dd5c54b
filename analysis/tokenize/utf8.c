/* utf8.c: see utf8.h. */
#include "analysis/tokenize/utf8.h"
#include <utf8proc.h>

unsigned qn_utf8_put(char *p, uint32_t c)
{
    static const uint8_t lead[] = {0, 0xc0, 0xe0, 0xf0};
    const unsigned n_more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    p[0] = (char)(lead[n_more] | c >> 6 * n_more);
    for (unsigned i = 1; i <= n_more; i++)
        p[i] = (char)(0x80 | (c >> 6 * (n_more - i) & 63));
    return n_more + 1;
}

/* Bytes of the character at p when it is whole, else 0 and *n_bad: the bytes that one U+FFFD stands for. Ranges of the second
 * byte keep out long forms, surrogates and what lies past U+10FFFF. */
static unsigned judge(const uint8_t *p, uint64_t n, unsigned *n_bad)
{
    *n_bad = 1;
    if (p[0] < 0x80)
        return 1;
    if (p[0] < 0xc2 || p[0] > 0xf4)
        return 0;
    const unsigned len = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
    const uint8_t low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
    const uint8_t high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
    for (unsigned i = 1; i < len; i++, ++*n_bad)
        if (i == n || p[i] < (i == 1 ? low : 0x80) || p[i] > (i == 1 ? high : 0xbf))
            return 0;
    return len;
}

uint64_t qn_utf8_prefix(const char *p, uint64_t n)
{
    uint64_t i = 0;
    unsigned n_bad;
    while (i < n) {
        if (n - i >= 8 && !(qn_load64(p + i) & 0x8080808080808080u)) {
            i += 8;
            continue;
        }
        const unsigned k = judge((const uint8_t *)p + i, n - i, &n_bad);
        if (!k)
            break;
        i += k;
    }
    return i;
}

qn_code qn_utf8_repair(const char *p, uint64_t n, qn_tok_buf *out, qn_err *err)
{
    while (n > 0) {
        const uint64_t good = qn_utf8_prefix(p, n);
        QN_TRY(qn_tok_buf_put(out, p, good, err));
        if (good == n)
            break;
        unsigned n_bad;
        (void)judge((const uint8_t *)p + good, n - good, &n_bad);
        QN_TRY(qn_tok_buf_put(out, "\xef\xbf\xbd", 3, err));
        p += good + n_bad;
        n -= good + n_bad;
    }
    return QN_OK;
}

bool qn_uni_is_space(uint32_t c)
{
    return c == ' ' || (c >= 9 && c <= 13) || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
           c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool qn_uni_is_mark(uint32_t c)
{
    const utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_MC || k == UTF8PROC_CATEGORY_ME;
}

bool qn_uni_is_nonspacing(uint32_t c)
{
    return utf8proc_category((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_MN;
}

bool qn_uni_is_number(uint32_t c)
{
    const utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
}

bool qn_uni_is_punctuation(uint32_t c)
{
    if (c < 0x80)
        return (c > 32 && c < '0') || (c > '9' && c < 'A') || (c > 'Z' && c < 'a') || (c > 'z' && c < 127);
    const utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO;
}

bool qn_uni_is_word(uint32_t c)
{
    const utf8proc_category_t k = utf8proc_category((utf8proc_int32_t)c);
    return (k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_NL) || k == UTF8PROC_CATEGORY_PC;
}
