/* fuzz_pickle.c: the pickle of a PyTorch checkpoint: in a zip around it (first byte even), or as a stream, where the input is all of the
 * file. What opens must cover the file and give every byte of every tensor. */
#include "base/num.h"
#include "formats/source.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/torch_build.h"
#include <string.h>

static void check_source(qn_source *s, const qt_buf *file)
{
    enum { READ_MAX = 1 << 16, TENSORS_MAX = 64 };
    qn_err err;
    uint64_t at = 0;
    uint8_t *back = malloc(file->n + 1), *part = malloc(READ_MAX);
    for (uint64_t i = 0; i < s->n_objects; i++) {
        const qn_object *o = &s->objects[i];
        QF_CHECK(o->n_bytes <= file->n - at);
        QF_CHECK(qn_source_read(s, i, 0, o->n_bytes, back + at, &err) == QN_OK);
        at += o->n_bytes;
    }
    QF_CHECK(at == file->n && memcmp(back, file->p, at) == 0);
    for (uint64_t i = 0; i < s->n_tensors && i < TENSORS_MAX; i++) {
        const qn_source_tensor *t = &s->tensors[i];
        QF_CHECK(qn_source_tensor_find(s, t->name) == i);
        const uint64_t n = qn_min_u64(t->n_bytes, READ_MAX), from = t->n_bytes - n;
        QF_CHECK(qn_source_tensor_read(s, i, 0, n, part, &err) == QN_OK);
        QF_CHECK(qn_source_tensor_read(s, i, from, n, part, &err) == QN_OK);
        if (n > 3)
            QF_CHECK(qn_source_tensor_read(s, i, from + 1, n - 3, part, &err) == QN_OK);
    }
    free(part);
    free(back);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    qt_buf file = {0};
    qt_zip z = {0};
    if (n == 0)
        return 0;
    if (p[0] & 1) {
        qt_add(&file, p + 1, n - 1);
    } else {
        qt_torch_zip(&z, p + 1, n - 1);
        qt_add(&file, z.file.p, z.file.n);
        qt_zip_free(&z);
    }
    qt_files t;
    qt_counter c;
    qn_err err;
    qn_source *s;
    qt_files_init(&t);
    qt_files_add(&t, "m.pt", file.p, file.n);
    qt_counter_init(&c);
    const qn_env env = qt_env(&t, &c);
    qn_err_clear(&err);
    const qn_code rc = qn_source_open(&env, "m.pt", &s, &err);
    QF_CHECK(rc == QN_OK || rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED);
    QF_CHECK(rc == QN_OK || (err.code == rc && err.text[0] && err.path[0]));
    QF_CHECK(c.peak <= 256 * file.n + (1 << 20)); /* one byte of a pickle may make a value */
    if (rc == QN_OK) {
        if (strcmp(s->ops->format, "torch") == 0)
            check_source(s, &file);
        qn_source_close(s);
    }
    QF_CHECK(c.n_live == 0 && t.n_open == 0);
    qt_buf_free(&file);
    return 0;
}

void qf_seeds(void (*emit)(void *, const uint8_t *, size_t), void *ctx)
{
    static const struct {
        const char *p;
        size_t n;
    } seeds[] = {
#define SEED(s) {s, sizeof s - 1}
        SEED("\x80\2}" PT_KEY("w") PT_W "s."),
        SEED("\x80\2}(" PT_KEY("w") PT_W PT_KEY("t") PT_TENSOR("K\0", "K\4K\2", "K\1K\4") "K\5" PT_TENSOR("K\3", "K\3K\2", "K\0K\1") "u."),
        SEED("\x80\2]q\0(" PT_TENSOR("K\1", "K\2K\2", "K\4K\2") "q\1h\1h\1e."),
        SEED("\x80\4\x95\x20\0\0\0\0\0\0\0}\x94(\x8c\1a\x94\x8c\5torch\x94\x8c\x07" "float16\x94\x93\x94" "C\1xN\x8f(K\1\x90u."),
        SEED("\x80\2" "ccollections\nOrderedDict\n)R(" PT_KEY("a") PT_W "u}X\x09\0\0\0_metadataccollections\nOrderedDict\n)Rsb."),
        SEED("\x80\2}" PT_KEY("a") "ctorch._utils\n_rebuild_parameter\n(" PT_W "\x88" "ccollections\nOrderedDict\n)RtRs."),
        SEED("\x80\2}" PT_KEY("l") "cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\2\0\0\0f8\x89\x88\x87R(K\3X\1\0\0\0<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tbc_codecs\nencode\nX\2\0\0\0abX\6\0\0\0latin1\x86R\x86Rs."),
    };
    for (size_t i = 0; i < sizeof seeds / sizeof seeds[0]; i++) {
        qt_buf b = {0};
        qt_add(&b, "\0", 1);
        qt_add(&b, seeds[i].p, seeds[i].n);
        emit(ctx, b.p, b.n);
        b.n = 0;
        qt_add(&b, "\1", 1);
        qt_torch_legacy(&b, seeds[i].p, seeds[i].n);
        emit(ctx, b.p, b.n);
        qt_buf_free(&b);
    }
}
