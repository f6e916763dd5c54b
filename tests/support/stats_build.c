/* stats_build.c: see stats_build.h. */
#include "tests/support/stats_build.h"
#include "base/num.h"
#include <string.h>

static qn_code block0(qn_stats *s, qn_err *err)
{
    static const float x[2][4] = {{1, 2, 3, 99}, {-1, 0, 4, 99}}, y[2][2] = {{1, 2}, {3, 4}};
    qn_stats_entry *e;
    QN_TRY(qn_stats_open(s, "q", QN_STATS_NO_EXPERT, 3, QN_STATS_H, &e, err));
    QN_TRY(qn_stats_alias(s, e, "k", err));
    QN_TRY(qn_stats_alias(s, e, "v", err));
    QN_TRY(qn_stats_add(s, e, x[0], 2, 4, err));
    return qn_stats_add_outputs(s, e, "q", y[0], 2, 2, 2, err);
}

static qn_code block1(qn_stats *s, qn_err *err)
{
    static const float x[3][2] = {{1, -2}, {3, 4}, {5, 6}};
    qn_stats_entry *e;
    QN_TRY(qn_stats_open(s, "e", 0, 2, QN_STATS_H, &e, err));
    QN_TRY(qn_stats_add(s, e, x[0], 3, 2, err));
    QN_TRY(qn_stats_open(s, "e", 1, 2, QN_STATS_H, &e, err));
    QN_TRY(qn_stats_open(s, "d", QN_STATS_NO_EXPERT, 2, QN_STATS_DIAG, &e, err));
    return qn_stats_add(s, e, x[1], 1, 2, err);
}

static qn_code costs(qn_stats_writer *w, qn_err *err)
{
    const qn_stats_cost q = {.name = "q", .expert = QN_STATS_NO_EXPERT, .tokens = 5, .noise = 0.25, .kl = 0.5};
    const qn_stats_cost e = {.name = "e", .expert = 0, .tokens = 3, .noise = 0.5, .kl = -1};
    QN_TRY(qn_stats_writer_add_cost(w, &q, err));
    return qn_stats_writer_add_cost(w, &e, err);
}

static qn_code measure(qn_stats *s, qn_stats_writer *w, uint32_t blocks, bool finish, qn_err *err)
{
    for (uint32_t b = qn_stats_writer_done(w); b < blocks; b++) {
        QN_TRY(b == 0 ? block0(s, err) : b == 1 ? block1(s, err) : costs(w, err));
        QN_TRY(qn_stats_flush(s, w, err));
        QN_TRY(qn_stats_writer_checkpoint(w, err));
    }
    return finish ? qn_stats_writer_finish(w, NULL, err) : QN_OK;
}

qn_code qt_stats_write(const qn_env *env, const char *path, uint32_t blocks, bool finish, qn_err *err)
{
    static const qn_stats_source data = {.digest = {"data"}, .tokens = 5, .label = "text.txt"};
    static const qn_stats_prop props[] = {{"program", "quern"}};
    const qn_stats_meta meta = {.model = {"model"}, .tokenizer = {"tokenizer"}, .settings = {"settings"}, .tokens = 5,
                                .sequences = 1, .context = 5, .n_sources = 1, .n_props = 1, .sources = &data, .props = props};
    qn_stats_writer *w = NULL;
    qn_stats *s;
    QN_TRY(qn_stats_new(env, NULL, &s, err));
    qn_code rc = qn_stats_writer_open(&w, env, path, &meta, &(qn_stats_write_options){.resumable = true}, err);
    if (rc == QN_OK)
        rc = measure(s, w, blocks, finish, err);
    qn_stats_writer_close(w);
    qn_stats_free(s);
    return rc;
}

void qt_stats_reseal(uint8_t *p, size_t n)
{
    if (n < 128)
        return;
    qn_store64(p + 56, qn_hash64(p, 56));
    for (size_t end = n; end >= 128;) {
        uint8_t *f = p + end - 64;
        const uint64_t off = qn_load64(f + 8), prev = qn_load64(f + 24);
        if (off <= end - 64) {
            const qn_digest d = qn_hash128(p + off, end - 64 - off);
            memcpy(f + 40, d.b, 16);
        }
        qn_store64(f + 56, qn_hash64(f, 56));
        if (prev >= end)
            break;
        end = prev;
    }
}
