/* io_mem_impl.h: the inside of qn_memfs, for io_mem.c (the calls) and io_mem_cut.c (what tests do to it) only.
 *
 * Nodes are files and folders; names are rows of one flat table (folder, name, node). Both exist twice: as a process
 * sees them, and as they are safe on the disk, with a log of what lies between. */
#ifndef QN_BASE_IO_MEM_IMPL_H
#define QN_BASE_IO_MEM_IMPL_H

#include "base/io_mem.h"
#include <pthread.h>

enum { QN_MEMFS_NAME_BYTES = 256, QN_MEMFS_NONE = -1, QN_MEMFS_ROOT = 0 };

/* A write (data) or a change of length (data NULL) since the last sync. */
struct qn_memfs_change {
    struct qn_memfs_change *next;
    uint8_t *data;
    uint64_t off, n;
};

struct qn_memfs_bytes {
    uint8_t *p;
    uint64_t n, cap;
};

struct qn_memfs_node {
    bool is_dir;
    int locked_by;
    int64_t mtime;
    struct qn_memfs_bytes now, safe;
    struct qn_memfs_change *first;
};

struct qn_memfs_row {
    int dir, node;
    char name[QN_MEMFS_NAME_BYTES];
};

struct qn_memfs_table {
    struct qn_memfs_row *rows;
    uint64_t n, cap;
};

/* A change of names: a row added (from.node NONE), removed (to.node NONE) or moved. */
struct qn_memfs_move {
    struct qn_memfs_row from, to;
    bool safe;
};

struct qn_memfs {
    qn_fs fs;
    pthread_mutex_t lock;
    struct qn_memfs_node *nodes;
    uint64_t n_nodes, cap_nodes;
    struct qn_memfs_table now, safe;
    struct qn_memfs_move *log;
    uint64_t n_log, cap_log;
    int *handles; /* node, NONE when closed */
    uint64_t n_handles, cap_handles;
    uint64_t limit, used;
    int64_t clock;
};

/* `pointer` is the address of a pointer: the array grows to at least `want` items. */
bool qn_memfs_grow(void *pointer, uint64_t *cap, uint64_t want, size_t size);
bool qn_memfs_add_row(struct qn_memfs_table *t, const struct qn_memfs_row *r);
/* Does nothing when the row that it changes is not there. */
bool qn_memfs_apply(struct qn_memfs_table *t, const struct qn_memfs_move *m);
/* Finds folder and last name of a path; a relative path begins at the root. node: NONE when nothing has that name. */
int qn_memfs_look_up(const struct qn_memfs *m, const char *path, struct qn_memfs_row *at);
int qn_memfs_new_node(struct qn_memfs *m, bool is_dir);
bool qn_memfs_resize(struct qn_memfs_bytes *b, uint64_t n);
bool qn_memfs_put_bytes(struct qn_memfs_bytes *b, const uint8_t *src, uint64_t n, uint64_t off);
void qn_memfs_forget(struct qn_memfs_node *f);
int qn_memfs_list(struct qn_memfs *m, const char *path, int (*each)(void *each_ctx, const char *name), void *each_ctx);

#endif
