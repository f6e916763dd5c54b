/* units.c: see units.h. */
#include "cli/units.h"
#include <ctype.h>
#include <stdio.h>
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

/* Three significant digits of v with one of the units; v < step except for the last unit. */
static void three_digits(char *buf, size_t n, double v, const char *unit)
{
    const int decimals = v < 9.995 ? 2 : v < 99.95 ? 1 : 0;
    snprintf(buf, n, "%.*f %s", decimals, v, unit);
}

void qn_human_bytes(char *buf, size_t n, uint64_t bytes)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB"};
    if (bytes < 1024) {
        snprintf(buf, n, "%u byte%s", (unsigned)bytes, bytes == 1 ? "" : "s");
        return;
    }
    double v = (double)bytes / 1024;
    unsigned u = 0;
    for (; v >= 1023.5 && u < 4; u++)
        v /= 1024;
    three_digits(buf, n, v, units[u]);
}

void qn_human_count(char *buf, size_t n, uint64_t count)
{
    static const char *const units[] = {"K", "M", "B", "T"};
    if (count < 1000) {
        snprintf(buf, n, "%u", (unsigned)count);
        return;
    }
    double v = (double)count / 1000;
    unsigned u = 0;
    for (; v >= 999.5 && u < 3; u++)
        v /= 1000;
    three_digits(buf, n, v, units[u]);
}

void qn_human_seconds(char *buf, size_t n, double seconds)
{
    if (seconds < 59.95) {
        snprintf(buf, n, "%.*f s", seconds < 9.995 ? 2 : 1, seconds);
        return;
    }
    const uint64_t s = (uint64_t)(seconds + 0.5);
    if (s < 3600)
        snprintf(buf, n, "%u min %02u s", (unsigned)(s / 60), (unsigned)(s % 60));
    else
        snprintf(buf, n, "%llu h %02u min", (unsigned long long)(s / 3600), (unsigned)(s % 3600 / 60));
}

void qn_human_rate(char *buf, size_t n, uint64_t bytes, double seconds)
{
    char per[32];
    buf[0] = '\0';
    if (seconds <= 0)
        return;
    qn_human_bytes(per, sizeof per, (uint64_t)((double)bytes / seconds));
    snprintf(buf, n, "%s/s", per);
}

void qn_grouped(char *buf, size_t n, uint64_t v)
{
    char digits[24];
    const int len = snprintf(digits, sizeof digits, "%llu", (unsigned long long)v);
    size_t at = 0;
    for (int i = 0; i < len && at + 2 < n; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            buf[at++] = ',';
        buf[at++] = digits[i];
    }
    buf[at] = '\0';
}
