/* df11_code.h: the prefix code of a DFloat11 group and its decoding tables (formats/dfloat11/layout.h).
 *
 * Readers use nothing but the tables, so any prefix code will do. This one is canonical: shorter codes come first, so that
 * long ones lie together and need few rows. */
#ifndef QN_COMPRESS_EXPORT_DF11_CODE_H
#define QN_COMPRESS_EXPORT_DF11_CODE_H

#include "formats/dfloat11/layout.h"
#include "quern/base.h"
#include <stdbool.h>

enum { QN_DF11_END = 256, QN_DF11_SYMBOLS = 257 }; /* 256: no weight has it; its bits fill the last byte */

typedef struct qn_df11_code {
    uint8_t bits[QN_DF11_SYMBOLS];  /* 0: the exponent does not occur */
    uint32_t code[QN_DF11_SYMBOLS]; /* its bits, the last one lowest  */
    uint8_t luts[(QN_DF11_ROWS_MAX + 1) * 256];
    unsigned n_rows;                /* of luts, that of the lengths included */
} qn_df11_code;

/* Shortest code for these counts among those of at most 32 bits, at most 17 rows, and (so that a block's weights fit the
 * 48 KiB that a GPU's threads share) at least 2 bits. False when an exponent of 240 or more occurs, or none does. */
bool qn_df11_code_make(qn_df11_code *c, const uint64_t count[256]);

#endif
