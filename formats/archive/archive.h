/* archive.h: model bundles: a tar or zip archive, or a tar or single file packed with gzip, zstd, xz or bzip2, that holds a
 * model. It is opened as if it were unpacked, without unpacking it to the disk: docs/bundles.md.
 *
 * The members are shown as files of a read-only qn_fs (view.h), below a folder that has the archive's own path; over it any
 * format opens what it knows. */
#ifndef QN_FORMATS_ARCHIVE_ARCHIVE_H
#define QN_FORMATS_ARCHIVE_ARCHIVE_H

#include "formats/registry.h"

extern const qn_format qn_format_tar, qn_format_zip, qn_format_packed;

#endif
