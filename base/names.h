/* names.h: a table from names to small numbers that a hostile list of names cannot slow down.
 *
 * Names come from files, so whoever wrote the file chooses what collides. The hash is keyed with a random number per
 * table: nobody can prepare names that fall together. The key decides only where a name is kept, never what a
 * program puts out. The table does not hold the names: a callback gives the name of an item. */
#ifndef QN_BASE_NAMES_H
#define QN_BASE_NAMES_H

#include "quern/base.h"

#define QN_NAMES_NONE UINT32_MAX

typedef struct qn_name_slot {
    uint32_t item; /* + 1; 0 = free                                        */
    uint32_t tag;  /* upper half of the hash: most strangers are seen here */
} qn_name_slot;

typedef struct qn_names {
    qn_name_slot *slots; /* borrowed: qn_names_slots(n) of them; NULL for an empty table */
    uint64_t mask, key;
} qn_names;

typedef const char *(*qn_name_of)(const void *ctx, uint32_t item);

/* Slots that n names need: a power of two, at most two thirds full. n < 2^32. */
uint64_t qn_names_slots(uint64_t n);
/* Over zeroed storage of n_slots. */
void qn_names_init(qn_names *t, qn_name_slot *slots, uint64_t n_slots);
/* QN_NAMES_NONE if there is no such name. */
uint32_t qn_names_find(const qn_names *t, const char *name, qn_name_of of, const void *ctx);
/* Adds an item below QN_NAMES_NONE; returns QN_NAMES_NONE, or the item that has the name already (and adds nothing). */
uint32_t qn_names_add(qn_names *t, const char *name, uint32_t item, qn_name_of of, const void *ctx);

#endif
