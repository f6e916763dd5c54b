/* onnx_nms.c: NonMaxSuppression. Greedy, box by box of falling score; equal scores in the order of the boxes. */
#include "analysis/exec/ops_onnx.h"
#include "base/err.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

qn_code qn_onnx_non_max_suppression_shape(const qn_node *n, const qn_info *in, qn_info *out, qn_err *err)
{
    (void)n;
    (void)in;
    (void)err;
    out->dtype = QN_I64;
    out->rank = 2;
    out->dims[0] = QN_DIM_UNKNOWN;
    out->dims[1] = 3;
    return QN_OK;
}

struct box {
    float y0, x0, y1, x1;
};

struct candidate {
    float score;
    int64_t at;
};

static int by_score(const void *pa, const void *pb)
{
    const struct candidate *a = pa, *b = pb;
    return a->score != b->score ? (a->score < b->score) - (a->score > b->score) : (a->at > b->at) - (a->at < b->at);
}

/* Corners in any order; or middle, width and height. */
static struct box box_of(const float *p, bool center)
{
    if (center)
        return (struct box){p[1] - p[3] / 2, p[0] - p[2] / 2, p[1] + p[3] / 2, p[0] + p[2] / 2};
    return (struct box){p[0] < p[2] ? p[0] : p[2], p[1] < p[3] ? p[1] : p[3], p[0] < p[2] ? p[2] : p[0], p[1] < p[3] ? p[3] : p[1]};
}

/* Intersection over union. */
static float overlap(struct box a, struct box b)
{
    const float h = (a.y1 < b.y1 ? a.y1 : b.y1) - (a.y0 > b.y0 ? a.y0 : b.y0), w = (a.x1 < b.x1 ? a.x1 : b.x1) - (a.x0 > b.x0 ? a.x0 : b.x0);
    if (!(h > 0 && w > 0))
        return 0;
    const float both = h * w, all = (a.y1 - a.y0) * (a.x1 - a.x0) + (b.y1 - b.y0) * (b.x1 - b.x0) - both;
    return all > 0 ? both / all : 0;
}

struct nms {
    const float *boxes, *scores; /* (n, 4), (n) of one class of one batch */
    uint64_t n;
    int64_t most, batch, class;
    float max_overlap, least_score;
    bool has_least, center;
    struct candidate *list;
    int64_t *taken;              /* places among the list */
    int64_t *out;                /* triples */
    uint64_t n_out;
};

static void one_class(struct nms *s)
{
    uint64_t n = 0;
    int64_t n_taken = 0;
    for (uint64_t i = 0; i < s->n; i++)
        if (s->scores[i] == s->scores[i] && (!s->has_least || s->scores[i] > s->least_score))
            s->list[n++] = (struct candidate){s->scores[i], (int64_t)i};
    if (n)
        qsort(s->list, (size_t)n, sizeof *s->list, by_score);
    for (uint64_t i = 0; i < n && n_taken < s->most; i++) {
        const struct box b = box_of(s->boxes + 4 * s->list[i].at, s->center);
        bool keep = true;
        for (int64_t k = 0; k < n_taken && keep; k++)
            keep = !(overlap(b, box_of(s->boxes + 4 * s->taken[k], s->center)) > s->max_overlap);
        if (!keep)
            continue;
        s->taken[n_taken++] = s->list[i].at;
        int64_t *o = s->out + 3 * s->n_out++;
        o[0] = s->batch;
        o[1] = s->class;
        o[2] = s->list[i].at;
    }
}

qn_code qn_onnx_non_max_suppression(qn_exec *x, const qn_node *n, const qn_array *in, qn_array *out, qn_err *err)
{
    char ta[128], tb[128];
    const qn_array *boxes = &in[0], *scores = &in[1];
    if (boxes->dtype != QN_F32 || scores->dtype != QN_F32 || boxes->rank != 3 || scores->rank != 3 || boxes->dims[2] != 4 ||
        boxes->dims[0] != scores->dims[0] || boxes->dims[1] != scores->dims[2])
        return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "boxes %s and scores %s do not fit", qn_array_text(boxes, ta), qn_array_text(scores, tb));
    for (unsigned i = 2; i < n->n_in; i++)
        if (qn_node_has(n, i) && in[i].n != 1)
            return QN_FAIL(err, QN_E_INPUT, QN_NO_OFFSET, "input %u must be one number", i);
    struct nms s = {.n = (uint64_t)boxes->dims[1], .center = qn_node_int(n, "center_point_box", 0) != 0};
    s.most = qn_node_has(n, 2) ? qn_elem_int(&in[2], 0) : 0;
    if (s.most > boxes->dims[1])
        s.most = boxes->dims[1];
    s.most = s.most < 0 ? 0 : s.most;
    s.max_overlap = qn_node_has(n, 3) ? (float)qn_elem_float(&in[3], 0) : 0;
    s.has_least = qn_node_has(n, 4);
    s.least_score = s.has_least ? (float)qn_elem_float(&in[4], 0) : 0;
    qn_array all = {0}, list = {0}, taken = {0};
    const int64_t most[4] = {scores->dims[0], scores->dims[1], s.most, 3}, size[2] = {boxes->dims[1], (int64_t)sizeof *s.list};
    qn_code rc = qn_exec_new(x, &all, QN_I64, most, 4, err);
    if (rc == QN_OK)
        rc = qn_exec_new(x, &list, QN_U8, size, 2, err);
    if (rc == QN_OK)
        rc = qn_exec_new(x, &taken, QN_I64, &s.most, 1, err);
    s.list = list.data;
    s.taken = taken.data;
    s.out = all.data;
    for (s.batch = 0; rc == QN_OK && all.n && s.batch < scores->dims[0]; s.batch++)
        for (s.class = 0; s.class < scores->dims[1]; s.class++) {
            s.boxes = (const float *)boxes->data + (uint64_t)s.batch * s.n * 4;
            s.scores = (const float *)scores->data + (uint64_t)(s.batch * scores->dims[1] + s.class) * s.n;
            one_class(&s);
        }
    const int64_t dims[2] = {(int64_t)s.n_out, 3};
    if (rc == QN_OK)
        rc = qn_exec_new(x, out, QN_I64, dims, 2, err);
    if (rc == QN_OK && s.n_out)
        memcpy(out->data, all.data, s.n_out * 3 * sizeof(int64_t));
    qn_array_release(&all);
    qn_array_release(&list);
    qn_array_release(&taken);
    return rc;
}
