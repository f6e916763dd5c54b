/* charsmap.c: see charsmap.h. The trie is that of S. Yata's Darts-clone. */
#include "analysis/tokenize/charsmap.h"
#include "base/err.h"
#include "base/num.h"

enum { UNIT_BYTES = 4 };

qn_code qn_charsmap_init(qn_charsmap *m, const uint8_t *p, uint64_t n, qn_err *err)
{
    *m = (qn_charsmap){0};
    if (n == 0)
        return QN_OK;
    if (n <= UNIT_BYTES)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "precompiled_charsmap of %llu bytes", (unsigned long long)n);
    const uint64_t n_trie = qn_load32(p);
    if (n_trie > n - UNIT_BYTES || n_trie % UNIT_BYTES || n_trie == 0)
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET,
                       "precompiled_charsmap: a trie of %llu bytes, %llu are there and a multiple of 4 is expected",
                       (unsigned long long)n_trie, (unsigned long long)(n - UNIT_BYTES));
    m->n_texts = n - UNIT_BYTES - n_trie;
    m->texts = (const char *)p + UNIT_BYTES + n_trie;
    if (m->n_texts && m->texts[m->n_texts - 1] != '\0')
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "precompiled_charsmap: its last replacement has no end");
    m->units = p + UNIT_BYTES;
    m->n_units = n_trie / UNIT_BYTES;
    return QN_OK;
}

static uint64_t offset_of(uint32_t unit)
{
    return (uint64_t)(unit >> 10) << ((unit & 1u << 9) >> 6);
}

uint64_t qn_charsmap_find(const qn_charsmap *m, const char *s, uint64_t n, bool shortest, const char **to)
{
    uint64_t found = 0;
    if (!m->units)
        return 0;
    uint64_t at = offset_of(qn_load32(m->units));
    for (uint64_t i = 0; i < n; i++) {
        const uint8_t c = (uint8_t)s[i];
        at ^= c;
        if (at >= m->n_units)
            break;
        const uint32_t unit = qn_load32(m->units + UNIT_BYTES * at);
        if ((unit & (1u << 31 | 0xff)) != c)
            break;
        at ^= offset_of(unit);
        if (unit & 1u << 8) {
            if (at >= m->n_units)
                break;
            const uint32_t value = qn_load32(m->units + UNIT_BYTES * at) & 0x7fffffff;
            if (value >= m->n_texts)
                break;
            *to = m->texts + value;
            found = i + 1;
            if (shortest)
                break;
        }
    }
    return found;
}
