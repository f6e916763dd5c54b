/* lossy_pick.c: which tensors are approximated. The graph says what multiplies what; names say nothing. */
#include "compress/lossy.h"
#include <string.h>

enum { ROW_MIN = 32 /* docs/format.md, "Rows": shorter ones are joined, and then are no rows */, ROWS_MIN = 16 };

/* zip archives (.pt, .npz) hold a CRC of each tensor, which approximated bytes would not have. */
static bool file_fits(const qn_source *src, const qn_object *o)
{
    const char *path = src->files[o->file].path;
    return qn_text_ends(path, ".safetensors") || qn_text_ends(path, ".gguf") || qn_text_ends(path, ".npy");
}

static const char *why_kept(const qn_source *src, const qn_object *o)
{
    if (!file_fits(src, o))
        return "its file carries a checksum of its own, or a layout that must not change";
    if (o->dtype != QN_F32 && o->dtype != QN_F16 && o->dtype != QN_BF16)
        return "not F32, F16 or BF16";
    if (o->rank != 2)
        return "not a matrix";
    if (o->dims[1] < ROW_MIN || o->dims[0] < ROWS_MIN)
        return "too small";
    if (o->dims[1] > 1u << 18 || o->dims[0] > UINT32_MAX / 4)
        return "rows too long";
    return NULL;
}

static void note(const qn_source *src, qn_lossy_pick *picks, const qn_value *v, qn_lossy_role role, const char *kept)
{
    const qn_source_tensor *t = &src->tensors[v->tensor];
    if (t->object == QN_NO_OBJECT)
        return;
    qn_lossy_pick *p = &picks[t->object];
    /* a head that is also the embedding is a head; a use that keeps it wins over all others */
    p->tied = p->tied || (p->role != QN_ROLE_NONE && (p->role == QN_ROLE_EMBEDDING) != (role == QN_ROLE_EMBEDDING));
    if (p->role == QN_ROLE_NONE || (p->role == QN_ROLE_EMBEDDING && role != QN_ROLE_EMBEDDING))
        p->role = role;
    if (!p->kept)
        p->kept = kept ? kept : why_kept(src, &src->objects[t->object]);
}

static bool is_output(const qn_graph *g, uint32_t value)
{
    for (uint32_t i = 0; i < g->n_outputs; i++)
        if (g->outputs[i] == value)
            return true;
    return false;
}

/* A head makes a number for each word: its output is the graph's, or all but (a soft cap may follow). */
static qn_lossy_role role_of_linear(const qn_graph *g, const qn_node *n, const qn_value *w)
{
    const bool words = g->n_vocab && w->rank == 2 && w->dims[0] == (int64_t)g->n_vocab;
    return words || (n->n_out && is_output(g, n->out[0])) ? QN_ROLE_HEAD : QN_ROLE_LINEAR;
}

void qn_lossy_pick_all(const qn_source *src, const qn_graph *g, qn_lossy_pick *picks)
{
    for (uint32_t i = 0; i < g->n_nodes; i++) {
        const qn_node *n = &g->nodes[i];
        for (unsigned k = 0; k < n->n_in; k++) {
            if (n->in[k] == QN_NO_VALUE || g->values[n->in[k]].kind != QN_VALUE_WEIGHT)
                continue;
            const qn_value *w = &g->values[n->in[k]];
            const bool linear = strcmp(n->type, "Linear") == 0 && strcmp(n->domain, "quern") == 0;
            if (linear && k == 1)
                note(src, picks, w, role_of_linear(g, n, w),
                     strcmp(qn_node_string(n, "layout", "out_in"), "out_in") == 0 ? NULL : "stored as (in, out)");
            else if (strcmp(n->type, "Experts") == 0 && strcmp(n->domain, "quern") == 0 && k >= 2 && w->rank == 2)
                note(src, picks, w, QN_ROLE_LINEAR, NULL); /* experts that are matrices of their own, (out, in) */
            else if (strcmp(n->type, "Embed") == 0 && w->rank == 2)
                note(src, picks, w, QN_ROLE_EMBEDDING, NULL);
            else if (w->rank >= 2)
                note(src, picks, w, QN_ROLE_LINEAR, "not a plain linear layer");
        }
    }
}
