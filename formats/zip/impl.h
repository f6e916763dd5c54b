/* impl.h (zip): what the two halves of the directory reader share. */
#ifndef QN_FORMATS_ZIP_IMPL_H
#define QN_FORMATS_ZIP_IMPL_H

#include "formats/zip/zip.h"

enum {
    QN_ZIP_FLAG_DESCRIPTOR = 0x0008, /* sizes and CRC follow the data */
    QN_ZIP_LOCAL_BYTES = 30,
    QN_ZIP_CENTRAL_BYTES = 46,
};
#define QN_ZIP_SENTINEL 0xffffffffu /* the value is in the zip64 field */

/* The zip64 field of an extra area that lies at `off` in the file: *body is NULL when there is none. Refuses areas that are
 * not whole fields, a second zip64 field, and a field that gives the entry another name. */
qn_code qn_zip_extra(const uint8_t *p, size_t n, uint64_t off, const uint8_t **body, size_t *n_body, qn_err *err) QN_MUST_CHECK;

/* Entries are listed and sorted by offset, `central` holds the central directory: reads every local header, compares it, fills
 * data_off and end, and checks that the entries lie end to end. */
qn_code qn_zip_check_locals(qn_zip *z, const uint8_t *central, qn_err *err) QN_MUST_CHECK;

/* A name from the file made fit for a message. */
typedef struct qn_zip_shown {
    char text[96];
} qn_zip_shown;
qn_zip_shown qn_zip_show(const char *name);

#endif
