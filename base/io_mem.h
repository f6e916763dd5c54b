/* io_mem.h: files in memory, for tests: a qn_fs with folders, locks and a size limit, and with a power switch.
 *
 * It keeps apart what a disk would keep apart. The bytes of a file are safe after sync; its name, and every rename and
 * removal, is safe after sync_dir of the folder. What is not safe may or may not be there after a power cut, in any
 * combination. That is harsher than any journalling file system, and all that POSIX promises. No symlinks.
 * Not part of the libraries; thread-safe. */
#ifndef QN_BASE_IO_MEM_H
#define QN_BASE_IO_MEM_H

#include "base/io.h"

typedef struct qn_memfs qn_memfs;

/* An empty file system; NULL when there is no memory. */
qn_memfs *qn_memfs_new(void);
void qn_memfs_free(qn_memfs *m); /* NULL is fine */
const qn_fs *qn_memfs_fs(qn_memfs *m);

/* Room for this many bytes in all files together: writing more gives −ENOSPC. UINT64_MAX at first. */
void qn_memfs_limit(qn_memfs *m, uint64_t n_bytes);
/* Creates or replaces a file, with the folders above it, safe at once. 0 or −errno. */
int qn_memfs_put(qn_memfs *m, const char *path, const void *data, size_t n);
/* Content of a file, borrowed until the next change; NULL when there is none. */
const uint8_t *qn_memfs_get(qn_memfs *m, const char *path, size_t *n);
/* Handles that nobody has closed. */
uint64_t qn_memfs_n_open(qn_memfs *m);
/* Every path, in byte order, one after the other with a newline behind each; freed with free(). */
char *qn_memfs_tree(qn_memfs *m);

/* The process is gone: its handles and locks are, what it wrote is not. */
void qn_memfs_kill(qn_memfs *m);
/* The power is gone too: each write since the last sync is kept, dropped or torn (sectors of 64 bytes kept, dropped or
 * filled with garbage), each change of a name kept or dropped, as the seed says. What is left is safe. */
void qn_memfs_cut(qn_memfs *m, uint64_t seed);

#endif
