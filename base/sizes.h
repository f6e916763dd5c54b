/* sizes.h: counts and sizes as people write them. */
#ifndef QN_BASE_SIZES_H
#define QN_BASE_SIZES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decimal digits only. */
bool qn_parse_count(const char *s, uint64_t *out);
/* Bytes: digits, optionally a decimal fraction, optionally a unit in any case. K M G T P and KiB MiB … are powers of
 * 1024, KB MB GB … powers of 1000, B or nothing is bytes. */
bool qn_parse_size(const char *s, uint64_t *out);

#endif
