/* pack_memory.c: see pack_memory.h. */
#include "compress/pack_memory.h"
#include "base/num.h"
#include "compress/journal.h"
#include "compress/lossy.h"
#include <string.h>

enum {
    SCRATCH_CHUNKS = 14, /* scratch of one worker in largest chunks: source, payload, check, base, encoders' own */
    SEARCH_CHUNKS = 18   /* and what zstd's match finders take above the fast level: two tables of 4 bytes for each
                            of twice as many positions, and the window */
};

uint64_t qn_pack_slot_memory(const qn_pack_options *opt, uint64_t max_bytes)
{
    const uint64_t lossless = (SCRATCH_CHUNKS + (opt->level == QN_LEVEL_FAST ? 0u : SEARCH_CHUNKS)) * max_bytes;
    return lossless + (opt->lossy ? qn_lossy_chunk_memory(opt->lossy) : 0);
}

/* Everything but the slots, the source's own tables included: what grows with the number of tensors. Reading the result
 * back comes after encoding, so only the larger of the two counts. Arrays that grow are half empty at worst, and each
 * of three arenas may end with a block that is hardly begun. */
uint64_t qn_pack_table_memory(const qn_index *ix, const qn_pack_options *opt)
{
    const uint64_t n = ix->n_objects, c = ix->n_chunks;
    uint64_t names = 0;
    for (uint64_t i = 0; i < n; i++)
        names += strlen(ix->objects[i].name) + 9 + 8u * ix->objects[i].rank;
    const uint64_t index = names + n * 24 + c * 16; /* as bytes */
    const uint64_t source = n * (sizeof(qn_object) * 3 / 2 + sizeof(qn_source_tensor) + 16) + names;
    const uint64_t ours = n * (sizeof(qn_index_object) + sizeof(qn_pack_row)) +
                          c * (sizeof(qn_index_chunk) + sizeof(qn_journal_record) * 3 / 2);
    const uint64_t encoding = c * 4 * 24 + 2 * index; /* 24: a slot of dedup.c */
    const uint64_t reading = 2 * index + names + n * (sizeof(qn_index_object) + 24) + c * sizeof(qn_index_chunk);
    const uint64_t tables = source + ours + qn_max_u64(encoding, reading);
    const uint64_t lossy = opt->lossy ? qn_lossy_fixed_memory(opt->lossy) : 0;
    return (10u << 20) + tables + 3 * qn_min_u64(tables / 4, 16u << 20) + lossy;
}
