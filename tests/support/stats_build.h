/* stats_build.h: small statistics files by way of the library, and damaged ones whose checksums are right again. */
#ifndef QN_TESTS_STATS_BUILD_H
#define QN_TESTS_STATS_BUILD_H

#include "analysis/stats/file.h"
#include "analysis/stats/stats.h"
#include "tests/support/hostile.h"

/* Writes `path`: block 0 with "q" (n 3, H, aliases "k" and "v", outputs of q), block 1 with "e", experts 0 and 1 (n 2, H;
 * the second never seen), and "d" (n 2, diagonal); block 2 holds sensitivities: 2 of "q", one below zero of "e", expert 0. Values are small whole
 * numbers. restart: drop a partial. */
qn_code qt_stats_write(const qn_env *env, const char *path, uint32_t blocks, bool finish, qn_err *err);

/* Puts the right checksums into a file: of the header, of each segment's index, of each footer. The numbers in the footers
 * must lead from the end to the front. */
void qt_stats_reseal(uint8_t *p, size_t n);

#endif
