/* units.c: see units.h. */
#include "cli/units.h"
#include <stdio.h>
#include <string.h>

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
