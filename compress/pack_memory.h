/* pack_memory.h: what a packing run will hold, for --dry-run and --memory. */
#ifndef QN_COMPRESS_PACK_MEMORY_H
#define QN_COMPRESS_PACK_MEMORY_H

#include "compress/pack.h"
#include "runtime/container.h"

/* Of one worker, when no chunk is larger than max_bytes. */
uint64_t qn_pack_slot_memory(const qn_pack_options *opt, uint64_t max_bytes);
/* Everything but the workers. */
uint64_t qn_pack_table_memory(const qn_index *ix, const qn_pack_options *opt);

#endif
