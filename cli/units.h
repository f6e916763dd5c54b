/* units.h: numbers as people read them. How they write them: base/sizes.h. */
#ifndef QN_CLI_UNITS_H
#define QN_CLI_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "999 bytes", "12.3 KiB", "4.56 GiB": three digits that count. */
void qn_human_bytes(char *buf, size_t n, uint64_t bytes);
/* "128", "12.3 K", "7.24 B": parameters and other counts, in powers of 1000. */
void qn_human_count(char *buf, size_t n, uint64_t count);
/* "0.42 s", "12.3 s", "2 min 05 s", "3 h 20 min". */
void qn_human_seconds(char *buf, size_t n, double seconds);
/* "1.21 GiB/s"; "" when there is nothing to divide by. */
void qn_human_rate(char *buf, size_t n, uint64_t bytes, double seconds);
/* "1,234,567". */
void qn_grouped(char *buf, size_t n, uint64_t v);

#endif
