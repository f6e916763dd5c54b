/* members.h: the files in an archive. */
#ifndef QN_FORMATS_ARCHIVE_MEMBERS_H
#define QN_FORMATS_ARCHIVE_MEMBERS_H

#include "base/alloc.h"

enum { QN_MEMBERS_MAX = 100000 };

typedef struct qn_member {
    const char *path; /* as qn_path_is_safe has it */
    uint64_t off, n_bytes; /* in the archive, or in what was unpacked of it */
    bool in_spool;
} qn_member;

typedef struct qn_members {
    const qn_alloc *alloc;
    qn_arena arena;
    qn_member *items; /* after seal by the bytes of their paths */
    uint64_t n, cap;
    uint64_t n_left_out; /* what macOS puts beside the files: ._NAME, __MACOSX/ */
} qn_members;

void qn_members_init(qn_members *m, const qn_alloc *alloc);
void qn_members_release(qn_members *m);
/* Checks the name, of a folder too, and adds a file. "./" in front is dropped. `at`: where in the archive, for messages. */
qn_code qn_members_add(qn_members *m, const char *name, size_t n_name, bool is_dir, const qn_member *where, uint64_t at,
                       qn_err *err) QN_MUST_CHECK;
/* Sorts, and refuses two files of one name, and a file that is a folder too. */
qn_code qn_members_seal(qn_members *m, qn_err *err) QN_MUST_CHECK;
/* The first member whose path is not below `path` in the order of bytes. */
uint64_t qn_members_lower(const qn_members *m, const char *path, size_t n);
/* The member of this path, or NULL. */
const qn_member *qn_members_find(const qn_members *m, const char *path, size_t n);

#endif
