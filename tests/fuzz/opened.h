/* opened.h: opening files in memory as a source, and as a graph, with what must hold whatever is in them: an error has its code, words and
 * a path, memory stays within bounds, nothing is left. */
#ifndef QN_TESTS_FUZZ_OPENED_H
#define QN_TESTS_FUZZ_OPENED_H

#include "analysis/graph/graph.h"
#include "tests/fuzz/fuzz.h"
#include "tests/support/hostile.h"

/* look: NULL, or what is done with the source. */
static inline void qf_open_source(qt_files *t, const char *path, uint64_t peak, void (*look)(qn_source *s))
{
    qt_counter c;
    qn_err err;
    qn_source *s;
    qt_counter_init(&c);
    const qn_env env = qt_env(t, &c);
    qn_err_clear(&err);
    const qn_code rc = qn_source_open(&env, path, &s, &err);
    QF_CHECK(rc == QN_OK || rc == QN_E_INPUT || rc == QN_E_IO || rc == QN_E_UNSUPPORTED);
    QF_CHECK(rc == QN_OK || (err.code == rc && err.text[0] && err.path[0]));
    QF_CHECK(c.peak <= peak);
    if (rc == QN_OK) {
        if (look)
            look(s);
        qn_source_close(s);
    }
    QF_CHECK(c.n_live == 0 && t->n_open == 0);
}

/* peak 0: not looked at. */
static inline void qf_open_graph(qt_files *t, const char *path, uint64_t peak)
{
    qt_counter c;
    qn_err err;
    qn_source *s;
    qn_graph *g = NULL;
    qt_counter_init(&c);
    const qn_env env = qt_env(t, &c);
    qn_err_clear(&err);
    if (qn_source_open(&env, path, &s, &err) == QN_OK) {
        const qn_code rc = qn_graph_open(&env, s, &g, &err);
        QF_CHECK(rc == QN_OK || rc == QN_E_INPUT || rc == QN_E_UNSUPPORTED);
        QF_CHECK((rc == QN_OK) == (g != NULL));
        QF_CHECK(rc == QN_OK || (err.code == rc && err.text[0] && err.path[0]));
        QF_CHECK(!peak || c.peak <= peak);
        qn_graph_close(g);
        qn_source_close(s);
    }
    QF_CHECK(c.n_live == 0 && t->n_open == 0);
}

#endif
