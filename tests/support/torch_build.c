/* torch_build.c: see torch_build.h. */
#include "tests/support/torch_build.h"
#include <string.h>

size_t qt_torch_zip(qt_zip *z, const void *pickle, size_t n)
{
    static uint8_t data[32];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)i;
    *z = (qt_zip){0};
    qt_zip_add(z, "m/data.pkl", pickle, n, QT_ZIP_DESCRIPTOR | QT_ZIP_ALIGN);
    qt_zip_add(z, "m/byteorder", "little", 6, QT_ZIP_DESCRIPTOR);
    qt_zip_add(z, "m/data/0", data, sizeof data, QT_ZIP_DESCRIPTOR | QT_ZIP_ALIGN);
    qt_zip_add(z, "m/version", "3\n", 2, QT_ZIP_DESCRIPTOR);
    qt_zip_finish(z, true);
    return z->e[0].data;
}

size_t qt_torch_legacy(qt_buf *b, const void *pickle, size_t n)
{
    static const char head[] = "\x80\2\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\2M\xe9\3.\x80\2}X\x0d\0\0\0little_endian\x88s.";
    static const char keys[] = "\x80\2](X\1\0\0\0" "0e.\x08\0\0\0\0\0\0";
    qt_add(b, head, sizeof head - 1);
    const size_t at = b->n;
    qt_add(b, pickle, n);
    qt_add(b, keys, sizeof keys); /* with the NUL: the last byte of the count */
    for (uint8_t i = 0; i < 32; i++)
        qt_add(b, &i, 1);
    return at;
}
