/* zip_build.h: zip archives made by hand, and where their parts lie, so that tests can damage exactly one field. */
#ifndef QN_TESTS_ZIP_BUILD_H
#define QN_TESTS_ZIP_BUILD_H

#include "tests/support/hostile.h"

enum { QT_ZIP_MAX = 64 };

enum {
    QT_ZIP_DESCRIPTOR = 1, /* sizes and CRC behind the data, 0 in front, as PyTorch's writer does */
    QT_ZIP_DEFLATE = 2,
    QT_ZIP_WIDE = 4,       /* sizes and position in zip64 fields, 24 bytes of descriptor */
    QT_ZIP_ALIGN = 8,      /* an extra field up to the next multiple of 64               */
};

typedef struct qt_zip {
    qt_buf file;
    size_t n;
    struct {
        const char *name;
        size_t local, data, n_packed, descriptor, central; /* where they begin */
        size_t n_bytes;
        uint32_t crc;
        unsigned how;
    } e[QT_ZIP_MAX];
    size_t central, end64, locator, end; /* end64, locator: 0 when absent */
} qt_zip;

void qt_zip_add(qt_zip *z, const char *name, const void *data, size_t n, unsigned how);
/* Central directory and end records; zip64 end records too if asked for. */
void qt_zip_finish(qt_zip *z, bool zip64);
void qt_zip_free(qt_zip *z);

#endif
