/* open_bytes.c: a file in memory opened as a source; see hostile.h. */
#include "formats/source.h"
#include "tests/support/hostile.h"
#include <criterion/criterion.h>

qn_code qt_open_bytes(const char *path, const void *p, size_t n, qt_counter *counter, qn_err *err)
{
    qt_files t;
    qn_source *s;
    qt_files_init(&t);
    qt_files_add(&t, path, p, n);
    const qn_env env = qt_env(&t, counter);
    qn_err_clear(err);
    const qn_code rc = qn_source_open(&env, path, &s, err);
    if (rc == QN_OK)
        qn_source_close(s);
    cr_assert_eq(t.n_open, 0, "a file stays open");
    cr_assert(!counter || counter->n_live == 0, "memory is lost");
    return rc;
}
