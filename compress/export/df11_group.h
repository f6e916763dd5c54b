/* df11_group.h: one group of DFloat11 in the making: counted once, then each of its tensors byte range by byte range, so that nothing but
 * the positions within the codes is ever in memory. Work is cut into pieces of one tensor each, on all cores; bytes do not depend on
 * how many there are. */
#ifndef QN_COMPRESS_EXPORT_DF11_GROUP_H
#define QN_COMPRESS_EXPORT_DF11_GROUP_H

#include "compress/export/df11_code.h"
#include "formats/source.h"

enum { QN_DF11_CODES, QN_DF11_GAPS, QN_DF11_LUTS, QN_DF11_POSITIONS, QN_DF11_REST, QN_DF11_SPLITS, QN_DF11_FIELDS };
extern const char *const qn_df11_field[QN_DF11_FIELDS]; /* names of the tensors */

typedef struct qn_df11_part {
    uint64_t tensor; /* of the source: BF16 */
    uint64_t n;      /* weights             */
} qn_df11_part;

struct qn_df11_piece;

typedef struct qn_df11_group {
    const char *module;
    qn_df11_part *parts; /* borrowed */
    uint32_t n_parts;
    uint64_t n; /* weights of all parts, below 2^31 */
    /* made by the survey */
    qn_df11_code code;
    struct qn_df11_piece *pieces; /* owned */
    uint64_t n_pieces, n_bits, n_bytes, n_blocks;
    /* filled while codes are written; owned */
    uint8_t *gap;       /* by slice */
    uint32_t *position; /* by block, and one */
    uint64_t n_walked;  /* pieces            */
} qn_df11_group;

/* Reads all weights once, and settles the code and where each piece's codes begin. *misfit: a part with an exponent that has no code (240 or
 * more: 2^113 and above, infinite, no number), which the caller takes out before trying again; else UINT32_MAX. */
qn_code qn_df11_survey(const qn_env *env, qn_source *src, qn_df11_group *g, uint32_t *misfit, qn_err *err) QN_MUST_CHECK;
/* Bytes of one of its tensors, and of all. */
uint64_t qn_df11_field_bytes(const qn_df11_group *g, unsigned field);
uint64_t qn_df11_bytes(const qn_df11_group *g);
/* n bytes of a tensor at off. Cheap when QN_DF11_CODES is read from front to back first. One caller at a time. */
qn_code qn_df11_read(const qn_env *env, qn_source *src, qn_df11_group *g, unsigned field, uint64_t off, uint64_t n, uint8_t *dst,
                     qn_err *err) QN_MUST_CHECK;
void qn_df11_release(const qn_env *env, qn_df11_group *g);

#endif
