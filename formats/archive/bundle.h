/* bundle.h: an opened archive: its members, and the file system that shows them. */
#ifndef QN_FORMATS_ARCHIVE_BUNDLE_H
#define QN_FORMATS_ARCHIVE_BUNDLE_H

#include "formats/archive/members.h"
#include "formats/archive/spool.h"
#include "formats/zip/zip.h"

typedef struct qn_bundle {
    qn_env env;      /* the caller's, with the view in place of its files */
    const qn_env *outer;
    qn_fs fs;        /* the view                                          */
    char *path;      /* of the archive: the folder at the top of the view  */
    size_t n_path;
    qn_file file;
    qn_stat st;      /* of the archive                                    */
    qn_spool spool;  /* what had to be unpacked                           */
    qn_members members;
} qn_bundle;

/* Fill the members. A zip that is a PyTorch checkpoint sets *is_torch instead. */
qn_code qn_bundle_fill_tar(qn_bundle *b, qn_err *err) QN_MUST_CHECK;
qn_code qn_bundle_fill_packed(qn_bundle *b, qn_err *err) QN_MUST_CHECK;
qn_code qn_bundle_fill_zip(qn_bundle *b, bool *is_torch, qn_err *err) QN_MUST_CHECK;

/* b->path is a folder with the members in it; handles are their numbers, so that nothing is kept for them. Everything that
 * writes gives −EROFS. Thread-safe. */
void qn_view_init(qn_bundle *b);
/* Is this such a view? Archives in archives are not opened. */
bool qn_fs_is_view(const qn_fs *fs);

#endif
