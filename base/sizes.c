/* sizes.c: see sizes.h. */
#include "base/sizes.h"
#include <ctype.h>
#include <string.h>

bool qn_parse_count(const char *s, uint64_t *out)
{
    uint64_t v = 0;
    if (!*s)
        return false;
    for (; *s; s++) {
        if (*s < '0' || *s > '9' || __builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v))
            return false;
    }
    *out = v;
    return true;
}

/* The factor of a unit, 0 for a word that is none. */
static uint64_t unit_factor(const char *u)
{
    static const char prefixes[] = "kmgtp";
    if (!*u || strcmp(u, "b") == 0 || strcmp(u, "B") == 0)
        return 1;
    const char *p = strchr(prefixes, tolower((unsigned char)*u));
    if (!p)
        return 0;
    const char *rest = u + 1;
    const bool iec = tolower((unsigned char)rest[0]) == 'i';
    const bool bytes = tolower((unsigned char)rest[iec]) == 'b';
    if (rest[(size_t)iec + bytes] != '\0' || (iec && !bytes))
        return 0;
    const uint64_t step = bytes && !iec ? 1000 : 1024;
    uint64_t f = step;
    for (long i = p - prefixes; i > 0; i--)
        f *= step;
    return f;
}

bool qn_parse_size(const char *s, uint64_t *out)
{
    uint64_t whole = 0, part = 0, scale = 1;
    bool digits = false;
    for (; *s >= '0' && *s <= '9'; s++, digits = true)
        if (__builtin_mul_overflow(whole, 10, &whole) || __builtin_add_overflow(whole, (uint64_t)(*s - '0'), &whole))
            return false;
    if (*s == '.') {
        for (s++; *s >= '0' && *s <= '9'; s++, digits = true)
            if (scale < 1000000) { /* six decimals are more than anyone means */
                part = part * 10 + (uint64_t)(*s - '0');
                scale *= 10;
            }
    }
    while (*s == ' ')
        s++;
    const uint64_t factor = unit_factor(s);
    if (!digits || factor == 0 || __builtin_mul_overflow(whole, factor, &whole))
        return false;
    const uint64_t extra = (uint64_t)((double)factor * (double)part / (double)scale);
    return !__builtin_add_overflow(whole, extra, out);
}
