/* df11_pick.c: see df11_pick.h. */
#include "compress/export/df11_pick.h"
#include "base/err.h"
#include "base/num.h"
#include "formats/json/write.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define WEIGHT ".weight"

enum { USED = 1, LINEAR = 2, IN_OUT = 4, EMBED = 8 };

/* ---- what the graph says of each tensor ---- */

static void look_at_node(const qn_graph *g, const qn_node *n, uint8_t *uses)
{
    const bool ours = !strcmp(n->domain, "quern");
    for (unsigned i = 0; i < n->n_in; i++) {
        if (n->in[i] == QN_NO_VALUE || g->values[n->in[i]].kind != QN_VALUE_WEIGHT)
            continue;
        uint8_t *u = &uses[g->values[n->in[i]].tensor];
        *u |= USED;
        if (ours && i == 1 && !strcmp(n->type, "Linear"))
            *u |= strcmp(qn_node_string(n, "layout", "out_in"), "in_out") ? LINEAR : IN_OUT;
        if (ours && !strcmp(n->type, "Embed"))
            *u |= EMBED;
    }
}

/* "model.layers.3.mlp.up_proj": 13 and 3, or false when no part but the last is a number. */
static bool find_block(const char *module, size_t *stem, size_t *digits)
{
    for (const char *p = module; p; p = strchr(p, '.') ? strchr(p, '.') + 1 : NULL) {
        const size_t n = strspn(p, "0123456789");
        if (n && n < 10 && p[n] == '.' && p > module) {
            *stem = (size_t)(p - module);
            *digits = n;
            return true;
        }
    }
    return false;
}

/* Why a matrix stays as it is, "" when that is nothing to ask about, NULL when it is taken. */
static const char *why_dense(const qn_source *s, const qn_graph *g, const qn_source_tensor *t, unsigned uses, bool in_block)
{
    if (t->rank != 2 || t->n_bytes == 0 || !qn_text_ends(t->name, WEIGHT) || strchr(t->name, ':'))
        return "";
    if (t->dtype != QN_BF16)
        return "not BF16";
    if ((uses & EMBED) && (uses & (LINEAR | IN_OUT)))
        return "the head shares it, and would be left without";
    if (uses & IN_OUT)
        return "its module is no linear layer to the loader";
    if (in_block)
        return uses & EMBED ? "" : NULL;
    if (g && (uses & EMBED))
        return g->n_vocab && t->dims[0] < g->n_vocab ? "" : NULL;
    (void)s;
    return uses & LINEAR ? NULL : "";
}

/* ---- modules ---- */

struct item {
    uint64_t tensor;
    const char *stem, *inner; /* stem NULL: alone */
    uint64_t number;
};

static int by_module(const void *pa, const void *pb)
{
    const struct item *a = pa, *b = pb;
    if (!a->stem != !b->stem)
        return a->stem ? 1 : -1;
    const int c = a->stem ? strcmp(a->stem, b->stem) : 0;
    if (c || a->number != b->number)
        return c ? c : a->number < b->number ? -1 : 1;
    return strcmp(a->inner, b->inner);
}

static qn_code list_items(qn_df11_pick *p, qn_source *s, const qn_graph *g, const uint8_t *uses, struct item *item, uint32_t *n, qn_arena *ar,
                          qn_err *err)
{
    for (uint64_t i = 0; i < s->n_tensors; i++) {
        const qn_source_tensor *t = &s->tensors[i];
        size_t stem = 0, digits = 0;
        char *module = qn_arena_str(ar, t->name, strlen(t->name), err);
        if (!module)
            return QN_E_MEMORY;
        if (qn_text_ends(module, WEIGHT))
            module[strlen(module) - strlen(WEIGHT)] = '\0';
        const bool in_block = find_block(module, &stem, &digits);
        const char *why = why_dense(s, g, t, uses[i], in_block);
        p->module_of[i] = UINT32_MAX;
        p->why[i] = why && *why ? why : NULL;
        if (why)
            continue;
        struct item *it = &item[(*n)++];
        *it = (struct item){.tensor = i, .inner = module};
        if (in_block) {
            it->stem = qn_arena_str(ar, module, stem, err);
            it->number = strtoull(module + stem, NULL, 10);
            it->inner = module + stem + digits + 1;
            if (!it->stem)
                return QN_E_MEMORY;
        }
    }
    return QN_OK;
}

static bool same_module(const struct item *a, const struct item *b)
{
    return a->stem && b->stem && a->number == b->number && !strcmp(a->stem, b->stem);
}

/* Weights [first, first + n) of the list become one module. */
static qn_code add_module(qn_df11_pick *p, qn_source *s, const struct item *item, uint32_t n, bool alone, qn_arena *ar, qn_err *err)
{
    qn_df11_module *m = &p->modules[p->n];
    qn_df11_part *parts = qn_arena_get(ar, n * sizeof *parts, 8, err);
    const char *name = s->tensors[item->tensor].name;
    size_t n_name = strlen(name) - strlen(WEIGHT);
    if (!alone)
        n_name -= strlen(item->inner) + 1;
    *m = (qn_df11_module){.stem = alone ? NULL : item->stem, .number = item->number};
    m->inner = qn_arena_get(ar, n * sizeof *m->inner, 8, err);
    m->group.module = qn_arena_str(ar, name, n_name, err);
    if (!parts || !m->inner || !m->group.module)
        return QN_E_MEMORY;
    for (uint32_t i = 0; i < n; i++) {
        parts[i] = (qn_df11_part){item[i].tensor, s->tensors[item[i].tensor].n_bytes / 2};
        m->inner[i] = alone ? "" : item[i].inner;
        p->module_of[item[i].tensor] = p->n;
    }
    m->group.parts = parts;
    m->group.n_parts = n;
    p->n++;
    return QN_OK;
}

static qn_code add_modules(qn_df11_pick *p, qn_source *s, const struct item *item, uint32_t n, qn_arena *ar, qn_err *err)
{
    for (uint32_t first = 0, end; first < n; first = end) {
        uint64_t weights = 0;
        for (end = first; end < n && (end == first || same_module(&item[first], &item[end])); end++)
            weights += s->tensors[item[end].tensor].n_bytes / 2;
        if (item[first].stem && weights <= INT32_MAX) { /* places are ints to the loader */
            QN_TRY(add_module(p, s, item + first, end - first, false, ar, err));
            continue;
        }
        for (uint32_t i = first; i < end; i++)
            if (s->tensors[item[i].tensor].n_bytes / 2 <= INT32_MAX)
                QN_TRY(add_module(p, s, item + i, 1, true, ar, err));
            else
                p->why[item[i].tensor] = "2^31 weights or more";
    }
    return QN_OK;
}

qn_code qn_df11_pick_make(qn_df11_pick *p, qn_source *s, const qn_graph *g, qn_arena *ar, qn_err *err)
{
    uint32_t n = 0;
    const uint64_t room = s->n_tensors + 1;
    uint8_t *uses = qn_arena_get(ar, room, 1, err);
    struct item *item = qn_arena_get(ar, room * sizeof *item, 8, err);
    *p = (qn_df11_pick){.modules = qn_arena_get(ar, room * sizeof *p->modules, 8, err), .module_of = qn_arena_get(ar, room * sizeof *p->module_of, 8, err),
                        .why = qn_arena_get(ar, room * sizeof *p->why, 8, err)};
    if (!uses || !item || !p->modules || !p->module_of || !p->why)
        return QN_E_MEMORY;
    memset(uses, 0, room);
    for (uint32_t i = 0; g && i < g->n_nodes; i++)
        look_at_node(g, &g->nodes[i], uses);
    QN_TRY(list_items(p, s, g, uses, item, &n, ar, err));
    if (n)
        qsort(item, n, sizeof *item, by_module);
    return add_modules(p, s, item, n, ar, err);
}

void qn_df11_pick_drop(qn_df11_pick *p, uint32_t module, uint32_t part, const char *why)
{
    qn_df11_module *m = &p->modules[module];
    uint32_t kept = 0;
    for (uint32_t i = 0; i < m->group.n_parts; i++) {
        if (part == UINT32_MAX || part == i) {
            p->module_of[m->group.parts[i].tensor] = UINT32_MAX;
            p->why[m->group.parts[i].tensor] = why;
            continue;
        }
        m->group.parts[kept] = m->group.parts[i];
        m->inner[kept++] = m->inner[i];
    }
    m->group.n_parts = kept;
}

/* ---- config.json ---- */

static bool same_dims(const qn_source_tensor *a, const qn_source_tensor *b)
{
    return a->dims[0] == b->dims[0] && a->dims[1] == b->dims[1];
}

/* Blocks with the same layers inside, of the same shapes. */
static bool alike(const qn_df11_module *a, const qn_df11_module *b, const qn_source *s)
{
    if (!a->stem || !b->stem || strcmp(a->stem, b->stem) || a->group.n_parts != b->group.n_parts)
        return false;
    for (uint32_t i = 0; i < a->group.n_parts; i++)
        if (strcmp(a->inner[i], b->inner[i]) || !same_dims(&s->tensors[a->group.parts[i].tensor], &s->tensors[b->group.parts[i].tensor]))
            return false;
    return true;
}

static void add_escaped(qn_textbuf *t, const char *s)
{
    for (; *s; s++) {
        if (strchr(".[](){}*+?|^$\\", *s))
            qn_textbuf_puts(t, "\\");
        qn_textbuf_add(t, s, 1);
    }
}

/* "model\.layers\.\d+", or with the numbers themselves where blocks of one stem differ. */
static void pattern(const qn_df11_pick *p, uint32_t first, const qn_source *s, qn_textbuf *t)
{
    const qn_df11_module *m = &p->modules[first];
    bool all = true, more = false;
    if (!m->stem) {
        add_escaped(t, m->group.module);
        return;
    }
    for (uint32_t i = 0; i < p->n; i++)
        if (p->modules[i].group.n_parts && p->modules[i].stem && !strcmp(p->modules[i].stem, m->stem))
            all = all && alike(m, &p->modules[i], s);
    add_escaped(t, m->stem);
    if (all) {
        qn_textbuf_puts(t, "\\d+");
        return;
    }
    qn_textbuf_puts(t, "(?:");
    for (uint32_t i = first; i < p->n; i++)
        if (p->modules[i].group.n_parts && alike(m, &p->modules[i], s)) {
            qn_textbuf_puts(t, more ? "|" : "");
            qn_textbuf_u64(t, p->modules[i].number);
            more = true;
        }
    qn_textbuf_puts(t, ")");
}

static bool is_first_of_its_kind(const qn_df11_pick *p, uint32_t m, const qn_source *s)
{
    if (p->modules[m].group.n_parts == 0)
        return false;
    for (uint32_t i = 0; i < m; i++)
        if (p->modules[i].group.n_parts && alike(&p->modules[i], &p->modules[m], s))
            return false;
    return true;
}

static void add_shapes(const qn_df11_module *m, const qn_source *s, qn_textbuf *t)
{
    for (uint32_t i = 0; i < m->group.n_parts; i++) {
        const uint64_t *dims = s->tensors[m->group.parts[i].tensor].dims;
        qn_textbuf_puts(t, i ? ", [" : "[");
        qn_textbuf_u64(t, dims[0]);
        qn_textbuf_puts(t, ", ");
        qn_textbuf_u64(t, dims[1]);
        qn_textbuf_puts(t, "]");
    }
}

static void add_inner(const qn_df11_module *m, qn_textbuf *t)
{
    for (uint32_t i = 0; m->stem && i < m->group.n_parts; i++) {
        qn_textbuf_puts(t, i ? ", " : "");
        qn_json_string(t, m->inner[i]);
    }
}

static void dictionary(const qn_df11_pick *p, const qn_source *s, bool shapes, qn_textbuf *t)
{
    bool more = false;
    qn_textbuf_puts(t, "{");
    for (uint32_t i = 0; i < p->n; i++) {
        if (!is_first_of_its_kind(p, i, s))
            continue;
        qn_textbuf name = {.alloc = t->alloc};
        pattern(p, i, s, &name);
        qn_textbuf_puts(t, more ? ",\n      " : "\n      ");
        qn_json_string(t, name.text ? name.text : "");
        if (qn_textbuf_failed(&name) && !qn_textbuf_failed(t))
            t->err = name.err;
        qn_mem_put(t->alloc, name.text);
        qn_textbuf_puts(t, ": [");
        if (shapes)
            add_shapes(&p->modules[i], s, t);
        else
            add_inner(&p->modules[i], t);
        qn_textbuf_puts(t, "]");
        more = true;
    }
    qn_textbuf_puts(t, more ? "\n    }" : "}");
}

void qn_df11_pick_config(const qn_df11_pick *p, const qn_source *s, qn_textbuf *t)
{
    qn_textbuf_puts(t, "{\n    \"version\": \"" QN_DF11_VERSION "\",\n    \"threads_per_block\": [");
    qn_textbuf_u64(t, QN_DF11_THREADS);
    qn_textbuf_puts(t, "],\n    \"bytes_per_thread\": ");
    qn_textbuf_u64(t, QN_DF11_SLICE);
    qn_textbuf_puts(t, ",\n    \"pattern_dict\": ");
    dictionary(p, s, false, t);
    qn_textbuf_puts(t, ",\n    \"shapes\": ");
    dictionary(p, s, true, t);
    qn_textbuf_puts(t, "\n  }");
}
